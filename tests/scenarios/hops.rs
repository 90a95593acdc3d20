//! A stanza is forwarded from the recipient's former host to the present one, within its TTL. On
//! Redis, whose look-ups are cached: with the mesh every gateway reads its own copy of the table.

use crate::support::backend::Backend;
use crate::support::flood::{Flood, Side};
use crate::support::xml::body;

crate::on_redis!(
    the_ttl_falls_with_each_hop,
    at_ttl_0_it_is_handled_where_it_is,
);

/// Bob has moved from dc2 to dc3, and dc1 has not noticed yet.
async fn moved(backend: Backend, config: &str) -> (Flood, Side) {
    let config = format!("cache.jid_lifetime_seconds = 600\n{config}");
    let flood = Flood::start_on(backend, &config).await;
    let third = Side::start(&flood.cluster, "dc3.test", &config).await;
    flood.far.gateway.until_linked("dc3.test").await;
    flood.near.say("alice", "bob", "known");
    assert_eq!(body(&flood.far.hear().await).as_deref(), Some("known"));
    let gone = "<presence type='unavailable' from='bob@dc2.test/r' to='example.test'/>";
    flood.far.stream.send(gone);
    flood.cluster.until_claimed("bob@example.test", None).await;
    third.online(&flood.cluster, "bob").await;
    (flood, third)
}

async fn the_ttl_falls_with_each_hop(backend: Backend) {
    let (flood, third) = moved(backend, "").await;
    flood.near.say("alice", "bob", "where are you");
    assert_eq!(body(&third.hear().await).as_deref(), Some("where are you"));
    // The TTL is 4 at first, and the stanza crosses two links.
    let sum = "mod_global_distrib_delivered_with_ttl_value_sum";
    third.gateway.until_metric(sum, &[], |sum| sum == 2.0).await;
    let sum = flood.far.gateway.metric(sum, &[]).await;
    assert_eq!(sum, 3.0, "the first message crossed one link");
    let stops = "mod_global_distrib_stop_ttl_zero_count";
    assert_eq!(flood.far.gateway.metric(stops, &[]).await, 0.0);
    flood.assert_over().await;
    third.gateway.assert_balanced().await;
}

async fn at_ttl_0_it_is_handled_where_it_is(backend: Backend) {
    let (flood, third) = moved(backend, "message_ttl = 1\n").await;
    flood.near.say("alice", "bob", "one hop only");
    assert_eq!(
        body(&flood.far.hear().await).as_deref(),
        Some("one hop only")
    );
    let stops = "mod_global_distrib_stop_ttl_zero_count";
    flood
        .far
        .gateway
        .until_metric(stops, &[], |n| n == 1.0)
        .await;
    flood.assert_over().await;
    let more = third.stream.inbox().pending();
    assert!(more.iter().all(|s| s.name() != "message"), "{more:?}");
}
