//! The session table without a database: gateways discover each other, replicate their tables,
//! and report obstacles.

use std::time::{Duration, Instant};

use crate::support::backend::Backend;
use crate::support::cluster::Cluster;
use crate::support::fake_server::FakeServer;
use crate::support::gateway::{Gateway, SessionTable};
use crate::support::patience::until;

const HOSTS: [&str; 3] = ["dc1.test", "dc2.test", "dc3.test"];
const REPAIRS: &str = "strait_mesh_repairs_total";
/// `mesh.refresh_after` of these tests.
const REFRESH_AFTER: Duration = Duration::from_secs(5);

fn three() -> crate::support::cluster::Builder {
    let cluster = Cluster::on(Backend::Mesh);
    let cluster = HOSTS
        .iter()
        .fold(cluster, |cluster, host| cluster.datacenter(host));
    cluster.config(&Backend::Mesh.times(60, 5))
}

#[tokio::test(flavor = "multi_thread")]
async fn who_knows_one_peer_finds_all() {
    // A discovered peer is dialled at once, not at the next `hosts_refresh_interval`.
    let mut cluster = three()
        .config("hosts_refresh_interval = 3600000\n")
        .prepare()
        .await;
    let first = cluster.dc("dc1.test").gateway.link();
    cluster
        .dc("dc1.test")
        .gateway
        .reconfigure("mesh.peers = []");
    for host in ["dc2.test", "dc3.test"] {
        let only = format!("mesh.peers = ['{first}']");
        cluster.dc(host).gateway.reconfigure(&only);
    }
    cluster.launch_gateways();
    cluster.until_ready().await;
    cluster.until_tables_are_equal().await;
    let alone = "this gateway is alone until others dial it";
    cluster.dc("dc1.test").gateway.until_logged(alone).await;
    let bob = cluster.login("bob", "dc2.test", "b1").await;
    let carol = cluster.login("carol", "dc3.test", "c1").await;
    bob.chat("carol@example.test", "found you").await;
    carol.expect_chat("bob@example.test", "found you").await;
    cluster.until_tables_are_equal().await;
    cluster.assert_balanced().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_gateway_is_killed_in_turn_and_all_tables_are_equal_again() {
    let mut cluster = three().start().await;
    let alice = cluster.login("alice", "dc1.test", "a1").await;
    let bob = cluster.login("bob", "dc2.test", "b1").await;
    let carol = cluster.login("carol", "dc3.test", "c1").await;
    let users = [("alice", &alice), ("bob", &bob), ("carol", &carol)];
    for (user, client) in users {
        for (other, friend) in users.iter().filter(|(other, _)| *other != user) {
            client.chat(&format!("{other}@example.test"), "hello").await;
            let from = format!("{user}@example.test");
            friend.expect_chat(&from, "hello").await;
        }
    }
    cluster.until_tables_are_equal().await;
    for host in HOSTS {
        cluster.dc_mut(host).gateway.process.kill9().await;
        cluster.dc_mut(host).gateway.start().await;
        let back = Instant::now();
        cluster.until_tables_are_equal().await;
        assert!(back.elapsed() < REFRESH_AFTER, "{:?}", back.elapsed());
        // Entries that were missing were repaired on arrival, and the repair is counted.
        let metrics = cluster.dc(host).gateway.metrics().await.expect("metrics");
        assert!(metrics.sum(REPAIRS) >= 1.0, "{}", metrics.show(REPAIRS));
        for at in HOSTS {
            let metrics = cluster.dc(at).gateway.metrics().await.expect("metrics");
            for of in HOSTS {
                let found = metrics.get(REPAIRS, &[("host", of), ("found", "digest")]);
                assert_eq!(found.unwrap_or_default(), 0.0, "of {of} at {at}");
            }
        }
        alice.chat("bob@example.test", host).await;
        bob.expect_chat("alice@example.test", host).await;
        carol.chat("alice@example.test", host).await;
        alice.expect_chat("carol@example.test", host).await;
    }
    cluster.assert_balanced().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_that_keeps_its_table_in_redis_is_told_apart() {
    let cluster = Cluster::on(Backend::Redis)
        .datacenter("dc1.test")
        .start()
        .await;
    let in_redis = &cluster.dc("dc1.test").gateway;
    let server = FakeServer::start().await;
    let mut settings = cluster.settings("dc2.test");
    settings.server = server.address();
    settings.table = SessionTable::Mesh(vec![in_redis.link()]);
    let mut gateway = Gateway::prepare(cluster.workdir(), &settings);
    gateway.process.launch();
    gateway
        .until_logged("set sessions.backend to the same in all datacenters")
        .await;
    gateway
        .until_metric(
            "strait_links_refused_total",
            &[("reason", "backend")],
            |n| n >= 1.0,
        )
        .await;
    let (status, why) = gateway.get("/readyz").await.expect("an answer");
    assert_eq!(status, 503, "{why}");
    let unreached = "session table: none of mesh.peers was reached yet";
    until("it to say that it is alone", async || {
        let (_, why) = gateway.get("/readyz").await?;
        why.contains(unreached).then_some(()).ok_or(why)
    })
    .await;
}
