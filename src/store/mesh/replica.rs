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
use super::table::{NodeTable, SHARDS, Stored, TableCursor};
use crate::replication::{InvalidMessage, Node};
use crate::store::Announcement;

#[derive(Debug)]
pub(super) struct Replica {
    pub(super) node: Node,
    table: NodeTable,
    /// A [`View`]; written under the lock of `state`, read without.
    view: AtomicU64,
    /// Locked before a shard of the table, never after.
    state: Mutex<ReplicaState>,
}

/// Which entries count. A reader that still has the view before takes entries
/// of a newer generation for current.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct View {
    generation: u16,
    /// The first one of the present process.
    first_generation: u16,
    /// A snapshot of the present process is there: what it did not repeat is void.
    is_complete: bool,
    /// What was online at earlier processes still counts.
    earlier_count: bool,
}

#[derive(Debug)]
pub(super) struct ReplicaState {
    /// The process of which this is the replica; `None` once it is lost for too long.
    pub(super) epoch: Option<u64>,
    /// The number of the next change, in a complete replica.
    pub(super) sequence: u64,
    /// Of the entries of the present generation, as is `current`.
    digest: Digest,
    current: usize,
    /// Entries of the process that the present snapshot has not repeated yet.
    unrepeated: usize,
    /// A connection is reserved for it, which may not have met the node yet.
    pub(super) is_reserved: bool,
    /// A connection replicates it.
    pub(super) is_linked: bool,
    lost_at: Instant,
    earlier_until: Instant,
    /// `None` when the node has retired, or was lost for too long.
    pub(super) announcement: Option<Announcement>,
    /// Digests were equal over the present connection.
    pub(super) in_step: bool,
    needs_sweep: bool,
}

impl View {
    fn standing(self, entry: Entry<'_>, generation: u16) -> Standing {
        // Generations wrap; what is "before" is less than half of them away.
        let age = self.generation.wrapping_sub(generation) as i16;
        let age_of_process = self.generation.wrapping_sub(self.first_generation) as i16;
        if age <= 0 {
            entry.standing
        } else if age <= age_of_process {
            if self.is_complete {
                Standing::Nowhere
            } else {
                entry.standing
            }
        } else if self.earlier_count {
            entry.standing
        } else {
            entry.standing.outlived(entry.jid)
        }
    }

