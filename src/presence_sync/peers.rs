//! Decides when a peer is lost and when it is back. Pure: time is an argument.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tokio::time::Instant;

use super::sweep::SweepCause;
use crate::host::Host;
use crate::link::ConnectedProcesses;

/// The time for connections in both directions to follow a change of processes.
const SETTLE_TIME: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub(super) struct PeerMonitor {
    /// `presence.unavailable_after`
    unavailable_after: Duration,
    /// A random part of `spread` delays each return: not all gateways probe at
    /// once.
    spread: Duration,
    peers: BTreeMap<Host, MonitoredPeer>,
}

#[derive(Debug)]
struct MonitoredPeer {
    /// The processes (node and epoch) that are connected, and those at the last return.
    nodes: BTreeSet<(String, u64)>,
    returned_with: BTreeSet<(String, u64)>,
    changed_at: Instant,
    settle_time: Duration,
    is_lost: bool,
    /// The peer's return is not reported yet.
    is_returning: bool,
}

impl PeerMonitor {
    pub(super) fn new(unavailable_after: Duration, spread: Duration) -> Self {
        Self {
            unavailable_after,
            spread,
            peers: BTreeMap::new(),
        }
    }

    /// These processes have connections to this gateway now, and no others.
    pub(super) fn connected(&mut self, mut connected: ConnectedProcesses, now: Instant) {
        for host in self.peers.keys() {
            connected.entry(host.clone()).or_default();
        }
        for (host, nodes) in connected {
            let peer = self.peers.entry(host).or_insert_with(|| MonitoredPeer {
                nodes: BTreeSet::new(),
                changed_at: now,
                settle_time: SETTLE_TIME,
                returned_with: BTreeSet::new(),
                is_lost: false,
                is_returning: false,
            });
            if peer.nodes != nodes {
                peer.is_returning = !nodes.is_empty();
                peer.nodes = nodes;
                peer.changed_at = now;
                peer.settle_time = SETTLE_TIME + self.spread.mul_f64(fastrand::f64());
            }
        }
    }

    /// `is_up`: whether a link to the host is up.
    pub(super) fn due(&mut self, now: Instant, is_up: impl Fn(&Host) -> bool) -> Vec<SweepCause> {
        let mut causes = Vec::new();
        for (host, peer) in &mut self.peers {
            let age = now.saturating_duration_since(peer.changed_at);
            if peer.nodes.is_empty() {
                if !peer.is_lost && age >= self.unavailable_after {
                    peer.is_lost = true;
                    causes.push(SweepCause::PeerLost(host.clone()));
                }
            } else if peer.is_returning && age >= peer.settle_time && is_up(host) {
                causes.push(SweepCause::PeerBack {
                    host: host.clone(),
                    fresh: peer.nodes != peer.returned_with,
                    lost: peer.is_lost,
                });
                peer.returned_with = peer.nodes.clone();
                (peer.is_returning, peer.is_lost) = (false, false);
            }
        }
        causes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const AFTER: Duration = Duration::from_secs(30);

    fn host() -> Host {
        Host::new("dc1.test").unwrap()
    }

    fn connect(peers: &mut PeerMonitor, epochs: &[u64], now: Instant) {
        let nodes = epochs.iter().map(|epoch| (format!("n{epoch}"), *epoch));
        peers.connected([(host(), nodes.collect())].into(), now);
    }

    fn back(fresh: bool, lost: bool) -> SweepCause {
        let host = host();
        SweepCause::PeerBack { host, fresh, lost }
    }

    fn linked(now: Instant) -> PeerMonitor {
        let mut peers = PeerMonitor::new(AFTER, Duration::ZERO);
        connect(&mut peers, &[1], now);
        assert_eq!(peers.due(now + SETTLE_TIME, |_| true), [back(true, false)]);
        peers
    }

    #[test]
    fn a_peer_is_lost_when_it_was_not_heard_for_long_and_only_once() {
        let now = Instant::now();
        let mut peers = linked(now);
        assert_eq!(peers.due(now + 2 * AFTER, |_| true), []);
        peers.connected(BTreeMap::new(), now);
        assert_eq!(peers.due(now + AFTER - SETTLE_TIME, |_| true), []);
        assert_eq!(
            peers.due(now + AFTER, |_| true),
            [SweepCause::PeerLost(host())]
        );
        assert_eq!(peers.due(now + 2 * AFTER, |_| true), []);
    }

    #[test]
    fn a_broken_link_is_no_loss() {
        let now = Instant::now();
        let mut peers = linked(now);
        peers.connected(BTreeMap::new(), now);
        connect(&mut peers, &[1], now + AFTER / 2);
        assert_eq!(peers.due(now + AFTER, |_| true), [back(false, false)]);
        assert_eq!(peers.due(now + 2 * AFTER, |_| true), []);
    }

    #[test]
    fn another_process_knows_nothing() {
        let now = Instant::now();
        let mut peers = linked(now);
        peers.connected(BTreeMap::new(), now);
        connect(&mut peers, &[2], now);
        assert_eq!(peers.due(now + SETTLE_TIME, |_| true), [back(true, false)]);
        // The peer's standby takes over.
        connect(&mut peers, &[2, 3], now);
        peers.due(now + SETTLE_TIME, |_| true);
        connect(&mut peers, &[3], now);
        assert_eq!(
            peers.due(now + SETTLE_TIME, |_| false),
            [],
            "not asked in vain"
        );
        assert_eq!(peers.due(now + AFTER, |_| true), [back(true, false)]);
    }

    #[test]
    fn a_lost_peer_is_back_when_it_can_be_asked() {
        let now = Instant::now();
        let mut peers = linked(now);
        peers.connected(BTreeMap::new(), now);
        peers.due(now + AFTER, |_| true);
        connect(&mut peers, &[1], now + AFTER);
        assert_eq!(peers.due(now + 2 * AFTER, |_| false), []);
        assert_eq!(peers.due(now + 2 * AFTER, |_| true), [back(false, true)]);
    }
}
