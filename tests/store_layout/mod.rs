//! Tables in Redis in all its forms, and what exactly must be in there.

use std::collections::HashMap;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use redis::FromRedisValue;
use strait::config::{self, Compat, RedisTls, Secret};
use strait::host::Host;
use strait::metrics::Metrics;
use strait::store::{RedisStore, Store};

use crate::store_contract::{Bench, announcement, began, host, offer, offering, refresh};

/// What the default of `expire_after` is.
pub const LONG: Duration = Duration::from_secs(120);

pub const FULL: &str = "alice@example.test/phone";
pub const BARE: &str = "alice@example.test";

/// Redis, however it is set up, without the gateways.
pub trait Site {
    fn url(&self) -> String;

    fn compat(&self) -> Compat {
        Compat::Redis
    }

    fn tls(&self) -> RedisTls {
        RedisTls::default()
    }

    /// The answer to a command.
    fn ask<T: FromRedisValue>(&self, command: &[&str]) -> impl Future<Output = T>;

    /// To be called at a test's end.
    fn check(&self) {}
}

/// A fresh, empty table.
pub struct Table<S: Site> {
    pub site: S,
    pub expire_after: Duration,
}

/// The store of a node that caches as by default.
pub fn new_store(host: &Host, node: &str, config: &config::Redis) -> RedisStore {
    let (cache, metrics) = (config::Cache::default(), Arc::new(Metrics::new()));
    RedisStore::new(host.clone(), node.to_owned(), config, &cache, metrics).unwrap()
}

impl<S: Site> Table<S> {
    pub fn store(&self, host: &Host, node: &str) -> RedisStore {
        let config = config::Redis {
            url: Secret::new(self.site.url()),
            compat: self.site.compat(),
            tls: self.site.tls(),
            expire_after: self.expire_after,
            refresh_after: self.expire_after / 2,
        };
        new_store(host, node, &config)
    }

    pub async fn ask<T: FromRedisValue>(&self, command: &[&str]) -> T {
        self.site.ask(command).await
    }

    pub async fn keys(&self) -> Vec<String> {
        let mut keys: Vec<String> = self.ask(&["KEYS", "*"]).await;
        keys.sort();
        keys
    }

    pub async fn assert_expires_in_120(&self, key: &str) {
        let ttl: i64 = self.ask(&["TTL", key]).await;
        assert!((110..=120).contains(&ttl), "{key} expires in {ttl} s");
    }
}

impl<S: Site> Bench for Table<S> {
    fn store(&self, host: &Host, node: &str) -> Arc<dyn Store> {
        Arc::new(Table::store(self, host, node))
    }

    async fn write_as_mongooseim(&self, jid: &str, host: &Host) {
        let lifetime = self.expire_after.as_secs().to_string();
        self.ask::<()>(&["SET", jid, host.as_str(), "EX", &lifetime])
            .await;
    }

    async fn read_as_mongooseim(&self, jid: &str) -> Option<String> {
        self.ask(&["GET", jid]).await
    }
}

impl<S: Site> Drop for Table<S> {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.site.check();
        }
    }
}

pub async fn claims_are_in_mod_global_distribs_layout(table: Table<impl Site>) {
    let store = table.store(&host("dc1.test"), "gw1");
    let since = 1_700_000_000_123;
    store
        .claim(&[began(FULL, since), began(BARE, since)])
        .await
        .unwrap();

    let expected = [
        "alice@example.test",
        "alice@example.test/phone",
        "{alice@example.test/phone}#claims",
        "{alice@example.test}#claims",
        "{alice@example.test}#home",
    ];
    assert_eq!(table.keys().await, expected);
    for jid in [FULL, BARE] {
        assert_eq!(table.ask::<String>(&["GET", jid]).await, "dc1.test");
        table.assert_expires_in_120(jid).await;
        let claims = format!("{{{jid}}}#claims");
        assert_eq!(
            table
                .ask::<HashMap<String, String>>(&["HGETALL", &claims])
                .await,
            HashMap::from([("dc1.test".to_owned(), since.to_string())])
        );
        table.assert_expires_in_120(&claims).await;
    }
    let home = "{alice@example.test}#home";
    assert_eq!(table.ask::<String>(&["GET", home]).await, "dc1.test");
    let days: i64 = table.ask(&["TTL", home]).await;
    assert!(days > 29 * 24 * 3600, "the home expires in {days} s");

    // Only while several hosts claim a JID does each claim have a deadline.
    let other = table.store(&host("dc2.test"), "gw1");
    other.claim(&[began(FULL, since + 1)]).await.unwrap();
    let deadlines = format!("{{{FULL}}}#deadlines");
    let at: HashMap<String, u64> = table.ask(&["HGETALL", &deadlines]).await;
    assert_eq!(at.len(), 2, "{at:?}");
    table.assert_expires_in_120(&deadlines).await;

    for (store, jids) in [(&store, &[FULL, BARE][..]), (&other, &[FULL])] {
        let jids: Vec<_> = jids.iter().map(|jid| (*jid).to_owned()).collect();
        store.withdraw(&jids).await.unwrap();
    }
    assert_eq!(table.keys().await, [home]);
}

