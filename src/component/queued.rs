//! One stanza in the outbox, and how it leaves it.

use bytes::Bytes;
use tokio::time::Instant;

use crate::envelope::Envelope;
use crate::stanza::Refusal;

/// One stanza for the server.
#[derive(Debug)]
pub(super) struct QueuedStanza {
    pub(super) envelope: Envelope,
    /// As it is written to the stream.
    pub(super) wire: Bytes,
    pub(super) since: Instant,
    /// The sender is of another domain than the stream.
    pub(super) foreign: bool,
    /// The server had accepted it once: it is only written again to be sure.
    pub(super) replayed: bool,
}

/// How a stream ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ending {
    /// In order, or for a reason that the server gave.
    Orderly,
    /// The same, because of something that we wrote.
    Blamed,
    /// The same, because of who we wrote for.
    BlamedSender,
    /// The connection was gone.
    Died,
    /// Nothing had come for some time.
    FellSilent,
}

/// A stanza that must not be written to the server, or not again.
#[derive(Debug)]
pub(super) struct Rejected {
    /// The stanza.
    pub(super) envelope: Envelope,
    /// What its sender is told.
    pub(super) refusal: Refusal,
}

impl QueuedStanza {
    /// What it takes of the queue's bytes: the envelope keeps a copy of its own.
    pub(super) fn weight(&self) -> usize {
        2 * self.wire.len() + size_of::<Self>()
    }
}
