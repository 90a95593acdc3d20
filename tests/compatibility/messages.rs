//! What one writes to another, and what comes back.

use minidom::Element;

use super::limit::Verdict;
use super::meeting::{Meeting, Person};
use crate::support::xml::{body, child};

const MARKERS: &str = "urn:xmpp:chat-markers:0";
const STATES: &str = "http://jabber.org/protocol/chatstates";

/// The condition of an error stanza.
pub fn condition(stanza: &Element) -> String {
    assert_eq!(stanza.attr("type"), Some("error"), "{stanza:?}");
    let error = child(stanza, "error").unwrap_or_else(|| panic!("{stanza:?}"));
    let condition = error.children().find(|child| child.name() != "text");
    condition.map_or_else(String::new, |condition| condition.name().to_owned())
}

pub async fn chat(meeting: &Meeting) -> Verdict {
    let (alice, bob) = meeting.strangers().await;
    let text = "hello <&> \"Bob\" 😀";
    let id = alice.chat(&bob.name, text).await;
    let heard = bob.expect_chat(&alice.name, text).await;
    assert_eq!(heard.attr("from"), Some(&*alice.full));
    assert_eq!(heard.attr("id"), Some(&*id));
    let reply = "to this very session";
    bob.chat(&alice.full, reply).await;
    let heard = alice.expect_chat(&bob.name, reply).await;
    assert_eq!(heard.attr("from"), Some(&*bob.full));

    // In order, whatever their number.
    for n in 0..50 {
        alice.chat(&bob.name, &n.to_string()).await;
    }
    for n in 0..50 {
        let heard = bob.expect_message_from(&alice.name).await;
        assert_eq!(body(&heard), Some(n.to_string()));
    }
    Verdict::Given
}

pub async fn receipts_and_markers(meeting: &Meeting) -> Verdict {
    let (alice, bob) = meeting.strangers().await;
    for (from, to) in [(&alice, &bob), (&bob, &alice)] {
        from.send(&format!(
            "<message type='chat' to='{}' id='marked'><body>read me</body>\
             <request xmlns='urn:xmpp:receipts'/><markable xmlns='{MARKERS}'/></message>",
            to.name
        ))
        .await;
        let heard = to.expect_chat(&from.name, "read me").await;
        assert!(heard.get_child("markable", MARKERS).is_some(), "{heard:?}");
        to.acknowledge(&heard).await;
        from.expect_receipt(&to.full, "marked").await;
        to.send(&format!(
            "<message type='chat' to='{}'><displayed xmlns='{MARKERS}' id='marked'/></message>",
            from.full
        ))
        .await;
        let marker = from
            .until("the marker", |s| {
                s.get_child("displayed", MARKERS).is_some()
            })
            .await;
        assert_eq!(marker.attr("from"), Some(&*to.full));
    }
    Verdict::Given
}

pub async fn chat_states(meeting: &Meeting) -> Verdict {
    let (alice, bob) = meeting.strangers().await;
    alice
        .send(&format!(
            "<message type='chat' to='{}'><body>hi</body><active xmlns='{STATES}'/></message>",
            bob.name
        ))
        .await;
    let hi = bob.expect_chat(&alice.name, "hi").await;
    assert!(hi.get_child("active", STATES).is_some(), "{hi:?}");
    for state in ["composing", "paused", "inactive", "gone"] {
        bob.send(&format!(
            "<message type='chat' to='{}'><{state} xmlns='{STATES}'/></message>",
            alice.full
        ))
        .await;
    }
    for state in ["composing", "paused", "inactive", "gone"] {
        let next = alice
            .until("a chat state", |s| {
                s.children().any(|c| c.is(c.name(), STATES))
            })
            .await;
        assert!(next.get_child(state, STATES).is_some(), "{state}: {next:?}");
        assert_eq!(next.attr("from"), Some(&*bob.full));
    }
    Verdict::Given
}

pub async fn file_links(meeting: &Meeting) -> Verdict {
    const OOB: &str = "jabber:x:oob";
    let (alice, bob) = meeting.strangers().await;
    let url = "https://upload.example.net/ab%20c/holiday.jpg?a=1&b=2";
    let escaped = crate::support::xml::escape(url);
    for (from, to) in [(&alice, &bob), (&bob, &alice)] {
        from.send(&format!(
            "<message type='chat' to='{}' id='link'><body>{escaped}</body>\
             <x xmlns='{OOB}'><url>{escaped}</url><desc>us</desc></x></message>",
            to.name
        ))
        .await;
        let heard = to.expect_chat(&from.name, url).await;
        let link = heard.get_child("x", OOB).and_then(|x| child(x, "url"));
        assert_eq!(link.map(Element::text).as_deref(), Some(url), "{heard:?}");
    }
    Verdict::Given
}

pub async fn errors(meeting: &Meeting) -> Verdict {
    let (alice, bob) = meeting.strangers().await;
    not_there(&alice, &bob).await;
    not_there(&bob, &alice).await;
    Verdict::Given
}

/// `asker` asks a session that `other` does not have, and writes to nobody.
async fn not_there(asker: &Person, other: &Person) {
    let gone = format!("{}/gone", other.name);
    let ping = "<ping xmlns='urn:xmpp:ping'/>";
    let answer = asker.iq(Some(&gone), "get", ping).await;
    assert_eq!(condition(&answer), "service-unavailable", "{answer:?}");

    let nobody = other.name.replacen('@', "-nobody@", 1);
    let id = asker.chat(&nobody, "anybody there?").await;
    let error = asker
        .until("the error", |s| {
            s.name() == "message" && s.attr("type") == Some("error")
        })
        .await;
    assert_eq!(error.attr("id"), Some(&*id), "{error:?}");
    assert_eq!(error.attr("from"), Some(&*nobody), "{error:?}");
    assert_eq!(condition(&error), "service-unavailable", "{error:?}");
}
