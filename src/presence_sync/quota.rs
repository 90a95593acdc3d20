//! The bounds of the presence table.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;

#[derive(Debug, Clone, Copy)]
pub(super) struct RecordBounds {
    pub(super) all: usize,
    pub(super) per_peer: u32,
    /// The bound for one user: all sessions, as sender and as viewer.
    pub(super) per_user: u32,
}

impl Default for RecordBounds {
    /// The default takes some 170 MB.
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
    counts: Box<[u32]>,
    hasher: RandomState,
}

impl RecordCounts {
    pub(super) fn new() -> Self {
        Self {
            counts: vec![0; BUCKETS].into(),
            hasher: RandomState::new(),
        }
    }

    pub(super) fn get(&self, name: &str) -> u32 {
        self.counts[self.bucket(name)]
    }

    pub(super) fn add(&mut self, name: &str) {
        let bucket = self.bucket(name);
        self.counts[bucket] = self.counts[bucket].saturating_add(1);
    }

    pub(super) fn remove(&mut self, name: &str) {
        let bucket = self.bucket(name);
        self.counts[bucket] = self.counts[bucket].saturating_sub(1);
    }

    fn bucket(&self, name: &str) -> usize {
        usize::try_from(self.hasher.hash_one(name) % BUCKETS as u64).unwrap_or(0)
    }
}
