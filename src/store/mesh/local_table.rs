//! What this node claims and tells about itself.

use std::time::Duration;

use tokio::time::Instant;

use super::entry::{BUCKETS, Entry, Standing};
use super::log::ChangeLog;
use super::table::{Full, ReplicaTable};
use crate::store::Announcement;

/// As many former claims of bare JIDs are kept in one part of the table,
/// a million in all: from them follows who is whose home.
const FORMERS: usize = 256;

/// A claim's age is counted in tenths of a second.
const TENTH: Duration = Duration::from_millis(100);

/// This node's part of the table.
#[derive(Debug)]
pub(super) struct LocalTable {
    table: ReplicaTable,
    /// When each entry was refreshed, in tenths of a second since `begun`; in
    /// the order of the entries of each part.
    refreshed: Box<[Vec<u32>]>,
    begun: Instant,
    lifetime: Duration,
    announcement: Option<(Announcement, Instant)>,
    log: ChangeLog,
}

impl LocalTable {
    /// Empty; what is not refreshed for `lifetime` goes.
    pub(super) fn new(lifetime: Duration) -> Self {
        Self {
            table: ReplicaTable::default(),
            refreshed: (0..BUCKETS).map(|_| Vec::new()).collect(),
            begun: Instant::now(),
            lifetime,
            announcement: None,
            log: ChangeLog::default(),
        }
    }

    pub(super) fn table(&self) -> &ReplicaTable {
        &self.table
    }

    pub(super) fn log(&self) -> &ChangeLog {
        &self.log
    }

    pub(super) fn log_mut(&mut self) -> &mut ChangeLog {
        &mut self.log
    }

    /// `jid` is online here since `since`, or still is.
    pub(super) fn claim(&mut self, jid: &str, since: u64, now: Instant) -> Result<(), Full> {
        // As it will be read again.
        let standing = Standing::Online(since.max(1));
        if self.set(jid, standing, now)? {
            self.log.push(jid);
        }
        Ok(())
    }

    /// `jid` is not online here any more. A bare one is remembered: from now
    /// on as it is, or with `else_since` if it is not known.
    pub(super) fn withdraw(&mut self, jid: &str, else_since: Option<u64>, now: Instant) {
        let since = match self.table.get(jid) {
            Standing::Online(since) | Standing::Former(since) => Some(since),
            Standing::Nowhere => else_since,
        };
        let standing = match since {
            Some(since) if is_bare(jid) => Standing::Former(since),
            _ => Standing::Nowhere,
        };
        // What is full has no room for one more who is gone.
        let _ = self.set(jid, standing, now);
        // Told even if it was not known here: peers may know it from the
        // process before this one.
        self.log.push(jid);
        if let Standing::Former(_) = standing {
            self.forget_oldest_former(jid, now);
        }
    }

    /// Withdraws what was not refreshed in time, of part `index`.
    pub(super) fn expire(&mut self, index: usize, now: Instant) {
        let now_in_tenths = self.tenths(now);
        let allowed = self.lifetime.div_duration_f64(TENTH).ceil() as u32;
        let entries = self.table.bucket(index).entries();
        let dead: Vec<String> = entries
            .zip(&self.refreshed[index])
            .filter(|(entry, refreshed)| {
                matches!(entry.standing, Standing::Online(_))
                    && now_in_tenths.saturating_sub(**refreshed) > allowed
            })
            .map(|(entry, _)| entry.jid.to_owned())
            .collect();
        for jid in dead {
            self.withdraw(&jid, None, now);
        }
    }

    /// What this node tells about itself, if it was told lately.
    pub(super) fn announcement(&self) -> Option<&Announcement> {
        self.announcement
            .as_ref()
            .map(|(announcement, _)| announcement)
    }

    /// Whether that is something else than before.
    pub(super) fn announce(&mut self, announcement: Option<&Announcement>, now: Instant) -> bool {
        let changed = self.announcement() != announcement;
        self.announcement = announcement.map(|announcement| (announcement.clone(), now));
        changed
    }

    /// Whether the announcement went because it was not refreshed in time.
    pub(super) fn expire_announcement(&mut self, now: Instant) -> bool {
        let expired = self
            .announcement
            .as_ref()
            .is_some_and(|(_, at)| now.saturating_duration_since(*at) > self.lifetime);
        if expired {
            self.announcement = None;
        }
        expired
    }

