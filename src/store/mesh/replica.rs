//! The replica of another node's table. There is one per node: when the node
//! comes back as another process, the replica becomes that one's.
//!
//! Every entry carries the *generation* in which it was written. A snapshot
//! begins a new generation, and so does a new process. So a snapshot is
//! applied entry by entry, in place; what it does not repeat ends with it, and
//! what only an earlier process has claimed counts until the node has had time
//! to find its users again.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::{Mutex, MutexGuard};
use tokio::time::Instant;

use super::entry::{Digest, Entry, HashedJid, JidHasher, Standing};
use super::table::{NodeTable, TableCursor, TableFull};
use crate::replication::{InvalidMessage, Node};
use crate::store::Announcement;

#[derive(Debug)]
pub(super) struct Replica {
    pub(super) node: Node,
    table: NodeTable,
    /// A [`View`], written under the lock of `state` and read without.
    view: AtomicU64,
    /// Locked before a shard of the table, never after.
    state: Mutex<ReplicaState>,
}

#[derive(Debug)]
pub(super) struct ReplicaState {
    /// Epoch of the replicated process; `None` once the node was lost for too long.
    epoch: Option<u64>,
    /// The number of the next change, in a complete replica.
    sequence: u64,
    /// Digest of the entries of the present generation, which `current` counts.
    digest: Digest,
    current: usize,
    /// Number of the process's entries that the present snapshot has not repeated yet.
    unrepeated: usize,
    /// Whether a connection is reserved for the replica; it may not have reached the node yet.
    pub(super) is_reserved: bool,
    /// Whether a connection replicates the node.
    pub(super) is_linked: bool,
    pub(super) lost_at: Instant,
    /// Time until which the online entries of earlier processes count.
    earlier_until: Instant,
    /// `None` when the node has retired, or was lost for too long.
    pub(super) announcement: Option<Announcement>,
    /// Whether digests were equal over the present connection.
    pub(super) in_step: bool,
    needs_sweep: bool,
}

/// Rules for the entries that count. A reader that still has the previous view takes entries of a
/// newer generation for current.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct View {
    generation: u16,
    /// First generation of the present process.
    first_generation: u16,
    /// Whether a snapshot of the present process is complete: entries that it did not repeat are
    /// void.
    is_complete: bool,
    /// Whether online entries of earlier processes still count.
    earlier_count: bool,
}

impl View {
    /// Number of generations since `generation`; they wrap.
    fn age(self, generation: u16) -> i16 {
        self.generation.wrapping_sub(generation) as i16
    }

    fn is_of_process(self, entry: Entry<'_>) -> bool {
        self.age(entry.generation) <= self.age(self.first_generation)
    }

    fn standing(self, entry: Entry<'_>) -> Standing {
        if self.age(entry.generation) <= 0 {
            entry.standing
        } else if self.is_of_process(entry) && self.is_complete {
            Standing::Nowhere
        } else if self.is_of_process(entry) || self.earlier_count {
            entry.standing
        } else {
            entry.standing.outlived(entry.jid)
        }
    }

    fn next_generation(self) -> Self {
        Self {
            generation: self.generation.wrapping_add(1),
            is_complete: false,
            ..self
        }
    }

    fn pack(self) -> u64 {
        let flags = u64::from(self.is_complete) | u64::from(self.earlier_count) << 1;
        u64::from(self.generation) | u64::from(self.first_generation) << 16 | flags << 32
    }

    fn unpack(bits: u64) -> Self {
        Self {
            generation: bits as u16,
            first_generation: (bits >> 16) as u16,
            is_complete: bits & 1 << 32 != 0,
            earlier_count: bits & 1 << 33 != 0,
        }
    }
}

impl Replica {
    /// Creates an empty replica of no process yet.
    pub(super) fn new(node: Node, hasher: JidHasher) -> Self {
        Self {
            node,
            table: NodeTable::new(hasher),
            view: AtomicU64::default(),
            state: Mutex::new(ReplicaState {
                epoch: None,
                sequence: 0,
                digest: Digest::default(),
                current: 0,
                unrepeated: 0,
                is_reserved: false,
                is_linked: false,
                lost_at: Instant::now(),
                earlier_until: Instant::now(),
                announcement: None,
                in_step: false,
                needs_sweep: false,
            }),
        }
    }

