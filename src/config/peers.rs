//! `[[peers]]`

use std::collections::BTreeSet;

use serde::Deserialize;

use super::kind::OptionKind;
use super::option::{OptionSpec, Section};
use super::reading::Reading;
use crate::host::Host;

pub(super) const SECTION: Section = Section {
    doc: "",
    options: &[OptionSpec {
        key: "peers",
        doc: "Datacenters that may link with this one, host,host=service+service; without any, \
              each one with a certificate of the CA may. A host with services may offer no \
              others.\n",
        ..OptionKind::Peers.described("any host", EXAMPLE)
    }],
};

/// The example in the reference file.
const EXAMPLE: &str = "\
# A datacenter that may link with this one, one section each; without any, each one with a
# certificate of the CA may. As a flag or a variable: host,host=service+service.
#[[peers]]
# Its local_host.
#host = \"dc2.example.com\"
# The service domains that it may offer; without the key, all.
#services = [\"muc.example.com\"]
";

/// `[[peers]]`: the datacenters that may link with this one, and the service domains that each
/// may offer. Without an entry, every host with a valid certificate may, and any domain.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AllowedPeers(Vec<AllowedPeer>);

/// An entry of `[[peers]]`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct AllowedPeer {
    /// `host`: its local_host.
    pub host: Host,
    /// `services`: the domains that it may offer; `None` for any.
    pub services: Option<BTreeSet<Host>>,
}

impl From<Vec<AllowedPeer>> for AllowedPeers {
    fn from(peers: Vec<AllowedPeer>) -> Self {
        Self(peers)
    }
}

impl AllowedPeers {
    /// Other nodes of `local` may always link.
    pub(super) fn checked(reading: &mut Reading, local: Option<&Host>) -> Option<Self> {
        let mut peers: Vec<AllowedPeer> = reading.get("peers").unwrap_or_default();
        let mut hosts = BTreeSet::new();
        if let Some(twice) = peers.iter().find(|peer| !hosts.insert(&peer.host)) {
            let what = format!("has {} twice; remove one entry", twice.host);
            reading.refuse("peers", what);
        }
        if !peers.is_empty() {
            peers.retain(|peer| Some(&peer.host) != local);
            peers.push(AllowedPeer {
                host: local?.clone(),
                services: None,
            });
        }
        Some(Self(peers))
    }

    /// Returns whether `host` may link with this one.
    #[must_use]
    pub fn admits(&self, host: &Host) -> bool {
        self.0.is_empty() || self.find(host).is_some()
    }

    /// Returns whether `host` may offer the service domain `domain`.
    #[must_use]
    pub fn may_offer(&self, host: &Host, domain: &Host) -> bool {
        self.0.is_empty()
            || self.find(host).is_some_and(|peer| {
                let services = peer.services.as_ref();
                services.is_none_or(|services| services.contains(domain))
            })
    }

    fn find(&self, host: &Host) -> Option<&AllowedPeer> {
        self.0.iter().find(|peer| peer.host == *host)
    }
}
