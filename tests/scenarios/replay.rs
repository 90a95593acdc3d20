//! `component.replay`: stanzas that a server may have lost when it died are sent again.

use std::collections::BTreeSet;

use minidom::Element;

use crate::support::backend::Backend;
use crate::support::cluster::{Cluster, GLOBAL, SECRET};
use crate::support::fake_server::{Connection, FakeServer};
use crate::support::gateway::Gateway;
use crate::support::inbox::Inbox;
use crate::support::patience::until;
use crate::support::server::Kind;
use crate::support::xml::{body, child};

crate::on_mesh!(
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
    /// The server of dc2 has received one message and confirmed it.
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

    /// Returns the first message on the next stream: a replayed one, or the one sent now.
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

/// ejabberd has read more than it has processed, and loses the rest when it dies.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_lost_when_an_ejabberd_is_killed_in_a_flood() {
    const COUNT: usize = 300;
    let mut cluster = Cluster::of([Kind::Prosody, Kind::Ejabberd])
        .config("component.replay = 60")
        .start()
        .await;
    let alice = cluster.login("alice", "dc1.test", "a").await;
    let bob = cluster.login("bob", "dc2.test", "b1").await;
    let bare = "bob@example.test";
    cluster.until_claimed(bare, Some("dc2.test")).await;
    for n in 0..COUNT {
        alice.chat(bare, &n.to_string()).await;
    }
    let gateway = &cluster.dc("dc2.test").gateway;
    let reinjected = "strait_stanzas_reinjected_total";
    gateway
        .until_metric(reinjected, &[("kind", "message")], |n| n >= 100.0)
        .await;
    cluster.dc_mut("dc2.test").server.kill9().await;
    bob.inbox().closed().await;
    cluster.dc_mut("dc2.test").server.start().await;

    // A message stored while he logs in stays there until his next login.
    let gateway = &cluster.dc("dc2.test").gateway;
    gateway.until_attached(GLOBAL).await;
    gateway.until_settled().await;
    let again = cluster.login("bob", "dc2.test", "b2").await;
    let numbers = |inbox: &Inbox| -> Vec<usize> {
        let said = inbox.pending();
        let said = said.iter().filter_map(body);
        said.filter_map(|text| text.parse().ok()).collect()
    };
    until("everything to come, before or after", async || {
        let heard: BTreeSet<usize> = [&bob, &again]
            .into_iter()
            .flat_map(|client| numbers(client.inbox()))
            .collect();
        let missing = COUNT - heard.len();
        (missing == 0)
            .then_some(())
            .ok_or_else(|| format!("{missing} are missing"))
    })
    .await;
    cluster.assert_balanced().await;
}

/// MongooseIM sorts what it stores by the stamps of the delays.
#[tokio::test(flavor = "multi_thread")]
async fn replayed_messages_are_stored_in_their_order() {
    const COUNT: usize = 200;
    let mut cluster = Cluster::of([Kind::Prosody, Kind::MongooseIm])
        .config("component.replay = 60")
        .start()
        .await;
    let bob = cluster.login("bob", "dc2.test", "b1").await;
    let bare = "bob@example.test";
    cluster.until_claimed(bare, Some("dc2.test")).await;
    bob.close().await;
    cluster.until_claimed(bare, None).await;
    let alice = cluster.login("alice", "dc1.test", "a").await;
    for n in 0..COUNT {
        alice.chat(bare, &n.to_string()).await;
    }
    let gateway = &cluster.dc("dc2.test").gateway;
    let reinjected = "strait_stanzas_reinjected_total";
    let message = [("kind", "message")];
    gateway
        .until_metric(reinjected, &message, |n| n >= COUNT as f64)
        .await;
    gateway.until_settled().await;
    cluster.dc_mut("dc2.test").server.kill9().await;
    cluster.dc_mut("dc2.test").server.start().await;
    let gateway = &cluster.dc("dc2.test").gateway;
    gateway.until_attached(GLOBAL).await;
    gateway.until_settled().await;

    let again = cluster.login("bob", "dc2.test", "b2").await;
    let replayed = || -> Vec<usize> {
        let said = again.inbox().pending();
        let marked = said.iter().filter(|message| {
            let mut delays = message.children().filter(|child| child.name() == "delay");
            delays.any(|delay| delay.attr("from") == Some("example.test"))
        });
        marked
            .filter_map(|message| body(message)?.parse().ok())
            .collect()
    };
    until("all replayed messages", async || {
        let count = replayed().len();
        (count == COUNT)
            .then_some(())
            .ok_or_else(|| format!("{count} of {COUNT}"))
    })
    .await;
    assert!(replayed().is_sorted(), "{:?}", replayed());
    cluster.assert_balanced().await;
}
