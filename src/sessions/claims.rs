//! What this host claims, and which of it is still to be written.

use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

use tokio::time::Instant;

use super::tracker::SessionChange;
use crate::store::OwnClaim;

/// The claims are refreshed in so many parts, spread over the period.
pub(super) const REFRESH_PARTS: usize = 32;
/// So many JIDs are written in one go: small enough for a new claim not to
/// wait long behind a refresh.
const BATCH: usize = 500;

/// This host's claims, what must be written of them, and what was withdrawn
/// lately. Only the latest state of a JID is ever written.
pub(super) struct ClaimQueue {
    /// How long a claim of ours may be found in the store after its withdrawal.
    remember: Duration,
    hasher: RandomState,
    claims: Vec<HashMap<String, u64>>,
    news: HashMap<String, ClaimChange>,
    refresh: VecDeque<String>,
    withdrawn: HashMap<String, Instant>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum ClaimChange {
    Claimed,
    Withdrawn,
}

/// What to write next.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct ClaimBatch {
    pub(super) claims: Vec<OwnClaim>,
    pub(super) withdrawals: Vec<String>,
}

impl ClaimQueue {
    pub(super) fn new(remember: Duration) -> Self {
        Self {
            remember,
            hasher: RandomState::new(),
            claims: vec![HashMap::new(); REFRESH_PARTS],
            news: HashMap::new(),
            refresh: VecDeque::new(),
            withdrawn: HashMap::new(),
        }
    }

    pub(super) fn record(&mut self, change: &SessionChange, now: Instant) {
        match change {
            SessionChange::Online { jid, since } => {
                let jid = jid.to_string();
                self.withdrawn.remove(&jid);
                let part = self.part_of(&jid);
                self.claims[part].insert(jid.clone(), *since);
                self.news.insert(jid, ClaimChange::Claimed);
            }
            SessionChange::Offline { jid } => {
                let jid = jid.to_string();
                let part = self.part_of(&jid);
                self.claims[part].remove(&jid);
                self.withdrawn.insert(jid.clone(), now);
                self.news.insert(jid, ClaimChange::Withdrawn);
            }
        }
    }

    /// Whether we withdrew `jid`, lately enough for the store or the cache to
    /// tell still that we claim it.
    pub(super) fn has_withdrawn(&self, jid: &str) -> bool {
        self.withdrawn.contains_key(jid)
    }

    /// What is new goes before what is only refreshed.
    pub(super) fn next_batch(&mut self) -> Option<ClaimBatch> {
        let batch = if self.news.is_empty() {
            self.next_refresh()
        } else {
            self.next_news()
        };
        (batch != ClaimBatch::default()).then_some(batch)
    }

    /// Only what is new.
    pub(super) fn next_news(&mut self) -> ClaimBatch {
        let jids: Vec<String> = self.news.keys().take(BATCH).cloned().collect();
        let mut batch = ClaimBatch::default();
        for jid in jids {
            match (self.news.remove(&jid), self.since(&jid)) {
                (Some(ClaimChange::Claimed), Some(since)) => batch.claims.push(OwnClaim {
                    jid,
                    since,
                    fresh: true,
                }),
                _ => batch.withdrawals.push(jid),
            }
        }
        batch
    }

    fn next_refresh(&mut self) -> ClaimBatch {
        let mut batch = ClaimBatch::default();
        while batch.claims.len() < BATCH
            && let Some(jid) = self.refresh.pop_front()
        {
            // It may have been withdrawn since it was lined up.
            if let Some(since) = self.since(&jid) {
                batch.claims.push(OwnClaim {
                    jid,
                    since,
                    fresh: false,
                });
            }
        }
        batch
    }

    /// `batch` could not be written. What it told as new is told again, unless
    /// there is newer news; the rest is written when everything is.
    pub(super) fn requeue(&mut self, batch: ClaimBatch) {
        let claimed = batch.claims.into_iter().filter(|claim| claim.fresh);
        let news = claimed
            .map(|claim| (claim.jid, ClaimChange::Claimed))
            .chain(
                batch
                    .withdrawals
                    .into_iter()
                    .map(|jid| (jid, ClaimChange::Withdrawn)),
            );
        for (jid, news) in news {
            self.news.entry(jid).or_insert(news);
        }
    }

    /// Lines one part up to be refreshed, and forgets what was withdrawn long ago.
    pub(super) fn refresh_part(&mut self, part: usize, now: Instant) {
        self.refresh
            .extend(self.claims[part % REFRESH_PARTS].keys().cloned());
        self.forget_withdrawn(now);
    }

