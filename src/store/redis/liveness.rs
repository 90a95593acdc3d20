//! Liveness of nodes, by the age of their last announcement.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use tokio::time::Instant;

use crate::host::Host;

/// The nodes of a host and the Unix seconds of their last announcements.
pub(super) type Stamps = HashMap<String, u64>;

/// Last read stamps of the nodes of every host.
///
/// Stamps are by the clock of the node that wrote them. To tolerate wrong clocks, a stamp is
/// compared with this node's clock only when it is first seen; from then on a node lives as long as
/// its stamp keeps changing.
pub(super) struct NodeLiveness {
    expire_after: Duration,
    hosts: BTreeMap<Host, HashMap<String, NodeSeen>>,
    read_at: Option<Instant>,
}

#[derive(Clone, Copy)]
struct NodeSeen {
    stamp: u64,
    lives_until: Instant,
}

/// Registry entries left by long dead nodes.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct DeadNodes {
    /// Dead nodes, each with the stamp by which it was found dead.
    pub(super) nodes: Vec<(Host, String, u64)>,
    /// Hosts that have no nodes at all.
    pub(super) hosts: Vec<Host>,
}

impl NodeLiveness {
    pub(super) fn new(expire_after: Duration) -> Self {
        Self {
            expire_after,
            hosts: BTreeMap::new(),
            read_at: None,
        }
    }

    /// Time of the last read of all hosts.
    pub(super) fn read_at(&self) -> Option<Instant> {
        self.read_at
    }

    /// Applies the registry's stamps of all hosts, `wall` being this node's clock in Unix seconds.
    pub(super) fn read_all(&mut self, hosts: Vec<(Host, Stamps)>, wall: u64, now: Instant) {
        let mut before = std::mem::take(&mut self.hosts);
        for (host, stamps) in hosts {
            let seen = before.remove(&host).unwrap_or_default();
            let seen = self.follow(&seen, stamps, wall, now);
            self.hosts.insert(host, seen);
        }
        self.read_at = Some(now);
    }

    /// Applies the registry's stamps of one host.
    pub(super) fn read(&mut self, host: &Host, stamps: Stamps, wall: u64, now: Instant) {
        let seen = self.hosts.get(host).cloned().unwrap_or_default();
        let seen = self.follow(&seen, stamps, wall, now);
        self.hosts.insert(host.clone(), seen);
    }

    fn follow(
        &self,
        before: &HashMap<String, NodeSeen>,
        stamps: Stamps,
        wall: u64,
        now: Instant,
    ) -> HashMap<String, NodeSeen> {
        let judge = |node: &str, stamp: u64| match before.get(node) {
            Some(seen) if seen.stamp == stamp => *seen,
            Some(_) => NodeSeen {
                stamp,
                lives_until: now + self.expire_after,
            },
            None => {
                let age = Duration::from_secs(wall.saturating_sub(stamp));
                NodeSeen {
                    stamp,
                    lives_until: now + self.expire_after.saturating_sub(age),
                }
            }
        };
        stamps
            .into_iter()
            .map(|(node, stamp)| {
                let seen = judge(&node, stamp);
                (node, seen)
            })
            .collect()
    }

    /// Whether `host` has a live node.
    pub(super) fn is_live(&self, host: &Host, now: Instant) -> bool {
        self.hosts
            .get(host)
            .is_some_and(|nodes| nodes.values().any(|seen| now < seen.lives_until))
    }

    /// The hosts that have a live node, sorted.
    pub(super) fn live_hosts(&self, now: Instant) -> Vec<Host> {
        self.hosts
            .keys()
            .filter(|host| self.is_live(host, now))
            .cloned()
            .collect()
    }

    /// The live nodes of `host`, sorted.
    pub(super) fn live_nodes(&self, host: &Host, now: Instant) -> Vec<String> {
        let mut live: Vec<String> = self.hosts.get(host).map_or_else(Vec::new, |nodes| {
            nodes
                .iter()
                .filter(|(_, seen)| now < seen.lives_until)
                .map(|(node, _)| node.clone())
                .collect()
        });
        live.sort();
        live
    }

