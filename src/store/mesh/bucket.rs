//! A part of a table: entries packed one after the other.
//!
//! A look-up goes over all of them, some hundred in a table of a million:
//! that takes less than a microsecond, and the memory of a hash table with a
//! string a key would be three times as much.

use super::entry::{Digest, Entry, Raw, Standing};

/// What a bucket may hold, in bytes: it must go into one message.
pub(super) const BUCKET_LIMIT: usize = 1 << 20;

/// Some entries, at most one per JID.
#[derive(Debug, Default)]
pub(super) struct Bucket {
    bytes: Vec<u8>,
    digest: Digest,
}

/// Where an entry stands in its bucket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    /// The first byte.
    at: usize,
    /// How many entries are before it.
    pub(super) index: usize,
    pub(super) standing: Standing,
}

impl Bucket {
    /// The entries, as they are written.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    pub(super) fn digest(&self) -> Digest {
        self.digest
    }

    pub(super) fn entries(&self) -> impl Iterator<Item = Entry<'_>> {
        Entry::all_in(&self.bytes)
    }

    pub(super) fn find(&self, jid: &str) -> Option<Place> {
        let jid = jid.as_bytes();
        let mut at = 0;
        for (index, raw) in Raw::all_in(&self.bytes).enumerate() {
            if raw.jid == jid {
                let standing = raw.standing();
                return Some(Place {
                    at,
                    index,
                    standing,
                });
            }
            at += super::entry::PREFIX + raw.jid.len();
        }
        None
    }

    /// Whether one more entry would make it too large.
    pub(super) fn is_full_for(&self, entry: Entry<'_>) -> bool {
        self.bytes.len() + entry.size() > BUCKET_LIMIT
    }

    /// Appends an entry whose JID has none yet.
    pub(super) fn append(&mut self, entry: Entry<'_>) {
        let more = entry.size();
        if self.bytes.capacity() - self.bytes.len() < more {
            // Doubling would waste a third of the memory of all tables.
            self.bytes.reserve_exact(more + self.bytes.len() / 8);
        }
        entry.put(&mut self.bytes);
        self.digest += entry.digest();
    }

    /// Gives the entry at `place`, which is of `jid`, another standing.
    pub(super) fn change(&mut self, place: Place, jid: &str, standing: Standing) {
        self.digest -= Entry {
            jid,
            standing: place.standing,
        }
        .digest();
        let entry = Entry { jid, standing };
        self.digest += entry.digest();
        let bits = place.at + super::entry::BITS_AT;
        self.bytes[bits..bits + 8].copy_from_slice(&standing.to_bits().to_be_bytes());
    }

    /// Takes the entry at `place`, which is of `jid`, away.
    pub(super) fn remove(&mut self, place: Place, jid: &str) {
        let entry = Entry {
            jid,
            standing: place.standing,
        };
        self.digest -= entry.digest();
        self.bytes.drain(place.at..place.at + entry.size());
        // What many who left took should not be kept for ever.
        if self.bytes.len() < self.bytes.capacity() / 2 {
            self.bytes.shrink_to_fit();
        }
    }

    /// Keeps only what `keep` says, as it says. Returns what was there before.
    pub(super) fn retain(&mut self, mut keep: impl FnMut(Entry<'_>) -> Standing) -> Self {
        let before = std::mem::take(self);
        for entry in before.entries() {
            let standing = keep(entry);
            if standing != Standing::Nowhere {
                self.append(Entry { standing, ..entry });
            }
        }
        before
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    fn set(bucket: &mut Bucket, jid: &str, standing: Standing) {
        match (bucket.find(jid), standing) {
            (None, Standing::Nowhere) => {}
            (None, _) => bucket.append(Entry { jid, standing }),
            (Some(place), Standing::Nowhere) => bucket.remove(place, jid),
            (Some(place), _) => bucket.change(place, jid, standing),
        }
    }

    proptest! {
        #[test]
        fn is_a_map_and_its_digest_does_not_depend_on_the_way_there(
            steps in vec(("[ab]{1,3}", 0..4_u64), 0..60),
        ) {
            let mut bucket = Bucket::default();
            let mut map = BTreeMap::new();
            for (jid, since) in &steps {
                if *since == 0 {
                    set(&mut bucket, jid, Standing::Nowhere);
                    map.remove(jid);
                } else {
                    set(&mut bucket, jid, Standing::Online(*since));
                    map.insert(jid, *since);
                }
            }
            let mut direct = Bucket::default();
            for (jid, since) in &map {
                direct.append(Entry { jid, standing: Standing::Online(*since) });
                let place = bucket.find(jid).unwrap();
                prop_assert_eq!(place.standing, Standing::Online(*since));
                let at_index = bucket.entries().nth(place.index).unwrap();
                prop_assert_eq!(&at_index.jid, jid);
            }
            prop_assert_eq!(bucket.entries().count(), map.len());
            prop_assert_eq!(bucket.digest(), direct.digest());
        }
    }

    #[test]
    fn what_was_removed_frees_its_memory() {
        let mut bucket = Bucket::default();
        for n in 0..1000 {
            set(&mut bucket, &format!("user{n}@a"), Standing::Online(1));
        }
        for n in 1..1000 {
            set(&mut bucket, &format!("user{n}@a"), Standing::Nowhere);
        }
        assert!(bucket.bytes.capacity() < 100, "{}", bucket.bytes.capacity());
        bucket.retain(|_| Standing::Nowhere);
        assert_eq!(bucket.digest(), Digest::default());
    }
}
