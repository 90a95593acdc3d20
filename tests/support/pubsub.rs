//! Publishing items, and reading the items of others (XEP-0060, XEP-0163).

use minidom::Element;
use xmpp_parsers::ns;

use super::client::Client;
use super::patience::until;
use super::xml::child;

/// Sends a request to the pubsub service or account `to`; `None` is the own account.
///
/// # Panics
/// When the request is refused.
pub async fn request(client: &Client, to: Option<&str>, kind: &str, payload: &str) -> Element {
    let answer = ask(client, to, kind, payload).await;
    assert_eq!(answer.attr("type"), Some("result"), "{payload}: {answer:?}");
    answer
}

async fn ask(client: &Client, to: Option<&str>, kind: &str, payload: &str) -> Element {
    let payload = format!("<pubsub xmlns='{}'>{payload}</pubsub>", ns::PUBSUB);
    client.iq(to, kind, &payload).await
}

/// Publishes `payload` at a node of the own account.
pub async fn publish(client: &Client, node: &str, id: &str, payload: &str) {
    create_by(client, &publication(node, id, payload)).await;
}

/// Publishes at a node that may not exist yet. While other accounts create nodes, ejabberd 23.01
/// occasionally reports a new node as not found.
async fn create_by(client: &Client, publication: &str) {
    until("a publication to be accepted", async || {
        let answer = ask(client, None, "set", publication).await;
        if answer.attr("type") == Some("result") {
            return Ok(());
        }
        let answer = String::from(&answer);
        assert!(answer.contains("item-not-found"), "{publication}: {answer}");
        Err(answer)
    })
    .await;
}

/// Publishes an item that everybody may read, not only contacts (XEP-0060 §7.1.5).
pub async fn publish_openly(client: &Client, node: &str, id: &str, payload: &str) {
    let publication = publication(node, id, payload);
    let form = format!(
        "<publish-options><x xmlns='{}' type='submit'><field var='FORM_TYPE' type='hidden'>\
         <value>{}#publish-options</value></field>\
         <field var='pubsub#access_model'><value>open</value></field></x></publish-options>",
        ns::DATA_FORMS,
        ns::PUBSUB
    );
    create_by(client, &format!("{publication}{form}")).await;
}

fn publication(node: &str, id: &str, payload: &str) -> String {
    format!("<publish node='{node}'><item id='{id}'>{payload}</item></publish>")
}

/// Changes an option of a node of the own account (XEP-0060 §8.2).
///
/// # Panics
/// When the change is refused.
pub async fn configure(client: &Client, node: &str, option: &str, value: &str) {
    let owner = ns::PUBSUB_OWNER;
    let configure = format!(
        "<pubsub xmlns='{owner}'><configure node='{node}'><x xmlns='{}' type='submit'>\
         <field var='FORM_TYPE' type='hidden'><value>{}#node_config</value></field>\
         <field var='pubsub#{option}'><value>{value}</value></field></x></configure></pubsub>",
        ns::DATA_FORMS,
        ns::PUBSUB
    );
    let answer = client.iq(None, "set", &configure).await;
    assert_eq!(answer.attr("type"), Some("result"), "{answer:?}");
}

/// Reads the items at a node of `to`.
pub async fn fetch(client: &Client, to: &str, node: &str) -> Element {
    let items = format!("<items node='{node}'/>");
    request(client, Some(to), "get", &items).await
}

/// All events of the account `from` up to the item that contains `text`.
pub async fn events_until(client: &Client, from: &str, text: &str) -> Vec<String> {
    let mut events = Vec::new();
    while !events
        .last()
        .is_some_and(|last: &String| last.contains(text))
    {
        let what = format!("{text:?} to be published by {from}");
        let event = client.until(&what, |s| is_event(s, from, "")).await;
        events.push(String::from(&event));
    }
    events
}

/// Returns whether the stanza is an event of the account `from` with an item that contains
/// `text`.
pub fn is_event(stanza: &Element, from: &str, text: &str) -> bool {
    stanza.name() == "message"
        && stanza.attr("from") == Some(from)
        && child(stanza, "event").is_some_and(|event| String::from(event).contains(text))
}