    fn standing_of(self, jid: HashedJid<'_>, stored: Stored) -> Standing {
        let standing = stored.standing;
        self.standing(
            Entry {
                jid: jid.jid,
                standing,
            },
            stored.generation,
        )
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
    /// Empty, and of no process yet.
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

    /// How the JID stands there, as far as that still counts.
    pub(super) fn standing(&self, jid: HashedJid<'_>) -> Standing {
        self.view().standing_of(jid, self.table.get(jid))
    }

    pub(super) fn online(&self) -> usize {
        self.table.online()
    }

    pub(super) fn fingerprint(&self) -> u32 {
        self.state().digest.fingerprint()
    }

    /// Where a process can resume that says it is `epoch`: at the next change.
    pub(super) fn resume_at(&self, epoch: u64) -> Option<u64> {
        let state = self.state();
        (state.epoch == Some(epoch) && self.view().is_complete).then_some(state.sequence)
    }

    /// The node is there, as process `epoch`. What an earlier one claimed
    /// counts for `lifetime` from when that one was lost.
    pub(super) fn link_up(&self, epoch: u64, lifetime: Duration, now: Instant) {
        let mut state = self.state();
        if state.epoch != Some(epoch) {
            let mut view = self.view();
            if state.epoch.is_some() {
                let until = state.lost_at + lifetime;
                if !view.earlier_count || state.earlier_until < until {
                    state.earlier_until = until;
                }
                view.earlier_count = until > now || view.earlier_count;
            }
            state.epoch = Some(epoch);
            state.announcement = None;
            self.begin_process(&mut state, view);
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

    /// The process sends its whole table; change `sequence` is the next.
    pub(super) fn begin_snapshot(&self, sequence: u64) {
        let mut state = self.state();
        let mut view = self.view();
        state.unrepeated += state.current;
        state.current = 0;
        state.digest = Digest::default();
        state.sequence = sequence;
        view.generation = view.generation.wrapping_add(1);
        view.is_complete = false;
        self.set_view(view);
    }

    /// What the snapshot did not repeat is void from now on. Returns how many
    /// entries that are.
    pub(super) fn end_snapshot(&self) -> usize {
        let mut state = self.state();
        state.needs_sweep = true;
        self.set_view(View {
            is_complete: true,
            ..self.view()
        });
        std::mem::take(&mut state.unrepeated)
    }

    /// Entries as the process has them now. Returns how many stood otherwise here.
    pub(super) fn apply(&self, entries: &[Entry<'_>]) -> Result<usize, InvalidMessage> {
        let mut state = self.state();
        let view = self.view();
        let epoch = state.epoch.unwrap_or_default();
        let mut changed = 0;
        for entry in entries {
            let jid = self.table.hash(entry.jid);
            let before = self.table.set(jid, entry.standing, view.generation);
            let before =
                before.map_err(|_| InvalidMessage("makes the table too large".to_owned()))?;
            changed += usize::from(view.standing_of(jid, before) != entry.standing);
            if before.standing != Standing::Nowhere {
                let age = view.generation.wrapping_sub(before.generation);
                if age == 0 {
                    let standing = before.standing;
                    state.digest -= Entry { standing, ..*entry }.digest(epoch);
                    state.current -= 1;
                } else if age <= view.generation.wrapping_sub(view.first_generation) {
                    state.unrepeated = state.unrepeated.saturating_sub(1);
                }
            }
            if entry.standing != Standing::Nowhere {
                state.digest += entry.digest(epoch);
                state.current += 1;
            }
        }
        Ok(changed)
    }

    /// Changes in the order of their sequence numbers.
    pub(super) fn apply_changes(&self, entries: &[Entry<'_>]) -> Result<usize, InvalidMessage> {
        let changed = self.apply(entries)?;
        let mut state = self.state();
        state.sequence = state.sequence.wrapping_add(entries.len() as u64);
        Ok(changed)
    }

    /// Whether this is the table that had `digest` before change `sequence`.
    /// `None` while a snapshot is on its way.
    pub(super) fn compare(&self, sequence: u64, digest: Digest) -> Option<bool> {
        let state = self.state();
        let is_equal = state.sequence == sequence && state.digest == digest;
        self.view().is_complete.then_some(is_equal)
    }

    /// What others have kept of earlier processes of the node, where nothing
    /// is known here; it counts for `left` more.
    pub(super) fn adopt(
        &self,
        entries: &[Entry<'_>],
        left: Duration,
        now: Instant,
    ) -> Result<(), InvalidMessage> {
        let mut state = self.state();
        let mut view = self.view();
        if !view.earlier_count || state.earlier_until < now + left {
            state.earlier_until = now + left;
        }
        view.earlier_count = true;
        self.set_view(view);
        let earlier = view.first_generation.wrapping_sub(1);
        for entry in entries {
            let jid = self.table.hash(entry.jid);
            let known = view.standing_of(jid, self.table.get(jid));
            if known == Standing::Nowhere {
                let written = self.table.set(jid, entry.standing, earlier);
                written.map_err(|_| InvalidMessage("makes the table too large".to_owned()))?;
            }
        }
        Ok(())
    }

    /// Appends what other processes than `epoch` have claimed, from `cursor`
    /// on; whether that was the last.
    pub(super) fn read_earlier(
        &self,
        epoch: u64,
        cursor: &mut TableCursor,
        out: &mut Vec<u8>,
        limit: usize,
    ) -> bool {
        let is_current = self.state().epoch == Some(epoch);
        let view = self.view();
        let age = |generation| view.generation.wrapping_sub(generation) as i16;
        self.table.read_on(cursor, out, limit, |entry, generation| {
            if is_current && age(generation) <= age(view.first_generation) {
                Standing::Nowhere
            } else {
                view.standing(entry, generation)
            }
        })
    }

    /// For how much longer counts what was online at other processes than `epoch`.
    pub(super) fn left(&self, epoch: u64, lifetime: Duration, now: Instant) -> Duration {
        let state = self.state();
        let until = match state.epoch {
            Some(own) if own != epoch && state.is_linked => now + lifetime,
            Some(own) if own != epoch => state.lost_at + lifetime,
            _ if self.view().earlier_count => state.earlier_until,
            _ => now,
        };
        until.saturating_duration_since(now)
    }

    /// Drops the JID, of which the node itself now knows better; returns since when
    /// it was known.
    pub(super) fn forget(&self, jid: HashedJid<'_>) -> Option<u64> {
        let _state = self.state();
        // Removing always fits.
        let before = self.table.set(jid, Standing::Nowhere, 0).ok()?;
        let standing = self.view().standing_of(jid, before);
        (standing != Standing::Nowhere).then(|| standing.since())
    }

    /// Lets expire what is due. Whether something did on which others rely.
    pub(super) fn expire(&self, lifetime: Duration, now: Instant) -> bool {
        let mut state = self.state();
        let mut view = self.view();
        if !state.is_linked && state.epoch.is_some() && now > state.lost_at + lifetime {
            state.epoch = None;
            state.announcement = None;
            view.earlier_count = false;
            self.begin_process(&mut state, view);
        } else if view.earlier_count && now > state.earlier_until {
            view.earlier_count = false;
            self.set_view(view);
        } else {
            return false;
        }
        state.needs_sweep = true;
        true
    }

    /// Whether entries are there that no longer count as they stand.
    pub(super) fn take_needs_sweep(&self) -> bool {
        std::mem::take(&mut self.state().needs_sweep)
    }

    /// Makes the entries of one shard what they count as.
    pub(super) fn sweep(&self, shard: usize) {
        // Keeps the view from changing.
        let _state = self.state();
        let view = self.view();
        let standing = |entry: Entry<'_>, generation| view.standing(entry, generation);
        self.table.rewrite(shard, standing);
    }

    /// Takes out the JIDs of one shard that are not online any more, with the
    /// times of their last claims.
    pub(super) fn take_homes(&self, shard: usize) -> Vec<(Box<[u8]>, u64)> {
        let _state = self.state();
        let view = self.view();
        let mut homes = Vec::new();
        self.table.rewrite(shard, |entry, generation| {
            match view.standing(entry, generation) {
                Standing::Former(since) => {
                    homes.push((entry.jid.into(), since));
                    Standing::Nowhere
                }
                standing => standing,
            }
        });
        homes
    }

    /// Whether more than homes may be left.
    pub(super) fn counts(&self) -> bool {
        self.state().epoch.is_some() || self.view().earlier_count
    }

    /// Whether only homes can be left, and nobody is about to replicate it.
    pub(super) fn is_over(&self) -> bool {
        !self.state().is_reserved && !self.counts()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.table.is_empty()
    }

    pub(super) fn lost_at(&self) -> Instant {
        self.state().lost_at
    }

    fn begin_process(&self, state: &mut ReplicaState, mut view: View) {
        (state.sequence, state.digest) = (0, Digest::default());
        (state.current, state.unrepeated) = (0, 0);
        view.generation = view.generation.wrapping_add(1);
        view.first_generation = view.generation;
        view.is_complete = false;
        self.set_view(view);
    }

    fn view(&self) -> View {
        View::unpack(self.view.load(Ordering::Acquire))
    }

    fn set_view(&self, view: View) {
        self.view.store(view.pack(), Ordering::Release);
    }
}

/// As many pieces a sweep has.
pub(super) const SWEEPS: usize = SHARDS;
