//! SIGTERM: stanzas in flight are delivered, the stream is closed, the exit code is 0.

use crate::support::backend::Backend;
use crate::support::cluster::{Cluster, SECRET};
use crate::support::fake_server::FakeServer;
use crate::support::gateway::Gateway;

crate::on_mesh!(
    a_stopped_gateway_closes_its_stream_and_leaves_the_registry,
    what_a_stopping_gateway_holds_is_not_lost,
);

crate::on_redis!(a_stopped_gateway_closes_its_stream_and_leaves_the_registry,);

async fn a_stopped_gateway_closes_its_stream_and_leaves_the_registry(backend: Backend) {
    let mut cluster = Cluster::on(backend).datacenter("dc1.test").start().await;
    let server = FakeServer::start().await;
    let mut settings = cluster.settings("dc2.test");
    settings.server = server.address();
    let mut gateway = Gateway::prepare(cluster.workdir(), &settings);
    gateway.process.launch();
    let stream = server.attach(SECRET).await;
    gateway.until_ready().await;
    cluster.until_linked("dc1.test", "dc2.test").await;

    gateway.process.signal(nix::sys::signal::Signal::SIGTERM);
    stream.inbox().closed().await;
    let status = gateway.process.wait_exit().await;
    assert!(status.success(), "{status}: {}", gateway.log());
    let gone = "peer is gone from the registry host=dc2.test";
    cluster.dc("dc1.test").gateway.until_logged(gone).await;
    if backend == Backend::Redis {
        let nodes = cluster.redis.hash("dc2.test#{nodes}").await;
        assert!(nodes.is_empty(), "{nodes:?}");
    }
    let status = cluster.dc_mut("dc1.test").gateway.process.terminate().await;
    assert!(status.success(), "{status}");
}

async fn what_a_stopping_gateway_holds_is_not_lost(backend: Backend) {
    let mut cluster = Cluster::on(backend)
        .datacenter("dc1.test")
        .config("[bounce]\nresend_after_ms = 60000\n")
        .start()
        .await;
    let alice = cluster.login("alice", "dc1.test", "r1").await;
    alice.chat("dave@example.test", "held").await;
    let gateway = &cluster.dc("dc1.test").gateway;
    gateway
        .until_metric("strait_stanzas_held", &[], |held| held == 1.0)
        .await;

    let status = cluster.dc_mut("dc1.test").gateway.process.terminate().await;
    assert!(status.success(), "{status}");
    let dave = cluster.login("dave", "dc1.test", "d1").await;
    dave.expect_chat("alice@example.test", "held").await;
}
