//! Stores of the session table and the registry.

#[cfg(test)]
#[allow(dead_code)]
#[path = "../../tests/support/memory_store.rs"]
mod memory;
mod mesh;
mod redis;

#[cfg(test)]
pub(crate) use memory::{MemoryCluster, MemoryStore};
pub use mesh::{MeshStatus, MeshStore, ReplicaStatus};
pub use redis::RedisStore;
#[cfg(any(test, fuzzing))]
#[doc(hidden)]
pub use redis::fuzz_redis_answer;

use std::future::Future;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use async_trait::async_trait;
use tokio::time::{Instant, timeout};

use crate::config::Endpoint;
use crate::host::Host;

/// One host's statement that a JID is online there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim {
    /// The host that claims the JID.
    pub host: Host,
    /// Start of the session, in ms since the Unix epoch; `None` if a MongooseIM wrote the entry,
    /// which holds no time.
    pub since: Option<u64>,
}

/// Entries of the session table for a JID.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Located {
    /// The claims on the full JID, newest first; empty for a bare JID.
    pub full: Vec<Claim>,
    /// The claims on the bare JID, newest first.
    pub bare: Vec<Claim>,
    /// Last host that ever claimed the bare JID.
    pub home: Option<Host>,
    /// Time of the read, if the table could not be read now.
    pub outdated: Option<Instant>,
}

/// A claim of our own, to be written or refreshed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OwnClaim {
    /// The global JID, full or bare, normalised.
    pub jid: String,
    /// Start of the claim, in ms since the Unix epoch.
    pub since: u64,
    /// Whether this is a new claim, not a refresh. Only a new claim may replace an entry of a
    /// MongooseIM, whose entries hold no time.
    pub fresh: bool,
}

/// A claim or withdrawal that the store can't take, while it takes others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RefusedClaim {
    /// The JID, as it was given.
    pub jid: String,
    /// Reason of the refusal.
    pub reason: String,
}

/// Announcement of a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Announcement {
    /// Endpoints where links may be dialled.
    pub endpoints: Vec<Endpoint>,
    /// Services of the node's host.
    pub offers: Vec<Offer>,
}

/// A service domain that a host offers to all.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Offer {
    /// `muc.example.com`.
    pub domain: Host,
    /// Whether disco omits the domain for users who may not see it.
    pub hidden: bool,
}

/// The session table and the registry, seen by one node of one host.
///
/// Each node writes only its own data: a claim never overwrites another host's newer one, and a
/// withdrawal removes only this host's.
#[async_trait]
pub trait Store: Send + Sync + 'static {
    /// Reads all entries of `jid` (full or bare, normalised). Claims of other hosts without a live
    /// node don't count; if it can't be determined whether a host has one, its claims do.
    async fn read(&self, jid: &str) -> Result<Located, StoreError>;
    /// The claims on `jid` itself, read from the table.
    async fn claims(&self, jid: &str) -> Result<Vec<Claim>, StoreError> {
        let located = self.read(jid).await?;
        Ok(if is_full(jid) {
            located.full
        } else {
            located.bare
        })
    }
    /// Looks `jid` up in memory; `None` if the table has to be asked, by [`Self::lookup`].
    /// `bare` may be empty if the full JID is claimed, `home` be absent if the bare one is.
    fn lookup_now(&self, jid: &str) -> Option<Located>;
    /// Looks `jid` up, after asking the table. When the table does not answer soon, its last answer
    /// counts.
    async fn lookup(&self, jid: &str) -> Located;
    /// Makes the next look-up of `jid` ask the table, if the cached answer is at least `age` old.
    /// For a store that caches.
    fn invalidate(&self, _jid: &str, _age: Duration) {}
    /// Whether claims expire unless they are refreshed.
    fn claims_expire(&self) -> bool {
        true
    }
    /// Makes this host the home of those of `bares` that have none; returns the
    /// home of each, in their order, `None` where it can't be determined.
    async fn settle(&self, bares: &[String]) -> Result<Vec<Option<Host>>, StoreError>;
    /// Writes or refreshes this host's claims, and its home for the bare ones.
    /// Returns those that the store refused; the others are written.
    async fn claim(&self, claims: &[OwnClaim]) -> Result<Vec<RefusedClaim>, StoreError>;
    /// Removes this host's claims on `jids`. Returns those that the store refused.
    async fn withdraw(&self, jids: &[String]) -> Result<Vec<RefusedClaim>, StoreError>;
    /// Writes or refreshes this node's announcement. A service domain
    /// that another host offers too stays that host's for a MongooseIM, which
    /// knows only one.
    async fn announce(&self, announcement: &Announcement) -> Result<(), StoreError>;
    /// Removes this node from the registry, as it stops on purpose.
    /// Its host's claims stay, and expire.
    async fn retire(&self) -> Result<(), StoreError>;
    /// All hosts with a live node, this one included if it has announced itself.
    async fn hosts(&self) -> Result<Vec<Host>, StoreError>;
    /// The endpoints of `host`'s live nodes, sorted.
    async fn endpoints(&self, host: &Host) -> Result<Vec<Endpoint>, StoreError>;
    /// The service domains of `host`'s live nodes, sorted. A domain is hidden only if no node
    /// offers it to every user.
    async fn offers(&self, host: &Host) -> Result<Vec<Offer>, StoreError>;
    /// Whether the store answers.
    async fn ping(&self) -> Result<(), StoreError>;
    /// Completes when hosts, endpoints or offers may have changed since the last completion; for
    /// one caller. In a store that has to be polled for changes it never completes.
    async fn changed(&self) {
        std::future::pending().await
    }
}

/// The bare JID of `jid`, which is normalised.
pub(crate) fn bare_of(jid: &str) -> &str {
    jid.split_once('/').map_or(jid, |(bare, _)| bare)
}

/// Whether `jid`, which is normalised, has a resource.
pub(crate) fn is_full(jid: &str) -> bool {
    jid.contains('/')
}

/// Awaits `operation`, but not for longer than `patience`.
pub(crate) async fn within<T>(
    patience: Duration,
    operation: impl Future<Output = Result<T, StoreError>>,
) -> Result<T, StoreError> {
    timeout(patience, operation).await.unwrap_or_else(|_| {
        Err(StoreError(format!(
            "the store did not answer within {} ms",
            patience.as_millis()
        )))
    })
}

/// Sorts claims, the newest first and those without a [credible](is_credible) time last.
pub(crate) fn newest_first(claims: &mut [Claim]) {
    if claims.len() < 2 {
        return;
    }
    let now = wall_clock();
    let time = |claim: &Claim| claim.since.filter(|since| is_credible(*since, now));
    claims.sort_by(|a, b| time(b).cmp(&time(a)).then_with(|| a.host.cmp(&b.host)));
}

/// Difference tolerated between the clocks of two hosts, in ms. `claim.lua` and `withdraw.lua` have
/// the same figure.
const CLOCK_TOLERANCE: u64 = 60_000;

/// Whether `since` (ms since the Unix epoch) can be the time of a claim. A time further ahead than
/// clocks differ would win against every later claim, and so counts as none.
pub(crate) fn is_credible(since: u64, now: u64) -> bool {
    since <= now.saturating_add(CLOCK_TOLERANCE)
}

/// Ms since the Unix epoch.
pub(crate) fn wall_clock() -> u64 {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH);
    since_epoch.map_or(0, |since| {
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
    })
}

/// Error of the store: no answer, or an invalid one. The text has the store's address, the
/// operation and the failure; never a password.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct StoreError(pub String);
