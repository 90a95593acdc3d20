//! Messages between two users, at any host and during a move: the cases of mod_global_distrib's
//! own suite, by its names. In that suite, one of them is known to lose a message
//! (esl/MongooseIM#2392); here none may.

use crate::support::backend::Backend;
use crate::support::cluster::Cluster;
use crate::support::flood::Side;
use crate::support::pair::Pair;
use crate::support::xml::{body, child};

crate::on_mesh!(
    pm_between_users_at_different_locations,
    pm_between_users_before_available_presence,
    pm_with_disconnection_on_other_server,
    pm_with_graceful_reconnection_to_different_server,
    pm_with_ungraceful_reconnection_to_different_server,
    pm_with_ungraceful_reconnection_to_different_server_unnoticed,
    pm_with_disconnection_on_other_server_without_offline_storage,
);

crate::on_redis!(pm_with_ungraceful_reconnection_to_different_server_unnoticed,);

crate::on_pairs_with_mongooseim!(
    pm_between_users_at_different_locations,
    pm_between_users_before_available_presence,
    pm_with_disconnection_on_other_server,
);

const EUROPE: &str = "europe.test";
const ASIA: &str = "asia.test";

async fn cluster(pair: impl Into<Pair>) -> Cluster {
    pair.into().at([EUROPE, ASIA]).start().await
}

async fn pm_between_users_at_different_locations(pair: impl Into<Pair>) {
    let cluster = cluster(pair).await;
    let alice = cluster.login("alice", EUROPE, "r1").await;
    let bob = cluster.login("bob", ASIA, "b1").await;
    alice.chat("bob@example.test", "hi from europe").await;
    bob.expect_chat("alice@example.test", "hi from europe")
        .await;
    bob.chat("alice@example.test/r1", "hi from asia").await;
    alice
        .expect_chat("bob@example.test/b1", "hi from asia")
        .await;
    cluster.assert_no_leaks();
    cluster.assert_balanced().await;
}

async fn pm_between_users_before_available_presence(pair: impl Into<Pair>) {
    let cluster = cluster(pair).await;
    let alice = cluster.login_without_presence("alice", EUROPE, "r1").await;
    let bob = cluster.login_without_presence("bob", ASIA, "b1").await;
    // Bob has no known host yet: the message is held until he appears.
    alice.chat("bob@example.test/b1", "are you there").await;
    bob.chat("alice@example.test/r1", "I have no presence")
        .await;
    alice
        .expect_chat("bob@example.test/b1", "I have no presence")
        .await;
    bob.expect_chat("alice@example.test/r1", "are you there")
        .await;
    cluster.assert_no_leaks();
    cluster.assert_balanced().await;
}

async fn pm_with_disconnection_on_other_server(pair: impl Into<Pair>) {
    let cluster = cluster(pair).await;
    let alice = cluster.login("alice", EUROPE, "r1").await;
    let bob = cluster.login("bob", ASIA, "b1").await;
    alice.chat("bob@example.test", "before").await;
    bob.expect_chat("alice@example.test", "before").await;
    bob.close().await;
    alice.chat("bob@example.test", "after").await;
    let bob = cluster.login("bob", ASIA, "b2").await;
    bob.expect_chat("alice@example.test", "after").await;
    cluster.assert_balanced().await;
}

/// A server without offline storage returns an error (as the server of mod_global_distrib's suite
/// does), and the sender receives it once.
async fn pm_with_disconnection_on_other_server_without_offline_storage(backend: Backend) {
    let stores_nothing = "  modules_disabled = { \"offline\", \"mam\" }";
    let cluster = Cluster::on(backend)
        .datacenter(EUROPE)
        .datacenter(ASIA)
        .its_prosody(|prosody| prosody.host_options(stores_nothing))
        .start()
        .await;
    let alice = cluster.login("alice", EUROPE, "r1").await;
    let bob = cluster.login("bob", ASIA, "b1").await;
    alice.chat("bob@example.test", "before").await;
    bob.expect_chat("alice@example.test", "before").await;
    bob.close().await;
    cluster.until_claimed("bob@example.test", None).await;
    let id = alice.chat("bob@example.test", "after").await;
    let error = alice
        .until("the error", |stanza| {
            stanza.name() == "message" && stanza.attr("type") == Some("error")
        })
        .await;
    assert_eq!(error.attr("id"), Some(id.as_str()));
    assert_eq!(error.attr("from"), Some("bob@example.test"));
    let error = child(&error, "error").expect("an error");
    assert_eq!(error.attr("type"), Some("cancel"));
    assert!(child(error, "service-unavailable").is_some(), "{error:?}");
    for host in [EUROPE, ASIA] {
        cluster.dc(host).gateway.until_settled().await;
    }
    alice.sync().await;
    let more = alice.inbox().pending();
    assert!(more.iter().all(|s| s.name() != "message"), "{more:?}");
    cluster.assert_no_leaks();
    cluster.assert_balanced().await;
}

