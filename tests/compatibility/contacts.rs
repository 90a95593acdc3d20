//! The roster, and what contacts see of each other.

use minidom::Element;

use super::limit::{Limit, Verdict};
use super::meeting::{Meeting, Person};
use super::messages::condition;
use crate::support::client::befriend;
use crate::support::server::Kind;
use crate::support::xml::{body, child};

/// The roster's entry of `name` in an answer or a push.
fn entry<'a>(stanza: &'a Element, name: &str) -> Option<&'a Element> {
    let query = stanza.get_child("query", "jabber:iq:roster")?;
    query.children().find(|item| item.attr("jid") == Some(name))
}

async fn subscription(own: &Person, other: &Person) -> Option<String> {
    let roster = own.roster().await;
    let entry = entry(&roster, &other.name);
    entry.and_then(|entry| entry.attr("subscription").map(str::to_owned))
}

pub async fn roster(meeting: &Meeting) -> Verdict {
    let (alice, bob) = meeting.friends().await;
    assert_eq!(subscription(&alice, &bob).await.as_deref(), Some("both"));
    assert_eq!(subscription(&bob, &alice).await.as_deref(), Some("both"));

    let remove = format!(
        "<query xmlns='jabber:iq:roster'><item jid='{}' subscription='remove'/></query>",
        bob.name
    );
    let answer = alice.iq(None, "set", &remove).await;
    assert_eq!(answer.attr("type"), Some("result"), "{answer:?}");
    bob.until("the contact to be unsubscribed", |stanza| {
        let entry = entry(stanza, &alice.name);
        stanza.attr("type") == Some("set")
            && entry.is_some_and(|entry| entry.attr("subscription") == Some("none"))
    })
    .await;
    assert_eq!(subscription(&alice, &bob).await, None);
    bob.expect_presence(&alice.full, Some("unavailable")).await;

    // Asked again, and refused.
    alice.subscribe(&bob.name).await;
    bob.expect_presence(&alice.name, Some("subscribe")).await;
    bob.send(&format!(
        "<presence type='unsubscribed' to='{}'/>",
        alice.name
    ))
    .await;
    alice.expect_presence(&bob.name, Some("unsubscribed")).await;
    Verdict::Given
}

pub async fn presence(meeting: &Meeting) -> Verdict {
    // Strangers see each other by directed presence only.
    let (alice, bob) = meeting.strangers().await;
    alice
        .send(&format!(
            "<presence to='{}'><status>psst</status></presence>",
            bob.name
        ))
        .await;
    let directed = bob.expect_presence(&alice.full, None).await;
    assert_eq!(
        child(&directed, "status").map(Element::text).as_deref(),
        Some("psst")
    );
    alice
        .send(&format!("<presence type='unavailable' to='{}'/>", bob.full))
        .await;
    bob.expect_presence(&alice.full, Some("unavailable")).await;

    befriend(&alice, &alice.name, &bob, &bob.name).await;
    for (from, to) in [(&alice, &bob), (&bob, &alice)] {
        from.send(
            "<presence><show>away</show><status>lunch</status><priority>7</priority></presence>",
        )
        .await;
        let away = to
            .until("away presence", |s| {
                s.attr("from") == Some(&from.full) && child(s, "show").is_some()
            })
            .await;
        assert_eq!(
            child(&away, "show").map(Element::text).as_deref(),
            Some("away")
        );
        assert_eq!(
            child(&away, "priority").map(Element::text).as_deref(),
            Some("7")
        );
        from.send("<presence type='unavailable'/>").await;
        to.expect_presence(&from.full, Some("unavailable")).await;
        // With a status, since an answer to a probe would look the same: a socket that is
        // killed before its server has read this takes it along.
        from.send("<presence><status>back</status></presence>")
            .await;
        to.until("presence after the break", |s| {
            s.attr("from") == Some(&from.full)
                && child(s, "status").is_some_and(|status| status.text() == "back")
        })
        .await;
    }
    let gone = bob.full.clone();
    bob.kill().await;
    alice.expect_presence(&gone, Some("unavailable")).await;
    let bob = meeting.bob("b2").await;
    alice.expect_presence(&bob.full, None).await;
    let gone = alice.full.clone();
    alice.kill().await;
    bob.expect_presence(&gone, Some("unavailable")).await;
    Verdict::Given
}

pub async fn probes(meeting: &Meeting) -> Verdict {
    let (alice, bob) = meeting.friends().await;
    let desk = meeting.bob("desk").await;
    // Whoever comes online later is told who is there already, and as what.
    desk.send("<presence><show>dnd</show></presence>").await;
    alice
        .until("the desk to be busy", |s| child(s, "show").is_some())
        .await;
    let tablet = meeting.alice("tablet").await;
    tablet.expect_presence(&bob.full, None).await;
    let busy = tablet.expect_presence(&desk.full, None).await;
    assert_eq!(
        child(&busy, "show").map(Element::text).as_deref(),
        Some("dnd")
    );

    // Who is gone is not told of: the one who is there comes alone.
    let gone = bob.full.clone();
    bob.close().await;
    alice.expect_presence(&gone, Some("unavailable")).await;
    let watch = meeting.alice("watch").await;
    watch.expect_presence(&desk.full, None).await;
    let chat = "only one of me";
    desk.chat(&watch.full, chat).await;
    watch.expect_chat(&desk.full, chat).await;
    let seen = watch.inbox().pending();
    let available = |s: &&Element| s.attr("from") == Some(&gone) && s.attr("type").is_none();
    assert!(!seen.iter().any(|s| available(&s)), "{seen:?}");
    Verdict::Given
}

pub async fn blocking(meeting: &Meeting) -> Verdict {
    let (alice, bob) = meeting.friends().await;
    let is_told = meeting.far() != Kind::Ejabberd;
    block(&bob, "block", &alice.name).await;
    if is_told {
        alice.expect_presence(&bob.full, Some("unavailable")).await;
    }
    let id = alice.chat(&bob.name, "do you hear me?").await;
    let error = alice
        .until("the error", |s| {
            s.name() == "message" && s.attr("type") == Some("error")
        })
        .await;
    assert_eq!(error.attr("id"), Some(&*id), "{error:?}");
    // XEP-0191 §3.3
    assert_eq!(condition(&error), "service-unavailable", "{error:?}");

    block(&bob, "unblock", &alice.name).await;
    if is_told {
        alice.expect_presence(&bob.full, None).await;
    }
    alice.chat(&bob.name, "and now?").await;
    let heard = bob.expect_message_from(&alice.name).await;
    assert_eq!(body(&heard).as_deref(), Some("and now?"));
    bob.chat(&alice.full, "I am back").await;
    alice.expect_chat(&bob.full, "I am back").await;
    if is_told {
        return Verdict::Given;
    }
    // It would have come before what he has just said.
    let seen = alice.inbox().pending();
    let is_gone = |s: &Element| {
        s.name() == "presence"
            && s.attr("type") == Some("unavailable")
            && s.attr("from") == Some(&bob.full)
    };
    assert!(!seen.iter().any(is_gone), "{seen:?}");
    Verdict::But(Limit::BlockedUnseen)
}

async fn block(who: &Person, verb: &str, whom: &str) {
    let request = format!("<{verb} xmlns='urn:xmpp:blocking'><item jid='{whom}'/></{verb}>");
    let answer = who.iq(None, "set", &request).await;
    assert_eq!(answer.attr("type"), Some("result"), "{answer:?}");
}
