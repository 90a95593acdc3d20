//! One user is online in two datacenters at once.

use crate::support::backend::Backend;
use crate::support::flood::Flood;
use crate::support::xml::body;

crate::on_mesh!(
    bare_jids_reach_both_and_full_ones_only_theirs,
    a_query_to_the_bare_jid_reaches_one_always_the_same,
    one_side_going_away_leaves_the_other,
);

crate::on_redis!(bare_jids_reach_both_and_full_ones_only_theirs,);

impl Flood {
    async fn bob_is_at_both(&self) {
        let near = "<presence from='bob@dc1.test/near' to='example.test'/>";
        self.near.stream.send(near);
        let far = "<presence from='bob@dc2.test/far' to='example.test'/>";
        self.far.stream.send(far);
        let cluster = &self.cluster;
        cluster
            .until_claimed("bob@example.test/near", Some("dc1.test"))
            .await;
        cluster
            .until_claimed("bob@example.test/far", Some("dc2.test"))
            .await;
        let gone = "<presence type='unavailable' from='bob@dc2.test/r' to='example.test'/>";
        self.far.stream.send(gone);
        cluster.until_claimed("bob@example.test/r", None).await;
    }
}

async fn bare_jids_reach_both_and_full_ones_only_theirs(backend: Backend) {
    let flood = Flood::start_on(backend, "cache.jid_lifetime_seconds = 1\n").await;
    flood.bob_is_at_both().await;
    flood.near.say("alice", "bob", "to both");
    assert_eq!(body(&flood.near.hear().await).as_deref(), Some("to both"));
    assert_eq!(body(&flood.far.hear().await).as_deref(), Some("to both"));
    flood.far.say("carol", "bob", "also from the other side");
    assert_eq!(
        flood.near.hear_all(1).await["carol"],
        ["also from the other side"]
    );
    assert_eq!(
        flood.far.hear_all(1).await["carol"],
        ["also from the other side"]
    );

    let send = |to: &str, id: &str| {
        flood.near.stream.send(&format!(
            "<message from='alice@dc1.test/r' to='bob@example.test/{to}' id='{id}'>\
             <body>{id}</body></message>"
        ));
    };
    send("far", "only-far");
    send("near", "only-near");
    assert_eq!(body(&flood.far.hear().await).as_deref(), Some("only-far"));
    assert_eq!(body(&flood.near.hear().await).as_deref(), Some("only-near"));

    flood
        .near
        .stream
        .send("<presence from='alice@dc1.test/r' to='bob@example.test'/>");
    for side in [&flood.near, &flood.far] {
        let presence = side
            .stream
            .until("presence", |s| {
                s.name() == "presence" && s.attr("from") == Some("alice@example.test/r")
            })
            .await;
        assert_eq!(
            presence.attr("to"),
            Some(format!("bob@{}", side.gateway.host()).as_str())
        );
    }
    flood.assert_over().await;
}

async fn a_query_to_the_bare_jid_reaches_one_always_the_same(backend: Backend) {
    let flood = Flood::start_on(backend, "").await;
    flood.bob_is_at_both().await;
    for (side, user) in [(&flood.near, "alice"), (&flood.far, "carol")] {
        for n in 0..3 {
            let host = side.gateway.host();
            side.stream.send(&format!(
                "<iq type='get' from='{user}@{host}/r' to='bob@example.test' id='{user}-{n}'>\
                 <vCard xmlns='vcard-temp'/></iq>"
            ));
            let id = format!("{user}-{n}");
            flood
                .near
                .stream
                .until("the query", |s| s.attr("id") == Some(&id))
                .await;
        }
    }
    let at_far = flood.far.stream.inbox().pending();
    assert!(at_far.iter().all(|s| s.name() != "iq"), "{at_far:?}");
}

async fn one_side_going_away_leaves_the_other(backend: Backend) {
    let flood = Flood::start_on(backend, "cache.jid_lifetime_seconds = 1\n").await;
    flood.bob_is_at_both().await;
    let gone = "<presence type='unavailable' from='bob@dc2.test/far' to='example.test'/>";
    flood.far.stream.send(gone);
    let cluster = &flood.cluster;
    cluster.until_claimed("bob@example.test/far", None).await;
    cluster
        .until_claimed("bob@example.test", Some("dc1.test"))
        .await;
    assert_eq!(cluster.claimed_by("bob@example.test").await, ["dc1.test"]);
    flood.far.say("carol", "bob", "still there?");
    assert_eq!(
        body(&flood.near.hear().await).as_deref(),
        Some("still there?")
    );
    flood.assert_over().await;
}
