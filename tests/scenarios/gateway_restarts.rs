//! A gateway goes away and comes back, in order or not.

use std::time::{Duration, Instant};

use crate::support::backend::Backend;
use crate::support::cluster::Cluster;

crate::on_each_backend!(
    a_restarted_gateway_finds_its_place_again,
    messages_to_a_killed_gateway_arrive_when_it_is_back,
);

const BACK: Duration = Duration::from_secs(5);
/// What is promised holds with the default; other tests refresh more often.
const DEFAULT_REFRESH: &str = "hosts_refresh_interval = 3000\n";

async fn a_restarted_gateway_finds_its_place_again(backend: Backend) {
    let mut cluster = Cluster::on(backend)
        .datacenter("dc1.test")
        .datacenter("dc2.test")
        .config(DEFAULT_REFRESH)
        .start()
        .await;
    let alice = cluster.login("alice", "dc1.test", "r1").await;
    let bob = cluster.login("bob", "dc2.test", "b1").await;
    for host in ["dc2.test", "dc1.test"] {
        let status = cluster.dc_mut(host).gateway.process.terminate().await;
        assert!(status.success(), "{status}");
        let returned = Instant::now();
        cluster.dc_mut(host).gateway.start().await;
        alice.chat("bob@example.test", "after a restart").await;
        bob.expect_chat("alice@example.test", "after a restart")
            .await;
        bob.chat("alice@example.test", "both ways").await;
        alice.expect_chat("bob@example.test", "both ways").await;
        assert!(
            returned.elapsed() < BACK,
            "{host} took {:?}",
            returned.elapsed()
        );
    }
    cluster.assert_no_leaks();
    cluster.assert_balanced().await;
}

async fn messages_to_a_killed_gateway_arrive_when_it_is_back(backend: Backend) {
    let mut cluster = Cluster::on(backend)
        .datacenter("dc1.test")
        .datacenter("dc2.test")
        .config(DEFAULT_REFRESH)
        .start()
        .await;
    let alice = cluster.login("alice", "dc1.test", "r1").await;
    let bob = cluster.login("bob", "dc2.test", "b1").await;
    alice.chat("bob@example.test", "before").await;
    bob.expect_chat("alice@example.test", "before").await;

    // Else the first message is sent again: it was not acknowledged yet.
    cluster.dc("dc1.test").gateway.until_settled().await;
    cluster.dc_mut("dc2.test").gateway.process.kill9().await;
    for n in 0..50 {
        alice.chat("bob@example.test", &n.to_string()).await;
    }
    let returned = Instant::now();
    cluster.dc_mut("dc2.test").gateway.process.launch();
    for n in 0..50 {
        let message = bob.expect_message_from("alice@example.test").await;
        assert_eq!(crate::support::xml::body(&message), Some(n.to_string()));
    }
    assert!(returned.elapsed() < BACK, "took {:?}", returned.elapsed());
    cluster.assert_balanced().await;
}
