//! The session table that the gateways replicate among themselves.
//!
//! Each node has its own part of the table ([`local_table`]) and a replica ([`replica`]) of the
//! part of each other node, and sends only its own part. The listener sends the dialler a snapshot,
//! or the changes since the dialler's last one, and every `refresh_after` a digest
//! ([`replica_sender`]). The dialler applies them, and asks for a snapshot when its digest differs
//! ([`replica_receiver`]). Peers hand over to a restarted node the entries that they have kept of
//! the node's earlier processes.
//!
//! [`entry`] → [`table`] → [`local_table`] and [`replica`]; [`contacts`]: the nodes to dial;
//! [`message`]: the wire format. `docs/mesh.md` is the page for operators.
//!
//! Locks are taken in this order: the progress of a connection, [`membership`], the state of a
//! replica or the local change log, a shard of a table. A look-up takes one shard of each table for
//! reading and nothing else.

mod contacts;
mod entry;
mod local_table;
mod membership;
mod message;
mod replica;
mod replica_receiver;
mod replica_sender;
mod session;
mod table;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use async_trait::async_trait;
use parking_lot::Mutex;
use prometheus::IntGauge;
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use self::contacts::{ContactMap, Contacts};
use self::entry::{Entry, HashedJid, JID_LIMIT, JidHasher, Standing};
use self::local_table::LocalTable;
use self::membership::{Membership, NODES_PER_HOST};
use self::message::NodeList;
use self::replica::Replica;
use self::replica_receiver::ReplicaReceiver;
use self::replica_sender::ReplicaSender;
use self::table::SHARDS;
use super::{
    Announcement, Claim, Located, Offer, OwnClaim, RefusedClaim, Store, StoreError, bare_of,
    is_credible, is_full, newest_first, wall_clock,
};
use crate::config::{Endpoint, Mesh};
use crate::host::Host;
use crate::metrics::Metrics;
use crate::replication::{InvalidMessage, Node, NotReplicated, Replication, ReplicationSession};

/// The session table as one node keeps it. Callers dial [`MeshStore::contacts`] and carry the
/// [`Replication`].
pub struct MeshStore {
    node: Node,
    epoch: u64,
    expire_after: Duration,
    refresh_after: Duration,
    metrics: Arc<Metrics>,
    hasher: JidHasher,
    local: LocalTable,
    /// Entries of this node's earlier processes that peers have kept.
    earlier_self: Replica,
    /// Written under the lock of `membership`.
    replicas: ArcSwap<Vec<KnownReplica>>,
    membership: Mutex<Membership>,
    /// Wakes the connections when there may be something to send.
    changes: watch::Sender<()>,
    /// Notified when hosts or endpoints may have changed.
    news: Notify,
    /// Notified when a connection does not replicate its node any more.
    released: Notify,
    /// The nodes that the metrics show.
    shown: Mutex<BTreeSet<Node>>,
}

#[derive(Clone)]
struct KnownReplica {
    replica: Arc<Replica>,
    /// Whether a node of the replica's host announces itself: otherwise no claim counts.
    host_is_live: bool,
}

/// Progress of this node in replicating the other nodes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MeshStatus {
    /// Nodes whose table is replicated over a connection.
    pub linked: Vec<Node>,
    /// Linked nodes with a table that was not yet found equal here.
    pub behind: Vec<Node>,
    /// Whether a node was linked since the start.
    pub ever_linked: bool,
}

/// Replica of one node's part of the session table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReplicaStatus {
    /// The replicated node.
    pub node: Node,
    /// Fingerprint of the table, equal at two gateways with equal replicas.
    pub fingerprint: u32,
    /// Number of JIDs that are online at the node.
    pub claims: usize,
    /// Whether the node announces itself, as far as this gateway has received.
    pub is_live: bool,
}

