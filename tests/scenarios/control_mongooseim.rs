//! MongooseIM lists its sessions over HTTP; its admin interface is a stand-in here.

use serde_json::Value;

use crate::support::backend::Backend;
use crate::support::cluster::{Cluster, SECRET};
use crate::support::mongooseim_admin::{MongooseAdmin, PASSWORD};

crate::on_mesh!(
    its_sessions_are_claimed_and_its_accounts_have_a_home,
    a_wrong_password_is_told_and_never_shown,
);

async fn its_sessions_are_claimed_and_its_accounts_have_a_home(backend: Backend) {
    let cluster = Cluster::on(backend).datacenter("dc1.test").start().await;
    let admin = MongooseAdmin::start().await;
    admin.set_sessions(&["erin@dc2.test/quiet"]);
    admin.set_accounts(&["erin@dc2.test", "frank"]);
    let config = admin.config(PASSWORD);
    let (server, gateway) = cluster.join_with_fake_server("dc2.test", &config).await;
    let _stream = server.attach(SECRET).await;
    let claim = "erin@example.test/quiet";
    cluster.until_claimed(claim, Some("dc2.test")).await;
    cluster
        .until_home("frank@example.test", Some("dc2.test"))
        .await;

    admin.set_sessions(&["frank@dc2.test/r"]);
    cluster.until_claimed(claim, None).await;
    cluster
        .until_claimed("frank@example.test/r", Some("dc2.test"))
        .await;
    assert!(!gateway.log().contains(PASSWORD));
}

async fn a_wrong_password_is_told_and_never_shown(backend: Backend) {
    let cluster = Cluster::on(backend).datacenter("dc1.test").start().await;
    let admin = MongooseAdmin::start().await;
    let config = admin.config("not-the-password");
    let (server, gateway) = cluster.join_with_fake_server("dc2.test", &config).await;
    let _stream = server.attach(SECRET).await;
    gateway.until_logged("a source does not work").await;
    let (_, status) = gateway.get("/api/status").await.expect("a status");
    let status: Value = serde_json::from_str(&status).expect("JSON");
    let missing = status["sources"]["missing"][0].to_string();
    assert!(
        missing.contains("graphql") && missing.contains("401"),
        "{missing}"
    );
    assert!(!gateway.log().contains("not-the-password"));
    assert!(!missing.contains("not-the-password"));
}
