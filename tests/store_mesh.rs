//! The store contract, kept by nodes that are linked with each other.

mod store_contract;
mod support;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use parking_lot::Mutex;
use store_contract::{Bench, EXPIRE_AFTER, announcement, began, host};
use strait::config::Endpoint;
use strait::host::Host;
use strait::store::{
    Announcement, Located, MeshStore, Offer, OwnClaim, RefusedClaim, ReplicaStatus, Store,
    StoreError,
};
use support::certs::Authority;
use support::mesh_node::{MeshNode, Plan, endpoint};
use support::patience::until;
use support::port::Port;
use support::workdir::Workdir;
use tokio::runtime::Handle;
use tokio::task::block_in_place;
use tokio::time::Instant;

/// No rule of the contract has more nodes.
const NODES: usize = 3;

struct Mesh {
    authority: Authority,
    ports: Vec<Port>,
    expire_after: Duration,
    nodes: Arc<Mutex<Vec<MeshNode>>>,
    _workdir: Workdir,
}

async fn table(expire_after: Duration) -> Mesh {
    let test = std::thread::current();
    let workdir = Workdir::new(&format!("mesh-{}", test.name().unwrap_or("contract")));
    Mesh {
        authority: Authority::new(&workdir.file("certs"), "authority"),
        ports: (0..NODES).map(|_| Port::take()).collect(),
        expire_after,
        nodes: Arc::default(),
        _workdir: workdir,
    }
}

impl Bench for Mesh {
    /// It dials all ports of the bench but its own.
    fn store(&self, host: &Host, node: &str) -> Arc<dyn Store> {
        let mut nodes = self.nodes.lock();
        let own = self.ports[nodes.len()].address();
        let others = self.ports.iter().map(Port::address);
        let plan = Plan {
            host: host.as_str(),
            name: node,
            port: own.port(),
            peers: others.filter(|it| *it != own).map(endpoint).collect(),
            expire_after: self.expire_after,
            refresh_after: self.expire_after / 2,
        };
        let start = MeshNode::start(&self.authority, plan);
        let started = block_in_place(|| Handle::current().block_on(start));
        let store = Arc::clone(&started.store);
        nodes.push(started);
        Arc::new(Settled {
            store,
            nodes: Arc::clone(&self.nodes),
        })
    }

    async fn write_as_mongooseim(&self, jid: &str, host: &Host) {
        panic!("no MongooseIM can write that {jid} is at {host}");
    }

    /// What another gateway would do: the newest claim.
    async fn read_as_mongooseim(&self, jid: &str) -> Option<String> {
        let store = Arc::clone(&self.nodes.lock()[0].store);
        let claims = store.claims(jid).await.unwrap();
        claims.first().map(|claim| claim.host.to_string())
    }
}

/// A store whose writes end when all nodes know of them.
struct Settled {
    store: Arc<MeshStore>,
    nodes: Arc<Mutex<Vec<MeshNode>>>,
}

impl Settled {
    async fn until_equal(&self) {
        let settled = async {
            while !self.is_settled().await {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(30), settled)
            .await
            .unwrap_or_else(|_| panic!("the nodes never came to know the same"));
    }

    async fn is_settled(&self) -> bool {
        let stores: Vec<Arc<MeshStore>> = {
            let nodes = self.nodes.lock();
            nodes.iter().map(|node| Arc::clone(&node.store)).collect()
        };
        let expected = knowledge(&stores[0]).await;
        for store in &stores[1..] {
            if knowledge(store).await != expected {
                return false;
            }
        }
        expected.parts.len() == stores.len()
    }
}

/// All that a node knows and others should, too.
#[derive(PartialEq)]
struct Knowledge {
    parts: Vec<ReplicaStatus>,
    hosts: Vec<(Host, Vec<Endpoint>, Vec<Offer>)>,
}

async fn knowledge(store: &MeshStore) -> Knowledge {
    let mut hosts = Vec::new();
    for host in store.hosts().await.unwrap() {
        let endpoints = store.endpoints(&host).await.unwrap();
        let offers = store.offers(&host).await.unwrap();
        hosts.push((host, endpoints, offers));
    }
    Knowledge {
        parts: store.replicas(),
        hosts,
    }
}

#[async_trait]
impl Store for Settled {
    async fn read(&self, jid: &str) -> Result<Located, StoreError> {
        self.store.read(jid).await
    }

    fn lookup_now(&self, jid: &str) -> Option<Located> {
        self.store.lookup_now(jid)
    }

    async fn lookup(&self, jid: &str) -> Located {
        self.store.lookup(jid).await
    }

    async fn settle(&self, bares: &[String]) -> Result<Vec<Option<Host>>, StoreError> {
        let homes = self.store.settle(bares).await?;
        self.until_equal().await;
        Ok(homes)
    }

    async fn claim(&self, claims: &[OwnClaim]) -> Result<Vec<RefusedClaim>, StoreError> {
        let refused = self.store.claim(claims).await?;
        self.until_equal().await;
        Ok(refused)
    }

    async fn withdraw(&self, jids: &[String]) -> Result<Vec<RefusedClaim>, StoreError> {
        let refused = self.store.withdraw(jids).await?;
        self.until_equal().await;
        Ok(refused)
    }

    async fn announce(&self, announcement: &Announcement) -> Result<(), StoreError> {
        self.store.announce(announcement).await?;
        self.until_equal().await;
        Ok(())
    }

    async fn retire(&self) -> Result<(), StoreError> {
        self.store.retire().await?;
        self.until_equal().await;
        Ok(())
    }

    async fn hosts(&self) -> Result<Vec<Host>, StoreError> {
        self.store.hosts().await
    }

    async fn endpoints(&self, host: &Host) -> Result<Vec<Endpoint>, StoreError> {
        self.store.endpoints(host).await
    }

    async fn offers(&self, host: &Host) -> Result<Vec<Offer>, StoreError> {
        self.store.offers(host).await
    }

    async fn ping(&self) -> Result<(), StoreError> {
        self.store.ping().await
    }
}

contract_tests!(@unleased tokio::test(flavor = "multi_thread"), table);

/// A claim needs no refresh: it lasts as long as the process that made it is
/// linked, and `expire_after` more.
#[tokio::test(flavor = "multi_thread")]
async fn claims_last_without_a_refresh_until_their_process_is_lost() {
    let mesh = table(EXPIRE_AFTER).await;
    let stores = ["dc1.test", "dc2.test"].map(|name| (host(name), mesh.store(&host(name), "gw1")));
    let [(_, one), (dc2, two)] = &stores;
    let jid = "alice@example.test/phone";
    let announce = async || {
        for (_, store) in &stores {
            let announced = store.announce(&announcement(&[])).await;
            announced.unwrap();
        }
    };
    announce().await;
    two.claim(&[began(jid, 1000)]).await.unwrap();
    let begun = Instant::now();
    while begun.elapsed() < 2 * EXPIRE_AFTER {
        announce().await;
        for store in [one, two] {
            let claims = store.claims(jid).await.unwrap();
            assert_eq!(claims.first().map(|claim| &claim.host), Some(dc2));
        }
        tokio::time::sleep(EXPIRE_AFTER / 20).await;
    }
    let killed = mesh.nodes.lock().pop().unwrap();
    killed.kill().await;
    let lost = Instant::now();
    until("the claim to expire", async || {
        let claims = one.claims(jid).await.unwrap();
        claims.is_empty().then_some(()).ok_or(format!("{claims:?}"))
    })
    .await;
    assert!(lost.elapsed() > EXPIRE_AFTER / 2, "{:?}", lost.elapsed());
}