pub async fn the_registry_is_in_mod_global_distribs_layout(table: Table<impl Site>) {
    let store = table.store(&host("dc1.test"), "gw1");
    let mut told = announcement(&[("10.0.0.1", 5555), ("2001:db8::1", 5556)]);
    store.announce(&told).await.unwrap();
    let endpoints = "dc1.test#gw1#{endpoints}";
    let gateways = "dc1.test#{gateways}";
    assert_eq!(
        table.keys().await,
        [endpoints, gateways, "dc1.test#{nodes}", "hosts"]
    );
    table.assert_expires_in_120(gateways).await;
    let mut members: Vec<String> = table.ask(&["SMEMBERS", endpoints]).await;
    members.sort();
    assert_eq!(members, ["10.0.0.1#5555", "2001:db8::1#5556"]);
    table.assert_expires_in_120(endpoints).await;
    let hosts: Vec<String> = table.ask(&["SMEMBERS", "hosts"]).await;
    assert_eq!(hosts, ["dc1.test"]);
    assert_eq!(table.ask::<i64>(&["TTL", "dc1.test#{nodes}"]).await, -1);
    let stamp: u64 = table.ask(&["HGET", "dc1.test#{nodes}", "gw1"]).await;
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let now = now.unwrap().as_secs();
    assert!(now.abs_diff(stamp) < 60, "stamped {stamp} at {now}");

    let (muc, hidden) = ("muc.example.test", "hidden.example.test");
    told.offers = vec![offer(muc, false), offer(hidden, true)];
    store.announce(&told).await.unwrap();
    let domains = "dc1.test#gw1#{domains}";
    let mut members: Vec<String> = table.ask(&["SMEMBERS", domains]).await;
    members.sort();
    assert_eq!(members, [hidden, muc]);
    table.assert_expires_in_120(domains).await;
    let public = "dc1.test#gw1#{public_domains}";
    let members: Vec<String> = table.ask(&["SMEMBERS", public]).await;
    assert_eq!(members, [muc]);
    table.assert_expires_in_120(public).await;
    for domain in [muc, hidden] {
        assert_eq!(table.ask::<String>(&["GET", domain]).await, "dc1.test");
        table.assert_expires_in_120(domain).await;
    }

    store.retire().await.unwrap();
    assert_eq!(table.keys().await, [""; 0]);
}

/// Its nodes are no gateways: nothing there speaks the gateways' protocol.
pub async fn a_mongooseim_without_a_gateway_is_no_host(table: Table<impl Site>) {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let now = now.unwrap().as_secs().to_string();
    let (node, host_name) = ("mongooseim@mim1", "dc2.test");
    let muc = "muc.example.test";
    for command in [
        &[
            "SADD",
            "dc2.test#mongooseim@mim1#{domains}",
            muc,
            "pubsub.dc2.test",
        ][..],
        &["SADD", "dc2.test#mongooseim@mim1#{public_domains}", muc],
        &["SET", muc, host_name, "EX", "120"],
        &[
            "SADD",
            "dc2.test#mongooseim@mim1#{endpoints}",
            "10.0.0.1#5555",
        ],
        &["SET", FULL, host_name, "EX", "120"],
        &["HSET", "dc2.test#{nodes}", node, &now],
        &["SADD", "hosts", host_name],
    ] {
        table.ask::<()>(command).await;
    }
    let store = table.store(&host("dc1.test"), "gw1");
    let dc2 = host(host_name);
    assert!(store.hosts().await.unwrap().is_empty());
    assert_eq!(store.offers(&dc2).await.unwrap(), []);
    assert_eq!(store.endpoints(&dc2).await.unwrap(), []);
    assert_eq!(store.claims(FULL).await.unwrap(), []);

    let gateway = table.store(&dc2, "gw1");
    gateway
        .announce(&announcement(&[("10.0.0.2", 5555)]))
        .await
        .unwrap();
    let endpoints = store.endpoints(&dc2).await.unwrap();
    assert_eq!(endpoints, announcement(&[("10.0.0.2", 5555)]).endpoints);
    assert_eq!(store.claims(FULL).await.unwrap().len(), 1);
    gateway.retire().await.unwrap();
    let nodes: Vec<String> = table.ask(&["HKEYS", "dc2.test#{nodes}"]).await;
    assert_eq!(nodes, [node]);
    // What is a MongooseIM's stays a MongooseIM's.
    let told = offering(&[offer(muc, false)]);
    store.announce(&told).await.unwrap();
    store.retire().await.unwrap();
    assert_eq!(table.ask::<String>(&["GET", muc]).await, host_name);
}

