//! Every failure to attach is reported with the setting to change, and its configuration file.

use std::net::SocketAddr;

use serde_json::json;

use crate::support::backend::Backend;
use crate::support::cluster::{Cluster, SECRET};
use crate::support::fake_server::FakeServer;
use crate::support::gateway::{Gateway, Settings};
use crate::support::server::Kind;

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

crate::on_each_server!(
    a_wrong_secret_names_both_settings,
    a_domain_that_the_server_does_not_know_names_what_to_add,
    a_domain_that_the_server_itself_has_is_told_about,
    a_wrong_port_names_the_right_one,
);

// MongooseIM accepts any domain that is not its own.
crate::on_each_server! {
    @with on_mongooseim MongooseIm
    a_wrong_secret_names_both_settings
    a_domain_that_the_server_itself_has_is_told_about
    a_wrong_port_names_the_right_one
}

/// A datacenter with a gateway that does not run.
async fn server(kind: Kind) -> Cluster {
    Cluster::on(Backend::Mesh)
        .datacenter("dc1.test")
        .its_server(kind)
        .prepare()
        .await
}

async fn a_wrong_secret_names_both_settings(kind: Kind) {
    let cluster = server(kind).await;
    let wrong = |s: &mut Settings| s.secret = "a wrong one".to_owned();
    let setting = match kind {
        Kind::Prosody => "component_secret",
        Kind::Ejabberd => "password",
        Kind::MongooseIm => "[[listen.component]]",
    };
    says(
        &cluster,
        wrong,
        "not_authorized",
        &["component.secret", setting],
    )
    .await;
}

async fn a_domain_that_the_server_does_not_know_names_what_to_add(kind: Kind) {
    let cluster = server(kind).await;
    let unknown = |s: &mut Settings| s.global_host = "unknown.test".to_owned();
    // ejabberd reports only that the gateway is not authorized.
    let (reason, setting) = match kind {
        Kind::Prosody => ("host_unknown", "Component \"unknown.test\""),
        Kind::Ejabberd => ("not_authorized", "unknown.test is not among its `hosts`"),
        Kind::MongooseIm => panic!("a MongooseIM takes any domain"),
    };
    says(&cluster, unknown, reason, &[setting]).await;
}

async fn a_domain_that_the_server_itself_has_is_told_about(kind: Kind) {
    const OTHER: &str = "accounts.test";
    let cluster = Cluster::on(Backend::Mesh)
        .datacenter("dc1.test")
        .its_server(kind);
    let cluster = match kind {
        Kind::Prosody => cluster.its_prosody(|server| server.more("VirtualHost \"accounts.test\"")),
        // ejabberd can be configured to accept the domain; its own domain takes precedence.
        Kind::Ejabberd => cluster.its_ejabberd(|server| {
            let server = server.option("hosts", json!(["dc1.test", OTHER]));
            server.service(OTHER, SECRET)
        }),
        Kind::MongooseIm => cluster.its(|server| server.rooms(OTHER)),
    };
    let cluster = cluster.prepare().await;
    let hosted = |s: &mut Settings| s.global_host = OTHER.to_owned();
    let (reason, advice) = match kind {
        Kind::Prosody => ("host_unknown", "not `VirtualHost`"),
        Kind::Ejabberd | Kind::MongooseIm => ("conflict", "itself host it"),
    };
    says(&cluster, hosted, reason, &[advice]).await;
}

async fn a_wrong_port_names_the_right_one(kind: Kind) {
    let cluster = server(kind).await;
    let nowhere = |s: &mut Settings| s.server = SocketAddr::from(([127, 0, 0, 1], 1));
    let advice = ["component_ports", "ejabberd_service", "component.server"];
    says(&cluster, nowhere, "connection_refused", &advice).await;

    let clients = cluster.dc("dc1.test").server.c2s();
    let (reason, advice) = match kind {
        Kind::Prosody | Kind::MongooseIm => ("host_unknown", "not the clients'"),
        Kind::Ejabberd => ("wrong_port", "ejabberd_service"),
    };
    says(&cluster, |s| s.server = clients, reason, &[advice]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_stream_of_a_domain_is_told_what_resolves_the_conflict() {
    let cluster = Cluster::on(Backend::Mesh)
        .datacenter("dc1.test")
        .its_prosody(|prosody| prosody.component("second.test", SECRET, ""))
        .prepare()
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
