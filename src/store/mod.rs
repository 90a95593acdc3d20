//! Where the session table and the registry are kept.

mod memory;
mod mesh;
mod redis;

pub use memory::{MemoryCluster, MemoryStore};
pub use mesh::{MeshStatus, MeshStore, ReplicaStatus};
pub use redis::RedisStore;

use std::future::Future;
use std::time::Duration;

use async_trait::async_trait;
use tokio::time::timeout;

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

/// A claim of our own, to be written or refreshed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OwnClaim {
    /// The global JID, full or bare, normalised.
    pub jid: String,
    /// Since when, in ms since the Unix epoch.
    pub since: u64,
    /// Whether this tells something new, and not only what was told before.
    /// Only then may it take an entry over from a MongooseIM, whose entries
    /// don't say how old they are.
    pub fresh: bool,
}

/// What a node tells about itself.
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
    /// The hosts that claim `jid` (full or bare, normalised), the newest claim first.
    /// Claims of other hosts without a live node don't count; if it can't be
    /// told whether a host has one, its claims do.
    async fn claims(&self, jid: &str) -> Result<Vec<Claim>, StoreError>;
    /// The last host that claimed `bare`, ever.
    async fn home(&self, bare: &str) -> Result<Option<Host>, StoreError>;
    /// Makes this host the home of those of `bares` that have none; returns the
    /// home of each, in their order.
    async fn settle(&self, bares: &[String]) -> Result<Vec<Host>, StoreError>;
    /// Writes or refreshes this host's claims, and its home for the bare ones.
    async fn claim(&self, claims: &[OwnClaim]) -> Result<(), StoreError>;
    /// Takes this host's claims on `jids` away.
    async fn withdraw(&self, jids: &[String]) -> Result<(), StoreError>;
    /// Writes or refreshes what this node tells about itself. A service domain
    /// that another host offers too stays that one's for a MongooseIM, which
    /// knows only one.
    async fn announce(&self, announcement: &Announcement) -> Result<(), StoreError>;
    /// Takes this node out of the registry: it is going away on purpose.
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
    /// did last; for one caller. A store that has to be asked for that never tells.
    async fn changed(&self) {
        std::future::pending().await
    }
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

/// The newest first; what doesn't say since when last.
pub(crate) fn newest_first(claims: &mut [Claim]) {
    claims.sort_by(|a, b| b.since.cmp(&a.since).then_with(|| a.host.cmp(&b.host)));
}

/// The store did not answer, or not sensibly. The text says where it is, what
/// was asked of it and what went wrong; never a password.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct StoreError(pub String);
