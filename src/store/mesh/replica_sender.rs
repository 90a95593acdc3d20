//! Sends this node's table to a peer that dialled for it.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

use super::MeshStore;
use super::message::{CHUNK, HandoverOf, Message};
use super::replica::Replica;
use super::table::TableCursor;
use crate::replication::{InvalidMessage, MessageSink, MessageSource, Node, ReplicationSession};
use crate::store::Announcement;

/// Changes within so short a time are sent together.
const TOGETHER: Duration = Duration::from_millis(10);

pub(super) struct ReplicaSender {
    store: Arc<MeshStore>,
    peer: Node,
    peer_epoch: u64,
    /// Which connection of the peer this is; only the newest one goes on.
    id: Option<u64>,
    /// Locked before anything of the store, never after.
    progress: Mutex<SendProgress>,
}

/// What was sent, and what is to be sent.
struct SendProgress {
    process: Option<Option<Announcement>>,
    nodes_version: Option<u64>,
    nodes_at: Instant,
    /// What is kept of earlier processes of the peer; `None` when done.
    of_peer: Option<TableCursor>,
    /// What others have kept of earlier processes of ours; `None` when done.
    of_self: Option<TableCursor>,
    /// The snapshot, and whether its beginning was sent; `None` when done.
    snapshot: Option<(TableCursor, bool)>,
    /// The number of the next change; `None` before the peer has asked.
    next: Option<u64>,
    changes_at: Instant,
    digest_at: Instant,
}

/// What [`ReplicaSender::compose`] came to.
enum NextMessage {
    Now(Message),
    NotBefore(Instant),
    End,
}

impl ReplicaSender {
    pub(super) fn open(store: Arc<MeshStore>, peer: &Node, epoch: u64) -> ReplicationSession {
        let now = Instant::now();
        let changes = store.changes.subscribe();
        let sender = Arc::new(Self {
            id: store.register_sender(peer),
            store,
            peer: peer.clone(),
            peer_epoch: epoch,
            progress: Mutex::new(SendProgress {
                process: None,
                nodes_version: None,
                nodes_at: now,
                of_peer: Some(TableCursor::default()),
                of_self: Some(TableCursor::default()),
                snapshot: None,
                next: None,
                changes_at: now,
                digest_at: now,
            }),
        });
        ReplicationSession {
            source: Box::new(SenderSource(Arc::clone(&sender), changes)),
            sink: Box::new(SenderSink(sender)),
        }
    }

