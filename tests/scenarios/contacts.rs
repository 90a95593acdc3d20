//! A datacenter, its server or its gateway is offline for a while: the presence that remote
//! contacts receive meanwhile, and after.

use crate::support::cable::Cable;
use crate::support::client::{Client, befriend};
use crate::support::cluster::Cluster;
use crate::support::pair::Pair;
use crate::support::patience::until;
use crate::support::room::{Occupant, ROOMS, cluster_with_rooms, has_status};
use crate::support::xml::{child, is_jid};

crate::on_mesh!(
    a_killed_gateway_takes_its_users_offline_and_brings_them_back,
    a_stopped_gateway_does_the_same,
    a_gateway_that_is_back_soon_is_not_noticed,
    what_changes_while_a_gateway_is_away_is_seen_when_it_is_back,
    a_stopped_server_takes_its_users_offline,
    a_killed_server_takes_its_users_offline,
    a_killed_server_that_is_back_soon_takes_offline_who_does_not_return,
    who_logs_in_before_the_gateway_is_back_sees_and_is_seen,
    a_datacenter_that_is_cut_off_is_offline_on_both_sides_until_it_is_back,
    a_datacenter_that_falls_silent_is_offline_on_both_sides_until_it_is_back,
    who_is_in_a_room_of_a_lost_datacenter_is_told_to_have_left_it,
    who_only_watches_is_told_too,
    who_is_online_in_two_datacenters_is_gone_from_the_lost_one_only,
);

crate::on_redis!(
    a_killed_gateway_takes_its_users_offline_and_brings_them_back,
    a_datacenter_that_is_cut_off_is_offline_on_both_sides_until_it_is_back,
);

crate::on_each_pair!(
    a_killed_gateway_takes_its_users_offline_and_brings_them_back,
    a_stopped_gateway_does_the_same,
    a_gateway_that_is_back_soon_is_not_noticed,
    what_changes_while_a_gateway_is_away_is_seen_when_it_is_back,
    a_stopped_server_takes_its_users_offline,
    a_killed_server_takes_its_users_offline,
    a_killed_server_that_is_back_soon_takes_offline_who_does_not_return,
    who_logs_in_before_the_gateway_is_back_sees_and_is_seen,
    a_datacenter_that_is_cut_off_is_offline_on_both_sides_until_it_is_back,
    who_only_watches_is_told_too,
);

const ALICE: &str = "alice@example.test";
const BOB: &str = "bob@example.test";
const CAROL: &str = "carol@example.test";

/// A short grace time, so that the tests are short.
const SHORT: &str = "presence.unavailable_after = 2\n";

/// Alice in the first datacenter, bob in the second, with mutual subscriptions.
async fn friends(cluster: &Cluster) -> (Client, Client) {
    let alice = cluster.login("alice", "dc1.test", "r1").await;
    let bob = cluster.login("bob", "dc2.test", "b1").await;
    befriend(&alice, ALICE, &bob, BOB).await;
    for (user, host) in [(ALICE, "dc1.test"), (BOB, "dc2.test")] {
        cluster.until_claimed(user, Some(host)).await;
    }
    // Stanzas still in flight must not be counted as new.
    cluster.dc("dc1.test").gateway.until_settled().await;
    cluster.dc("dc2.test").gateway.until_settled().await;
    (alice, bob)
}

/// The number of unavailable presences from `jid` that `client` has received.
fn times_gone(client: &Client, jid: &str) -> usize {
    presences(client, jid)
        .filter(|raw| has(raw, "type", "unavailable"))
        .count()
}

/// The number of available presences from `jid` that `client` has received.
fn times_there(client: &Client, jid: &str) -> usize {
    presences(client, jid)
        .filter(|raw| !raw.contains(" type="))
        .count()
}

fn presences(client: &Client, jid: &str) -> impl Iterator<Item = String> {
    let raw = client.inbox().raw().into_iter();
    raw.filter(move |raw| raw.starts_with("<presence") && has(raw, "from", jid))
}

fn has(raw: &str, attribute: &str, value: &str) -> bool {
    ["'", "\""]
        .iter()
        .any(|quote| raw.contains(&format!("{attribute}={quote}{value}{quote}")))
}

