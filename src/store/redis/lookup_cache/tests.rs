use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;

const PHONE: &str = "alice@example.test/phone";
const ALICE: &str = "alice@example.test";
const LIFETIME: Duration = Duration::from_secs(5);
const MOMENT: Duration = Duration::from_millis(50);

/// A cache in front of a table that can fail.
struct World {
    cache: LookupCache,
    metrics: Arc<Metrics>,
    /// `None`: the table does not answer.
    table: Mutex<Option<Result<Located, StoreError>>>,
    asked: AtomicUsize,
}

impl World {
    fn new(cache_missed: bool) -> Self {
        let metrics = Arc::new(Metrics::new());
        let cache = config::Cache {
            cache_missed,
            jid_lifetime: LIFETIME,
            ..config::Cache::default()
        };
        Self {
            cache: LookupCache::new(&cache, metrics.clone()),
            metrics,
            table: Mutex::new(Some(Ok(Located::default()))),
            asked: AtomicUsize::new(0),
        }
    }

    fn set(&self, table: Option<Result<Located, StoreError>>) {
        *self.table.lock() = table;
    }

    fn set_full(&self, host: &str) {
        self.set(Some(Ok(Located {
            full: vec![claim(host)],
            ..Located::default()
        })));
    }

    fn fail(&self) {
        self.set(Some(Err(StoreError("out of order".to_owned()))));
    }

    async fn read(&self) -> Result<Located, StoreError> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        let table = self.table.lock().clone();
        match table {
            Some(answer) => answer,
            None => std::future::pending().await,
        }
    }

    async fn look_up(&self, jid: &str) -> Located {
        match self.cache.fresh(jid) {
            Some(located) => located,
            None => self.cache.lookup(jid, self.read()).await,
        }
    }

    /// The host that claims the full JID.
    async fn phone(&self) -> Option<String> {
        let located = self.look_up(PHONE).await;
        located.full.first().map(|claim| claim.host.to_string())
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::Relaxed)
    }

    fn errors(&self) -> u64 {
        let errors = &self.metrics.store_errors;
        errors.with_label_values(&["claims"]).get()
    }
}

fn claim(host: &str) -> Claim {
    Claim {
        host: Host::new(host).unwrap(),
        since: Some(1),
    }
}

fn is(host: &str) -> Option<String> {
    Some(host.to_owned())
}

#[tokio::test(start_paused = true)]
async fn answers_are_fresh_for_their_lifetime() {
    let world = World::new(true);
    world.set_full("dc2.test");
    for _ in 0..3 {
        assert_eq!(world.phone().await, is("dc2.test"));
    }
    assert_eq!(world.asked(), 1);
    tokio::time::sleep(LIFETIME).await;
    world.set_full("dc3.test");
    assert_eq!(world.phone().await, is("dc3.test"));
}

#[tokio::test(start_paused = true)]
async fn one_answer_serves_the_full_and_the_bare_jid() {
    let world = World::new(true);
    world.set(Some(Ok(Located {
        home: Some(Host::new("dc2.test").unwrap()),
        ..Located::default()
    })));
    let full = world.look_up(PHONE).await;
    assert_eq!(world.look_up(ALICE).await, full);
    assert_eq!(world.asked(), 1);
}

#[tokio::test(start_paused = true)]
async fn misses_are_only_cached_if_wanted() {
    for (cache_missed, asked) in [(true, 1), (false, 3)] {
        let world = World::new(cache_missed);
        for _ in 0..3 {
            assert_eq!(world.look_up(ALICE).await, Located::default());
        }
        assert_eq!(world.asked(), asked);
    }
}

#[tokio::test(start_paused = true)]
async fn an_invalid_answer_counts_until_there_is_another() {
    let world = World::new(true);
    world.set_full("dc2.test");
    world.phone().await;
    world.fail();
    world.cache.invalidate(PHONE, Duration::ZERO);
    assert_eq!(world.phone().await, is("dc2.test"));
    assert_eq!((world.asked(), world.errors()), (2, 1));
    world.set_full("dc3.test");
    assert_eq!(world.phone().await, is("dc3.test"));
}

#[tokio::test(start_paused = true)]
async fn many_reasons_to_ask_anew_cost_few_questions() {
    let world = World::new(true);
    for _ in 0..100 {
        world.cache.invalidate(ALICE, MOMENT);
        world.look_up(ALICE).await;
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    // Look-ups at 0, 50 and perhaps 100 ms.
    let asked = world.asked();
    assert!((2..=3).contains(&asked), "{asked} times");
}

#[tokio::test(start_paused = true)]
async fn the_same_look_up_is_asked_for_once() {
    let world = World::new(true);
    world.set(None);
    let started = Instant::now();
    futures::future::join_all((0..10).map(|_| world.look_up(ALICE))).await;
    assert_eq!((started.elapsed(), world.asked()), (PATIENCE, 1));

    // No look-up waits for a silent Redis again so soon.
    let started = Instant::now();
    world.look_up(PHONE).await;
    assert_eq!((started.elapsed(), world.asked()), (Duration::ZERO, 1));
    tokio::time::sleep(REST).await;
    world.set_full("dc2.test");
    assert_eq!(world.phone().await, is("dc2.test"));
    assert!(world.cache.pending().is_empty());
}

#[tokio::test(start_paused = true)]
async fn old_answers_are_outdated_when_there_is_no_new_one() {
    let world = World::new(true);
    world.set_full("dc2.test");
    world.phone().await;
    let read_at = Instant::now();
    tokio::time::sleep(Duration::from_secs(60)).await;
    world.fail();
    let located = world.look_up(PHONE).await;
    assert_eq!(located.full, [claim("dc2.test")]);
    assert_eq!(located.outdated, Some(read_at));
    let unknown = world.look_up("bob@example.test").await;
    assert_eq!(unknown.outdated, Some(world.cache.begun));
}
