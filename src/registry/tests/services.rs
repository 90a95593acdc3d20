use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;

use super::*;
use crate::store::{Located, OwnClaim, RefusedClaim};

#[tokio::test(start_paused = true)]
async fn services_are_found_as_soon_as_hosts_and_forgotten_later() {
    let mut world = World::new();
    // Own services need no store.
    assert!(world.directory.borrow().find(OWN).is_some());
    world.until_announced().await;
    assert_eq!(
        world.dc2.offers(&host("dc1.test")).await.unwrap(),
        [offer(OWN)]
    );

    // First a new host's offer, then one of a known host.
    world.announce_dc2(&[1]).await;
    world.changed().await;
    world.offer_at_dc2(&[MUC]).await;
    assert!(world.until_offered(MUC, Some(&["dc2.test"])).await <= HOSTS_EVERY);
    world.offer_at_dc2(&[MUC, OWN]).await;
    let both = Some(&["dc1.test", "dc2.test"][..]);
    assert!(world.until_offered(OWN, both).await <= HOSTS_EVERY);

    world.offer_at_dc2(&[]).await;
    assert!(world.until_offered(MUC, Some(&[])).await <= HOSTS_EVERY);
    assert_eq!(world.until_offered(MUC, None).await, DOMAIN_LIFETIME);
    world.until_offered(OWN, Some(&["dc1.test"])).await;
}

#[tokio::test(start_paused = true)]
async fn a_dead_host_offers_nothing() {
    let mut world = World::new();
    world.offer_at_dc2(&[MUC]).await;
    world.until_offered(MUC, Some(&["dc2.test"])).await;
    let took = world.until_offered(MUC, Some(&[])).await;
    assert!(took <= EXPIRE_AFTER + HOSTS_EVERY, "{took:?}");
    world.offer_at_dc2(&[MUC]).await;
    world.until_offered(MUC, Some(&["dc2.test"])).await;
}

#[tokio::test(start_paused = true)]
async fn services_stay_while_the_store_is_away_or_was_emptied() {
    let mut world = World::new();
    world.until_announced().await;
    world.offer_at_dc2(&[MUC]).await;
    world.until_offered(MUC, Some(&["dc2.test"])).await;

    world.cluster.set_available(false);
    world.stays_offered(10 * EXPIRE_AFTER).await;
    world.cluster.set_available(true);
    world.until_announced().await;
    world.stays_offered(HOSTS_EVERY).await;
    world.offer_at_dc2(&[MUC]).await;
    world.stays_offered(REFRESH_AFTER).await;

    world.cluster.flush();
    world.stays_offered(HOSTS_EVERY).await;
    world.offer_at_dc2(&[MUC]).await;
    world.stays_offered(REFRESH_AFTER).await;
}

#[tokio::test(start_paused = true)]
async fn another_node_of_this_host_may_offer_more() {
    let mut world = World::new();
    let second = world.cluster.store(host("dc1.test"), "gw2");
    let announcement = Announcement {
        endpoints: Vec::new(),
        offers: vec![offer(MUC)],
    };
    second.announce(&announcement).await.unwrap();
    world.until_offered(MUC, Some(&["dc1.test"])).await;
    second.retire().await.unwrap();
    world.until_offered(MUC, Some(&[])).await;
    assert!(world.directory.borrow().find(OWN).is_some());
}

/// A store that, once `armed`, is emptied just before it is asked for services.
struct Emptied {
    cluster: MemoryCluster,
    store: Arc<MemoryStore>,
    armed: Arc<AtomicBool>,
}

#[async_trait]
impl Store for Emptied {
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
        self.store.settle(bares).await
    }

    async fn claim(&self, claims: &[OwnClaim]) -> Result<Vec<RefusedClaim>, StoreError> {
        self.store.claim(claims).await
    }

    async fn withdraw(&self, jids: &[String]) -> Result<Vec<RefusedClaim>, StoreError> {
        self.store.withdraw(jids).await
    }

    async fn announce(&self, announcement: &Announcement) -> Result<(), StoreError> {
        self.store.announce(announcement).await
    }

    async fn retire(&self) -> Result<(), StoreError> {
        self.store.retire().await
    }

    async fn hosts(&self) -> Result<Vec<Host>, StoreError> {
        self.store.hosts().await
    }

    async fn endpoints(&self, host: &Host) -> Result<Vec<Endpoint>, StoreError> {
        self.store.endpoints(host).await
    }

    async fn offers(&self, host: &Host) -> Result<Vec<Offer>, StoreError> {
        if self.armed.swap(false, Ordering::Relaxed) {
            self.cluster.flush();
        }
        self.store.offers(host).await
    }

    async fn ping(&self) -> Result<(), StoreError> {
        self.store.ping().await
    }
}

#[tokio::test(start_paused = true)]
async fn services_outlive_a_store_that_is_emptied_while_it_is_read() {
    let cluster = MemoryCluster::new(EXPIRE_AFTER);
    let armed = Arc::<AtomicBool>::default();
    let store = Emptied {
        cluster: cluster.clone(),
        store: cluster.store(host("dc1.test"), "gw1"),
        armed: Arc::clone(&armed),
    };
    let mut world = World::with_store(cluster, Arc::new(store));
    world.offer_at_dc2(&[MUC]).await;
    world.until_offered(MUC, Some(&["dc2.test"])).await;

    armed.store(true, Ordering::Relaxed);
    world.stays_offered(2 * HOSTS_EVERY).await;
    assert!(!armed.load(Ordering::Relaxed), "nobody asked");
    world.offer_at_dc2(&[MUC]).await;
    world.stays_offered(REFRESH_AFTER).await;
}
