//! This node's own part of the session table, and its recent changes.
//!
//! Claims of this process do not expire in it: they end when they are withdrawn.

use std::collections::VecDeque;

use parking_lot::Mutex;

use super::entry::JidHasher;
use super::entry::{Digest, Entry, HashedJid, Standing, is_bare};
use super::table::{NodeTable, SHARDS, TableCursor, TableFull};

/// Approximate upper bound of the former claims of bare JIDs that are kept: they make the homes.
const HOMES: usize = if cfg!(test) { 1 << 14 } else { 1 << 20 };

/// Upper bound of the changes that are kept. A peer that is further behind is sent a snapshot.
const CHANGES: usize = 1 << 16;

#[derive(Debug)]
pub(super) struct LocalTable {
    epoch: u64,
    table: NodeTable,
    /// Locked before a shard, never after, for one change or one message.
    log: Mutex<ChangeLog>,
}

/// JIDs in the order of their changes; their standing is looked up when they are sent.
#[derive(Debug, Default)]
struct ChangeLog {
    /// Digest of the table after the last change.
    digest: Digest,
    jids: VecDeque<Box<[u8]>>,
    /// Sequence number of the first change kept.
    first: u64,
}

impl ChangeLog {
    fn head(&self) -> u64 {
        self.first + self.jids.len() as u64
    }

    fn push(&mut self, jid: &[u8]) {
        if self.jids.len() == CHANGES {
            self.jids.pop_front();
            self.first += 1;
        }
        self.jids.push_back(jid.into());
    }
}

impl LocalTable {
    pub(super) fn new(epoch: u64, hasher: JidHasher) -> Self {
        Self {
            epoch,
            table: NodeTable::new(hasher),
            log: Mutex::default(),
        }
    }

    pub(super) fn standing(&self, jid: HashedJid<'_>) -> Standing {
        self.table.get(jid).standing
    }

    pub(super) fn online(&self) -> usize {
        self.table.online()
    }

    /// Writes that the JID is online here since `since`, or still is.
    pub(super) fn claim(&self, jid: HashedJid<'_>, since: u64) -> Result<(), TableFull> {
        let mut log = self.log.lock();
        if self.set(&mut log, jid, Standing::Online(since.max(1)))? {
            log.push(jid.jid);
        }
        Ok(())
    }

    /// Writes that the JID is not online here any more. A bare JID is remembered, with the time of
    /// its claim, or `else_since` if there was none.
    pub(super) fn withdraw(&self, jid: HashedJid<'_>, else_since: Option<u64>) {
        let mut log = self.log.lock();
        let since = match self.standing(jid) {
            Standing::Nowhere => else_since,
            known => Some(known.since()),
        };
        let standing = match since {
            Some(since) if is_bare(jid.jid) => Standing::Former(since),
            _ => Standing::Nowhere,
        };
        // A full table has no room for one more home.
        let _ = self.set(&mut log, jid, standing);
        // Logged also when the JID was unknown here: peers may have it from an earlier process.
        log.push(jid.jid);
        if let Some(oldest) = self.table.oldest_former(jid, HOMES / SHARDS) {
            let _ = self.set(&mut log, self.table.hash(&oldest), Standing::Nowhere);
            log.push(&oldest);
        }
    }

    /// The number of the next change.
    pub(super) fn head(&self) -> u64 {
        self.log.lock().head()
    }

    /// Whether all changes from `sequence` on are known.
    pub(super) fn can_resume(&self, sequence: u64) -> bool {
        let log = self.log.lock();
        (log.first..=log.head()).contains(&sequence)
    }

    /// Returns the changes from `sequence` on as entries, about `limit` bytes of them, and the
    /// number of the change after them; `None` if some are no longer kept.
    pub(super) fn changes(&self, sequence: u64, limit: usize) -> Option<(Vec<u8>, u64)> {
        let log = self.log.lock();
        let skip = usize::try_from(sequence.checked_sub(log.first)?).ok()?;
        let (mut out, mut next) = (Vec::new(), sequence);
        for jid in log.jids.iter().skip(skip) {
            if out.len() >= limit {
                break;
            }
            let standing = self.standing(self.table.hash(jid));
            Entry::new(jid, standing).put(&mut out);
            next += 1;
        }
        Some((out, next))
    }

    /// Appends entries from `cursor` on; returns whether that was the last.
    pub(super) fn read_on(
        &self,
        cursor: &mut TableCursor,
        out: &mut Vec<u8>,
        limit: usize,
    ) -> bool {
        self.table
            .read_on(cursor, out, limit, |entry| entry.standing)
    }

    /// The digest of the whole table, and the number of the next change to it.
    pub(super) fn digest(&self) -> (u64, Digest) {
        let log = self.log.lock();
        (log.head(), log.digest)
    }

    /// Whether the entry changed.
    fn set(
        &self,
        log: &mut ChangeLog,
        jid: HashedJid<'_>,
        standing: Standing,
    ) -> Result<bool, TableFull> {
        let before = self.table.set(jid, standing, 0)?;
        log.digest -= before.digest(self.epoch);
        log.digest += Entry { standing, ..before }.digest(self.epoch);
        Ok(before.standing != standing)
    }
}
