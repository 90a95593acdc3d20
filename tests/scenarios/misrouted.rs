//! Stanzas that ejabberd misroutes without an error are detected.

use std::time::Duration;

use serde_json::json;
use tokio::time::sleep;

use crate::support::backend::Backend;
use crate::support::cluster::{Builder, Cluster, GLOBAL, SECRET};
use crate::support::gateway::Gateway;
use crate::support::patience::until;
use crate::support::server::Kind;

const BOT: &str = "bot.example.test";

fn ejabberd() -> Builder {
    Cluster::on(Backend::Mesh)
        .datacenter("dc1.test")
        .its_server(Kind::Ejabberd)
}

/// Waits until the gateway reports it in the metric, the log and `/readyz`.
async fn tells(gateway: &Gateway, domain: &str, parts: &[&str]) {
    gateway
        .until_metric(
            "strait_component_stanzas_astray",
            &[("domain", domain)],
            |misrouted| misrouted == 1.0,
        )
        .await;
    for part in parts {
        gateway.until_logged(part).await;
        until("/readyz to say so", async || {
            let (_, ready) = gateway.get("/readyz").await?;
            ready.contains(part).then_some(()).ok_or(ready)
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_gateways_of_one_domain_tell_of_each_other_until_one_is_stopped() {
    let cluster = ejabberd().start().await;
    let first = &cluster.dc("dc1.test").gateway;
    let mut settings = cluster.settings("dc1.test");
    settings.node = "n2".to_owned();
    let mut second = Gateway::prepare(cluster.workdir(), &settings);
    second.process.launch();
    for gateway in [first, &second] {
        let parts = ["another gateway is attached", "it can have no standby"];
        tells(gateway, GLOBAL, &parts).await;
        let (status, ready) = gateway.get("/readyz").await.expect("an answer");
        assert_eq!(status, 503, "{ready}");
    }
    second.process.terminate().await;
    first
        .until_logged("no stanzas are misrouted any more")
        .await;
    first.until_ready().await;
    // No answer is missing, not even that to a barrier.
    first.until_settled().await;
    first.assert_balanced().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn another_component_or_a_hung_gateway_is_noticed_by_what_is_lost() {
    let cluster = ejabberd()
        .its(|server| server.component(GLOBAL, SECRET))
        .start()
        .await;
    let gateway = &cluster.dc("dc1.test").gateway;
    let alice = cluster.login("alice", "dc1.test", "r1").await;
    let _bob = cluster.login("bob", "dc1.test", "b1").await;
    let other = cluster.component(GLOBAL, "dc1.test").await;
    let parts = [
        "did not come back",
        "another component is attached as example.test",
    ];
    // The missing answer to a barrier behind one of these stanzas starts the probe.
    let traffic = async {
        loop {
            alice.chat("bob@example.test", "anyone?").await;
            sleep(Duration::from_millis(200)).await;
        }
    };
    tokio::select! {
        () = tells(gateway, GLOBAL, &parts) => {}
        () = traffic => {}
    }
    other.close().await;
    gateway
        .until_logged("no stanzas are misrouted any more")
        .await;
    gateway.until_ready().await;

    let mut settings = cluster.settings("dc1.test");
    settings.node = "n2".to_owned();
    let mut hung = Gateway::prepare(cluster.workdir(), &settings);
    hung.process.launch();
    hung.until_attached(GLOBAL).await;
    hung.process.freeze();
    tells(
        gateway,
        GLOBAL,
        &["an earlier one whose connection is dead"],
    )
    .await;
    hung.process.kill9().await;
    gateway
        .until_logged_times("no stanzas are misrouted any more", 2)
        .await;
    gateway.until_ready().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_domain_that_a_module_of_the_servers_has_is_noticed() {
    let mut cluster = ejabberd()
        .its(|server| server.rooms(GLOBAL))
        .prepare()
        .await;
    cluster.launch_gateways();
    let gateway = &cluster.dc("dc1.test").gateway;
    tells(gateway, GLOBAL, &["did not come back", "mod_muc"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn domain_balancing_with_an_empty_place_is_noticed() {
    let half = json!({GLOBAL: {"type": "bare_destination", "component_number": 2}});
    let mut cluster = ejabberd()
        .its_ejabberd(move |server| server.option("domain_balancing", half))
        .prepare()
        .await;
    cluster.launch_gateways();
    let gateway = &cluster.dc("dc1.test").gateway;
    tells(
        gateway,
        GLOBAL,
        &["did not come back", "`domain_balancing`"],
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn global_routes_with_several_streams_is_noticed() {
    let mut cluster = ejabberd()
        .its(|server| server.service(BOT, SECRET))
        .its_ejabberd(|server| server.mistaken("global_routes: false", "global_routes: true"))
        .datacenter("dc2.test")
        .its(|server| server.component(BOT, SECRET))
        .its_config(&format!("services = [{{ domain = '{BOT}' }}]"))
        .prepare()
        .await;
    cluster.launch_gateways();
    let gateway = &cluster.dc("dc1.test").gateway;
    let what = "one of the two streams to tell of the other";
    until(what, async || {
        let (_, ready) = gateway.get("/readyz").await?;
        let told = ready.contains("global_routes: false");
        told.then_some(()).ok_or(ready)
    })
    .await;
    gateway.until_logged("global_routes: false").await;
}