async fn expect_show(client: &Client, from: &str, show: &str) {
    client
        .until(&format!("{from} to be {show}"), |stanza| {
            stanza.name() == "presence"
                && is_jid(stanza.attr("from"), from)
                && child(stanza, "show").is_some_and(|is| is.text() == show)
        })
        .await;
}

/// The presence that alice and bob have received of each other so far: any more is new.
struct Seen<'a> {
    alice: &'a Client,
    bob: &'a Client,
    before: (usize, usize),
}

impl<'a> Seen<'a> {
    fn by(alice: &'a Client, bob: &'a Client) -> Self {
        let before = Self::count(alice, bob);
        Self { alice, bob, before }
    }

    fn count(alice: &Client, bob: &Client) -> (usize, usize) {
        (
            times_there(alice, "bob@example.test/b1"),
            times_there(bob, "alice@example.test/r1"),
        )
    }

    /// Waits until each receives the other's presence again.
    async fn each_other_again(self) {
        until("both to be shown each other again", async || {
            let now = Self::count(self.alice, self.bob);
            let again = now.0 > self.before.0 && now.1 > self.before.1;
            again
                .then_some(())
                .ok_or_else(|| format!("{now:?} times after {:?}", self.before))
        })
        .await;
    }
}

/// Waits until the gateway of `host`, which lost its presence table, has the records of alice and
/// bob again: two sessions, and one that may be probed.
async fn until_known_again(cluster: &Cluster, host: &str) {
    let gateway = &cluster.dc(host).gateway;
    gateway
        .until_metric("strait_presence_views", &[], |n| n >= 3.0)
        .await;
}

/// Checks the final state, whatever the path to it.
async fn assert_end(cluster: &Cluster) {
    cluster.assert_no_leaks();
    cluster.assert_balanced().await;
}

async fn a_killed_gateway_takes_its_users_offline_and_brings_them_back(pair: impl Into<Pair>) {
    gateway_goes_and_returns(pair, true).await;
}

async fn a_stopped_gateway_does_the_same(pair: impl Into<Pair>) {
    gateway_goes_and_returns(pair, false).await;
}

async fn gateway_goes_and_returns(pair: impl Into<Pair>, killed: bool) {
    let mut cluster = Cluster::of(pair).config(SHORT).start().await;
    let (alice, bob) = friends(&cluster).await;
    let sessions = [
        ("dc1.test", &bob, "alice@example.test/r1"),
        ("dc2.test", &alice, "bob@example.test/b1"),
    ];
    for (host, viewer, session) in sessions {
        let seen = Seen::by(&alice, &bob);
        let gateway = &mut cluster.dc_mut(host).gateway;
        if killed {
            gateway.process.kill9().await;
        } else {
            gateway.process.terminate().await;
        }
        viewer.expect_presence(session, Some("unavailable")).await;
        cluster.dc_mut(host).gateway.start().await;
        seen.each_other_again().await;
        until_known_again(&cluster, host).await;
        assert_eq!(times_gone(viewer, session), 1);
    }
    assert_eq!(times_gone(&bob, "alice@example.test/r1"), 1);
    assert_end(&cluster).await;
}

async fn a_gateway_that_is_back_soon_is_not_noticed(pair: impl Into<Pair>) {
    // The default grace time, far more than a restart takes.
    let mut cluster = Cluster::of(pair).start().await;
    let (alice, bob) = friends(&cluster).await;
    let seen = Seen::by(&alice, &bob);
    cluster.dc_mut("dc1.test").gateway.restart().await;
    seen.each_other_again().await;
    until_known_again(&cluster, "dc1.test").await;
    let seen = Seen::by(&alice, &bob);
    cluster.dc_mut("dc1.test").gateway.process.kill9().await;
    cluster.dc_mut("dc1.test").gateway.start().await;
    seen.each_other_again().await;
    until_known_again(&cluster, "dc1.test").await;
    assert_eq!(times_gone(&bob, "alice@example.test/r1"), 0);
    assert_eq!(times_gone(&alice, "bob@example.test/b1"), 0);

    // A contact who is offline after the restart is reported offline.
    cluster.dc_mut("dc1.test").gateway.process.kill9().await;
    alice.close().await;
    cluster.dc_mut("dc1.test").gateway.start().await;
    bob.expect_presence("alice@example.test/r1", Some("unavailable"))
        .await;
    assert_eq!(times_gone(&bob, "alice@example.test/r1"), 1);
    assert_end(&cluster).await;
}

