//! Hosts with several nodes, one of which dies with undelivered stanzas.

use std::collections::BTreeMap;

use crate::support::backend::Backend;
use crate::support::flood::{Flood, Side, numbers};
use crate::support::patience::until;

crate::on_mesh!(
    what_a_dead_node_had_not_settled_goes_through_another,
    a_node_that_stops_hands_its_senders_over,
);

crate::on_redis!(what_a_dead_node_had_not_settled_goes_through_another,);

const USERS: [&str; 6] = ["alice", "carol", "dave", "erin", "fred", "gina"];
const COUNT: usize = 10;

/// The number of messages that a side's server has received.
fn handed(side: &Side) -> usize {
    let all = side.stream.inbox().pending();
    all.iter()
        .filter(|stanza| stanza.name() == "message")
        .count()
}

/// Waits until `count` messages have arrived at either node.
async fn until_handed(first: &Side, second: &Side, count: usize) {
    until(&format!("{count} messages"), async || {
        let (first, second) = (handed(first), handed(second));
        let all = first + second >= count;
        all.then_some(())
            .ok_or_else(|| format!("{first} and {second}"))
    })
    .await;
}

async fn what_a_dead_node_had_not_settled_goes_through_another(backend: Backend) {
    let config = "connections.max_wait = 8\nconnections.endpoint_refresh_interval = 1\n";
    let flood = Flood::start_on(backend, config).await;
    let mut second = Side::start_node(&flood.cluster, "dc2.test", "n2", config).await;
    let near = &flood.near;
    let (up, to_far) = ("strait_links_up", [("host", "dc2.test")]);
    near.gateway.until_metric(up, &to_far, |up| up == 2.0).await;
    // The server receives stanzas and does not confirm them.
    second.stream.withhold_pings();
    for text in numbers(COUNT) {
        for user in USERS {
            near.say(user, "bob", &text);
        }
    }
    until_handed(&flood.far, &second, USERS.len() * COUNT).await;
    let (lost, kept) = (handed(&second), handed(&flood.far));
    assert!(
        lost > 0 && kept > 0,
        "{lost} at one node, {kept} at the other"
    );
    second.gateway.process.kill9().await;
    // The new messages follow those that must be sent again.
    for user in USERS {
        near.say(user, "bob", &COUNT.to_string());
    }
    let heard = flood.far.hear_all(USERS.len() * (COUNT + 1)).await;
    let all = USERS.map(|user| (user.to_owned(), numbers(COUNT + 1)));
    assert_eq!(heard, BTreeMap::from(all));
    flood.assert_over().await;
    let metrics = near.gateway.metrics().await.expect("metrics");
    assert_eq!(metrics.sum("strait_stanzas_refused_total"), 0.0);
}

async fn a_node_that_stops_hands_its_senders_over(backend: Backend) {
    let config = "connections.endpoint_refresh_interval = 1\n";
    let flood = Flood::start_on(backend, config).await;
    let mut second = Side::start_node(&flood.cluster, "dc2.test", "n2", config).await;
    let near = &flood.near;
    let (up, to_far) = ("strait_links_up", [("host", "dc2.test")]);
    near.gateway.until_metric(up, &to_far, |up| up == 2.0).await;
    let say = |texts: &[String]| {
        for text in texts {
            USERS.iter().for_each(|user| near.say(user, "bob", text));
        }
    };
    let texts = numbers(300);
    say(&texts[..100]);
    tokio::join!(second.gateway.process.terminate(), async {
        say(&texts[100..200]);
    });
    say(&texts[200..]);
    until_handed(&flood.far, &second, USERS.len() * texts.len()).await;
    // Each sender's messages went to one node, then to the other.
    let mut heard: BTreeMap<_, Vec<_>> = second.hear_all(handed(&second)).await;
    for (user, texts) in flood.far.hear_all(handed(&flood.far)).await {
        heard.entry(user).or_default().extend(texts);
    }
    let all = USERS.map(|user| (user.to_owned(), texts.clone()));
    assert_eq!(heard, BTreeMap::from(all));
    flood.assert_over().await;
}
