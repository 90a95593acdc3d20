//! `strait drain`: the gateway hands over its stanzas, leaves and ends, by command.

use crate::support::backend::Backend;
use crate::support::cluster::Cluster;

crate::on_mesh!(a_drained_gateway_leaves_in_order_and_ends_well,);

async fn a_drained_gateway_leaves_in_order_and_ends_well(backend: Backend) {
    let (mut cluster, alice, bob) = Cluster::on(backend)
        .datacenter("dc1.test")
        .datacenter("dc2.test")
        .two_users()
        .await;
    cluster.until_linked("dc1.test", "dc2.test").await;
    cluster.until_linked("dc2.test", "dc1.test").await;
    for n in 0..100 {
        alice.chat("bob@example.test", &format!("chat {n}")).await;
    }
    let dc1 = &cluster.dc("dc1.test").gateway;
    let from_server = [("from", "component")];
    dc1.until_metric("strait_stanzas_taken_total", &from_server, |taken| {
        taken >= 100.0
    })
    .await;
    let (status, output) = dc1.command("drain").await;
    assert_eq!((status, output.trim()), (Some(0), "drained"));
    let status = cluster.dc_mut("dc1.test").gateway.process.wait_exit().await;
    assert!(status.success(), "{status}");
    for n in 0..100 {
        bob.expect_chat("alice@example.test", &format!("chat {n}"))
            .await;
    }
    let dc2 = &cluster.dc("dc2.test").gateway;
    dc2.until_logged("peer is gone from the registry host=dc1.test")
        .await;

    let dc1 = &cluster.dc("dc1.test").gateway;
    let (status, output) = dc1.command("drain").await;
    assert_eq!(status, Some(1), "{output}");
    assert!(output.contains("no gateway answers at"), "{output}");
}
