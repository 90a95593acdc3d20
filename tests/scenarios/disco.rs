//! The items of the shared domain (XEP-0030): the services of all datacenters.
//! Cases of mod_global_distrib's own suite have its names.

use minidom::Element;

use crate::support::backend::Backend;
use crate::support::client::Client;
use crate::support::cluster::{Cluster, GLOBAL, SECRET};
use crate::support::component::Component;
use crate::support::patience::until;
use crate::support::room::{ROOMS, start_with_rooms};
use crate::support::xml::child;

crate::on_mesh!(
    global_disco,
    hidden_component_disco_in_different_region,
    services_come_and_go_without_a_restart_of_the_others,
);

crate::on_redis!(services_come_and_go_without_a_restart_of_the_others,);

const BOT: &str = "bot.example.test";
const ITEMS: &str = "<query xmlns='http://jabber.org/protocol/disco#items'/>";

/// The JIDs of the items in a result.
fn listed(answer: &Element) -> Vec<String> {
    assert_eq!(answer.attr("type"), Some("result"), "{answer:?}");
    let query = child(answer, "query").unwrap_or_else(|| panic!("{answer:?}"));
    let jids = query.children().filter_map(|item| item.attr("jid"));
    jids.map(str::to_owned).collect()
}

/// The items that a user receives from the shared domain.
async fn items(client: &Client) -> Vec<String> {
    listed(&client.iq(Some(GLOBAL), "get", ITEMS).await)
}

/// The items that a component receives from the shared domain.
async fn items_for(component: &Component) -> Vec<String> {
    component
        .send(&format!(
            "<iq type='get' id='items' from='{}' to='{GLOBAL}'>{ITEMS}</iq>",
            component.domain()
        ))
        .await;
    let answer = component
        .until("its answer", |stanza| stanza.attr("id") == Some("items"))
        .await;
    listed(&answer)
}

async fn until_listed(client: &Client, expected: &[&str]) {
    until("the services to be listed", async || {
        let items = items(client).await;
        (items == expected)
            .then_some(())
            .ok_or_else(|| format!("{items:?}"))
    })
    .await;
}

async fn global_disco(backend: Backend) {
    let cluster = start_with_rooms(backend, Some("conference.dc1.test")).await;
    let alice = cluster.login("alice", "dc1.test", "a1").await;
    let bob = cluster.login("bob", "dc2.test", "b1").await;
    for user in [&alice, &bob] {
        assert_eq!(items(user).await, [ROOMS]);
        let question = "<query xmlns='http://jabber.org/protocol/disco#info'/>";
        let info = user.iq(Some(ROOMS), "get", question).await;
        let query = child(&info, "query").unwrap_or_else(|| panic!("{info:?}"));
        let identity = child(query, "identity").unwrap_or_else(|| panic!("{info:?}"));
        assert_eq!(identity.attr("category"), Some("conference"), "{info:?}");
    }
    cluster.assert_no_leaks();
    cluster.assert_balanced().await;
}

/// A hidden component at the first datacenter, and a public one at the second.
async fn with_hidden_bot(backend: Backend) -> Cluster {
    const OTHER: &str = "other.example.test";
    let cluster = Cluster::on(backend)
        .datacenter("dc1.test")
        .its(|server| server.component(BOT, SECRET).service(OTHER, SECRET))
        .its_config(&format!(
            "services = [{{ domain = '{BOT}', hidden = true }}]"
        ))
        .datacenter("dc2.test")
        .its(|server| server.service(BOT, SECRET).component(OTHER, SECRET))
        .its_config(&format!(
            "services = [{{ domain = '{OTHER}' }}]\ndisco.users_can_see_hidden_services = false"
        ))
        .start()
        .await;
    cluster.dc("dc1.test").gateway.until_attached(OTHER).await;
    cluster.dc("dc2.test").gateway.until_attached(BOT).await;
    cluster
}

async fn hidden_component_disco_in_different_region(backend: Backend) {
    let cluster = with_hidden_bot(backend).await;
    let alice = cluster.login("alice", "dc1.test", "a1").await;
    let bob = cluster.login("bob", "dc2.test", "b1").await;
    // Her gateway shows hidden services to users, and his does not.
    assert_eq!(items(&alice).await, [BOT, "other.example.test"]);
    assert_eq!(items(&bob).await, ["other.example.test"]);

    let bot = cluster.component(BOT, "dc1.test").await;
    let other = cluster.component("other.example.test", "dc2.test").await;
    for component in [&bot, &other] {
        assert_eq!(items_for(component).await, [BOT, "other.example.test"]);
    }
    // A user who knows its address can use it.
    bob.chat(BOT, "found you").await;
    bot.expect("bob@example.test/b1", "found you").await;
    cluster.assert_no_leaks();
    cluster.assert_balanced().await;
}

async fn services_come_and_go_without_a_restart_of_the_others(backend: Backend) {
    let often = backend.times(3, 1);
    let mut cluster = Cluster::of(backend).config(&often).start().await;
    let bob = cluster.login("bob", "dc2.test", "b1").await;
    assert_eq!(items(&bob).await, [""; 0]);

    // The service of a datacenter that existed before.
    let hosting = &mut cluster.dc_mut("dc1.test").gateway;
    hosting.reconfigure(&format!("services = [{{ domain = '{ROOMS}' }}]"));
    hosting.restart().await;
    until_listed(&bob, &[ROOMS]).await;

    // The service of a new datacenter, which dies.
    let more = format!("{often}[[services]]\ndomain = '{BOT}'\n");
    let (server, mut third) = cluster.join_with_fake_server("dc3.test", &more).await;
    let _stream = server.attach(SECRET).await;
    until_listed(&bob, &[BOT, ROOMS]).await;
    third.process.kill9().await;
    until_listed(&bob, &[ROOMS]).await;
    if backend == Backend::Redis {
        cluster.redis.until_value(BOT, None).await;
    }

    let hosting = &mut cluster.dc_mut("dc1.test").gateway;
    hosting.process.terminate().await;
    until_listed(&bob, &[]).await;
    if backend == Backend::Redis {
        assert_eq!(cluster.redis.get(ROOMS).await, None);
    }
    cluster.dc("dc2.test").gateway.assert_balanced().await;
}

/// On Redis, because the table of the gateways themselves cannot be emptied from outside.
#[tokio::test(flavor = "multi_thread")]
async fn services_outlive_a_redis_that_was_emptied() {
    let cluster = with_hidden_bot(Backend::Redis).await;
    let alice = cluster.login("alice", "dc1.test", "a1").await;
    let bob = cluster.login("bob", "dc2.test", "b1").await;
    let bot = cluster.component(BOT, "dc1.test").await;

    cluster.redis.ask::<()>(&["FLUSHALL"]).await;
    let mut n = 0;
    until("all to be written again", async || {
        n += 1;
        assert_eq!(items(&alice).await, [BOT, "other.example.test"]);
        let text = format!("still there {n}");
        bob.chat(BOT, &text).await;
        bot.expect("bob@example.test/b1", &text).await;
        for (key, host) in [(BOT, "dc1.test"), ("other.example.test", "dc2.test")] {
            match cluster.redis.get(key).await {
                Some(owner) if owner == host => {}
                other => return Err(format!("{key} is {other:?}'s")),
            }
        }
        Ok(())
    })
    .await;
    assert_eq!(items(&alice).await, [BOT, "other.example.test"]);
    cluster.assert_balanced().await;
}