impl MeshStore {
    /// Creates an empty table for the process of that `epoch` of `node`.
    #[must_use]
    pub fn new(node: Node, epoch: u64, config: &Mesh, metrics: Arc<Metrics>) -> Arc<Self> {
        let hasher = JidHasher::default();
        let contacts = Contacts::new(node.clone(), &config.peers, config.expire_after);
        Arc::new(Self {
            local: LocalTable::new(epoch, hasher.clone()),
            earlier_self: Replica::new(node.clone(), hasher.clone()),
            hasher,
            node,
            epoch,
            expire_after: config.expire_after,
            refresh_after: config.refresh_after,
            metrics,
            replicas: ArcSwap::default(),
            membership: Mutex::new(Membership::new(contacts)),
            changes: watch::Sender::default(),
            news: Notify::new(),
            released: Notify::new(),
            shown: Mutex::default(),
        })
    }

    /// Subscribes to the endpoints to dial, named by the operator or learned.
    #[must_use]
    pub fn contacts(&self) -> watch::Receiver<Arc<ContactMap>> {
        self.membership.lock().contacts.subscribe()
    }

    /// Progress of this node in replicating the other nodes.
    #[must_use]
    pub fn status(&self) -> MeshStatus {
        let mut status = MeshStatus {
            ever_linked: self.membership.lock().ever_linked,
            ..MeshStatus::default()
        };
        for KnownReplica { replica, .. } in self.replicas.load().iter() {
            let state = replica.state();
            if state.is_linked {
                status.linked.push(replica.node.clone());
            }
            if state.is_linked && !state.in_step {
                status.behind.push(replica.node.clone());
            }
        }
        status
    }

    /// State of each node's table, this node's included.
    #[must_use]
    pub fn replicas(&self) -> Vec<ReplicaStatus> {
        let known = self.replicas.load();
        let known = known.iter().filter(|known| known.replica.counts());
        let replicas = known.map(|KnownReplica { replica, .. }| ReplicaStatus {
            node: replica.node.clone(),
            fingerprint: replica.fingerprint(),
            claims: replica.online(),
            is_live: replica.state().announcement.is_some(),
        });
        let mut all: Vec<ReplicaStatus> = replicas.collect();
        all.push(ReplicaStatus {
            node: self.node.clone(),
            fingerprint: self.local.digest().1.fingerprint(),
            claims: self.local.online(),
            is_live: self.membership.lock().announcement().is_some(),
        });
        all.sort_by(|a, b| a.node.cmp(&b.node));
        all
    }

    /// Removes expired entries, until `shutdown`.
    pub async fn run(self: Arc<Self>, shutdown: CancellationToken) {
        let often =
            (self.expire_after / 16).clamp(Duration::from_millis(20), Duration::from_millis(500));
        let mut tick = interval(often);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while shutdown.run_until_cancelled(tick.tick()).await.is_some() {
            self.run_maintenance().await;
        }
    }

    async fn run_maintenance(&self) {
        self.expire(Instant::now());
        for KnownReplica { replica, .. } in self.replicas.load_full().iter() {
            if replica.take_needs_sweep() {
                for shard in 0..SHARDS {
                    replica.sweep(shard, |_, _| false);
                    tokio::task::yield_now().await;
                }
            }
        }
        if self.earlier_self.expire(self.expire_after, Instant::now()) {
            // This node sends these homes again: otherwise each node that is restarted after this
            // one would leave fewer nodes with them.
            for shard in 0..SHARDS {
                let mut homes: Vec<(Box<[u8]>, u64)> = Vec::new();
                self.earlier_self.sweep(shard, |bare, since| {
                    homes.push((bare.into(), since));
                    true
                });
                for (bare, since) in homes {
                    self.remember_home(self.hasher.hash(&bare), since);
                }
                tokio::task::yield_now().await;
            }
            self.notify_replicas();
        }
        self.show();
    }

