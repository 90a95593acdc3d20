//! A user moves to the other datacenter, and the next message follows.

use crate::support::backend::Backend;
use crate::support::cluster::Cluster;

crate::on_mesh!(the_next_message_follows_a_user_who_moved,);

async fn the_next_message_follows_a_user_who_moved(backend: Backend) {
    let (cluster, alice, bob) = Cluster::of(backend).two_users().await;
    bob.chat("alice@example.test", "from dc2").await;
    alice.expect_chat("bob@example.test", "from dc2").await;
    alice.chat("bob@example.test", "to dc2").await;
    bob.expect_chat("alice@example.test", "to dc2").await;

    bob.close().await;
    let bob = cluster.login("bob", "dc1.test", "b2").await;
    bob.chat("alice@example.test", "from dc1").await;
    alice.expect_chat("bob@example.test", "from dc1").await;
    alice.chat("bob@example.test", "to dc1").await;
    bob.expect_chat("alice@example.test", "to dc1").await;

    bob.kill().await;
    let bob = cluster.login("bob", "dc2.test", "b3").await;
    bob.chat("alice@example.test", "back at dc2").await;
    alice.expect_chat("bob@example.test", "back at dc2").await;
    alice.chat("bob@example.test", "welcome back").await;
    bob.expect_chat("alice@example.test", "welcome back").await;

    cluster.assert_no_leaks();
    cluster.assert_balanced().await;
}
