//! Endpoints announced by name: the dialler looks them up, again and again,
//! and a name server that does not answer stands in nobody's way.

use std::fs;
use std::path::{Path, PathBuf};

use tokio::net::UdpSocket;

use crate::support::cluster::{Cluster, SECRET};
use crate::support::fake_server::FakeServer;
use crate::support::flood::{Side, numbers};
use crate::support::gateway::Gateway;
use crate::support::patience::until;
use crate::support::port::Port;
use crate::support::xml::body;

/// A gateway of `dc1.test` that sees `own` in the place of `other`.
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

/// A gateway of `host` that is to be dialled at `name`.
async fn named(cluster: &Cluster, host: &str, name: &str) -> (Side, Port) {
    let port = Port::take();
    let number = port.number();
    let config = format!(
        "[connections]\nendpoints = ['127.0.0.1:{number}']\n\
         advertised_endpoints = ['{name}:{number}']\n"
    );
    (Side::start(cluster, host, &config).await, port)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_that_moves_is_followed_without_a_restart() {
    let cluster = Cluster::builder().prepare().await;
    let (far, port) = named(&cluster, "dc2.test", "gw.dc2.test").await;
    // Nobody listens there.
    let hosts = cluster.workdir().write("hosts", "127.0.0.9 gw.dc2.test\n");
    let near = near(&cluster, &hosts, "/etc/hosts", "").await;
    let refused = format!("127.0.0.9:{}: Connection refused", port.number());
    near.gateway.until_logged(&refused).await;
    fs::write(&hosts, "127.0.0.1 gw.dc2.test\n").expect("a writable file");
    near.gateway.until_linked("dc2.test").await;
    far.online(&cluster, "bob").await;
    near.say("alice", "bob", "found you");
    assert_eq!(body(&far.hear().await).as_deref(), Some("found you"));
    near.gateway.until_settled().await;
}

/// The threads of `pid` that look names up.
fn look_ups(pid: u32) -> usize {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).expect("a running process");
    let name = |task: fs::DirEntry| fs::read_to_string(task.path().join("comm")).ok();
    let names = threads.flatten().filter_map(name);
    names.filter(|name| name.trim() == "resolve").count()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_server_that_does_not_answer_blocks_nothing() {
    let cluster = Cluster::builder().prepare().await;
    let silent = UdpSocket::bind("127.53.53.53:53").await;
    let silent = silent.expect("port 53 of a loopback address, for which it takes root");
    let text = "nameserver 127.53.53.53\noptions timeout:30 attempts:1\n";
    let resolv_conf = cluster.workdir().write("resolv.conf", text);
    let config = "connections.connections_per_endpoint = 20\n";
    let (lost, _port) = named(&cluster, "dc3.test", "gw.dc3.test").await;
    let far = Side::start(&cluster, "dc2.test", "").await;
    let mut near = near(&cluster, &resolv_conf, "/etc/resolv.conf", config).await;
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
    // All 20 wait for the same answer, and ask no second time.
    let pid = near.gateway.process.pid().expect("it runs");
    until("every connection has given up once", async || {
        let times = near.gateway.times_logged("name look-up: no answer");
        (times >= 20).then_some(()).ok_or(times.to_string())
    })
    .await;
    assert_eq!(look_ups(pid), 1);
    near.gateway.until_settled().await;
    assert!(near.gateway.process.terminate().await.success());
    drop(lost);
}
