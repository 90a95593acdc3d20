//! What a component learns of who is online.

use crate::support::client::Client;
use crate::support::component::Component;
use crate::{GLOBAL, attach, heard, login, server, sync, watched};

/// The presence of `session` of that type, with a status that contains `status`.
async fn seen(component: &Component, session: &str, kind: Option<&str>, status: &str) {
    let what = format!("{kind:?} {session} {status}");
    component
        .until(&what, |stanza| {
            stanza.name() == "presence"
                && stanza.attr("from") == Some(session)
                && stanza.attr("type") == kind
                && String::from(stanza).contains(status)
        })
        .await;
}

async fn gone(component: &Component, session: &str, status: &str) {
    seen(component, session, Some("unavailable"), status).await;
}

/// Logins, changes and ends as the shared domain sees them, which may.
pub async fn lifecycle() -> Vec<String> {
    let server = server().start().await;
    let component = attach(&server, GLOBAL).await;
    let r1 = login(&server, "alice", "r1").await;
    watched(&component, GLOBAL, &r1).await;
    r1.send("<presence><show>xa</show><priority>7</priority></presence>")
        .await;
    let r2 = login(&server, "alice", "r2").await;
    let probe = "<presence type='probe' from='example.test' to='alice@dc1.test'/>";
    r1.sync().await;
    component.send(probe).await;
    sync(&component).await;
    r2.kill().await;
    gone(&component, "alice@dc1.test/r2", "socket_closed").await;
    r1.close().await;
    gone(&component, "alice@dc1.test/r1", "stream_end").await;
    // Without presence on a broadcast there is no end of it.
    let r3 = login(&server, "alice", "r3").await;
    component.send(probe).await;
    sync(&component).await;
    r3.kill().await;
    gone(&component, "alice@dc1.test/r3", "socket_closed").await;
    let r4 = login(&server, "alice", "r4").await;
    r4.close().await;

    let r1 = login(&server, "alice", "r1").await;
    r1.send("<presence><show>away</show></presence>").await;
    r1.send("<presence type='unsubscribed' to='example.test'/>")
        .await;
    r1.sync().await;
    sync(&component).await;
    heard(&component)
}

/// Contacts come and go, and see what they may.
pub async fn subscriptions() -> Vec<String> {
    let server = server().start().await;
    let component = attach(&server, GLOBAL).await;
    let zed = "zed@example.test";
    let c1 = login(&server, "carol", "c1").await;
    watched(&component, zed, &c1).await;
    c1.send("<presence id='sub4' type='subscribe' to='zed@example.test'/>")
        .await;
    c1.sync().await;
    component
        .send("<presence type='subscribed' from='zed@example.test' to='carol@dc1.test'/>")
        .await;
    c1.expect_presence(zed, Some("subscribed")).await;
    let c2 = login(&server, "carol", "c2").await;
    c2.send("<presence type='unsubscribed' to='zed@example.test'/>")
        .await;
    c2.sync().await;

    details(&component, &login(&server, "bob", "b1").await).await;
    let dup = login(&server, "bob", "dup").await;
    let again = login(&server, "bob", "dup").await;
    gone(&component, "bob@dc1.test/dup", "Replaced by new connection").await;
    dup.inbox().closed().await;
    again.close().await;
    gone(&component, "bob@dc1.test/dup", "stream_end").await;

    let sm = login(&server, "bob", "sm").await;
    sm.send("<enable xmlns='urn:xmpp:sm:3' resume='true'/>")
        .await;
    sm.until("stream management", |element| element.name() == "enabled")
        .await;
    sm.kill().await;
    component
        .send("<presence type='probe' from='carol@example.test' to='bob@dc1.test'/>")
        .await;
    seen(&component, "bob@dc1.test/sm", None, "Delayed presence").await;

    let b = login(&server, "bob", "b").await;
    b.send("<presence type='unsubscribed' to='carol@example.test'/>")
        .await;
    b.sync().await;

    alices_contacts(&component, &login(&server, "alice", "r1").await).await;
    let r2 = login(&server, "alice", "r2").await;
    r2.send("<presence type='unsubscribe' to='bob@example.test'/>")
        .await;
    r2.sync().await;
    sync(&component).await;
    heard(&component)
}