async fn what_changes_while_a_gateway_is_away_is_seen_when_it_is_back(pair: impl Into<Pair>) {
    let config = "presence.unavailable_after = 1\nconnections.max_wait = 1\n";
    let mut cluster = Cluster::of(pair).config(config).start().await;
    let (alice, bob) = friends(&cluster).await;
    let carol = cluster.login("carol", "dc2.test", "c1").await;
    befriend(&alice, ALICE, &carol, CAROL).await;
    // Dave has a subscription, too, and is not online when it happens.
    let dave = cluster.login("dave", "dc1.test", "d1").await;
    befriend(&dave, "dave@example.test", &bob, BOB).await;
    dave.close().await;
    bob.expect_presence("dave@example.test/d1", Some("unavailable"))
        .await;

    cluster.dc_mut("dc1.test").gateway.process.kill9().await;
    bob.expect_presence("alice@example.test/r1", Some("unavailable"))
        .await;
    bob.send("<presence><show>dnd</show></presence>").await;
    alice.send("<presence><show>away</show></presence>").await;
    carol.close().await;
    let dave = cluster.login("dave", "dc1.test", "d2").await;
    let refused = [("reason", "timeout")];
    // Bob's presence and carol's, both to alice.
    let gateway = &cluster.dc("dc2.test").gateway;
    gateway
        .until_metric("strait_stanzas_refused_total", &refused, |n| n >= 2.0)
        .await;

    cluster.dc_mut("dc1.test").gateway.start().await;
    expect_show(&bob, "alice@example.test/r1", "away").await;
    bob.expect_presence("dave@example.test/d2", None).await;
    expect_show(&alice, "bob@example.test/b1", "dnd").await;
    expect_show(&dave, "bob@example.test/b1", "dnd").await;
    alice
        .expect_presence("carol@example.test/c1", Some("unavailable"))
        .await;
    assert_eq!(times_gone(&bob, "alice@example.test/r1"), 1);
    assert_eq!(times_gone(&alice, "carol@example.test/c1"), 1);
    assert_end(&cluster).await;
}

async fn a_stopped_server_takes_its_users_offline(pair: impl Into<Pair>) {
    server_goes_and_returns(pair, false).await;
}

async fn a_killed_server_takes_its_users_offline(pair: impl Into<Pair>) {
    server_goes_and_returns(pair, true).await;
}

async fn server_goes_and_returns(pair: impl Into<Pair>, killed: bool) {
    let mut cluster = Cluster::of(pair).config(SHORT).start().await;
    let (alice, bob) = friends(&cluster).await;
    if killed {
        cluster.dc("dc1.test").server.until_saved().await;
        cluster.dc_mut("dc1.test").server.kill9().await;
    } else {
        cluster.dc_mut("dc1.test").server.stop().await;
    }
    drop(alice);
    bob.expect_presence("alice@example.test/r1", Some("unavailable"))
        .await;
    bob.send("<presence><show>dnd</show></presence>").await;
    cluster.dc_mut("dc1.test").server.start().await;
    let gateway = &cluster.dc("dc1.test").gateway;
    gateway.until_attached("example.test").await;
    let alice = cluster.login("alice", "dc1.test", "r2").await;
    bob.expect_presence("alice@example.test/r2", None).await;
    expect_show(&alice, "bob@example.test/b1", "dnd").await;
    assert_eq!(times_gone(&bob, "alice@example.test/r1"), 1);
    assert_eq!(times_gone(&bob, "alice@example.test/r2"), 0);
    assert_end(&cluster).await;
}

async fn a_killed_server_that_is_back_soon_takes_offline_who_does_not_return(
    pair: impl Into<Pair>,
) {
    let mut cluster = Cluster::of(pair).start().await;
    let (alice, bob) = friends(&cluster).await;
    let carol = cluster.login("carol", "dc1.test", "c1").await;
    befriend(&carol, CAROL, &bob, BOB).await;
    cluster.dc("dc1.test").server.until_saved().await;
    cluster.dc_mut("dc1.test").server.kill9().await;
    drop((alice, carol));
    cluster.dc_mut("dc1.test").server.start().await;
    let gateway = &cluster.dc("dc1.test").gateway;
    gateway.until_attached("example.test").await;
    let carol = cluster.login("carol", "dc1.test", "c1").await;
    bob.expect_presence("alice@example.test/r1", Some("unavailable"))
        .await;
    carol.expect_presence("bob@example.test/b1", None).await;
    assert_eq!(times_gone(&bob, "alice@example.test/r1"), 1);
    assert_end(&cluster).await;
}

