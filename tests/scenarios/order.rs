//! Order, against everything that could break it at once.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::{MissedTickBehavior, interval, sleep};

use crate::support::flood::{Flood, cut_some, numbers};
use crate::support::port::Port;

const USERS: [&str; 6] = ["alice", "carol", "dave", "erin", "fred", "gina"];
const COUNT: usize = 600;
const GONE: &str = "connections to endpoints that are gone are closed";

/// Two endpoints of one node come and go, every fifth of 100 connections
/// breaks twice a second, and the recipient is nowhere for a moment.
#[tokio::test(flavor = "multi_thread")]
async fn senders_keep_their_order_while_connections_are_cut_and_rebalanced() {
    let ports = [Port::take(), Port::take()].map(|port| (port.number(), port));
    let config = format!(
        "connections.connections_per_endpoint = 50\nconnections.endpoint_refresh_interval = 1\n\
         connections.disabled_gc_interval = 1\nbounce.resend_after_ms = 30\n\
         cache.jid_lifetime_seconds = 1\n"
    );
    let endpoints = ports.each_ref().map(|(n, _)| format!("'127.0.0.1:{n}'"));
    let two = format!(
        "{config}connections.endpoints = [{}]\n",
        endpoints.join(", ")
    );
    let flood = Flood::start_with(&config, &two).await;
    let near = &flood.near.gateway;
    let up = async |wanted: f64| {
        let to_far = [("host", "dc2.test")];
        near.until_metric("strait_links_up", &to_far, |up| up >= wanted)
            .await
    };
    up(100.0).await;

    let numbers_of_ports = ports.each_ref().map(|(number, _)| *number);
    let cutting = tokio::spawn(async move {
        let mut every = interval(Duration::from_millis(500));
        every.set_missed_tick_behavior(MissedTickBehavior::Delay);
        for first in 0.. {
            every.tick().await;
            for port in numbers_of_ports {
                cut_some(port, first).await;
            }
        }
    });
    let saying = async {
        for burst in numbers(COUNT).chunks(10) {
            for text in burst {
                USERS
                    .iter()
                    .for_each(|user| flood.near.say(user, "bob", text));
            }
            sleep(Duration::from_millis(100)).await;
        }
    };
    let rebalancing = async {
        let key = "dc2.test#n1#{endpoints}";
        let second = format!("127.0.0.1#{}", ports[1].0);
        for _ in 0..2 {
            let before = near.times_logged(GONE);
            let _: i64 = flood.cluster.redis.ask(&["SREM", key, &second]).await;
            near.until_logged_times(GONE, before + 1).await;
            let _: i64 = flood.cluster.redis.ask(&["SADD", key, &second]).await;
            up(60.0).await;
        }
        let gone = "<presence type='unavailable' from='bob@dc2.test/r' to='example.test'/>";
        flood.far.stream.send(gone);
        flood
            .cluster
            .redis
            .until_value("bob@example.test", None)
            .await;
        flood.far.online(&flood.cluster, "bob").await;
    };
    tokio::join!(saying, rebalancing);
    cutting.abort();
    let heard = flood.far.hear_all(USERS.len() * COUNT).await;
    let all = USERS.map(|user| (user.to_owned(), numbers(COUNT)));
    assert!(heard == BTreeMap::from(all), "out of order: {heard:?}");
    flood.assert_over().await;
    let errored = "mod_global_distrib_outgoing_errored_count";
    let cuts = near.metric(errored, &[("host", "dc2.test")]).await;
    assert!(cuts >= 50.0, "only {cuts} connections were cut");
}
