//! A session table in memory, with the semantics of the table in Redis.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use parking_lot::{Mutex, MutexGuard};
use strait::config::Endpoint;
use strait::host::Host;
use strait::store::{
    Announcement, Claim, Located, Offer, OwnClaim, RefusedClaim, Store, StoreError,
};
use tokio::time::Instant;

/// One table that several [`MemoryStore`]s share, one for each node. Time is tokio's, and can be
/// paused.
#[derive(Clone)]
pub struct MemoryCluster {
    expire_after: Duration,
    begun: Instant,
    table: Arc<Mutex<MemoryTable>>,
}

/// A [`MemoryCluster`] as one node of one host sees it.
pub struct MemoryStore {
    local: Host,
    node: String,
    cluster: MemoryCluster,
}

#[derive(Default)]
struct MemoryTable {
    health: Health,
    /// JIDs for which claims are refused.
    refused: BTreeSet<String>,
    claims: HashMap<String, BTreeMap<Host, Expiring<u64>>>,
    /// Values under the keys of the JIDs and of the service domains themselves.
    plain: HashMap<String, Expiring<Host>>,
    homes: HashMap<String, Host>,
    nodes: BTreeMap<Host, BTreeMap<String, Expiring<Announcement>>>,
}

#[derive(Default, Clone, Copy)]
enum Health {
    #[default]
    Answers,
    Fails,
    Hangs,
}

struct Expiring<T> {
    value: T,
    at: Instant,
}

impl<T> Expiring<T> {
    fn is_valid(&self) -> bool {
        Instant::now() < self.at
    }
}

impl MemoryCluster {
    /// Creates an empty table; entries expire after `expire_after` without a refresh.
    #[must_use]
    pub fn new(expire_after: Duration) -> Self {
        Self {
            expire_after,
            begun: Instant::now(),
            table: Arc::default(),
        }
    }

    /// The store of the node `node` of `host`.
    #[must_use]
    pub fn store(&self, host: Host, node: &str) -> Arc<MemoryStore> {
        Arc::new(MemoryStore {
            local: host,
            node: node.to_owned(),
            cluster: self.clone(),
        })
    }

    /// Sets whether operations succeed or fail at once.
    pub fn set_available(&self, available: bool) {
        self.table().health = if available {
            Health::Answers
        } else {
            Health::Fails
        };
    }

    /// Makes all operations hang until [`Self::set_available`] is called; operations begun before
    /// that call never end.
    pub fn hang(&self) {
        self.table().health = Health::Hangs;
    }

    /// Makes the table refuse claims on `jid`.
    pub fn refuse(&self, jid: &str) {
        self.table().refused.insert(jid.to_owned());
    }

    /// Removes all entries, as FLUSHALL does.
    pub fn flush(&self) {
        let mut table = self.table();
        *table = MemoryTable {
            health: table.health,
            ..MemoryTable::default()
        };
    }

    /// Writes the entry of `jid` as a MongooseIM does.
    pub fn write_plain(&self, jid: &str, host: Host) {
        let entry = self.expiring(host);
        self.table().plain.insert(jid.to_owned(), entry);
    }

    /// The value that a MongooseIM reads for `jid`.
    #[must_use]
    pub fn plain(&self, jid: &str) -> Option<Host> {
        self.table()
            .plain
            .get(jid)
            .filter(|entry| entry.is_valid())
            .map(|entry| entry.value.clone())
    }

    fn expiring<T>(&self, value: T) -> Expiring<T> {
        Expiring {
            value,
            at: Instant::now() + self.expire_after,
        }
    }

    fn table(&self) -> MutexGuard<'_, MemoryTable> {
        let mut table = self.table.lock();
        table.expire();
        table
    }
}

impl MemoryTable {
    fn expire(&mut self) {
        for claims in self.claims.values_mut() {
            claims.retain(|_, entry| entry.is_valid());
        }
        self.claims.retain(|_, claims| !claims.is_empty());
        self.plain.retain(|_, entry| entry.is_valid());
        for nodes in self.nodes.values_mut() {
            nodes.retain(|_, entry| entry.is_valid());
        }
        self.nodes.retain(|_, nodes| !nodes.is_empty());
    }

    /// The services of all nodes of `host`, each with whether all nodes hide it.
    fn offers(&self, host: &Host) -> BTreeMap<Host, bool> {
        let mut offers = BTreeMap::new();
        let nodes = self.nodes.get(host).into_iter().flat_map(BTreeMap::values);
        for offer in nodes.flat_map(|node| &node.value.offers) {
            *offers.entry(offer.domain.clone()).or_insert(true) &= offer.hidden;
        }
        offers
    }

    fn may_own(&self, host: &Host, claim: &OwnClaim) -> bool {
        let Some(owner) = self.plain.get(&claim.jid).map(|entry| &entry.value) else {
            return true;
        };
        if owner == host {
            return true;
        }
        match self.claims.get(&claim.jid).and_then(|it| it.get(owner)) {
            Some(theirs) => theirs.value < claim.since,
            None => claim.fresh,
        }
    }

    fn withdraw(&mut self, host: &Host, jid: &str) {
        let others = self.claims.get_mut(jid);
        let newest = others.and_then(|claims| {
            claims.remove(host);
            claims
                .iter()
                .max_by_key(|(_, entry)| entry.value)
                .map(|(host, entry)| Expiring {
                    value: host.clone(),
                    at: entry.at,
                })
        });
        if self.plain.get(jid).is_some_and(|it| it.value == *host) {
            match newest {
                Some(entry) => self.plain.insert(jid.to_owned(), entry),
                None => self.plain.remove(jid),
            };
        }
    }
}