/// The names of users are theirs to choose: none leaves its slot, or is another one's key.
pub async fn names_with_braces_hurt_nobody(table: Table<impl Site>) {
    let one = table.store(&host("dc1.test"), "gw1");
    let two = table.store(&host("dc2.test"), "gw1");
    for store in [&one, &two] {
        store.announce(&announcement(&[])).await.unwrap();
    }
    let bob = "bob@example.test/x";
    let (slot, key) = ("mallory@dc1/{1}", "{bob@example.test/x}#claims");
    let all = [slot, key, "{bob@example.test", bob, FULL, BARE];
    let claims = all.map(|jid| began(jid, 1000));
    assert_eq!(one.claim(&claims).await.unwrap(), []);
    for jid in all {
        let found = one.claims(jid).await.unwrap();
        assert_eq!(found.len(), 1, "{jid}: {found:?}");
        assert_eq!(found[0].since, Some(1000), "{jid}");
    }
    assert_eq!(table.ask::<String>(&["GET", slot]).await, "dc1.test");
    assert_eq!(
        table.ask::<String>(&["HGET", key, "dc1.test"]).await,
        "1000"
    );

    for jid in [slot, key] {
        two.claim(&[began(jid, 2000)]).await.unwrap();
        one.claim(&[refresh(jid, 1000)]).await.unwrap();
        let hosts: Vec<_> = two.claims(jid).await.unwrap();
        let hosts: Vec<_> = hosts.iter().map(|claim| claim.host.as_str()).collect();
        assert_eq!(hosts, ["dc2.test", "dc1.test"], "{jid}");
    }
    assert_eq!(table.ask::<String>(&["GET", slot]).await, "dc2.test");
    for store in [&one, &two] {
        let names = [slot.to_owned(), key.to_owned()];
        assert_eq!(store.withdraw(&names).await.unwrap(), []);
    }
    assert_eq!(one.claims(key).await.unwrap(), []);
    assert!(table.ask::<Option<String>>(&["GET", slot]).await.is_none());
    assert_eq!(one.claims(bob).await.unwrap().len(), 1);
}

/// A value of another type under one user's key keeps nobody else from the table.
pub async fn a_refused_claim_fails_alone(table: Table<impl Site>) {
    let store = table.store(&host("dc1.test"), "gw1");
    table.ask::<()>(&["LPUSH", BARE, "strange"]).await;
    let claims = [
        began(BARE, 1000),
        began(FULL, 1000),
        began("bob@example.test", 1000),
    ];
    for _ in 0..2 {
        let refused = store.claim(&claims).await.unwrap();
        let jids: Vec<_> = refused.iter().map(|refused| refused.jid.as_str()).collect();
        assert_eq!(jids, [BARE], "{refused:?}");
        assert!(refused[0].reason.contains("WRONGTYPE"), "{refused:?}");
    }
    assert_eq!(store.claims(FULL).await.unwrap().len(), 1);
    let bob = "bob@example.test".to_owned();
    let refused = store.withdraw(&[BARE.to_owned(), bob]).await.unwrap();
    assert_eq!(refused.len(), 1, "{refused:?}");
    assert_eq!(store.claims("bob@example.test").await.unwrap(), []);
}