    fn expire(&self, now: Instant) {
        let mut membership = self.membership.lock();
        let known = self.replicas.load_full();
        let mut changed = membership.expire_announcement(self.expire_after, now);
        for KnownReplica { replica, .. } in known.iter() {
            changed |= replica.expire(self.expire_after, now);
        }
        for (node, endpoints) in self.linked_nodes() {
            let mentioned = [(&node, endpoints.as_slice())];
            membership.contacts.mention(&node.host, mentioned, now);
        }
        membership.contacts.expire(now);
        let mut spent: Vec<&Node> = known.iter().map(|known| &known.replica.node).collect();
        spent.retain(|node| self.replica_of(node).is_some_and(|it| it.is_spent()));
        if changed || !spent.is_empty() {
            self.update_replicas(&mut membership, |replicas| {
                replicas.retain(|replica| !spent.contains(&&replica.node));
            });
        }
    }

    /// Replaces the list of replicas and notifies all connections.
    fn update_replicas(
        &self,
        membership: &mut Membership,
        update: impl FnOnce(&mut Vec<Arc<Replica>>),
    ) {
        let known = self.replicas.load();
        let mut replicas = known
            .iter()
            .map(|known| Arc::clone(&known.replica))
            .collect();
        update(&mut replicas);
        let live = replicas
            .iter()
            .filter(|it| it.state().announcement.is_some());
        let live: BTreeSet<&Host> = live.map(|replica| &replica.node.host).collect();
        let known = replicas.iter().map(|replica| KnownReplica {
            host_is_live: live.contains(&replica.node.host),
            replica: Arc::clone(replica),
        });
        self.replicas.store(Arc::new(known.collect()));
        membership.version += 1;
        self.news.notify_one();
        self.notify_replicas();
    }

    fn bump_version(&self) {
        self.membership.lock().version += 1;
        self.notify_replicas();
    }

    fn notify_replicas(&self) {
        self.changes.send_replace(());
    }

    /// Updates the metrics of each replica.
    fn show(&self) {
        let (claims, fingerprints) = (&self.metrics.mesh_claims, &self.metrics.mesh_fingerprint);
        let mut shown = self.shown.lock();
        let mut gone = std::mem::take(&mut *shown);
        for replica in self.replicas() {
            let label = [replica.node.host.as_str(), &replica.node.name];
            let online = i64::try_from(replica.claims).unwrap_or(i64::MAX);
            claims.with_label_values(&label).set(online);
            let fingerprint = fingerprints.with_label_values(&label);
            fingerprint.set(i64::from(replica.fingerprint));
            gone.remove(&replica.node);
            shown.insert(replica.node);
        }
        for node in gone {
            let label = [node.host.as_str(), &node.name];
            // Removal cannot fail: the label was set before.
            let _ = (
                claims.remove_label_values(&label),
                fingerprints.remove_label_values(&label),
            );
        }
    }

    fn links_up(&self, node: &Node) -> IntGauge {
        self.metrics
            .mesh_links_up
            .with_label_values(&[node.host.as_str()])
    }

    fn replica_of(&self, node: &Node) -> Option<Arc<Replica>> {
        let known = self.replicas.load();
        let known = known.iter().find(|known| known.replica.node == *node);
        known.map(|known| Arc::clone(&known.replica))
    }

    /// Returns the replica of `node`, an empty one if there was none.
    fn replica_for(&self, node: &Node) -> Result<Arc<Replica>, NotReplicated> {
        let mut membership = self.membership.lock();
        if let Some(replica) = self.replica_of(node) {
            return Ok(replica);
        }
        let known = self.replicas.load();
        let mut of_host: Vec<&Arc<Replica>> = known.iter().map(|known| &known.replica).collect();
        of_host.retain(|replica| replica.node.host == node.host);
        // The replica that was lost first makes room.
        let is_free = |replica: &&&Arc<Replica>| !replica.state().is_reserved;
        let oldest = of_host
            .iter()
            .filter(is_free)
            .min_by_key(|replica| replica.state().lost_at);
        let oldest = oldest.filter(|_| of_host.len() >= NODES_PER_HOST);
        if oldest.is_none() && of_host.len() >= NODES_PER_HOST {
            return Err(NotReplicated::TooManyNodes);
        }
        let replica = Arc::new(Replica::new(node.clone(), self.hasher.clone()));
        self.update_replicas(&mut membership, |replicas| {
            replicas.retain(|replica| oldest.is_none_or(|oldest| !Arc::ptr_eq(replica, oldest)));
            replicas.push(Arc::clone(&replica));
        });
        Ok(replica)
    }