    /// Returns entries that can be removed: nodes silent for ten times `expire_after` by their
    /// stamp and not alive by the changes seen here, and hosts without nodes.
    pub(super) fn dead_nodes(&self, wall: u64, now: Instant) -> DeadNodes {
        let long_ago = wall.saturating_sub(self.expire_after.as_secs().saturating_mul(10));
        let mut dead_nodes = DeadNodes::default();
        for (host, nodes) in &self.hosts {
            if nodes.is_empty() {
                dead_nodes.hosts.push(host.clone());
            }
            for (node, seen) in nodes {
                if seen.stamp < long_ago && seen.lives_until <= now {
                    dead_nodes
                        .nodes
                        .push((host.clone(), node.clone(), seen.stamp));
                }
            }
        }
        dead_nodes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EXPIRE_AFTER: Duration = Duration::from_secs(120);
    const WALL: u64 = 1_700_000_000;

    fn host(name: &str) -> Host {
        Host::new(name).unwrap()
    }

    fn node(stamp: u64) -> Stamps {
        HashMap::from([("gw1".to_owned(), stamp)])
    }

    fn seen_at(stamp: u64, now: Instant) -> NodeLiveness {
        let mut liveness = NodeLiveness::new(EXPIRE_AFTER);
        liveness.read_all(vec![(host("dc1.test"), node(stamp))], WALL, now);
        liveness
    }

    #[test]
    fn a_node_lives_for_expire_after_from_its_stamp() {
        let now = Instant::now();
        let liveness = seen_at(WALL - 100, now);
        let dc1 = host("dc1.test");
        assert!(liveness.is_live(&dc1, now + Duration::from_secs(19)));
        assert!(!liveness.is_live(&dc1, now + Duration::from_secs(20)));
        assert_eq!(liveness.live_nodes(&dc1, now), ["gw1"]);
        assert!(!seen_at(WALL - 121, now).is_live(&dc1, now));
    }

    #[test]
    fn a_node_whose_clock_is_late_lives_while_its_stamp_changes() {
        let now = Instant::now();
        let late = WALL - 5000;
        let mut liveness = seen_at(late, now);
        let dc1 = host("dc1.test");
        assert!(!liveness.is_live(&dc1, now));

        liveness.read(&dc1, node(late + 60), WALL + 60, now);
        assert!(liveness.is_live(&dc1, now + Duration::from_secs(119)));
    }

    #[test]
    fn a_dead_node_whose_clock_was_early_dies_all_the_same() {
        let now = Instant::now();
        let liveness = seen_at(WALL + 5000, now);
        assert!(!liveness.is_live(&host("dc1.test"), now + EXPIRE_AFTER));
    }

    #[test]
    fn only_what_is_long_gone_is_cleared_away() {
        let now = Instant::now();
        let mut liveness = NodeLiveness::new(EXPIRE_AFTER);
        liveness.read_all(
            vec![
                (host("live.test"), node(WALL)),
                (host("dead.test"), node(WALL - 600)),
                (host("gone.test"), node(WALL - 1201)),
                (host("empty.test"), Stamps::new()),
            ],
            WALL,
            now,
        );
        assert_eq!(liveness.live_hosts(now), [host("live.test")]);
        assert_eq!(
            liveness.dead_nodes(WALL, now),
            DeadNodes {
                nodes: vec![(host("gone.test"), "gw1".to_owned(), WALL - 1201)],
                hosts: vec![host("empty.test")],
            }
        );
    }

    #[test]
    fn a_host_that_left_the_registry_is_forgotten() {
        let now = Instant::now();
        let mut liveness = seen_at(WALL, now);
        liveness.read_all(Vec::new(), WALL, now);
        assert!(!liveness.is_live(&host("dc1.test"), now));
    }
}
