//! Subscriptions and presence across datacenters.

use crate::support::client::befriend;
use crate::support::cluster::Cluster;
use crate::support::pair::Pair;
use crate::support::xml::child;

crate::on_mesh!(
    subscription_both_ways_then_every_change_of_presence,
    a_killed_socket_is_seen_as_unavailable_on_the_other_side,
    a_subscription_can_be_refused_and_ended,
);

crate::on_pairs_with_mongooseim!(
    subscription_both_ways_then_every_change_of_presence,
    a_killed_socket_is_seen_as_unavailable_on_the_other_side,
    a_subscription_can_be_refused_and_ended,
);

async fn subscription_both_ways_then_every_change_of_presence(pair: impl Into<Pair>) {
    let (cluster, alice, bob) = Cluster::of(pair).two_friends().await;

    let roster = format!("{:?}", alice.roster().await);
    assert!(roster.contains("bob@example.test"), "{roster}");

    alice
        .send("<presence><show>away</show><status>lunch</status></presence>")
        .await;
    let away = bob
        .until("away presence", |s| {
            child(s, "show").is_some_and(|show| show.text() == "away")
        })
        .await;
    assert_eq!(away.attr("from"), Some("alice@example.test/r1"));

    alice.send("<presence type='unavailable'/>").await;
    bob.expect_presence("alice@example.test/r1", Some("unavailable"))
        .await;

    alice.send("<presence/>").await;
    bob.expect_presence("alice@example.test/r1", None).await;
    alice.expect_presence("bob@example.test/b1", None).await;

    // A session that comes online later receives the presence of all contacts online.
    let tablet = cluster.login("alice", "dc1.test", "r2").await;
    tablet.expect_presence("bob@example.test/b1", None).await;
    tablet.close().await;
    bob.expect_presence("alice@example.test/r2", Some("unavailable"))
        .await;

    cluster.assert_no_leaks();
    cluster.assert_balanced().await;
}

async fn a_killed_socket_is_seen_as_unavailable_on_the_other_side(pair: impl Into<Pair>) {
    let (cluster, alice, bob) = Cluster::of(pair).two_friends().await;

    bob.kill().await;
    alice
        .expect_presence("bob@example.test/b1", Some("unavailable"))
        .await;
    cluster.until_claimed("bob@example.test/b1", None).await;
    cluster.until_claimed("bob@example.test", None).await;
    cluster.assert_no_leaks();
    cluster.assert_balanced().await;
}

async fn a_subscription_can_be_refused_and_ended(pair: impl Into<Pair>) {
    let (cluster, alice, bob) = Cluster::of(pair).two_users().await;

    alice.subscribe("bob@example.test").await;
    bob.expect_presence("alice@example.test", Some("subscribe"))
        .await;
    bob.send("<presence type='unsubscribed' to='alice@example.test'/>")
        .await;
    alice
        .expect_presence("bob@example.test", Some("unsubscribed"))
        .await;

    befriend(&alice, "alice@example.test", &bob, "bob@example.test").await;
    bob.send("<presence type='unsubscribed' to='alice@example.test'/>")
        .await;
    alice
        .expect_presence("bob@example.test/b1", Some("unavailable"))
        .await;
    cluster.assert_no_leaks();
    cluster.assert_balanced().await;
}
