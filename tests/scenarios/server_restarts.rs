//! The XMPP server stops and starts again.

use std::time::{Duration, Instant};

use crate::support::cluster::{Cluster, GLOBAL};
use crate::support::pair::Pair;

crate::on_mesh!(
    everything_works_again_soon_after_the_server_returns,
    a_killed_server_leaves_no_session_behind,
);

crate::on_redis!(a_killed_server_leaves_no_session_behind,);

crate::on_pairs_with_mongooseim!(
    everything_works_again_soon_after_the_server_returns,
    a_killed_server_leaves_no_session_behind,
);

crate::on_two_ejabberds!(
    everything_works_again_soon_after_the_server_returns,
    a_killed_server_leaves_no_session_behind,
);

const BACK: Duration = Duration::from_secs(5);

async fn everything_works_again_soon_after_the_server_returns(pair: impl Into<Pair>) {
    let (mut cluster, alice, bob) = Cluster::of(pair).two_users().await;
    alice.chat("bob@example.test", "before").await;
    bob.expect_chat("alice@example.test", "before").await;

    cluster.dc_mut("dc2.test").server.stop().await;
    drop(bob);
    cluster
        .dc("dc2.test")
        .gateway
        .until_metric("strait_component_attached", &[], |up| up == 0.0)
        .await;
    alice.chat("bob@example.test", "while it was away").await;
    cluster.dc_mut("dc2.test").server.start().await;

    let returned = Instant::now();
    // An ejabberd that is storing a message for him while he logs in keeps it
    // until his next login.
    let gateway = &cluster.dc("dc2.test").gateway;
    gateway.until_attached(GLOBAL).await;
    gateway.until_settled().await;
    let bob = cluster.login("bob", "dc2.test", "b2").await;
    bob.expect_chat("alice@example.test", "while it was away")
        .await;
    bob.chat("alice@example.test", "after").await;
    alice.expect_chat("bob@example.test", "after").await;
    assert!(returned.elapsed() < BACK, "took {:?}", returned.elapsed());

    cluster.assert_no_leaks();
    cluster.assert_balanced().await;
}

async fn a_killed_server_leaves_no_session_behind(pair: impl Into<Pair>) {
    let mut cluster = Cluster::of(pair).start().await;
    let bob = cluster.login("bob", "dc2.test", "b1").await;
    let _carol = cluster.login("carol", "dc2.test", "c1").await;
    cluster
        .until_claimed("bob@example.test/b1", Some("dc2.test"))
        .await;
    cluster
        .until_claimed("carol@example.test/c1", Some("dc2.test"))
        .await;

    cluster.dc_mut("dc2.test").server.kill9().await;
    drop(bob);
    cluster.dc_mut("dc2.test").server.start().await;
    let _carol = cluster.login("carol", "dc2.test", "c2").await;
    cluster
        .until_claimed("carol@example.test/c2", Some("dc2.test"))
        .await;
    cluster.until_claimed("bob@example.test/b1", None).await;
    cluster.until_claimed("carol@example.test/c1", None).await;
    assert_eq!(cluster.claimed_by("carol@example.test").await, ["dc2.test"]);
}
