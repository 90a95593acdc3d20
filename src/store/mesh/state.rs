//! All that a [`MeshStore`](super::MeshStore) knows, under its lock.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::Arc;

use tokio::sync::Notify;
use tokio::time::Instant;

use super::contacts::Contacts;
use super::entry::{JID_LIMIT, Standing};
use super::local_table::{LocalTable, is_bare};
use super::replica::Replica;
use super::replicas::{Replicas, add_offers};
use super::table::Full;
use super::{MeshStatus, ReplicaStatus};
use crate::config::{Endpoint, Mesh};
use crate::host::Host;
use crate::replication::Node;
use crate::store::{Announcement, Claim, Offer, StoreError, newest_first};

/// Nodes and where to dial them.
pub(super) type Directory = Vec<(Node, Vec<Endpoint>)>;

/// What this node has and knows of others.
pub(super) struct MeshState {
    node: Node,
    epoch: u64,
    pub(super) own: LocalTable,
    pub(super) replicas: Replicas,
    pub(super) contacts: Contacts,
    /// This node takes no part any more.
    pub(super) retired: bool,
    /// Nodes that a connection of ours follows.
    pub(super) seats: BTreeSet<Node>,
    ever_linked: bool,
    speakers: BTreeMap<u64, Listening>,
    next_speaker: u64,
    /// Counts what changed in [`Self::directory`] or the announcement.
    pub(super) version: u64,
}

/// Somebody who waits for something to say.
struct Listening {
    wake: Arc<Notify>,
    /// The number of the next change to tell; `None` if none are told.
    cursor: Option<u64>,
}

impl MeshState {
    pub(super) fn new(node: Node, epoch: u64, config: &Mesh) -> Self {
        Self {
            node,
            epoch,
            own: LocalTable::new(config.expire_after),
            replicas: Replicas::new(config.expire_after),
            contacts: Contacts::new(&config.peers, config.expire_after),
            retired: false,
            seats: BTreeSet::new(),
            ever_linked: false,
            speakers: BTreeMap::new(),
            next_speaker: 0,
            version: 0,
        }
    }

    /// Claims of hosts without a live node don't count, except for our own.
    pub(super) fn claims(&self, jid: &str) -> Vec<Claim> {
        let mut online = self.replicas.online(jid, |node| *node != self.node);
        if let Standing::Online(since) = self.own.table().get(jid) {
            let host = self.node.host.clone();
            let newest = online.entry(host).or_insert(since);
            *newest = since.max(*newest);
        }
        let live = self.replicas.live_hosts();
        online.retain(|host, _| *host == self.node.host || live.contains(host));
        if online.is_empty() {
            // What others had kept of ourselves: the weakest, as anybody may
            // say so. It keeps users found while we find them again.
            online = self.replicas.online(jid, |node| *node == self.node);
        }
        let claim = |(host, since)| Claim {
            host,
            since: Some(since),
        };
        let mut claims: Vec<Claim> = online.into_iter().map(claim).collect();
        newest_first(&mut claims);
        claims
    }

    pub(super) fn home(&self, bare: &str) -> Option<Host> {
        if !is_bare(bare) {
            return None;
        }
        let own = match self.own.table().get(bare) {
            Standing::Nowhere => None,
            known => Some((known.since(), &self.node.host)),
        };
        let newest = own.max(self.replicas.newest(bare));
        newest.map(|(_, host)| host.clone())
    }

    /// The home of `bare`: this host if it had none. That is the weakest home,
    /// and gives way to any claim; two hosts that settle the same at once
    /// agree as soon as they know of each other.
    pub(super) fn settle(&mut self, bare: &str, now: Instant) -> Host {
        self.home(bare).unwrap_or_else(|| {
            if bare.len() <= JID_LIMIT {
                self.own.withdraw(bare, Some(0), now);
            }
            self.node.host.clone()
        })
    }

    pub(super) fn claim(&mut self, jid: &str, since: u64, now: Instant) -> Result<(), StoreError> {
        if jid.is_empty() || jid.len() > JID_LIMIT {
            return Err(StoreError(format!(
                "the mesh can't keep a JID of {} bytes",
                jid.len()
            )));
        }
        let full = |Full| StoreError(format!("the mesh's table is full; {jid} is not told"));
        self.own.claim(jid, since, now).map_err(full)?;
        self.replicas.forget_former(&self.node, self.epoch, jid);
        Ok(())
    }

    pub(super) fn withdraw(&mut self, jid: &str, now: Instant) {
        let before = self.replicas.forget_former(&self.node, self.epoch, jid);
        self.own.withdraw(jid, before, now);
    }

    pub(super) fn announce(&mut self, announcement: &Announcement, now: Instant) {
        self.retired = false;
        if self.own.announce(Some(announcement), now) {
            self.contacts.set_own(&announcement.endpoints);
            self.bump_version();
        }
    }

    pub(super) fn retire(&mut self, now: Instant) {
        self.own.announce(None, now);
        self.retired = true;
        self.bump_version();
    }

    /// All hosts with a live node, this one's included if it has announced itself.
    pub(super) fn hosts(&self) -> Vec<Host> {
        let mut hosts = self.replicas.live_hosts();
        if self.own.announcement().is_some() {
            hosts.insert(self.node.host.clone());
        }
        hosts.into_iter().collect()
    }

    pub(super) fn endpoints(&self, host: &Host) -> Vec<Endpoint> {
        let mut endpoints = self.replicas.endpoints(host);
        if *host == self.node.host
            && let Some(announcement) = self.own.announcement()
        {
            endpoints.extend(announcement.endpoints.iter().cloned());
        }
        endpoints.into_iter().collect()
    }

