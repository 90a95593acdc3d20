//! The store contract, kept by one real Redis with a password; and what
//! exactly is in there.

mod store_contract;
mod store_layout;
mod support;

use std::time::Duration;

use store_contract::{NOBODY, announcement, began, host, offer, refresh};
use store_layout::{BARE, FULL, LONG, Site, Table, new_store};
use strait::store::Store;
use support::redis_server::{Access, Redis};
use support::workdir::Workdir;

const PASSWORD: &str = "correct-horse";

struct One {
    redis: Redis,
    /// `user:password` of the gateways, if not the default user's.
    user: Option<String>,
    _workdir: Workdir,
}

impl Site for One {
    fn url(&self) -> String {
        match &self.user {
            None => self.redis.url(),
            Some(user) => format!("redis://{user}@{}/0", self.redis.address()),
        }
    }

    async fn ask<T: redis::FromRedisValue>(&self, command: &[&str]) -> T {
        self.redis.ask(command).await
    }
}

async fn table(expire_after: Duration) -> Table<One> {
    let workdir = Workdir::new("store");
    let access = Access {
        password: Some(PASSWORD.to_owned()),
        tls: None,
    };
    let site = One {
        redis: Redis::start_with(&workdir, "redis", access, &[]).await,
        user: None,
        _workdir: workdir,
    };
    Table { site, expire_after }
}

contract_tests!(tokio::test, table);
mongooseim_contract_tests!(tokio::test, table);
layout_tests!(table);

#[tokio::test]
async fn a_claim_left_to_another_lives_as_long_as_that_ones_did() {
    let table = table(LONG).await;
    let one = table.store(&host("dc1.test"), "gw1");
    let two = table.store(&host("dc2.test"), "gw1");
    one.claim(&[began(BARE, 1000)]).await.unwrap();
    two.claim(&[began(BARE, 2000)]).await.unwrap();
    two.withdraw(&[BARE.to_owned()]).await.unwrap();
    assert_eq!(table.ask::<String>(&["GET", BARE]).await, "dc1.test");
    table.assert_expires_in_120(BARE).await;
}

/// A gateway that was restarted and does not know the user any more goes on
/// being alive, and another host's refreshes keep the hash of claims alive.
#[tokio::test]
async fn a_lost_claim_lives_no_longer_than_it_would_have_alone() {
    let table = table(LONG).await;
    let one = table.store(&host("dc1.test"), "gw1");
    let two = table.store(&host("dc2.test"), "gw1");
    one.claim(&[began(FULL, 1000)]).await.unwrap();
    let claims = format!("{{{FULL}}}#claims");
    table.ask::<()>(&["EXPIRE", &claims, "30"]).await;

    for _ in 0..2 {
        two.claim(&[refresh(FULL, 2000)]).await.unwrap();
        table.assert_expires_in_120(&claims).await;
        let deadlines = format!("{{{FULL}}}#deadlines");
        let (now, _): (u64, u64) = table.ask(&["TIME"]).await;
        let its: u64 = table.ask(&["HGET", &deadlines, "dc1.test"]).await;
        assert!(its <= now + 30, "dies in {} s", its - now);
        let others: u64 = table.ask(&["HGET", &deadlines, "dc2.test"]).await;
        assert!(others >= now + 110, "dies in {} s", others - now);
    }
}

#[tokio::test]
async fn what_long_dead_nodes_left_is_cleared_away() {
    let table = table(LONG).await;
    for (key, node, stamp) in [
        ("gone.test#{nodes}", "gw1", "1000000000"),
        ("dc1.test#{nodes}", "old", "1000000000"),
        ("dc1.test#{nodes}", "gw1", "1000000000"),
    ] {
        table.ask::<()>(&["HSET", key, node, stamp]).await;
    }
    for name in ["gone.test", "empty.test", "dc1.test"] {
        table.ask::<()>(&["SADD", "hosts", name]).await;
    }
    let store = table.store(&host("dc1.test"), "gw1");
    assert_eq!(store.hosts().await.unwrap(), NOBODY);
    store.announce(&announcement(&[])).await.unwrap();
    assert_eq!(store.hosts().await.unwrap(), [host("dc1.test")]);
    store.announce(&announcement(&[])).await.unwrap();
    let hosts: Vec<String> = table.ask(&["SMEMBERS", "hosts"]).await;
    assert_eq!(hosts, ["dc1.test"]);
    let nodes: Vec<String> = table.ask(&["HKEYS", "dc1.test#{nodes}"]).await;
    assert_eq!(nodes, ["gw1"]);
}

