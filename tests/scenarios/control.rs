//! The control component: the gateway discovers sessions that send it no presence.

use serde_json::Value;

use crate::support::backend::Backend;
use crate::support::cluster::{Builder, Cluster};
use crate::support::control;
use crate::support::gateway::Gateway;
use crate::support::pair::Pair;
use crate::support::patience::until;
use crate::support::port::Port;
use crate::support::server::Kind;

crate::on_mesh!(
    a_session_without_presence_is_claimed_and_reaped,
    a_lost_connection_is_claimed_no_more,
    a_hibernating_session_stays_claimed,
    after_a_gateway_restart_everybody_is_claimed_again,
    presence_by_privilege_alone_comes_and_goes_with_the_session,
    only_the_sources_that_are_named_are_used,
    what_is_used_is_told_and_its_stream_has_its_own_line,
    without_its_secret_it_says_what_to_change_and_the_gateway_is_ready,
    a_server_that_refuses_its_list_is_told_about,
    a_control_component_may_have_a_port_of_its_own,
    the_control_component_serves_nobody,
);

crate::on_redis!(after_a_gateway_restart_everybody_is_claimed_again,);

crate::on_two_ejabberds!(
    a_session_without_presence_is_claimed_and_reaped,
    a_lost_connection_is_claimed_no_more,
    a_hibernating_session_stays_claimed,
    after_a_gateway_restart_everybody_is_claimed_again,
    what_is_used_is_told_and_its_stream_has_its_own_line,
    without_its_secret_it_says_what_to_change_and_the_gateway_is_ready,
    a_control_component_may_have_a_port_of_its_own,
    the_control_component_serves_nobody,
);

const LISTS: &str = "strait_control_lists_total";

/// The server's source of lists, in working order.
fn ok(pair: Pair) -> [(&'static str, &'static str); 2] {
    [("source", list_of(pair)), ("outcome", "ok")]
}

fn list_of(pair: Pair) -> &'static str {
    match pair.kinds[0] {
        Kind::Prosody => "admin",
        Kind::Ejabberd => "disco",
        Kind::MongooseIm => "graphql",
    }
}

/// One datacenter with users whose presence is not sent to the gateway.
fn silent(pair: Pair, config: &str) -> Builder {
    Cluster::on(pair.backend)
        .datacenter("dc1.test")
        .its_server(pair.kinds[0])
        .its(|server| server.unwatched())
        .its_config(&control::config("dc1.test"))
        .its_config(config)
}

/// Waits until two lists were requested after this call, and read.
async fn two_lists(gateway: &Gateway, pair: Pair) {
    let ok = ok(pair);
    let before = gateway.metric(LISTS, &ok).await;
    gateway
        .until_metric(LISTS, &ok, |lists| lists >= before + 2.0)
        .await;
}

async fn status(gateway: &Gateway) -> Value {
    let (code, body) = gateway.get("/api/status").await.expect("a status");
    assert_eq!(code, 200, "{body}");
    serde_json::from_str(&body).expect("JSON")
}

fn words(used: &Value) -> Vec<&str> {
    let used = used.as_array().expect("a list");
    used.iter()
        .filter_map(|used| used["source"].as_str())
        .collect()
}

async fn a_session_without_presence_is_claimed_and_reaped(pair: impl Into<Pair>) {
    let pair = pair.into();
    let cluster = silent(pair, "").start().await;
    let alice = cluster
        .login_without_presence("alice", "dc1.test", "quiet")
        .await;
    let claim = "alice@example.test/quiet";
    cluster.until_claimed(claim, Some("dc1.test")).await;
    cluster
        .until_claimed("alice@example.test", Some("dc1.test"))
        .await;
    alice.kill().await;
    cluster.until_claimed(claim, None).await;
    cluster.until_claimed("alice@example.test", None).await;
    cluster.assert_balanced().await;
}

