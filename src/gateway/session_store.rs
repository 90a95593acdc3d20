//! The session table, in the store that the configuration selects.

use std::sync::Arc;

use anyhow::Context;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::info;

use crate::config::{Accounts, Config};
use crate::link::{Dialler, Identity, ReplicationDialer};
use crate::metrics::Metrics;
use crate::replication::{Node, Replication};
use crate::store::{MeshStore, RedisStore, Store};

/// The session table's store, with the tasks that keep it connected.
pub(super) struct SessionStore {
    pub(super) store: Arc<dyn Store>,
    mesh: Option<Mesh>,
}

/// The parts that only the mesh needs.
struct Mesh {
    store: Arc<MeshStore>,
    dialer: ReplicationDialer,
    has_peers: bool,
}

impl SessionStore {
    /// Builds the store without a connection.
    ///
    /// # Errors
    /// `redis.url` can't be used.
    pub(super) fn new(
        config: &Config,
        identity: &Identity,
        dialler: &Arc<Dialler>,
        metrics: &Arc<Metrics>,
    ) -> anyhow::Result<Self> {
        if let Some(redis) = &config.redis {
            let (host, node) = (config.local_host.clone(), config.node.clone());
            let store = RedisStore::new(host, node, redis, &config.cache, Arc::clone(metrics))
                .context("redis.url")?;
            let store = match config.accounts {
                Accounts::Unique => store.with_unique_accounts(),
                Accounts::Shared => store,
            };
            return Ok(Self {
                store: Arc::new(store),
                mesh: None,
            });
        }
        let node = Node {
            host: identity.host.clone(),
            name: identity.node.clone(),
        };
        let store = MeshStore::new(node, identity.epoch, &config.mesh, Arc::clone(metrics));
        let dialer = ReplicationDialer::new(
            Arc::clone(dialler),
            &config.connections,
            Arc::clone(&store) as _,
            Arc::clone(metrics),
        );
        let has_peers = !config.mesh.peers.is_empty();
        Ok(Self {
            store: Arc::clone(&store) as _,
            mesh: Some(Mesh {
                store,
                dialer,
                has_peers,
            }),
        })
    }

    /// The mesh's replication, which answers peers that follow the table.
    pub(super) fn replication(&self) -> Option<Arc<dyn Replication>> {
        self.mesh
            .as_ref()
            .map(|mesh| Arc::clone(&mesh.store) as Arc<dyn Replication>)
    }

    /// A check whether the table is reliable, and the reason if it is not;
    /// callable at any time.
    pub(super) fn health(
        &self,
        metrics: &Arc<Metrics>,
    ) -> impl Fn() -> Result<(), String> + Send + Sync + use<> {
        let metrics = Arc::clone(metrics);
        let mesh = self
            .mesh
            .as_ref()
            .map(|mesh| (Arc::clone(&mesh.store), mesh.has_peers));
        move || {
            if metrics.store_up.get() != 1 {
                return Err("no answer".to_owned());
            }
            mesh.as_ref()
                .map_or(Ok(()), |(store, has_peers)| in_step(store, *has_peers))
        }
    }

    /// Spawns the mesh's tasks, until `end`.
    pub(super) fn start(self, tasks: &TaskTracker, end: &CancellationToken) {
        let Some(mesh) = self.mesh else {
            return;
        };
        if !mesh.has_peers {
            info!("mesh.peers names nobody: this gateway is alone until others dial it");
        }
        let contacts = mesh.store.contacts();
        tasks.spawn(mesh.store.run(end.clone()));
        tasks.spawn(mesh.dialer.run(contacts, end.clone()));
    }
}

/// A new node knows no session; a node that lost a peer still has the peer's sessions.
fn in_step(store: &MeshStore, has_peers: bool) -> Result<(), String> {
    let status = store.status();
    if has_peers && !status.ever_linked {
        return Err("none of mesh.peers was reached yet".to_owned());
    }
    if status.behind.is_empty() {
        return Ok(());
    }
    let behind: Vec<String> = status.behind.iter().map(ToString::to_string).collect();
    Err(format!("not yet in step with {}", behind.join(", ")))
}
