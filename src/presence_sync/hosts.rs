//! The datacenters that records are of.

use crate::host::Host;

/// A host's place in the list; 0 is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct HostId(u16);

impl HostId {
    pub(super) const NONE: Self = Self(0);
}

/// Those ever seen: few.
#[derive(Debug, Default)]
pub(super) struct Hosts(Vec<Host>);

impl Hosts {
    pub(super) fn id(&mut self, host: Option<&Host>) -> HostId {
        let Some(host) = host else {
            return HostId::NONE;
        };
        let at = self.0.iter().position(|known| known == host);
        let at = at.unwrap_or_else(|| {
            self.0.push(host.clone());
            self.0.len() - 1
        });
        HostId(u16::try_from(at + 1).unwrap_or(0))
    }

    pub(super) fn find(&self, id: HostId) -> Option<&Host> {
        let at = usize::from(id.0).checked_sub(1)?;
        self.0.get(at)
    }
}