    /// Lines everything up to be written again, and forgets what was withdrawn long ago.
    pub(super) fn refresh_all(&mut self, now: Instant) {
        self.forget_withdrawn(now);
        self.refresh.clear();
        self.refresh
            .extend(self.claims.iter().flat_map(HashMap::keys).cloned());
    }

    fn forget_withdrawn(&mut self, now: Instant) {
        self.withdrawn
            .retain(|_, at| now.saturating_duration_since(*at) < self.remember);
    }

    fn since(&self, jid: &str) -> Option<u64> {
        self.claims[self.part_of(jid)].get(jid).copied()
    }

    fn part_of(&self, jid: &str) -> usize {
        // The remainder is less than REFRESH_PARTS, so nothing is lost.
        (self.hasher.hash_one(jid) % REFRESH_PARTS as u64) as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use jid::Jid;

    const REMEMBER: Duration = Duration::from_secs(120);

    fn online(jid: &str, since: u64) -> SessionChange {
        SessionChange::Online {
            jid: Jid::new(jid).unwrap(),
            since,
        }
    }

    fn offline(jid: &str) -> SessionChange {
        SessionChange::Offline {
            jid: Jid::new(jid).unwrap(),
        }
    }

    fn claim(jid: &str, since: u64, fresh: bool) -> OwnClaim {
        OwnClaim {
            jid: jid.to_owned(),
            since,
            fresh,
        }
    }

    fn claims(changes: &[SessionChange]) -> ClaimQueue {
        let mut claims = ClaimQueue::new(REMEMBER);
        for change in changes {
            claims.record(change, Instant::now());
        }
        claims
    }

    #[test]
    fn only_the_latest_state_is_written() {
        let mut claims = claims(&[online("a@x", 1), offline("a@x"), online("a@x", 2)]);
        let batch = claims.next_batch().unwrap();
        assert_eq!(batch.claims, [claim("a@x", 2, true)]);
        assert_eq!(batch.withdrawals, [""; 0]);
        assert_eq!(claims.next_batch(), None);

        claims.record(&online("a@x", 3), Instant::now());
        claims.record(&offline("a@x"), Instant::now());
        let batch = claims.next_batch().unwrap();
        assert_eq!(batch.claims, []);
        assert_eq!(batch.withdrawals, ["a@x"]);
    }

    #[test]
    fn what_could_not_be_written_is_written_later_unless_there_is_newer() {
        let mut claims = claims(&[online("a@x", 1), online("b@x", 1)]);
        let batch = claims.next_batch().unwrap();
        claims.record(&offline("a@x"), Instant::now());
        claims.requeue(batch);
        let batch = claims.next_batch().unwrap();
        assert_eq!(batch.claims, [claim("b@x", 1, true)]);
        assert_eq!(batch.withdrawals, ["a@x"]);
    }

    #[test]
    fn all_parts_together_refresh_everything_once() {
        let jids: Vec<String> = (0..1000).map(|n| format!("u{n}@x")).collect();
        let changes: Vec<SessionChange> = jids.iter().map(|jid| online(jid, 7)).collect();
        let mut claims = claims(&changes);
        while claims.next_batch().is_some() {}

        for part in 0..REFRESH_PARTS {
            claims.refresh_part(part, Instant::now());
        }
        let mut refreshed = Vec::new();
        while let Some(batch) = claims.next_batch() {
            assert!(batch.claims.len() <= BATCH);
            assert!(batch.claims.iter().all(|claim| !claim.fresh));
            refreshed.extend(batch.claims.into_iter().map(|claim| claim.jid));
        }
        refreshed.sort();
        let mut expected = jids;
        expected.sort();
        assert_eq!(refreshed, expected);
    }

    #[test]
    fn news_go_before_refreshes_and_what_is_withdrawn_is_not_refreshed() {
        let mut claims = claims(&[online("a@x", 1), online("b@x", 1)]);
        claims.next_batch();
        claims.refresh_all(Instant::now());
        claims.record(&offline("a@x"), Instant::now());
        assert_eq!(claims.next_batch().unwrap().withdrawals, ["a@x"]);
        let batch = claims.next_batch().unwrap();
        assert_eq!(batch.claims, [claim("b@x", 1, false)]);
    }

    #[test]
    fn withdrawals_are_remembered_for_as_long_as_the_store_may_tell_otherwise() {
        let now = Instant::now();
        let mut claims = ClaimQueue::new(REMEMBER);
        claims.record(&offline("a@x"), now);
        claims.record(&offline("b@x"), now);
        claims.record(&online("b@x", 1), now);
        assert!(claims.has_withdrawn("a@x"));
        assert!(!claims.has_withdrawn("b@x"));
        claims.refresh_part(0, now + REMEMBER);
        assert!(!claims.has_withdrawn("a@x"));
    }
}
