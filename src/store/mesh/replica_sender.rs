//! What a followed node says to one who follows it.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

use super::MeshStore;
use super::entry::{BUCKETS, Digest, Entry};
use super::message::{self, Message};
use super::replica::Replica;
use super::replicas::FORMER;
use super::state::MeshState;
use crate::replication::{InvalidMessage, MessageSink, MessageSource, Node, ReplicationSession};
use crate::store::Announcement;

/// As much is put into one message, if there is as much: little enough for
/// the lock and the connection not to be held for long.
const CHUNK: usize = 64 * 1024;

/// Changes within so short a time are told together.
const TOGETHER: Duration = Duration::from_millis(10);

/// One who follows us.
pub(super) struct ReplicaSender {
    store: Arc<MeshStore>,
    peer: Node,
    id: u64,
    wake: Arc<Notify>,
    /// Locked before the store's state, never after.
    progress: Mutex<Progress>,
}

/// What was said and what is to be said.
struct Progress {
    process: Option<Option<Announcement>>,
    version: Option<u64>,
    nodes_at: Instant,
    /// Of processes that the peer's node was before: those to tell of, each
    /// from which part on.
    kept: VecDeque<(u64, usize)>,
    /// The first part not told yet of what others had kept of ourselves.
    former: usize,
    /// The next change to tell; none before we know what the peer has.
    cursor: Option<u64>,
    changes_from: Instant,
    parts: VecDeque<usize>,
    /// How often the peer said what it has.
    heard: u32,
    digest_at: Option<Instant>,
}

/// What [`ReplicaSender::compose`] came to.
enum NextMessage {
    Now(Message),
    NothingBefore(Instant),
    NoMore,
}

impl ReplicaSender {
    pub(super) fn open(store: Arc<MeshStore>, peer: &Node, epoch: u64) -> ReplicationSession {
        let (id, wake, kept) = {
            let mut state = store.state();
            let (id, wake) = state.enter();
            (id, wake, state.replicas.former_epochs(peer, epoch))
        };
        let feed = Arc::new(Self {
            store,
            peer: peer.clone(),
            id,
            wake,
            progress: Mutex::new(Progress {
                process: None,
                version: None,
                nodes_at: Instant::now(),
                kept: kept.into_iter().map(|epoch| (epoch, 0)).collect(),
                former: 0,
                cursor: None,
                changes_from: Instant::now(),
                parts: VecDeque::new(),
                heard: 0,
                digest_at: None,
            }),
        });
        ReplicationSession {
            source: Box::new(SenderSource(Arc::clone(&feed))),
            sink: Box::new(SenderSink(feed)),
        }
    }

    fn progress(&self) -> MutexGuard<'_, Progress> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The next thing to say. What is asked for most urgently goes first.
    fn compose(&self) -> NextMessage {
        let mut progress = self.progress();
        let mut state = self.store.state();
        let now = Instant::now();
        if let Some(message) = progress.about_nodes(&self.store, &state, now) {
            return NextMessage::Now(message);
        }
        if let Some(message) = progress.kept(&self.store, &self.peer, &state, now) {
            return NextMessage::Now(message);
        }
        let head = state.own.log().head();
        if let Some(cursor) = progress.cursor
            && cursor < head
        {
            // A part has all changes in it: those before must have been told.
            if now < progress.changes_from && progress.parts.is_empty() && !state.retired {
                return NextMessage::NothingBefore(progress.changes_from);
            }
            if let Some(message) = progress.changes(cursor, &state, now) {
                state.told(self.id, progress.cursor.unwrap_or(cursor));
                return NextMessage::Now(message);
            }
        }
        if let Some(message) = progress.parts(&state) {
            return NextMessage::Now(message);
        }
        // From now on, what is found again or gone is told as a change.
        if progress.cursor.is_some()
            && let Some(message) = progress.former(&self.store, &state, now)
        {
            return NextMessage::Now(message);
        }
        if state.retired {
            return NextMessage::NoMore;
        }
        if progress.cursor.is_some() && progress.digest_at.is_none_or(|at| at <= now) {
            progress.digest_at = Some(now + self.store.refresh_after);
            return NextMessage::Now(Message::Digest {
                heard: progress.heard,
                digest: state.own.table().digest(),
            });
        }
        let next = [Some(progress.nodes_at), progress.digest_at];
        NextMessage::NothingBefore(next.into_iter().flatten().min().unwrap_or(now))
    }

    /// The peer says what it has: it gets what is different here.
    fn compare(&self, theirs: &[Digest]) {
        let mut progress = self.progress();
        let mut state = self.store.state();
        let ours = state.own.table().digests();
        let differing = ours.zip(theirs).enumerate();
        progress.parts = differing
            .filter(|(_, (ours, theirs))| ours != *theirs)
            .map(|(index, _)| index)
            .collect();
        let cursor = *progress.cursor.get_or_insert(state.own.log().head());
        state.told(self.id, cursor);
        progress.heard = progress.heard.wrapping_add(1);
        progress.digest_at = None;
        self.wake.notify_one();
    }
}

