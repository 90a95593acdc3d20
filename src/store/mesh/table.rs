//! JIDs and their standings at one node: that node's own, or a replica of them.
//!
//! Entries are packed into buckets of a few dozen, which takes a third of the
//! memory of a hash map with a string a key; a look-up scans one bucket.
//! A table grows by one bucket at a time (linear hashing), so that no change
//! takes longer than another one. Each shard has a lock of its own, which is
//! held for one entry or one bucket.

use parking_lot::RwLock;

use super::entry::{Entry, HashedJid, JidHasher, Standing};

pub(super) const SHARDS: usize = 64;

/// Mean number of entries per bucket above which a bucket is split.
const ENTRIES_PER_BUCKET: usize = 32;

/// Upper bound of the bytes of entries in one shard: 1 GiB for a table, some 20 million sessions.
const SHARD_BYTES: usize = (if cfg!(test) { 1 << 26 } else { 1 << 30 }) / SHARDS;

#[derive(Debug)]
pub(super) struct NodeTable {
    hasher: JidHasher,
    shards: Box<[RwLock<Shard>]>,
}

#[derive(Debug, Default)]
struct Shard {
    /// Empty before the first entry.
    buckets: Vec<Vec<u8>>,
    entries: usize,
    online: usize,
    bytes: usize,
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

    pub(super) fn get<'a>(&self, jid: HashedJid<'a>) -> Entry<'a> {
        self.shard(jid.hash).read().find(jid).1
    }

    /// Writes a standing; returns the previous entry.
    pub(super) fn set<'a>(
        &self,
        jid: HashedJid<'a>,
        standing: Standing,
        generation: u16,
    ) -> Result<Entry<'a>, TableFull> {
        let entry = Entry {
            jid: jid.jid,
            standing,
            generation,
        };
        let mut shard = self.shard(jid.hash).write();
        shard.set(jid, entry, &self.hasher)
    }

    /// Number of JIDs that are online.
    pub(super) fn online(&self) -> usize {
        self.shards.iter().map(|shard| shard.read().online).sum()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.shards.iter().all(|shard| shard.read().entries == 0)
    }

    /// Appends entries from `cursor` on, with the standings that `read` returns, until `out` has
    /// `limit` bytes or more. Returns whether that was the end.
    pub(super) fn read_on(
        &self,
        cursor: &mut TableCursor,
        out: &mut Vec<u8>,
        limit: usize,
        mut read: impl FnMut(Entry<'_>) -> Standing,
    ) -> bool {
        while cursor.shard < SHARDS && out.len() < limit {
            let shard = self.shards[cursor.shard].read();
            let Some(bucket) = shard.buckets.get(cursor.bucket) else {
                *cursor = TableCursor {
                    shard: cursor.shard + 1,
                    bucket: 0,
                };
                continue;
            };
            for entry in entries(bucket) {
                let read = Entry::new(entry.jid, read(entry));
                if read.standing != Standing::Nowhere {
                    read.put(out);
                }
            }
            cursor.bucket += 1;
        }
        cursor.shard == SHARDS
    }

    /// Gives all entries of a shard the standings that `rewrite` returns.
    pub(super) fn rewrite(&self, shard: usize, mut rewrite: impl FnMut(Entry<'_>) -> Standing) {
        let mut index = 0;
        while let mut shard = self.shards[shard].write()
            && index < shard.buckets.len()
        {
            let before = std::mem::take(&mut shard.buckets[index]);
            for entry in entries(&before) {
                shard.count(entry, -1);
                let standing = rewrite(entry);
                shard.append(index, Entry { standing, ..entry });
            }
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
        let formers = entries(bucket).filter(|it| matches!(it.standing, Standing::Former(_)));
        let oldest = formers.min_by_key(|entry| entry.standing.since());
        oldest.map(|entry| entry.jid.into())
    }

    fn shard(&self, hash: u64) -> &RwLock<Shard> {
        // The highest bits select the shard, the lowest the bucket.
        &self.shards[(hash >> (u64::BITS - SHARDS.ilog2())) as usize]
    }
}

impl Shard {
    /// Returns the offset of an entry in its bucket, and the entry; its standing is
    /// [`Standing::Nowhere`] if there is none.
    fn find<'a>(&self, jid: HashedJid<'a>) -> (Option<usize>, Entry<'a>) {
        let bucket = bucket_index(jid.hash, self.buckets.len());
        let mut at = 0;
        for entry in self
            .buckets
            .get(bucket)
            .into_iter()
            .flat_map(|it| entries(it))
        {
            if entry.jid == jid.jid {
                let jid = jid.jid;
                return (Some(at), Entry { jid, ..entry });
            }
            at += entry.size();
        }
        (None, Entry::new(jid.jid, Standing::Nowhere))
    }

    fn set<'a>(
        &mut self,
        jid: HashedJid<'a>,
        entry: Entry<'_>,
        hasher: &JidHasher,
    ) -> Result<Entry<'a>, TableFull> {
        let (place, before) = self.find(jid);
        if place.is_none() && entry.standing != Standing::Nowhere {
            if self.bytes + entry.size() > SHARD_BYTES {
                return Err(TableFull);
            }
            if self.entries >= self.buckets.len() * ENTRIES_PER_BUCKET {
                self.split_one(hasher);
            }
        }
        let index = bucket_index(jid.hash, self.buckets.len());
        if let Some(at) = place {
            let bucket = &mut self.buckets[index];
            bucket.drain(at..at + before.size());
            // Memory of many former sessions is released.
            if bucket.len() < bucket.capacity() / 2 {
                bucket.shrink_to_fit();
            }
            self.count(before, -1);
        }
        self.append(index, entry);
        Ok(before)
    }

    /// Adds a bucket, to which a part of the entries of another one move.
    fn split_one(&mut self, hasher: &JidHasher) {
        let count = self.buckets.len();
        // Doubling would waste a third of the memory of a large table.
        self.buckets.reserve_exact(1 + count / 8);
        self.buckets.push(Vec::new());
        if count == 0 {
            return;
        }
        let before = std::mem::take(&mut self.buckets[count - (1 << count.ilog2())]);
        for entry in entries(&before) {
            self.count(entry, -1);
            self.append(bucket_index(hasher.hash(entry.jid).hash, count + 1), entry);
        }
    }

    fn append(&mut self, index: usize, entry: Entry<'_>) {
        if entry.standing == Standing::Nowhere {
            return;
        }
        let bucket = &mut self.buckets[index];
        if bucket.capacity() - bucket.len() < entry.size() {
            bucket.reserve_exact(entry.size() + bucket.len() / 8);
        }
        entry.put(bucket);
        self.count(entry, 1);
    }

    fn count(&mut self, entry: Entry<'_>, by: isize) {
        let is_online = matches!(entry.standing, Standing::Online(_));
        self.entries = self.entries.wrapping_add_signed(by);
        self.online = self.online.wrapping_add_signed(by * isize::from(is_online));
        self.bytes = self.bytes.wrapping_add_signed(by * entry.size() as isize);
    }
}

fn entries(mut bucket: &[u8]) -> impl Iterator<Item = Entry<'_>> {
    std::iter::from_fn(move || {
        let (entry, rest) = Entry::split_first(bucket)?;
        bucket = rest;
        Some(entry)
    })
}

/// Index of a bucket by linear hashing: buckets past the last power of two below `count` were split
/// off from those before it.
fn bucket_index(hash: u64, count: usize) -> usize {
    let mask = count.max(1).next_power_of_two() - 1;
    let index = hash as usize & mask;
    if index < count {
        index
    } else {
        index & (mask >> 1)
    }
}
