//! Hosts, nodes, endpoints: who the peers are and where to dial them.

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::config::{Connections, Endpoint};
use crate::host::Host;
use crate::store::Store;

/// The peers' endpoints, by host. Without this gateway's own host.
pub type Peers = BTreeMap<Host, Vec<Endpoint>>;

/// Follows the registry in the store, and keeps this node's own entry there alive.
pub struct Registry {}

impl Registry {
    /// For the node of `local` that announces `endpoints`. `refresh_after` is
    /// how often it is announced again, `hosts_refresh_interval` how often
    /// the store is asked for new hosts.
    #[must_use]
    pub fn new(
        local: Host,
        endpoints: Vec<Endpoint>,
        store: Arc<dyn Store>,
        connections: &Connections,
        hosts_refresh_interval: std::time::Duration,
        refresh_after: std::time::Duration,
    ) -> Self {
        todo!()
    }

    /// Follows the peers.
    #[must_use]
    pub fn peers(&self) -> watch::Receiver<Arc<Peers>> {
        todo!()
    }

    /// Announces and refreshes, until `shutdown`; then retires this node.
    /// `is_up` tells whether a link to a host stands: while none does, its
    /// endpoints are asked for as often as when it had none.
    pub async fn run(
        &self,
        is_up: impl Fn(&Host) -> bool + Send + Sync,
        shutdown: CancellationToken,
    ) {
        todo!()
    }
}