impl Progress {
    fn about_nodes(
        &mut self,
        store: &MeshStore,
        state: &MeshState,
        now: Instant,
    ) -> Option<Message> {
        let announcement = state.own.announcement();
        if self.process.as_ref().map(Option::as_ref) != Some(announcement) {
            let announcement = announcement.cloned();
            self.process = Some(announcement.clone());
            return Some(Message::Process {
                epoch: store.epoch,
                announcement,
            });
        }
        // Also from time to time: what is not mentioned is forgotten.
        if self.version != Some(state.version) || self.nodes_at <= now {
            self.version = Some(state.version);
            self.nodes_at = now + store.refresh_after;
            return Some(Message::Nodes(state.directory()));
        }
        None
    }

    fn kept(
        &mut self,
        store: &MeshStore,
        peer: &Node,
        state: &MeshState,
        now: Instant,
    ) -> Option<Message> {
        while let Some((epoch, part)) = self.kept.pop_front() {
            let Some(former) = state.replicas.get(peer, epoch) else {
                continue;
            };
            let (next, entries) = some_parts(former, part);
            if next < BUCKETS {
                self.kept.push_front((epoch, next));
            }
            if !entries.is_empty() {
                let ms = left(former, store, now);
                return Some(Message::Kept { ms, entries });
            }
        }
        None
    }

    fn former(&mut self, store: &MeshStore, state: &MeshState, now: Instant) -> Option<Message> {
        let former = state.replicas.get(&store.node, FORMER)?;
        if self.former >= BUCKETS || former.is_over() {
            return None;
        }
        let (next, entries) = some_parts(former, self.former);
        self.former = next;
        let ms = left(former, store, now);
        (!entries.is_empty()).then_some(Message::Former { ms, entries })
    }

    fn changes(&mut self, cursor: u64, state: &MeshState, now: Instant) -> Option<Message> {
        self.changes_from = now + TOGETHER;
        let log = state.own.log();
        let Some(changed) = log.since(cursor) else {
            // It is too far behind; the digest will tell it so.
            self.cursor = Some(log.head());
            self.digest_at = None;
            return None;
        };
        let mut out = Vec::new();
        let mut told = cursor;
        for jid in changed {
            if out.len() >= CHUNK {
                break;
            }
            let standing = state.own.table().get(jid);
            Entry { jid, standing }.put(&mut out);
            told += 1;
        }
        self.cursor = Some(told);
        Some(Message::Changes(out.into()))
    }

    fn parts(&mut self, state: &MeshState) -> Option<Message> {
        let mut out = Vec::new();
        while let Some(index) = self.parts.front().copied() {
            let entries = state.own.table().bucket(index).bytes();
            if !out.is_empty() && out.len() + entries.len() > CHUNK {
                break;
            }
            message::put_part(&mut out, index, entries);
            self.parts.pop_front();
        }
        (!out.is_empty()).then(|| Message::Parts(out.into()))
    }
}

/// As much as one message takes of the entries from part `begin` on, and the
/// part that comes next.
fn some_parts(replica: &Replica, begin: usize) -> (usize, Bytes) {
    let mut entries = Vec::new();
    let mut next = begin;
    while next < BUCKETS && entries.len() < CHUNK {
        entries.extend_from_slice(replica.part(next));
        next += 1;
    }
    (next, entries.into())
}

/// For how many more ms what is online there counts.
fn left(replica: &Replica, store: &MeshStore, now: Instant) -> u32 {
    let left = replica.left(store.expire_after, now).as_millis();
    u32::try_from(left).unwrap_or(u32::MAX)
}

impl Drop for ReplicaSender {
    fn drop(&mut self) {
        self.store.state().leave(self.id);
    }
}

struct SenderSource(Arc<ReplicaSender>);

#[async_trait]
impl MessageSource for SenderSource {
    async fn next(&mut self) -> Option<Bytes> {
        loop {
            match self.0.compose() {
                NextMessage::Now(message) => return Some(message.write()),
                NextMessage::NoMore => return None,
                NextMessage::NothingBefore(at) => tokio::select! {
                    () = self.0.wake.notified() => {}
                    () = sleep_until(at) => {}
                },
            }
        }
    }
}

struct SenderSink(Arc<ReplicaSender>);

impl MessageSink for SenderSink {
    fn accept(&mut self, message: Bytes) -> Result<(), InvalidMessage> {
        match Message::read(message)? {
            Message::Have(theirs) => self.0.compare(&theirs),
            Message::Nodes(nodes) => {
                let mut state = self.0.store.state();
                for (_, endpoints) in nodes {
                    state.contacts.mention(&endpoints, Instant::now());
                }
            }
            other => return Err(other.out_of_place("from a follower")),
        }
        Ok(())
    }
}
