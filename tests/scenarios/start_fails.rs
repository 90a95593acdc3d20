//! Every error at the start stops the gateway with one clear message.

use std::net::TcpListener;

use crate::support::backend::Backend;
use crate::support::cluster::Cluster;
use crate::support::fake_server::FakeServer;
use crate::support::gateway::Gateway;

crate::on_mesh!(
    an_address_in_use_stops_the_start,
    a_certificate_for_another_host_stops_the_start,
    an_address_of_another_machine_stops_the_start,
);

async fn an_address_in_use_stops_the_start(backend: Backend) {
    let cluster = Cluster::on(backend).datacenter("dc1.test").prepare().await;
    let mut gateway = Gateway::prepare(cluster.workdir(), &cluster.settings("dc1.test"));
    let _taken = TcpListener::bind(gateway.link()).expect("a free port");
    gateway.process.launch();
    let status = gateway.process.wait_exit().await;
    assert_eq!(status.code(), Some(1), "{}", gateway.log());
    assert!(
        gateway.log().contains(&gateway.link().to_string()),
        "{}",
        gateway.log()
    );
}

async fn a_certificate_for_another_host_stops_the_start(backend: Backend) {
    let cluster = Cluster::on(backend).datacenter("dc1.test").prepare().await;
    let mut settings = cluster.settings("dc1.test");
    settings.identity = cluster.authority.issue("dc3.test");
    let mut gateway = Gateway::prepare(cluster.workdir(), &settings);
    gateway.process.launch();
    let status = gateway.process.wait_exit().await;
    assert!(!status.success(), "{}", gateway.log());
    assert!(gateway.log().contains("dc1.test"), "{}", gateway.log());
}

async fn an_address_of_another_machine_stops_the_start(backend: Backend) {
    let cluster = Cluster::on(backend).prepare().await;
    let server = FakeServer::start().await;
    let mut settings = cluster.settings("dc1.test");
    settings.server = server.address();
    // RFC 5737: an address that no host has.
    settings.overrides = vec!["connections.endpoints = ['192.0.2.1:5555']\n".to_owned()];
    let mut gateway = Gateway::prepare(cluster.workdir(), &settings);
    gateway.process.launch();
    let status = gateway.process.wait_exit().await;
    assert_eq!(status.code(), Some(1), "{}", gateway.log());
    let message = "can't listen on 192.0.2.1:5555 (connections.endpoints): Cannot assign";
    assert_eq!(gateway.times_logged(message), 1, "{}", gateway.log());
}
