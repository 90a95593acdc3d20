//! A stanza whose recipient nobody is known to have waits for it, in order.

use std::time::{Duration, Instant};

use crate::support::backend::Backend;
use crate::support::flood::{Flood, numbers};
use crate::support::xml::body;

crate::on_each_backend!(
    a_claim_elsewhere_is_found_at_the_next_try,
    a_claim_here_releases_at_once_and_in_order,
    a_word_from_the_recipient_releases_at_once,
    a_later_message_that_finds_the_way_takes_the_earlier_ones_along,
    after_max_retries_the_local_server_gets_it,
    what_does_not_fit_is_refused,
);

/// A retry would come too late for any test.
const NO_RETRY: &str = "bounce.resend_after_ms = 3600000\n";

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
    // Dave is nobody's either: carol's message waits at the far side.
    flood.far.say("carol", "alice", "hello");
    assert_eq!(body(&flood.near.hear().await).as_deref(), Some("hello"));
    assert_eq!(flood.far.hear_all(1).await["alice"], ["0"]);
    flood.near.gateway.until_settled().await;
}

async fn a_later_message_that_finds_the_way_takes_the_earlier_ones_along(backend: Backend) {
    let flood = Flood::start_on(backend, &format!("{NO_RETRY}cache.cache_missed = false\n")).await;
    flood.near.say("alice", "carol", "0");
    flood.near.say("alice", "carol", "1");
    flood.until_held(2.0).await;
    flood.far.online(&flood.cluster, "carol").await;
    flood.near.say("alice", "carol", "2");
    assert_eq!(flood.far.hear_all(3).await["alice"], numbers(3));
    flood.assert_over().await;
}

async fn after_max_retries_the_local_server_gets_it(backend: Backend) {
    let few = "bounce.resend_after_ms = 20\nbounce.max_retries = 2\n";
    for (config, bounces) in [(few, true), ("bounce.enabled = false\n", false)] {
        let flood = Flood::start_on(backend, config).await;
        let start = Instant::now();
        flood.near.say("alice", "carol", "0");
        let message = flood.near.hear().await;
        assert_eq!(message.attr("to"), Some("carol@dc1.test"));
        // Two waits of 20 and 40 ms, a quarter less at least.
        assert_eq!(start.elapsed() >= Duration::from_millis(45), bounces);
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
