//! The session table that the gateways keep themselves.
//!
//! Each node has its own part of the table ([`local_table`]) and copies of the other
//! nodes' ([`replicas`]), and tells only of its own. A *followed* node tells
//! those who dial it what changes, and every `refresh_after` a digest of all;
//! a *follower* that finds another digest says what it has, part by part
//! ([`table`]), and gets the parts that differ. So also at the beginning, when
//! it has nothing, or what it had before the connection broke.
//!
//! The pieces: [`entry`] → [`bucket`] → [`table`] → [`local_table`] (with its [`log`])
//! and [`replica`] → [`replicas`]; [`contacts`]: whom to dial; [`message`]:
//! what is said; [`replica_sender`] says it as the followed, [`replica_receiver`] hears it.
//! `docs/mesh.md` tells operators.

mod bucket;
mod contacts;
mod entry;
mod local_table;
mod log;
mod message;
mod replica;
mod replica_receiver;
mod replica_sender;
mod replicas;
mod state;
mod table;

#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use self::entry::BUCKETS;
use self::replica_receiver::ReplicaReceiver;
use self::replica_sender::ReplicaSender;
use self::state::MeshState;
use super::{Announcement, Claim, Offer, OwnClaim, Store, StoreError};
use crate::config::{Endpoint, Mesh};
use crate::host::Host;
use crate::metrics::Metrics;
use crate::replication::{AlreadyReplicated, Node, Replication, ReplicationSession};

/// The own table is looked over in so many rounds.
const ROUNDS: usize = 4;
/// Parts of it that are looked over in one go.
const STEP: usize = BUCKETS / 32;

/// The session table as one node keeps it. Another part of the program dials
/// [`MeshStore::contacts`] and carries the [`Replication`].
pub struct MeshStore {
    node: Node,
    epoch: u64,
    expire_after: Duration,
    refresh_after: Duration,
    metrics: Arc<Metrics>,
    state: Mutex<MeshState>,
    /// Hosts or endpoints may have changed.
    news: Notify,
    /// A node is no longer followed.
    vacated: Notify,
    /// The nodes of which the metrics tell.
    shown: Mutex<BTreeSet<Node>>,
}

/// How far this node has come in knowing the others.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MeshStatus {
    /// Nodes that are followed.
    pub followed: Vec<Node>,
    /// Those among them whose table was not yet seen to be the same here.
    pub behind: Vec<Node>,
    /// Whether a node was followed ever since the start.
    pub ever_linked: bool,
}

/// One node's part of the session table, as it is known here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReplicaStatus {
    /// Whose.
    pub node: Node,
    /// Equal at two gateways when they know the same of it.
    pub fingerprint: u32,
    /// JIDs that are online there.
    pub claims: usize,
    /// Whether the node announces itself, as far as is known.
    pub is_live: bool,
}

impl MeshStore {
    /// Empty, for the process of that `epoch` of `node`.
    #[must_use]
    pub fn new(node: Node, epoch: u64, config: &Mesh, metrics: Arc<Metrics>) -> Arc<Self> {
        Arc::new(Self {
            state: Mutex::new(MeshState::new(node.clone(), epoch, config)),
            node,
            epoch,
            expire_after: config.expire_after,
            refresh_after: config.refresh_after,
            metrics,
            news: Notify::new(),
            vacated: Notify::new(),
            shown: Mutex::default(),
        })
    }

    /// Where to dial, named by the operator or learned.
    #[must_use]
    pub fn contacts(&self) -> watch::Receiver<Arc<BTreeSet<Endpoint>>> {
        self.state().contacts.subscribe()
    }

    /// How far this node has come in knowing the others.
    #[must_use]
    pub fn status(&self) -> MeshStatus {
        self.state().status()
    }

    /// What is known of each node, this one included.
    #[must_use]
    pub fn replicas(&self) -> Vec<ReplicaStatus> {
        self.state().replicas()
    }

    /// Lets expire what is due, until `shutdown`.
    pub async fn run(self: Arc<Self>, shutdown: CancellationToken) {
        let often =
            (self.expire_after / 16).clamp(Duration::from_millis(20), Duration::from_millis(500));
        let mut tick = interval(often);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut round = 0;
        while shutdown.run_until_cancelled(tick.tick()).await.is_some() {
            self.run_maintenance(round).await;
            round += 1;
        }
    }