async fn a_datacenter_that_is_cut_off_is_offline_on_both_sides_until_it_is_back(
    pair: impl Into<Pair>,
) {
    cut_off(pair, Cable::sever).await;
}

async fn a_datacenter_that_falls_silent_is_offline_on_both_sides_until_it_is_back(
    pair: impl Into<Pair>,
) {
    cut_off(pair, Cable::cut).await;
}

async fn cut_off(pair: impl Into<Pair>, cut: fn(&Cable)) {
    let mut cluster = Cluster::of(pair)
        .config("presence.unavailable_after = 1\n")
        .prepare()
        .await;
    let mut cables = Vec::new();
    for host in ["dc1.test", "dc2.test"] {
        let gateway = &cluster.dc(host).gateway;
        let cable = Cable::to(gateway.link()).await;
        let near = format!(
            "connections.advertised_endpoints = ['{}']\n",
            cable.address()
        );
        gateway.reconfigure(&near);
        cables.push(cable);
    }
    cluster.launch_gateways();
    cluster.until_ready().await;
    let (alice, bob) = friends(&cluster).await;

    let seen = Seen::by(&alice, &bob);
    cables.iter().for_each(cut);
    for (host, other) in [("dc1.test", "dc2.test"), ("dc2.test", "dc1.test")] {
        let gateway = &cluster.dc(host).gateway;
        gateway
            .until_metric("strait_links_up", &[("host", other)], |up| up == 0.0)
            .await;
    }
    bob.expect_presence("alice@example.test/r1", Some("unavailable"))
        .await;
    alice
        .expect_presence("bob@example.test/b1", Some("unavailable"))
        .await;
    alice.send("<presence><show>xa</show></presence>").await;
    alice.sync().await;
    cables.iter().for_each(Cable::mend);
    expect_show(&bob, "alice@example.test/r1", "xa").await;
    seen.each_other_again().await;
    assert_eq!(times_gone(&bob, "alice@example.test/r1"), 1);
    assert_eq!(times_gone(&alice, "bob@example.test/b1"), 1);
    assert_end(&cluster).await;
}

async fn who_is_in_a_room_of_a_lost_datacenter_is_told_to_have_left_it(pair: impl Into<Pair>) {
    let mut cluster = cluster_with_rooms(pair.into().backend, Some("conference.dc1.test"))
        .config(SHORT)
        .start()
        .await;
    for host in ["dc1.test", "dc2.test"] {
        cluster.dc(host).gateway.until_attached(ROOMS).await;
    }
    let room = format!("lobby@{ROOMS}");
    let alice = cluster.login("alice", "dc1.test", "a1").await;
    let bob = cluster.login("bob", "dc2.test", "b1").await;
    let ally = Occupant::join(&alice, &room, "ally").await;
    let bobby = Occupant::join(&bob, &room, "bobby").await;
    ally.see("bobby").await;
    bobby.see("ally").await;

    cluster.dc_mut("dc1.test").gateway.process.kill9().await;
    bobby.see_leave("ally").await;
    let own = bobby.see_leave("bobby").await;
    // By this status, clients recognise that the service ended, and join again.
    assert!(
        has_status(&own, "110") && has_status(&own, "332"),
        "{own:?}"
    );
    cluster.dc_mut("dc1.test").gateway.start().await;
    // The room had not noticed his absence.
    ally.see_leave("bobby").await;
    cluster
        .dc("dc2.test")
        .gateway
        .until_linked("dc1.test")
        .await;
    let bobby = Occupant::join(&bob, &room, "bobby").await;
    ally.see("bobby").await;
    bobby.see("ally").await;
    bobby.say("back again").await;
    ally.hear("bobby", "back again").await;

    cluster.dc_mut("dc2.test").gateway.process.kill9().await;
    ally.see_leave("bobby").await;
    cluster.dc_mut("dc2.test").gateway.start().await;
    assert_end(&cluster).await;
}

