//! Where the session table and the registry are kept.

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

use std::future::Future;
use std::time::Duration;

use async_trait::async_trait;
use tokio::time::{Instant, timeout};

use crate::config::Endpoint;
use crate::host::Host;

/// One host's statement that a JID is online there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim {
    /// Where.
    pub host: Host,
    /// Since when, in ms since the Unix epoch; `None` if a MongooseIM wrote
    /// the entry, which does not say.
    pub since: Option<u64>,
}

/// What the session table has of a JID.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Located {
    /// The claims on the full JID, newest first; empty for a bare JID.
    pub full: Vec<Claim>,
    /// The claims on the bare JID, newest first.
    pub bare: Vec<Claim>,
    /// The last host that claimed the bare JID, ever.
    pub home: Option<Host>,
    /// When this was read, if the table could not be read now.
    pub outdated: Option<Instant>,
}

/// A claim of our own, to be written or refreshed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OwnClaim {
    /// The global JID, full or bare, normalised.
    pub jid: String,
    /// Since when, in ms since the Unix epoch.
    pub since: u64,
    /// Whether this is a new claim, and not the refresh of one.
    /// Only then may it take an entry over from a MongooseIM, whose entries
    /// don't say how old they are.
    pub fresh: bool,
}

/// A claim or withdrawal that the store can't take, while it takes others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RefusedClaim {
    /// The JID, as it was given.
    pub jid: String,
    /// Why.
    pub reason: String,
}

/// What a node announces about itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Announcement {
    /// Where links may be dialled.
    pub endpoints: Vec<Endpoint>,
    /// What its host offers.
    pub offers: Vec<Offer>,
}

/// A service domain that a host offers to all.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Offer {
    /// `muc.example.com`.
    pub domain: Host,
    /// Whether disco leaves it out for those who may not see it.
    pub hidden: bool,
}

/// The session table and the registry, seen by one node of one host.
///
/// Each node writes only its own data: a claim never overwrites another
/// host's newer one, and a withdrawal takes away only this host's.
#[async_trait]
pub trait Store: Send + Sync + 'static {
    /// All that the table has of `jid` (full or bare, normalised).
    /// Claims of other hosts without a live node don't count; if it can't be
    /// determined whether a host has one, its claims do.
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
    /// The same, after asking the table. Soon: when the table does not answer,
    /// with what it answered last.
    async fn lookup(&self, jid: &str) -> Located;
    /// Makes the next look-up of `jid` ask the table, if what is cached is at
    /// least `age` old. For a store that caches.
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
    /// The service domains of `host`'s live nodes, sorted. Hidden only if no
    /// node says that everybody may see it.
    async fn offers(&self, host: &Host) -> Result<Vec<Offer>, StoreError>;
    /// Whether the store answers.
    async fn ping(&self) -> Result<(), StoreError>;
    /// Completes when hosts, endpoints or offers may have changed since it
    /// did last; for one caller. A store that has to be polled for that never does.
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

/// Sorts the newest claim first; those without a time last.
pub(crate) fn newest_first(claims: &mut [Claim]) {
    claims.sort_by(|a, b| b.since.cmp(&a.since).then_with(|| a.host.cmp(&b.host)));
}

/// The store did not answer, or not sensibly. The text says where it is, what
/// was asked of it and what went wrong; never a password.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct StoreError(pub String);
