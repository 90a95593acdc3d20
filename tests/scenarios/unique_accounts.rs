//! `accounts = "unique"`: a registration never takes over another user's address. Only on Redis:
//! gateways that keep the table themselves refuse it (docs/accounts.md).

use crate::support::backend::Backend;
use crate::support::cluster::Cluster;
use crate::support::xml::{body, child};

crate::on_mesh!(shared_accounts_are_one_person);

const UNIQUE: &str = "accounts = 'unique'";

#[tokio::test(flavor = "multi_thread")]
async fn the_second_account_of_a_name_neither_speaks_nor_hears() {
    let cluster = Cluster::builder()
        .datacenter("dc1.test")
        .datacenter("dc2.test")
        .config(UNIQUE)
        .start()
        .await;
    let alice = cluster.login("alice", "dc1.test", "real").await;
    let home = "{alice@example.test}#home";
    cluster.redis.until_value(home, Some("dc1.test")).await;
    let bob = cluster.login("bob", "dc1.test", "b").await;

    let impostor = cluster.login("alice", "dc2.test", "false").await;
    let gateway = &cluster.dc("dc2.test").gateway;
    gateway
        .until_metric("strait_claims_refused_total", &[], |n| n == 1.0)
        .await;
    gateway.until_logged("belongs to another datacenter").await;

    let id = impostor.chat("bob@example.test", "I am Alice").await;
    let error = impostor
        .until("an error", |stanza| {
            stanza.attr("id") == Some(&id) && stanza.attr("type") == Some("error")
        })
        .await;
    let error = child(&error, "error").expect("an error");
    assert!(child(error, "not-allowed").is_some(), "{error:?}");
    let text = child(error, "text").expect("a text").text();
    assert!(text.contains("another datacenter"), "{text}");

    // A message to the name from here and from there: only the first account receives it.
    let carol = cluster.login("carol", "dc2.test", "c").await;
    carol.chat("alice@example.test", "from dc2").await;
    bob.chat("alice@example.test", "from dc1").await;
    alice.expect_chat("carol@example.test", "from dc2").await;
    alice.expect_chat("bob@example.test", "from dc1").await;
    alice.chat("bob@example.test", "it is me").await;
    let message = bob.expect_message_from("alice@example.test").await;
    assert_eq!(body(&message).as_deref(), Some("it is me"));
    impostor.sync().await;
    let heard = impostor.inbox().raw();
    assert!(
        !heard.iter().any(|raw| raw.contains("from dc")),
        "{heard:?}"
    );
    let key = "alice@example.test/false";
    assert_eq!(cluster.redis.get(key).await, None);
    let refused = [("reason", "foreign_account")];
    let refused = gateway
        .metric("strait_stanzas_refused_total", &refused)
        .await;
    assert!(refused >= 1.0, "{refused}");
    cluster.assert_balanced().await;
}

async fn shared_accounts_are_one_person(backend: Backend) {
    let cluster = Cluster::of(backend)
        .config("accounts = 'shared'")
        .start()
        .await;
    let here = cluster.login("alice", "dc1.test", "r1").await;
    let there = cluster.login("alice", "dc2.test", "r2").await;
    let bob = cluster.login("bob", "dc1.test", "b").await;
    for (client, host) in [("r1", "dc1.test"), ("r2", "dc2.test")] {
        let claim = format!("alice@example.test/{client}");
        cluster.until_claimed(&claim, Some(host)).await;
    }
    bob.chat("alice@example.test", "to both").await;
    here.expect_chat("bob@example.test", "to both").await;
    there.expect_chat("bob@example.test", "to both").await;
    there.chat("bob@example.test", "from there").await;
    bob.expect_chat("alice@example.test", "from there").await;
    cluster.assert_balanced().await;
}