/// Bob receives alice's presence, and she does not receive his: none of his stanzas ever goes to
/// her.
async fn who_only_watches_is_told_too(pair: impl Into<Pair>) {
    let (mut cluster, alice, bob) = Cluster::of(pair).config(SHORT).two_users().await;
    bob.befriend(BOB, &alice, ALICE).await;
    cluster.dc("dc2.test").gateway.until_settled().await;
    cluster.dc_mut("dc1.test").gateway.process.kill9().await;
    bob.expect_presence("alice@example.test/r1", Some("unavailable"))
        .await;
    let before = times_there(&bob, "alice@example.test/r1");
    alice.send("<presence><show>chat</show></presence>").await;
    alice.sync().await;
    cluster.dc_mut("dc1.test").gateway.start().await;
    expect_show(&bob, "alice@example.test/r1", "chat").await;
    assert_eq!(times_there(&bob, "alice@example.test/r1"), before + 1);
    assert_eq!(times_gone(&bob, "alice@example.test/r1"), 1);
    assert_end(&cluster).await;
}

async fn who_is_online_in_two_datacenters_is_gone_from_the_lost_one_only(pair: impl Into<Pair>) {
    let mut cluster = Cluster::of(pair)
        .config(SHORT)
        .datacenter("dc3.test")
        .start()
        .await;
    let bob = cluster.login("bob", "dc2.test", "b1").await;
    let phone = cluster.login("alice", "dc1.test", "r1").await;
    befriend(&phone, ALICE, &bob, BOB).await;
    // Her roster there is separate, as the accounts are not shared here.
    let desk = cluster.login("alice", "dc3.test", "r3").await;
    desk.subscribe(BOB).await;
    desk.expect_presence(BOB, Some("subscribed")).await;
    bob.send(&format!("<presence type='subscribe' to='{ALICE}'/>"))
        .await;
    desk.approve(BOB).await;
    bob.expect_presence("alice@example.test/r3", None).await;
    for host in ["dc1.test", "dc2.test", "dc3.test"] {
        cluster.dc(host).gateway.until_settled().await;
    }

    cluster.dc_mut("dc1.test").gateway.process.kill9().await;
    bob.expect_presence("alice@example.test/r1", Some("unavailable"))
        .await;
    let seen = Seen::by(&phone, &bob);
    cluster.dc_mut("dc1.test").gateway.start().await;
    seen.each_other_again().await;
    assert_eq!(times_gone(&bob, "alice@example.test/r1"), 1);
    assert_eq!(times_gone(&bob, "alice@example.test/r3"), 0);
    assert_end(&cluster).await;
}

/// Clients often reconnect to a restarted server sooner than the gateway does: presence that
/// their server sends before that is lost.
async fn who_logs_in_before_the_gateway_is_back_sees_and_is_seen(pair: impl Into<Pair>) {
    let mut cluster = Cluster::of(pair).start().await;
    let (alice, bob) = friends(&cluster).await;
    // Dave is not online when it happens.
    let dave = cluster.login("dave", "dc1.test", "d1").await;
    befriend(&dave, "dave@example.test", &bob, BOB).await;
    dave.close().await;
    bob.expect_presence("dave@example.test/d1", Some("unavailable"))
        .await;

    // The sessions have probed each other already; a later probe would repair the presence by
    // chance.
    for host in ["dc1.test", "dc2.test"] {
        let gateway = &cluster.dc(host).gateway;
        gateway.until_logged("presence is synchronized").await;
        gateway.until_settled().await;
    }
    // The gateway cannot attach before it is thawed.
    cluster.dc("dc1.test").gateway.process.freeze();
    cluster.dc("dc1.test").server.until_saved().await;
    cluster.dc_mut("dc1.test").server.kill9().await;
    drop(alice);
    cluster.dc_mut("dc1.test").server.start().await;
    let alice = cluster.login("alice", "dc1.test", "r2").await;
    let dave = cluster.login("dave", "dc1.test", "d2").await;
    alice.sync().await;
    dave.sync().await;
    cluster.dc("dc1.test").gateway.process.thaw();

    for (client, session) in [
        (&alice, "alice@example.test/r2"),
        (&dave, "dave@example.test/d2"),
    ] {
        client.expect_presence("bob@example.test/b1", None).await;
        bob.expect_presence(session, None).await;
    }
    assert_end(&cluster).await;
}
