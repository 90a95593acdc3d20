use bytes::{Bytes, BytesMut};

use super::*;
use crate::stanza::Limits;

fn host(name: &str) -> Host {
    Host::new(name).unwrap()
}

fn answer(stanza: &str) -> Answer {
    answer_where(stanza, true)
}

/// The answer where a public and a hidden service are offered.
fn answer_where(stanza: &str, users_can_see_hidden: bool) -> Answer {
    let stanza = Stanza::parse(
        Bytes::copy_from_slice(stanza.as_bytes()),
        &Limits::default(),
    )
    .unwrap();
    let (public, secret) = (host("muc.example.test"), host("bot.example.test"));
    let offered = [(&public, false), (&secret, true)];
    Services::new(host("example.test"), users_can_see_hidden).answer(
        &stanza,
        offered
            .into_iter()
            .map(|(domain, hidden)| Offered { domain, hidden }),
    )
}

/// The replies as trees, each checked to have the sender as its recipient.
fn replies(stanza: &str) -> Vec<Element> {
    match answer(stanza) {
        Answer::Reply(replies) => replies.iter().map(written).collect(),
        other => panic!("{stanza} got {other:?}"),
    }
}

/// The stanza after it has been written and read again.
fn written(stanza: &Stanza) -> Element {
    let mut out = BytesMut::new();
    stanza.write_to(&mut out);
    Stanza::parse(out.freeze(), &Limits::default())
        .unwrap()
        .to_element()
}

fn reply(stanza: &str) -> Element {
    let mut replies = replies(stanza);
    assert_eq!(replies.len(), 1, "{stanza}");
    replies.remove(0)
}

fn iq(iq_type: &str, payload: &str) -> String {
    format!(
        "<iq type='{iq_type}' id='i1' from='alice@example.test/phone' to='example.test'>{payload}</iq>"
    )
}

fn condition(reply: &Element) -> String {
    assert_eq!(reply.attr("type"), Some("error"), "{reply:?}");
    let error = reply
        .get_child("error", crate::stanza::NAMESPACE)
        .expect("an error");
    error
        .children()
        .find(|e| e.name() != "text")
        .expect("a condition")
        .name()
        .to_owned()
}

#[test]
fn disco_info_names_a_server_and_what_it_answers() {
    let reply = reply(&iq(
        "get",
        "<query xmlns='http://jabber.org/protocol/disco#info'/>",
    ));
    assert_eq!(reply.attr("type"), Some("result"));
    assert_eq!(reply.attr("id"), Some("i1"));
    assert_eq!(reply.attr("from"), Some("example.test"));
    assert_eq!(reply.attr("to"), Some("alice@example.test/phone"));
    let query = reply.get_child("query", ns::DISCO_INFO).unwrap();
    let identity = query.get_child("identity", ns::DISCO_INFO).unwrap();
    assert_eq!(
        (
            identity.attr("category"),
            identity.attr("type"),
            identity.attr("name")
        ),
        (Some("server"), Some("im"), Some("strait"))
    );
    let features: BTreeSet<_> = query.children().filter_map(|e| e.attr("var")).collect();
    assert_eq!(features, FEATURES.into());
}

#[test]
fn every_advertised_feature_is_answered() {
    for (name, namespace) in [
        ("query", ns::DISCO_INFO),
        ("query", ns::DISCO_ITEMS),
        ("ping", ns::PING),
        ("query", ns::VERSION),
    ] {
        assert!(FEATURES.contains(&namespace));
        let reply = reply(&iq("get", &format!("<{name} xmlns='{namespace}'/>")));
        assert_eq!(reply.attr("type"), Some("result"), "{namespace}");
    }
}

#[test]
fn disco_items_are_the_services_that_the_asker_may_see() {
    let (muc, bot) = ("muc.example.test", "bot.example.test");
    let (user, nobody) = ("alice@example.test/phone", "somebody@elsewhere.test");
    for (asker, users_can_see_hidden, expected) in [
        (user, true, &[muc, bot][..]),
        (user, false, &[muc]),
        (bot, false, &[muc, bot]),
        ("example.test", false, &[muc, bot]),
        (nobody, true, &[muc, bot]),
        (nobody, false, &[muc]),
    ] {
        let query = "<query xmlns='http://jabber.org/protocol/disco#items'/>";
        let iq = iq("get", query).replace(user, asker);
        let Answer::Reply(replies) = answer_where(&iq, users_can_see_hidden) else {
            panic!("{asker} gets no reply")
        };
        let reply = written(&replies[0]);
        assert_eq!(reply.attr("to"), Some(asker));
        let query = reply.get_child("query", ns::DISCO_ITEMS).unwrap();
        let items: Vec<_> = query.children().filter_map(|e| e.attr("jid")).collect();
        assert_eq!(items, expected, "{asker}, {users_can_see_hidden}");
    }
}

#[test]
fn an_unknown_node_is_not_found() {
    for namespace in [ns::DISCO_INFO, ns::DISCO_ITEMS] {
        let reply = reply(&iq(
            "get",
            &format!("<query xmlns='{namespace}' node='x'/>"),
        ));
        assert_eq!(condition(&reply), "item-not-found");
        assert_eq!(reply.attr("id"), Some("i1"));
        assert_eq!(reply.attr("from"), Some("example.test"));
        assert_eq!(reply.attr("to"), Some("alice@example.test/phone"));
    }
}

