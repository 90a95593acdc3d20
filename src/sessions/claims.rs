//! The claims of this host, and those that are still to be written.

use std::collections::{HashMap, HashSet, VecDeque};
use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

use tokio::time::Instant;

use super::tracker::SessionChange;
use crate::store::OwnClaim;

/// Parts in which the claims are refreshed, spread over the period.
pub(super) const REFRESH_PARTS: usize = 32;
/// Upper bound of the JIDs in one write: few enough for a new claim not to wait long behind a
/// refresh.
const BATCH: usize = 500;

/// This host's claims, the changes to write, the refreshes that are due and the recent
/// withdrawals. Only the latest state of a JID is ever written.
pub(super) struct ClaimQueue {
    /// Time for which a claim of this host may be found in the store after its withdrawal.
    remember: Duration,
    hasher: RandomState,
    claims: Vec<HashMap<String, u64>>,
    news: HashMap<String, ClaimChange>,
    refresh: VecDeque<String>,
    withdrawn: HashMap<String, Instant>,
    /// JIDs claimed here whose claim the store refused.
    refused: HashSet<String>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum ClaimChange {
    Claimed,
    Withdrawn,
}

/// Claims and withdrawals of the next write.
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
            refused: HashSet::new(),
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
                self.refused.remove(&jid);
                self.withdrawn.insert(jid.clone(), now);
                self.news.insert(jid, ClaimChange::Withdrawn);
            }
        }
    }

    /// Whether this host withdrew `jid`, so recently that the store or the cache
    /// may still have its claim.
    pub(super) fn has_withdrawn(&self, jid: &str) -> bool {
        self.withdrawn.contains_key(jid)
    }

    /// Changes and refreshes share a batch, so that neither waits for all of the other.
    pub(super) fn next_batch(&mut self) -> Option<ClaimBatch> {
        let refreshes = self.refresh.len().min(BATCH / 2);
        let mut batch = self.next_changes(BATCH - refreshes);
        while batch.claims.len() + batch.withdrawals.len() < BATCH
            && let Some(jid) = self.refresh.pop_front()
        {
            // The JID may have been withdrawn since it was queued.
            if let Some(since) = self.since(&jid) {
                let fresh = false;
                batch.claims.push(OwnClaim { jid, since, fresh });
            }
        }
        (batch != ClaimBatch::default()).then_some(batch)
    }

    /// Returns the next batch of changes, without refreshes.
    pub(super) fn next_news(&mut self) -> Option<ClaimBatch> {
        let batch = self.next_changes(BATCH);
        (batch != ClaimBatch::default()).then_some(batch)
    }

    fn next_changes(&mut self, limit: usize) -> ClaimBatch {
        let jids: Vec<String> = self.news.keys().take(limit).cloned().collect();
        let mut batch = ClaimBatch::default();
        for jid in jids {
            match (self.news.remove(&jid), self.since(&jid)) {
                (Some(ClaimChange::Claimed), Some(since)) => {
                    let fresh = true;
                    batch.claims.push(OwnClaim { jid, since, fresh });
                }
                _ => batch.withdrawals.push(jid),
            }
        }
        batch
    }

    /// Notes that the store refused the claim on `jid`, which is tried again with the next refresh
    /// only. Returns whether that is new.
    pub(super) fn set_aside(&mut self, jid: &str) -> bool {
        self.since(jid).is_some() && self.refused.insert(jid.to_owned())
    }

    /// Lines the changes of `batch`, which could not be written, up again, unless
    /// there are newer ones; the rest is written when everything is.
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

    /// Lines one part up to be refreshed.
    pub(super) fn refresh_part(&mut self, part: usize) {
        self.refresh
            .extend(self.claims[part % REFRESH_PARTS].keys().cloned());
    }

    /// Lines everything up to be written again.
    pub(super) fn refresh_all(&mut self) {
        self.refresh.clear();
        self.refresh
            .extend(self.claims.iter().flat_map(HashMap::keys).cloned());
    }

    /// Forgets withdrawals that the store can't contradict any more.
    pub(super) fn forget_withdrawn(&mut self, now: Instant) {
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
mod tests;