impl MemoryStore {
    async fn table(&self) -> Result<MutexGuard<'_, MemoryTable>, StoreError> {
        let health = self.cluster.table().health;
        match health {
            Health::Answers => Ok(self.cluster.table()),
            Health::Fails => Err(StoreError("the table is switched off".to_owned())),
            Health::Hangs => std::future::pending().await,
        }
    }
}

impl MemoryTable {
    fn claims(&self, jid: &str, local: &Host) -> Vec<Claim> {
        let ours = self.claims.get(jid).into_iter().flatten();
        let mut claims: Vec<Claim> = ours
            .map(|(host, entry)| Claim {
                host: host.clone(),
                since: Some(entry.value),
            })
            .collect();
        if let Some(entry) = self.plain.get(jid)
            && claims.iter().all(|claim| claim.host != entry.value)
        {
            claims.push(Claim {
                host: entry.value.clone(),
                since: None,
            });
        }
        claims.retain(|claim| claim.host == *local || self.nodes.contains_key(&claim.host));
        claims.sort_by(|a, b| b.since.cmp(&a.since).then_with(|| a.host.cmp(&b.host)));
        claims
    }

    fn read(&self, jid: &str, local: &Host) -> Located {
        let mut located = Located::default();
        let bare = jid.split_once('/').map_or(jid, |(bare, _)| bare);
        if bare != jid {
            located.full = self.claims(jid, local);
        }
        located.bare = self.claims(bare, local);
        located.home = self.homes.get(bare).cloned();
        located
    }
}

#[async_trait]
impl Store for MemoryStore {
    async fn read(&self, jid: &str) -> Result<Located, StoreError> {
        Ok(self.table().await?.read(jid, &self.local))
    }

    fn lookup_now(&self, jid: &str) -> Option<Located> {
        let table = self.cluster.table();
        matches!(table.health, Health::Answers).then(|| table.read(jid, &self.local))
    }

    async fn lookup(&self, jid: &str) -> Located {
        self.lookup_now(jid).unwrap_or_else(|| Located {
            outdated: Some(self.cluster.begun),
            ..Located::default()
        })
    }

    async fn settle(&self, bares: &[String]) -> Result<Vec<Option<Host>>, StoreError> {
        let mut table = self.table().await?;
        let home = |bare: &String| {
            let home = table.homes.entry(bare.clone());
            Some(home.or_insert_with(|| self.local.clone()).clone())
        };
        Ok(bares.iter().map(home).collect())
    }

    async fn claim(&self, claims: &[OwnClaim]) -> Result<Vec<RefusedClaim>, StoreError> {
        let mut table = self.table().await?;
        let mut refused = Vec::new();
        for claim in claims {
            if table.refused.contains(&claim.jid) {
                refused.push(RefusedClaim {
                    jid: claim.jid.clone(),
                    reason: "refused by the test".to_owned(),
                });
                continue;
            }
            let jid = claim.jid.clone();
            table
                .claims
                .entry(jid.clone())
                .or_default()
                .insert(self.local.clone(), self.cluster.expiring(claim.since));
            if table.may_own(&self.local, claim) {
                if !jid.contains('/') {
                    table.homes.insert(jid.clone(), self.local.clone());
                }
                let entry = self.cluster.expiring(self.local.clone());
                table.plain.insert(jid, entry);
            }
        }
        Ok(refused)
    }

    async fn withdraw(&self, jids: &[String]) -> Result<Vec<RefusedClaim>, StoreError> {
        let mut table = self.table().await?;
        for jid in jids {
            table.withdraw(&self.local, jid);
        }
        Ok(Vec::new())
    }

    async fn announce(&self, announcement: &Announcement) -> Result<(), StoreError> {
        let mut table = self.table().await?;
        for offer in &announcement.offers {
            let owner = table.plain.get(offer.domain.as_str());
            if owner.is_none_or(|owner| owner.value == self.local) {
                let entry = self.cluster.expiring(self.local.clone());
                table.plain.insert(offer.domain.to_string(), entry);
            }
        }
        let entry = self.cluster.expiring(announcement.clone());
        table
            .nodes
            .entry(self.local.clone())
            .or_default()
            .insert(self.node.clone(), entry);
        Ok(())
    }

    async fn retire(&self) -> Result<(), StoreError> {
        let mut table = self.table().await?;
        let nodes = table.nodes.get_mut(&self.local);
        let Some(node) = nodes.and_then(|nodes| nodes.remove(&self.node)) else {
            return Ok(());
        };
        let left = table.offers(&self.local);
        for offer in node.value.offers {
            let domain = offer.domain.as_str();
            let is_ours = table
                .plain
                .get(domain)
                .is_some_and(|it| it.value == self.local);
            if is_ours && !left.contains_key(&offer.domain) {
                table.plain.remove(domain);
            }
        }
        Ok(())
    }

    async fn hosts(&self) -> Result<Vec<Host>, StoreError> {
        Ok(self.table().await?.nodes.keys().cloned().collect())
    }

    async fn endpoints(&self, host: &Host) -> Result<Vec<Endpoint>, StoreError> {
        let table = self.table().await?;
        let nodes = table.nodes.get(host);
        let endpoints: BTreeSet<Endpoint> = nodes
            .iter()
            .flat_map(|nodes| nodes.values())
            .flat_map(|node| node.value.endpoints.iter().cloned())
            .collect();
        Ok(endpoints.into_iter().collect())
    }

    async fn offers(&self, host: &Host) -> Result<Vec<Offer>, StoreError> {
        let offers = self.table().await?.offers(host).into_iter();
        Ok(offers
            .map(|(domain, hidden)| Offer { domain, hidden })
            .collect())
    }

    async fn ping(&self) -> Result<(), StoreError> {
        self.table().await.map(drop)
    }
}
