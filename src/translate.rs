//! Global ⇄ local addresses: the one door for alias mode.

use crate::host::Host;
use crate::stanza::{Refusal, Stanza};

/// Rewrites addresses between the shared domain and this datacenter's own.
#[derive(Debug, Clone)]
pub struct Translator {
    global: Host,
    local: Host,
}

impl Translator {
    /// Between `global` and `local`.
    #[must_use]
    pub fn new(global: Host, local: Host) -> Self {
        Self { global, local }
    }

    /// From the component stream to routing: `from` and the local addresses in
    /// the payload become global.
    ///
    /// # Errors
    /// `BadAddress` when `from` or `to` is missing.
    pub fn outbound(&self, stanza: &mut Stanza) -> Result<(), Refusal> {
        todo!()
    }

    /// From routing to the component stream: `to` becomes local; a
    /// `<stanza-id/>` that claims to be of a local archive is removed.
    ///
    /// # Errors
    /// `ForeignSender` when the sender is not under the shared domain.
    pub fn inbound(&self, stanza: &mut Stanza) -> Result<(), Refusal> {
        todo!()
    }
}