/// ejabberd sends no presence about it to a watcher of all presence.
async fn a_lost_connection_is_claimed_no_more(pair: impl Into<Pair>) {
    let cluster = silent(pair.into(), "").start().await;
    let alice = cluster.login("alice", "dc1.test", "r").await;
    let claim = "alice@example.test/r";
    cluster.until_claimed(claim, Some("dc1.test")).await;
    alice.kill().await;
    cluster.until_claimed(claim, None).await;
    cluster.until_claimed("alice@example.test", None).await;
    cluster.assert_balanced().await;
}

async fn a_control_component_may_have_a_port_of_its_own(pair: impl Into<Pair>) {
    let (pair, port) = (pair.into(), Port::take());
    let server = format!("control.server = '{}'", port.address());
    let cluster = silent(pair, &server).start().await;
    let gateway = &cluster.dc("dc1.test").gateway;
    gateway
        .until_metric(LISTS, &ok(pair), |lists| lists >= 1.0)
        .await;
    let _alice = cluster
        .login_without_presence("alice", "dc1.test", "quiet")
        .await;
    cluster
        .until_claimed("alice@example.test/quiet", Some("dc1.test"))
        .await;
}

async fn a_hibernating_session_stays_claimed(pair: impl Into<Pair>) {
    let pair = pair.into();
    let cluster = silent(pair, "").start().await;
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
    two_lists(&cluster.dc("dc1.test").gateway, pair).await;
    assert_eq!(cluster.claimed_by(claim).await, ["dc1.test"]);
}

async fn after_a_gateway_restart_everybody_is_claimed_again(pair: impl Into<Pair>) {
    let pair = pair.into();
    let mut cluster = silent(pair, "").start().await;
    let mut clients = Vec::new();
    for user in ["alice", "bob", "carol"] {
        clients.push(cluster.login(user, "dc1.test", "r").await);
    }
    clients.push(
        cluster
            .login_without_presence("dave", "dc1.test", "r")
            .await,
    );
    let online = |count: f64| move |sessions: f64| (sessions - count).abs() < 0.5;
    let sessions = "strait_sessions";
    let gateway = &cluster.dc("dc1.test").gateway;
    gateway.until_metric(sessions, &[], online(4.0)).await;
    cluster.dc_mut("dc1.test").gateway.process.kill9().await;
    cluster.dc_mut("dc1.test").gateway.start().await;
    let gateway = &cluster.dc("dc1.test").gateway;
    gateway.until_metric(sessions, &[], online(4.0)).await;
}

async fn presence_by_privilege_alone_comes_and_goes_with_the_session(backend: Backend) {
    let cluster = silent(backend.into(), "sessions.sources = ['privilege']")
        .start()
        .await;
    let alice = cluster.login("alice", "dc1.test", "r").await;
    let claim = "alice@example.test/r";
    cluster.until_claimed(claim, Some("dc1.test")).await;
    alice.kill().await;
    cluster.until_claimed(claim, None).await;
    let gateway = &cluster.dc("dc1.test").gateway;
    assert_eq!(gateway.metrics().await.expect("metrics").sum(LISTS), 0.0);
    let status = status(gateway).await;
    assert_eq!(words(&status["sources"]["used"]), ["privilege"], "{status}");
    let unseen = status["sources"]["unseen"].to_string();
    assert!(unseen.contains("without presence"), "{unseen}");
}

async fn only_the_sources_that_are_named_are_used(backend: Backend) {
    let cluster = silent(backend.into(), "sessions.sources = ['traffic']")
        .start()
        .await;
    let gateway = &cluster.dc("dc1.test").gateway;
    let alice = cluster.login("alice", "dc1.test", "r").await;
    alice.send("<presence to='bob@example.test'/>").await;
    alice.sync().await;
    gateway.until_settled().await;
    assert_eq!(gateway.metric("strait_sessions", &[]).await, 0.0);
    alice.chat("bob@example.test", "now I am known").await;
    gateway
        .until_metric("strait_sessions", &[], |n| n == 1.0)
        .await;
}