/// Claims that somebody with access to Redis has written by hand.
pub async fn a_claim_from_the_future_wins_nothing(table: Table<impl Site>) {
    let one = table.store(&host("dc1.test"), "gw1");
    let two = table.store(&host("dc2.test"), "gw1");
    for store in [&one, &two] {
        store.announce(&announcement(&[])).await.unwrap();
    }
    let claims = format!("{{{FULL}}}#claims");
    let future = i64::MAX.to_string();
    table
        .ask::<()>(&["HSET", &claims, "dc2.test", &future])
        .await;
    table
        .ask::<()>(&["SET", FULL, "dc2.test", "EX", "120"])
        .await;
    one.claim(&[refresh(FULL, 1000)]).await.unwrap();
    assert_eq!(table.ask::<String>(&["GET", FULL]).await, "dc1.test");
    let found = one.claims(FULL).await.unwrap();
    let hosts: Vec<_> = found.iter().map(|claim| claim.host.as_str()).collect();
    assert_eq!(hosts, ["dc1.test", "dc2.test"]);

    // A withdrawal leaves the key to the newest credible claim.
    let three = table.store(&host("dc3.test"), "gw1");
    three.claim(&[began(FULL, 2000)]).await.unwrap();
    three.withdraw(&[FULL.to_owned()]).await.unwrap();
    assert_eq!(table.ask::<String>(&["GET", FULL]).await, "dc1.test");
}

/// With unique accounts, readers ignore claims by others than the owner.
pub async fn only_the_owner_of_a_unique_name_is_found(table: Table<impl Site>) {
    let owner = table.store(&host("dc1.test"), "gw1").with_unique_accounts();
    let other = table.store(&host("dc2.test"), "gw1").with_unique_accounts();
    for store in [&owner, &other] {
        store.announce(&announcement(&[])).await.unwrap();
    }
    owner
        .claim(&[began(BARE, 1000), began(FULL, 1000)])
        .await
        .unwrap();
    let home = format!("{{{BARE}}}#home");
    assert_eq!(table.ask::<i64>(&["TTL", &home]).await, -1);
    for jid in [BARE, FULL] {
        let claims = format!("{{{jid}}}#claims");
        table
            .ask::<()>(&["HSET", &claims, "dc2.test", "2000"])
            .await;
        table.ask::<()>(&["SET", jid, "dc2.test"]).await;
    }
    for store in [&owner, &other] {
        let found = store.lookup(FULL).await;
        for claims in [found.full, found.bare] {
            let hosts: Vec<_> = claims.iter().map(|claim| claim.host.as_str()).collect();
            assert_eq!(hosts, ["dc1.test"]);
        }
    }
}

/// Makes a test of each part of the layout; `$table` makes a fresh table with
/// the `expire_after` that it is given.
#[macro_export]
macro_rules! layout_tests {
    ($table:path) => {
        #[tokio::test]
        async fn claims_are_in_mod_global_distribs_layout() {
            let table = $table($crate::store_layout::LONG).await;
            $crate::store_layout::claims_are_in_mod_global_distribs_layout(table).await;
        }

        #[tokio::test]
        async fn the_registry_is_in_mod_global_distribs_layout() {
            let table = $table($crate::store_layout::LONG).await;
            $crate::store_layout::the_registry_is_in_mod_global_distribs_layout(table).await;
        }

        #[tokio::test]
        async fn names_with_braces_hurt_nobody() {
            let table = $table($crate::store_layout::LONG).await;
            $crate::store_layout::names_with_braces_hurt_nobody(table).await;
        }

        #[tokio::test]
        async fn a_claim_from_the_future_wins_nothing() {
            let table = $table($crate::store_layout::LONG).await;
            $crate::store_layout::a_claim_from_the_future_wins_nothing(table).await;
        }

        #[tokio::test]
        async fn only_the_owner_of_a_unique_name_is_found() {
            let table = $table($crate::store_layout::LONG).await;
            $crate::store_layout::only_the_owner_of_a_unique_name_is_found(table).await;
        }

        #[tokio::test]
        async fn a_refused_claim_fails_alone() {
            let table = $table($crate::store_layout::LONG).await;
            $crate::store_layout::a_refused_claim_fails_alone(table).await;
        }

        #[tokio::test]
        async fn a_mongooseim_without_a_gateway_is_no_host() {
            let table = $table($crate::store_layout::LONG).await;
            $crate::store_layout::a_mongooseim_without_a_gateway_is_no_host(table).await;
        }
    };
}
