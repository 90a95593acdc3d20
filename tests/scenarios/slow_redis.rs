//! A Redis that takes long to answer delays the stanzas that need its answer, and no others.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::support::backend::Backend;
use crate::support::cable::Cable;
use crate::support::cluster::Cluster;
use crate::support::flood::{Flood, Side, numbers};
use crate::support::xml::body;

/// Each look-up takes 40 ms, so that one after the other all of mallory's take two minutes.
const UNKNOWN: usize = 3_000;

#[tokio::test(flavor = "multi_thread")]
async fn a_sender_to_unknown_addresses_delays_no_other_sender() {
    let cluster = Cluster::on(Backend::Redis).prepare().await;
    let redis = Cable::slow(cluster.redis.address(), Duration::from_millis(20)).await;
    let slow = format!(
        "redis.url = 'redis://{}/'\nbounce.enabled = false\n",
        redis.address()
    );
    let (near, far) = tokio::join!(
        Side::start(&cluster, "dc1.test", &slow),
        Side::start(&cluster, "dc2.test", "")
    );
    near.gateway.until_linked("dc2.test").await;
    far.gateway.until_linked("dc1.test").await;
    far.online(&cluster, "bob").await;
    let flood = Flood { near, far, cluster };

    for n in 0..UNKNOWN {
        let nobody = format!("nobody{n}");
        flood.near.say("mallory", &nobody, &n.to_string());
    }
    for text in numbers(200) {
        flood.near.say("carol", "bob", &text);
    }
    assert_eq!(flood.far.hear_all(200).await["carol"], numbers(200));
    // The local server answers for addresses that no host has.
    let mut heard = BTreeSet::new();
    while heard.len() < UNKNOWN {
        heard.extend(body(&flood.near.hear().await));
    }
    assert_eq!(heard, numbers(UNKNOWN).into_iter().collect());
    flood.assert_over().await;
}
