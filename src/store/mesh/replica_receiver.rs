//! Keeping a copy of the table of a node that we dialled.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

use super::MeshStore;
use super::entry::{Digest, Entry, Standing};
use super::message::{self, Message};
use super::replica::outlived;
use super::state::MeshState;
use crate::replication::{
    AlreadyReplicated, InvalidMessage, MessageSink, MessageSource, Node, ReplicationSession,
};
use crate::store::Announcement;

/// Parts that differ are asked for so often before the next digest is waited for.
const TRIES: u32 = 3;

/// One whom we follow.
pub(super) struct ReplicaReceiver {
    store: Arc<MeshStore>,
    peer: Node,
    id: u64,
    wake: Arc<Notify>,
    /// Locked before the store's state, never after.
    progress: Mutex<Progress>,
}

struct Progress {
    /// Which process it is, once it said so.
    epoch: Option<u64>,
    /// To say what we have is still to be done.
    owes_have: bool,
    /// How often we said what we have.
    said: u32,
    /// How often in a row that did not make the tables equal.
    in_vain: u32,
    /// Nothing was compared yet on this connection.
    is_first: bool,
    version: Option<u64>,
    nodes_at: Instant,
}

impl ReplicaReceiver {
    pub(super) fn open(
        store: Arc<MeshStore>,
        peer: &Node,
    ) -> Result<ReplicationSession, AlreadyReplicated> {
        let (id, wake) = {
            let mut state = store.state();
            if !state.seats.insert(peer.clone()) {
                return Err(AlreadyReplicated);
            }
            state.enter()
        };
        store
            .metrics
            .mesh_links_up
            .with_label_values(&[peer.host.as_str()])
            .inc();
        let follower = Arc::new(Self {
            store,
            peer: peer.clone(),
            id,
            wake,
            progress: Mutex::new(Progress {
                epoch: None,
                owes_have: false,
                said: 0,
                in_vain: 0,
                is_first: true,
                version: None,
                nodes_at: Instant::now(),
            }),
        });
        Ok(ReplicationSession {
            source: Box::new(ReceiverSource(Arc::clone(&follower))),
            sink: Box::new(ReceiverSink(follower)),
        })
    }

    fn progress(&self) -> MutexGuard<'_, Progress> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What to say now, or when to ask again.
    fn compose(&self) -> Result<Message, Instant> {
        let mut progress = self.progress();
        let state = self.store.state();
        let now = Instant::now();
        if progress.version != Some(state.version) || progress.nodes_at <= now {
            progress.version = Some(state.version);
            progress.nodes_at = now + self.store.refresh_after;
            return Ok(Message::Nodes(state.directory()));
        }
        if let Some(epoch) = progress.epoch
            && progress.owes_have
        {
            progress.owes_have = false;
            progress.said = progress.said.wrapping_add(1);
            let replica = state.replicas.get(&self.peer, epoch);
            let have = replica.map_or_else(Vec::new, |replica| replica.digests());
            return Ok(Message::Have(have));
        }
        Err(progress.nodes_at)
    }

    fn accept(&self, message: Message) -> Result<(), InvalidMessage> {
        let mut progress = self.progress();
        let mut state = self.store.state();
        let now = Instant::now();
        match message {
            Message::Process {
                epoch,
                announcement,
            } => return self.meet(&mut progress, &mut state, epoch, announcement),
            Message::Nodes(nodes) => {
                for (_, endpoints) in nodes {
                    state.contacts.mention(&endpoints, now);
                }
                return Ok(());
            }
            Message::Kept { ms, entries } => {
                return self.adopt(&mut state, Duration::from_millis(ms.into()), &entries);
            }
            _ => {}
        }
        let Some(epoch) = progress.epoch else {
            return Err(message.out_of_place("before its process is known"));
        };
        match message {
            Message::Changes(bytes) => {
                let entries = Entry::check_all(&bytes)?;
                state.replicas.change(&self.peer, epoch, &entries)
            }
            Message::Parts(bytes) => self.replace(&progress, &mut state, epoch, &bytes),
            Message::Former { ms, entries } => {
                let left = Duration::from_millis(ms.into());
                self.adopt_of_peer(&mut state, epoch, left, &entries)
            }
            Message::Digest { heard, digest } => {
                self.compare(&mut progress, &mut state, epoch, heard, digest);
                Ok(())
            }
            other => Err(other.out_of_place("from one who is followed")),
        }
    }

    /// Some parts are not as they are here.
    fn replace(
        &self,
        progress: &Progress,
        state: &mut MeshState,
        epoch: u64,
        bytes: &[u8],
    ) -> Result<(), InvalidMessage> {
        let mut repaired = 0;
        for part in &message::take_parts(bytes)? {
            repaired += u64::from(state.replicas.replace(&self.peer, epoch, part)?);
        }
        self.count_repairs(progress, repaired);
        Ok(())
    }

