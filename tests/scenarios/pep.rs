//! Personal eventing across datacenters (XEP-0163): fetch, subscribe, notify.

use minidom::Element;
use xmpp_parsers::caps;
use xmpp_parsers::disco::{DiscoInfoResult, Identity};

use crate::support::backend::Backend;
use crate::support::client::{Client, befriend};
use crate::support::cluster::Cluster;
use crate::support::xml::child;

crate::on_each_backend!(
    device_list_is_fetched_and_subscribed_to,
    plus_notify_reaches_a_contact_elsewhere,
);

const DEVICES: &str = "eu.siacs.conversations.axolotl.devicelist";

async fn publish(client: &Client, device: &str) {
    let answer = client
        .iq(
            None,
            "set",
            &format!(
                "<pubsub xmlns='http://jabber.org/protocol/pubsub'><publish node='{DEVICES}'>\
                 <item id='current'><list xmlns='eu.siacs.conversations.axolotl'>\
                 <device id='{device}'/></list></item></publish></pubsub>"
            ),
        )
        .await;
    assert_eq!(answer.attr("type"), Some("result"), "{answer:?}");
}

fn is_event_from(stanza: &Element, from: &str, device: &str) -> bool {
    stanza.name() == "message"
        && stanza.attr("from") == Some(from)
        && child(stanza, "event").is_some()
        && String::from(stanza).contains(&format!("<device id='{device}'"))
}

async fn device_list_is_fetched_and_subscribed_to(backend: Backend) {
    let cluster = Cluster::on(backend)
        .datacenter("dc1.test")
        .datacenter("dc2.test")
        .start()
        .await;
    let alice = cluster.login("alice", "dc1.test", "r1").await;
    let bob = cluster.login("bob", "dc2.test", "b1").await;
    befriend(&alice, "alice@example.test", &bob, "bob@example.test").await;
    publish(&bob, "31337").await;

    let fetch = format!(
        "<pubsub xmlns='http://jabber.org/protocol/pubsub'><items node='{DEVICES}'/></pubsub>"
    );
    let list = alice.iq(Some("bob@example.test"), "get", &fetch).await;
    assert_eq!(list.attr("type"), Some("result"), "{list:?}");
    assert!(String::from(&list).contains("31337"), "{list:?}");

    // A client subscribes with the address that it knows of itself: its local one.
    let subscribe = format!(
        "<pubsub xmlns='http://jabber.org/protocol/pubsub'>\
         <subscribe node='{DEVICES}' jid='alice@dc1.test'/></pubsub>"
    );
    let subscribed = alice.iq(Some("bob@example.test"), "set", &subscribe).await;
    assert_eq!(subscribed.attr("type"), Some("result"), "{subscribed:?}");
    publish(&bob, "31338").await;
    alice
        .until("the event", |s| {
            is_event_from(s, "bob@example.test", "31338")
        })
        .await;

    cluster.assert_no_leaks();
    cluster.assert_balanced().await;
}

async fn plus_notify_reaches_a_contact_elsewhere(backend: Backend) {
    let cluster = Cluster::on(backend)
        .datacenter("dc1.test")
        .datacenter("dc2.test")
        .start()
        .await;
    let alice = cluster.login("alice", "dc1.test", "r1").await;
    let bob = cluster.login("bob", "dc2.test", "b1").await;
    befriend(&alice, "alice@example.test", &bob, "bob@example.test").await;
    publish(&bob, "1").await;

    let info = DiscoInfoResult {
        node: None,
        identities: vec![Identity::new("client", "pc", "en", "test")],
        features: [
            "http://jabber.org/protocol/disco#info".to_owned(),
            format!("{DEVICES}+notify"),
        ]
        .into(),
        extensions: vec![],
    };
    let hash = caps::hash_caps(
        &caps::compute_disco(&info),
        xmpp_parsers::hashes::Algo::Sha_1,
    );
    let announced = caps::Caps::new("urn:strait:test", hash.expect("SHA-1"));
    let announced = String::from(&Element::from(announced));
    alice
        .send(&format!("<presence>{announced}</presence>"))
        .await;
    let query = alice
        .until("the question what those capabilities are", |s| {
            s.name() == "iq" && s.attr("from") == Some("bob@example.test")
        })
        .await;
    let asked = child(&query, "query").expect("disco");
    let mut answer = info;
    answer.node = asked.attr("node").map(str::to_owned);
    let id = query.attr("id").expect("id");
    let answer = String::from(&Element::from(answer));
    alice
        .send(&format!(
            "<iq type='result' to='bob@example.test' id='{id}'>{answer}</iq>"
        ))
        .await;

    alice
        .until("the last item", |s| {
            is_event_from(s, "bob@example.test", "1")
        })
        .await;
    publish(&bob, "2").await;
    alice
        .until("the new item", |s| {
            is_event_from(s, "bob@example.test", "2")
        })
        .await;

    cluster.assert_no_leaks();
    cluster.assert_balanced().await;
}
