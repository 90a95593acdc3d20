//! Components (XEP-0114) that one datacenter offers to all.

use crate::support::backend::Backend;
use crate::support::client::Client;
use crate::support::cluster::{Cluster, SECRET};
use crate::support::pair::Pair;
use crate::support::xml::child;

crate::on_mesh!(
    component_on_one_host,
    components_in_different_regions,
    components_in_different_regions_with_local_names,
    component_disconnect,
    component_unregister,
    a_service_that_is_gone_for_long_loses_its_stream,
);

crate::on_redis!(
    components_in_different_regions,
    a_service_that_is_gone_for_long_loses_its_stream,
);

crate::on_two_ejabberds!(
    component_on_one_host,
    components_in_different_regions_with_local_names,
);

const BOT: &str = "bot.example.test";

/// Two datacenters; the first offers a component to all.
async fn with_bot(pair: impl Into<Pair>, config: &str) -> Cluster {
    let Pair { backend, kinds } = pair.into();
    let cluster = Cluster::on(backend)
        .datacenter("dc1.test")
        .its_server(kinds[0])
        .its(|server| server.component(BOT, SECRET))
        .its_config(&format!("services = [{{ domain = '{BOT}' }}]"))
        .datacenter("dc2.test")
        .its_server(kinds[1])
        .its(|server| server.service(BOT, SECRET))
        .config(config)
        .start()
        .await;
    cluster.dc("dc2.test").gateway.until_attached(BOT).await;
    cluster
}

/// Sends `text` to the component; returns the condition of the error.
async fn error_for(client: &Client, text: &str) -> String {
    let id = client.chat(BOT, text).await;
    let answer = client
        .until("an error", |stanza| stanza.attr("id") == Some(&id))
        .await;
    assert_eq!(answer.attr("from"), Some(BOT), "{answer:?}");
    let error = child(&answer, "error").and_then(|error| error.children().next());
    error
        .unwrap_or_else(|| panic!("{answer:?}"))
        .name()
        .to_owned()
}

async fn component_on_one_host(pair: impl Into<Pair>) {
    let cluster = with_bot(pair, "").await;
    let bot = cluster.component(BOT, "dc1.test").await;
    let alice = cluster.login("alice", "dc1.test", "a1").await;
    let bob = cluster.login("bob", "dc2.test", "b1").await;

    bob.chat(BOT, "hello from afar").await;
    bot.expect("bob@example.test/b1", "hello from afar").await;
    bot.say("bob@example.test/b1", "hello bob").await;
    bob.expect_chat(BOT, "hello bob").await;
    bot.say("bob@example.test", "hello whoever you are").await;
    bob.expect_chat(BOT, "hello whoever you are").await;
    // In her own datacenter, the two meet at their own server, under its addresses.
    alice.chat(BOT, "hello neighbour").await;
    bot.expect("alice@dc1.test/a1", "hello neighbour").await;
    bot.say("alice@dc1.test/a1", "hello alice").await;
    alice.expect_chat(BOT, "hello alice").await;

    let asking = bob.iq(Some(BOT), "get", "<query xmlns='jabber:iq:version'/>");
    let answering = async {
        let asked = bot.until("a question", |s| s.name() == "iq").await;
        let (id, from) = (asked.attr("id"), asked.attr("from"));
        let (id, from) = id.zip(from).unwrap_or_else(|| panic!("{asked:?}"));
        bot.send(&format!(
            "<iq type='result' id='{id}' from='{BOT}' to='{from}'>\
             <query xmlns='jabber:iq:version'><name>bot</name></query></iq>"
        ))
        .await;
    };
    let (answer, ()) = tokio::join!(asking, answering);
    assert!(child(&answer, "query").is_some(), "{answer:?}");
    cluster.assert_no_leaks();
    cluster.assert_balanced().await;
}