    /// What the live nodes of `host` offer.
    pub(super) fn offers(&self, host: &Host) -> Vec<Offer> {
        let mut offers = self.replicas.offers(host);
        if *host == self.node.host
            && let Some(announcement) = self.own.announcement()
        {
            add_offers(&mut offers, announcement);
        }
        let offers = offers.into_iter();
        offers
            .map(|(domain, hidden)| Offer { domain, hidden })
            .collect()
    }

    /// Withdraws what was not refreshed in time, of these parts.
    pub(super) fn expire_own(&mut self, parts: Range<usize>, now: Instant) {
        let before = self.own.log().head();
        for index in parts {
            self.own.expire(index, now);
            self.take_homes_over(index, now);
        }
        if self.own.log().head() != before {
            self.notify_replicas();
        }
    }

    /// What others had kept of ourselves is ours to tell again, once nobody
    /// waits for those users to be found: else whose home we are would be
    /// known to fewer nodes with each that is restarted after us.
    fn take_homes_over(&mut self, index: usize, now: Instant) {
        for (bare, since) in self.replicas.take_homes(&self.node, index) {
            // What was learned since the start is newer.
            if self.own.table().get(&bare) == Standing::Nowhere {
                self.own.withdraw(&bare, Some(since), now);
            }
        }
    }

    /// Whether a host or an endpoint may have gone.
    pub(super) fn expire_others(&mut self, now: Instant) -> bool {
        let mut changed = self.own.expire_announcement(now);
        changed |= self.replicas.expire(now);
        let linked = self.replicas.iter().filter(|it| it.is_followed());
        let linked = linked.filter_map(|replica| replica.announcement.as_ref());
        for announcement in linked {
            self.contacts.mention(&announcement.endpoints, now);
        }
        self.contacts.expire(now);
        if changed {
            self.bump_version();
        }
        changed
    }

    /// Who can be dialled, as we know ourselves: us, and whom we follow.
    /// What others only say is not repeated, or the dead would never be forgotten.
    pub(super) fn directory(&self) -> Directory {
        let own = self.own.announcement().map(|it| (&self.node, it));
        let followed = self.replicas.iter().filter(|it| it.is_followed());
        let followed = followed.filter_map(|it| Some((&it.node, it.announcement.as_ref()?)));
        own.into_iter()
            .chain(followed)
            .filter(|(_, announcement)| !announcement.endpoints.is_empty())
            .map(|(node, announcement)| (node.clone(), announcement.endpoints.clone()))
            .collect()
    }

    /// We follow that process now.
    pub(super) fn found(&mut self, node: &Node, epoch: u64, now: Instant) {
        self.ever_linked = true;
        self.replicas.found(node, epoch, now);
        self.bump_version();
    }

    /// We don't any more.
    pub(super) fn lost(&mut self, node: &Node, epoch: u64, now: Instant) {
        self.replicas.lost(node, epoch, now);
        self.bump_version();
    }

    /// There is something new to say about nodes.
    pub(super) fn bump_version(&mut self) {
        self.version += 1;
        self.notify_replicas();
    }

    /// There are changes to tell.
    pub(super) fn notify_replicas(&mut self) {
        for source in self.speakers.values() {
            source.wake.notify_one();
        }
        // Without anybody to tell, at once.
        self.forget_told();
    }

    /// One more who waits for something to say.
    pub(super) fn enter(&mut self) -> (u64, Arc<Notify>) {
        let id = self.next_speaker;
        self.next_speaker += 1;
        let wake = Arc::new(Notify::new());
        let source = Listening {
            wake: Arc::clone(&wake),
            cursor: None,
        };
        self.speakers.insert(id, source);
        (id, wake)
    }

    /// One less.
    pub(super) fn leave(&mut self, id: u64) {
        self.speakers.remove(&id);
        self.forget_told();
    }

    /// That one has told all changes before `cursor`.
    pub(super) fn told(&mut self, id: u64, cursor: u64) {
        if let Some(source) = self.speakers.get_mut(&id) {
            source.cursor = Some(cursor);
        }
        self.forget_told();
    }

    fn forget_told(&mut self) {
        let cursors = self.speakers.values().filter_map(|it| it.cursor);
        let upto = cursors.min().unwrap_or(u64::MAX);
        self.own.log_mut().forget(upto);
    }

    pub(super) fn status(&self) -> MeshStatus {
        let followed: Vec<&Replica> = self.replicas.iter().filter(|it| it.is_followed()).collect();
        let behind = followed.iter().filter(|it| !it.in_step);
        MeshStatus {
            behind: behind.map(|it| it.node.clone()).collect(),
            followed: followed.iter().map(|it| it.node.clone()).collect(),
            ever_linked: self.ever_linked,
        }
    }

    pub(super) fn replicas(&self) -> Vec<ReplicaStatus> {
        let mut parts: BTreeMap<&Node, ReplicaStatus> = BTreeMap::new();
        for replica in self.replicas.iter().filter(|it| !it.is_over()) {
            let before = parts.get(&replica.node).map_or(0, |part| part.claims);
            // Of several processes of one node, the newest stands last.
            let part = ReplicaStatus {
                node: replica.node.clone(),
                fingerprint: replica.digest().fingerprint(),
                claims: before + replica.online(),
                is_live: replica.announcement.is_some(),
            };
            parts.insert(&replica.node, part);
        }
        let own = ReplicaStatus {
            node: self.node.clone(),
            fingerprint: self.own.table().digest().fingerprint(),
            claims: self.own.table().online(),
            is_live: self.own.announcement().is_some(),
        };
        parts.insert(&self.node, own);
        parts.into_values().collect()
    }
}
