//! What people publish about themselves (XEP-0163), and who is told.

use minidom::Element;
use xmpp_parsers::ns;

use super::limit::{Limit, Verdict};
use super::meeting::{Meeting, Person};
use super::messages::condition;
use crate::support::interests::Interests;
use crate::support::pubsub::{configure, events_until, fetch, publish, publish_openly, request};
use crate::support::server::Kind;
use crate::support::xml::child;

const TUNE: &str = "http://jabber.org/protocol/tune";
const AVATAR: &str = "urn:xmpp:avatar:data";
const AVATAR_METADATA: &str = "urn:xmpp:avatar:metadata";
const OMEMO: &str = "eu.siacs.conversations.axolotl";

fn tune(title: &str) -> String {
    format!("<tune xmlns='{TUNE}'><title>{title}</title></tune>")
}

/// Alice says what interests her, and bob's server has asked what that means.
async fn introduce(interests: &Interests, alice: &Person, bob: &Person) {
    alice.send(&interests.presence()).await;
    interests.until_answered(&bob.name).await;
    // On the same way behind the answer: where this is, that was.
    alice.chat(&bob.full, "see you").await;
    bob.expect_chat(&alice.full, "see you").await;
}

/// Subscribes in so many words, with the address that the client knows of
/// itself: its local one.
fn subscription(alice: &Person, node: &str) -> String {
    let own = alice.jid().split('/').next().expect("a bare JID");
    format!("<subscribe node='{node}' jid='{own}'/>")
}

/// MongooseIM does not notify alice of what bob publishes at `node` as `id`; once she
/// has subscribed, she gets the last item, and later ones when bob has allowed it.
async fn is_told_by_subscription_only(
    [alice, bob]: [&Person; 2],
    [node, id]: [&str; 2],
    payload: impl Fn(&str) -> String,
) {
    let interests = Interests::new(&alice.name, &[node]);
    alice.send(&interests.presence()).await;
    bob.until("her interests", |s| {
        s.attr("from") == Some(&alice.full) && child(s, "c").is_some()
    })
    .await;
    publish(bob, node, id, &payload("early")).await;
    request(alice, Some(&bob.name), "set", &subscription(alice, node)).await;
    publish(bob, node, id, &payload("to nobody")).await;
    configure(bob, node, "presence_based_delivery", "0").await;
    publish(bob, node, id, &payload("due")).await;
    let told = events_until(alice, &bob.name, "due").await;
    assert!(!told.iter().any(|e| e.contains("to nobody")), "{told:?}");
    // The new subscriber may get the last item; nobody told her before.
    let last = told
        .iter()
        .filter(|e| e.contains("early") && !e.contains("<delay"));
    assert_eq!(last.count(), 0, "{told:?}");
}

pub async fn notify(meeting: &Meeting) -> Verdict {
    let (alice, bob) = meeting.friends().await;
    if meeting.far() == Kind::MongooseIm {
        is_told_by_subscription_only([&alice, &bob], [TUNE, "current"], tune).await;
        return Verdict::Not(Limit::NoNotify);
    }
    publish(&bob, TUNE, "current", &tune("Starship Trooper")).await;
    let interests = Interests::new(&alice.name, &[TUNE]);
    let is_late = meeting.far() == Kind::Ejabberd;
    let told = interests
        .while_answering(&alice, async {
            introduce(&interests, &alice, &bob).await;
            if is_late {
                alice.send("<presence type='unavailable'/>").await;
                alice.send(&interests.presence()).await;
            }
            let mut told = events_until(&alice, &bob.name, "Starship Trooper").await;
            publish(&bob, TUNE, "current", &tune("Roundabout")).await;
            told.extend(events_until(&alice, &bob.name, "Roundabout").await);
            told
        })
        .await;
    if !is_late {
        return Verdict::Given;
    }
    // Had it come at first too, it would have come twice.
    assert_eq!(told.len(), 2, "{told:?}");
    Verdict::But(Limit::FirstCapabilities)
}

pub async fn avatar(meeting: &Meeting) -> Verdict {
    let (alice, bob) = meeting.friends().await;
    // XEP-0084 §4.2: the item's id is the SHA-1 of the image.
    let (id, image) = ("357a8123a30844a3aa99861b6349264ba67a5694", "AAECAwQFBgc=");
    let data = format!("<data xmlns='{AVATAR}'>{image}</data>");
    let metadata = |id: &str| {
        format!(
            "<metadata xmlns='{AVATAR_METADATA}'>\
             <info id='{id}' bytes='8' type='image/png' width='1' height='1'/></metadata>"
        )
    };
    publish(&bob, AVATAR, id, &data).await;
    let verdict = if meeting.far() == Kind::MongooseIm {
        is_told_by_subscription_only([&alice, &bob], [AVATAR_METADATA, id], metadata).await;
        Verdict::But(Limit::NoNotify)
    } else {
        let interests = Interests::new(&alice.name, &[AVATAR_METADATA]);
        interests
            .while_answering(&alice, async {
                introduce(&interests, &alice, &bob).await;
                publish(&bob, AVATAR_METADATA, id, &metadata(id)).await;
                events_until(&alice, &bob.name, id).await;
            })
            .await;
        Verdict::Given
    };
    let items = fetch(&alice, &bob.name, AVATAR).await;
    assert!(String::from(&items).contains(image), "{items:?}");
    verdict
}