    fn register_sender(&self, peer: &Node) -> Option<u64> {
        let id = self.membership.lock().register_sender(peer);
        if id.is_none() {
            tracing::warn!(%peer, "the table is not sent: {NODES_PER_HOST} nodes of that host have it");
        }
        self.notify_replicas();
        id
    }

    /// Notes the announcement of the node of `replica`, `None` once it ended; `is_new`: over a new
    /// connection.
    fn announced(&self, replica: &Replica, announcement: Option<Announcement>, is_new: bool) {
        let mut membership = self.membership.lock();
        membership.ever_linked = true;
        let before = std::mem::replace(&mut replica.state().announcement, announcement.clone());
        if is_new || before != announcement {
            self.update_replicas(&mut membership, |_| ());
        }
    }

    /// Linked nodes and their endpoints.
    fn linked_nodes(&self) -> NodeList {
        let known = self.replicas.load();
        let linked = known.iter().filter_map(|KnownReplica { replica, .. }| {
            let state = replica.state();
            let announcement = state.announcement.as_ref().filter(|_| state.is_linked)?;
            Some((replica.node.clone(), announcement.endpoints.clone()))
        });
        linked.collect()
    }

    /// Nodes that can be dialled, from this node's own connections: repeating nodes that only peers
    /// mention would keep lost nodes listed for ever.
    fn nodes(&self, membership: &Membership) -> NodeList {
        let mut nodes = self.linked_nodes();
        if let Some(announcement) = membership.announcement() {
            nodes.push((self.node.clone(), announcement.endpoints.clone()));
        }
        nodes.retain(|(_, endpoints)| !endpoints.is_empty());
        nodes
    }

    fn learn_nodes(&self, source: &Node, nodes: &NodeList) {
        let nodes = nodes
            .iter()
            .map(|(node, endpoints)| (node, endpoints.as_slice()));
        let mut membership = self.membership.lock();
        membership
            .contacts
            .mention(&source.host, nodes, Instant::now());
    }

