//! Keeps the replica of a node that was dialled for its table.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

use super::MeshStore;
use super::entry::{Digest, Entry};
use super::message::{HandoverOf, Message};
use super::replica::Replica;
use super::session::{NodesSent, Session};
use crate::replication::{InvalidMessage, NotReplicated, ReplicationSession};
use crate::store::Announcement;

pub(super) struct ReplicaReceiver {
    store: Arc<MeshStore>,
    replica: Arc<Replica>,
    /// Locked before anything of the store, never after.
    progress: Mutex<ReceiveProgress>,
}

struct ReceiveProgress {
    /// The peer's process, once it is known.
    epoch: Option<u64>,
    /// Message to send: the change from which to resume, or a request for a snapshot.
    resume: Option<Option<(u64, u64)>>,
    /// Whether the requested snapshot has not begun.
    awaits_snapshot: bool,
    /// Whether no digest was compared yet on this connection.
    is_first: bool,
    /// Whether a digest caused a request for a snapshot, and no digest was equal since.
    resynced: bool,
    nodes: NodesSent,
}

impl ReplicaReceiver {
    pub(super) fn open(
        store: Arc<MeshStore>,
        replica: Arc<Replica>,
    ) -> Result<Arc<dyn ReplicationSession>, NotReplicated> {
        if std::mem::replace(&mut replica.state().is_reserved, true) {
            return Err(NotReplicated::Already);
        }
        store.links_up(&replica.node).inc();
        Ok(Arc::new(Self {
            store,
            replica,
            progress: Mutex::new(ReceiveProgress {
                epoch: None,
                resume: None,
                awaits_snapshot: false,
                is_first: true,
                resynced: false,
                nodes: NodesSent::default(),
            }),
        }))
    }

    fn meet(
        &self,
        progress: &mut ReceiveProgress,
        epoch: u64,
        announcement: Option<Announcement>,
    ) -> Result<(), InvalidMessage> {
        let is_new = progress.epoch.is_none();
        if is_new {
            progress.epoch = Some(epoch);
            let from = self.replica.resume_at(epoch);
            progress.resume = Some(from.map(|sequence| (epoch, sequence)));
            progress.awaits_snapshot = from.is_none();
            self.replica
                .link_up(epoch, self.store.expire_after, Instant::now());
        } else if progress.epoch != Some(epoch) {
            let what = "says that it is another process than before";
            return Err(InvalidMessage(what.to_owned()));
        }
        self.store.announced(&self.replica, announcement, is_new);
        Ok(())
    }

    /// Requests a snapshot of a replica that differs: at once the first time, then each time that
    /// the peer sends a digest unasked.
    fn compare(&self, progress: &mut ReceiveProgress, sequence: u64, digest: Digest) {
        if progress.awaits_snapshot {
            return;
        }
        let was_in_step = self.replica.state().in_step;
        let Some(is_equal) = self.replica.compare(sequence, digest) else {
            return;
        };
        let peer = &self.replica.node;
        progress.is_first = false;
        if is_equal {
            progress.resynced = false;
            if !was_in_step {
                let claims = self.replica.online();
                tracing::info!(%peer, claims, "the session table is in step");
            }
        } else if std::mem::replace(&mut progress.resynced, true) {
            progress.resynced = false;
            tracing::error!(
                %peer,
                "the session table still differs from the peer's after a resync; trying again later"
            );
        } else {
            tracing::warn!(%peer, "the session table differs from the peer's; resyncing");
            progress.resume = Some(None);
            progress.awaits_snapshot = true;
            self.store.notify_replicas();
        }
    }

    fn count_repairs(&self, progress: &ReceiveProgress, repaired: usize) {
        let found = if progress.resynced {
            "digest"
        } else {
            "connect"
        };
        let host = self.replica.node.host.as_str();
        let repairs = &self.store.metrics.mesh_repairs;
        repairs
            .with_label_values(&[host, found])
            .inc_by(repaired as u64);
    }
}

impl Session for ReplicaReceiver {
    fn store(&self) -> &MeshStore {
        &self.store
    }

    fn compose(&self) -> Result<Option<Message>, Instant> {
        let mut progress = self.progress.lock();
        if let Some(from) = progress.resume.take() {
            return Ok(Some(Message::Resume(from)));
        }
        let membership = self.store.membership.lock();
        let nodes = progress.nodes.due(&self.store, &membership, Instant::now());
        let again_at = progress.nodes.again_at(&self.store);
        nodes.map(Some).ok_or(again_at)
    }

    fn apply(&self, message: Message) -> Result<(), InvalidMessage> {
        let mut progress = self.progress.lock();
        match message {
            Message::Process {
                epoch,
                announcement,
            } => return self.meet(&mut progress, epoch, announcement),
            Message::Nodes(nodes) => {
                self.store.learn_nodes(&self.replica.node, &nodes);
                return Ok(());
            }
            Message::Resume(_) => return Err(message.unexpected("from a sender")),
            _ if progress.epoch.is_none() => {
                return Err(message.unexpected("before its process is known"));
            }
            _ => {}
        }
        match &message {
            Message::Snapshot { sequence } => {
                progress.awaits_snapshot = false;
                self.replica.begin_snapshot(*sequence);
            }
            Message::Entries { is_last, entries } => {
                let mut repaired = self.replica.apply(&Entry::read_all(entries)?)?;
                if *is_last {
                    repaired += self.replica.end_snapshot();
                }
                self.count_repairs(&progress, repaired);
            }
            Message::Changes(entries) => {
                let changed = self.replica.apply_changes(&Entry::read_all(entries)?)?;
                if progress.is_first {
                    self.count_repairs(&progress, changed);
                }
            }
            Message::Digest { sequence, digest } => {
                self.compare(&mut progress, *sequence, *digest);
            }
            Message::Handover { of, ms, entries } => {
                let entries = Entry::read_all(entries)?;
                let left = Duration::from_millis((*ms).into()).min(self.store.expire_after);
                match of {
                    HandoverOf::Receiver => self.store.adopt_own(&entries, left)?,
                    HandoverOf::Sender => self.replica.adopt(&entries, left, Instant::now())?,
                }
            }
            Message::Process { .. } | Message::Nodes(_) | Message::Resume(_) => {}
        }
        Ok(())
    }
}

impl Drop for ReplicaReceiver {
    fn drop(&mut self) {
        self.replica.link_down(Instant::now());
        self.store.links_up(&self.replica.node).dec();
        self.store.bump_version();
        self.store.released.notify_waiters();
    }
}
