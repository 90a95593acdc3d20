//! The streams to the server for the services of other datacenters.

use std::time::Duration;

use tokio::time::{interval, sleep};

use crate::support::backend::Backend;
use crate::support::client::Client;
use crate::support::cluster::{Cluster, GLOBAL, SECRET};
use crate::support::flood::{cut, numbers};
use crate::support::pair::Pair;
use crate::support::patience::until;
use crate::support::room::{Occupant, ROOMS, cluster_with_rooms, start_with_rooms};
use crate::support::xml::{body, child};

crate::on_mesh!(
    what_comes_before_a_new_service_is_known_waits_for_its_stream,
    all_streams_are_attached_again_after_the_server_restarts,
    service_unavailable_when_the_hosting_gateway_retires,
    service_unavailable_when_the_hosting_gateway_is_dead,
    a_server_that_lacks_a_service_is_told_what_to_add_and_tried_again,
    order_and_no_loss_on_service_streams_while_links_are_cut,
);

crate::on_two_ejabberds!(all_streams_are_attached_again_after_the_server_restarts,);

const ROOM: &str = "lobby@muc.example.test";
const LOCAL: &str = "conference.dc1.test";

async fn a_server_that_lacks_a_service_is_told_what_to_add_and_tried_again(backend: Backend) {
    const BOT: &str = "bot.example.test";
    let mut cluster = Cluster::on(backend)
        .datacenter("dc1.test")
        .its(|server| server.component(BOT, SECRET))
        .its_config(&format!("services = [{{ domain = '{BOT}' }}]"))
        .datacenter("dc2.test")
        .start()
        .await;
    let gateway = &cluster.dc("dc2.test").gateway;
    gateway.until_logged(&format!("Component \"{BOT}\"")).await;
    for part in ["host-unknown", "component_secret", "ejabberd_service"] {
        gateway.until_logged(part).await;
    }
    let failures = "strait_component_attach_failures_total";
    let unknown = [("domain", BOT), ("reason", "host_unknown")];
    gateway.until_metric(failures, &unknown, |n| n >= 2.0).await;
    // The failure is reported, and the datacenter stays in service.
    let (status, ready) = gateway.get("/readyz").await.expect("an answer");
    let line = ready
        .lines()
        .find(|line| line.starts_with(&format!("service {BOT}: ")));
    assert!(
        line.is_some_and(|line| line.contains("component_secret")),
        "{ready}"
    );
    assert_eq!(status, 200, "{ready}");

    // Stanzas that arrive meanwhile are held until the stream is open.
    let bob = cluster.login("bob", "dc2.test", "b1").await;
    let bare = "bob@example.test";
    cluster.until_claimed(bare, Some("dc2.test")).await;
    let bot = cluster.component(BOT, "dc1.test").await;
    bot.say(bare, "are you there").await;
    let unsettled = "strait_component_unsettled_stanzas";
    gateway
        .until_metric(unsettled, &[("domain", BOT)], |n| n == 1.0)
        .await;
    drop(bob);
    let prosody = cluster.dc_mut("dc2.test").server.prosody_mut();
    prosody.configure(&format!(
        "Component \"{BOT}\"\n  component_secret = \"{SECRET}\""
    ));
    prosody.restart().await;
    cluster.dc("dc2.test").gateway.until_attached(BOT).await;
    let bob = cluster.login("bob", "dc2.test", "b2").await;
    bob.expect_chat(BOT, "are you there").await;
    bob.chat(BOT, "now I am").await;
    bot.expect("bob@example.test/b2", "now I am").await;
    cluster.assert_no_secrets_logged();
    cluster.assert_balanced().await;
}

