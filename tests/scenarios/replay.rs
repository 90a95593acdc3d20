//! `component.replay`: what a server may have lost when it died comes again.

use minidom::Element;

use crate::support::backend::Backend;
use crate::support::cluster::{Cluster, SECRET};
use crate::support::fake_server::{Connection, FakeServer};
use crate::support::gateway::Gateway;
use crate::support::xml::{body, child};

crate::on_each_backend!(
    what_was_accepted_just_before_the_server_died_comes_again_with_a_delay,
    a_server_that_stops_in_order_gets_nothing_twice,
    without_replay_nothing_comes_twice,
);

struct World {
    cluster: Cluster,
    server: FakeServer,
    gateway: Gateway,
}

impl World {
    /// A message has come through to the server of dc2, and it said so.
    async fn with_one_message(backend: Backend, config: &str) -> (Self, Connection) {
        let cluster = Cluster::on(backend).datacenter("dc1.test").start().await;
        let (server, gateway) = cluster.join_with_fake_server("dc2.test", config).await;
        let stream = server.attach(SECRET).await;
        gateway.until_ready().await;
        cluster.until_linked("dc1.test", "dc2.test").await;
        stream.send("<presence from='bob@dc2.test/b1' to='example.test'/>");
        cluster
            .until_claimed("bob@example.test", Some("dc2.test"))
            .await;
        let alice = cluster.login("alice", "dc1.test", "r").await;
        alice.chat("bob@example.test", "once").await;
        next_message(&stream).await;
        gateway.until_settled().await;
        let world = Self {
            cluster,
            server,
            gateway,
        };
        (world, stream)
    }

    /// The first message on the next stream is the one that is sent now, or not.
    async fn first_after(&self) -> (Connection, Element) {
        let stream = self.server.attach(SECRET).await;
        self.gateway.until_ready().await;
        let bob = self.cluster.login("bob", "dc1.test", "b2").await;
        bob.chat("carol@example.test", "nothing to do with it")
            .await;
        let carol = "<presence from='carol@dc2.test/c' to='example.test'/>";
        stream.send(carol);
        let first = next_message(&stream).await;
        (stream, first)
    }
}

async fn next_message(stream: &Connection) -> Element {
    stream.until("a message", |s| body(s).is_some()).await
}

async fn what_was_accepted_just_before_the_server_died_comes_again_with_a_delay(backend: Backend) {
    let (world, stream) = World::with_one_message(backend, "component.replay = 60").await;
    stream.kill().await;
    let (_stream, again) = world.first_after().await;
    assert_eq!(body(&again).as_deref(), Some("once"));
    assert_eq!(again.attr("from"), Some("alice@example.test/r"));
    let delay = child(&again, "delay").expect("a delay");
    assert_eq!(delay.ns(), "urn:xmpp:delay");
    assert!(delay.attr("stamp").is_some(), "{delay:?}");
    let gateway = &world.gateway;
    assert_eq!(
        gateway
            .metric(
                "strait_component_replayed_total",
                &[("domain", "example.test")]
            )
            .await,
        1.0
    );
    gateway.assert_balanced().await;
}

async fn a_server_that_stops_in_order_gets_nothing_twice(backend: Backend) {
    let (world, stream) = World::with_one_message(backend, "component.replay = 60").await;
    stream.close().await;
    let (_stream, first) = world.first_after().await;
    assert_eq!(body(&first).as_deref(), Some("nothing to do with it"));
}

async fn without_replay_nothing_comes_twice(backend: Backend) {
    let (world, stream) = World::with_one_message(backend, "component.replay = 0").await;
    stream.kill().await;
    let (_stream, first) = world.first_after().await;
    assert_eq!(body(&first).as_deref(), Some("nothing to do with it"));
}
