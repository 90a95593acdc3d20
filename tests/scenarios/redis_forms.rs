//! All forms of the session table in Redis, and failures there: specific to Redis.

use crate::support::client::Client;
use crate::support::cluster::Cluster;
use crate::support::dynomite_stand_in::DynomiteStandIn;
use crate::support::patience::until;
use crate::support::redis_cluster::RedisCluster;
use crate::support::redis_sentinels::Sentinels;
use crate::support::redis_server::{Access, Redis};
use crate::support::workdir::Workdir;

const REDIS_PASSWORD: &str = "correct-horse-of-redis";

fn with_password() -> Access {
    Access {
        password: Some(REDIS_PASSWORD.to_owned()),
        tls: None,
    }
}

/// Two datacenters with `more` in `[redis]`.
async fn datacenters(name: &str, more: &str) -> Cluster {
    Cluster::builder()
        .named(name)
        .datacenter("dc1.test")
        .datacenter("dc2.test")
        .config(&format!("[redis]\n{more}\n"))
        .start()
        .await
}

async fn greet(alice: &Client, bob: &Client, text: &str) {
    alice.chat("bob@example.test", text).await;
    bob.expect_chat("alice@example.test", text).await;
    bob.chat("alice@example.test", text).await;
    alice.expect_chat("bob@example.test", text).await;
}

/// Waits until each gateway reports that the table can be written, or cannot.
async fn until_stores_are(cluster: &Cluster, up: bool) {
    for dc in cluster.datacenters() {
        let wanted = |value: f64| (value == 1.0) == up;
        dc.gateway
            .until_metric("strait_store_up", &[], wanted)
            .await;
    }
}

async fn assert_all_is_well(cluster: &Cluster) {
    cluster.assert_no_leaks();
    cluster.assert_balanced().await;
    cluster.assert_no_secrets_logged();
    for dc in cluster.datacenters() {
        assert!(!dc.gateway.log().contains(REDIS_PASSWORD));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sentinels_master_dies() {
    let workdir = Workdir::new("sentinels");
    let mut set = Sentinels::start(&workdir, 3, with_password()).await;
    let cluster = datacenters("sentinels-dc", &format!("url = '{}'", set.url())).await;
    let alice = cluster.login("alice", "dc1.test", "r1").await;
    let bob = cluster.login("bob", "dc2.test", "b1").await;
    greet(&alice, &bob, "before").await;

    set.servers[0].process.kill9().await;
    greet(&alice, &bob, "while there is no master").await;
    let carol = cluster.login("carol", "dc2.test", "c1").await;
    let new = &set.servers[1];
    for (jid, host) in [
        ("carol@example.test/c1", "dc2.test"),
        ("bob@example.test/b1", "dc2.test"),
        ("alice@example.test", "dc1.test"),
    ] {
        new.until_value(jid, Some(host)).await;
    }
    until_stores_are(&cluster, true).await;
    alice.chat("carol@example.test", "hello carol").await;
    carol.expect_chat("alice@example.test", "hello carol").await;
    greet(&alice, &bob, "after").await;
    assert_all_is_well(&cluster).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_master_of_a_shard_dies() {
    let workdir = Workdir::new("shards");
    let mut shards = RedisCluster::start(&workdir, 1, with_password()).await;
    let cluster = datacenters("shards-dc", &format!("url = '{}'", shards.url())).await;
    let alice = cluster.login("alice", "dc1.test", "r1").await;
    let bob = cluster.login("bob", "dc2.test", "b1").await;
    greet(&alice, &bob, "before").await;

    let carols = "carol@example.test";
    let dies = shards.master_of(carols).await;
    shards.servers[dies].process.kill9().await;
    greet(&alice, &bob, "while a shard has no master").await;
    let carol = cluster.login("carol", "dc2.test", "c1").await;
    until("carol's claim on the new master", async || {
        let master = shards.master_of(carols).await;
        match shards.servers[master].get(carols).await {
            Some(host) if host == "dc2.test" => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await;
    until_stores_are(&cluster, true).await;
    alice.chat(carols, "hello carol").await;
    carol.expect_chat("alice@example.test", "hello carol").await;
    greet(&alice, &bob, "after").await;
    assert_all_is_well(&cluster).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn dynomite_is_sent_nothing_that_it_refuses() {
    let workdir = Workdir::new("dynomite");
    let redis = Redis::start(&workdir).await;
    let proxy = DynomiteStandIn::start(redis.address()).await;
    let more = format!(
        "url = '{}'\ncompat = 'dynomite'\nexpire_after = 4\nrefresh_after = 1",
        proxy.url()
    );
    let cluster = datacenters("dynomite-dc", &more).await;
    let alice = cluster.login("alice", "dc1.test", "r1").await;
    let bob = cluster.login("bob", "dc2.test", "b1").await;
    let again = cluster.login("alice", "dc2.test", "r2").await;
    greet(&alice, &bob, "through dynomite").await;
    redis.until_refreshed("bob@example.test/b1").await;
    redis
        .until_value("alice@example.test/r2", Some("dc2.test"))
        .await;
    again.close().await;
    redis.until_value("alice@example.test/r2", None).await;
    redis.until_refreshed("dc1.test#n1#{endpoints}").await;
    assert_all_is_well(&cluster).await;
    cluster.stop().await;
    redis.until_value("dc1.test#n1#{endpoints}", None).await;
    proxy.assert_nothing_refused();
}

#[tokio::test(flavor = "multi_thread")]
async fn redis_is_reached_over_tls_with_a_password() {
    let workdir = Workdir::new("redis-tls");
    let directory = workdir.file("certs");
    let authority = crate::support::certs::Authority::new(&directory, "redis");
    let access = Access {
        tls: Some(authority.issue("localhost")),
        ..with_password()
    };
    let redis = Redis::start_with(&workdir, "redis", access, &[]).await;
    let ours = authority.issue("gateways.test");
    let more = format!(
        "url = '{}'\ncacertfile = '{}'\ncertfile = '{}'\nkeyfile = '{}'",
        redis.url(),
        ours.cacertfile.display(),
        ours.certfile.display(),
        ours.keyfile.display()
    );
    let cluster = datacenters("redis-tls-dc", &more).await;
    let alice = cluster.login("alice", "dc1.test", "r1").await;
    let bob = cluster.login("bob", "dc2.test", "b1").await;
    greet(&alice, &bob, "over TLS").await;
    redis
        .until_value("bob@example.test/b1", Some("dc2.test"))
        .await;
    assert_all_is_well(&cluster).await;
}
