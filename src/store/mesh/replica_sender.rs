//! Sends this node's table to a peer that dialled for it.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

use super::MeshStore;
use super::message::{CHUNK, HandoverOf, Message};
use super::session::{NodesSent, Session};
use super::table::TableCursor;
use crate::replication::{InvalidMessage, Node, ReplicationSession};
use crate::store::Announcement;

/// Changes within this time are sent together.
const TOGETHER: Duration = Duration::from_millis(10);

pub(super) struct ReplicaSender {
    store: Arc<MeshStore>,
    peer: Node,
    peer_epoch: u64,
    /// Number of this connection of the peer; only the newest connection goes on.
    id: Option<u64>,
    /// Locked before anything of the store, never after.
    progress: Mutex<SendProgress>,
}

/// Progress of sending.
struct SendProgress {
    process: Option<Option<Announcement>>,
    nodes: NodesSent,
    /// Entries of the peer's earlier processes to hand over; `None` when done.
    of_peer: Option<TableCursor>,
    /// Entries of this node's earlier processes, which others had kept; `None` when done.
    of_self: Option<TableCursor>,
    /// The snapshot, and whether its beginning was sent; `None` when done.
    snapshot: Option<(TableCursor, bool)>,
    /// The number of the next change; `None` before the peer has asked.
    next: Option<u64>,
    changes_at: Instant,
    digest_at: Instant,
}

impl ReplicaSender {
    pub(super) fn open(
        store: Arc<MeshStore>,
        peer: &Node,
        epoch: u64,
    ) -> Arc<dyn ReplicationSession> {
        let now = Instant::now();
        Arc::new(Self {
            id: store.register_sender(peer),
            store,
            peer: peer.clone(),
            peer_epoch: epoch,
            progress: Mutex::new(SendProgress {
                process: None,
                nodes: NodesSent::default(),
                of_peer: Some(TableCursor::default()),
                of_self: Some(TableCursor::default()),
                snapshot: None,
                next: None,
                changes_at: now,
                digest_at: now,
            }),
        })
    }

    fn snapshot(&self, progress: &mut SendProgress) -> Option<Message> {
        let (cursor, has_begun) = progress.snapshot.as_mut()?;
        if !*has_begun {
            *has_begun = true;
            let sequence = self.store.local.head();
            progress.next = Some(sequence);
            progress.digest_at = Instant::now();
            return Some(Message::Snapshot { sequence });
        }
        let mut entries = Vec::new();
        let is_last = self.store.local.read_on(cursor, &mut entries, CHUNK);
        if is_last {
            progress.snapshot = None;
        }
        let entries = entries.into();
        Some(Message::Entries { is_last, entries })
    }

    /// Next part of the entries of a node's earlier processes.
    fn handover(&self, of: HandoverOf, progress: &mut SendProgress) -> Option<Message> {
        let replica = match of {
            HandoverOf::Receiver => &self.store.replica_of(&self.peer)?,
            HandoverOf::Sender => &self.store.earlier_self,
        };
        let (cursor, epoch) = match of {
            HandoverOf::Receiver => (&mut progress.of_peer, self.peer_epoch),
            HandoverOf::Sender => (&mut progress.of_self, self.store.epoch),
        };
        let mut entries = Vec::new();
        let (is_last, left) = replica.read_earlier(
            epoch,
            cursor.as_mut()?,
            &mut entries,
            CHUNK,
            self.store.expire_after,
            Instant::now(),
        );
        if is_last {
            *cursor = None;
        }
        (!entries.is_empty()).then(|| Message::Handover {
            of,
            ms: u32::try_from(left.as_millis()).unwrap_or(u32::MAX),
            entries: entries.into(),
        })
    }
}

impl Session for ReplicaSender {
    fn store(&self) -> &MeshStore {
        &self.store
    }

    fn compose(&self) -> Result<Option<Message>, Instant> {
        let mut progress = self.progress.lock();
        let now = Instant::now();
        let has_retired = {
            let membership = self.store.membership.lock();
            if self.id.is_none() || membership.senders.get(&self.peer) != self.id.as_ref() {
                return Ok(None);
            }
            let announcement = membership.announcement();
            if progress.process.as_ref().map(Option::as_ref) != Some(announcement) {
                let announcement = announcement.cloned();
                progress.process = Some(announcement.clone());
                let epoch = self.store.epoch;
                return Ok(Some(Message::Process {
                    epoch,
                    announcement,
                }));
            }
            if let Some(nodes) = progress.nodes.due(&self.store, &membership, now) {
                return Ok(Some(nodes));
            }
            membership.has_retired
        };
        if let Some(message) = self.handover(HandoverOf::Receiver, &mut progress) {
            return Ok(Some(message));
        }
        let Some(next) = progress.next else {
            let at = progress.nodes.again_at(&self.store);
            return if has_retired { Ok(None) } else { Err(at) };
        };
        // Changes go before the rest of a snapshot, so that entries already sent stay current.
        if next < self.store.local.head() && progress.snapshot.is_none_or(|(_, begun)| begun) {
            if now < progress.changes_at && progress.snapshot.is_none() && !has_retired {
                return Err(progress.changes_at);
            }
            progress.changes_at = now + TOGETHER;
            if let Some((entries, next)) = self.store.local.changes(next, CHUNK) {
                progress.next = Some(next);
                return Ok(Some(Message::Changes(entries.into())));
            }
            // The peer is too far behind.
            progress.snapshot = Some((TableCursor::default(), false));
        }
        let message = self.snapshot(&mut progress);
        // The handover follows the snapshot: users found again, or offline, come as changes.
        let message = message.or_else(|| self.handover(HandoverOf::Sender, &mut progress));
        if message.is_some() || has_retired {
            return Ok(message);
        }
        if progress.digest_at <= now {
            let (sequence, digest) = self.store.local.digest();
            if Some(sequence) != progress.next {
                return Err(now);
            }
            progress.digest_at = now + self.store.refresh_after;
            return Ok(Some(Message::Digest { sequence, digest }));
        }
        Err(progress.digest_at.min(progress.nodes.again_at(&self.store)))
    }

    fn apply(&self, message: Message) -> Result<(), InvalidMessage> {
        match message {
            Message::Resume(from) => {
                let mut progress = self.progress.lock();
                let local = &self.store.local;
                let resumed = from
                    .filter(|(epoch, next)| *epoch == self.store.epoch && local.can_resume(*next));
                progress.next = Some(resumed.map_or_else(|| local.head(), |(_, next)| next));
                progress.snapshot = resumed.is_none().then(|| (TableCursor::default(), false));
                progress.digest_at = Instant::now();
                self.store.notify_replicas();
            }
            Message::Nodes(nodes) => self.store.learn_nodes(&self.peer, &nodes),
            other => return Err(other.unexpected("from a receiver")),
        }
        Ok(())
    }
}

impl Drop for ReplicaSender {
    fn drop(&mut self) {
        let mut membership = self.store.membership.lock();
        if self.id.is_some() && membership.senders.get(&self.peer) == self.id.as_ref() {
            membership.senders.remove(&self.peer);
        }
    }
}
