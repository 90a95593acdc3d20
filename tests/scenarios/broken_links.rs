//! Links break repeatedly and peers die: no message is lost, duplicated or reordered.

use std::collections::BTreeSet;
use std::time::Duration;

use tokio::time::{interval, sleep};

use crate::support::backend::Backend;
use crate::support::flood::{Flood, cut, numbers};
use crate::support::patience::until;
use crate::support::xml::body;

crate::on_mesh!(
    links_cut_twice_a_second_lose_and_double_nothing,
    a_peer_killed_in_the_middle_loses_nothing,
    a_frozen_peer_delays_nobody_else_and_its_senders_are_told,
);

async fn links_cut_twice_a_second_lose_and_double_nothing(backend: Backend) {
    const COUNT: usize = 3000;
    let flood = Flood::start_on(backend, "connections.connections_per_endpoint = 3\n").await;
    let port = flood.far.gateway.link().port();
    let cutting = tokio::spawn(async move {
        let (mut every, mut cuts) = (interval(Duration::from_millis(500)), 0);
        loop {
            every.tick().await;
            cuts += usize::from(cut(port).await > 0);
            if cuts >= 10 {
                return cuts;
            }
        }
    });
    // The messages are spread over the cuts, in small bursts.
    for burst in numbers(COUNT).chunks(50) {
        for text in burst {
            flood.near.say("alice", "bob", text);
        }
        sleep(Duration::from_millis(90)).await;
    }
    let heard = flood.far.hear_all(COUNT).await;
    assert_eq!(heard["alice"], numbers(COUNT));
    assert!(cutting.await.expect("cutting") >= 10);
    flood.assert_over().await;
    let lost = [("host", "dc2.test")];
    let errored = "mod_global_distrib_outgoing_errored_count";
    assert!(flood.near.gateway.metric(errored, &lost).await >= 10.0);
}

async fn a_peer_killed_in_the_middle_loses_nothing(backend: Backend) {
    const COUNT: usize = 2000;
    let mut flood = Flood::start_on(backend, "").await;
    for text in numbers(COUNT / 2) {
        flood.near.say("alice", "bob", &text);
    }
    // In the middle of the first half.
    let mut heard: Vec<String> = flood.far.hear_all(COUNT / 4).await["alice"].clone();
    flood.far.gateway.process.kill9().await;
    for text in numbers(COUNT).split_off(COUNT / 2) {
        flood.near.say("alice", "bob", &text);
    }
    flood.far.gateway.process.launch();
    let again = flood
        .far
        .server
        .attach(crate::support::cluster::SECRET)
        .await;
    let before = std::mem::replace(&mut flood.far.stream, again);
    let rest = before.inbox().pending();
    heard.extend(rest.iter().filter_map(body));

    // Messages that the server had accepted and the gateway had not acknowledged yet are sent
    // again: the only permitted duplicates.
    let mut after = Vec::new();
    while after
        .last()
        .is_none_or(|last| *last != (COUNT - 1).to_string())
    {
        after.extend(body(&flood.far.hear().await));
    }
    let first: usize = after[0].parse().expect("a number");
    assert!(first <= heard.len(), "{first} came after {}", heard.len());
    assert_eq!(after, numbers(COUNT).split_off(first));
    let all: BTreeSet<_> = heard.iter().chain(&after).collect();
    assert_eq!(all.len(), COUNT);
    println!("{} of {COUNT} came twice", heard.len() - first);
    flood.near.gateway.until_settled().await;
    flood.near.gateway.assert_balanced().await;
}

async fn a_frozen_peer_delays_nobody_else_and_its_senders_are_told(backend: Backend) {
    let config = "connections.max_wait = 3\nconnections.queue_bytes = 200000\n\
                  component.stanza_size_limit = 10000\n";
    let flood = Flood::start_on(backend, config).await;
    let third = crate::support::flood::Side::start(&flood.cluster, "dc3.test", config).await;
    third.online(&flood.cluster, "carol").await;
    flood.near.gateway.until_linked("dc3.test").await;

    flood.far.gateway.process.freeze();
    // The messages are larger than the socket and the queue together can hold.
    let text = "x".repeat(8000);
    for n in 0..1500 {
        flood.near.say("alice", "bob", &format!("{n} {text}"));
    }
    flood.near.say("alice", "carol", "you are not frozen");
    assert_eq!(
        body(&third.hear().await).as_deref(),
        Some("you are not frozen")
    );

    let first = flood
        .near
        .stream
        .until("an error", |s| s.attr("type") == Some("error"))
        .await;
    assert!(
        String::from(&first).contains("remote-server-timeout"),
        "{first:?}"
    );
    flood.far.gateway.process.thaw();
    flood.near.gateway.until_settled().await;
    flood.far.gateway.until_settled().await;
    // Messages that a link has just returned are neither settled nor in flight.
    until("1500 to be told or served", async || {
        let errors = flood.near.stream.inbox().pending();
        let errors = errors.iter().filter(|s| s.attr("type") == Some("error"));
        let arrived = flood.far.stream.inbox().pending();
        let arrived = arrived.iter().filter_map(body).count();
        // The first message is not pending any more.
        let told = 1 + errors.count();
        let all = told + arrived >= 1500;
        all.then_some(())
            .ok_or_else(|| format!("{told} told and {arrived} arrived"))
    })
    .await;
    flood.near.gateway.assert_balanced().await;
    flood.far.gateway.assert_balanced().await;
}
