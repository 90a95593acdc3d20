//! Every way in which attaching fails says what to change in which configuration.

use std::net::SocketAddr;

use crate::support::backend::Backend;
use crate::support::cluster::{Cluster, SECRET};
use crate::support::fake_server::FakeServer;
use crate::support::gateway::{Gateway, Settings};

async fn says(
    cluster: &Cluster,
    change: impl FnOnce(&mut Settings),
    reason: &str,
    advice: &[&str],
) {
    let mut settings = cluster.settings("dc1.test");
    change(&mut settings);
    let mut gateway = Gateway::prepare(cluster.workdir(), &settings);
    gateway.process.launch();
    let name = "strait_component_attach_failures_total";
    gateway
        .until_metric(name, &[("reason", reason)], |n| n >= 1.0)
        .await;
    for text in advice {
        gateway.until_logged(text).await;
    }
    let log = gateway.log();
    assert!(
        !log.contains(SECRET) && !log.contains("a wrong one"),
        "{log}"
    );
    gateway.process.terminate().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_refusal_of_prosody_has_its_own_advice() {
    let cluster = Cluster::on(Backend::Mesh)
        .datacenter("dc1.test")
        .its_prosody(|prosody| prosody.component("second.test", SECRET, ""))
        .prepare()
        .await;

    let wrong = |s: &mut Settings| s.secret = "a wrong one".to_owned();
    says(
        &cluster,
        wrong,
        "not_authorized",
        &["component.secret", "component_secret"],
    )
    .await;

    let unknown = |s: &mut Settings| s.global_host = "unknown.test".to_owned();
    says(
        &cluster,
        unknown,
        "host_unknown",
        &["Component \"unknown.test\""],
    )
    .await;

    let nowhere = |s: &mut Settings| s.server = SocketAddr::from(([127, 0, 0, 1], 1));
    says(
        &cluster,
        nowhere,
        "connection_refused",
        &["component_ports", "component.server"],
    )
    .await;

    let clients = cluster.dc("dc1.test").server.c2s();
    says(
        &cluster,
        |s| s.server = clients,
        "host_unknown",
        &["not the clients'"],
    )
    .await;

    let second = |s: &mut Settings| s.global_host = "second.test".to_owned();
    let mut settings = cluster.settings("dc1.test");
    second(&mut settings);
    let mut first = Gateway::prepare(cluster.workdir(), &settings);
    first.process.launch();
    first
        .until_metric("strait_component_attached", &[], |up| up == 1.0)
        .await;
    says(
        &cluster,
        second,
        "conflict",
        &["component_conflict_resolve"],
    )
    .await;
    assert_eq!(first.metric("strait_component_attached", &[]).await, 1.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_invalid_from_names_the_check_to_turn_off() {
    let cluster = Cluster::on(Backend::Mesh)
        .datacenter("dc1.test")
        .prepare()
        .await;
    let server = FakeServer::start().await;
    let mut settings = cluster.settings("dc1.test");
    settings.server = server.address();
    let mut gateway = Gateway::prepare(cluster.workdir(), &settings);
    gateway.process.launch();
    let stream = server.attach(SECRET).await;
    gateway
        .until_metric("strait_component_attached", &[], |up| up == 1.0)
        .await;
    stream.stream_error("invalid-from");
    gateway.until_logged("validate_from_addresses").await;
    let _again = server.attach(SECRET).await;
    gateway
        .until_metric("strait_component_attaches_total", &[], |n| n == 2.0)
        .await;
}
