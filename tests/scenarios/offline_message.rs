//! A message to a user who is offline is stored at the user's last host.

use crate::support::cluster::Cluster;
use crate::support::pair::Pair;
use crate::support::xml::child;

crate::on_mesh!(an_offline_message_is_delivered_at_the_next_login,);

crate::on_pairs_with_mongooseim!(an_offline_message_is_delivered_at_the_next_login,);

async fn an_offline_message_is_delivered_at_the_next_login(pair: impl Into<Pair>) {
    let (cluster, alice, bob) = Cluster::of(pair).two_users().await;
    alice.chat("bob@example.test", "are you there").await;
    bob.expect_chat("alice@example.test", "are you there").await;
    bob.send("<presence to='alice@example.test'/>").await;
    alice.expect_presence("bob@example.test/b1", None).await;
    bob.close().await;
    alice
        .expect_presence("bob@example.test/b1", Some("unavailable"))
        .await;
    cluster.until_claimed("bob@example.test", None).await;

    alice.chat("bob@example.test", "for later").await;
    let (dc1, dc2) = (
        &cluster.dc("dc1.test").gateway,
        &cluster.dc("dc2.test").gateway,
    );
    dc1.until_metric(
        "strait_stanzas_forwarded_total",
        &[("host", "dc2.test")],
        |n| n >= 2.0,
    )
    .await;
    dc1.until_settled().await;
    dc2.until_settled().await;

    let bob = cluster.login("bob", "dc2.test", "b2").await;
    let late = bob.expect_chat("alice@example.test", "for later").await;
    assert!(child(&late, "delay").is_some(), "{late:?}");
    cluster.assert_no_leaks();
    cluster.assert_balanced().await;
}
