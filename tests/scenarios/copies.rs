//! A message to a user who is online in several datacenters is sent to each of them, once; its
//! sender receives an error only if it was delivered nowhere.

use crate::support::backend::Backend;
use crate::support::cluster::Cluster;
use crate::support::flood::{Flood, Side};
use crate::support::xml::body;

// On a backend with cached look-ups, so that a copy goes to a host that the user has left.
crate::on_redis!(
    a_copy_that_comes_back_is_not_handed_over_again,
    a_copy_that_goes_on_to_where_another_went_is_not_handed_over_again,
);

crate::on_mesh!(
    one_refused_copy_is_not_told_if_another_arrived,
    of_several_errors_the_sender_hears_one,
    a_copy_that_waits_for_its_way_too_long_is_not_told_if_another_arrived,
    a_frozen_datacenter_does_not_hold_up_the_copies_for_others,
    what_waits_for_a_datacenter_that_is_gone_follows_a_user_who_turns_up_elsewhere,
);

/// Cached entries do not expire during a test.
const LONG: &str = "cache.jid_lifetime_seconds = 600\n";

impl Side {
    async fn comes(&self, cluster: &Cluster, user: &str) {
        let host = self.gateway.host();
        let available = format!("<presence from='{user}@{host}/{host}' to='example.test'/>");
        self.stream.send(&available);
        let jid = format!("{user}@example.test/{host}");
        cluster.until_claimed(&jid, Some(host)).await;
    }

    async fn leaves(&self, cluster: &Cluster, user: &str) {
        let host = self.gateway.host();
        self.stream.send(&format!(
            "<presence type='unavailable' from='{user}@{host}/{host}' to='example.test'/>"
        ));
        let jid = format!("{user}@example.test/{host}");
        cluster.until_claimed(&jid, None).await;
    }

    /// The server refuses `message`, because it has no such session.
    fn refuse(&self, message: &minidom::Element) {
        let host = self.gateway.host();
        let attribute = |name| message.attr(name).unwrap_or_default();
        assert!(attribute("to").ends_with(host), "{message:?}");
        self.stream.send(&format!(
            "<message type='error' id='{}' from='{}' to='{}'><error type='cancel'>\
             <service-unavailable xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error></message>",
            attribute("id"),
            attribute("to"),
            attribute("from"),
        ));
    }

    async fn absorbed(&self, what: &str) -> f64 {
        let absorbed = "strait_stanzas_absorbed_total";
        self.gateway.metric(absorbed, &[("what", what)]).await
    }

    async fn until_absorbed(&self, what: &str, count: f64) {
        let absorbed = "strait_stanzas_absorbed_total";
        self.gateway
            .until_metric(absorbed, &[("what", what)], |n| n == count)
            .await;
    }

    /// The number of errors that the server has received so far.
    fn errors(&self) -> usize {
        let pending = self.stream.inbox().pending();
        let errors = pending.iter().filter(|s| s.attr("type") == Some("error"));
        errors.count()
    }
}

impl Flood {
    /// Carol is at both hosts, and the near gateway has both claims; alice writes there.
    async fn carol_is_at_both(backend: Backend) -> Self {
        let flood = Self::start_on(backend, LONG).await;
        flood.near.comes(&flood.cluster, "carol").await;
        flood.far.comes(&flood.cluster, "carol").await;
        flood.near.say("alice", "carol", "known");
        for side in [&flood.near, &flood.far] {
            assert_eq!(body(&side.hear().await).as_deref(), Some("known"));
        }
        flood
    }
}

async fn a_copy_that_comes_back_is_not_handed_over_again(backend: Backend) {
    let flood = Flood::carol_is_at_both(backend).await;
    flood.far.leaves(&flood.cluster, "carol").await;
    flood.near.say("alice", "carol", "once");
    assert_eq!(body(&flood.near.hear().await).as_deref(), Some("once"));
    flood.near.until_absorbed("copy", 1.0).await;
    flood.assert_over().await;
    let more = flood.near.stream.inbox().pending();
    assert!(more.iter().all(|s| s.name() != "message"), "{more:?}");
    // The error from the far side, where she was not found, went to the test only.
    assert_eq!(flood.near.errors(), 0);
}

async fn a_copy_that_goes_on_to_where_another_went_is_not_handed_over_again(backend: Backend) {
    let flood = Flood::start_on(backend, LONG).await;
    let third = Side::start(&flood.cluster, "dc3.test", LONG).await;
    flood.near.gateway.until_linked("dc3.test").await;
    flood.far.gateway.until_linked("dc3.test").await;
    third.gateway.until_linked("dc1.test").await;
    flood.far.comes(&flood.cluster, "carol").await;
    third.comes(&flood.cluster, "carol").await;
    flood.near.say("alice", "carol", "known");
    for side in [&flood.far, &third] {
        assert_eq!(body(&side.hear().await).as_deref(), Some("known"));
    }

    flood.far.leaves(&flood.cluster, "carol").await;
    flood.near.say("alice", "carol", "once");
    let once = third.hear().await;
    assert_eq!(body(&once).as_deref(), Some("once"));
    third.until_absorbed("copy", 1.0).await;
    // As far as its sender's gateway can know, that copy was not delivered.
    flood.near.until_absorbed("error", 1.0).await;

    // A refusal of the delivered copy therefore reaches the sender.
    third.refuse(&once);
    let error = flood.near.hear().await;
    assert_eq!(error.attr("type"), Some("error"));
    assert_eq!(error.attr("id"), Some("alice-once"));
    flood.assert_over().await;
    third.gateway.until_settled().await;
    let more = third.stream.inbox().pending();
    assert!(more.iter().all(|s| s.name() != "message"), "{more:?}");
}

