//! MongooseIM's specific behaviour, and the gateway's workarounds. The server is a stand-in
//! (docs/mongooseim.md).

use minidom::Element;
use serde_json::Value;

use crate::support::backend::Backend;
use crate::support::client::Client;
use crate::support::cluster::{Cluster, SECRET};
use crate::support::component::Component;
use crate::support::gateway::Gateway;
use crate::support::mongooseim_admin::PASSWORD;
use crate::support::server::Kind;
use crate::support::xml::{child, children};

/// The gateway's log line when its server has reported its software.
const RECOGNISED: &str = "the server is MongooseIM";

const INFO: &str = "<query xmlns='http://jabber.org/protocol/disco#info'/>";
const ITEMS: &str = "<query xmlns='http://jabber.org/protocol/disco#items'/>";
const CARBONS: &str = "<enable xmlns='urn:xmpp:carbons:2'/>";

/// A Prosody, and a MongooseIM whose sessions are not listed.
async fn beside_prosody() -> Cluster {
    let cluster = Cluster::of([Kind::Prosody, Kind::MongooseIm])
        // A shorter retry, for recipients that are looked up while offline.
        .config("bounce.resend_after_ms = 5")
        .start()
        .await;
    let gateway = &cluster.dc("dc2.test").gateway;
    gateway.until_logged(RECOGNISED).await;
    cluster
}

/// A MongooseIM whose gateway requests lists of sessions, and receives no presence.
async fn listed(backend: Backend) -> Cluster {
    Cluster::on(backend)
        .datacenter("dc1.test")
        .its_server(Kind::MongooseIm)
        .its_mongooseim(|server| server.unwatched().listed())
        .start()
        .await
}

fn query(answer: &Element) -> &Element {
    assert_eq!(answer.attr("type"), Some("result"), "{answer:?}");
    child(answer, "query").unwrap_or_else(|| panic!("{answer:?}"))
}

