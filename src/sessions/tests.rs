mod asking;

use std::sync::Arc;
use std::time::Duration;

use jid::Jid;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::Sessions;
use crate::config;
use crate::host::{Host, Locations};
use crate::metrics::Metrics;
use crate::stanza::{Kind, Stanza};
use crate::store::{Announcement, MemoryCluster, MemoryStore, OwnClaim, Store};

const EXPIRE_AFTER: Duration = Duration::from_secs(120);
const REFRESH_AFTER: Duration = Duration::from_secs(60);
const PHONE: &str = "alice@example.test/phone";
const ALICE: &str = "alice@example.test";
const BOB: &str = "bob@example.test";

fn host(name: &str) -> Host {
    Host::new(name).unwrap()
}

fn jid(text: &str) -> Jid {
    Jid::new(text).unwrap()
}

/// Makes the host of `store` a live one.
async fn announce(store: &MemoryStore) {
    let nothing = Announcement {
        endpoints: Vec::new(),
        offers: Vec::new(),
    };
    store.announce(&nothing).await.unwrap();
}

/// The sessions of dc1, whose table is shared with dc2.
struct World {
    cluster: MemoryCluster,
    /// The table as dc2 sees it.
    dc2: Arc<MemoryStore>,
    metrics: Arc<Metrics>,
    sessions: Arc<Sessions>,
    shutdown: CancellationToken,
    running: JoinHandle<()>,
}

impl World {
    async fn new() -> Self {
        Self::with(config::Accounts::Shared).await
    }

    async fn with(accounts: config::Accounts) -> Self {
        let cluster = MemoryCluster::new(EXPIRE_AFTER);
        let dc2 = cluster.store(host("dc2.test"), "gw1");
        announce(&dc2).await;
        let metrics = Arc::new(Metrics::new());
        let store = cluster.store(host("dc1.test"), "gw1");
        announce(&store).await;
        let cache = config::Cache::default();
        let times = config::Times {
            expire_after: EXPIRE_AFTER,
            refresh_after: REFRESH_AFTER,
        };
        let sessions = Sessions::new(
            host("dc1.test"),
            store,
            &cache,
            times,
            config::Sources::Auto,
            accounts,
            metrics.clone(),
        );
        let shutdown = CancellationToken::new();
        let running = tokio::spawn(sessions.clone().run(shutdown.clone()));
        let world = Self {
            cluster,
            dc2,
            metrics,
            sessions,
            shutdown,
            running,
        };
        world.until(|| world.metrics.store_up.get() == 1).await;
        world
    }

    fn presence(&self, stanza_type: Option<&str>, from: &str) {
        let (from, to) = (jid(from), jid(BOB));
        self.sessions
            .observe_tag(Kind::Presence, stanza_type, &from, Some(&to));
    }

    fn login(&self) {
        self.presence(None, PHONE);
    }

    fn logout(&self) {
        self.presence(Some("unavailable"), PHONE);
    }

    fn plain(&self, jid: &str) -> Option<String> {
        self.cluster.plain(jid).map(|host| host.to_string())
    }

    async fn claim_at_dc2(&self, jid: &str, since: u64) {
        let claim = OwnClaim {
            jid: jid.to_owned(),
            since,
            fresh: true,
        };
        self.dc2.claim(&[claim]).await.unwrap();
    }

    async fn locate(&self, text: &str) -> Locations {
        self.sessions.locate(&jid(text)).await
    }

    fn errors(&self, operation: &str) -> u64 {
        let errors = &self.metrics.store_errors;
        errors.with_label_values(&[operation]).get()
    }

