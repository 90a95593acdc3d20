//! Personal eventing across datacenters (XEP-0163): fetch, subscribe, notify.

use minidom::Element;

use crate::support::backend::Backend;
use crate::support::client::Client;
use crate::support::cluster::Cluster;
use crate::support::interests::Interests;
use crate::support::pair::Pair;
use crate::support::pubsub::{configure, fetch, is_event, publish, request};
use crate::support::server::Kind;

crate::on_mesh!(
    device_list_is_fetched_and_subscribed_to,
    plus_notify_reaches_a_contact_elsewhere,
);

// Without `+notify`: MongooseIM does not query remote contacts' capabilities.
crate::on_pairs_with_mongooseim!(device_list_is_fetched_and_subscribed_to);

const DEVICES: &str = "eu.siacs.conversations.axolotl.devicelist";

async fn publish_device(client: &Client, device: &str) {
    let list =
        format!("<list xmlns='eu.siacs.conversations.axolotl'><device id='{device}'/></list>");
    publish(client, DEVICES, "current", &list).await;
}

fn is_event_from(stanza: &Element, from: &str, device: &str) -> bool {
    is_event(stanza, from, &format!("<device id='{device}'"))
}

async fn device_list_is_fetched_and_subscribed_to(pair: impl Into<Pair>) {
    let pair = pair.into();
    let (cluster, alice, bob) = Cluster::of(pair).two_friends().await;
    publish_device(&bob, "31337").await;
    if pair.kinds[1] == Kind::MongooseIm {
        // The server sees no session of a remote subscriber.
        configure(&bob, DEVICES, "presence_based_delivery", "0").await;
    }

    let list = fetch(&alice, "bob@example.test", DEVICES).await;
    assert!(String::from(&list).contains("31337"), "{list:?}");

    // A client subscribes with its own address as it knows it: the local one.
    let subscribe = format!("<subscribe node='{DEVICES}' jid='alice@dc1.test'/>");
    request(&alice, Some("bob@example.test"), "set", &subscribe).await;
    publish_device(&bob, "31338").await;
    alice
        .until("the event", |s| {
            is_event_from(s, "bob@example.test", "31338")
        })
        .await;

    cluster.assert_no_leaks();
    cluster.assert_balanced().await;
}

async fn plus_notify_reaches_a_contact_elsewhere(backend: Backend) {
    let (cluster, alice, bob) = Cluster::of(backend).two_friends().await;
    publish_device(&bob, "1").await;

    let interests = Interests::new("test", &[DEVICES]);
    interests
        .while_answering(&alice, async {
            alice.send(&interests.presence()).await;
            alice
                .until("the last item", |s| {
                    is_event_from(s, "bob@example.test", "1")
                })
                .await;
            publish_device(&bob, "2").await;
            alice
                .until("the new item", |s| {
                    is_event_from(s, "bob@example.test", "2")
                })
                .await;
        })
        .await;

    cluster.assert_no_leaks();
    cluster.assert_balanced().await;
}
