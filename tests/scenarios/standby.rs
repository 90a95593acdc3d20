//! Two gateways of one datacenter: one is attached, the other takes over.

use std::time::{Duration, Instant};

use crate::support::backend::Backend;
use crate::support::cluster::{Cluster, GLOBAL};
use crate::support::control;
use crate::support::gateway::Gateway;

crate::on_each_backend!(the_standby_takes_over_within_five_seconds_and_claims_stay,);

/// The bound promised between the end of the first and the attachment of the second.
const SOON: Duration = Duration::from_secs(5);

async fn the_standby_takes_over_within_five_seconds_and_claims_stay(backend: Backend) {
    let mut cluster = Cluster::on(backend)
        .datacenter("dc1.test")
        .its_standby()
        .its_config(&control::config("dc1.test"))
        .datacenter("dc2.test")
        .start()
        .await;
    let mut settings = cluster.settings("dc1.test");
    settings.node = "n2".to_owned();
    settings.overrides = vec![control::config("dc1.test")];
    let mut standby = Gateway::prepare(cluster.workdir(), &settings);
    standby.process.launch();
    standby.until_logged("its standby").await;
    standby.until_linked("dc2.test").await;

    let alice = cluster.login("alice", "dc1.test", "r").await;
    let quiet = cluster
        .login_without_presence("carol", "dc1.test", "quiet")
        .await;
    let bob = cluster.login("bob", "dc2.test", "b").await;
    let claims = ["alice@example.test/r", "carol@example.test/quiet"];
    for claim in claims {
        cluster.until_claimed(claim, Some("dc1.test")).await;
    }
    bob.chat("alice@example.test", "by the first").await;
    alice.expect_chat("bob@example.test", "by the first").await;
    // Peers do not dial the standby, where a link would only wait.
    assert_eq!(
        standby
            .metric("mod_global_distrib_incoming_established_count", &[])
            .await,
        0.0
    );
    cluster.dc("dc2.test").gateway.until_settled().await;

    let gone = Instant::now();
    cluster.dc_mut("dc1.test").gateway.process.kill9().await;
    let to_dc1 = [("host", "dc1.test")];
    let dc2 = &cluster.dc("dc2.test").gateway;
    dc2.until_metric("strait_links_up", &to_dc1, |up| up == 0.0)
        .await;
    let attached = [("domain", GLOBAL)];
    standby
        .until_metric("strait_component_attached", &attached, |up| up == 1.0)
        .await;
    assert!(gone.elapsed() < SOON, "took {:?}", gone.elapsed());
    standby
        .until_metric("strait_sessions", &[], |sessions| sessions == 2.0)
        .await;
    for claim in claims {
        assert_eq!(cluster.claimed_by(claim).await, ["dc1.test"]);
    }
    // Stanzas sent before that go to the first one's address, and are held.
    cluster.until_linked("dc2.test", "dc1.test").await;
    bob.chat("alice@example.test", "by the second").await;
    alice.expect_chat("bob@example.test", "by the second").await;
    alice.chat("bob@example.test", "and back").await;
    bob.expect_chat("alice@example.test", "and back").await;
    standby.until_ready().await;
    standby.assert_balanced().await;
    cluster.dc("dc2.test").gateway.assert_balanced().await;

    // The first one starts again, as the standby of the second.
    let first = &mut cluster.dc_mut("dc1.test").gateway;
    first.process.launch();
    first
        .until_metric(
            "strait_component_attach_failures_total",
            &[("reason", "conflict")],
            |n| n >= 1.0,
        )
        .await;
    assert_eq!(
        standby.metric("strait_component_attached", &attached).await,
        1.0
    );
    drop((quiet, standby));
}