/// Presence as it is written, its end, and a probe of a contact's session.
async fn details(component: &Component, b1: &Client) {
    component
        .send("<presence type='subscribe' from='carol@example.test' to='bob@dc1.test'/>")
        .await;
    b1.expect_presence("carol@example.test", Some("subscribe"))
        .await;
    b1.send("<presence id='acc' type='subscribed' to='carol@example.test'/>")
        .await;
    b1.send(
        "<presence xml:lang='fr'><show>dnd</show><status>busy</status><priority>-1</priority>\
         <c xmlns='http://jabber.org/protocol/caps' hash='sha-1' node='n' ver='xyz='/>\
         <x xmlns='vcard-temp:x:update'><photo/></x></presence>",
    )
    .await;
    b1.send("<presence type='unavailable'><status>bye</status></presence>")
        .await;
    b1.send("<presence/>").await;
    b1.sync().await;
    component
        .send("<presence type='probe' from='carol@example.test/x' to='bob@dc1.test'/>")
        .await;
    sync(component).await;
}

/// Asked, allowed, refused.
async fn alices_contacts(component: &Component, r1: &Client) {
    component
        .send("<presence type='subscribe' from='dup@example.test' to='alice@dc1.test'/>")
        .await;
    r1.expect_presence("dup@example.test", Some("subscribe"))
        .await;
    r1.send("<presence type='unsubscribed' to='dup@example.test'/>")
        .await;
    r1.send(
        "<presence type='subscribe' to='bob@example.test'><status>pls</status>\
         <nick xmlns='http://jabber.org/protocol/nick'>Al</nick></presence>",
    )
    .await;
    r1.sync().await;
    component
        .send("<presence type='subscribed' from='bob@example.test' to='alice@dc1.test'/>")
        .await;
    r1.expect_presence("bob@example.test", Some("subscribed"))
        .await;
    watched(component, "bob@example.test", r1).await;
    watched(component, "carol@example.test", r1).await;
    watched(component, GLOBAL, r1).await;
    r1.send("<presence type='subscribe' to='carol@example.test'/>")
        .await;
    r1.send("<presence><show>dnd</show></presence>").await;
    r1.send("<presence type='unavailable'/>").await;
    r1.send("<presence/>").await;
    r1.sync().await;
}

/// Presence to somebody alone: its end is told only behind a broadcast.
pub async fn directed() -> Vec<String> {
    let server = server().start().await;
    let component = attach(&server, GLOBAL).await;
    let rooms = attach(&server, "muc.example.test").await;
    let d1 = login(&server, "bob", "d1").await;
    d1.send("<presence to='example.test'><show>chat</show></presence>")
        .await;
    d1.send("<presence to='zed@example.test'/>").await;
    d1.sync().await;
    d1.kill().await;
    gone(&component, "bob@dc1.test/d1", "socket_closed").await;

    let r9 = Client::login_without_presence(&server, "alice", "r9").await;
    r9.send("<presence to='u@example.test/1'/><presence to='v@example.test'/>")
        .await;
    r9.send("<presence type='unavailable' to='u@example.test/1'/>")
        .await;
    r9.sync().await;
    let r8 = Client::login_without_presence(&server, "alice", "r8").await;
    r8.send("<presence to='v@example.test'/>").await;
    r8.sync().await;
    r9.kill().await;
    r8.close().await;
    let r7 = Client::login_without_presence(&server, "alice", "r7").await;
    r7.send("<presence to='v@example.test'/>").await;
    r7.send("<presence type='unavailable' to='v@example.test'/>")
        .await;
    r7.sync().await;

    let r6 = login(&server, "alice", "r6").await;
    watched(&component, GLOBAL, &r6).await;
    r6.send("<presence to='v@example.test'/><presence type='unavailable'/>")
        .await;
    r6.sync().await;

    let r1 = login(&server, "alice", "r1").await;
    let join = "<presence to='room@muc.example.test/Alice'>\
                <x xmlns='http://jabber.org/protocol/muc'/></presence>";
    r1.send(join).await;
    r1.send("<presence type='unavailable' to='carol@example.test/home'/>")
        .await;
    r1.sync().await;
    r1.send("<message></presence>").await;
    gone(&component, "alice@dc1.test/r1", "stream_error").await;
    gone(&rooms, "alice@dc1.test/r1", "stream_error").await;

    watched(
        &component,
        "bob@example.test",
        &login(&server, "alice", "a0").await,
    )
    .await;
    for resource in ["a1", "a2"] {
        login(&server, "alice", resource).await.close().await;
    }
    sync(&component).await;
    let said = heard(&component);
    let untold = |resource: &str| {
        let from = format!("from='alice@dc1.test/{resource}' to='v@example.test' type=");
        assert!(
            !said.iter().any(|raw| raw.contains(&from)),
            "{resource}: {said:?}"
        );
    };
    untold("r9");
    untold("r8");
    said.into_iter().chain(heard(&rooms)).collect()
}