async fn all_streams_are_attached_again_after_the_server_restarts(pair: impl Into<Pair>) {
    let mut cluster = start_with_rooms(pair, Some(LOCAL)).await;
    let alice = cluster.login("alice", "dc1.test", "a1").await;
    let ally = Occupant::join(&alice, ROOM, "ally").await;

    let bob = cluster.login("bob", "dc2.test", "b1").await;
    let bobby = Occupant::join(&bob, ROOM, "bobby").await;
    ally.see("bobby").await;
    cluster.dc_mut("dc2.test").server.stop().await;
    drop(bobby);
    drop(bob);
    cluster.dc_mut("dc2.test").server.start().await;
    for domain in [GLOBAL, ROOMS] {
        cluster.dc("dc2.test").gateway.until_attached(domain).await;
    }
    let bob = cluster.login("bob", "dc2.test", "b2").await;
    let robert = Occupant::join(&bob, ROOM, "robert").await;
    ally.see("robert").await;
    robert.say("here again").await;
    ally.hear("robert", "here again").await;
    robert.hear("robert", "here again").await;
    // The server may have notified the room while stopping, or not; by now the room has removed
    // his former session.
    ally.see_leave("bobby").await;
    cluster.assert_no_leaks();
    cluster.assert_balanced().await;
}

/// Stanzas on a link to the hosting gateway are routed again when the gateway is unreachable and
/// the link has been removed.
const TIDY: &str = "connections.disabled_gc_interval = 1\n";

async fn service_unavailable_when_the_hosting_gateway_retires(backend: Backend) {
    let cluster = cluster_with_rooms(backend, Some(LOCAL)).config(TIDY);
    let mut cluster = cluster.start().await;
    cluster.dc("dc2.test").gateway.until_attached(ROOMS).await;
    let bob = cluster.login("bob", "dc2.test", "b1").await;
    let bobby = Occupant::join(&bob, ROOM, "bobby").await;
    cluster.dc_mut("dc1.test").gateway.process.terminate().await;
    bobby.say("early").await;
    refused(&bob, "early").await;
    cluster
        .dc("dc2.test")
        .gateway
        .until_logged("peer is gone from the registry host=dc1.test")
        .await;
    bobby.say("late").await;
    refused(&bob, "late").await;

    // The gateway returns, and so does the service.
    cluster.dc_mut("dc1.test").gateway.process.launch();
    cluster.until_ready().await;
    cluster.dc("dc1.test").gateway.until_attached(ROOMS).await;
    until("the rooms to answer again", async || {
        let question = "<query xmlns='http://jabber.org/protocol/disco#info'/>";
        let answer = bob.iq(Some(ROOMS), "get", question).await;
        let back = answer.attr("type") == Some("result");
        back.then_some(()).ok_or_else(|| String::from(&answer))
    })
    .await;
    let bobby = Occupant::join(&bob, ROOM, "bobby").await;
    bobby.say("here again").await;
    bobby.hear("bobby", "here again").await;
    cluster.assert_balanced().await;
}

async fn service_unavailable_when_the_hosting_gateway_is_dead(backend: Backend) {
    let mut cluster = cluster_with_rooms(backend, Some(LOCAL))
        .config(TIDY)
        .config(&backend.times(3, 1))
        .start()
        .await;
    cluster.dc("dc2.test").gateway.until_attached(ROOMS).await;
    let bob = cluster.login("bob", "dc2.test", "b1").await;
    let bobby = Occupant::join(&bob, ROOM, "bobby").await;
    cluster.dc_mut("dc1.test").gateway.process.kill9().await;
    bobby.say("early").await;
    refused(&bob, "early").await;
    bobby.say("late").await;
    refused(&bob, "late").await;
    // The stream is still open: the service may come back.
    let gateway = &cluster.dc("dc2.test").gateway;
    gateway.until_attached(ROOMS).await;
    gateway.assert_balanced().await;
}

/// Waits until the room message of `client` is returned as `service-unavailable`.
async fn refused(client: &Client, id: &str) {
    let answer = client
        .until("an error", |stanza| stanza.attr("id") == Some(id))
        .await;
    assert_eq!(answer.attr("from"), Some(ROOM), "{answer:?}");
    let error = child(&answer, "error").unwrap_or_else(|| panic!("{answer:?}"));
    assert!(child(error, "service-unavailable").is_some(), "{answer:?}");
}

