//! The attachment to the local server: an external component (XEP-0114).

use tokio::sync::watch;

use crate::envelope::{Envelope, Undelivered};
use crate::stanza::Stanza;

/// A handle to one component stream; the task behind it attaches, reconnects,
/// reads and writes.
#[derive(Debug, Clone)]
pub struct Component {}

/// Whether the stream is up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Attachment {
    /// The server has accepted the handshake, this often so far.
    Attached {
        /// 1 for the first time.
        times: u64,
    },
    /// Not attached, and why.
    Detached {
        /// For people: what happened and what to change.
        why: String,
    },
}

impl Component {
    /// Hands a stanza to the server. `local` is what is written: `envelope`'s
    /// stanza under local addresses. The envelope's receipt is settled when
    /// the server has accepted it (a barrier came back); until then it is
    /// kept, and written again on the next stream.
    ///
    /// # Errors
    /// Gives the envelope back when too much is waiting already.
    pub fn try_reinject(&self, envelope: Envelope, local: Stanza) -> Result<(), Box<Undelivered>> {
        todo!()
    }

    /// Follows whether the stream is up.
    #[must_use]
    pub fn attachment(&self) -> watch::Receiver<Attachment> {
        todo!()
    }
}