    /// Waits until `fact` holds; the clock is paused and jumps.
    async fn until(&self, mut fact: impl FnMut() -> bool) {
        let holds = async {
            while !fact() {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(10), holds)
            .await
            .expect("waited in vain");
    }
}

fn found(full: &[&str], bare: &[&str], home: Option<&str>) -> Locations {
    let hosts = |names: &[&str]| names.iter().map(|name| host(name)).collect();
    Locations {
        full: hosts(full),
        bare: hosts(bare),
        home: home.map(host),
    }
}

#[tokio::test(start_paused = true)]
async fn sessions_are_claimed_and_withdrawn_at_once() {
    let world = World::new().await;
    world.login();
    assert!(world.sessions.is_here(&jid(PHONE)));
    assert!(world.sessions.is_here(&jid(ALICE)));
    assert_eq!(world.metrics.sessions.get(), 1);
    let here = Some("dc1.test".to_owned());
    world
        .until(|| world.plain(PHONE) == here && world.plain(ALICE) == here)
        .await;
    assert_eq!(world.locate(PHONE).await, found(&["dc1.test"], &[], None));
    assert_eq!(world.locate(ALICE).await, found(&[], &["dc1.test"], None));

    world.logout();
    assert_eq!(world.metrics.sessions.get(), 0);
    world
        .until(|| world.plain(PHONE).is_none() && world.plain(ALICE).is_none())
        .await;
    let home = found(&[], &[], Some("dc1.test"));
    assert_eq!(world.locate(PHONE).await, home);
}

#[tokio::test(start_paused = true)]
async fn claims_are_kept_alive_and_written_again_after_a_flush() {
    let world = World::new().await;
    world.login();
    world.until(|| world.plain(PHONE).is_some()).await;
    for _ in 0..10 {
        tokio::time::sleep(REFRESH_AFTER).await;
        assert!(world.plain(PHONE).is_some());
        assert!(world.plain(ALICE).is_some());
    }
    world.cluster.flush();
    tokio::time::sleep(REFRESH_AFTER).await;
    assert!(world.plain(PHONE).is_some());
    assert_eq!(
        world.dc2.read(ALICE).await.unwrap().home,
        Some(host("dc1.test"))
    );
}

#[tokio::test(start_paused = true)]
async fn what_happens_while_the_store_is_away_is_written_on_its_return() {
    let world = World::new().await;
    world.presence(None, "carol@example.test/x");
    world
        .until(|| world.plain("carol@example.test").is_some())
        .await;

    world.cluster.set_available(false);
    world.cluster.flush();
    world.login();
    world.presence(None, "dave@example.test/x");
    world.presence(Some("unavailable"), "dave@example.test/x");
    world.until(|| world.metrics.store_up.get() == 0).await;
    assert!(world.errors("claim") + world.errors("withdraw") > 0);
    assert_eq!(world.locate(PHONE).await, found(&["dc1.test"], &[], None));

    world.cluster.set_available(true);
    world.until(|| world.metrics.store_up.get() == 1).await;
    world
        .until(|| {
            let all = [PHONE, ALICE, "carol@example.test/x", "carol@example.test"];
            all.iter().all(|jid| world.plain(jid).is_some())
        })
        .await;
    assert_eq!(world.plain("dave@example.test"), None);
}

#[tokio::test(start_paused = true)]
async fn other_hosts_are_found_newest_first() {
    let world = World::new().await;
    assert_eq!(world.locate(PHONE).await, found(&[], &[], None));
    world.claim_at_dc2(ALICE, 1).await;
    assert_eq!(world.locate(PHONE).await, found(&[], &["dc2.test"], None));
    assert_eq!(world.locate(ALICE).await, found(&[], &["dc2.test"], None));

    // The user logs in here too, later, and then logs out.
    world.login();
    assert_eq!(
        world.locate(ALICE).await,
        found(&[], &["dc1.test", "dc2.test"], None)
    );
    world.logout();
    assert_eq!(world.locate(PHONE).await, found(&[], &["dc2.test"], None));
}

#[tokio::test(start_paused = true)]
async fn a_refused_claim_does_not_keep_others_from_the_table() {
    let world = World::new().await;
    world.cluster.refuse(ALICE);
    world.login();
    world.presence(None, "carol@example.test/x");
    world
        .until(|| world.plain(PHONE).is_some() && world.plain("carol@example.test").is_some())
        .await;
    assert_eq!(world.plain(ALICE), None);
    assert_eq!(world.errors("claim_refused"), 1);
    assert_eq!(world.metrics.store_up.get(), 1);
    assert_eq!(world.locate(ALICE).await, found(&[], &["dc1.test"], None));

    // The refused claim is tried again with each refresh, and delays no other claim.
    tokio::time::sleep(3 * REFRESH_AFTER).await;
    assert!(world.errors("claim_refused") > 1);
    assert!(world.plain(PHONE).is_some());
}

#[tokio::test(start_paused = true)]
async fn after_a_restart_the_own_host_counts_until_it_withdraws() {
    let world = World::new().await;
    // The gateway process before this one claimed the user.
    let before = world.cluster.store(host("dc1.test"), "gw1");
    for jid in [PHONE, ALICE] {
        let claim = OwnClaim {
            jid: jid.to_owned(),
            since: 1,
            fresh: true,
        };
        before.claim(&[claim]).await.unwrap();
    }
    assert_eq!(world.locate(PHONE).await, found(&["dc1.test"], &[], None));

    // The table's answer is outdated while it cannot receive the withdrawal.
    world.cluster.set_available(false);
    world.login();
    world.logout();
    world.until(|| world.metrics.store_up.get() == 0).await;
    world.cluster.set_available(true);
    assert_eq!(world.locate(PHONE).await, found(&[], &[], Some("dc1.test")));
}

#[tokio::test(start_paused = true)]
async fn leases_run_out_in_the_table_too() {
    let world = World::new().await;
    let (from, to) = (jid(PHONE), jid(BOB));
    world
        .sessions
        .observe_tag(Kind::Message, Some("chat"), &from, Some(&to));
    world.until(|| world.plain(PHONE).is_some()).await;
    tokio::time::sleep(EXPIRE_AFTER).await;
    world.until(|| world.plain(PHONE).is_none()).await;
    assert!(!world.sessions.is_here(&jid(PHONE)));
}

#[tokio::test(start_paused = true)]
async fn who_does_not_answer_after_a_break_is_withdrawn() {
    let world = World::new().await;
    world.login();
    world.presence(None, "carol@example.test/x");
    world.sessions.detached();
    assert!(world.sessions.is_here(&jid(PHONE)));
    let probes = world.sessions.probes();
    assert_eq!(probes.len(), 2);
    assert_eq!(probes[0].to.as_str(), ALICE);
    world.login();
    tokio::time::sleep(Duration::from_secs(11)).await;
    assert!(world.sessions.is_here(&jid(PHONE)));
    world
        .until(|| world.plain("carol@example.test").is_none())
        .await;
    assert!(!world.sessions.is_here(&jid("carol@example.test")));
}

#[tokio::test(start_paused = true)]
async fn stanzas_are_observed_and_probes_are_stanzas() {
    let world = World::new().await;
    let presence = Stanza::new(
        Kind::Presence,
        None,
        None,
        Some(jid(PHONE)),
        Some(jid("bob@example.test/home")),
        &[],
    );
    world.sessions.observe(&presence);
    assert!(world.sessions.is_here(&jid(PHONE)));
    world.sessions.detached();
    let probes = world.sessions.attached();
    assert_eq!(probes.len(), 1);
    assert_eq!(probes[0].kind(), Kind::Presence);
    assert_eq!(probes[0].stanza_type(), Some("probe"));
    assert_eq!(probes[0].from(), Some(&jid(BOB)));
    assert_eq!(probes[0].to(), Some(&jid(ALICE)));
}

#[tokio::test(start_paused = true)]
async fn at_the_end_what_is_new_is_written_and_claims_stay() {
    let world = World::new().await;
    world.login();
    world.shutdown.cancel();
    world.running.await.unwrap();
    assert_eq!(
        world.cluster.plain(PHONE).map(|host| host.to_string()),
        Some("dc1.test".to_owned())
    );
}

#[tokio::test(start_paused = true)]
async fn a_store_that_hangs_does_not_hold_up_the_end() {
    let world = World::new().await;
    world.cluster.hang();
    world.login();
    world.shutdown.cancel();
    tokio::time::timeout(Duration::from_secs(10), world.running)
        .await
        .unwrap()
        .unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_unique_name_belongs_to_whoever_claimed_it_first() {
    let world = World::with(config::Accounts::Unique).await;
    world.dc2.settle(&[ALICE.to_owned()]).await.unwrap();
    world.login();
    let refused = || world.metrics.claims_refused.get() == 1;
    world.until(refused).await;
    assert_eq!(world.plain(PHONE), None);
    assert!(!world.sessions.is_here(&jid(PHONE)));
    assert!(world.locate(ALICE).await.bare.is_empty());
    let owner = world.sessions.owner_of(&jid(ALICE).to_bare()).await;
    assert_eq!(owner, super::Owner::Theirs);

    // A name without an owner is taken at its first use.
    let bob = jid(BOB).to_bare();
    assert_eq!(world.sessions.owner_of(&bob).await, super::Owner::Ours);
    assert_eq!(
        world.dc2.settle(&[BOB.to_owned()]).await.unwrap(),
        [Some(host("dc1.test"))]
    );
}

#[tokio::test(start_paused = true)]
async fn whose_a_name_is_stays_unknown_while_the_store_is_away() {
    let world = World::with(config::Accounts::Unique).await;
    world.login();
    world.until(|| world.plain(PHONE).is_some()).await;
    world.cluster.set_available(false);
    let alice = jid(ALICE).to_bare();
    assert_eq!(world.sessions.owner_of(&alice).await, super::Owner::Ours);
    let bob = jid(BOB).to_bare();
    assert_eq!(world.sessions.owner_of(&bob).await, super::Owner::Unknown);
    world.cluster.set_available(true);
}
