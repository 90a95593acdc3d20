//! Links to a host: their number, their endpoints, and the order of stanzas over them. Cases of
//! mod_global_distrib's own suite have its names.

use std::collections::BTreeMap;

use crate::support::backend::Backend;
use crate::support::cluster::{Cluster, SECRET};
use crate::support::fake_server::FakeServer;
use crate::support::flood::{Flood, Side, numbers};
use crate::support::gateway::Gateway;
use crate::support::xml::body;

crate::on_mesh!(
    in_order_messages_on_multiple_connections,
    in_order_messages_on_multiple_connections_with_bounce,
    messages_bounced_in_order,
    enable_new_endpoint_on_refresh,
    disable_endpoint_on_refresh,
    host_refreshing,
    location_disconnect,
    error_on_wrong_hosts,
    closed_connection_is_removed_from_disabled,
    advertised_endpoints_override_endpoints,
);

crate::on_redis!(
    enable_new_endpoint_on_refresh,
    disable_endpoint_on_refresh,
    host_refreshing,
);

const USERS: [&str; 6] = ["alice", "carol", "dave", "erin", "fred", "gina"];
const UP: &str = "strait_links_up";
const TO_FAR: [(&str, &str); 1] = [("host", "dc2.test")];

fn all_say(flood: &Flood, texts: &[String]) {
    for text in texts {
        for user in USERS {
            flood.near.say(user, "bob", text);
        }
    }
}

async fn all_arrive_in_order(flood: &Flood, count: usize) {
    let heard = flood.far.hear_all(USERS.len() * count).await;
    let expected: BTreeMap<_, _> = USERS
        .iter()
        .map(|user| ((*user).to_owned(), numbers(count)))
        .collect();
    assert_eq!(heard, expected);
    flood.assert_over().await;
}

async fn in_order_messages_on_multiple_connections(backend: Backend) {
    let flood = Flood::start_on(backend, "connections.connections_per_endpoint = 100\n").await;
    flood
        .near
        .gateway
        .until_metric(UP, &TO_FAR, |up| up == 100.0)
        .await;
    all_say(&flood, &numbers(500));
    all_arrive_in_order(&flood, 500).await;
}

async fn in_order_messages_on_multiple_connections_with_bounce(backend: Backend) {
    let config = "connections.connections_per_endpoint = 100\nbounce.resend_after_ms = 30\n\
                  cache.jid_lifetime_seconds = 1\n";
    let flood = Flood::start_on(backend, config).await;
    let texts = numbers(300);
    all_say(&flood, &texts[..100]);
    // No host claims Bob for a moment; then the far side claims him again.
    let gone = "<presence type='unavailable' from='bob@dc2.test/r' to='example.test'/>";
    flood.far.stream.send(gone);
    flood.cluster.until_claimed("bob@example.test", None).await;
    all_say(&flood, &texts[100..200]);
    flood.far.online(&flood.cluster, "bob").await;
    all_say(&flood, &texts[200..]);
    all_arrive_in_order(&flood, 300).await;
}

async fn messages_bounced_in_order(backend: Backend) {
    let flood = Flood::start_on(backend, "bounce.resend_after_ms = 100\n").await;
    for text in numbers(50) {
        flood.near.say("alice", "carol", &text);
    }
    let held = "mod_global_distrib_bounce_queue_size";
    flood
        .near
        .gateway
        .until_metric(held, &[], |n| n == 50.0)
        .await;
    flood.far.online(&flood.cluster, "carol").await;
    assert_eq!(flood.far.hear_all(50).await["alice"], numbers(50));
    flood.assert_over().await;
}

const OFTEN: &str =
    "connections.endpoint_refresh_interval = 1\nconnections.disabled_gc_interval = 1\n";

async fn enable_new_endpoint_on_refresh(backend: Backend) {
    let flood = Flood::start_on(backend, OFTEN).await;
    flood
        .near
        .gateway
        .until_metric(UP, &TO_FAR, |up| up == 1.0)
        .await;
    let _second = Side::start_node(&flood.cluster, "dc2.test", "n2", OFTEN).await;
    flood
        .near
        .gateway
        .until_metric(UP, &TO_FAR, |up| up == 2.0)
        .await;
}

async fn disable_endpoint_on_refresh(backend: Backend) {
    let flood = Flood::start_on(backend, OFTEN).await;
    let mut second = Side::start_node(&flood.cluster, "dc2.test", "n2", OFTEN).await;
    flood
        .near
        .gateway
        .until_metric(UP, &TO_FAR, |up| up == 2.0)
        .await;
    second.gateway.process.terminate().await;
    flood
        .near
        .gateway
        .until_metric(UP, &TO_FAR, |up| up == 1.0)
        .await;
    // The closed connection is removed and not dialled again.
    if backend == Backend::Redis {
        let left = flood.cluster.redis.hash("dc2.test#{nodes}").await;
        assert_eq!(left.len(), 1, "{left:?}");
    }
    all_say(&flood, &numbers(20));
    all_arrive_in_order(&flood, 20).await;
}