/// A component at each datacenter, with one local name or two.
async fn speak(pair: impl Into<Pair>, locals: [Option<&'static str>; 2]) {
    const NAMES: [&str; 2] = ["left.example.test", "right.example.test"];
    let Pair { backend, kinds } = pair.into();
    let mut builder = Cluster::on(backend);
    for (n, host) in ["dc1.test", "dc2.test"].into_iter().enumerate() {
        let (own, other) = (NAMES[n], NAMES[1 - n]);
        let local = locals[n];
        let named = local.map_or(String::new(), |local| format!(", local = '{local}'"));
        builder = builder
            .datacenter(host)
            .its_server(kinds[n])
            .its_config(&format!("services = [{{ domain = '{own}'{named} }}]"))
            .its(move |server| {
                let server = server.component(own, SECRET).service(other, SECRET);
                match local {
                    Some(local) => server.component(local, SECRET),
                    None => server,
                }
            });
    }
    let cluster = builder.start().await;
    for (n, dc) in cluster.datacenters().iter().enumerate() {
        dc.gateway.until_attached(NAMES[1 - n]).await;
        if locals[n].is_some() {
            dc.gateway.until_attached(NAMES[n]).await;
        }
    }
    let left = locals[0].unwrap_or(NAMES[0]);
    let left = cluster.component(left, "dc1.test").await;
    let right = locals[1].unwrap_or(NAMES[1]);
    let right = cluster.component(right, "dc2.test").await;

    for n in 0..10 {
        left.say(NAMES[1], &format!("over {n}")).await;
        right.expect(NAMES[0], &format!("over {n}")).await;
        right
            .say(&format!("user@{}/x", NAMES[0]), &format!("back {n}"))
            .await;
        left.expect(NAMES[1], &format!("back {n}")).await;
    }
    cluster.assert_balanced().await;
}

async fn components_in_different_regions(pair: impl Into<Pair>) {
    speak(pair, [None, None]).await;
}

async fn components_in_different_regions_with_local_names(pair: impl Into<Pair>) {
    speak(pair, [Some("left.dc1.test"), Some("robot.internal.test")]).await;
}

async fn component_disconnect(backend: Backend) {
    let cluster = with_bot(backend, "").await;
    let bot = cluster.component(BOT, "dc1.test").await;
    let bob = cluster.login("bob", "dc2.test", "b1").await;
    bob.chat(BOT, "are you there").await;
    bot.expect("bob@example.test/b1", "are you there").await;

    // The component is still configured, so its server is responsible, and answers for it.
    bot.close().await;
    assert_eq!(error_for(&bob, "and now").await, "remote-server-timeout");

    let bot = cluster.component(BOT, "dc1.test").await;
    bob.chat(BOT, "back again").await;
    bot.expect("bob@example.test/b1", "back again").await;
    cluster.assert_balanced().await;
}

async fn component_unregister(backend: Backend) {
    let mut cluster = with_bot(backend, "cache.domain_lifetime_seconds = 600").await;
    let bot = cluster.component(BOT, "dc1.test").await;
    let bob = cluster.login("bob", "dc2.test", "b1").await;
    bob.chat(BOT, "are you there").await;
    bot.expect("bob@example.test/b1", "are you there").await;

    let hosting = &mut cluster.dc_mut("dc1.test").gateway;
    hosting.reconfigure("services = []");
    hosting.restart().await;
    cluster.until_ready().await;
    assert_eq!(error_for(&bob, "and now").await, "service-unavailable");
    // The stream is still open: the component may come back.
    cluster.dc("dc2.test").gateway.until_attached(BOT).await;
    cluster.assert_balanced().await;
}

async fn a_service_that_is_gone_for_long_loses_its_stream(backend: Backend) {
    let mut cluster = with_bot(backend, "cache.domain_lifetime_seconds = 1").await;
    let bob = cluster.login("bob", "dc2.test", "b1").await;
    let hosting = &mut cluster.dc_mut("dc1.test").gateway;
    hosting.reconfigure("services = []");
    hosting.restart().await;
    let gateway = &cluster.dc("dc2.test").gateway;
    let detached = format!("detached from the local server for good domain={BOT}");
    gateway.until_logged(&detached).await;
    let metrics = gateway.metrics().await.expect("metrics");
    let attached = metrics.get("strait_component_attached", &[("domain", BOT)]);
    assert_eq!(attached, None);
    // Now the server is responsible for reporting that its component is unreachable.
    assert_eq!(error_for(&bob, "and now").await, "remote-server-timeout");
    let (status, ready) = gateway.get("/readyz").await.expect("an answer");
    assert!(status == 200 && !ready.contains(BOT), "{ready}");
    cluster.assert_balanced().await;
}

/// On Redis, where the test can delete entries.
#[tokio::test(flavor = "multi_thread")]
async fn update_senders_host_by_service() {
    let cluster = with_bot(Backend::Redis, "cache.jid_lifetime_seconds = 600").await;
    let bot = cluster.component(BOT, "dc1.test").await;
    let bob = cluster.login("bob", "dc2.test", "b1").await;
    let redis = &cluster.redis;
    cluster
        .until_claimed("bob@example.test/b1", Some("dc2.test"))
        .await;
    for jid in ["bob@example.test/b1", "bob@example.test"] {
        redis.delete(jid).await;
        redis.delete(&format!("{{{jid}}}#claims")).await;
    }
    redis.delete("{bob@example.test}#home").await;
    // The table has no entry for him. His message shows his host.
    bob.chat(BOT, "do you know me").await;
    bot.expect("bob@example.test/b1", "do you know me").await;
    bot.say("bob@example.test/b1", "now I do").await;
    bob.expect_chat(BOT, "now I do").await;
    cluster.assert_balanced().await;
}