    pub(super) fn state(&self) -> MutexGuard<'_, ReplicaState> {
        self.state.lock()
    }

    /// Standing of the JID at the node, as far as it still counts.
    pub(super) fn standing(&self, jid: HashedJid<'_>) -> Standing {
        self.view().standing(self.table.get(jid))
    }

    pub(super) fn online(&self) -> usize {
        self.table.online()
    }

    pub(super) fn fingerprint(&self) -> u32 {
        self.state().digest.fingerprint()
    }

    /// Returns the change from which process `epoch` can resume; `None` for a snapshot.
    pub(super) fn resume_at(&self, epoch: u64) -> Option<u64> {
        let state = self.state();
        (state.epoch == Some(epoch) && self.view().is_complete).then_some(state.sequence)
    }

    /// Notes that the node is connected, as process `epoch`. Claims of an earlier process count for
    /// `lifetime` from the time at which that process was lost.
    pub(super) fn link_up(&self, epoch: u64, lifetime: Duration, now: Instant) {
        let mut state = self.state();
        if state.epoch != Some(epoch) {
            if state.epoch.is_some() {
                let left = (state.lost_at + lifetime).saturating_duration_since(now);
                self.count_earlier(&mut state, left, now);
            }
            self.begin_process(&mut state, Some(epoch));
        }
        state.is_linked = true;
        state.in_step = false;
    }

    pub(super) fn link_down(&self, now: Instant) {
        let mut state = self.state();
        state.is_reserved = false;
        if std::mem::take(&mut state.is_linked) {
            state.lost_at = now;
        }
    }

    /// Begins a snapshot of the process's table, before change `sequence`.
    pub(super) fn begin_snapshot(&self, sequence: u64) {
        let mut state = self.state();
        state.unrepeated += std::mem::take(&mut state.current);
        state.digest = Digest::default();
        state.sequence = sequence;
        self.set_view(self.view().next_generation());
    }

    /// Ends a snapshot; entries that it did not repeat are void from now on. Returns their number.
    pub(super) fn end_snapshot(&self) -> usize {
        let mut state = self.state();
        state.needs_sweep = true;
        self.set_view(View {
            is_complete: true,
            ..self.view()
        });
        std::mem::take(&mut state.unrepeated)
    }

    /// Applies entries of the process; returns how many differed here.
    pub(super) fn apply(&self, entries: &[Entry<'_>]) -> Result<usize, InvalidMessage> {
        let mut state = self.state();
        let view = self.view();
        let epoch = state.epoch.unwrap_or_default();
        let mut changed = 0;
        for entry in entries {
            let jid = self.table.hash(entry.jid);
            let before = self.table.set(jid, entry.standing, view.generation);
            let before = before.map_err(too_large)?;
            changed += usize::from(view.standing(before) != entry.standing);
            if before.standing == Standing::Nowhere {
            } else if before.generation == view.generation {
                state.digest -= before.digest(epoch);
                state.current -= 1;
            } else if view.is_of_process(before) {
                state.unrepeated = state.unrepeated.saturating_sub(1);
            }
            if entry.standing != Standing::Nowhere {
                state.digest += entry.digest(epoch);
                state.current += 1;
            }
        }
        Ok(changed)
    }

    /// Applies entries that each are one more change.
    pub(super) fn apply_changes(&self, entries: &[Entry<'_>]) -> Result<usize, InvalidMessage> {
        let changed = self.apply(entries)?;
        let mut state = self.state();
        state.sequence = state.sequence.wrapping_add(entries.len() as u64);
        Ok(changed)
    }

    /// Whether the replica equals the table that had `digest` before change `sequence`; `None`
    /// while a snapshot is incomplete.
    pub(super) fn compare(&self, sequence: u64, digest: Digest) -> Option<bool> {
        let mut state = self.state();
        let is_equal = state.sequence == sequence && state.digest == digest;
        let is_complete = self.view().is_complete;
        state.in_step = is_complete && is_equal;
        is_complete.then_some(is_equal)
    }

    /// Adopts entries of the node's earlier processes that others have kept, where nothing is known
    /// here; they count for `left` more.
    pub(super) fn adopt(
        &self,
        entries: &[Entry<'_>],
        left: Duration,
        now: Instant,
    ) -> Result<(), InvalidMessage> {
        let mut state = self.state();
        self.count_earlier(&mut state, left, now);
        let view = self.view();
        let earlier = view.first_generation.wrapping_sub(1);
        for entry in entries {
            let jid = self.table.hash(entry.jid);
            if view.standing(self.table.get(jid)) == Standing::Nowhere {
                let written = self.table.set(jid, entry.standing, earlier);
                written.map_err(too_large)?;
            }
        }
        Ok(())
    }

    /// Appends the claims of other processes than `epoch`, from `cursor` on. Returns whether that
    /// was the last, and for how much longer they count.
    pub(super) fn read_earlier(
        &self,
        epoch: u64,
        cursor: &mut TableCursor,
        out: &mut Vec<u8>,
        limit: usize,
        lifetime: Duration,
        now: Instant,
    ) -> (bool, Duration) {
        let state = self.state();
        let view = self.view();
        let is_other = state.epoch.is_some_and(|present| present != epoch);
        let until = match is_other {
            true if state.is_linked => now + lifetime,
            true => state.lost_at + lifetime,
            false if view.earlier_count => state.earlier_until,
            false => now,
        };
        drop(state);
        let is_last = self.table.read_on(cursor, out, limit, |entry| {
            match is_other || !view.is_of_process(entry) {
                true => view.standing(entry),
                false => Standing::Nowhere,
            }
        });
        (is_last, until.saturating_duration_since(now))
    }

    /// Removes the JID, for which the node itself now has a newer entry; returns the time since
    /// which it was known.
    pub(super) fn forget(&self, jid: HashedJid<'_>) -> Option<u64> {
        let _state = self.state();
        // Removal cannot exceed the size limit.
        let before = self.table.set(jid, Standing::Nowhere, 0).ok()?;
        let standing = self.view().standing(before);
        (standing != Standing::Nowhere).then(|| standing.since())
    }

    /// Expires the announcement and entries that are due; returns whether that affects others.
    pub(super) fn expire(&self, lifetime: Duration, now: Instant) -> bool {
        let mut state = self.state();
        let view = self.view();
        let is_lost = !state.is_linked && state.epoch.is_some() && now > state.lost_at + lifetime;
        let is_due = is_lost || (view.earlier_count && now > state.earlier_until);
        if is_due {
            let earlier_count = false;
            self.set_view(View {
                earlier_count,
                ..view
            });
            state.needs_sweep = true;
        }
        if is_lost {
            self.begin_process(&mut state, None);
        }
        is_due
    }

    /// Whether entries no longer count as stored; resets the mark.
    pub(super) fn take_needs_sweep(&self) -> bool {
        std::mem::take(&mut self.state().needs_sweep)
    }

    /// Rewrites the entries of one shard to the standing that they count as. Entries that are only
    /// homes are removed if `take` returns true.
    pub(super) fn sweep(&self, shard: usize, mut take: impl FnMut(&[u8], u64) -> bool) {
        // The lock keeps the view from changing.
        let _state = self.state();
        let view = self.view();
        self.table
            .rewrite(shard, |entry| match view.standing(entry) {
                Standing::Former(since) if take(entry.jid, since) => Standing::Nowhere,
                standing => standing,
            });
    }

    /// Whether entries other than homes may be left.
    pub(super) fn counts(&self) -> bool {
        self.state().epoch.is_some() || self.view().earlier_count
    }

    /// Whether the replica is empty, and no connection is about to replicate it.
    pub(super) fn is_spent(&self) -> bool {
        !self.state().is_reserved && !self.counts() && self.table.is_empty()
    }

    fn begin_process(&self, state: &mut ReplicaState, epoch: Option<u64>) {
        state.epoch = epoch;
        state.announcement = None;
        (state.sequence, state.digest) = (0, Digest::default());
        (state.current, state.unrepeated) = (0, 0);
        let view = self.view().next_generation();
        self.set_view(View {
            first_generation: view.generation,
            ..view
        });
    }

    fn count_earlier(&self, state: &mut ReplicaState, left: Duration, now: Instant) {
        let view = self.view();
        if !view.earlier_count || state.earlier_until < now + left {
            state.earlier_until = now + left;
        }
        self.set_view(View {
            earlier_count: true,
            ..view
        });
    }

    fn view(&self) -> View {
        View::unpack(self.view.load(Ordering::Acquire))
    }

    fn set_view(&self, view: View) {
        self.view.store(view.pack(), Ordering::Release);
    }
}

fn too_large(_: TableFull) -> InvalidMessage {
    InvalidMessage("makes the table too large".to_owned())
}