    /// Whether the entry changed, and was not only refreshed.
    fn set(&mut self, jid: &str, standing: Standing, now: Instant) -> Result<bool, Full> {
        let spot = self.table.find(jid);
        if spot.standing() != standing {
            self.table.set_at(spot, jid, standing)?;
        }
        let at = self.tenths(now);
        let refreshed = &mut self.refreshed[spot.bucket];
        match spot.place {
            Some(place) if standing == Standing::Nowhere => {
                refreshed.remove(place.index);
            }
            Some(place) => refreshed[place.index] = at,
            None if standing == Standing::Nowhere => {}
            None => refreshed.push(at),
        }
        Ok(spot.standing() != standing)
    }

    /// Makes room among the former ones of `jid`'s part.
    fn forget_oldest_former(&mut self, jid: &str, now: Instant) {
        let bucket = self.table.bucket(self.table.find(jid).bucket);
        let formers = || {
            let is_former = |entry: &Entry<'_>| matches!(entry.standing, Standing::Former(_));
            bucket.entries().filter(is_former)
        };
        if formers().count() <= FORMERS {
            return;
        }
        let oldest = formers().min_by_key(|entry| entry.standing.since());
        if let Some(oldest) = oldest.map(|entry| entry.jid.to_owned()) {
            let _ = self.set(&oldest, Standing::Nowhere, now);
            self.log.push(&oldest);
        }
    }

    fn tenths(&self, now: Instant) -> u32 {
        let since = now.saturating_duration_since(self.begun);
        u32::try_from(since.as_millis() / TENTH.as_millis()).unwrap_or(u32::MAX)
    }
}

/// Whether it has no resource.
pub(super) fn is_bare(jid: &str) -> bool {
    !jid.contains('/')
}

#[cfg(test)]
mod tests {
    use super::super::entry::bucket_of;
    use super::*;

    const LIFETIME: Duration = Duration::from_secs(120);

    fn expire_all(own: &mut LocalTable, now: Instant) {
        for index in 0..BUCKETS {
            own.expire(index, now);
        }
    }

    #[test]
    fn what_is_refreshed_stays_and_nothing_is_told_of_it() {
        let mut own = LocalTable::new(LIFETIME);
        let now = Instant::now();
        own.claim("a@b/1", 5, now).unwrap();
        own.claim("c@d", 6, now).unwrap();
        assert_eq!(own.log().head(), 2);
        own.claim("a@b/1", 5, now + LIFETIME).unwrap();
        assert_eq!(own.log().head(), 2, "a refresh is no change");
        expire_all(&mut own, now + LIFETIME);
        assert_eq!(own.table().get("c@d"), Standing::Online(6), "not early");
        expire_all(&mut own, now + LIFETIME + 2 * TENTH);
        assert_eq!(own.table().get("a@b/1"), Standing::Online(5));
        assert_eq!(own.table().get("c@d"), Standing::Former(6));
        let told: Vec<&str> = own.log().since(2).unwrap().collect();
        assert_eq!(told, ["c@d"]);
    }

    #[test]
    fn only_bare_ones_are_remembered() {
        let mut own = LocalTable::new(LIFETIME);
        let now = Instant::now();
        for jid in ["a@b/1", "a@b"] {
            own.claim(jid, 5, now).unwrap();
            own.withdraw(jid, None, now);
        }
        assert_eq!(own.table().get("a@b/1"), Standing::Nowhere);
        assert_eq!(own.table().get("a@b"), Standing::Former(5));
        own.withdraw("a@b", None, now);
        assert_eq!(own.table().get("a@b"), Standing::Former(5));
        own.withdraw("x@y", Some(3), now);
        own.withdraw("x@y/z", Some(3), now);
        assert_eq!(own.table().get("x@y"), Standing::Former(3));
        assert_eq!(own.table().get("x@y/z"), Standing::Nowhere);
        assert_eq!(own.table().online(), 0);
    }

    #[test]
    fn the_oldest_former_claims_make_room() {
        let mut own = LocalTable::new(LIFETIME);
        let now = Instant::now();
        let part = bucket_of("user0@b");
        let names = (0..).map(|n| format!("user{n}@b"));
        let names: Vec<String> = names
            .filter(|jid| bucket_of(jid) == part)
            .take(FORMERS + 10)
            .collect();
        for (n, jid) in names.iter().enumerate() {
            own.withdraw(jid, Some(n as u64 + 1), now);
        }
        assert_eq!(own.table().bucket(part).entries().count(), FORMERS);
        assert_eq!(own.refreshed[part].len(), FORMERS);
        for (n, jid) in names.iter().enumerate() {
            let kept = own.table().get(jid) != Standing::Nowhere;
            assert_eq!(kept, n >= 10, "{n}");
        }
    }
}
