//! A mesh store with its links, in this process.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use strait::config::{AllowedPeers, Connections, Endpoint, Mesh, Tls};
use strait::envelope::{Envelope, Intake};
use strait::host::Host;
use strait::link::{self, Credentials, Dialler, IncomingSlots, Listener, ReplicationDialer};
use strait::metrics::Metrics;
use strait::replication::Node;
use strait::store::MeshStore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::certs::{Authority, Identity};

/// A node that runs until it is dropped or stopped.
pub struct MeshNode {
    pub store: Arc<MeshStore>,
    pub metrics: Arc<Metrics>,
    /// The address on which it accepts table links.
    pub address: SocketAddr,
    node: Node,
    shutdown: CancellationToken,
    tasks: TaskTracker,
}

/// The setup of a [`MeshNode`].
pub struct Plan<'a> {
    pub host: &'a str,
    pub name: &'a str,
    /// 0 for a free port.
    pub port: u16,
    pub peers: Vec<Endpoint>,
    pub expire_after: Duration,
    pub refresh_after: Duration,
}

impl MeshNode {
    /// Listens, and dials its peers.
    pub async fn start(authority: &Authority, plan: Plan<'_>) -> Self {
        let identity = link::Identity {
            host: Host::new(plan.host).expect("a host"),
            node: plan.name.to_owned(),
            epoch: uuid::Uuid::new_v4().as_u64_pair().0,
        };
        let node = Node {
            host: identity.host.clone(),
            name: identity.node.clone(),
        };
        let metrics = Arc::new(Metrics::new());
        let config = Mesh {
            peers: plan.peers,
            expire_after: plan.expire_after,
            refresh_after: plan.refresh_after,
        };
        let store = MeshStore::new(node.clone(), identity.epoch, &config, Arc::clone(&metrics));
        let connections = connections(&authority.issue(plan.host));
        let credentials =
            Credentials::load(&connections.tls, AllowedPeers::default(), &identity.host);
        let credentials = credentials.expect("good TLS files");
        let endpoint = endpoint(([127, 0, 0, 1], plan.port).into());
        let listener = Listener::bind(
            &endpoint,
            identity.clone(),
            Arc::clone(&credentials),
            1 << 20,
            Arc::clone(&metrics),
            Arc::new(IncomingSlots::default()),
            Some(Arc::clone(&store) as _),
        );
        let listener = listener.await.expect("a listener");
        let address = listener.local_addr();
        let replication = Arc::clone(&store) as _;
        let tables = ReplicationDialer::new(
            Dialler::new(identity, credentials),
            &connections,
            replication,
            Arc::clone(&metrics),
        );
        let (shutdown, tasks) = (CancellationToken::new(), TaskTracker::new());
        let run = listener.run(Arc::new(NoStanzas), shutdown.clone());
        let listen = shutdown.clone().run_until_cancelled_owned(run);
        tasks.spawn(listen);
        tasks.spawn(tables.run(store.contacts(), shutdown.clone()));
        tasks.spawn(Arc::clone(&store).run(shutdown.clone()));
        Self {
            store,
            metrics,
            address,
            node,
            shutdown,
            tasks,
        }
    }

    /// Stops without notifying its peers, as a killed process does.
    pub async fn kill(self) {
        self.shutdown.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }

    /// Returns whether it has all claims of `other`.
    pub fn is_in_step_with(&self, other: &Self) -> bool {
        let status = self.store.status();
        status.linked.contains(&other.node)
            && !status.behind.contains(&other.node)
            && self.fingerprint_of(other) == other.fingerprint_of(other)
    }

    /// The fingerprint of this node's replica of the table of `other`.
    pub fn fingerprint_of(&self, other: &Self) -> Option<u32> {
        let mut parts = self.store.replicas().into_iter();
        parts
            .find(|part| part.node == other.node)
            .map(|part| part.fingerprint)
    }

    /// The number of parts of the table of `host` that were repaired.
    pub fn repairs(&self, host: &str, found: &str) -> u64 {
        let repairs = &self.metrics.mesh_repairs;
        repairs.with_label_values(&[host, found]).get()
    }
}

impl Drop for MeshNode {
    fn drop(&mut self) {
        self.shutdown.cancel();
    }
}

/// Converts an address into an endpoint.
pub fn endpoint(address: SocketAddr) -> Endpoint {
    Endpoint {
        host: address.ip().to_string(),
        port: address.port(),
    }
}

/// `[connections]` with that certificate, and defaults otherwise.
pub fn connections(identity: &Identity) -> Connections {
    let path = Path::to_owned;
    Connections {
        endpoints: Vec::new(),
        advertised_endpoints: None,
        connections_per_endpoint: 1,
        endpoint_refresh_interval: Duration::from_secs(60),
        endpoint_refresh_interval_when_empty: Duration::from_secs(3),
        disabled_gc_interval: Duration::from_secs(60),
        queue_bytes: 1 << 20,
        max_wait: Duration::from_secs(30),
        tls: Tls::Enabled {
            certfile: path(&identity.certfile),
            keyfile: path(&identity.keyfile),
            cacertfile: path(&identity.cacertfile),
            crlfile: None,
            allow_wildcards: false,
            ciphers: Vec::new(),
        },
    }
}

/// Discards stanzas: table links carry none.
struct NoStanzas;

#[async_trait]
impl Intake for NoStanzas {
    async fn take(&self, envelope: Envelope) {
        panic!("a stanza came: {envelope:?}");
    }
}
