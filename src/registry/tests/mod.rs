mod services;

use parking_lot::Mutex;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::*;
use crate::store::{MemoryCluster, MemoryStore};

const EXPIRE_AFTER: Duration = Duration::from_secs(120);
const REFRESH_AFTER: Duration = Duration::from_secs(60);
const HOSTS_EVERY: Duration = Duration::from_secs(3);
const ENDPOINTS_EVERY: Duration = Duration::from_secs(60);
const ENDPOINTS_WHEN_EMPTY: Duration = Duration::from_secs(5);
const DOMAIN_LIFETIME: Duration = Duration::from_secs(600);

/// Service domain of dc1.
const OWN: &str = "upload.example.test";
/// Service domain that tests may announce for dc2.
const MUC: &str = "muc.example.test";

fn host(name: &str) -> Host {
    Host::new(name).unwrap()
}

fn endpoint(port: u16) -> Endpoint {
    Endpoint {
        host: "127.0.0.1".to_owned(),
        port,
    }
}

fn offer(domain: &str) -> Offer {
    Offer {
        domain: host(domain),
        hidden: false,
    }
}

/// Settings of dc1, which offers upload.example.test.
fn settings() -> RegistryConfig {
    RegistryConfig {
        global_host: host("example.test"),
        local_host: host("dc1.test"),
        endpoints: vec![endpoint(5555)],
        services: vec![ServiceConfig {
            domain: host(OWN),
            local: None,
            hidden: false,
        }],
        intervals: RegistryIntervals {
            announce: REFRESH_AFTER,
            hosts: HOSTS_EVERY,
            endpoints: ENDPOINTS_EVERY,
            endpoints_when_empty: ENDPOINTS_WHEN_EMPTY,
        },
        allowed: watch::channel(AllowedPeers::default()).1,
        domain_lifetime: DOMAIN_LIFETIME,
    }
}

/// The registry of dc1, and a peer dc2 that the test announces by hand.
struct World {
    cluster: MemoryCluster,
    dc2: Arc<MemoryStore>,
    /// The hosts to which a link is up.
    up: Arc<Mutex<BTreeSet<Host>>>,
    peers: watch::Receiver<Arc<Peers>>,
    directory: watch::Receiver<Arc<Directory>>,
    shutdown: CancellationToken,
    running: JoinHandle<()>,
}

impl World {
    fn new() -> Self {
        Self::in_cluster(MemoryCluster::new(EXPIRE_AFTER))
    }

    fn in_cluster(cluster: MemoryCluster) -> Self {
        let store = cluster.store(host("dc1.test"), "gw1");
        Self::with_store(cluster, store)
    }

    fn with_store(cluster: MemoryCluster, store: Arc<dyn Store>) -> Self {
        let registry = Registry::new(settings(), store);
        let up = Arc::new(Mutex::new(BTreeSet::from([host("dc2.test")])));
        let (peers, shutdown) = (registry.peers(), CancellationToken::new());
        let directory = registry.directory();
        let (links, until) = (up.clone(), shutdown.clone());
        let running = tokio::spawn(async move {
            let is_up = |host: &Host| links.lock().contains(host);
            registry.run(is_up, until).await;
        });
        Self {
            dc2: cluster.store(host("dc2.test"), "gw1"),
            cluster,
            up,
            peers,
            directory,
            shutdown,
            running,
        }
    }

    async fn announce_dc2(&self, ports: &[u16]) {
        let announcement = Announcement {
            endpoints: ports.iter().copied().map(endpoint).collect(),
            offers: Vec::new(),
        };
        self.dc2.announce(&announcement).await.unwrap();
    }

    /// Waits for the next change; returns the time that passed.
    async fn changed(&mut self) -> Duration {
        let started = Instant::now();
        timeout(Duration::from_secs(600), self.peers.changed())
            .await
            .expect("the peers don't change")
            .unwrap();
        started.elapsed()
    }

    async fn offer_at_dc2(&self, domains: &[&str]) {
        let announcement = Announcement {
            endpoints: vec![endpoint(1)],
            offers: domains.iter().copied().map(offer).collect(),
        };
        self.dc2.announce(&announcement).await.unwrap();
    }

    /// Waits until `hosts` offer `domain` (`None`: it is no service domain); returns the time that
    /// passed.
    async fn until_offered(&mut self, domain: &str, hosts: Option<&[&str]>) -> Duration {
        let started = Instant::now();
        let wanted = hosts.map(|hosts| hosts.iter().copied().map(host).collect());
        let is_so = |directory: &Arc<Directory>| {
            let listing = directory.find(domain);
            listing.map(|listing| &listing.hosts) == wanted.as_ref()
        };
        let changed = self.directory.wait_for(is_so);
        drop(
            timeout(Duration::from_secs(3600), changed)
                .await
                .expect("the directory does not come to that")
                .unwrap(),
        );
        started.elapsed()
    }

    async fn stays_offered(&mut self, time: Duration) {
        self.directory.mark_unchanged();
        let changed = timeout(time, self.directory.changed()).await;
        assert!(changed.is_err(), "{:?}", self.directory.borrow());
    }

