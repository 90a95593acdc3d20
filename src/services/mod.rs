//! Stanzas for ourselves: disco, ping, version on the global domain.

use crate::host::Host;
use crate::stanza::Stanza;

/// Answers what is addressed to the global domain itself.
#[derive(Debug, Clone)]
pub struct Services {
    global: Host,
}

/// What becomes of a stanza for ourselves.
#[derive(Debug)]
pub enum Answer {
    /// This goes back to the sender.
    Reply(Vec<Stanza>),
    /// RFC 6120 wants no answer to it; the text says what it was.
    Absorb(&'static str),
}

impl Services {
    /// For the shared domain `global`.
    #[must_use]
    pub fn new(global: Host) -> Self {
        Self { global }
    }

    /// The answer to `stanza`, whose recipient is the global domain (bare, or
    /// with a resource). Addresses in it are global ones.
    #[must_use]
    pub fn answer(&self, stanza: &Stanza) -> Answer {
        todo!()
    }
}
