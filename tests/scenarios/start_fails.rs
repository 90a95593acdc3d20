//! Whatever is wrong at the start stops it with one clear message.

use std::net::TcpListener;

use crate::support::cluster::Cluster;
use crate::support::gateway::Gateway;

#[tokio::test(flavor = "multi_thread")]
async fn an_address_in_use_stops_the_start() {
    let cluster = Cluster::builder().datacenter("dc1.test").prepare().await;
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

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_for_another_host_stops_the_start() {
    let cluster = Cluster::builder().datacenter("dc1.test").prepare().await;
    let mut settings = cluster.settings("dc1.test");
    settings.identity = cluster.authority.issue("dc3.test");
    let mut gateway = Gateway::prepare(cluster.workdir(), &settings);
    gateway.process.launch();
    let status = gateway.process.wait_exit().await;
    assert!(!status.success(), "{}", gateway.log());
    assert!(gateway.log().contains("dc1.test"), "{}", gateway.log());
}
