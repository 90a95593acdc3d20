//! Counts the connections of each peer process.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::watch;

use crate::host::Host;

/// The processes (node and epoch) of each host that have connections to us.
pub type ConnectedProcesses = BTreeMap<Host, BTreeSet<(String, u64)>>;

/// Counts connections by process.
#[derive(Debug, Default, Clone)]
pub(super) struct PeerConnections(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    connections: Mutex<HashMap<PeerProcess, usize>>,
    connected: watch::Sender<ConnectedProcesses>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct PeerProcess {
    host: Host,
    node: String,
    epoch: u64,
}

/// Counts as one connection until dropped.
#[derive(Debug)]
pub(super) struct ConnectionGuard {
    peer_connections: PeerConnections,
    caller: PeerProcess,
}

impl PeerConnections {
    pub(super) fn enter(&self, host: Host, node: String, epoch: u64) -> ConnectionGuard {
        let caller = PeerProcess { host, node, epoch };
        self.count(&caller, |count| count + 1);
        ConnectionGuard {
            peer_connections: self.clone(),
            caller,
        }
    }

    pub(super) fn connected(&self) -> watch::Receiver<ConnectedProcesses> {
        self.0.connected.subscribe()
    }

    fn count(&self, caller: &PeerProcess, change: impl FnOnce(usize) -> usize) {
        let connections = self.0.connections.lock();
        let mut connections = connections;
        let before = connections.get(caller).copied().unwrap_or(0);
        let after = change(before);
        if after == 0 {
            connections.remove(caller);
        } else {
            connections.insert(caller.clone(), after);
        }
        if (before == 0) == (after == 0) {
            return;
        }
        // Under the lock, or two changes could be reported in the wrong order.
        self.0.connected.send_modify(|connected| {
            let process = (caller.node.clone(), caller.epoch);
            let processes = connected.entry(caller.host.clone()).or_default();
            if after > 0 {
                processes.insert(process);
            } else {
                processes.remove(&process);
            }
            if processes.is_empty() {
                connected.remove(&caller.host);
            }
        });
    }
}

impl Drop for ConnectionGuard {
    fn drop(&mut self) {
        self.peer_connections.count(&self.caller, |count| count - 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_heard_until_its_last_connection_is_gone() {
        let peer_connections = PeerConnections::default();
        let connected = peer_connections.connected();
        let host = Host::new("dc1.test").unwrap();
        let enter = |epoch| peer_connections.enter(host.clone(), "n1".to_owned(), epoch);
        let (one, other, restarted) = (enter(1), enter(1), enter(2));
        let processes = |epochs: &[u64]| -> BTreeSet<(String, u64)> {
            epochs
                .iter()
                .map(|epoch| ("n1".to_owned(), *epoch))
                .collect()
        };
        assert_eq!(connected.borrow()[&host], processes(&[1, 2]));
        drop(one);
        assert_eq!(connected.borrow()[&host], processes(&[1, 2]));
        drop(other);
        assert_eq!(connected.borrow()[&host], processes(&[2]));
        drop(restarted);
        assert!(connected.borrow().is_empty());
    }
}
