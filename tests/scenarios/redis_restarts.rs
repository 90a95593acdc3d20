//! Redis is unreachable, loses all data, and returns: specific to Redis.

use std::time::{Duration, Instant};

use crate::support::cluster::Cluster;

const BACK: Duration = Duration::from_secs(5);
/// The bound is promised for the default; other tests refresh more often.
const DEFAULT_REFRESH: &str = "hosts_refresh_interval = 3000\n";

#[tokio::test(flavor = "multi_thread")]
async fn routing_goes_on_without_redis_and_everything_is_written_again() {
    let (mut cluster, alice, bob) = Cluster::builder()
        .datacenter("dc1.test")
        .datacenter("dc2.test")
        .config(DEFAULT_REFRESH)
        .two_users()
        .await;
    alice.chat("bob@example.test", "with redis").await;
    bob.expect_chat("alice@example.test", "with redis").await;
    bob.chat("alice@example.test", "with redis").await;
    alice.expect_chat("bob@example.test", "with redis").await;

    cluster.redis.stop().await;
    alice.chat("bob@example.test", "without redis").await;
    bob.expect_chat("alice@example.test", "without redis").await;
    let _carol = cluster.login("carol", "dc2.test", "c1").await;
    cluster
        .dc("dc1.test")
        .gateway
        .until_metric("strait_store_up", &[], |up| up == 0.0)
        .await;
    cluster
        .dc("dc2.test")
        .gateway
        .until_metric("strait_store_up", &[], |up| up == 0.0)
        .await;
    cluster.redis.start_again().await;

    let returned = Instant::now();
    cluster
        .redis
        .until_value("carol@example.test/c1", Some("dc2.test"))
        .await;
    cluster
        .redis
        .until_value("bob@example.test/b1", Some("dc2.test"))
        .await;
    cluster
        .redis
        .until_value("alice@example.test", Some("dc1.test"))
        .await;
    alice.chat("carol@example.test", "hello carol").await;
    cluster.until_linked("dc1.test", "dc2.test").await;
    _carol
        .expect_chat("alice@example.test", "hello carol")
        .await;
    assert!(returned.elapsed() < BACK, "took {:?}", returned.elapsed());

    cluster.assert_no_leaks();
    cluster.assert_balanced().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_starts_without_redis_and_waits_for_it() {
    let mut cluster = Cluster::builder()
        .datacenter("dc1.test")
        .datacenter("dc2.test")
        .config(DEFAULT_REFRESH)
        .prepare()
        .await;
    cluster.redis.stop().await;
    cluster.launch_gateways();
    for host in ["dc1.test", "dc2.test"] {
        cluster
            .dc(host)
            .gateway
            .until_metric("strait_component_attached", &[], |up| up == 1.0)
            .await;
        let (status, why) = cluster
            .dc(host)
            .gateway
            .get("/readyz")
            .await
            .expect("an answer");
        assert_eq!(status, 503, "{why}");
        assert!(why.contains("session table"), "{why}");
    }
    cluster.redis.start_again().await;
    cluster.until_ready().await;
    let alice = cluster.login("alice", "dc1.test", "r1").await;
    let bob = cluster.login("bob", "dc2.test", "b1").await;
    alice.chat("bob@example.test", "hello").await;
    bob.expect_chat("alice@example.test", "hello").await;
}
