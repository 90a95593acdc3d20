//! Liveness of nodes, by the age of their last announcement.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use tokio::time::Instant;

use crate::host::Host;

/// The nodes of a host, as the registry has them.
pub(super) type Stamps = HashMap<String, NodeStamp>;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct NodeStamp {
    /// Unix seconds of the last announcement.
    pub(super) seconds: u64,
    /// Whether the node is a gateway. A MongooseIM in the same Redis is none, and speaks another
    /// protocol on its endpoints.
    pub(super) is_gateway: bool,
}

/// Last read stamps of the nodes of every host.
///
/// Stamps are by the clock of the node that wrote them. To tolerate wrong clocks, a stamp is
/// compared with this node's clock only when it is first seen; from then on a node lives as long as
/// its stamp keeps changing.
pub(super) struct NodeLiveness {
    expire_after: Duration,
    hosts: BTreeMap<Host, HashMap<String, NodeSeen>>,
    read_at: Option<Instant>,
    /// Hosts without a gateway at the last read, and whether [`Self::new_foreign_hosts`] has
    /// returned them.
    foreign: BTreeMap<Host, bool>,
}

#[derive(Clone, Copy)]
struct NodeSeen {
    stamp: NodeStamp,
    lives_until: Instant,
}

impl NodeSeen {
    fn is_live_gateway(&self, now: Instant) -> bool {
        self.stamp.is_gateway && now < self.lives_until
    }
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
            foreign: BTreeMap::new(),
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
        let judge = |node: &str, stamp: NodeStamp| match before.get(node) {
            Some(seen) if seen.stamp.seconds == stamp.seconds => NodeSeen { stamp, ..*seen },
            Some(_) => NodeSeen {
                stamp,
                lives_until: now + self.expire_after,
            },
            None => {
                let age = Duration::from_secs(wall.saturating_sub(stamp.seconds));
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

    /// Whether `host` has a live gateway.
    pub(super) fn is_live(&self, host: &Host, now: Instant) -> bool {
        self.hosts
            .get(host)
            .is_some_and(|nodes| nodes.values().any(|seen| seen.is_live_gateway(now)))
    }

    /// Hosts with live nodes of which none is a gateway, at two reads in a row: nodes that come and
    /// go are not read all at once. Returns each host once.
    pub(super) fn new_foreign_hosts(&mut self, now: Instant) -> Vec<Host> {
        let mut before = std::mem::take(&mut self.foreign);
        let mut new = Vec::new();
        for (host, nodes) in &self.hosts {
            let has_live_node = nodes.values().any(|seen| now < seen.lives_until);
            if has_live_node && !self.is_live(host, now) {
                let was_returned = before.remove(host);
                if was_returned == Some(false) {
                    new.push(host.clone());
                }
                self.foreign.insert(host.clone(), was_returned.is_some());
            }
        }
        new
    }

    /// The hosts that have a live gateway, sorted.
    pub(super) fn live_hosts(&self, now: Instant) -> Vec<Host> {
        self.hosts
            .keys()
            .filter(|host| self.is_live(host, now))
            .cloned()
            .collect()
    }

    /// The live gateways of `host`, sorted.
    pub(super) fn live_nodes(&self, host: &Host, now: Instant) -> Vec<String> {
        let mut live: Vec<String> = self.hosts.get(host).map_or_else(Vec::new, |nodes| {
            nodes
                .iter()
                .filter(|(_, seen)| seen.is_live_gateway(now))
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
                if seen.stamp.seconds < long_ago && seen.lives_until <= now {
                    dead_nodes
                        .nodes
                        .push((host.clone(), node.clone(), seen.stamp.seconds));
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

    fn stamped(seconds: u64, is_gateway: bool) -> Stamps {
        let stamp = NodeStamp {
            seconds,
            is_gateway,
        };
        HashMap::from([("gw1".to_owned(), stamp)])
    }

    fn node(seconds: u64) -> Stamps {
        stamped(seconds, true)
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
    fn a_host_without_a_gateway_is_no_live_host_and_is_named_once() {
        let now = Instant::now();
        let mut liveness = NodeLiveness::new(EXPIRE_AFTER);
        let dc3 = host("dc3.test");
        let mut read = |is_gateway| {
            let hosts = vec![(dc3.clone(), stamped(WALL, is_gateway))];
            liveness.read_all(hosts, WALL, now);
            (liveness.is_live(&dc3, now), liveness.new_foreign_hosts(now))
        };
        assert_eq!(read(false), (false, vec![]));
        assert_eq!(read(false), (false, vec![dc3.clone()]));
        assert_eq!(read(false), (false, vec![]));
        assert_eq!(read(true), (true, vec![]));
        assert_eq!(read(false), (false, vec![]));
        assert_eq!(read(false), (false, vec![dc3.clone()]));
    }

    #[test]
    fn a_host_that_left_the_registry_is_forgotten() {
        let now = Instant::now();
        let mut liveness = seen_at(WALL, now);
        liveness.read_all(Vec::new(), WALL, now);
        assert!(!liveness.is_live(&host("dc1.test"), now));
    }
}