async fn one_refused_copy_is_not_told_if_another_arrived(backend: Backend) {
    let flood = Flood::carol_is_at_both(backend).await;
    for (n, refuses) in [&flood.near, &flood.far].into_iter().enumerate() {
        let text = format!("{n}");
        flood.near.say("alice", "carol", &text);
        for side in [&flood.near, &flood.far] {
            let message = side.hear().await;
            assert_eq!(body(&message).as_deref(), Some(text.as_str()));
            if std::ptr::eq(side, refuses) {
                side.refuse(&message);
            }
        }
        flood.near.until_absorbed("error", (n + 1) as f64).await;
    }
    flood.assert_over().await;
    assert_eq!(flood.near.errors(), 0);
}

async fn of_several_errors_the_sender_hears_one(backend: Backend) {
    let flood = Flood::carol_is_at_both(backend).await;
    flood.near.say("alice", "carol", "nobody");
    for side in [&flood.near, &flood.far] {
        side.refuse(&side.hear().await);
    }
    let error = flood.near.hear().await;
    assert_eq!(error.attr("type"), Some("error"));
    assert_eq!(error.attr("from"), Some("carol@example.test"));
    assert_eq!(error.attr("to"), Some("alice@dc1.test/r"));
    assert_eq!(flood.near.absorbed("error").await, 1.0);
    flood.assert_over().await;
    assert_eq!(flood.near.errors(), 0, "only one");

    // An error about a message to one host only is returned as usual.
    flood.near.say("alice", "bob", "to one");
    flood.far.refuse(&flood.far.hear().await);
    let error = flood.near.hear().await;
    assert_eq!(error.attr("id"), Some("alice-to"));
    flood.assert_over().await;
}

async fn a_copy_that_waits_for_its_way_too_long_is_not_told_if_another_arrived(backend: Backend) {
    let flood = Flood::start_on(backend, &format!("{LONG}[connections]\nmax_wait = 1\n")).await;
    flood.near.comes(&flood.cluster, "carol").await;
    flood.far.comes(&flood.cluster, "carol").await;
    let Flood {
        near,
        mut far,
        cluster,
    } = flood;
    far.gateway.process.kill9().await;
    near.say("alice", "carol", "still here");
    assert_eq!(body(&near.hear().await).as_deref(), Some("still here"));
    let refused = "strait_stanzas_refused_total";
    near.gateway
        .until_metric(refused, &[("reason", "timeout")], |n| n == 1.0)
        .await;
    near.gateway.until_settled().await;
    assert_eq!(near.errors(), 0);
    drop(cluster);
}

async fn a_frozen_datacenter_does_not_hold_up_the_copies_for_others(backend: Backend) {
    let config =
        format!("{LONG}component.stanza_size_limit = 10000\n[connections]\nqueue_bytes = 200000\n");
    let flood = Flood::start_on(backend, &config).await;
    let third = Side::start(&flood.cluster, "dc3.test", &config).await;
    flood.near.gateway.until_linked("dc3.test").await;
    flood.far.comes(&flood.cluster, "carol").await;
    third.comes(&flood.cluster, "carol").await;

    flood.far.gateway.process.freeze();
    let held = "strait_stanzas_held";
    let padding = "x".repeat(8000);
    let mut said = Vec::new();
    // A few more than fit on the connection to the frozen one.
    while flood.near.gateway.metric(held, &[]).await < 3.0 {
        let text = format!("{} {padding}", said.len());
        flood.near.say("alice", "carol", &text);
        assert_eq!(body(&third.hear().await).as_ref(), Some(&text));
        said.push(text);
    }
    flood.far.gateway.process.thaw();
    let heard = flood.far.hear_all(said.len()).await;
    assert!(heard["alice"] == said, "not all, or not in order");
    flood.assert_over().await;
    third.gateway.until_settled().await;
}

async fn what_waits_for_a_datacenter_that_is_gone_follows_a_user_who_turns_up_elsewhere(
    backend: Backend,
) {
    let flood = Flood::start_on(backend, LONG).await;
    let third = Side::start(&flood.cluster, "dc3.test", LONG).await;
    let Flood {
        near,
        mut far,
        cluster,
    } = flood;
    near.gateway.until_linked("dc3.test").await;
    near.say("alice", "bob", "known");
    assert_eq!(body(&far.hear().await).as_deref(), Some("known"));

    far.gateway.process.terminate().await;
    near.gateway
        .until_logged("peer is gone from the registry")
        .await;
    near.say("alice", "bob", "0");
    let held = "strait_stanzas_held";
    near.gateway.until_metric(held, &[], |n| n == 1.0).await;
    third.comes(&cluster, "bob").await;
    assert_eq!(body(&third.hear().await).as_deref(), Some("0"));
    near.gateway.assert_balanced().await;
}
