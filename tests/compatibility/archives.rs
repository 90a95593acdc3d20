//! What servers keep of what passes, and copy to one's other clients.

use minidom::Element;
use xmpp_parsers::ns;

use super::limit::Verdict;
use super::meeting::{Meeting, Person};
use crate::support::patience::until;
use crate::support::xml::{body, child};

pub async fn carbons(meeting: &Meeting) -> Verdict {
    let alice = meeting.alice("a1").await;
    let (phone, desk) = tokio::join!(meeting.bob("phone"), meeting.bob("desk"));
    for client in [&phone, &desk] {
        let enable = format!("<enable xmlns='{}'/>", ns::CARBONS);
        let answer = client.iq(None, "set", &enable).await;
        assert_eq!(answer.attr("type"), Some("result"), "{answer:?}");
    }
    alice.chat(&phone.full, "to the phone").await;
    phone.expect_chat(&alice.name, "to the phone").await;
    let copy = carbon(&desk, "received", "to the phone").await;
    assert_eq!(copy.attr("from"), Some(&*alice.full), "{copy:?}");

    phone.chat(&alice.name, "from the phone").await;
    alice.expect_chat(&phone.full, "from the phone").await;
    let copy = carbon(&desk, "sent", "from the phone").await;
    assert_eq!(copy.attr("to"), Some(&*alice.name), "{copy:?}");
    Verdict::Given
}

/// The next copy of a message that says `text`: what is in it.
async fn carbon(client: &Person, kind: &str, text: &str) -> Element {
    let what = format!("a carbon, {kind}, of {text:?}");
    let carbon = client
        .until(&what, |s| {
            copied(s, kind).and_then(body).as_deref() == Some(text)
        })
        .await;
    copied(&carbon, kind).expect("just seen").clone()
}

fn copied<'a>(stanza: &'a Element, kind: &str) -> Option<&'a Element> {
    let forwarded = child(stanza.get_child(kind, ns::CARBONS)?, "forwarded")?;
    child(forwarded, "message")
}

pub async fn archive(meeting: &Meeting) -> Verdict {
    let (alice, bob) = meeting.strangers().await;
    alice.chat(&bob.name, "for the record").await;
    bob.expect_chat(&alice.name, "for the record").await;
    bob.chat(&alice.full, "so noted").await;
    alice.expect_chat(&bob.name, "so noted").await;
    for (own, other) in [(&alice, &bob), (&bob, &alice)] {
        until_archived(own, &other.name, &["for the record", "so noted"]).await;
    }
    Verdict::Given
}

/// Waits until one's own archive has these messages with `other`, in this order.
async fn until_archived(client: &Person, other: &str, texts: &[&str]) {
    until("the archive to have it all", async || {
        let found = archived(client, None, Some(other)).await;
        let have: Vec<String> = found.iter().filter_map(body).collect();
        if have == texts {
            return Ok(());
        }
        Err(format!("{have:?}"))
    })
    .await;
}

/// What stands in the archive of `to` (`None`: one's own), with `other` or with all.
pub async fn archived(client: &Person, to: Option<&str>, other: Option<&str>) -> Vec<Element> {
    let query = uuid::Uuid::new_v4().to_string();
    let (mam, forms) = (ns::MAM, ns::DATA_FORMS);
    let with = other.map_or_else(String::new, |other| {
        format!("<field var='with'><value>{other}</value></field>")
    });
    let question = format!(
        "<query xmlns='{mam}' queryid='{query}'><x xmlns='{forms}' type='submit'>\
         <field var='FORM_TYPE' type='hidden'><value>{mam}</value></field>{with}</x></query>"
    );
    let answer = client.iq(to, "set", &question).await;
    assert_eq!(answer.attr("type"), Some("result"), "{answer:?}");
    let mut messages = Vec::new();
    for stanza in client.inbox().pending() {
        let result = stanza.get_child("result", ns::MAM);
        let result = result.filter(|result| result.attr("queryid") == Some(&query));
        let forwarded = result.and_then(|result| child(result, "forwarded"));
        messages.extend(forwarded.and_then(|f| child(f, "message")).cloned());
    }
    messages
}

pub async fn offline(meeting: &Meeting) -> Verdict {
    let (alice, bob) = meeting.strangers().await;
    // From here on the gateways know where his home is.
    bob.chat(&alice.name, "good night").await;
    alice.expect_chat(&bob.name, "good night").await;
    let name = bob.name.clone();
    bob.close().await;
    meeting.until_gone(&name).await;

    alice.chat(&name, "for later").await;
    // Behind it on the same way: when his server answers this, it has dealt with that.
    alice
        .iq(Some(&name), "get", "<vCard xmlns='vcard-temp'/>")
        .await;
    let bob = meeting.bob("b2").await;
    let late = bob.expect_chat(&alice.name, "for later").await;
    assert!(late.get_child("delay", ns::DELAY).is_some(), "{late:?}");
    Verdict::Given
}