async fn what_is_used_is_told_and_its_stream_has_its_own_line(pair: impl Into<Pair>) {
    let pair = pair.into();
    let cluster = silent(pair, "").start().await;
    let gateway = &cluster.dc("dc1.test").gateway;
    gateway
        .until_metric(LISTS, &ok(pair), |lists| lists >= 1.0)
        .await;
    let domain = control::domain("dc1.test");
    let attached = [("domain", domain.as_str())];
    gateway
        .until_metric("strait_component_attached", &attached, |up| up == 1.0)
        .await;
    let (code, ready) = gateway.get("/readyz").await.expect("readiness");
    assert_eq!(code, 200, "{ready}");
    assert!(ready.contains("control gwctl.dc1.test: ok\n"), "{ready}");
    // The list may arrive before the server has reported its name.
    let status = until("the server to be named", async || {
        let status = status(gateway).await;
        let named = status["sources"]["server"] == pair.kinds[0].name();
        named.then(|| status.clone()).ok_or(status.to_string())
    })
    .await;
    assert_eq!(status["control"]["attached"], true, "{status}");
    assert_eq!(status["component"]["attached"], true, "{status}");
    let used = words(&status["sources"]["used"]);
    let all = ["traffic", "probe", "presence", "privilege", list_of(pair)];
    assert_eq!(used, all, "{status}");
    assert_eq!(
        status["sources"]["unseen"],
        Value::Array(vec![]),
        "{status}"
    );
    assert!(!gateway.log().contains(control::SECRET));
}

async fn without_its_secret_it_says_what_to_change_and_the_gateway_is_ready(pair: impl Into<Pair>) {
    let pair = pair.into();
    let mut cluster = silent(pair, "").prepare().await;
    let gateway = &cluster.dc("dc1.test").gateway;
    gateway.reconfigure("control.secret = 'wrong'");
    cluster.launch_gateways();
    cluster.until_ready().await;
    let gateway = &cluster.dc("dc1.test").gateway;
    gateway.until_logged("`control.secret`").await;
    let (code, ready) = gateway.get("/readyz").await.expect("readiness");
    assert_eq!(code, 200, "{ready}");
    assert!(
        ready.contains("control gwctl.dc1.test: the server does not accept"),
        "{ready}"
    );
    let status = status(gateway).await;
    assert_eq!(status["control"]["attached"], false, "{status}");
    let unseen = status["sources"]["unseen"].to_string();
    assert!(unseen.contains("without a contact"), "{unseen}");
}

async fn a_server_that_refuses_its_list_is_told_about(backend: Backend) {
    let cluster = Cluster::on(backend)
        .datacenter("dc1.test")
        .its_prosody(|prosody| control::with_only(prosody, &["privilege"]))
        .its_config(&control::config("dc1.test"))
        .start()
        .await;
    let gateway = &cluster.dc("dc1.test").gateway;
    gateway.until_logged("admin_adhoc").await;
    let status = status(gateway).await;
    let missing = words(&status["sources"]["missing"]);
    assert!(missing.contains(&"admin"), "{status}");
    assert!(
        words(&status["sources"]["used"]).contains(&"privilege"),
        "{status}"
    );
}

async fn the_control_component_serves_nobody(pair: impl Into<Pair>) {
    let pair = pair.into();
    let cluster = silent(pair, "").start().await;
    let gateway = &cluster.dc("dc1.test").gateway;
    gateway
        .until_metric(LISTS, &ok(pair), |lists| lists >= 1.0)
        .await;
    let alice = cluster.login("alice", "dc1.test", "r").await;
    let domain = control::domain("dc1.test");
    let answer = alice
        .iq(Some(&domain), "get", "<query xmlns='jabber:iq:version'/>")
        .await;
    assert_eq!(answer.attr("type"), Some("error"), "{answer:?}");
    alice.chat(&domain, "anybody there?").await;
    alice
        .until("an error", |stanza| {
            stanza.name() == "message" && stanza.attr("type") == Some("error")
        })
        .await;
    alice.subscribe(&domain).await;
    alice.expect_presence(&domain, Some("unsubscribed")).await;
    let refused = [("what", "refused")];
    let refused = gateway
        .metric("strait_control_stanzas_total", &refused)
        .await;
    assert_eq!(refused, 3.0);
}