pub async fn omemo(meeting: &Meeting) -> Verdict {
    let devices = format!("{OMEMO}.devicelist");
    let bundles = format!("{OMEMO}.bundles:31337");
    let list = |id: &str| format!("<list xmlns='{OMEMO}'><device id='{id}'/></list>");
    let (alice, bob) = meeting.strangers().await;
    publish_openly(&bob, &devices, "current", &list("31337")).await;
    let key = "BVAxNbnRnsQ0HMwPX2iE9SdMRbhkD0z1c2nVsXNcGyQB";
    let bundle = format!("<bundle xmlns='{OMEMO}'><identityKey>{key}</identityKey></bundle>");
    publish_openly(&bob, &bundles, "current", &bundle).await;
    let mut verdict = Verdict::Given;
    if meeting.far() == Kind::MongooseIm {
        is_shown_to_contacts_only(&alice, &bob, &devices).await;
        for node in [&devices, &bundles] {
            configure(&bob, node, "access_model", "open").await;
        }
        verdict = Verdict::But(Limit::ContactsOnly);
    }
    // Whoever may write to him may encrypt.
    let items = fetch(&alice, &bob.name, &devices).await;
    assert!(String::from(&items).contains("31337"), "{items:?}");
    let items = fetch(&alice, &bob.name, &bundles).await;
    assert!(String::from(&items).contains(key), "{items:?}");

    let encrypted = format!(
        "<encrypted xmlns='{OMEMO}'><header sid='1'><key rid='31337'>a2V5</key>\
         <iv>aXY=</iv></header><payload>c2VjcmV0</payload></encrypted>"
    );
    alice
        .send(&format!(
            "<message type='chat' to='{}' id='omemo'>{encrypted}\
             <store xmlns='urn:xmpp:hints'/></message>",
            bob.name
        ))
        .await;
    let heard = bob
        .until("the encrypted message", |s| child(s, "encrypted").is_some())
        .await;
    assert_eq!(heard.attr("from"), Some(&*alice.full));
    let expected: Element = encrypted.parse().expect("XML");
    assert_eq!(child(&heard, "encrypted"), Some(&expected));
    verdict
}

/// Bob's server refuses alice, who is not his contact.
async fn is_shown_to_contacts_only(alice: &Person, bob: &Person, node: &str) {
    let items = format!(
        "<pubsub xmlns='{}'><items node='{node}'/></pubsub>",
        ns::PUBSUB
    );
    let answer = alice.iq(Some(&bob.name), "get", &items).await;
    assert_eq!(condition(&answer), "not-authorized", "{answer:?}");
}

pub async fn subscribe(meeting: &Meeting) -> Verdict {
    const NODE: &str = "urn:strait:test:notes";
    let note = |text: &str| format!("<note xmlns='{NODE}'>{text}</note>");
    let (alice, bob) = meeting.friends().await;
    publish(&bob, NODE, "n1", &note("before")).await;

    let own = alice.jid().split('/').next().expect("a bare JID");
    let subscribe = subscription(&alice, NODE);
    let answer = request(&alice, Some(&bob.name), "set", &subscribe).await;
    let subscription = child(&answer, "pubsub").and_then(|p| child(p, "subscription"));
    let subscription = subscription.unwrap_or_else(|| panic!("{answer:?}"));
    assert_eq!(subscription.attr("subscription"), Some("subscribed"));
    assert_eq!(subscription.attr("jid"), Some(&*alice.name), "{answer:?}");
    let mut verdict = Verdict::Given;
    if meeting.far() != Kind::Prosody {
        publish(&bob, NODE, "n2", &note("to nobody")).await;
        configure(&bob, NODE, "presence_based_delivery", "0").await;
        verdict = Verdict::But(Limit::PresenceBased);
    }
    publish(&bob, NODE, "n3", &note("while subscribed")).await;
    // A server may send the last item to a new subscriber.
    let told = events_until(&alice, &bob.name, "while subscribed").await;
    assert!(!told.iter().any(|e| e.contains("to nobody")), "{told:?}");

    let unsubscribe = format!("<unsubscribe node='{NODE}' jid='{own}'/>");
    request(&alice, Some(&bob.name), "set", &unsubscribe).await;
    publish(&bob, NODE, "n4", &note("while not")).await;
    publish(&bob, NODE, "n5", &note("the last one before")).await;
    request(&alice, Some(&bob.name), "set", &subscribe).await;
    publish(&bob, NODE, "n6", &note("and again")).await;
    let told = events_until(&alice, &bob.name, "and again").await;
    assert!(!told.iter().any(|e| e.contains("while not")), "{told:?}");
    verdict
}