async fn what_comes_before_a_new_service_is_known_waits_for_its_stream(backend: Backend) {
    const BOT: &str = "bot.example.test";
    let cluster = Cluster::on(backend).prepare().await;
    let (near_server, mut near) = cluster.join_with_fake_server("dc1.test", "").await;
    let near_shared = near_server.attach(SECRET).await;
    // The interval is long enough that the message arrives first, most of the time.
    let seldom = "hosts_refresh_interval = 3000\n";
    let (far_server, far) = cluster.join_with_fake_server("dc2.test", seldom).await;
    let far_shared = far_server.attach(SECRET).await;
    far_shared.send("<presence from='bob@dc2.test/r' to='example.test'/>");
    near.until_linked("dc2.test").await;
    far.until_linked("dc1.test").await;

    near.reconfigure(&format!("services = [{{ domain = '{BOT}' }}]"));
    near.process.terminate().await;
    drop(near_shared);
    near.process.launch();
    let near_shared = near_server.attach(SECRET).await;
    near.until_linked("dc2.test").await;
    near_shared.send(&format!(
        "<message from='{BOT}' to='bob@example.test/r'><body>I am new</body></message>"
    ));
    let far_bot = far_server.attach(SECRET).await;
    assert_eq!(far_bot.domain(), BOT);
    let said = far_bot.until("a message", |s| s.name() == "message").await;
    assert_eq!(said.attr("to"), Some("bob@dc2.test/r"));
    assert_eq!(body(&said).as_deref(), Some("I am new"));
    for gateway in [&near, &far] {
        gateway.until_settled().await;
        gateway.assert_balanced().await;
    }
}

async fn order_and_no_loss_on_service_streams_while_links_are_cut(backend: Backend) {
    const COUNT: usize = 2000;
    let cluster = Cluster::on(backend).prepare().await;
    let offers = "services = [{ domain = 'muc.example.test', local = 'rooms.dc1.test' }]\n";
    let (near_server, near) = cluster.join_with_fake_server("dc1.test", offers).await;
    let [near_shared, near_rooms] = near_server.attach_all(SECRET, [GLOBAL, ROOMS]).await;
    let (far_server, far) = cluster.join_with_fake_server("dc2.test", "").await;
    let [far_shared, far_rooms] = far_server.attach_all(SECRET, [GLOBAL, ROOMS]).await;
    near.until_linked("dc2.test").await;
    far.until_linked("dc1.test").await;
    far_shared.send("<presence from='bob@dc2.test/r' to='example.test'/>");
    cluster
        .until_claimed("bob@example.test/r", Some("dc2.test"))
        .await;

    let ports = [near.link().port(), far.link().port()];
    let cutting = tokio::spawn(async move {
        let (mut every, mut cuts) = (interval(Duration::from_millis(400)), 0);
        while cuts < 8 {
            every.tick().await;
            for port in ports {
                cuts += usize::from(cut(port).await > 0);
            }
        }
    });
    // The messages are spread over the cuts, in small bursts.
    for burst in numbers(COUNT).chunks(50) {
        for text in burst {
            near_shared.send(&format!(
                "<message type='groupchat' from='lobby@rooms.dc1.test/ally' \
                 to='bob@example.test/r' id='{text}'><body>{text}</body></message>"
            ));
            far_rooms.send(&format!(
                "<message type='groupchat' from='bob@dc2.test/r' to='{ROOM}' id='{text}'>\
                 <body>{text}</body></message>"
            ));
        }
        sleep(Duration::from_millis(70)).await;
    }
    cutting.await.expect("cutting");
    for n in numbers(COUNT) {
        let said = far_rooms
            .until("a message", |s| s.name() == "message")
            .await;
        assert_eq!(said.attr("from"), Some("lobby@muc.example.test/ally"));
        assert_eq!(said.attr("to"), Some("bob@dc2.test/r"));
        assert_eq!(body(&said), Some(n.clone()));
        let said = near_shared
            .until("a message", |s| s.name() == "message")
            .await;
        assert_eq!(said.attr("from"), Some("bob@example.test/r"));
        assert_eq!(said.attr("to"), Some("lobby@rooms.dc1.test"));
        assert_eq!(body(&said), Some(n));
    }
    for gateway in [&near, &far] {
        gateway.until_settled().await;
        gateway.assert_balanced().await;
    }
    for stream in [&near_shared, &near_rooms, &far_shared, &far_rooms] {
        let more = stream.inbox().pending();
        let more: Vec<_> = more.iter().filter(|s| s.name() == "message").collect();
        assert!(more.is_empty(), "came too often: {more:?}");
    }
}