    /// Adopts the entries of this node's earlier processes, which peers hand over.
    fn adopt_own(&self, entries: &[Entry<'_>], left: Duration) -> Result<(), InvalidMessage> {
        let (mut online, now) = (Vec::new(), wall_clock());
        // This node would announce these times as its own.
        let credible = |entry: &&Entry<'_>| is_credible(entry.standing.since(), now);
        for entry in entries.iter().filter(credible) {
            let jid = self.hasher.hash(entry.jid);
            let standing = match left.is_zero() {
                true => entry.standing.outlived(entry.jid),
                false => entry.standing,
            };
            match standing {
                // Entries learned since the start are newer.
                _ if self.local.standing(jid) != Standing::Nowhere => {}
                Standing::Former(since) => self.remember_home(jid, since),
                Standing::Online(_) => online.push(*entry),
                Standing::Nowhere => {}
            }
        }
        self.notify_replicas();
        self.earlier_self.adopt(&online, left, Instant::now())
    }

    fn remember_home(&self, bare: HashedJid<'_>, since: u64) {
        if self.local.standing(bare) == Standing::Nowhere {
            self.local.withdraw(bare, Some(since));
        }
    }

    /// Claims of each host on `jid`, the newest first.
    fn claims_on(&self, jid: HashedJid<'_>) -> Vec<Claim> {
        let mut claims: Vec<Claim> = Vec::new();
        let mut add = |host: &Host, standing| {
            let Standing::Online(since) = standing else {
                return;
            };
            let since = Some(since);
            match claims.iter_mut().find(|claim| claim.host == *host) {
                Some(claim) => claim.since = claim.since.max(since),
                None => claims.push(Claim {
                    host: host.clone(),
                    since,
                }),
            }
        };
        let own = &self.node.host;
        add(own, self.local.standing(jid));
        for known in self.replicas.load().iter() {
            let host = &known.replica.node.host;
            if known.host_is_live || host == own {
                add(host, known.replica.standing(jid));
            }
        }
        if claims.is_empty() {
            // The weakest claim keeps local users reachable until their sessions are found again.
            let standing = self.earlier_self.standing(jid);
            if let Standing::Online(since) = standing {
                claims.push(Claim {
                    host: own.clone(),
                    since: Some(since),
                });
            }
        }
        newest_first(&mut claims);
        claims
    }

    /// Returns the host of the newest claim, present or former.
    fn home_of(&self, bare: HashedJid<'_>) -> Option<Host> {
        let known = self.replicas.load();
        let replicas = known.iter().map(|known| &*known.replica);
        let replicas = replicas.chain([&self.earlier_self]);
        let standings = replicas.map(|replica| (replica.standing(bare), &replica.node.host));
        let own = [(self.local.standing(bare), &self.node.host)];
        let all = standings.chain(own);
        let known = all.filter(|(standing, _)| *standing != Standing::Nowhere);
        let now = wall_clock();
        let time = |standing: Standing| Some(standing.since()).filter(|it| is_credible(*it, now));
        let newest = known.map(|(standing, host)| (time(standing), host)).max();
        newest.map(|(_, host)| host.clone())
    }

    /// Announcements of the live nodes of `host`.
    fn announcements(&self, host: &Host) -> Vec<Announcement> {
        let known = self.replicas.load();
        let of_host = known
            .iter()
            .filter(|known| known.replica.node.host == *host);
        let mut all: Vec<Announcement> = of_host
            .filter_map(|known| known.replica.state().announcement.clone())
            .collect();
        if *host == self.node.host {
            all.extend(self.membership.lock().announcement().cloned());
        }
        all
    }
}

#[async_trait]
impl Replication for MeshStore {
    fn send_to(self: Arc<Self>, peer: &Node, epoch: u64) -> Arc<dyn ReplicationSession> {
        ReplicaSender::open(self, peer, epoch)
    }

    fn receive_from(
        self: Arc<Self>,
        peer: &Node,
    ) -> Result<Arc<dyn ReplicationSession>, NotReplicated> {
        let replica = self.replica_for(peer)?;
        ReplicaReceiver::open(self, replica)
    }

    async fn until_not_replicated(&self, peer: &Node) {
        loop {
            let released = self.released.notified();
            let replica = self.replica_of(peer);
            if !replica.is_some_and(|replica| replica.state().is_reserved) {
                return;
            }
            released.await;
        }
    }
}

#[async_trait]
impl Store for MeshStore {
    async fn read(&self, jid: &str) -> Result<Located, StoreError> {
        let mut located = self.lookup_now(jid).unwrap_or_default();
        let bare = self.hasher.hash(bare_of(jid).as_bytes());
        located.bare = self.claims_on(bare);
        located.home = self.home_of(bare);
        Ok(located)
    }

    fn lookup_now(&self, jid: &str) -> Option<Located> {
        let mut located = Located::default();
        if is_full(jid) {
            located.full = self.claims_on(self.hasher.hash(jid.as_bytes()));
        }
        if located.full.is_empty() {
            let bare = self.hasher.hash(bare_of(jid).as_bytes());
            located.bare = self.claims_on(bare);
            if located.bare.is_empty() {
                located.home = self.home_of(bare);
            }
        }
        Some(located)
    }

