//! A stanza to a recipient without a known host is held until the recipient appears, in order.

use std::time::{Duration, Instant};

use crate::support::backend::Backend;
use crate::support::flood::{Flood, Side, numbers};
use crate::support::gateway::Gateway;
use crate::support::xml::body;

crate::on_mesh!(
    a_claim_elsewhere_is_found_at_the_next_try,
    a_claim_here_releases_at_once_and_in_order,
    a_word_from_the_recipient_releases_at_once,
    a_later_message_that_finds_the_way_takes_the_earlier_ones_along,
    after_max_retries_the_local_server_gets_it,
    what_does_not_fit_is_refused,
    a_retry_asks_for_every_address_in_the_line,
);

crate::on_redis!(
    a_claim_elsewhere_is_found_at_the_next_try,
    a_claim_here_releases_at_once_and_in_order,
    a_retry_asks_for_every_address_in_the_line,
);

/// A retry interval that exceeds the duration of any test.
const NO_RETRY: &str = "bounce.resend_after_ms = 3600000\n";

impl Side {
    async fn forwarded(&self) -> f64 {
        let to = [("host", "dc2.test")];
        let forwarded = self.gateway.metric("strait_stanzas_forwarded_total", &to);
        forwarded.await
    }
}

impl Gateway {
    async fn look_ups(&self) -> f64 {
        let fetches = "mod_global_distrib_mapping_fetches_count";
        self.metric(fetches, &[]).await
    }
}

impl Flood {
    async fn until_held(&self, count: f64) {
        let held = "mod_global_distrib_bounce_queue_size";
        self.near
            .gateway
            .until_metric(held, &[], |n| n == count)
            .await;
    }
}

async fn a_claim_elsewhere_is_found_at_the_next_try(backend: Backend) {
    let flood = Flood::start_on(backend, "bounce.resend_after_ms = 500\n").await;
    flood.near.say("alice", "carol", "0");
    flood.until_held(1.0).await;
    flood.far.online(&flood.cluster, "carol").await;
    for text in &numbers(5)[1..] {
        flood.near.say("alice", "carol", text);
    }
    assert_eq!(flood.far.hear_all(5).await["alice"], numbers(5));
    flood.assert_over().await;
}

async fn a_claim_here_releases_at_once_and_in_order(backend: Backend) {
    let flood = Flood::start_on(backend, NO_RETRY).await;
    for text in numbers(5) {
        flood.near.say("alice", "carol", &text);
    }
    flood.until_held(5.0).await;
    flood.near.online(&flood.cluster, "carol").await;
    assert_eq!(flood.near.hear_all(5).await["alice"], numbers(5));
    flood.assert_over().await;
}

async fn a_word_from_the_recipient_releases_at_once(backend: Backend) {
    let flood = Flood::start_on(backend, NO_RETRY).await;
    flood.near.say("alice", "carol", "0");
    flood.until_held(1.0).await;
    flood
        .far
        .say("carol", "dave", "to somebody else, who is there");
    let cluster = &flood.cluster;
    cluster
        .until_claimed("carol@example.test", Some("dc2.test"))
        .await;
    // Dave has no known host either: carol's message is held at the far side.
    flood.far.say("carol", "alice", "hello");
    assert_eq!(body(&flood.near.hear().await).as_deref(), Some("hello"));
    assert_eq!(flood.far.hear_all(1).await["alice"], ["0"]);
    flood.near.gateway.until_settled().await;
}

async fn a_later_message_that_finds_the_way_takes_the_earlier_ones_along(backend: Backend) {
    for cache_missed in ["true", "false"] {
        let config = format!("{NO_RETRY}cache.cache_missed = {cache_missed}\n");
        let flood = Flood::start_on(backend, &config).await;
        flood.near.say("alice", "carol", "0");
        flood.near.say("alice", "carol", "1");
        flood.until_held(2.0).await;
        flood.far.online(&flood.cluster, "carol").await;
        // The table was queried a moment ago, so the first message may arrive before the next
        // query.
        let mut said = 2;
        while flood.near.forwarded().await < 3.0 {
            flood.near.say("alice", "carol", &said.to_string());
            said += 1;
        }
        assert_eq!(flood.far.hear_all(said).await["alice"], numbers(said));
        flood.assert_over().await;
    }
}

