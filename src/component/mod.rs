//! The attachment to the local server: an external component (XEP-0114).
//!
//! A stream carries only senders of its own domain, so there is one for the
//! shared domain and one for each service domain that the server does not have
//! itself: the [`Components`]. A [`Component`] takes stanzas for the server into
//! an outbox; the [`ComponentTask`] behind it attaches, reads, writes, and
//! attaches again whatever happens. Stanzas stay in the outbox until a barrier,
//! a ping written behind them, is answered.

mod advice;
mod attach;
mod barrier;
mod components;
mod discovery;
mod failure;
mod from_check;
mod outbox;
mod pending_iqs;
mod quarantine;
mod queue;
mod reader;
mod replay;
mod retry;
mod routing_probe;
mod stream;
mod task;
#[cfg(test)]
mod tests;
mod writer;

use std::sync::Arc;
use std::time::Duration;

use minidom::Element;
use tokio::sync::{mpsc, watch};

pub use self::components::{Components, ComponentsTask};
pub use self::task::ComponentTask;

use self::outbox::Outbox;
use crate::config;
use crate::envelope::{Envelope, Undelivered};
use crate::host::Host;
use crate::metrics::Metrics;
use crate::servers::{KnownServer, NoAnswer};
use crate::stanza::Stanza;

/// The purpose of a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// The shared domain.
    Shared,
    /// A service below the shared domain.
    Service,
    /// The requests to the server (`[control]`).
    Control,
}

/// The settings of a component stream.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The purpose of the stream.
    pub role: Role,
    /// The name under which the component attaches: `global_host`, a
    /// service domain, or `control.domain`.
    pub domain: Host,
    /// `global_host`
    pub global_host: Host,
    /// `local_host`: the server's own domain; the origin of the stanzas that the
    /// server sends, and the recipient of barriers.
    pub local_host: Host,
    /// `[component]`
    pub config: config::ComponentConfig,
    /// `message_ttl`, for stanzas from the server.
    pub message_ttl: u32,
    /// `connections.max_wait`: how long a stanza may wait for the stream.
    pub max_wait: Duration,
    /// `connections.queue_bytes`: stanzas waiting or unconfirmed, at most.
    pub queue_bytes: usize,
    /// Whether the gateway probes that all stanzas for the domain arrive on this stream.
    pub probes_routing: bool,
    /// The server that the gateway assumes until the server has answered.
    pub presumed: KnownServer,
}

/// A handle to one component stream; the task behind it attaches, reconnects,
/// reads and writes.
#[derive(Debug, Clone)]
pub struct Component {
    outbox: Arc<Outbox>,
    attachment: watch::Receiver<Attachment>,
    server: watch::Receiver<KnownServer>,
}

/// The state of the stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Attachment {
    /// The server has accepted the handshake `times` times so far.
    Attached {
        /// Counts from 1.
        times: u64,
    },
    /// The component is not attached.
    Detached {
        /// Another component is attached under this name, or may be: no attempt
        /// has ended yet.
        taken: bool,
        /// An explanation for people: the failure, and the configuration to change.
        why: String,
    },
}

impl Component {
    /// Returns a handle, and the task to spawn. Stanzas that wait longer than
    /// `settings.max_wait` come back through `undelivered`.
    #[must_use]
    pub fn new(
        settings: Settings,
        metrics: Arc<Metrics>,
        undelivered: mpsc::UnboundedSender<Undelivered>,
    ) -> (Self, ComponentTask) {
        let unsettled = &metrics.component_unsettled;
        let unsettled = unsettled.with_label_values(&[settings.domain.as_str()]);
        let passes = &metrics.component_foreign_from;
        let passes = passes.with_label_values(&[settings.domain.as_str()]);
        let (known, server) = watch::channel(settings.presumed.clone());
        let outbox = Arc::new(Outbox::new(&settings, unsettled, passes, known));
        let (announce, attachment) = watch::channel(Attachment::Detached {
            taken: true,
            why: "no attempt to attach has ended yet".to_owned(),
        });
        let task = ComponentTask::new(settings, metrics, outbox.clone(), announce, undelivered);
        let component = Self {
            outbox,
            attachment,
            server,
        };
        (component, task)
    }

    /// Queues a stanza for the server. The stream carries `local`: `envelope`'s
    /// stanza under local addresses. The envelope's receipt is settled when the
    /// server has accepted the stanza (a barrier came back); until then the
    /// outbox keeps the stanza, and writes it again on the next stream.
    ///
    /// A stanza that would end the stream (no `to`, a `from` in another domain
    /// than the stream's, too large) is refused instead: counted as returned and
    /// refused, and its sender receives an error reply.
    ///
    /// # Errors
    /// Returns the envelope when the queue is full already, or the stream has
    /// ended for good.
    pub fn try_reinject(&self, envelope: Envelope, local: Stanza) -> Result<(), Box<Undelivered>> {
        self.outbox.offer(envelope, local)
    }

    /// Writes a stanza of the gateway's own to the server, ahead of the queue.
    /// The stanza is dropped when the stream is not up.
    pub fn send_own(&self, stanza: Stanza) {
        self.outbox.offer_own(&stanza);
    }

    /// Sends a request of the gateway's own to the server, and waits for the
    /// answer: a result or an error.
    ///
    /// # Errors
    /// The server does not answer.
    pub(crate) async fn request(
        &self,
        stanza_type: &str,
        payload: Element,
    ) -> Result<Stanza, NoAnswer> {
        let outcome = self.outbox.request(stanza_type, payload);
        outcome.await.unwrap_or(Err(NoAnswer::Detached))
    }

    /// The stream is up, and no other component has the domain.
    ///
    /// # Errors
    /// An explanation for people, with the configuration to change.
    pub fn fitness(&self) -> Result<(), String> {
        match &*self.attachment.borrow() {
            Attachment::Attached { .. } => self.outbox.misrouted().map_or(Ok(()), Err),
            Attachment::Detached { why, .. } => Err(why.clone()),
        }
    }

    /// Follows whether the stream is up.
    #[must_use]
    pub fn attachment(&self) -> watch::Receiver<Attachment> {
        self.attachment.clone()
    }
}
