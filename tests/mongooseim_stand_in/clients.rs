//! What clients get, where MongooseIM does something of its own.

use crate::support::client::Client;
use crate::support::xml::{body, child};
use crate::{GLOBAL, attach, login, server, sync, watched};

/// How often the client has got `text`, in copies too.
fn times(client: &Client, text: &str) -> usize {
    let raw = client.inbox().raw();
    raw.iter()
        .filter(|raw| raw.contains(&format!("<body>{text}</body>")))
        .count()
}

async fn enable_carbons(client: &Client) {
    let answer = client
        .iq(None, "set", "<enable xmlns='urn:xmpp:carbons:2'/>")
        .await;
    assert_eq!(answer.attr("type"), Some("result"), "{answer:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_chat_to_a_gone_session_reaches_each_with_carbons_twice_and_to_the_bare_jid_once() {
    let server = server().start().await;
    let component = attach(&server, GLOBAL).await;
    let (r1, r2) = (
        login(&server, "alice", "r1").await,
        login(&server, "alice", "r2").await,
    );
    enable_carbons(&r1).await;
    let chat = async |to: &str, text: &str| {
        component
            .send(&format!(
                "<message type='chat' from='bob@example.test/x' to='{to}'><body>{text}</body></message>"
            ))
            .await;
        sync(&component).await;
        r1.sync().await;
        r2.sync().await;
    };
    chat("alice@dc1.test/gone", "gone").await;
    assert_eq!((times(&r1, "gone"), times(&r2, "gone")), (2, 1));
    chat("alice@dc1.test", "bare").await;
    assert_eq!((times(&r1, "bare"), times(&r2, "bare")), (1, 1));
    // A copy of what another session got.
    chat("alice@dc1.test/r2", "exact").await;
    assert_eq!((times(&r1, "exact"), times(&r2, "exact")), (1, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_groupchat_to_a_gone_session_reaches_all() {
    let server = server().start().await;
    let component = attach(&server, GLOBAL).await;
    let r1 = login(&server, "alice", "r1").await;
    component
        .send(
            "<message type='groupchat' from='r@example.test/n' to='alice@dc1.test/gone'>\
             <body>said</body></message>",
        )
        .await;
    r1.expect_chat("r@example.test/n", "said").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_came_while_nobody_was_there_comes_late_even_after_a_kill() {
    let mut server = server().start().await;
    let component = attach(&server, GLOBAL).await;
    component
        .send(
            "<message type='chat' from='bob@example.test/x' to='alice@dc1.test'>\
             <body>for later</body></message>",
        )
        .await;
    sync(&component).await;
    server.kill9().await;
    component.inbox().closed().await;
    server.start().await;
    let alice = login(&server, "alice", "r1").await;
    let late = alice.expect_chat("bob@example.test", "for later").await;
    let delay = child(&late, "delay").unwrap_or_else(|| panic!("{late:?}"));
    assert_eq!(delay.attr("from"), Some("dc1.test"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_stops_tells_nobody() {
    let mut server = server().watched_by(GLOBAL).start().await;
    let component = attach(&server, GLOBAL).await;
    let alice = login(&server, "alice", "r1").await;
    alice.sync().await;
    sync(&component).await;
    let before = (component.inbox().raw().len(), alice.inbox().raw().len());
    server.stop().await;
    component.inbox().closed().await;
    alice.inbox().closed().await;
    let after = (component.inbox().raw().len(), alice.inbox().raw().len());
    assert_eq!(before, after, "{}", component.inbox());
    assert!(server.sessions().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_archive_gives_its_last_page() {
    let server = server().start().await;
    let component = attach(&server, GLOBAL).await;
    let alice = login(&server, "alice", "r1").await;
    for n in 0..5 {
        alice.chat("bob@example.test", &n.to_string()).await;
    }
    alice.sync().await;
    component
        .send(
            "<message type='chat' from='bob@example.test/x' to='alice@dc1.test/r1'>\
             <body>answer</body></message>",
        )
        .await;
    alice.expect_chat("bob@example.test", "answer").await;
    let query = "<query xmlns='urn:xmpp:mam:2' queryid='q'>\
                 <set xmlns='http://jabber.org/protocol/rsm'><max>2</max><before/></set></query>";
    let answer = alice.iq(None, "set", query).await;
    let fin = child(&answer, "fin").unwrap_or_else(|| panic!("{answer:?}"));
    assert_eq!(fin.attr("complete"), None, "{fin:?}");
    let pending = alice.inbox().pending();
    let found = pending.iter().filter_map(|stanza| child(stanza, "result"));
    let found = found.filter_map(|result| child(result, "forwarded"));
    let texts: Vec<String> = found
        .filter_map(|forwarded| child(forwarded, "message"))
        .filter_map(body)
        .collect();
    assert_eq!(texts, ["4", "answer"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_is_blocked_sees_the_user_leave() {
    let server = server().start().await;
    let component = attach(&server, GLOBAL).await;
    let alice = login(&server, "alice", "r1").await;
    watched(&component, "bob@example.test", &alice).await;
    let block = "<block xmlns='urn:xmpp:blocking'><item jid='bob@example.test'/></block>";
    alice.iq(None, "set", block).await;
    component
        .until("her leaving", |stanza| {
            stanza.attr("type") == Some("unavailable")
                && stanza.attr("to") == Some("bob@example.test")
        })
        .await;
    alice.chat("bob@example.test", "you can't hear me").await;
    let error = alice
        .until("her own message back", |stanza| {
            stanza.attr("type") == Some("error")
        })
        .await;
    let error = child(&error, "error").unwrap_or_else(|| panic!("{error:?}"));
    assert!(child(error, "not-acceptable").is_some(), "{error:?}");
    alice
        .iq(None, "set", "<unblock xmlns='urn:xmpp:blocking'/>")
        .await;
    component
        .until("her coming back", |stanza| {
            stanza.name() == "presence"
                && stanza.attr("type").is_none()
                && stanza.attr("to") == Some("bob@example.test")
        })
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_stanza_passes() {
    let server = server().start().await;
    let component = attach(&server, GLOBAL).await;
    let alice = login(&server, "alice", "r1").await;
    let text = "x".repeat(300_000);
    component
        .send(&format!(
            "<message type='chat' from='bob@example.test/x' to='alice@dc1.test'><body>{text}</body></message>"
        ))
        .await;
    alice.expect_chat("bob@example.test", &text).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_without_presence_is_listed_too() {
    let server = server().start().await;
    let _quiet = Client::login_without_presence(&server, "alice", "quiet").await;
    assert_eq!(server.sessions(), ["alice@dc1.test/quiet"]);
}
