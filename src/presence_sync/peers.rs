//! When a datacenter counts as lost, and when as back. Pure: time is an argument.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tokio::time::Instant;

use super::SweepCause;
use crate::host::Host;

/// The processes of a host that have connections to us.
pub type Nodes = BTreeSet<(String, u64)>;

/// A process that went may not be seen gone in both directions at once.
const SETTLED: Duration = Duration::from_secs(1);

/// Which datacenters can be heard.
#[derive(Debug)]
pub struct PeerMonitor {
    /// `presence.unavailable_after`
    unavailable_after: Duration,
    /// Not all gateways ask one that is back in the same instant.
    spread: Duration,
    known: BTreeMap<Host, Peer>,
}

#[derive(Debug)]
struct Peer {
    nodes: Nodes,
    since: Instant,
    /// So long it is left to settle.
    settles_in: Duration,
    /// Those that are known to know what is there.
    settled_with: Nodes,
    is_lost: bool,
    /// Its return is not told yet.
    is_due: bool,
}

impl PeerMonitor {
    /// None yet. Who is back is told of after a second, and up to `spread` more.
    #[must_use]
    pub fn new(unavailable_after: Duration, spread: Duration) -> Self {
        Self {
            unavailable_after,
            spread,
            known: BTreeMap::new(),
        }
    }

    /// These have connections to us now, and no others.
    pub fn heard(&mut self, mut now_heard: BTreeMap<Host, Nodes>, now: Instant) {
        for host in self.known.keys() {
            now_heard.entry(host.clone()).or_default();
        }
        for (host, nodes) in now_heard {
            let peer = self.known.entry(host).or_insert_with(|| Peer {
                nodes: Nodes::new(),
                since: now,
                settles_in: SETTLED,
                settled_with: Nodes::new(),
                is_lost: false,
                is_due: false,
            });
            if peer.nodes != nodes {
                peer.is_due = !nodes.is_empty();
                peer.nodes = nodes;
                peer.since = now;
                peer.settles_in = SETTLED + self.spread.mul_f64(fastrand::f64());
            }
        }
    }

    /// What follows by now. `can_send`: whether there is a connection to a host.
    pub fn due(&mut self, now: Instant, can_send: impl Fn(&Host) -> bool) -> Vec<SweepCause> {
        let mut causes = Vec::new();
        for (host, peer) in &mut self.known {
            let age = now.saturating_duration_since(peer.since);
            if peer.nodes.is_empty() {
                if !peer.is_lost && age >= self.unavailable_after {
                    peer.is_lost = true;
                    causes.push(SweepCause::PeerLost(host.clone()));
                }
            } else if peer.is_due && age >= peer.settles_in && can_send(host) {
                causes.push(SweepCause::PeerBack {
                    host: host.clone(),
                    fresh: peer.nodes != peer.settled_with,
                    lost: peer.is_lost,
                });
                peer.settled_with = peer.nodes.clone();
                (peer.is_due, peer.is_lost) = (false, false);
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

    fn heard(peers: &mut PeerMonitor, epochs: &[u64], now: Instant) {
        let nodes = epochs.iter().map(|epoch| (format!("n{epoch}"), *epoch));
        peers.heard([(host(), nodes.collect())].into(), now);
    }

    fn back(fresh: bool, lost: bool) -> SweepCause {
        let host = host();
        SweepCause::PeerBack { host, fresh, lost }
    }

    fn linked(now: Instant) -> PeerMonitor {
        let mut peers = PeerMonitor::new(AFTER, Duration::ZERO);
        heard(&mut peers, &[1], now);
        assert_eq!(peers.due(now + SETTLED, |_| true), [back(true, false)]);
        peers
    }

    #[test]
    fn a_peer_is_lost_when_it_was_not_heard_for_long_and_only_once() {
        let now = Instant::now();
        let mut peers = linked(now);
        assert_eq!(peers.due(now + 2 * AFTER, |_| true), []);
        peers.heard(BTreeMap::new(), now);
        assert_eq!(peers.due(now + AFTER - SETTLED, |_| true), []);
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
        peers.heard(BTreeMap::new(), now);
        heard(&mut peers, &[1], now + AFTER / 2);
        assert_eq!(peers.due(now + AFTER, |_| true), [back(false, false)]);
        assert_eq!(peers.due(now + 2 * AFTER, |_| true), []);
    }

    #[test]
    fn another_process_knows_nothing() {
        let now = Instant::now();
        let mut peers = linked(now);
        peers.heard(BTreeMap::new(), now);
        heard(&mut peers, &[2], now);
        assert_eq!(peers.due(now + SETTLED, |_| true), [back(true, false)]);
        // Its standby takes over.
        heard(&mut peers, &[2, 3], now);
        peers.due(now + SETTLED, |_| true);
        heard(&mut peers, &[3], now);
        assert_eq!(peers.due(now + SETTLED, |_| false), [], "not asked in vain");
        assert_eq!(peers.due(now + AFTER, |_| true), [back(true, false)]);
    }

    #[test]
    fn a_lost_peer_is_back_when_it_can_be_asked() {
        let now = Instant::now();
        let mut peers = linked(now);
        peers.heard(BTreeMap::new(), now);
        peers.due(now + AFTER, |_| true);
        heard(&mut peers, &[1], now + AFTER);
        assert_eq!(peers.due(now + 2 * AFTER, |_| false), []);
        assert_eq!(peers.due(now + 2 * AFTER, |_| true), [back(false, true)]);
    }
}
