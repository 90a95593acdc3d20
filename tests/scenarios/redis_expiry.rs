//! Entries expire without a refresh, return with the next refresh, and leftovers of nodes long
//! dead are removed: in Redis, with mod_global_distrib's layout. The same without a database:
//! `mesh`, `partitions`, tests/store_mesh.rs.

use std::time::{Duration, Instant};

use crate::support::backend::Backend;
use crate::support::cluster::{Cluster, SECRET};
use crate::support::flood::Flood;
use crate::support::patience::until;

async fn pair(redis: &str) -> Cluster {
    Cluster::builder()
        .datacenter("dc1.test")
        .datacenter("dc2.test")
        .config(&format!("[redis]\n{redis}\n"))
        .start()
        .await
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_is_back_within_one_refresh_after_a_flushall() {
    const REFRESH_AFTER: Duration = Duration::from_secs(4);
    let cluster = pair("expire_after = 30\nrefresh_after = 4").await;
    let redis = &cluster.redis;
    let alice = cluster.login("alice", "dc1.test", "r1").await;
    let bob = cluster.login("bob", "dc2.test", "b1").await;
    redis
        .until_value("alice@example.test", Some("dc1.test"))
        .await;
    redis
        .until_value("bob@example.test", Some("dc2.test"))
        .await;
    let before = redis.keys().await;

    redis.ask::<()>(&["FLUSHALL"]).await;
    let flushed = Instant::now();
    until("all keys to be back", async || {
        let now = redis.keys().await;
        (now == before)
            .then_some(())
            .ok_or_else(|| format!("{now:?}"))
    })
    .await;
    // A busy machine may need longer.
    let took = flushed.elapsed();
    assert!(took < REFRESH_AFTER + Duration::from_secs(1), "{took:?}");
    alice.chat("bob@example.test", "still there").await;
    bob.expect_chat("alice@example.test", "still there").await;
    cluster.assert_balanced().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_absence_longer_than_expire_after_is_survived() {
    const EXPIRE_AFTER: Duration = Duration::from_secs(2);
    let mut cluster = pair("expire_after = 2\nrefresh_after = 1").await;
    let alice = cluster.login("alice", "dc1.test", "r1").await;
    let bob = cluster.login("bob", "dc2.test", "b1").await;
    alice.chat("bob@example.test", "before").await;
    bob.expect_chat("alice@example.test", "before").await;

    cluster.redis.stop().await;
    let gone = Instant::now();
    let mut said = 0;
    while gone.elapsed() < 4 * EXPIRE_AFTER {
        let text = format!("without Redis {said}");
        alice.chat("bob@example.test", &text).await;
        bob.expect_chat("alice@example.test", &text).await;
        said += 1;
    }
    cluster.redis.start_again().await;
    for (jid, host) in [
        ("alice@example.test/r1", "dc1.test"),
        ("bob@example.test/b1", "dc2.test"),
    ] {
        cluster.redis.until_value(jid, Some(host)).await;
    }
    cluster
        .redis
        .until_refreshed("dc2.test#n1#{endpoints}")
        .await;
    alice.chat("bob@example.test", "after").await;
    bob.expect_chat("alice@example.test", "after").await;
    cluster.assert_balanced().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_silent_redis_holds_no_stanza_up() {
    const SOON: Duration = Duration::from_secs(1);
    let cluster = pair("expire_after = 120").await;
    let alice = cluster.login("alice", "dc1.test", "r1").await;
    let bob = cluster.login("bob", "dc2.test", "b1").await;
    let carol = cluster.login("carol", "dc1.test", "c1").await;
    alice.chat("bob@example.test", "before").await;
    bob.expect_chat("alice@example.test", "before").await;

    cluster.redis.process.freeze();
    for (text, to, jid) in [
        ("to one who was looked up before", &bob, "bob@example.test"),
        ("to one who is here", &carol, "carol@example.test"),
        ("and again", &bob, "bob@example.test"),
    ] {
        let sent = Instant::now();
        alice.chat(jid, text).await;
        to.expect_chat("alice@example.test", text).await;
        assert!(sent.elapsed() < SOON, "{text}: {:?}", sent.elapsed());
    }
    cluster.redis.process.thaw();
    cluster.assert_balanced().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn refresh_nodes() {
    let cluster = pair("expire_after = 3\nrefresh_after = 1").await;
    let redis = &cluster.redis;
    let nodes = "dc1.test#{nodes}";
    // A node that stopped long ago, and datacenters without any node.
    redis.ask::<()>(&["HSET", nodes, "dead@dc1", "0"]).await;
    redis
        .ask::<()>(&["HSET", "dc8.test#{nodes}", "dead@dc8", "0"])
        .await;
    redis
        .ask::<()>(&["SADD", "hosts", "dc8.test", "dc9.test"])
        .await;

    until("the dead to be cleared away", async || {
        let (nodes, hosts) = (redis.hash(nodes).await, redis.members("hosts").await);
        let names: Vec<_> = nodes.iter().map(|(node, _)| node.as_str()).collect();
        let gone = names == ["n1"] && hosts == ["dc1.test", "dc2.test"];
        gone.then_some(())
            .ok_or_else(|| format!("{nodes:?} {hosts:?}"))
    })
    .await;
    assert_eq!(redis.kind("dc8.test#{nodes}").await, "none");

    // Live nodes refresh their own entries.
    let stamp = redis.hash(nodes).await;
    until("the stamp to be renewed", async || {
        let now = redis.hash(nodes).await;
        (now != stamp)
            .then_some(())
            .ok_or_else(|| format!("{now:?}"))
    })
    .await;
}

/// After a kill, and the loss of its server's sessions, a gateway does not withdraw a claim that
/// it does not know of, but is alive again.
#[tokio::test(flavor = "multi_thread")]
async fn a_claim_that_a_restarted_gateway_forgot_expires_while_another_host_refreshes() {
    let config = "[redis]\nexpire_after = 4\nrefresh_after = 1\n";
    let mut flood = Flood::start_on(Backend::Redis, config).await;
    flood.near.online(&flood.cluster, "bob").await;
    let claims = "{bob@example.test}#claims";
    let hosts = async || {
        let claims = flood.cluster.redis.hash(claims).await;
        claims.into_iter().map(|(host, _)| host).collect::<Vec<_>>()
    };
    assert_eq!(hosts().await, ["dc1.test", "dc2.test"]);

    flood.far.gateway.process.kill9().await;
    flood.far.gateway.process.launch();
    flood.far.stream = flood.far.server.attach(SECRET).await;
    flood.near.gateway.until_linked("dc2.test").await;
    let redis = &flood.cluster.redis;
    until("only the host that has bob to claim him", async || {
        let hosts = redis.hash(claims).await;
        match hosts.as_slice() {
            [(host, _)] if host == "dc1.test" => Ok(()),
            _ => Err(format!("{hosts:?}")),
        }
    })
    .await;
    redis
        .until_value("bob@example.test", Some("dc1.test"))
        .await;
    flood.near.say("alice", "bob", "to where he is");
    assert_eq!(flood.near.hear_all(1).await["alice"], ["to where he is"]);
    flood.assert_over().await;
}
