//! Queries to the server and to its users.

use crate::support::component::Component;
use crate::{GLOBAL, attach, heard, login, server, sync, watched};

const INFO: &str = "<query xmlns='http://jabber.org/protocol/disco#info'/>";
const ITEMS: &str = "<query xmlns='http://jabber.org/protocol/disco#items'/>";
const PING: &str = "<ping xmlns='urn:xmpp:ping'/>";
const VCARD: &str = "<vCard xmlns='vcard-temp'/>";
const LAST: &str = "<query xmlns='jabber:iq:last'/>";
const AVATAR: &str = "<pubsub xmlns='http://jabber.org/protocol/pubsub'>\
                      <items node='urn:xmpp:avatar:metadata'/></pubsub>";

async fn ask(component: &Component, id: &str, from: &str, to: &str, payload: &str) {
    ask_as(component, "get", id, from, to, payload).await;
}

async fn ask_as(component: &Component, kind: &str, id: &str, from: &str, to: &str, payload: &str) {
    component
        .send(&format!(
            "<iq type='{kind}' id='{id}' from='{from}' to='{to}'>{payload}</iq>"
        ))
        .await;
}

/// What the server itself is asked.
pub async fn to_the_server() -> Vec<String> {
    let server = server().start().await;
    let component = attach(&server, GLOBAL).await;
    let at_host = async |id: &str, payload: &str| {
        ask(&component, id, GLOBAL, "dc1.test", payload).await;
    };
    at_host("p1", PING).await;
    at_host("p2", "<unknown xmlns='urn:unknown'/>").await;
    ask_as(
        &component,
        "set",
        "p3",
        GLOBAL,
        "dc1.test",
        "<unknown xmlns='urn:unknown'/>",
    )
    .await;
    at_host("ver", "<query xmlns='jabber:iq:version'/>").await;
    at_host("time", "<time xmlns='urn:xmpp:time'/>").await;
    at_host("last", LAST).await;
    at_host("d1", INFO).await;
    at_host("d2", ITEMS).await;
    let at_node = |namespace: &str, node: &str| {
        format!("<query xmlns='http://jabber.org/protocol/disco#{namespace}' node='{node}'/>")
    };
    let commands = "http://jabber.org/protocol/commands";
    at_host("d3", &at_node("items", commands)).await;
    at_host("d4", &at_node("info", commands)).await;
    let nodes = [
        "online users",
        "all users",
        "running nodes",
        "sessions",
        "http://jabber.org/protocol/admin",
        "announce",
        "outgoing s2s",
    ];
    for (n, node) in nodes.iter().enumerate() {
        at_host(&format!("dn{n}"), &at_node("items", node)).await;
    }
    let nodes = [
        "get-online-users-list",
        "get-online-users-num",
        "get-active-users",
    ];
    let nodes = nodes.map(|node| format!("http://jabber.org/protocol/admin#{node}"));
    for (n, node) in nodes.iter().map(String::as_str).chain(["ping"]).enumerate() {
        let command = format!("<command xmlns='{commands}' action='execute' node='{node}'/>");
        ask_as(
            &component,
            "set",
            &format!("c{n}"),
            GLOBAL,
            "dc1.test",
            &command,
        )
        .await;
    }
    at_host("rh", "<query xmlns='jabber:iq:roster'/>").await;
    at_host("noc", "").await;
    at_host("", PING).await;
    ask_as(&component, "bad", "badtype", GLOBAL, "dc1.test", PING).await;
    ask(&component, "hostres", GLOBAL, "dc1.test/x", PING).await;
    ask(&component, "pf", "x@example.test/y", "dc1.test", PING).await;
    ask(&component, "i8", "bob@example.test/x", "dc1.test", PING).await;
    ask(&component, "self", GLOBAL, GLOBAL, PING).await;
    ask(&component, "abs", GLOBAL, "muc.example.test", PING).await;
    sync(&component).await;
    heard(&component)
}

/// What its users are asked.
pub async fn to_users() -> Vec<String> {
    let server = server().start().await;
    let component = attach(&server, GLOBAL).await;
    let alice = login(&server, "alice", "r1").await;
    watched(&component, GLOBAL, &alice).await;
    let z = "carol@example.test/z";
    for (state, user) in [("on", "alice"), ("off", "carol"), ("non", "nobody")] {
        for (what, payload) in [
            ("ping", PING),
            ("vcard", VCARD),
            ("info", INFO),
            ("items", ITEMS),
            ("last", LAST),
            ("pep", AVATAR),
            ("unk", "<q xmlns='urn:unk'/>"),
        ] {
            ask(
                &component,
                &format!("{state}{what}"),
                z,
                &format!("{user}@dc1.test"),
                payload,
            )
            .await;
        }
    }
    ask(&component, "nf", GLOBAL, "nobody@dc1.test/x", PING).await;
    ask(
        &component,
        "smi",
        "carol@example.test/x",
        "bob@dc1.test/sm",
        PING,
    )
    .await;
    let bob = "bob@example.test/x";
    for (n, (to, payload)) in [
        ("alice@dc1.test", INFO),
        ("alice@dc1.test", VCARD),
        ("alice@dc1.test", PING),
        ("alice@dc1.test", AVATAR),
        ("alice@dc1.test/gone", INFO),
        ("carol@dc1.test", INFO),
        ("carol@dc1.test/x", PING),
        ("nobody@dc1.test", PING),
    ]
    .into_iter()
    .enumerate()
    {
        ask(&component, &format!("i{n}"), bob, to, payload).await;
    }
    sync(&component).await;
    alice.send("<message></presence>").await;
    alice.inbox().closed().await;
    for (n, payload) in [
        "<query xmlns='jabber:iq:roster'/>",
        "<query xmlns='jabber:iq:private'><x xmlns='x'/></query>",
        "<blocklist xmlns='urn:xmpp:blocking'/>",
        LAST,
        "<query xmlns='jabber:iq:version'/>",
        "<unk xmlns='urn:unk'/>",
    ]
    .into_iter()
    .enumerate()
    {
        ask(
            &component,
            &format!("u{n}"),
            GLOBAL,
            "alice@dc1.test",
            payload,
        )
        .await;
    }
    sync(&component).await;
    heard(&component)
}