async fn a_retry_asks_for_every_address_in_the_line(backend: Backend) {
    let flood = Flood::start_on(
        backend,
        "bounce.resend_after_ms = 3000\nbounce.max_retries = 1\n",
    )
    .await;
    // The cache has a negative entry for each of these names.
    for resource in ["", "/x", "/y"] {
        flood.near.stream.send(&format!(
            "<message from='alice@dc1.test/r' to='carol@example.test{resource}' id='m'>\
             <body>to{resource}</body></message>"
        ));
    }
    flood.until_held(3.0).await;
    let here = "<presence from='carol@dc1.test/x' to='example.test'/>";
    let there = "<presence from='carol@dc2.test/y' to='example.test'/>";
    flood.far.stream.send(there);
    let cluster = &flood.cluster;
    cluster
        .until_claimed("carol@example.test/y", Some("dc2.test"))
        .await;
    flood.near.stream.send(here);
    assert_eq!(flood.far.hear_all(2).await["alice"], ["to", "to/y"]);
    assert_eq!(flood.near.hear_all(2).await["alice"], ["to", "to/x"]);
    flood.assert_over().await;
}

/// On Redis, where the test can change her home by hand.
#[tokio::test(flavor = "multi_thread")]
async fn each_host_counts_its_own_retries_and_counts_them_on() {
    let config = "bounce.resend_after_ms = 400\nbounce.max_retries = 2\n";
    let flood = Flood::start_on(Backend::Redis, config).await;
    let (near, far) = (&flood.near.gateway, &flood.far.gateway);
    let home = "{carol@example.test}#home";
    flood.cluster.redis.set(home, "dc2.test").await;
    flood.near.say("alice", "carol", "0");
    far.until_metric("strait_stanzas_held", &[], |n| n == 1.0)
        .await;
    // From this host the stanza returns to a host that it has passed.
    flood.cluster.redis.set(home, "dc1.test").await;
    let message = flood.near.hear().await;
    assert_eq!(message.attr("to"), Some("carol@dc1.test"));

    // Each host looks up once at first and once before each of two retries; this host once more
    // on the stanza's return.
    assert_eq!(near.look_ups().await, 4.0);
    assert_eq!(far.look_ups().await, 3.0);
    flood.assert_over().await;
}

async fn after_max_retries_the_local_server_gets_it(backend: Backend) {
    let few = "bounce.resend_after_ms = 20\nbounce.max_retries = 2\n";
    for (config, look_ups) in [(few, 3.0), ("bounce.enabled = false\n", 1.0)] {
        let flood = Flood::start_on(backend, config).await;
        let start = Instant::now();
        flood.near.say("alice", "carol", "0");
        let message = flood.near.hear().await;
        assert_eq!(message.attr("to"), Some("carol@dc1.test"));
        // One look-up at first, and one before each retry.
        assert_eq!(flood.near.gateway.look_ups().await, look_ups);
        if look_ups > 1.0 {
            // Two waits of 20 and 40 ms, minus a quarter.
            assert!(start.elapsed() >= Duration::from_millis(45));
        }
        flood.assert_over().await;
    }
}

async fn what_does_not_fit_is_refused(backend: Backend) {
    let config =
        format!("{NO_RETRY}bounce.max_bytes = 10000\ncomponent.stanza_size_limit = 10000\n");
    let flood = Flood::start_on(backend, &config).await;
    for n in 0..3 {
        flood
            .near
            .say("alice", "carol", &format!("{n} {}", "x".repeat(4000)));
    }
    let error = flood
        .near
        .stream
        .until("an error", |s| s.attr("type") == Some("error"))
        .await;
    assert_eq!(error.attr("id"), Some("alice-2"));
    assert!(
        String::from(&error).contains("resource-constraint"),
        "{error:?}"
    );
    flood.until_held(2.0).await;
    let overflow = [("reason", "overflow")];
    let refused = flood
        .near
        .gateway
        .metric("strait_stanzas_refused_total", &overflow);
    assert_eq!(refused.await, 1.0);
}