async fn closed_connection_is_removed_from_disabled(backend: Backend) {
    let config = &format!("{OFTEN}{}", backend.times(3, 1));
    let flood = Flood::start_on(backend, config).await;
    let mut second = Side::start_node(&flood.cluster, "dc2.test", "n2", config).await;
    let near = &flood.near.gateway;
    near.until_metric(UP, &TO_FAR, |up| up == 2.0).await;
    // A killed node cannot retire its endpoint, which stays known until the registry entry has
    // expired.
    second.gateway.process.kill9().await;
    near.until_metric(UP, &TO_FAR, |up| up == 1.0).await;
    near.until_logged("connections to endpoints that are gone are closed")
        .await;
    all_say(&flood, &numbers(20));
    all_arrive_in_order(&flood, 20).await;
}

/// On Redis: without a database, a session's host is known only over a link to it.
#[tokio::test(flavor = "multi_thread")]
async fn wait_for_connection() {
    let cluster = Cluster::on(Backend::Redis).prepare().await;
    let near = Side::start(&cluster, "dc1.test", "").await;
    // The table has Bob's host before there is any link to it.
    for key in ["bob@example.test", "bob@example.test/r"] {
        cluster.redis.set(key, "dc2.test").await;
    }
    near.say("alice", "bob", "early");
    near.gateway
        .until_metric("strait_stanzas_held", &[], |n| n == 1.0)
        .await;
    let far = Side::start(&cluster, "dc2.test", "").await;
    assert_eq!(body(&far.hear().await).as_deref(), Some("early"));
    near.gateway.until_settled().await;
}

async fn advertised_endpoints_override_endpoints(backend: Backend) {
    let cluster = Cluster::on(backend).prepare().await;
    let near = Side::start(&cluster, "dc1.test", "").await;
    // The announced address is a name for the dialler to resolve, unrelated to the address
    // listened on.
    let server = FakeServer::start().await;
    let mut settings = cluster.settings("dc2.test");
    settings.server = server.address();
    let probe = Gateway::prepare(cluster.workdir(), &settings);
    let port = probe.link().port();
    settings.overrides = vec![format!(
        "[connections]\nendpoints = [{{ host = '127.0.0.1', port = {port} }}]\n\
         advertised_endpoints = [{{ host = 'localhost', port = {port} }}]\n"
    )];
    settings.node = "n9".to_owned();
    let mut gateway = Gateway::prepare(cluster.workdir(), &settings);
    gateway.process.launch();
    server.attach(SECRET).await;
    near.gateway.until_linked("dc2.test").await;
    let dialled = format!("link up peer=dc2.test node=n9 endpoint=localhost:{port}");
    near.gateway.until_logged(&dialled).await;
}

async fn host_refreshing(backend: Backend) {
    let flood = Flood::start_on(backend, &backend.times(3, 1)).await;
    let mut third = Side::start(&flood.cluster, "dc3.test", &backend.times(3, 1)).await;
    // A new datacenter is discovered without a restart, and a dead one removed.
    flood.near.gateway.until_linked("dc3.test").await;
    third.gateway.process.kill9().await;
    flood
        .near
        .gateway
        .until_logged("peer is gone from the registry host=dc3.test")
        .await;
    let (status, why) = flood.near.gateway.get("/readyz").await.expect("an answer");
    assert!(!why.contains("dc3.test"), "{status} {why}");
}

async fn location_disconnect(backend: Backend) {
    let mut flood = Flood::start_on(backend, "connections.max_wait = 2\n").await;
    flood.near.say("alice", "bob", "0");
    flood.far.hear().await;
    flood.near.gateway.until_settled().await;
    flood.far.gateway.process.kill9().await;
    flood.near.say("alice", "bob", "1");
    let error = flood
        .near
        .stream
        .until("an error", |s| s.attr("type") == Some("error"))
        .await;
    assert_eq!(error.attr("id"), Some("alice-1"));
    flood.near.gateway.assert_balanced().await;
}

async fn error_on_wrong_hosts(backend: Backend) {
    let cluster = Cluster::on(backend).prepare().await;
    let mut settings = cluster.settings("example.test");
    settings.identity = cluster.authority.issue("example.test");
    let mut gateway = Gateway::prepare(cluster.workdir(), &settings);
    gateway.process.launch();
    let status = gateway.process.wait_exit().await;
    assert_eq!(status.code(), Some(2), "{}", gateway.log());
    assert!(
        gateway
            .log()
            .contains("local_host: is the same as global_host"),
        "{}",
        gateway.log()
    );
}
