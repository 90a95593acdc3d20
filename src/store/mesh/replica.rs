//! The copy of another process's table.

use std::time::Duration;

use tokio::time::Instant;

use super::entry::{BUCKETS, Digest, Entry, Standing};
use super::local_table::is_bare;
use super::table::ReplicaTable;
use crate::replication::{InvalidMessage, Node};
use crate::store::Announcement;

/// What one process of one node has told.
#[derive(Debug)]
pub(super) struct Replica {
    pub(super) node: Node,
    /// Random, new at each start of the process.
    pub(super) epoch: u64,
    /// What it told about itself; `None` when it has retired, or is gone.
    pub(super) announcement: Option<Announcement>,
    table: ReplicaTable,
    life: Life,
    /// Once it was seen to be equal to the original over this connection.
    pub(super) in_step: bool,
}

/// Whether a replica's original can be heard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Life {
    /// A connection stands.
    Followed,
    /// None does, since then.
    LostAt(Instant),
    /// For too long: only who is whose home still counts, and of the parts
    /// before this one nothing else is left.
    Over(usize),
}

impl Replica {
    /// Empty, and not heard yet.
    pub(super) fn new(node: Node, epoch: u64) -> Self {
        Self {
            node,
            epoch,
            announcement: None,
            table: ReplicaTable::default(),
            life: Life::Over(0),
            in_step: false,
        }
    }

    pub(super) fn is_followed(&self) -> bool {
        self.life == Life::Followed
    }

    pub(super) fn is_over(&self) -> bool {
        matches!(self.life, Life::Over(_))
    }

    /// Whether nothing of it is worth keeping.
    pub(super) fn is_spent(&self) -> bool {
        matches!(self.life, Life::Over(BUCKETS)) && self.table.is_empty()
    }

    /// How `jid` stands there, as far as that still counts.
    pub(super) fn standing(&self, jid: &str) -> Standing {
        let standing = self.table.get(jid);
        if self.is_over() {
            outlived(jid, standing)
        } else {
            standing
        }
    }

    pub(super) fn online(&self) -> usize {
        if self.is_over() {
            0
        } else {
            self.table.online()
        }
    }

    pub(super) fn digest(&self) -> Digest {
        self.table.digest()
    }

    pub(super) fn digests(&self) -> Vec<Digest> {
        self.table.digests().collect()
    }

    /// The entries of part `index`, as they are written.
    pub(super) fn part(&self, index: usize) -> &[u8] {
        self.table.bucket(index).bytes()
    }

    /// A connection stands again.
    pub(super) fn found(&mut self) {
        self.life = Life::Followed;
        self.in_step = false;
    }

    /// The connection is gone.
    pub(super) fn lost(&mut self, now: Instant) {
        if self.is_followed() {
            self.life = Life::LostAt(now);
        }
    }

    /// It will never be heard again: another process has its place.
    pub(super) fn superseded(&mut self, now: Instant) {
        self.lost(now);
        self.announcement = None;
    }

    /// What is online there counts for `left` more, unless it does for longer.
    pub(super) fn count_for(&mut self, left: Duration, lifetime: Duration, now: Instant) {
        if self.left(lifetime, now) < left {
            self.life = Life::LostAt((now + left).checked_sub(lifetime).unwrap_or(now));
        }
    }

    /// For how much longer what is online there counts.
    pub(super) fn left(&self, lifetime: Duration, now: Instant) -> Duration {
        match self.life {
            Life::Followed => lifetime,
            Life::LostAt(at) => (at + lifetime).saturating_duration_since(now),
            Life::Over(_) => Duration::ZERO,
        }
    }

    /// How `jid` stands there from now on, says its original.
    pub(super) fn set(&mut self, entry: Entry<'_>) -> Result<(), InvalidMessage> {
        let full = |_| InvalidMessage("makes a part of the table too large".to_owned());
        self.table
            .set(entry.jid, entry.standing)
            .map(drop)
            .map_err(full)
    }

