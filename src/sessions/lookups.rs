//! Look-ups in the store, through the cache; they never fail and never take long.

use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::lookup_cache::{CachedAnswer, LookupCache};
use crate::config;
use crate::host::Host;
use crate::metrics::Metrics;
use crate::store::{Claim, Store, StoreError, within};

/// So long may a stanza be held up by a look-up.
const PATIENCE: Duration = Duration::from_millis(500);
/// After a look-up that took too long, the store isn't asked for so long: its
/// silence must not hold up one stanza after the other.
const REST: Duration = Duration::from_secs(1);

/// An answer this young is not doubted: else each of many stanzas from one
/// sender would cost a round trip to the store.
const MOMENT: Duration = Duration::from_millis(50);

pub(super) struct Lookups {
    store: Arc<dyn Store>,
    metrics: Arc<Metrics>,
    lifetime: Duration,
    cache_missed: bool,
    claims: Arc<LookupCache<Vec<Claim>>>,
    homes: Arc<LookupCache<Option<Host>>>,
    /// Where stanzas of those came from whom the table didn't know.
    learned: Arc<LookupCache<Host>>,
    rests_until: Mutex<Option<Instant>>,
}

impl Lookups {
    pub(super) fn new(store: Arc<dyn Store>, cache: &config::Cache, metrics: Arc<Metrics>) -> Self {
        Self {
            store,
            metrics,
            lifetime: cache.jid_lifetime,
            cache_missed: cache.cache_missed,
            claims: LookupCache::new(cache.max_jids),
            homes: LookupCache::new(cache.max_jids),
            learned: LookupCache::new(cache.max_jids),
            rests_until: Mutex::new(None),
        }
    }

    /// Who claims `jid`, as far as that can be told now.
    pub(super) async fn claims(&self, jid: &str) -> Vec<Claim> {
        let started = Instant::now();
        self.metrics.mapping_fetches.inc();
        let claims = self.claims_by_cache_or_store(jid).await;
        let micros = started.elapsed().as_secs_f64() * 1e6;
        self.metrics.mapping_fetch_time.observe(micros);
        claims
    }

    async fn claims_by_cache_or_store(&self, jid: &str) -> Vec<Claim> {
        let known = self.claims.get(jid);
        if let Some(known) = &known
            && self.is_fresh(known)
        {
            return self.or_learned(jid, known.value.clone());
        }
        self.metrics.mapping_cache_misses.inc();
        let (store, key) = (self.store.clone(), jid.to_owned());
        let question = async move { store.claims(&key).await };
        let is_kept = if self.cache_missed {
            |_: &Vec<Claim>| true
        } else {
            |claims: &Vec<Claim>| !claims.is_empty()
        };
        let asked = self.claims.ask(jid, question, is_kept);
        match self.in_time("claims", asked).await {
            Some(claims) => self.or_learned(jid, claims),
            None => self.last_known(jid, known),
        }
    }

    /// The last host that claimed `bare`, as far as that can be told now.
    pub(super) async fn home(&self, bare: &str) -> Option<Host> {
        let known = self.homes.get(bare);
        if let Some(known) = &known
            && self.is_fresh(known)
        {
            return known.value.clone();
        }
        let (store, key) = (self.store.clone(), bare.to_owned());
        let question = async move { store.home(&key).await };
        let asked = self.homes.ask(bare, question, |_| true);
        match self.in_time("home", asked).await {
            Some(home) => home,
            None => known.and_then(|known| known.value),
        }
    }

    /// The last host that claimed `bare`, if that was looked up lately and there is one.
    pub(super) fn cached_home(&self, bare: &str) -> Option<Host> {
        let known = self.homes.get(bare).filter(|known| self.is_fresh(known));
        known.and_then(|known| known.value)
    }

    /// `jid` was seen at `host`. If the table is not known to say so too, that
    /// is remembered, for as long as the table names nobody; and what is cached
    /// is doubted if it names somebody else.
    pub(super) fn learn(&self, jid: &str, host: &Host) {
        if !self.contradict(jid, host) {
            self.learned.put(jid, host.clone());
        }
    }

    /// `jid` was seen at `host`: if what is cached names only others, it is
    /// asked for anew. What the table says then is newer than what was seen,
    /// and counts. Whether the table is known to name `host`.
    pub(super) fn contradict(&self, jid: &str, host: &Host) -> bool {
        let Some(known) = self.claims.get(jid).filter(|known| self.is_fresh(known)) else {
            return false;
        };
        if known.value.iter().any(|claim| claim.host == *host) {
            return true;
        }
        if !known.value.is_empty() {
            self.claims.doubt(jid, MOMENT);
        }
        false
    }

    /// Asks the store for `jid` at the next look-up, if it was asked at least
    /// `age` ago. What is known now counts if it does not answer then.
    pub(super) fn ask_anew(&self, jid: &str, age: Duration) {
        self.claims.doubt(jid, age);
        self.homes.doubt(jid, age);
    }

    /// Nothing that was known about `jid` holds any more.
    pub(super) fn forget(&self, jid: &str) {
        self.claims.forget(jid);
        self.homes.forget(jid);
        self.learned.forget(jid);
    }

    /// What the table says; if that is nothing, what was learned lately.
    fn or_learned(&self, jid: &str, claims: Vec<Claim>) -> Vec<Claim> {
        if !claims.is_empty() {
            return claims;
        }
        match self.learned.get(jid) {
            Some(learned) if self.is_fresh(&learned) => vec![unconfirmed(learned.value)],
            _ => claims,
        }
    }

    /// Without the store: what was said last, however long ago.
    fn last_known(&self, jid: &str, known: Option<CachedAnswer<Vec<Claim>>>) -> Vec<Claim> {
        match (self.learned.get(jid), known) {
            (Some(learned), Some(known)) if known.at > learned.at && !known.value.is_empty() => {
                known.value
            }
            (Some(learned), _) => vec![unconfirmed(learned.value)],
            (None, Some(known)) => known.value,
            (None, None) => Vec::new(),
        }
    }

    fn is_fresh<T>(&self, kept: &CachedAnswer<T>) -> bool {
        !kept.doubted && kept.at.elapsed() < self.lifetime
    }

    /// The store's answer, if it gives one in time.
    pub(super) async fn in_time<T>(
        &self,
        operation: &str,
        answer: impl Future<Output = Result<T, StoreError>>,
    ) -> Option<T> {
        if self.rests() {
            return None;
        }
        let asked_at = Instant::now();
        let error = match within(PATIENCE, answer).await {
            Ok(value) => return Some(value),
            Err(error) => error,
        };
        if asked_at.elapsed() >= PATIENCE {
            self.rest();
        }
        self.metrics
            .store_errors
            .with_label_values(&[operation])
            .inc();
        // The writer tells the operator; this would be told for each stanza.
        tracing::debug!(operation, %error, "a look-up failed; what was known last counts");
        None
    }

    fn rests(&self) -> bool {
        let rests_until = *self.rest_lock();
        rests_until.is_some_and(|until| Instant::now() < until)
    }

    fn rest(&self) {
        *self.rest_lock() = Some(Instant::now() + REST);
    }

    fn rest_lock(&self) -> MutexGuard<'_, Option<Instant>> {
        self.rests_until
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

fn unconfirmed(host: Host) -> Claim {
    Claim { host, since: None }
}