    async fn lookup(&self, jid: &str) -> Located {
        self.lookup_now(jid).unwrap_or_default()
    }

    fn claims_expire(&self) -> bool {
        false
    }

    /// An unknown JID gets the weakest home, which yields to any claim; two hosts that settle the
    /// same JID at once agree as soon as they have replicated each other.
    async fn settle(&self, bares: &[String]) -> Result<Vec<Option<Host>>, StoreError> {
        let settle = |bare: &String| {
            let jid = self.hasher.hash(bare.as_bytes());
            self.home_of(jid).unwrap_or_else(|| {
                if bare.len() <= JID_LIMIT {
                    self.local.withdraw(jid, Some(0));
                }
                self.node.host.clone()
            })
        };
        let homes = bares.iter().map(settle).map(Some).collect();
        self.notify_replicas();
        Ok(homes)
    }

    async fn claim(&self, claims: &[OwnClaim]) -> Result<Vec<RefusedClaim>, StoreError> {
        let mut refused = Vec::new();
        for OwnClaim { jid, since, .. } in claims {
            let hashed = self.hasher.hash(jid.as_bytes());
            let fits = !jid.is_empty() && jid.len() <= JID_LIMIT;
            if fits && self.local.claim(hashed, *since).is_ok() {
                self.earlier_self.forget(hashed);
            } else {
                refused.push(RefusedClaim {
                    jid: jid.clone(),
                    reason: "it has no room in the mesh's table".to_owned(),
                });
            }
        }
        self.notify_replicas();
        Ok(refused)
    }

    async fn withdraw(&self, jids: &[String]) -> Result<Vec<RefusedClaim>, StoreError> {
        for jid in jids.iter().filter(|jid| jid.len() <= JID_LIMIT) {
            let jid = self.hasher.hash(jid.as_bytes());
            let before = self.earlier_self.forget(jid);
            self.local.withdraw(jid, before);
        }
        self.notify_replicas();
        Ok(Vec::new())
    }

    async fn announce(&self, announcement: &Announcement) -> Result<(), StoreError> {
        if self
            .membership
            .lock()
            .announce(Some(announcement), Instant::now())
        {
            self.bump_version();
        }
        Ok(())
    }

    async fn retire(&self) -> Result<(), StoreError> {
        self.membership.lock().announce(None, Instant::now());
        self.bump_version();
        Ok(())
    }

    async fn hosts(&self) -> Result<Vec<Host>, StoreError> {
        let known = self.replicas.load();
        let live = known.iter().filter(|known| known.host_is_live);
        let mut hosts: BTreeSet<Host> = live.map(|it| it.replica.node.host.clone()).collect();
        if self.membership.lock().announcement().is_some() {
            hosts.insert(self.node.host.clone());
        }
        Ok(hosts.into_iter().collect())
    }

    async fn endpoints(&self, host: &Host) -> Result<Vec<Endpoint>, StoreError> {
        let all = self.announcements(host).into_iter();
        let endpoints: BTreeSet<Endpoint> = all.flat_map(|it| it.endpoints).collect();
        Ok(endpoints.into_iter().collect())
    }

    async fn offers(&self, host: &Host) -> Result<Vec<Offer>, StoreError> {
        let mut offers: BTreeMap<Host, bool> = BTreeMap::new();
        for offer in self
            .announcements(host)
            .into_iter()
            .flat_map(|it| it.offers)
        {
            *offers.entry(offer.domain).or_insert(true) &= offer.hidden;
        }
        let offers = offers.into_iter();
        Ok(offers
            .map(|(domain, hidden)| Offer { domain, hidden })
            .collect())
    }

    async fn ping(&self) -> Result<(), StoreError> {
        Ok(())
    }

    async fn changed(&self) {
        self.news.notified().await;
    }
}