    /// Makes part `index` be exactly `entries`. Whether that changed anything.
    pub(super) fn replace(
        &mut self,
        index: usize,
        entries: &[Entry<'_>],
    ) -> Result<bool, InvalidMessage> {
        self.table.replace(index, entries)
    }

    /// Drops `jid`: another process of the node knows better. Returns how it stood.
    pub(super) fn forget(&mut self, jid: &str) -> Standing {
        let standing = self.standing(jid);
        // Removing always fits.
        let _ = self.table.set(jid, Standing::Nowhere);
        standing
    }

    /// Takes out of part `index` whom it had and has no more: bare JIDs, and the
    /// times of their last claims.
    pub(super) fn take_homes(&mut self, index: usize) -> Vec<(String, u64)> {
        let had = |entry: Entry<'_>| match self.standing(entry.jid) {
            Standing::Former(since) => Some((entry.jid.to_owned(), since)),
            _ => None,
        };
        let homes: Vec<_> = Entry::all_in(self.part(index)).filter_map(had).collect();
        for (jid, _) in &homes {
            self.forget(jid);
        }
        homes
    }

    /// What is due after too long a loss, in small steps. Whether something
    /// came to its end that others may have relied on.
    pub(super) fn expire(&mut self, lifetime: Duration, now: Instant, steps: usize) -> bool {
        match self.life {
            Life::LostAt(at) if now.saturating_duration_since(at) > lifetime => {
                self.life = Life::Over(0);
                self.announcement = None;
                true
            }
            Life::Over(begin) if begin < BUCKETS => {
                let end = BUCKETS.min(begin + steps);
                for index in begin..end {
                    self.table
                        .retain(index, |entry| outlived(entry.jid, entry.standing));
                }
                self.life = Life::Over(end);
                false
            }
            _ => false,
        }
    }
}

/// How `jid` stands when what was online no longer counts.
pub(super) fn outlived(jid: &str, standing: Standing) -> Standing {
    match standing {
        Standing::Online(since) if is_bare(jid) => Standing::Former(since),
        Standing::Online(_) => Standing::Nowhere,
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::Host;

    const LIFETIME: Duration = Duration::from_secs(120);

    fn replica() -> Replica {
        let node = Node {
            host: Host::new("dc1.test").unwrap(),
            name: "a".to_owned(),
        };
        let mut replica = Replica::new(node, 1);
        replica.found();
        for jid in ["a@b", "a@b/1"] {
            let standing = Standing::Online(5);
            replica.set(Entry { jid, standing }).unwrap();
        }
        replica
    }

    #[test]
    fn counts_while_it_is_followed_and_its_lifetime_after() {
        let begun = Instant::now();
        let mut replica = replica();
        let later = begun + 10 * LIFETIME;
        assert!(!replica.expire(LIFETIME, later, BUCKETS));
        replica.lost(later);
        assert_eq!(replica.left(LIFETIME, later + LIFETIME / 2), LIFETIME / 2);
        assert!(!replica.expire(LIFETIME, later + LIFETIME, BUCKETS));
        assert_eq!(replica.standing("a@b/1"), Standing::Online(5));
        assert_eq!(replica.online(), 2);
        let end = later + LIFETIME + Duration::from_millis(1);
        assert!(replica.expire(LIFETIME, end, BUCKETS));
        // At once, before anything was tidied up.
        assert_eq!(replica.standing("a@b/1"), Standing::Nowhere);
        assert_eq!(replica.standing("a@b"), Standing::Former(5));
        assert_eq!(replica.online(), 0);
        while !matches!(replica.life, Life::Over(BUCKETS)) {
            assert!(!replica.expire(LIFETIME, end, 100));
        }
        assert_eq!(replica.table.get("a@b/1"), Standing::Nowhere);
        assert_eq!(replica.table.get("a@b"), Standing::Former(5));
        assert!(!replica.is_spent());
        assert_eq!(replica.forget("a@b"), Standing::Former(5));
        assert!(replica.is_spent());
    }

    #[test]
    fn what_counts_longer_already_is_not_shortened() {
        let now = Instant::now() + LIFETIME;
        let mut replica = replica();
        replica.lost(now);
        replica.count_for(LIFETIME / 4, LIFETIME, now);
        assert_eq!(replica.left(LIFETIME, now), LIFETIME);
        let later = now + LIFETIME - LIFETIME / 8;
        replica.count_for(LIFETIME / 4, LIFETIME, later);
        assert_eq!(replica.left(LIFETIME, later), LIFETIME / 4);
    }
}
