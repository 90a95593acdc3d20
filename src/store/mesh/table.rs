//! All that one node claims: its own, or the copy of a peer's.

use super::bucket::{BUCKET_LIMIT, Bucket, Place};
use super::entry::{BUCKETS, Digest, Entry, Standing, bucket_of};
use crate::replication::InvalidMessage;

/// JIDs and how they stand at one node, in [`BUCKETS`] parts that are
/// compared one by one.
#[derive(Debug)]
pub(super) struct ReplicaTable {
    buckets: Box<[Bucket]>,
    digest: Digest,
    online: usize,
    former: usize,
}

/// Where a JID stands, or would.
#[derive(Debug, Clone, Copy)]
pub(super) struct Spot {
    pub(super) bucket: usize,
    pub(super) place: Option<Place>,
}

impl Spot {
    pub(super) fn standing(self) -> Standing {
        self.place.map_or(Standing::Nowhere, |place| place.standing)
    }
}

/// The entry would make its part of the table too large for a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Full;

impl Default for ReplicaTable {
    fn default() -> Self {
        Self {
            buckets: (0..BUCKETS).map(|_| Bucket::default()).collect(),
            digest: Digest::default(),
            online: 0,
            former: 0,
        }
    }
}

impl ReplicaTable {
    pub(super) fn get(&self, jid: &str) -> Standing {
        self.find(jid).standing()
    }

    pub(super) fn find(&self, jid: &str) -> Spot {
        let bucket = bucket_of(jid);
        Spot {
            bucket,
            place: self.buckets[bucket].find(jid),
        }
    }

    /// JIDs that are online.
    pub(super) fn online(&self) -> usize {
        self.online
    }

    pub(super) fn is_empty(&self) -> bool {
        self.online + self.former == 0
    }

    /// Of everything in it.
    pub(super) fn digest(&self) -> Digest {
        self.digest
    }

    /// Of each part, in order.
    pub(super) fn digests(&self) -> impl Iterator<Item = Digest> {
        self.buckets.iter().map(Bucket::digest)
    }

    pub(super) fn bucket(&self, index: usize) -> &Bucket {
        &self.buckets[index]
    }

    /// Says how `jid` stands from now on; returns how it stood.
    pub(super) fn set(&mut self, jid: &str, standing: Standing) -> Result<Standing, Full> {
        let spot = self.find(jid);
        self.set_at(spot, jid, standing)?;
        Ok(spot.standing())
    }

    /// The same, if it was looked up already.
    pub(super) fn set_at(&mut self, spot: Spot, jid: &str, standing: Standing) -> Result<(), Full> {
        let entry = Entry { jid, standing };
        let bucket = &mut self.buckets[spot.bucket];
        self.digest -= bucket.digest();
        let done = match (spot.place, standing) {
            (None, Standing::Nowhere) => Ok(()),
            (None, _) if bucket.is_full_for(entry) => Err(Full),
            (None, _) => {
                bucket.append(entry);
                Ok(())
            }
            (Some(place), Standing::Nowhere) => {
                bucket.remove(place, jid);
                Ok(())
            }
            (Some(place), _) => {
                bucket.change(place, jid, standing);
                Ok(())
            }
        };
        self.digest += bucket.digest();
        if done.is_ok() {
            self.uncount(spot.standing());
            self.count(standing);
        }
        done
    }

    /// Makes part `index` be exactly `entries`. Whether that changed anything.
    pub(super) fn replace(
        &mut self,
        index: usize,
        entries: &[Entry<'_>],
    ) -> Result<bool, InvalidMessage> {
        let Some(old) = self.buckets.get(index) else {
            return Err(InvalidMessage(format!("names part {index} of {BUCKETS}")));
        };
        let mut new = Bucket::default();
        for entry in entries {
            if entry.bucket() != index || entry.standing == Standing::Nowhere {
                let what = "has an entry that does not belong into its part";
                return Err(InvalidMessage(what.to_owned()));
            }
            if new.is_full_for(*entry) {
                return Err(InvalidMessage(format!(
                    "has a part of more than {BUCKET_LIMIT} bytes"
                )));
            }
            new.append(*entry);
        }
        let changed = old.digest() != new.digest();
        let old = std::mem::replace(&mut self.buckets[index], new);
        self.recount(index, &old);
        Ok(changed)
    }

    /// Keeps of part `index` only what `keep` says, as it says.
    pub(super) fn retain(&mut self, index: usize, keep: impl FnMut(Entry<'_>) -> Standing) {
        let old = self.buckets[index].retain(keep);
        self.recount(index, &old);
    }

    fn recount(&mut self, index: usize, old: &Bucket) {
        self.digest -= old.digest();
        self.digest += self.buckets[index].digest();
        for entry in old.entries() {
            self.uncount(entry.standing);
        }
        let (mut online, mut former) = (0, 0);
        for entry in self.buckets[index].entries() {
            match entry.standing {
                Standing::Online(_) => online += 1,
                Standing::Former(_) => former += 1,
                Standing::Nowhere => {}
            }
        }
        self.online += online;
        self.former += former;
    }

    fn count(&mut self, standing: Standing) {
        match standing {
            Standing::Nowhere => {}
            Standing::Online(_) => self.online += 1,
            Standing::Former(_) => self.former += 1,
        }
    }

    fn uncount(&mut self, standing: Standing) {
        match standing {
            Standing::Nowhere => {}
            Standing::Online(_) => self.online -= 1,
            Standing::Former(_) => self.former -= 1,
        }
    }
}
