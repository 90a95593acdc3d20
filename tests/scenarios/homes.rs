//! A user who has never logged in is reached at the host with the account.

use crate::support::backend::Backend;
use crate::support::cluster::{Cluster, PASSWORD};
use crate::support::control;
use crate::support::pair::Pair;
use crate::support::server::Kind;
use crate::support::xml::child;

crate::on_mesh!(
    a_message_to_a_user_who_never_logged_in_waits_at_the_account,
    without_a_list_of_accounts_that_is_said,
);

crate::on_redis!(a_message_to_a_user_who_never_logged_in_waits_at_the_account,);

crate::on_two_ejabberds!(a_message_to_a_user_who_never_logged_in_waits_at_the_account,);

/// A plugin for Prosody, which lacks a list of accounts.
const PLUGINS: &str = concat!(
    "plugin_paths = { \"",
    env!("CARGO_MANIFEST_DIR"),
    "/packaging/prosody\" }"
);

async fn a_message_to_a_user_who_never_logged_in_waits_at_the_account(pair: impl Into<Pair>) {
    let pair = pair.into();
    let cluster = Cluster::of(pair).its(|server| server.user("erin", PASSWORD));
    let cluster = match pair.kinds[1] {
        Kind::Prosody => cluster.its_prosody(|prosody| {
            let prosody = prosody.global_options(PLUGINS);
            control::with_only(prosody, &["admin_adhoc", "strait_accounts"])
        }),
        Kind::Ejabberd | Kind::MongooseIm => cluster,
    };
    let cluster = cluster
        .its_config(&control::config("dc2.test"))
        .start()
        .await;
    cluster
        .until_home("erin@example.test", Some("dc2.test"))
        .await;

    let alice = cluster.login("alice", "dc1.test", "r").await;
    alice.chat("erin@example.test", "welcome").await;
    alice.sync().await;
    let at_home = &cluster.dc("dc2.test").gateway;
    let kind = [("kind", "message")];
    at_home
        .until_metric("strait_stanzas_reinjected_total", &kind, |n| n == 1.0)
        .await;
    for host in ["dc1.test", "dc2.test"] {
        cluster.dc(host).gateway.until_settled().await;
    }
    let erin = cluster.login("erin", "dc2.test", "first").await;
    let welcome = erin.expect_chat("alice@example.test", "welcome").await;
    assert!(child(&welcome, "delay").is_some(), "{welcome:?}");
    cluster.assert_no_leaks();
    cluster.assert_balanced().await;
}

async fn without_a_list_of_accounts_that_is_said(backend: Backend) {
    let cluster = Cluster::on(backend)
        .datacenter("dc1.test")
        .its_config(&control::config("dc1.test"))
        .start()
        .await;
    let gateway = &cluster.dc("dc1.test").gateway;
    let what = "/api/status to tell about accounts";
    crate::support::patience::until(what, async || {
        let (_, status) = gateway.get("/api/status").await?;
        let told = status.contains("mod_strait_accounts");
        told.then_some(()).ok_or(status)
    })
    .await;
}
