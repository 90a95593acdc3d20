//! Order, under all disturbances at once. On Redis, where the test can add and remove an endpoint
//! beside the node's own one.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::time::{MissedTickBehavior, interval, sleep};

use crate::support::backend::Backend;
use crate::support::flood::{Flood, cut_some, numbers};
use crate::support::port::Port;

const USERS: [&str; 6] = ["alice", "carol", "dave", "erin", "fred", "gina"];
const COUNT: usize = 600;

/// A second endpoint of the far node is added and removed, as if it were another node's; every
/// fifth of 100 connections is cut each second; and the recipient is offline for a moment.
#[tokio::test(flavor = "multi_thread")]
async fn senders_keep_their_order_while_connections_are_cut_and_rebalanced() {
    let ports = [Port::take(), Port::take()];
    let [first, second] = ports.each_ref().map(Port::number);
    let near = "connections.connections_per_endpoint = 50\n\
                connections.endpoint_refresh_interval = 1\n\
                connections.endpoint_refresh_interval_when_empty = 1\n\
                connections.disabled_gc_interval = 1\nbounce.resend_after_ms = 30\n\
                cache.jid_lifetime_seconds = 1\n";
    let far = format!(
        "connections.endpoints = ['127.0.0.1:{first}', '127.0.0.1:{second}']\n\
         connections.advertised_endpoints = ['127.0.0.1:{first}']\n"
    );
    let flood = Flood::start_with(Backend::Redis, near, &far).await;
    announce(&flood, second).await;
    let near = &flood.near.gateway;
    let up = "strait_links_up";
    near.until_metric(up, &[("host", "dc2.test")], |up| up == 100.0)
        .await;

    let cutting = tokio::spawn(async move {
        let mut every = interval(Duration::from_secs(1));
        every.set_missed_tick_behavior(MissedTickBehavior::Delay);
        for from in 0.. {
            every.tick().await;
            for port in [first, second] {
                cut_some(port, from).await;
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
    tokio::join!(saying, rebalance(&flood, second));
    cutting.abort();
    let heard = flood.far.hear_all(USERS.len() * COUNT).await;
    let all = USERS.map(|user| (user.to_owned(), numbers(COUNT)));
    assert!(heard == BTreeMap::from(all), "out of order: {heard:?}");
    flood.assert_over().await;
    let errored = "mod_global_distrib_outgoing_errored_count";
    let cuts = near.metric(errored, &[("host", "dc2.test")]).await;
    assert!(cuts >= 40.0, "only {cuts} connections were cut");
}

/// Removes and adds the second endpoint twice, and the recipient once.
async fn rebalance(flood: &Flood, second: u16) {
    const GONE: &str = "connections to endpoints that are gone are closed";
    let near = &flood.near.gateway;
    let linked = format!("link up peer=dc2.test node=n1 endpoint=127.0.0.1:{second}");
    for _ in 0..2 {
        let before = near.times_logged(GONE);
        retire(flood).await;
        near.until_logged_times(GONE, before + 1).await;
        let before = near.times_logged(&linked);
        announce(flood, second).await;
        near.until_logged_times(&linked, before + 1).await;
    }
    let gone = "<presence type='unavailable' from='bob@dc2.test/r' to='example.test'/>";
    flood.far.stream.send(gone);
    flood.cluster.until_claimed("bob@example.test", None).await;
    flood.far.online(&flood.cluster, "bob").await;
}

const NODES: &str = "dc2.test#{nodes}";
const GATEWAYS: &str = "dc2.test#{gateways}";
const ENDPOINTS: &str = "dc2.test#n2#{endpoints}";

/// Registers a second node, which only the test writes.
async fn announce(flood: &Flood, port: u16) {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let now = now.expect("a time after 1970").as_secs().to_string();
    let redis = &flood.cluster.redis;
    let endpoint = format!("127.0.0.1#{port}");
    let _: i64 = redis.ask(&["SADD", ENDPOINTS, &endpoint]).await;
    let _: i64 = redis.ask(&["HSET", GATEWAYS, "n2", &now]).await;
    let _: i64 = redis.ask(&["HSET", NODES, "n2", &now]).await;
}

async fn retire(flood: &Flood) {
    let redis = &flood.cluster.redis;
    let _: i64 = redis.ask(&["HDEL", NODES, "n2"]).await;
    let _: i64 = redis.ask(&["DEL", ENDPOINTS]).await;
}
