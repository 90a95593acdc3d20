//! The bounds of the presence table.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;

/// The bounds, in records with addresses of up to 256 bytes.
#[derive(Debug, Clone, Copy)]
pub(super) struct RecordBounds {
    pub(super) all: u32,
    pub(super) per_peer: u32,
    /// The bound for one user: all sessions, as sender and as viewer.
    pub(super) per_user: u32,
}

impl Default for RecordBounds {
    /// The default takes some 170 MB, and at most 400 MB.
    fn default() -> Self {
        Self {
            all: 1_000_000,
            per_peer: 750_000,
            per_user: 20_000,
        }
    }
}

/// The number of buckets: two names with many records rarely share one.
const BUCKETS: usize = 1 << 16;

/// Counts records by name, in buckets of a keyed hash: memory is bounded, and no
/// name can be chosen to fill the bucket of another.
#[derive(Debug)]
pub(super) struct RecordCounts {
    all: u32,
    counts: Box<[u32]>,
    hasher: RandomState,
}

impl RecordCounts {
    pub(super) fn new() -> Self {
        Self {
            all: 0,
            counts: vec![0; BUCKETS].into(),
            hasher: RandomState::new(),
        }
    }

    pub(super) fn have_room<'a>(
        &self,
        bounds: &RecordBounds,
        mut users: impl Iterator<Item = &'a str>,
        peer: Option<&str>,
    ) -> bool {
        let count = |name| self.counts[self.bucket(name)];
        self.all < bounds.all
            && peer.is_none_or(|peer| count(peer) < bounds.per_peer)
            && users.all(|user| count(user) < bounds.per_user)
    }

    pub(super) fn change<'a>(&mut self, names: impl Iterator<Item = &'a str>, by: i32) {
        self.all = self.all.saturating_add_signed(by);
        for name in names {
            let bucket = self.bucket(name);
            self.counts[bucket] = self.counts[bucket].saturating_add_signed(by);
        }
    }

    fn bucket(&self, name: &str) -> usize {
        usize::try_from(self.hasher.hash_one(name) % BUCKETS as u64).unwrap_or(0)
    }
}
