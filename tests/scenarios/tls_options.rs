//! `connections.tls`: the cipher suites, and the path of the key.

use std::fs;

use crate::support::backend::Backend;
use crate::support::cluster::{Cluster, SECRET};
use crate::support::fake_server::FakeServer;
use crate::support::flood::Flood;
use crate::support::gateway::Gateway;
use crate::support::port::Port;
use crate::support::xml::body;

crate::on_mesh!(
    the_ciphers_of_one_side_are_used_by_both,
    without_a_cipher_in_common_both_sides_say_what_to_compare,
    the_key_may_stand_in_the_certfile,
);

fn only(suite: &str) -> String {
    format!("connections.tls.ciphers = '{suite}'\n")
}

async fn passes(flood: &Flood) {
    flood.near.say("alice", "bob", "hello");
    assert_eq!(body(&flood.far.hear().await).as_deref(), Some("hello"));
    flood.assert_over().await;
}

async fn the_ciphers_of_one_side_are_used_by_both(backend: Backend) {
    for suite in [
        "TLS_CHACHA20_POLY1305_SHA256",
        "ECDHE-ECDSA-AES128-GCM-SHA256",
    ] {
        let flood = Flood::start_with(backend, &only(suite), "").await;
        passes(&flood).await;
        let agreed = format!("connection is secured suite=\"{suite}\"");
        let outgoing = format!("connection is secured peer=dc2.test suite=\"{suite}\"");
        flood.near.gateway.until_logged(&outgoing).await;
        flood.far.gateway.until_logged(&agreed).await;
    }
}

async fn without_a_cipher_in_common_both_sides_say_what_to_compare(backend: Backend) {
    for (one, other) in [
        ("TLS_AES_256_GCM_SHA384", "TLS_AES_128_GCM_SHA256"),
        ("TLS_AES_256_GCM_SHA384", "ECDHE-ECDSA-AES128-GCM-SHA256"),
    ] {
        let cluster = Cluster::on(backend).prepare().await;
        // Each dials the other, and the second one has the first as a peer.
        let port = Port::take();
        let second = format!("127.0.0.1:{}", port.number());
        let near = format!("{}{}", only(one), backend.peers(&[&second]));
        let near = cluster.join_with_fake_server("dc1.test", &near).await;
        let far = format!("{}connections.endpoints = ['{second}']\n", only(other));
        let far = cluster.join_with_fake_server("dc2.test", &far).await;
        let text = "no TLS version and cipher suite in common: compare `connections.tls.ciphers`";
        let dialler = match backend {
            Backend::Redis => "no link: ",
            Backend::Mesh => "no table link: ",
        };
        for (_server, gateway) in [&near, &far] {
            for line in [dialler, "an incoming link is refused: "] {
                gateway.until_logged(&format!("{line}{text}")).await;
            }
            let refused = "strait_links_refused_total";
            let as_protocol = [("reason", "protocol")];
            gateway
                .until_metric(refused, &as_protocol, |n| n >= 2.0)
                .await;
        }
    }
}

async fn the_key_may_stand_in_the_certfile(backend: Backend) {
    let cluster = Cluster::on(backend).prepare().await;
    let (server, far) = cluster.join_with_fake_server("dc2.test", "").await;
    let _far = (server.attach(SECRET).await, far);
    let near = FakeServer::start().await;
    let mut settings = cluster.settings("dc1.test");
    settings.server = near.address();
    let identity = &mut settings.identity;
    let read = |path| fs::read_to_string(path).expect("a PEM file");
    let both = read(&identity.certfile) + &read(&identity.keyfile);
    identity.certfile = cluster.workdir().write("both.pem", &both);
    identity.keyfile.clone_from(&identity.certfile);
    let mut gateway = Gateway::prepare(cluster.workdir(), &settings);
    gateway.process.launch();
    near.attach(SECRET).await;
    gateway.until_linked("dc2.test").await;
}