    fn compose(&self) -> NextMessage {
        let mut progress = self.progress.lock();
        let now = Instant::now();
        let has_retired = {
            let membership = self.store.membership.lock();
            if self.id.is_none() || membership.senders.get(&self.peer) != self.id.as_ref() {
                return NextMessage::End;
            }
            let announcement = membership.announcement();
            if progress.process.as_ref().map(Option::as_ref) != Some(announcement) {
                let announcement = announcement.cloned();
                progress.process = Some(announcement.clone());
                return NextMessage::Now(Message::Process {
                    epoch: self.store.epoch,
                    announcement,
                });
            }
            // Also from time to time: nodes that nobody mentions are forgotten.
            if progress.nodes_version != Some(membership.version) || progress.nodes_at <= now {
                progress.nodes_version = Some(membership.version);
                progress.nodes_at = now + self.store.refresh_after;
                return NextMessage::Now(Message::Nodes(self.store.nodes(&membership)));
            }
            membership.has_retired
        };
        if let Some(message) = self.handover_to_peer(&mut progress, now) {
            return NextMessage::Now(message);
        }
        let Some(next) = progress.next else {
            return match has_retired {
                true => NextMessage::End,
                false => NextMessage::NotBefore(progress.nodes_at),
            };
        };
        // An entry of the snapshot may be newer than a change that comes after
        // it, but never than the change that made it so.
        if next < self.store.local.head() && progress.snapshot.is_none_or(|(_, begun)| begun) {
            if now < progress.changes_at && progress.snapshot.is_none() && !has_retired {
                return NextMessage::NotBefore(progress.changes_at);
            }
            progress.changes_at = now + TOGETHER;
            if let Some((entries, next)) = self.store.local.changes(next, CHUNK) {
                progress.next = Some(next);
                return NextMessage::Now(Message::Changes(entries.into()));
            }
            // The peer is too far behind.
            progress.snapshot = Some((TableCursor::default(), false));
        }
        if let Some(message) = self.snapshot(&mut progress) {
            return NextMessage::Now(message);
        }
        if let Some(message) = self.handover_of_self(&mut progress, now) {
            return NextMessage::Now(message);
        }
        if has_retired {
            return NextMessage::End;
        }
        if progress.digest_at <= now {
            let (sequence, digest) = self.store.local.digest();
            if Some(sequence) == progress.next {
                progress.digest_at = now + self.store.refresh_after;
                return NextMessage::Now(Message::Digest { sequence, digest });
            }
            return NextMessage::NotBefore(now);
        }
        NextMessage::NotBefore(progress.nodes_at.min(progress.digest_at))
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

    fn handover_to_peer(&self, progress: &mut SendProgress, now: Instant) -> Option<Message> {
        progress.of_peer.as_ref()?;
        let replica = self.store.replica_of(&self.peer);
        let of = HandoverOf::Receiver;
        self.handover(
            of,
            replica.as_deref(),
            self.peer_epoch,
            &mut progress.of_peer,
            now,
        )
    }

    /// After the snapshot: users who are found again, or gone, come as changes.
    fn handover_of_self(&self, progress: &mut SendProgress, now: Instant) -> Option<Message> {
        let (earlier, epoch) = (&self.store.earlier_self, self.store.epoch);
        self.handover(
            HandoverOf::Sender,
            Some(earlier),
            epoch,
            &mut progress.of_self,
            now,
        )
    }

    fn handover(
        &self,
        of: HandoverOf,
        replica: Option<&Replica>,
        epoch: u64,
        progress: &mut Option<TableCursor>,
        now: Instant,
    ) -> Option<Message> {
        let cursor = progress.as_mut()?;
        let mut entries = Vec::new();
        let is_last =
            replica.is_none_or(|replica| replica.read_earlier(epoch, cursor, &mut entries, CHUNK));
        if is_last {
            *progress = None;
        }
        let left = replica?.left(epoch, self.store.expire_after, now);
        (!entries.is_empty()).then(|| Message::Handover {
            of,
            ms: u32::try_from(left.as_millis()).unwrap_or(u32::MAX),
            entries: entries.into(),
        })
    }

    fn accept(&self, message: Message) -> Result<(), InvalidMessage> {
        match message {
            Message::Resume(from) => {
                let mut progress = self.progress.lock();
                let local = &self.store.local;
                let resumed = from
                    .filter(|(epoch, sequence)| {
                        *epoch == self.store.epoch && local.can_resume(*sequence)
                    })
                    .map(|(_, sequence)| sequence);
                progress.next = Some(resumed.unwrap_or_else(|| local.head()));
                progress.snapshot = resumed.is_none().then(|| (TableCursor::default(), false));
                progress.digest_at = Instant::now();
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

struct SenderSource(Arc<ReplicaSender>, watch::Receiver<()>);

#[async_trait]
impl MessageSource for SenderSource {
    async fn next(&mut self) -> Option<Bytes> {
        loop {
            self.1.mark_unchanged();
            match self.0.compose() {
                NextMessage::Now(message) => return Some(message.write()),
                NextMessage::End => return None,
                NextMessage::NotBefore(at) => tokio::select! {
                    // The store has the other half: it does not end.
                    _ = self.1.changed() => {}
                    () = sleep_until(at) => {}
                },
            }
        }
    }
}

struct SenderSink(Arc<ReplicaSender>);

impl MessageSink for SenderSink {
    fn accept(&mut self, message: Bytes) -> Result<(), InvalidMessage> {
        self.0.accept(Message::read(message)?)?;
        self.0.store.notify_replicas();
        Ok(())
    }
}