    async fn stays_unchanged(&mut self, time: Duration) {
        let changed = timeout(time, self.peers.changed()).await;
        assert!(changed.is_err(), "{:?}", self.peers.borrow());
    }

    fn ports_of_dc2(&self) -> Option<Vec<u16>> {
        let peers = self.peers.borrow();
        let endpoints = peers.get(&host("dc2.test"))?;
        Some(endpoints.iter().map(|endpoint| endpoint.port).collect())
    }

    async fn until_announced(&self) {
        let announced = async {
            while self.dc2.endpoints(&host("dc1.test")).await.ok() != Some(vec![endpoint(5555)]) {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        timeout(Duration::from_secs(10), announced)
            .await
            .expect("dc1 does not announce itself");
    }
}

#[tokio::test(start_paused = true)]
async fn this_node_is_announced_kept_alive_and_retired() {
    let world = World::new();
    world.until_announced().await;
    for _ in 0..10 {
        tokio::time::sleep(REFRESH_AFTER).await;
        assert_eq!(world.dc2.hosts().await.unwrap(), [host("dc1.test")]);
    }
    world.shutdown.cancel();
    world.running.await.unwrap();
    assert_eq!(world.dc2.hosts().await.unwrap(), Vec::<Host>::new());
}

#[tokio::test(start_paused = true)]
async fn peers_come_and_go_without_this_host_among_them() {
    let mut world = World::new();
    world.until_announced().await;
    world.announce_dc2(&[1, 2]).await;
    assert!(world.changed().await <= HOSTS_EVERY);
    assert_eq!(world.ports_of_dc2(), Some(vec![1, 2]));
    assert_eq!(world.peers.borrow().len(), 1);

    // A live host may have no endpoints.
    world.announce_dc2(&[]).await;
    assert!(world.changed().await <= ENDPOINTS_EVERY);
    assert_eq!(world.ports_of_dc2(), Some(Vec::new()));

    world.dc2.retire().await.unwrap();
    assert!(world.changed().await <= HOSTS_EVERY);
    assert_eq!(world.ports_of_dc2(), None);
}

#[tokio::test(start_paused = true)]
async fn endpoints_are_read_more_often_while_there_is_no_way_to_a_host() {
    let mut world = World::new();
    world.announce_dc2(&[]).await;
    world.changed().await;
    world.announce_dc2(&[1]).await;
    assert!(world.changed().await <= ENDPOINTS_WHEN_EMPTY);

    world.announce_dc2(&[2]).await;
    world
        .stays_unchanged(ENDPOINTS_EVERY - Duration::from_secs(1))
        .await;
    world.announce_dc2(&[2]).await;
    world.changed().await;

    world.up.lock().clear();
    world.announce_dc2(&[3]).await;
    assert!(world.changed().await <= ENDPOINTS_WHEN_EMPTY + HOSTS_EVERY);
    assert_eq!(world.ports_of_dc2(), Some(vec![3]));
}

#[tokio::test(start_paused = true)]
async fn nothing_new_is_no_change() {
    let mut world = World::new();
    world.announce_dc2(&[1]).await;
    world.changed().await;
    for _ in 0..5 {
        world.announce_dc2(&[1]).await;
        world.stays_unchanged(REFRESH_AFTER).await;
    }
}

#[tokio::test(start_paused = true)]
async fn peers_stay_while_the_store_is_away_and_it_hears_of_us_at_once_on_its_return() {
    let mut world = World::new();
    world.until_announced().await;
    world.announce_dc2(&[1]).await;
    world.changed().await;

    world.cluster.set_available(false);
    world.stays_unchanged(10 * EXPIRE_AFTER).await;
    world.cluster.hang();
    world.stays_unchanged(10 * EXPIRE_AFTER).await;
    world.cluster.set_available(true);
    world.until_announced().await;
    world.stays_unchanged(2 * HOSTS_EVERY).await;
    world.announce_dc2(&[1]).await;
    world.stays_unchanged(REFRESH_AFTER).await;
}

#[tokio::test(start_paused = true)]
async fn an_emptied_store_is_filled_again_and_peers_have_time_to_do_so() {
    let mut world = World::new();
    world.until_announced().await;
    world.announce_dc2(&[1]).await;
    world.changed().await;

    world.cluster.flush();
    world.until_announced().await;
    world.stays_unchanged(HOSTS_EVERY).await;
    world.announce_dc2(&[1]).await;
    world.stays_unchanged(REFRESH_AFTER).await;

    world.cluster.flush();
    assert!(world.changed().await <= 5 * HOSTS_EVERY);
    assert_eq!(world.ports_of_dc2(), None);
}

#[tokio::test(start_paused = true)]
async fn starts_without_a_store_and_ends_without_one() {
    let cluster = MemoryCluster::new(EXPIRE_AFTER);
    cluster.set_available(false);
    let world = World::in_cluster(cluster);
    tokio::time::sleep(Duration::from_secs(60)).await;
    world.cluster.set_available(true);
    world.until_announced().await;

    world.cluster.hang();
    world.shutdown.cancel();
    timeout(Duration::from_secs(10), world.running)
        .await
        .expect("does not end")
        .unwrap();
}