/// The number of times the client has received `text`, copies included.
fn times(client: &Client, text: &str) -> usize {
    let raw = client.inbox().raw();
    let body = format!("<body>{text}</body>");
    raw.iter().filter(|raw| raw.contains(&body)).count()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_account_there_offers_is_said_by_the_gateway() {
    let cluster = beside_prosody().await;
    let alice = cluster.login("alice", "dc1.test", "r1").await;
    let bob = cluster.login("bob", "dc2.test", "b1").await;
    let carol = cluster.login("carol", "dc2.test", "c1").await;
    cluster
        .until_claimed("carol@example.test", Some("dc2.test"))
        .await;
    carol.close().await;
    cluster.until_claimed("carol@example.test", None).await;
    // Queries to an online user, an offline one, and one of the same server.
    for (who, whom) in [(&alice, "bob"), (&alice, "carol"), (&bob, "dave")] {
        let whom = format!("{whom}@example.test");
        let info = who.iq(Some(&whom), "get", INFO).await;
        let identities = children(query(&info), "identity");
        let kinds: Vec<_> = identities.filter_map(|it| it.attr("category")).collect();
        assert_eq!(kinds, ["account", "pubsub"], "{info:?}");
        let items = who.iq(Some(&whom), "get", ITEMS).await;
        assert_eq!(query(&items).children().count(), 0, "{items:?}");
    }
    // The other server answers on its own behalf.
    let info = bob.iq(Some("alice@example.test"), "get", INFO).await;
    assert!(child(&info, "error").is_some(), "{info:?}");
    cluster.assert_no_leaks();
    cluster.assert_balanced().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_chat_to_a_session_that_is_gone_comes_once() {
    let cluster = beside_prosody().await;
    let alice = cluster.login("alice", "dc1.test", "r1").await;
    let b1 = cluster.login("bob", "dc2.test", "b1").await;
    let b2 = cluster.login("bob", "dc2.test", "b2").await;
    for client in [&b1, &b2] {
        let answer = client.iq(None, "set", CARBONS).await;
        assert_eq!(answer.attr("type"), Some("result"), "{answer:?}");
    }
    for session in ["b1", "b2"] {
        let claim = format!("bob@example.test/{session}");
        cluster.until_claimed(&claim, Some("dc2.test")).await;
    }
    alice
        .chat("bob@example.test/gone", "to nobody's session")
        .await;
    alice.chat("bob@example.test/b1", "to this one").await;
    alice.chat("bob@example.test", "to all").await;
    for client in [&b1, &b2] {
        client.expect_chat("alice@example.test", "to all").await;
        client.sync().await;
        let texts = ["to nobody's session", "to this one", "to all"];
        let texts = texts.map(|text| text.replace('\'', "&apos;"));
        let counts = texts.map(|text| times(client, &text));
        assert_eq!(counts, [1, 1, 1], "{}", client.inbox());
    }
    cluster.assert_no_leaks();
    cluster.assert_balanced().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restarted_gateway_knows_its_server_again() {
    let mut cluster = beside_prosody().await;
    let alice = cluster.login("alice", "dc1.test", "r1").await;
    let _bob = cluster.login("bob", "dc2.test", "b1").await;
    cluster.dc_mut("dc2.test").gateway.restart().await;
    cluster.until_ready().await;
    let gateway = &cluster.dc("dc2.test").gateway;
    gateway.until_logged_times(RECOGNISED, 2).await;
    let info = alice.iq(Some("bob@example.test"), "get", INFO).await;
    query(&info);
    // The detected server software outlives the server's own restart.
    cluster.dc_mut("dc2.test").server.restart().await;
    let gateway = &cluster.dc("dc2.test").gateway;
    gateway
        .until_metric("strait_component_attaches_total", &[], |n| n >= 2.0)
        .await;
    let info = alice.iq(Some("bob@example.test"), "get", INFO).await;
    query(&info);
    cluster.assert_balanced().await;
}

async fn sources(gateway: &Gateway) -> Value {
    let (_, status) = gateway.get("/api/status").await.expect("a status");
    let status: Value = serde_json::from_str(&status).expect("JSON");
    status["sources"].clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn its_lists_tell_of_sessions_without_presence_and_of_lost_ones() {
    let cluster = listed(Backend::Redis).await;
    let redis = &cluster.redis;
    let quiet = cluster
        .login_without_presence("alice", "dc1.test", "quiet")
        .await;
    redis
        .until_value("alice@example.test/quiet", Some("dc1.test"))
        .await;
    redis
        .until_value("{dave@example.test}#home", Some("dc1.test"))
        .await;
    quiet.kill().await;
    redis.until_value("alice@example.test/quiet", None).await;
    redis.until_value("alice@example.test", None).await;
    let gateway = &cluster.dc("dc1.test").gateway;
    let sources = sources(gateway).await;
    assert_eq!(sources["unseen"], Value::Array(vec![]), "{sources}");
    assert_eq!(sources["server"], "MongooseIM", "{sources}");
    assert!(!gateway.log().contains("server=\"unknown\""));
    assert!(!gateway.log().contains(PASSWORD));
    cluster.assert_balanced().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_gateway_restart_everybody_is_claimed_again() {
    let mut cluster = listed(Backend::Redis).await;
    let mut clients = Vec::new();
    for user in ["alice", "bob", "carol"] {
        clients.push(cluster.login(user, "dc1.test", "r").await);
    }
    clients.push(
        cluster
            .login_without_presence("dave", "dc1.test", "r")
            .await,
    );
    let all = |sessions: f64| (sessions - 4.0).abs() < 0.5;
    let gateway = &cluster.dc("dc1.test").gateway;
    gateway.until_metric("strait_sessions", &[], all).await;
    cluster.dc_mut("dc1.test").gateway.process.kill9().await;
    cluster.dc_mut("dc1.test").gateway.start().await;
    let gateway = &cluster.dc("dc1.test").gateway;
    gateway.until_metric("strait_sessions", &[], all).await;
    cluster.assert_balanced().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hibernating_session_stays_claimed() {
    let cluster = listed(Backend::Mesh).await;
    let alice = cluster.login("alice", "dc1.test", "phone").await;
    alice
        .send("<enable xmlns='urn:xmpp:sm:3' resume='true'/>")
        .await;
    alice
        .until("stream management", |element| element.name() == "enabled")
        .await;
    let claim = "alice@example.test/phone";
    cluster.until_claimed(claim, Some("dc1.test")).await;
    alice.kill().await;
    let gateway = &cluster.dc("dc1.test").gateway;
    let ok = [("source", "graphql"), ("outcome", "ok")];
    let lists = "strait_control_lists_total";
    let before = gateway.metric(lists, &ok).await;
    gateway
        .until_metric(lists, &ok, |lists| lists >= before + 2.0)
        .await;
    assert_eq!(cluster.claimed_by(claim).await, ["dc1.test"]);
    cluster.assert_balanced().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn foreign_senders_pass_where_its_check_is_off() {
    let cluster = Cluster::of([Kind::Prosody, Kind::MongooseIm])
        .its_config("component.foreign_from = true")
        .start()
        .await;
    let gateway = &cluster.dc("dc2.test").gateway;
    let domain = [("domain", "example.test")];
    gateway
        .until_metric("strait_component_foreign_from", &domain, |passes| {
            passes == 1.0
        })
        .await;
    cluster.assert_balanced().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_check_that_is_on_is_found_out_by_its_error() {
    let mut cluster = beside_prosody().await;
    let gateway = &mut cluster.dc_mut("dc2.test").gateway;
    gateway.reconfigure("component.foreign_from = true");
    gateway.restart().await;
    gateway
        .until_logged("MongooseIM: `check_from = false`")
        .await;
    let domain = [("domain", "example.test")];
    let passes = gateway.metric("strait_component_foreign_from", &domain);
    assert_eq!(passes.await, 0.0);
    cluster.until_ready().await;
    cluster.assert_balanced().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_stored_outlives_a_kill() {
    let mut cluster = beside_prosody().await;
    let alice = cluster.login("alice", "dc1.test", "r1").await;
    let bob = cluster.login("bob", "dc2.test", "b1").await;
    cluster
        .until_claimed("bob@example.test", Some("dc2.test"))
        .await;
    bob.close().await;
    cluster.until_claimed("bob@example.test", None).await;
    alice.chat("bob@example.test", "for later").await;
    let to_bob = [("host", "dc2.test")];
    let forwarded = "strait_stanzas_forwarded_total";
    let gateway = &cluster.dc("dc1.test").gateway;
    gateway.until_metric(forwarded, &to_bob, |n| n >= 1.0).await;
    for dc in cluster.datacenters() {
        dc.gateway.until_settled().await;
    }
    cluster.dc_mut("dc2.test").server.kill9().await;
    cluster.dc_mut("dc2.test").server.start().await;
    let bob = cluster.login("bob", "dc2.test", "b2").await;
    bob.expect_chat("alice@example.test", "for later").await;
    cluster.assert_balanced().await;
}

/// The snippet without a standby has kick_old: the gateway's own dead connection must not prevent
/// it from attaching.
#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_takes_its_domain_back() {
    let cluster = Cluster::on(Backend::Mesh)
        .datacenter("dc1.test")
        .its_server(Kind::MongooseIm)
        .start()
        .await;
    let dc = cluster.dc("dc1.test");
    let other = Component::attach(&dc.server, "example.test", SECRET).await;
    dc.gateway.until_logged("Replaced by new connection").await;
    other.inbox().closed().await;
    dc.gateway.until_ready().await;
    let alice = cluster.login("alice", "dc1.test", "r1").await;
    let bob = cluster.login("bob", "dc1.test", "b1").await;
    alice.chat("bob@example.test", "still here").await;
    bob.expect_chat("alice@example.test", "still here").await;
    cluster.assert_balanced().await;
}
