//! The copies of all other processes' tables.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tokio::time::Instant;

use super::entry::{BUCKETS, Entry, Standing};
use super::replica::Replica;
use crate::config::Endpoint;
use crate::host::Host;
use crate::replication::{InvalidMessage, Node};
use crate::store::Announcement;

/// Parts of a table that are tidied up in one go.
const STEPS: usize = BUCKETS / 16;

/// The epoch under which is kept what others had kept of processes that a node
/// was before, this one or another: random ones are never 0 in practice, and
/// nothing but homes is lost if one is.
pub(super) const FORMER: u64 = 0;

/// What is left of so many processes that are gone is kept.
const REMEMBERED: usize = 64;

/// One [`Replica`] per process that was heard of.
#[derive(Debug)]
pub(super) struct Replicas {
    lifetime: Duration,
    all: Vec<Replica>,
}

impl Replicas {
    /// None yet. What is lost for `lifetime` no longer counts.
    pub(super) fn new(lifetime: Duration) -> Self {
        Self {
            lifetime,
            all: Vec::new(),
        }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Replica> {
        self.all.iter()
    }

    pub(super) fn get(&self, node: &Node, epoch: u64) -> Option<&Replica> {
        self.all
            .iter()
            .find(|replica| replica.node == *node && replica.epoch == epoch)
    }

    /// That one, empty if it was not known.
    pub(super) fn entry(&mut self, node: &Node, epoch: u64) -> &mut Replica {
        let known = self
            .all
            .iter()
            .position(|replica| replica.node == *node && replica.epoch == epoch);
        let index = known.unwrap_or_else(|| {
            // The newest process of a node stands last.
            let index = if epoch == FORMER { 0 } else { self.all.len() };
            self.all.insert(index, Replica::new(node.clone(), epoch));
            index
        });
        &mut self.all[index]
    }

    /// A connection to that process stands: it has the place of those that
    /// its node was before. What these claimed counts until it knows better,
    /// or as long as what is lost.
    pub(super) fn found(&mut self, node: &Node, epoch: u64, now: Instant) {
        for other in self.former(node, epoch) {
            other.superseded(now);
        }
        self.entry(node, epoch).found();
    }

    /// The connection to that process is gone.
    pub(super) fn lost(&mut self, node: &Node, epoch: u64, now: Instant) {
        self.entry(node, epoch).lost(now);
    }

    /// How some JIDs stand at that process from now on, says itself.
    pub(super) fn change(
        &mut self,
        node: &Node,
        epoch: u64,
        entries: &[Entry<'_>],
    ) -> Result<(), InvalidMessage> {
        let replica = self.entry(node, epoch);
        for entry in entries {
            replica.set(*entry)?;
        }
        self.settle(node, epoch, entries);
        Ok(())
    }

    /// Makes a part of that process's table be exactly `entries`. Whether
    /// that changed anything.
    pub(super) fn replace(
        &mut self,
        node: &Node,
        epoch: u64,
        (index, entries): &(usize, Vec<Entry<'_>>),
    ) -> Result<bool, InvalidMessage> {
        let changed = self.entry(node, epoch).replace(*index, entries)?;
        self.settle(node, epoch, entries);
        Ok(changed)
    }

    /// What a node says now is more than what it said as another process.
    fn settle(&mut self, node: &Node, epoch: u64, entries: &[Entry<'_>]) {
        for former in self.former(node, epoch) {
            for entry in entries {
                former.forget(entry.jid);
            }
        }
    }

    /// What that node was before the process of `epoch`.
    fn former(&mut self, node: &Node, epoch: u64) -> impl Iterator<Item = &mut Replica> {
        let is_former =
            move |replica: &&mut Replica| replica.node == *node && replica.epoch != epoch;
        self.all.iter_mut().filter(is_former)
    }

    /// The same, only to look at: its epochs.
    pub(super) fn former_epochs(&self, node: &Node, epoch: u64) -> Vec<u64> {
        let of_node = self.all.iter().filter(|replica| replica.node == *node);
        of_node
            .map(|replica| replica.epoch)
            .filter(|other| *other != epoch)
            .collect()
    }

    /// Drops what is known of `jid` from processes that `node` was before;
    /// returns since when it was known.
    pub(super) fn forget_former(&mut self, node: &Node, epoch: u64, jid: &str) -> Option<u64> {
        let standings = self.former(node, epoch).map(|former| former.forget(jid));
        standings
            .filter(|standing| *standing != Standing::Nowhere)
            .map(Standing::since)
            .max()
    }

    /// Keeps what other nodes have kept of the processes that `node` was
    /// before: it counts for `left` more.
    pub(super) fn adopt(
        &mut self,
        node: &Node,
        entries: &[Entry<'_>],
        left: Duration,
        now: Instant,
    ) -> Result<(), InvalidMessage> {
        let lifetime = self.lifetime;
        let former = self.entry(node, FORMER);
        former.count_for(left, lifetime, now);
        for entry in entries {
            if former.standing(entry.jid).since() < entry.standing.since() {
                former.set(*entry)?;
            }
        }
        Ok(())
    }

    /// Takes out of part `index` of what was adopted whom `node`, which is
    /// ourselves, had and has no more.
    pub(super) fn take_homes(&mut self, node: &Node, index: usize) -> Vec<(String, u64)> {
        let mut all = self.all.iter_mut();
        let former = all.find(|it| it.node == *node && it.epoch == FORMER);
        former.map_or_else(Vec::new, |former| former.take_homes(index))
    }

    /// Since when each host has `jid` online, as far as is known of `nodes`.
    pub(super) fn online(&self, jid: &str, nodes: impl Fn(&Node) -> bool) -> BTreeMap<Host, u64> {
        let mut online = BTreeMap::new();
        for replica in self.all.iter().filter(|replica| nodes(&replica.node)) {
            if let Standing::Online(since) = replica.standing(jid) {
                let newest = online.entry(replica.node.host.clone()).or_insert(since);
                *newest = since.max(*newest);
            }
        }
        online
    }

    /// The newest claim on `jid`, of now or before: since when, and where.
    pub(super) fn newest(&self, jid: &str) -> Option<(u64, &Host)> {
        let known = self
            .all
            .iter()
            .map(|replica| (replica.standing(jid), &replica.node.host));
        known
            .filter(|(standing, _)| *standing != Standing::Nowhere)
            .map(|(standing, host)| (standing.since(), host))
            .max()
    }

    /// The hosts with a live node.
    pub(super) fn live_hosts(&self) -> BTreeSet<Host> {
        let live = self.all.iter().filter(|it| it.announcement.is_some());
        live.map(|replica| replica.node.host.clone()).collect()
    }

    /// The endpoints of `host`'s live nodes.
    pub(super) fn endpoints(&self, host: &Host) -> BTreeSet<Endpoint> {
        let of_host = self.all.iter().filter(|it| it.node.host == *host);
        of_host
            .filter_map(|replica| replica.announcement.as_ref())
            .flat_map(|announcement| announcement.endpoints.iter().cloned())
            .collect()
    }

    /// What `host`'s live nodes offer, and whether all of them hide it.
    pub(super) fn offers(&self, host: &Host) -> BTreeMap<Host, bool> {
        let of_host = self.all.iter().filter(|it| it.node.host == *host);
        let announcements = of_host.filter_map(|replica| replica.announcement.as_ref());
        let mut offers = BTreeMap::new();
        announcements.for_each(|announcement| add_offers(&mut offers, announcement));
        offers
    }

    /// What is due; whether a host or an endpoint may have gone.
    pub(super) fn expire(&mut self, now: Instant) -> bool {
        let mut changed = false;
        for replica in &mut self.all {
            changed |= replica.expire(self.lifetime, now, STEPS);
        }
        self.all.retain(|replica| !replica.is_spent());
        // They stand in the order in which they were first heard of.
        let mut too_many = self.all.iter().filter(|it| it.is_over()).count();
        self.all.retain(|replica| {
            let keep = !replica.is_over() || too_many <= REMEMBERED;
            too_many -= usize::from(!keep);
            keep
        });
        changed
    }
}

/// Hidden is what everybody hides.
pub(super) fn add_offers(offers: &mut BTreeMap<Host, bool>, announcement: &Announcement) {
    for offer in &announcement.offers {
        *offers.entry(offer.domain.clone()).or_insert(true) &= offer.hidden;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIFETIME: Duration = Duration::from_secs(120);

    fn node(name: &str) -> Node {
        Node {
            host: Host::new("dc1.test").unwrap(),
            name: name.to_owned(),
        }
    }

    fn online(jid: &str, since: u64) -> Entry<'_> {
        Entry {
            jid,
            standing: Standing::Online(since),
        }
    }

    fn since(replicas: &Replicas, jid: &str) -> Option<u64> {
        replicas.online(jid, |_| true).values().next().copied()
    }

    #[test]
    fn a_restarted_node_keeps_its_claims_until_it_knows_better() {
        let now = Instant::now();
        let mut replicas = Replicas::new(LIFETIME);
        let a = node("a");
        replicas.found(&a, 1, now);
        let claims = [online("x@y/1", 5), online("x@y/2", 6), online("x@y/3", 7)];
        replicas.change(&a, 1, &claims).unwrap();
        replicas.lost(&a, 1, now);
        replicas.found(&a, 2, now);
        assert_eq!(since(&replicas, "x@y/1"), Some(5));

        // It has found one again, and knows that another one is gone.
        let gone = Entry {
            jid: "x@y/2",
            standing: Standing::Nowhere,
        };
        let known = [online("x@y/1", 9), gone];
        replicas.change(&a, 2, &known).unwrap();
        assert_eq!(since(&replicas, "x@y/1"), Some(9));
        assert_eq!(since(&replicas, "x@y/2"), None);
        assert_eq!(since(&replicas, "x@y/3"), Some(7));

        // What it never finds again is gone in time; what it has is not.
        let end = now + LIFETIME + Duration::from_millis(1);
        assert!(replicas.expire(end));
        assert_eq!(since(&replicas, "x@y/3"), None);
        assert_eq!(since(&replicas, "x@y/1"), Some(9));
        while replicas.get(&a, 1).is_some() {
            replicas.expire(end);
        }
    }

    #[test]
    fn a_hosts_claims_are_those_of_all_its_nodes() {
        let now = Instant::now();
        let mut replicas = Replicas::new(LIFETIME);
        for (name, at) in [("a", 5), ("b", 6)] {
            replicas.found(&node(name), 1, now);
            let claims = [online("x@y", at)];
            replicas.change(&node(name), 1, &claims).unwrap();
        }
        assert_eq!(since(&replicas, "x@y"), Some(6));
        let gone = Entry {
            jid: "x@y",
            standing: Standing::Former(6),
        };
        replicas.change(&node("b"), 1, &[gone]).unwrap();
        assert_eq!(since(&replicas, "x@y"), Some(5));
        assert_eq!(replicas.newest("x@y").map(|(since, _)| since), Some(6));
    }
}
