//! JIDs and their standings at one node: that node's own, or a replica of them.
//!
//! Entries are packed into buckets of a few dozen, which takes a third of the
//! memory of a hash map with a string a key; a look-up scans one bucket.
//! A table grows by one bucket at a time (linear hashing), so that no change
//! takes longer than another one. Each shard has a lock of its own, which is
//! held for one entry or one bucket.

use parking_lot::RwLock;

use super::entry::{Entry, HashedJid, JidHasher, PREFIX, Standing};

pub(super) const SHARDS: usize = 64;

/// A bucket is split when more entries than so many fall to each.
const ENTRIES_PER_BUCKET: usize = 32;

/// Of the entries of one shard: 1 GiB for a table, some 20 million sessions.
const SHARD_BYTES: usize = (if cfg!(test) { 1 << 26 } else { 1 << 30 }) / SHARDS;

#[derive(Debug)]
pub(super) struct NodeTable {
    hasher: JidHasher,
    shards: Box<[RwLock<Shard>]>,
}

#[derive(Debug, Default)]
struct Shard {
    /// None before the first entry.
    buckets: Vec<Vec<u8>>,
    entries: usize,
    online: usize,
    bytes: usize,
}

/// A standing as it is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stored {
    pub(super) standing: Standing,
    /// In which generation it was written; see [`super::replica`].
    pub(super) generation: u16,
}

/// A place between two buckets, for reading a table piece by piece. An entry
/// that stays in the table is read at least once, whatever changes meanwhile.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct TableCursor {
    shard: usize,
    bucket: usize,
}

/// The table has reached its size limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct TableFull;

impl NodeTable {
    pub(super) fn new(hasher: JidHasher) -> Self {
        Self {
            hasher,
            shards: (0..SHARDS).map(|_| RwLock::default()).collect(),
        }
    }