    /// It says which process it is, and what it announces.
    fn meet(
        &self,
        progress: &mut Progress,
        state: &mut MeshState,
        epoch: u64,
        announcement: Option<Announcement>,
    ) -> Result<(), InvalidMessage> {
        match progress.epoch {
            None => {
                progress.epoch = Some(epoch);
                progress.owes_have = true;
                state.found(&self.peer, epoch, Instant::now());
            }
            Some(known) if known == epoch => {}
            Some(_) => {
                let what = "says that it is another process than before";
                return Err(InvalidMessage(what.to_owned()));
            }
        }
        let replica = state.replicas.entry(&self.peer, epoch);
        if replica.announcement != announcement {
            replica.announcement = announcement;
            state.bump_version();
            self.store.news.notify_one();
        }
        Ok(())
    }

    /// Others had kept what we were before.
    fn adopt(
        &self,
        state: &mut MeshState,
        left: Duration,
        bytes: &[u8],
    ) -> Result<(), InvalidMessage> {
        let mut entries = Entry::check_all(bytes)?;
        // What we know of ourselves by now is better.
        let own = state.own.table();
        entries.retain(|entry| own.get(entry.jid) == Standing::Nowhere);
        if left.is_zero() {
            for entry in &mut entries {
                entry.standing = outlived(entry.jid, entry.standing);
            }
        }
        let us = &self.store.node;
        state.replicas.adopt(us, &entries, left, Instant::now())
    }

    /// Others had kept what the peer was before, and we may not: it counts
    /// until the peer has found its users again.
    fn adopt_of_peer(
        &self,
        state: &mut MeshState,
        epoch: u64,
        left: Duration,
        bytes: &[u8],
    ) -> Result<(), InvalidMessage> {
        let mut entries = Entry::check_all(bytes)?;
        let now = state.replicas.entry(&self.peer, epoch);
        entries.retain(|entry| now.standing(entry.jid) == Standing::Nowhere);
        let node = &self.peer;
        state.replicas.adopt(node, &entries, left, Instant::now())
    }

    /// Compares its table with our copy.
    fn compare(
        &self,
        progress: &mut Progress,
        state: &mut MeshState,
        epoch: u64,
        heard: u32,
        digest: Digest,
    ) {
        if heard != progress.said || progress.owes_have {
            // It did not know yet what we have: an answer to that is on its way.
            return;
        }
        let replica = state.replicas.entry(&self.peer, epoch);
        progress.is_first = false;
        if replica.digest() == digest {
            if !replica.in_step {
                let claims = replica.online();
                tracing::info!(peer = %self.peer, claims, "the session table is in step");
            }
            replica.in_step = true;
            progress.in_vain = 0;
            return;
        }
        replica.in_step = false;
        progress.in_vain += 1;
        if progress.in_vain <= TRIES {
            progress.owes_have = true;
            tracing::warn!(
                peer = %self.peer,
                "the session table is not what the peer has; the parts that differ are asked for"
            );
        } else {
            // Once per refresh_after from now on, not as fast as the network allows.
            progress.in_vain = 0;
            tracing::error!(
                peer = %self.peer,
                "the session table does not get equal to the peer's; trying again later"
            );
        }
    }

    fn count_repairs(&self, progress: &Progress, repaired: u64) {
        let found = if progress.is_first {
            "connect"
        } else {
            "digest"
        };
        self.store
            .metrics
            .mesh_repairs
            .with_label_values(&[self.peer.host.as_str(), found])
            .inc_by(repaired);
    }
}

impl Drop for ReplicaReceiver {
    fn drop(&mut self) {
        let epoch = self.progress().epoch;
        let mut state = self.store.state();
        state.seats.remove(&self.peer);
        state.leave(self.id);
        if let Some(epoch) = epoch {
            state.lost(&self.peer, epoch, Instant::now());
        }
        drop(state);
        self.store.vacated.notify_waiters();
        self.store
            .metrics
            .mesh_links_up
            .with_label_values(&[self.peer.host.as_str()])
            .dec();
    }
}

struct ReceiverSource(Arc<ReplicaReceiver>);

#[async_trait]
impl MessageSource for ReceiverSource {
    async fn next(&mut self) -> Option<Bytes> {
        loop {
            match self.0.compose() {
                Ok(message) => return Some(message.write()),
                Err(at) => tokio::select! {
                    () = self.0.wake.notified() => {}
                    () = sleep_until(at) => {}
                },
            }
        }
    }
}

struct ReceiverSink(Arc<ReplicaReceiver>);

impl MessageSink for ReceiverSink {
    fn accept(&mut self, message: Bytes) -> Result<(), InvalidMessage> {
        self.0.accept(Message::read(message)?)?;
        // It may have to be answered.
        self.0.wake.notify_one();
        Ok(())
    }
}
