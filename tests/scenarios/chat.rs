//! Two users in two datacenters talk under the shared domain.

use crate::support::backend::Backend;
use crate::support::cluster::Cluster;
use crate::support::pair::Pair;
use crate::support::xml::{body, child};

crate::on_mesh!(
    chat_with_receipts_both_ways,
    users_of_one_datacenter_meet_under_the_shared_domain_too,
    five_hundred_messages_arrive_once_and_in_order,
);

crate::on_redis!(chat_with_receipts_both_ways,);

crate::on_each_pair!(chat_with_receipts_both_ways);

async fn chat_with_receipts_both_ways(pair: impl Into<Pair>) {
    let (cluster, alice, bob) = Cluster::of(pair).two_users().await;

    let id = alice.chat("bob@example.test", "hello <&> \"Bob\" 😀").await;
    let heard = bob
        .expect_chat("alice@example.test", "hello <&> \"Bob\" 😀")
        .await;
    assert_eq!(heard.attr("from"), Some("alice@example.test/r1"));
    assert_eq!(heard.attr("id"), Some(id.as_str()));
    bob.acknowledge(&heard).await;
    alice.expect_receipt("bob@example.test", &id).await;

    let id = bob
        .chat("alice@example.test/r1", "to this very session")
        .await;
    let heard = alice
        .expect_chat("bob@example.test", "to this very session")
        .await;
    alice.acknowledge(&heard).await;
    bob.expect_receipt("alice@example.test/r1", &id).await;

    cluster.assert_no_leaks();
    cluster.assert_no_secrets_logged();
    cluster.assert_balanced().await;
}

async fn users_of_one_datacenter_meet_under_the_shared_domain_too(backend: Backend) {
    let cluster = Cluster::of(backend).start().await;
    let alice = cluster.login("alice", "dc1.test", "r1").await;
    let bob = cluster.login("bob", "dc1.test", "b1").await;

    alice.chat("bob@example.test", "next door").await;
    let heard = bob.expect_chat("alice@example.test", "next door").await;
    assert_eq!(heard.attr("from"), Some("alice@example.test/r1"));
    cluster.assert_balanced().await;
}

async fn five_hundred_messages_arrive_once_and_in_order(backend: Backend) {
    let (cluster, alice, bob) = Cluster::of(backend).two_users().await;

    for n in 0..500 {
        alice.chat("bob@example.test", &n.to_string()).await;
    }
    let mut heard = Vec::new();
    while heard.len() < 500 {
        let message = bob.expect_message_from("alice@example.test").await;
        heard.extend(body(&message));
    }
    assert_eq!(
        heard,
        (0..500).map(|n: i32| n.to_string()).collect::<Vec<_>>()
    );
    bob.sync().await;
    let more = bob
        .inbox()
        .pending()
        .into_iter()
        .filter(|s| child(s, "body").is_some())
        .count();
    assert_eq!(more, 0, "messages came twice");
    cluster.assert_balanced().await;
}