/// Bob logs out in Asia, receives a message, and logs in in Europe.
async fn reconnects(cluster: &Cluster, graceful: bool) {
    let alice = cluster.login("alice", EUROPE, "r1").await;
    let bob = cluster.login("bob", ASIA, "b1").await;
    bob.chat("alice@example.test", "from asia").await;
    alice.expect_chat("bob@example.test", "from asia").await;
    if graceful {
        bob.close().await;
    } else {
        bob.kill().await;
    }
    // The server in Asia has sent his unavailable presence.
    cluster.until_claimed("bob@example.test", None).await;
    for n in 0..3 {
        alice.chat("bob@example.test", &n.to_string()).await;
    }
    let bob = cluster.login("bob", EUROPE, "b2").await;
    for n in 0..3 {
        let message = bob.expect_message_from("alice@example.test").await;
        assert_eq!(body(&message), Some(n.to_string()));
    }
    bob.chat("alice@example.test", "from europe").await;
    alice.expect_chat("bob@example.test", "from europe").await;
    cluster.assert_no_leaks();
    cluster.assert_balanced().await;
}

async fn pm_with_graceful_reconnection_to_different_server(backend: Backend) {
    reconnects(&cluster(backend).await, true).await;
}

async fn pm_with_ungraceful_reconnection_to_different_server(backend: Backend) {
    reconnects(&cluster(backend).await, false).await;
}

/// Bob's connection to Asia is dead, and the server there has not noticed; he is in Europe
/// already. `first` refreshes its claims meanwhile.
async fn unnoticed(backend: Backend, europe_refreshes: bool, asia_refreshes: bool) {
    let refresh = |often: bool| backend.times(60, if often { 1 } else { 50 });
    let cluster = Cluster::on(backend)
        .datacenter(EUROPE)
        .its_config(&refresh(europe_refreshes))
        .start()
        .await;
    let asia = Side::start(&cluster, ASIA, &refresh(asia_refreshes)).await;
    asia.gateway.until_linked(EUROPE).await;
    cluster.until_linked(EUROPE, ASIA).await;
    asia.online(&cluster, "bob").await;
    let alice = cluster.login("alice", EUROPE, "r1").await;
    let bob = cluster.login("bob", EUROPE, "b2").await;
    cluster
        .until_claimed("bob@example.test", Some(EUROPE))
        .await;

    // The lifetimes of the entries show the host that refreshes.
    let key = match (europe_refreshes, asia_refreshes) {
        (true, _) => Some("bob@example.test/b2"),
        (_, true) => Some("bob@example.test/r"),
        _ => None,
    };
    if let Some(key) = key {
        cluster.redis.until_refreshed(key).await;
    }
    assert_eq!(cluster.claimed_by("bob@example.test").await[0], EUROPE);
    for n in 0..3 {
        alice.chat("bob@example.test", &n.to_string()).await;
        let message = bob.expect_message_from("alice@example.test").await;
        assert_eq!(body(&message), Some(n.to_string()));
    }
    asia.say("carol", "bob", "from asia");
    bob.expect_chat("carol@example.test", "from asia").await;
    cluster.assert_balanced().await;
}

async fn pm_with_ungraceful_reconnection_to_different_server_unnoticed(backend: Backend) {
    unnoticed(backend, false, false).await;
}

/// On Redis, where a refreshing host could overwrite another host's entry.
#[tokio::test(flavor = "multi_thread")]
async fn pm_with_ungraceful_reconnection_to_different_server_with_asia_refreshes_first() {
    unnoticed(Backend::Redis, false, true).await;
}

/// On Redis, for the same reason.
#[tokio::test(flavor = "multi_thread")]
async fn pm_with_ungraceful_reconnection_to_different_server_with_europe_refreshes_first() {
    unnoticed(Backend::Redis, true, false).await;
}

/// On Redis, where the test can delete entries.
#[tokio::test(flavor = "multi_thread")]
async fn update_senders_host() {
    let config = "bounce.resend_after_ms = 3600000\n";
    let cluster = Cluster::on(Backend::Redis).prepare().await;
    let europe = Side::start(&cluster, EUROPE, config).await;
    let asia = Side::start(&cluster, ASIA, config).await;
    europe.gateway.until_linked(ASIA).await;
    asia.gateway.until_linked(EUROPE).await;
    asia.online(&cluster, "bob").await;

    europe.online(&cluster, "alice").await;
    europe.say("alice", "bob", "hello");
    assert_eq!(body(&asia.hear().await).as_deref(), Some("hello"));
    // The table loses her entries, as if they had not been replicated yet.
    for key in ["alice@example.test/r", "alice@example.test"] {
        cluster.redis.delete(key).await;
        cluster.redis.delete(&format!("{{{key}}}#claims")).await;
    }
    asia.say("bob", "alice", "I know where you are");
    let reply = europe.hear().await;
    assert_eq!(body(&reply).as_deref(), Some("I know where you are"));
    assert_eq!(asia.gateway.metric("strait_stanzas_held", &[]).await, 0.0);
}
