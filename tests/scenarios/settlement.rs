//! A stanza is acknowledged over the link only when the server has accepted it.

use crate::support::backend::Backend;
use crate::support::cluster::{Cluster, SECRET};
use crate::support::xml::body;

crate::on_mesh!(
    what_the_server_had_not_accepted_is_written_again_in_order,
    a_sender_is_told_when_the_other_side_stays_away,
);

async fn what_the_server_had_not_accepted_is_written_again_in_order(backend: Backend) {
    let cluster = Cluster::on(backend).datacenter("dc1.test").start().await;
    let (server, gateway) = cluster.join_with_fake_server("dc2.test", "").await;
    let stream = server.attach(SECRET).await;
    gateway.until_ready().await;
    cluster.until_linked("dc1.test", "dc2.test").await;
    stream.send("<presence from='bob@dc2.test/b1' to='example.test'/>");
    cluster
        .until_claimed("bob@example.test", Some("dc2.test"))
        .await;

    let alice = cluster.login("alice", "dc1.test", "r1").await;
    stream.withhold_pings();
    for n in 0..3 {
        alice.chat("bob@example.test", &n.to_string()).await;
        stream
            .until("the message", |s| body(s) == Some(n.to_string()))
            .await;
    }
    let unsettled = [("host", "dc2.test")];
    let dc1 = &cluster.dc("dc1.test").gateway;
    dc1.until_metric("strait_link_unsettled_stanzas", &unsettled, |n| n == 3.0)
        .await;

    stream.kill().await;
    let stream = server.attach(SECRET).await;
    for n in 0..3 {
        let message = stream.until("a message", |s| body(s).is_some()).await;
        assert_eq!(body(&message), Some(n.to_string()));
        assert_eq!(message.attr("to"), Some("bob@dc2.test"));
        assert_eq!(message.attr("from"), Some("alice@example.test/r1"));
    }
    dc1.until_metric("strait_link_unsettled_stanzas", &unsettled, |n| n == 0.0)
        .await;
    cluster.assert_balanced().await;
    gateway.assert_balanced().await;
}

async fn a_sender_is_told_when_the_other_side_stays_away(backend: Backend) {
    let mut cluster = Cluster::of(backend)
        .config("[connections]\nmax_wait = 2\n")
        .start()
        .await;
    let alice = cluster.login("alice", "dc1.test", "r1").await;
    let _bob = cluster.login("bob", "dc2.test", "b1").await;
    cluster
        .until_claimed("bob@example.test", Some("dc2.test"))
        .await;
    cluster.dc_mut("dc2.test").gateway.process.kill9().await;

    let id = alice.chat("bob@example.test", "anybody?").await;
    let error = alice
        .until("the error", |s| {
            s.attr("id") == Some(&id) && s.attr("type") == Some("error")
        })
        .await;
    let text = String::from(&error);
    assert!(text.contains("remote-server-timeout"), "{text}");
    cluster.dc("dc1.test").gateway.assert_balanced().await;
}