    /// In small steps: others wait for the lock.
    async fn run_maintenance(&self, round: usize) {
        let parts = BUCKETS / ROUNDS;
        let begin = (round % ROUNDS) * parts;
        for begin in (begin..begin + parts).step_by(STEP) {
            self.state().expire_own(begin..begin + STEP, Instant::now());
            tokio::task::yield_now().await;
        }
        if self.state().expire_others(Instant::now()) {
            self.news.notify_one();
        }
        self.show();
    }

    /// Puts how it stands into the metrics.
    fn show(&self) {
        let (claims, fingerprints) = (&self.metrics.mesh_claims, &self.metrics.mesh_fingerprint);
        let mut shown = self.shown.lock().unwrap_or_else(PoisonError::into_inner);
        let mut gone = std::mem::take(&mut *shown);
        for part in self.replicas() {
            let label = [part.node.host.as_str(), &part.node.name];
            let online = i64::try_from(part.claims).unwrap_or(i64::MAX);
            claims.with_label_values(&label).set(online);
            let fingerprint = fingerprints.with_label_values(&label);
            fingerprint.set(i64::from(part.fingerprint));
            gone.remove(&part.node);
            shown.insert(part.node);
        }
        for node in gone {
            let label = [node.host.as_str(), &node.name];
            // It was shown, so it is there.
            let _ = (
                claims.remove_label_values(&label),
                fingerprints.remove_label_values(&label),
            );
        }
    }

    fn state(&self) -> MutexGuard<'_, MeshState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl Replication for MeshStore {
    fn send_to(self: Arc<Self>, peer: &Node, epoch: u64) -> ReplicationSession {
        ReplicaSender::open(self, peer, epoch)
    }

    fn receive_from(self: Arc<Self>, peer: &Node) -> Result<ReplicationSession, AlreadyReplicated> {
        ReplicaReceiver::open(self, peer)
    }

    async fn until_not_replicated(&self, peer: &Node) {
        loop {
            let vacated = self.vacated.notified();
            if !self.state().seats.contains(peer) {
                return;
            }
            vacated.await;
        }
    }
}

#[async_trait]
impl Store for MeshStore {
    async fn claims(&self, jid: &str) -> Result<Vec<Claim>, StoreError> {
        Ok(self.state().claims(jid))
    }

    async fn home(&self, bare: &str) -> Result<Option<Host>, StoreError> {
        Ok(self.state().home(bare))
    }

    async fn settle(&self, bares: &[String]) -> Result<Vec<Host>, StoreError> {
        let mut state = self.state();
        let now = Instant::now();
        let homes = bares.iter().map(|bare| state.settle(bare, now)).collect();
        state.notify_replicas();
        Ok(homes)
    }

    async fn claim(&self, claims: &[OwnClaim]) -> Result<(), StoreError> {
        let mut state = self.state();
        let now = Instant::now();
        for claim in claims {
            state.claim(&claim.jid, claim.since, now)?;
        }
        state.notify_replicas();
        Ok(())
    }

    async fn withdraw(&self, jids: &[String]) -> Result<(), StoreError> {
        let mut state = self.state();
        let now = Instant::now();
        for jid in jids {
            state.withdraw(jid, now);
        }
        state.notify_replicas();
        Ok(())
    }

    async fn announce(&self, announcement: &Announcement) -> Result<(), StoreError> {
        self.state().announce(announcement, Instant::now());
        Ok(())
    }

    async fn retire(&self) -> Result<(), StoreError> {
        self.state().retire(Instant::now());
        Ok(())
    }

    async fn hosts(&self) -> Result<Vec<Host>, StoreError> {
        Ok(self.state().hosts())
    }

    async fn endpoints(&self, host: &Host) -> Result<Vec<Endpoint>, StoreError> {
        Ok(self.state().endpoints(host))
    }

    async fn offers(&self, host: &Host) -> Result<Vec<Offer>, StoreError> {
        Ok(self.state().offers(host))
    }

    async fn ping(&self) -> Result<(), StoreError> {
        Ok(())
    }

    async fn changed(&self) {
        self.news.notified().await;
    }
}
