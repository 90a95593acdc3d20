//! Endpoints announced by name: the dialler resolves them repeatedly, and an unresponsive name
//! server blocks no other connection.

use std::fs;
use std::path::{Path, PathBuf};

use tokio::net::UdpSocket;

use crate::support::backend::Backend;
use crate::support::cluster::{Cluster, SECRET};
use crate::support::fake_server::FakeServer;
use crate::support::flood::{Side, numbers};
use crate::support::gateway::Gateway;
use crate::support::patience::until;
use crate::support::port::Port;
use crate::support::xml::body;

crate::on_mesh!(
    a_name_that_moves_is_followed_without_a_restart,
    a_name_server_that_does_not_answer_blocks_nothing,
);

/// A gateway of `dc1.test` with `own` mounted over `other`.
async fn near(cluster: &Cluster, own: &Path, other: &'static str, config: &str) -> Side {
    let server = FakeServer::start().await;
    let mut settings = cluster.settings("dc1.test");
    settings.server = server.address();
    settings.mounts = vec![(PathBuf::from(own), other)];
    settings.overrides = vec![config.to_owned()];
    let mut gateway = Gateway::prepare(cluster.workdir(), &settings);
    gateway.process.launch();
    let stream = server.attach(SECRET).await;
    Side {
        gateway,
        stream,
        server,
    }
}

/// A gateway of `host` with the endpoint `name`, which dials `near`.
async fn named(
    backend: Backend,
    near: &Side,
    cluster: &Cluster,
    [host, name]: [&str; 2],
) -> (Side, Port) {
    let port = Port::take();
    let number = port.number();
    let config = format!(
        "{}[connections]\nendpoints = ['127.0.0.1:{number}']\n\
         advertised_endpoints = ['{name}:{number}']\n",
        dialling(backend, near)
    );
    (Side::start(cluster, host, &config).await, port)
}

fn dialling(backend: Backend, near: &Side) -> String {
    backend.peers(&[&near.gateway.link().to_string()])
}

async fn a_name_that_moves_is_followed_without_a_restart(backend: Backend) {
    let cluster = Cluster::on(backend).prepare().await;
    // No process listens at that address.
    let hosts = cluster.workdir().write("hosts", "127.0.0.9 gw.dc2.test\n");
    let near = near(&cluster, &hosts, "/etc/hosts", "").await;
    let (far, port) = named(backend, &near, &cluster, ["dc2.test", "gw.dc2.test"]).await;
    let refused = format!("127.0.0.9:{}: Connection refused", port.number());
    near.gateway.until_logged(&refused).await;
    fs::write(&hosts, "127.0.0.1 gw.dc2.test\n").expect("a writable file");
    near.gateway.until_linked("dc2.test").await;
    far.online(&cluster, "bob").await;
    near.say("alice", "bob", "found you");
    assert_eq!(body(&far.hear().await).as_deref(), Some("found you"));
    near.gateway.until_settled().await;
}

/// The threads of `pid` that resolve names.
fn look_ups(pid: u32) -> usize {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).expect("a running process");
    let name = |task: fs::DirEntry| fs::read_to_string(task.path().join("comm")).ok();
    let names = threads.flatten().filter_map(name);
    names.filter(|name| name.trim() == "resolve").count()
}

async fn a_name_server_that_does_not_answer_blocks_nothing(backend: Backend) {
    let cluster = Cluster::on(backend).prepare().await;
    // Both look-ups may run at once.
    let address = match backend {
        Backend::Redis => "127.53.53.53",
        Backend::Mesh => "127.53.53.54",
    };
    let silent = UdpSocket::bind((address, 53)).await;
    let silent = silent.expect("port 53 of a loopback address, for which it takes root");
    let text = format!("nameserver {address}\noptions timeout:30 attempts:1\n");
    let resolv_conf = cluster.workdir().write("resolv.conf", &text);
    let config = "connections.connections_per_endpoint = 20\n";
    let mut near = near(&cluster, &resolv_conf, "/etc/resolv.conf", config).await;
    let (lost, _port) = named(backend, &near, &cluster, ["dc3.test", "gw.dc3.test"]).await;
    let far = Side::start(&cluster, "dc2.test", &dialling(backend, &near)).await;
    near.gateway
        .until_metric("strait_links_up", &[("host", "dc2.test")], |up| up == 20.0)
        .await;
    let mut query = [0; 512];
    silent.recv(&mut query).await.expect("a query");
    far.online(&cluster, "bob").await;
    for text in numbers(200) {
        near.say("alice", "bob", &text);
    }
    assert_eq!(far.hear_all(200).await["alice"], numbers(200));
    near.gateway
        .until_logged("name look-up: no answer within 5s")
        .await;
    // All connections wait for the same answer, without a second query. Without a database, there
    // are no links yet to peers whose table is unavailable.
    let connections = match backend {
        Backend::Redis => 20,
        Backend::Mesh => 1,
    };
    let pid = near.gateway.process.pid().expect("it runs");
    until("every connection has given up once", async || {
        let times = near.gateway.times_logged("name look-up: no answer");
        (times >= connections)
            .then_some(())
            .ok_or(times.to_string())
    })
    .await;
    assert_eq!(look_ups(pid), 1);
    near.gateway.until_settled().await;
    assert!(near.gateway.process.terminate().await.success());
    drop(lost);
}
