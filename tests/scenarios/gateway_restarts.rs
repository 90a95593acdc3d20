//! A gateway restarts, after a clean stop or a kill.

use std::time::{Duration, Instant};

use tokio::time::sleep;

use crate::support::backend::Backend;
use crate::support::client::{Client, befriend};
use crate::support::cluster::Cluster;
use crate::support::pair::Pair;
use crate::support::xml::body;

crate::on_mesh!(
    a_restarted_gateway_finds_its_place_again,
    messages_to_a_killed_gateway_arrive_when_it_is_back,
    a_gateway_finds_its_users_again_when_something_comes_for_them,
    users_are_found_again_even_when_their_claims_have_expired,
    who_says_something_after_a_restart_is_known_for_good,
);

crate::on_redis!(
    a_restarted_gateway_finds_its_place_again,
    users_are_found_again_even_when_their_claims_have_expired,
);

crate::on_pairs_with_mongooseim!(
    a_restarted_gateway_finds_its_place_again,
    messages_to_a_killed_gateway_arrive_when_it_is_back,
);

crate::on_two_ejabberds!(
    a_restarted_gateway_finds_its_place_again,
    messages_to_a_killed_gateway_arrive_when_it_is_back,
);

const BACK: Duration = Duration::from_secs(5);
/// The bound is promised for the default; other tests refresh more often.
const DEFAULT_REFRESH: &str = "hosts_refresh_interval = 3000\n";

async fn a_restarted_gateway_finds_its_place_again(pair: impl Into<Pair>) {
    let (mut cluster, alice, bob) = Cluster::of(pair).config(DEFAULT_REFRESH).two_users().await;
    // A user without presence has no session in the table yet.
    for host in ["dc1.test", "dc2.test"] {
        until_session_here(&cluster, host).await;
    }
    for host in ["dc2.test", "dc1.test"] {
        let status = cluster.dc_mut(host).gateway.process.terminate().await;
        assert!(status.success(), "{status}");
        let returned = Instant::now();
        cluster.dc_mut(host).gateway.start().await;
        alice.chat("bob@example.test", "after a restart").await;
        bob.expect_chat("alice@example.test", "after a restart")
            .await;
        bob.chat("alice@example.test", "both ways").await;
        alice.expect_chat("bob@example.test", "both ways").await;
        assert!(
            returned.elapsed() < BACK,
            "{host} took {:?}",
            returned.elapsed()
        );
    }
    cluster.assert_no_leaks();
    cluster.assert_balanced().await;
}

async fn messages_to_a_killed_gateway_arrive_when_it_is_back(pair: impl Into<Pair>) {
    let (mut cluster, alice, bob) = Cluster::of(pair).config(DEFAULT_REFRESH).two_users().await;
    alice.chat("bob@example.test", "before").await;
    bob.expect_chat("alice@example.test", "before").await;

    // Otherwise the first message is sent again, because it was not acknowledged yet.
    cluster.dc("dc1.test").gateway.until_settled().await;
    cluster.dc_mut("dc2.test").gateway.process.kill9().await;
    for n in 0..50 {
        alice.chat("bob@example.test", &n.to_string()).await;
    }
    let returned = Instant::now();
    cluster.dc_mut("dc2.test").gateway.process.launch();
    for n in 0..50 {
        let message = bob.expect_message_from("alice@example.test").await;
        assert_eq!(body(&message), Some(n.to_string()));
    }
    assert!(returned.elapsed() < BACK, "took {:?}", returned.elapsed());
    cluster.assert_balanced().await;
}

/// Two friends in two datacenters, who stay online and send nothing on their own: a client does
/// not notice the restart of a gateway.
async fn friends(cluster: &Cluster) -> (Client, Client) {
    let alice = cluster.login("alice", "dc1.test", "r1").await;
    let bob = cluster.login("bob", "dc2.test", "b1").await;
    let claims = [
        ("alice@example.test", "dc1.test"),
        ("bob@example.test", "dc2.test"),
    ];
    for (user, host) in claims {
        cluster.until_claimed(user, Some(host)).await;
    }
    befriend(&alice, "alice@example.test", &bob, "bob@example.test").await;
    (alice, bob)
}

