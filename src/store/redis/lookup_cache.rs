//! Answers of Redis, kept for a short time, and for longer while it is unreachable.

use std::collections::HashMap;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Mutex, MutexGuard};
use tokio::sync::OnceCell;
use tokio::time::Instant;

use crate::config;
use crate::host::Host;
use crate::metrics::Metrics;
use crate::store::{Claim, Located, StoreError, bare_of, is_full, within};

/// Time limit for a stanza that waits for a look-up.
const PATIENCE: Duration = Duration::from_millis(500);
/// Pause after a look-up that timed out, in which Redis is not asked: its silence must not delay
/// one stanza after the other.
const REST: Duration = Duration::from_secs(1);

/// Redis's answers for each JID. Answers never expire here, since an old answer is better than none
/// while Redis is unreachable; an old answer is only not fresh.
pub(super) struct LookupCache {
    lifetime: Duration,
    cache_missed: bool,
    metrics: Arc<Metrics>,
    begun: Instant,
    answers: moka::sync::Cache<String, Arc<CachedAnswer>>,
    /// Look-ups that are under way, by JID; all callers that look up the same JID wait for one.
    pending: Mutex<HashMap<String, PendingLookup>>,
    rests_until: Mutex<Instant>,
}

type PendingLookup = Arc<OnceCell<Located>>;

/// Answer for a full or bare JID; `home` only for a bare one.
#[derive(Clone)]
struct CachedAnswer {
    claims: Vec<Claim>,
    home: Option<Host>,
    at: Instant,
    /// Whether the answer counts only while there is no newer one.
    doubted: bool,
}

impl LookupCache {
    pub(super) fn new(cache: &config::Cache, metrics: Arc<Metrics>) -> Self {
        Self {
            lifetime: cache.jid_lifetime,
            cache_missed: cache.cache_missed,
            metrics,
            begun: Instant::now(),
            answers: moka::sync::Cache::new(cache.max_jids),
            pending: Mutex::default(),
            rests_until: Mutex::new(Instant::now()),
        }
    }

    /// The fresh answers for `jid`, if there are any.
    pub(super) fn fresh(&self, jid: &str) -> Option<Located> {
        self.assemble(jid, |answer| {
            !answer.doubted && answer.at.elapsed() < self.lifetime
        })
    }

    /// Returns the answer of `read`, of a look-up of the same JID that is under way, or the last
    /// one.
    pub(super) async fn lookup(
        &self,
        jid: &str,
        read: impl Future<Output = Result<Located, StoreError>>,
    ) -> Located {
        let pending = Arc::clone(self.pending().entry(jid.to_owned()).or_default());
        let located = pending.get_or_init(|| self.ask(jid, read)).await.clone();
        let mut all = self.pending();
        if all.get(jid).is_some_and(|it| Arc::ptr_eq(it, &pending)) {
            all.remove(jid);
        }
        located
    }

    /// Makes the next look-up ask Redis, if the answer is at least `age` old.
    pub(super) fn invalidate(&self, jid: &str, age: Duration) {
        let bare = is_full(jid).then(|| bare_of(jid));
        for jid in [jid].into_iter().chain(bare) {
            if let Some(answer) = self.answers.get(jid)
                && answer.at.elapsed() >= age
            {
                let doubted = CachedAnswer {
                    doubted: true,
                    ..(*answer).clone()
                };
                self.answers.insert(jid.to_owned(), Arc::new(doubted));
            }
        }
        if age.is_zero() {
            // An answer on its way may be older than the reason to ask.
            self.pending().remove(jid);
        }
    }

    async fn ask(
        &self,
        jid: &str,
        read: impl Future<Output = Result<Located, StoreError>>,
    ) -> Located {
        let asked_at = Instant::now();
        if asked_at < *self.rests_until() {
            return self.last_known(jid);
        }
        match within(PATIENCE, read).await {
            Ok(located) => {
                self.keep(jid, &located);
                located
            }
            Err(error) => {
                if asked_at.elapsed() >= PATIENCE {
                    *self.rests_until() = Instant::now() + REST;
                }
                let errors = &self.metrics.store_errors;
                errors.with_label_values(&["claims"]).inc();
                // The writer's warning is enough: a warning here would be logged with each stanza.
                tracing::debug!(%error, "a look-up failed; the last answer counts");
                self.last_known(jid)
            }
        }
    }

    fn keep(&self, jid: &str, located: &Located) {
        let keep = |jid: &str, claims: &[Claim], home: Option<&Host>| {
            let answer = CachedAnswer {
                claims: claims.to_vec(),
                home: home.cloned(),
                at: Instant::now(),
                doubted: claims.is_empty() && !self.cache_missed,
            };
            self.answers.insert(jid.to_owned(), Arc::new(answer));
        };
        if is_full(jid) {
            keep(jid, &located.full, None);
        }
        keep(bare_of(jid), &located.bare, located.home.as_ref());
    }

    fn last_known(&self, jid: &str) -> Located {
        let known = self.assemble(jid, |_| true).unwrap_or_default();
        let keys = [jid, bare_of(jid)].into_iter();
        let read_at = keys.filter_map(|jid| Some(self.answers.get(jid)?.at));
        Located {
            outdated: Some(read_at.min().unwrap_or(self.begun)),
            ..known
        }
    }

    /// Combines the answers for `jid` that `may` allows.
    fn assemble(&self, jid: &str, may: impl Fn(&CachedAnswer) -> bool) -> Option<Located> {
        let answer = |jid: &str| self.answers.get(jid).filter(|answer| may(answer));
        let mut located = Located::default();
        if is_full(jid) {
            located.full = answer(jid)?.claims.clone();
            if !located.full.is_empty() {
                return Some(located);
            }
        }
        let bare = answer(bare_of(jid))?;
        located.bare = bare.claims.clone();
        located.home = bare.home.clone();
        Some(located)
    }

    fn pending(&self) -> MutexGuard<'_, HashMap<String, PendingLookup>> {
        self.pending.lock()
    }

    fn rests_until(&self) -> MutexGuard<'_, Instant> {
        self.rests_until.lock()
    }
}

#[cfg(test)]
mod tests;
