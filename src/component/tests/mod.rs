//! The component against a scripted server.

mod attaching;
mod reading;
mod server;
mod streams;
mod writing;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use self::server::Server;
use super::{Attachment, Component, Role, Settings};
use crate::config::{self, Endpoint, Secret};
use crate::envelope::{Arrival, Envelope, Intake, Receipt, Settle, Undelivered};
use crate::host::Host;
use crate::metrics::Metrics;
use crate::servers::KnownServer;
use crate::stanza::{Limits, Stanza};

/// A component that attaches to a [`Server`], with all of its output.
struct Gateway {
    component: Component,
    metrics: Arc<Metrics>,
    taken: mpsc::UnboundedReceiver<Envelope>,
    settled: mpsc::UnboundedReceiver<u64>,
    settle: Arc<Settled>,
    undelivered: mpsc::UnboundedReceiver<Undelivered>,
    shutdown: CancellationToken,
    task: JoinHandle<Vec<Envelope>>,
}

struct Taken(mpsc::UnboundedSender<Envelope>);

#[async_trait]
impl Intake for Taken {
    async fn take(&self, envelope: Envelope) {
        self.0.send(envelope).unwrap();
    }
}

struct Settled(mpsc::UnboundedSender<u64>);

impl Settle for Settled {
    fn settled(&self, sequence: u64) {
        self.0.send(sequence).unwrap();
    }
}

const DOMAIN: &str = "example.test";

pub(super) fn settings(host: &str, port: u16) -> Settings {
    Settings {
        role: Role::Shared,
        domain: Host::new("example.test").unwrap(),
        global_host: Host::new("example.test").unwrap(),
        local_host: Host::new("dc1.test").unwrap(),
        config: config::ComponentConfig {
            server: Endpoint {
                host: host.to_owned(),
                port,
            },
            secret: Secret::new("s3cret".to_owned()),
            foreign_from: false,
            replay: Duration::ZERO,
            stanza_size_limit: 10_000,
        },
        message_ttl: 4,
        max_wait: Duration::from_secs(30),
        queue_bytes: 1024 * 1024,
        // A script would have to return the probes.
        probes_routing: false,
        presumed: KnownServer::default(),
    }
}

impl Gateway {
    fn to(server: &Server) -> Self {
        Self::with(settings("127.0.0.1", server.port()))
    }

    fn with(settings: Settings) -> Self {
        let metrics = Arc::new(Metrics::new());
        let (give_back, undelivered) = mpsc::unbounded_channel();
        let (take, taken) = mpsc::unbounded_channel();
        let (settle, settled) = mpsc::unbounded_channel();
        let (component, task) = Component::new(settings, metrics.clone(), give_back);
        let shutdown = CancellationToken::new();
        Self {
            component,
            metrics,
            taken,
            settled,
            settle: Arc::new(Settled(settle)),
            undelivered,
            task: tokio::spawn(task.run(Arc::new(Taken(take)), shutdown.clone())),
            shutdown,
        }
    }

    /// An envelope that arrived over a link with number `sequence`.
    fn envelope(&self, sequence: u64, stanza: &Stanza) -> Envelope {
        let peer = Host::new("dc2.test").unwrap();
        let mut envelope = Envelope::new(peer.clone(), Arrival::Link(peer), 4, stanza.clone());
        envelope.receipt = Receipt::new(self.settle.clone(), sequence);
        envelope
    }

    fn try_reinject(&self, sequence: u64, stanza: &Stanza) -> Result<(), Box<Undelivered>> {
        self.component
            .try_reinject(self.envelope(sequence, stanza), stanza.clone())
    }

    fn reinject(&self, sequence: u64) {
        self.try_reinject(sequence, &message(sequence)).unwrap();
    }

    /// Waits for the next stanza from the server; returns its id.
    async fn next_taken(&mut self) -> String {
        let envelope = self.taken.recv().await.unwrap();
        envelope.stanza.id().unwrap().into_owned()
    }

    /// The next `count` settled sequence numbers.
    async fn next_settled(&mut self, count: usize) -> Vec<u64> {
        let mut settled = Vec::new();
        while settled.len() < count {
            settled.push(self.settled.recv().await.unwrap());
        }
        settled
    }

    async fn until_attached(&self, at_least: u64) {
        let attached =
            |a: &Attachment| matches!(a, Attachment::Attached { times } if *times >= at_least);
        self.component
            .attachment()
            .wait_for(attached)
            .await
            .unwrap();
    }

    /// Waits until the component is detached for a reason that contains `part`.
    async fn until_detached(&self, part: &str) -> String {
        let detached =
            |a: &Attachment| matches!(a, Attachment::Detached { why, .. } if why.contains(part));
        let mut attachment = self.component.attachment();
        match &*attachment.wait_for(detached).await.unwrap() {
            Attachment::Detached { why, .. } => why.clone(),
            Attachment::Attached { .. } => unreachable!(),
        }
    }
}

/// A clock that only a test's own `advance` moves: paused, and kept from running
/// ahead while sockets are waited for. The clock runs ahead again when dropped.
struct StoppedClock {
    /// The sender is dropped with the clock, which ends the blocking task.
    _hold: std::sync::mpsc::Sender<()>,
}

impl StoppedClock {
    fn new() -> Self {
        let (hold, held) = std::sync::mpsc::channel::<()>();
        // The runtime does not advance a paused clock while a blocking task runs.
        tokio::task::spawn_blocking(move || held.recv());
        tokio::time::pause();
        Self { _hold: hold }
    }

    async fn advance(&self, seconds: u64) {
        tokio::time::advance(Duration::from_secs(seconds)).await;
    }
}

/// Message number `n`, from another datacenter to Alice here.
fn message(n: u64) -> Stanza {
    stanza(&format!(
        "<message from='bob@example.test/x' to='alice@dc1.test' id='m{n}'><body>{n}</body></message>"
    ))
}

fn stanza(text: &str) -> Stanza {
    Stanza::parse(Bytes::copy_from_slice(text.as_bytes()), &Limits::default()).unwrap()
}
