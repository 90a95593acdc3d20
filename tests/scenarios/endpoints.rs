//! Endpoints of a node: none, over IPv6, several addresses.

use std::collections::BTreeMap;

use crate::support::backend::Backend;
use crate::support::cluster::Cluster;
use crate::support::flood::{Flood, Side, numbers};
use crate::support::port::Port;
use crate::support::xml::body;

crate::on_mesh!(
    a_gateway_without_endpoints_sends_and_is_told_that_nobody_can_answer,
    links_go_over_ipv6,
    a_node_may_have_several_endpoints,
    a_dead_endpoint_of_several_is_told_once_and_does_no_harm,
);

const UP: &str = "strait_links_up";
const TO_FAR: [(&str, &str); 1] = [("host", "dc2.test")];
const USERS: [&str; 6] = ["alice", "carol", "dave", "erin", "fred", "gina"];

async fn a_gateway_without_endpoints_sends_and_is_told_that_nobody_can_answer(backend: Backend) {
    let cluster = Cluster::on(backend).prepare().await;
    let far = Side::start(&cluster, "dc2.test", "connections.max_wait = 1\n").await;
    let near = Side::start(&cluster, "dc1.test", "connections.endpoints = []\n").await;
    near.gateway.until_linked("dc2.test").await;
    let warning = "this gateway can send to other datacenters, but none of them can send to it";
    assert_eq!(near.gateway.times_logged(warning), 1);
    far.online(&cluster, "bob").await;
    near.stream
        .send("<presence from='alice@dc1.test/r' to='example.test'/>");
    let alice = "alice@example.test";
    near.gateway.until_claimed(alice, Some("dc1.test")).await;
    near.say("alice", "bob", "hello");
    assert_eq!(body(&far.hear().await).as_deref(), Some("hello"));
    far.say("bob", "alice", "hello yourself");
    // Her message has announced her host.
    let error = far
        .stream
        .until("an error", |s| s.attr("type") == Some("error"))
        .await;
    assert!(
        String::from(&error).contains("remote-server-timeout"),
        "{error:?}"
    );
    // A gateway that cannot be dialled is ready nevertheless.
    far.gateway.until_ready().await;
    for side in [near, far] {
        side.gateway.until_settled().await;
    }
}

async fn links_go_over_ipv6(backend: Backend) {
    let port = Port::take();
    let number = port.number();
    let config = format!("connections.endpoints = [{{ host = '::1', port = {number} }}]\n");
    let flood = Flood::start_with(backend, "", &config).await;
    flood
        .near
        .gateway
        .until_logged(&format!("endpoint=[::1]:{number}"))
        .await;
    flood.near.say("alice", "bob", "hello");
    assert_eq!(body(&flood.far.hear().await).as_deref(), Some("hello"));
    flood.assert_over().await;
}

async fn a_node_may_have_several_endpoints(backend: Backend) {
    let ports = [Port::take(), Port::take(), Port::take()];
    let [first, second, third] = ports.each_ref().map(Port::number);
    let config = format!(
        "connections.connections_per_endpoint = 2\nconnections.endpoints = \
         ['127.0.0.1:{first}', '127.0.0.1:{second}', '[::1]:{third}']\n"
    );
    let flood = Flood::start_with(
        backend,
        "connections.connections_per_endpoint = 2\n",
        &config,
    )
    .await;
    flood
        .near
        .gateway
        .until_metric(UP, &TO_FAR, |up| up == 6.0)
        .await;
    for text in numbers(100) {
        for user in USERS {
            flood.near.say(user, "bob", &text);
        }
    }
    let heard = flood.far.hear_all(USERS.len() * 100).await;
    let all = USERS.map(|user| (user.to_owned(), numbers(100)));
    assert_eq!(heard, BTreeMap::from(all));
    flood.assert_over().await;
}

async fn a_dead_endpoint_of_several_is_told_once_and_does_no_harm(backend: Backend) {
    let dead = Port::take();
    let port = Port::take();
    let (dead, port) = (dead.number(), port.number());
    let config = format!(
        "[connections]\nendpoints = ['127.0.0.1:{port}']\n\
         advertised_endpoints = ['127.0.0.1:{dead}', '127.0.0.1:{port}']\n"
    );
    let flood = Flood::start_with(
        backend,
        "connections.connections_per_endpoint = 20\n",
        &config,
    )
    .await;
    flood
        .near
        .gateway
        .until_metric(UP, &TO_FAR, |up| up == 20.0)
        .await;
    for text in numbers(100) {
        flood.near.say("alice", "bob", &text);
    }
    assert_eq!(flood.far.hear_all(100).await["alice"], numbers(100));
    // Each of the 20 has dialled many times by now; only the debug level logs each attempt.
    let attempt = "Connection refused";
    flood.near.gateway.until_logged_times(attempt, 40).await;
    let log = flood.near.gateway.log();
    let loud = log
        .lines()
        .filter(|line| line.contains("WARN") && line.contains(attempt));
    // Without a database, the table is requested from the endpoint too.
    let once_each = match backend {
        Backend::Redis => 1,
        Backend::Mesh => 2,
    };
    assert_eq!(loud.count(), once_each, "{log}");
    flood.assert_over().await;
}