#[tokio::test]
async fn works_again_at_once_when_redis_is_back() {
    let mut table = table(LONG).await;
    let store = table.store(&host("dc1.test"), "gw1");
    store.claim(&[began(FULL, 1000)]).await.unwrap();

    table.site.redis.process.kill9().await;
    let error = store.claims(FULL).await.unwrap_err().to_string();
    let address = table.site.redis.address().to_string();
    assert!(error.contains(&address), "{error}");
    assert!(!error.contains(PASSWORD), "{error}");

    table.site.redis.start_again().await;
    store.claim(&[refresh(FULL, 1000)]).await.unwrap();
    assert_eq!(store.claims(FULL).await.unwrap().len(), 1);

    // And a restart that nobody noticed costs no operation at all.
    table.site.redis.process.kill9().await;
    table.site.redis.start_again().await;
    assert_eq!(store.claims(FULL).await.unwrap(), []);
}

#[tokio::test]
async fn a_wrong_password_is_told_and_never_shown() {
    let table = table(LONG).await;
    let config = strait::config::Redis {
        url: strait::config::Secret::new(table.site.url().replace(PASSWORD, "battery-staple")),
        compat: strait::config::Compat::Redis,
        tls: strait::config::RedisTls::default(),
        expire_after: LONG,
        refresh_after: LONG / 2,
    };
    assert!(!format!("{config:?}").contains("battery-staple"));
    let store = new_store(&host("dc1.test"), "gw1", &config);
    let error = store.ping().await.unwrap_err().to_string();
    assert!(error.to_lowercase().contains("auth"), "{error}");
    assert!(!error.contains("battery-staple"), "{error}");
}

#[tokio::test]
async fn a_script_is_sent_whole_only_to_a_server_that_does_not_know_it() {
    let table = table(LONG).await;
    let store = table.store(&host("dc1.test"), "gw1");
    let calls = async |command: &str| {
        let stats: String = table.ask(&["INFO", "commandstats"]).await;
        let its = format!("cmdstat_{command}:calls=");
        let after = stats.split(its.as_str()).nth(1).unwrap_or("0,");
        let count = after.split(',').next().unwrap();
        count.parse::<u32>().unwrap()
    };
    for known in [0, 1, 2] {
        store.claim(&[refresh(FULL, 1000)]).await.unwrap();
        assert_eq!(calls("eval").await, 1);
        assert_eq!(calls("evalsha").await, 1 + known);
    }
    table.ask::<()>(&["SCRIPT", "FLUSH"]).await;
    store.claim(&[refresh(BARE, 1000)]).await.unwrap();
    assert_eq!(calls("eval").await, 2);
    assert_eq!(store.claims(BARE).await.unwrap().len(), 1);
}

#[tokio::test]
async fn the_documented_acl_is_enough() {
    let mut table = table(LONG).await;
    let guide = include_str!("../docs/redis.md");
    let rules = guide.split('`').find(|code| code.starts_with("+@read"));
    let rules = rules.expect("rules in docs/redis.md").split(' ');
    let mut command = vec!["ACL", "SETUSER", "gateway", "on", ">letmein"];
    command.extend(rules);
    table.ask::<()>(&command).await;
    table.site.user = Some("gateway:letmein".to_owned());

    let one = table.store(&host("dc1.test"), "gw1");
    let two = table.store(&host("dc2.test"), "gw1");
    let offers = vec![offer("muc.example.test", false)];
    for store in [&one, &two] {
        let mut told = announcement(&[("10.0.0.1", 5555)]);
        told.offers.clone_from(&offers);
        store.announce(&told).await.unwrap();
        let claims = [began(FULL, 1000), began(BARE, 1000)];
        store.claim(&claims).await.unwrap();
    }
    assert_eq!(one.claims(FULL).await.unwrap().len(), 2);
    assert_eq!(one.endpoints(&host("dc2.test")).await.unwrap().len(), 1);
    assert_eq!(one.offers(&host("dc2.test")).await.unwrap(), offers);
    assert!(one.read(BARE).await.unwrap().home.is_some());
    two.withdraw(&[FULL.to_owned()]).await.unwrap();
    two.retire().await.unwrap();
    one.retire().await.unwrap();
    one.ping().await.unwrap();
}

#[tokio::test]
async fn a_silent_redis_is_given_up_in_time() {
    let table = table(LONG).await;
    let store = table.store(&host("dc1.test"), "gw1");
    store.claim(&[began(FULL, 1000)]).await.unwrap();
    table.site.redis.process.freeze();
    for _ in 0..2 {
        let answer = tokio::time::timeout(Duration::from_secs(5), store.claims(FULL)).await;
        assert!(answer.expect("is waited for").is_err());
    }
    table.site.redis.process.thaw();
    assert_eq!(store.claims(FULL).await.unwrap().len(), 1);
}
