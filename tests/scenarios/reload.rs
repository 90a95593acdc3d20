//! `strait reload` and SIGHUP: certificates change in a running gateway.

use nix::sys::signal::Signal;

use crate::support::backend::Backend;
use crate::support::cluster::Cluster;

crate::on_mesh!(
    a_reload_takes_a_new_ca_and_keeps_the_old_files_when_it_fails,
    a_revoked_peer_loses_its_links,
);

async fn a_reload_takes_a_new_ca_and_keeps_the_old_files_when_it_fails(backend: Backend) {
    let (mut cluster, alice, bob) = Cluster::on(backend)
        .datacenter("dc1.test")
        .datacenter("dc2.test")
        .two_users()
        .await;
    cluster.until_linked("dc1.test", "dc2.test").await;
    let certfile = cluster.settings("dc1.test").identity.certfile;
    let good = std::fs::read(&certfile).expect("a certificate");
    std::fs::write(&certfile, "garbage").expect("a writable file");
    let dc1 = &cluster.dc("dc1.test").gateway;
    let (status, output) = dc1.command("reload").await;
    assert_eq!(status, Some(2), "{output}");
    assert!(output.contains("connections.tls.certfile"), "{output}");
    dc1.process.signal(Signal::SIGHUP);
    dc1.until_logged("not reloaded, the former certificates stay in use")
        .await;
    alice.chat("bob@example.test", "still linked").await;
    bob.expect_chat("alice@example.test", "still linked").await;

    std::fs::write(&certfile, good).expect("a writable file");
    let (status, output) = dc1.command("reload").await;
    assert_eq!((status, output.trim()), (Some(0), "reloaded"));
    dc1.process.signal(Signal::SIGHUP);
    dc1.until_logged_times("reloaded: the certificates of the links", 2)
        .await;

    // Both gateways move to another CA, one after the other.
    cluster.renew_certificates();
    for dc in cluster.datacenters() {
        let (status, output) = dc.gateway.command("reload").await;
        assert_eq!(status, Some(0), "{output}");
    }
    alice.chat("bob@example.test", "over the new CA").await;
    bob.expect_chat("alice@example.test", "over the new CA")
        .await;
    cluster.assert_balanced().await;
}

async fn a_revoked_peer_loses_its_links(backend: Backend) {
    let cluster = Cluster::on(backend)
        .datacenter("dc1.test")
        .datacenter("dc2.test")
        .two_users()
        .await
        .0;
    cluster.until_linked("dc1.test", "dc2.test").await;
    cluster.until_linked("dc2.test", "dc1.test").await;
    let dc1 = &cluster.dc("dc1.test").gateway;
    let expiry = dc1
        .metric(
            "strait_certificate_not_after_seconds",
            &[("file", "certfile")],
        )
        .await;
    assert!(expiry > 1.7e9, "{expiry}");
    let crl = cluster.authority.revoke("dc2.test");
    dc1.reconfigure(&format!("connections.tls.crlfile = '{}'", crl.display()));
    let (status, output) = dc1.command("reload").await;
    assert_eq!(status, Some(0), "{output}");
    dc1.until_metric("strait_links_up", &[("host", "dc2.test")], |up| up == 0.0)
        .await;
    dc1.until_metric(
        "strait_links_refused_total",
        &[("reason", "untrusted")],
        |n| n >= 2.0,
    )
    .await;
    dc1.until_logged("is revoked").await;
    let dc2 = &cluster.dc("dc2.test").gateway;
    dc2.until_metric("strait_links_up", &[("host", "dc1.test")], |up| up == 0.0)
        .await;
    let (status, page) = dc1.get("/readyz").await.expect("a page");
    assert_eq!(status, 503, "{page}");
    assert!(page.contains("certificates: ok"), "{page}");
}