    pub(super) fn hash<'a>(&self, jid: &'a [u8]) -> HashedJid<'a> {
        self.hasher.hash(jid)
    }

    pub(super) fn get(&self, jid: HashedJid<'_>) -> Stored {
        self.shard(jid.hash).read().find(jid).1
    }

    /// Writes a standing; returns the one before.
    pub(super) fn set(
        &self,
        jid: HashedJid<'_>,
        standing: Standing,
        generation: u16,
    ) -> Result<Stored, TableFull> {
        let stored = Stored {
            standing,
            generation,
        };
        self.shard(jid.hash).write().set(jid, stored, &self.hasher)
    }

    /// JIDs that are online.
    pub(super) fn online(&self) -> usize {
        self.shards.iter().map(|shard| shard.read().online).sum()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.shards.iter().all(|shard| shard.read().entries == 0)
    }

    /// Appends entries from `cursor` on, with the standings that `read` gives
    /// them, until `out` has `limit` bytes or more. Whether that was the end.
    pub(super) fn read_on(
        &self,
        cursor: &mut TableCursor,
        out: &mut Vec<u8>,
        limit: usize,
        mut read: impl FnMut(Entry<'_>, u16) -> Standing,
    ) -> bool {
        while cursor.shard < SHARDS {
            if out.len() >= limit {
                return false;
            }
            let shard = self.shards[cursor.shard].read();
            let Some(bucket) = shard.buckets.get(cursor.bucket) else {
                cursor.shard += 1;
                cursor.bucket = 0;
                continue;
            };
            for (entry, generation) in entries(bucket) {
                let standing = read(entry, generation);
                if standing != Standing::Nowhere {
                    Entry { standing, ..entry }.put(out, 0);
                }
            }
            cursor.bucket += 1;
        }
        true
    }

    /// Gives all entries of a shard the standings that `rewrite` returns.
    pub(super) fn rewrite(
        &self,
        shard: usize,
        mut rewrite: impl FnMut(Entry<'_>, u16) -> Standing,
    ) {
        let shard = &self.shards[shard];
        let mut index = 0;
        while let mut shard = shard.write()
            && index < shard.buckets.len()
        {
            let before = std::mem::take(&mut shard.buckets[index]);
            let mut after = Vec::with_capacity(before.len());
            for (entry, generation) in entries(&before) {
                let standing = rewrite(entry, generation);
                shard.uncount(entry);
                if standing != Standing::Nowhere {
                    let entry = Entry { standing, ..entry };
                    entry.put(&mut after, generation);
                    shard.count(entry);
                }
            }
            after.shrink_to_fit();
            shard.buckets[index] = after;
            index += 1;
        }
    }

    /// The former claim with the earliest time in the bucket of `jid`, if there
    /// are more than `limit` entries in its shard that are not online.
    pub(super) fn oldest_former(&self, jid: HashedJid<'_>, limit: usize) -> Option<Box<[u8]>> {
        let shard = self.shard(jid.hash).read();
        if shard.entries - shard.online <= limit {
            return None;
        }
        let bucket = &shard.buckets[bucket_index(jid.hash, shard.buckets.len())];
        let formers =
            entries(bucket).filter(|(entry, _)| matches!(entry.standing, Standing::Former(_)));
        let oldest = formers.min_by_key(|(entry, _)| entry.standing.since());
        oldest.map(|(entry, _)| entry.jid.into())
    }

    fn shard(&self, hash: u64) -> &RwLock<Shard> {
        // The highest bits; buckets go by the lowest.
        &self.shards[(hash >> (u64::BITS - SHARDS.ilog2())) as usize]
    }
}

impl Shard {
    /// Where an entry begins in its bucket, and how it stands.
    fn find(&self, jid: HashedJid<'_>) -> (Option<usize>, Stored) {
        let absent = Stored {
            standing: Standing::Nowhere,
            generation: 0,
        };
        if self.buckets.is_empty() {
            return (None, absent);
        }
        let bucket = &self.buckets[bucket_index(jid.hash, self.buckets.len())];
        let mut at = 0;
        for (entry, generation) in entries(bucket) {
            if entry.jid == jid.jid {
                let standing = entry.standing;
                let stored = Stored {
                    standing,
                    generation,
                };
                return (Some(at), stored);
            }
            at += PREFIX + entry.jid.len();
        }
        (None, absent)
    }

    fn set(
        &mut self,
        jid: HashedJid<'_>,
        stored: Stored,
        hasher: &JidHasher,
    ) -> Result<Stored, TableFull> {
        let (place, before) = self.find(jid);
        if place.is_none() && stored.standing == Standing::Nowhere {
            return Ok(before);
        }
        let entry = |standing| Entry {
            jid: jid.jid,
            standing,
        };
        let size = PREFIX + jid.jid.len();
        if place.is_none() {
            if self.bytes + size > SHARD_BYTES {
                return Err(TableFull);
            }
            if self.entries >= self.buckets.len() * ENTRIES_PER_BUCKET {
                self.split_one(hasher);
            }
        }
        let index = bucket_index(jid.hash, self.buckets.len());
        let bucket = &mut self.buckets[index];
        match (place, stored.standing) {
            (Some(at), Standing::Nowhere) => {
                bucket.drain(at..at + size);
                // What many sessions took is not kept for ever.
                if bucket.len() < bucket.capacity() / 2 {
                    bucket.shrink_to_fit();
                }
            }
            (Some(at), standing) => {
                let mut new = Vec::with_capacity(size);
                entry(standing).put(&mut new, stored.generation);
                bucket[at..at + PREFIX].copy_from_slice(&new[..PREFIX]);
            }
            (None, standing) => {
                append(bucket, entry(standing), stored.generation);
            }
        }
        if place.is_some() {
            self.uncount(entry(before.standing));
        }
        if stored.standing != Standing::Nowhere {
            self.count(entry(stored.standing));
        }
        Ok(before)
    }

    /// Adds a bucket, to which a part of the entries of another one move.
    fn split_one(&mut self, hasher: &JidHasher) {
        let count = self.buckets.len();
        let (mut stay, mut moved) = (Vec::new(), Vec::new());
        if count > 0 {
            let index = count - (1 << count.ilog2());
            let before = std::mem::take(&mut self.buckets[index]);
            for (entry, generation) in entries(&before) {
                let stays = bucket_index(hasher.hash(entry.jid).hash, count + 1) == index;
                append(
                    if stays { &mut stay } else { &mut moved },
                    entry,
                    generation,
                );
            }
            self.buckets[index] = stay;
        }
        // Doubling would waste a third of the memory of a large table.
        self.buckets.reserve_exact(1 + count / 8);
        self.buckets.push(moved);
    }

    fn count(&mut self, entry: Entry<'_>) {
        self.entries += 1;
        self.bytes += PREFIX + entry.jid.len();
        self.online += usize::from(matches!(entry.standing, Standing::Online(_)));
    }

    fn uncount(&mut self, entry: Entry<'_>) {
        self.entries -= 1;
        self.bytes -= PREFIX + entry.jid.len();
        self.online -= usize::from(matches!(entry.standing, Standing::Online(_)));
    }
}

fn append(bucket: &mut Vec<u8>, entry: Entry<'_>, generation: u16) {
    let more = PREFIX + entry.jid.len();
    if bucket.capacity() - bucket.len() < more {
        bucket.reserve_exact(more + bucket.len() / 8);
    }
    entry.put(bucket, generation);
}

fn entries(mut bucket: &[u8]) -> impl Iterator<Item = (Entry<'_>, u16)> {
    std::iter::from_fn(move || {
        let (entry, generation, rest) = Entry::split_first(bucket)?;
        bucket = rest;
        Some((entry, generation))
    })
}

/// Linear hashing: of `count` buckets, those past the last power of two were
/// split off from those before it.
fn bucket_index(hash: u64, count: usize) -> usize {
    let mask = count.next_power_of_two() - 1;
    let index = hash as usize & mask;
    if index < count {
        index
    } else {
        index & (mask >> 1)
    }
}