#[test]
fn ping_gets_an_empty_result_from_the_address_it_was_sent_to() {
    let reply = reply(
        "<iq type='get' id='p' from='alice@example.test/phone' to='example.test/x'>\
         <ping xmlns='urn:xmpp:ping'/></iq>",
    );
    assert_eq!(reply.attr("type"), Some("result"));
    assert_eq!(reply.attr("from"), Some("example.test/x"));
    assert_eq!(reply.children().count(), 0);
}

#[test]
fn version_tells_ours_and_no_operating_system() {
    let reply = reply(&iq("get", "<query xmlns='jabber:iq:version'/>"));
    let query = reply.get_child("query", ns::VERSION).unwrap().clone();
    assert_eq!(
        VersionResult::try_from(query).unwrap(),
        VersionResult {
            name: "strait".to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            os: None,
        }
    );
}

#[test]
fn other_requests_are_unavailable() {
    for stanza in [
        iq("get", "<query xmlns='urn:nobody:knows'/>"),
        iq("get", "<query xmlns='jabber:iq:roster'/>"),
        iq("set", "<ping xmlns='urn:xmpp:ping'/>"),
        iq("set", "<query xmlns='jabber:iq:version'/>"),
    ] {
        assert_eq!(
            condition(&reply(&stanza)),
            "service-unavailable",
            "{stanza}"
        );
    }
}

#[test]
fn malformed_requests_are_bad() {
    for stanza in [
        iq("get", ""),
        iq(
            "get",
            "<ping xmlns='urn:xmpp:ping'/><ping xmlns='urn:xmpp:ping'/>",
        ),
        iq("push", "<ping xmlns='urn:xmpp:ping'/>"),
    ] {
        assert_eq!(condition(&reply(&stanza)), "bad-request", "{stanza}");
    }
}

#[test]
fn what_must_not_be_answered_is_absorbed() {
    let from_to = "from='alice@example.test/phone' to='example.test'";
    for stanza in [
        iq("result", ""),
        iq("error", "<error type='cancel'/>"),
        format!("<message type='error' {from_to}/>"),
        format!("<presence {from_to}/>"),
        format!("<presence type='unavailable' {from_to}/>"),
        format!("<presence type='subscribed' {from_to}/>"),
        format!("<presence type='unsubscribed' {from_to}/>"),
        format!("<presence type='error' {from_to}/>"),
        "<presence to='example.test'/>".to_owned(),
        "<iq type='get' id='a' to='example.test'><ping xmlns='urn:xmpp:ping'/></iq>".to_owned(),
    ] {
        assert!(
            matches!(answer(&stanza), Answer::Absorb(_)),
            "{stanza} got {:?}",
            answer(&stanza)
        );
    }
}

#[test]
fn messages_are_unavailable() {
    let reply = reply(
        "<message type='chat' id='m' from='alice@example.test/phone' to='example.test'>\
         <body>anybody there?</body></message>",
    );
    assert_eq!(condition(&reply), "service-unavailable");
    assert_eq!(reply.attr("id"), Some("m"));
}

const GRANT: &str = "<privilege xmlns='urn:xmpp:privilege:2'>\
    <perm access='roster' type='both'/></privilege>";

#[test]
fn privileges_of_the_shared_domain_are_warned_about() {
    for version in ["1", "2"] {
        let grant = GRANT.replace("privilege:2", &format!("privilege:{version}"));
        match answer(&format!(
            "<message from='example.test' to='example.test'>{grant}</message>"
        )) {
            Answer::Warn(text) => {
                assert!(text.contains("example.test"), "{text}");
                assert!(text.contains("privileged_entities"), "{text}");
            }
            other => panic!("{version}: {other:?}"),
        }
    }
}

#[test]
fn only_the_server_can_cause_that_warning() {
    for sender in [
        "mallory@example.test/x",
        "mallory@example.test",
        "elsewhere.test",
        "example.test/x",
    ] {
        let reply = reply(&format!(
            "<message from='{sender}' to='example.test'>{GRANT}</message>"
        ));
        assert_eq!(condition(&reply), "service-unavailable", "{sender}");
    }
}

/// `(type, from, to)` of each reply.
fn presences(presence_type: &str) -> Vec<(Option<String>, String, String)> {
    replies(&format!(
        "<presence type='{presence_type}' from='alice@example.test/phone' to='example.test/x'/>"
    ))
    .iter()
    .map(|p| {
        let attr = |name| p.attr(name).map(str::to_owned);
        assert_eq!(p.name(), "presence");
        (attr("type"), attr("from").unwrap(), attr("to").unwrap())
    })
    .collect()
}

fn presence(presence_type: Option<&str>, to: &str) -> (Option<String>, String, String) {
    (
        presence_type.map(str::to_owned),
        "example.test".to_owned(),
        to.to_owned(),
    )
}

#[test]
fn the_domain_is_always_available_and_lets_everybody_subscribe() {
    let account = "alice@example.test";
    assert_eq!(
        presences("probe"),
        [presence(None, "alice@example.test/phone")]
    );
    assert_eq!(
        presences("subscribe"),
        [
            presence(Some("subscribed"), account),
            presence(None, account)
        ]
    );
    assert_eq!(
        presences("unsubscribe"),
        [
            presence(Some("unsubscribed"), account),
            presence(Some("unavailable"), account)
        ]
    );
}
