//! Links: dedicated one-way connections between gateways, over mutual TLS.

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::config::{Connections, Endpoint};
use crate::envelope::{Envelope, Intake, Undelivered};
use crate::host::Host;
use crate::metrics::Metrics;

/// Who this gateway is, to its peers.
#[derive(Debug, Clone)]
pub struct Identity {
    /// `local_host`
    pub host: Host,
    /// `node`
    pub node: String,
    /// Random, new at each start: sequence numbers count within it.
    pub epoch: u64,
}

/// The outgoing half: a pool of connections to each peer.
#[derive(Debug)]
pub struct Links {}

impl Links {
    /// No pools yet. What waits longer than `connections.max_wait`, or is left
    /// in a pool that is closed, comes back through `undelivered`.
    ///
    /// # Errors
    /// When the TLS files can't be used; says which and why.
    pub fn new(
        identity: Identity,
        config: &Connections,
        stanza_size_limit: usize,
        metrics: Arc<Metrics>,
        undelivered: mpsc::UnboundedSender<Undelivered>,
        tasks: TaskTracker,
        shutdown: CancellationToken,
    ) -> Result<Self, SetupError> {
        todo!()
    }

    /// Gives `envelope` to one of the connections to `host`: always the same
    /// for one sender while it stays enabled. Its receipt is settled when the
    /// peer has acknowledged it. Never waits.
    ///
    /// # Errors
    /// Gives the envelope back when there is no connection or its queue is full.
    pub fn try_forward(&self, host: &Host, envelope: Envelope) -> Result<(), Box<Undelivered>> {
        todo!()
    }

    /// Makes the pool to `host` follow `endpoints`: new ones are dialled, gone
    /// ones disabled (no new stanzas) and closed when they have drained.
    pub fn set_endpoints(&self, host: &Host, endpoints: &[Endpoint]) {
        todo!()
    }

    /// Whether a connection to `host` is up.
    #[must_use]
    pub fn is_up(&self, host: &Host) -> bool {
        todo!()
    }

    /// The hosts that have a pool, and how many connections of each are up.
    #[must_use]
    pub fn peers(&self) -> Vec<(Host, usize)> {
        todo!()
    }

    /// Waits until all that was given is acknowledged; then says goodbye and closes.
    /// The caller bounds the time.
    pub async fn drain(&self) {
        todo!()
    }
}

/// The incoming half: accepts links on one of `connections.endpoints`.
#[derive(Debug)]
pub struct Listener {}

impl Listener {
    /// Listens on `endpoint`.
    ///
    /// # Errors
    /// When the address can't be bound or the TLS files can't be used.
    pub async fn bind(
        endpoint: &Endpoint,
        identity: Identity,
        config: &Connections,
        stanza_size_limit: usize,
        metrics: Arc<Metrics>,
    ) -> Result<Self, SetupError> {
        todo!()
    }

    /// The bound address.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        todo!()
    }

    /// Accepts links and hands their stanzas to `intake`, until `shutdown`.
    pub async fn run(self, intake: Arc<dyn Intake>, shutdown: CancellationToken) {
        todo!()
    }
}

/// Why links can't be set up at all; stops the start.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct SetupError(pub String);