async fn until_session_here(cluster: &Cluster, host: &str) {
    let gateway = &cluster.dc(host).gateway;
    gateway
        .until_metric("strait_sessions", &[], |n| n == 1.0)
        .await;
}

async fn a_gateway_finds_its_users_again_when_something_comes_for_them(backend: Backend) {
    let mut cluster = Cluster::of(backend)
        .config(&backend.times(60, 1))
        .start()
        .await;
    let (alice, bob) = friends(&cluster).await;
    for restart in ["terminated", "killed"] {
        for host in ["dc2.test", "dc1.test"] {
            let process = &mut cluster.dc_mut(host).gateway.process;
            match restart {
                "killed" => process.kill9().await,
                _ => drop(process.terminate().await),
            }
            cluster.dc_mut(host).gateway.start().await;
        }
        cluster.until_ready().await;
        for host in ["dc1.test", "dc2.test"] {
            let sessions = cluster.dc(host).gateway.metric("strait_sessions", &[]);
            assert_eq!(sessions.await, 0.0, "nobody has said anything");
        }
        // The delivery is immediate: there is no time for a retry.
        let start = Instant::now();
        alice.chat("bob@example.test", restart).await;
        bob.expect_chat("alice@example.test", restart).await;
        bob.chat("alice@example.test", restart).await;
        alice.expect_chat("bob@example.test", restart).await;
        assert!(start.elapsed() < BACK, "took {:?}", start.elapsed());

        // The sessions are claimed again, and the claims are refreshed.
        for (host, jid) in [
            ("dc1.test", "alice@example.test/r1"),
            ("dc2.test", "bob@example.test/b1"),
        ] {
            until_session_here(&cluster, host).await;
            if backend == Backend::Redis {
                cluster.redis.until_refreshed(jid).await;
            }
            cluster.until_claimed(jid, Some(host)).await;
        }
    }
    cluster.assert_no_leaks();
    cluster.assert_balanced().await;
}

async fn users_are_found_again_even_when_their_claims_have_expired(backend: Backend) {
    let mut cluster = Cluster::of(backend)
        .config("bounce.resend_after_ms = 3600000\nbounce.max_retries = 1\n")
        .config(&backend.times(3, 1))
        .start()
        .await;
    let (alice, bob) = friends(&cluster).await;
    cluster.dc_mut("dc2.test").gateway.process.kill9().await;
    for jid in ["bob@example.test/b1", "bob@example.test"] {
        cluster.until_claimed(jid, None).await;
    }
    cluster.dc_mut("dc2.test").gateway.start().await;
    cluster.until_ready().await;
    // Carol logs in in his datacenter, where she is new: no look-up is cached.
    let carol = cluster.login("carol", "dc2.test", "c1").await;
    carol.chat("bob@example.test", "are you there").await;
    bob.expect_chat("carol@example.test", "are you there").await;
    cluster
        .until_claimed("bob@example.test/b1", Some("dc2.test"))
        .await;
    alice.chat("bob@example.test", "and for me").await;
    bob.expect_chat("alice@example.test", "and for me").await;
    cluster.assert_no_leaks();
    cluster.assert_balanced().await;
}

async fn who_says_something_after_a_restart_is_known_for_good(backend: Backend) {
    let mut cluster = Cluster::of(backend)
        .config(&backend.times(3, 1))
        .start()
        .await;
    let (alice, bob) = friends(&cluster).await;
    cluster.dc_mut("dc2.test").gateway.restart().await;
    cluster.until_ready().await;
    bob.chat("alice@example.test", "I am still here").await;
    alice
        .expect_chat("bob@example.test", "I am still here")
        .await;
    let claim = "bob@example.test/b1";
    cluster.until_claimed(claim, Some("dc2.test")).await;
    // The claim rests on his presence and not only on his message: the lease of a message would
    // end.
    let (said, lease) = (Instant::now(), Duration::from_secs(3));
    while said.elapsed() < lease + Duration::from_secs(1) {
        assert_eq!(cluster.claimed_by(claim).await, ["dc2.test"]);
        sleep(Duration::from_millis(50)).await;
    }
    cluster.assert_balanced().await;
}
