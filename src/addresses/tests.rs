use std::collections::BTreeSet;

use bytes::{Bytes, BytesMut};
use jid::Jid;
use minidom::rxml::Namespace;
use minidom::{Element, Node};
use proptest::prelude::*;
use xmpp_parsers::ns;

use super::Senders;
use super::*;
use crate::stanza::Limits;

/// The translator of a host with rooms of another name and a bot of the same.
fn translator() -> Translator {
    let host = |name: &str| Host::new(name).unwrap();
    let service = |domain: &str, local: Option<&str>| ServiceConfig {
        domain: host(domain),
        local: local.map(host),
        hidden: false,
    };
    let services = [
        service("muc.example.test", Some("rooms.dc1.test")),
        service("bot.example.test", None),
    ];
    Translator::new(
        host("example.test"),
        host("dc1.test"),
        &services,
        Senders::default(),
    )
}

fn parse(stanza: &str) -> Stanza {
    Stanza::parse(
        Bytes::copy_from_slice(stanza.as_bytes()),
        &Limits::default(),
    )
    .unwrap_or_else(|fault| panic!("{stanza}: {fault}"))
}

fn message(from: &str, to: &str, payload: &str) -> Stanza {
    parse(&format!(
        "<message type='chat' id='m1' from='{from}' to='{to}'>{payload}</message>"
    ))
}

fn outgoing(payload: &str) -> Stanza {
    message("alice@dc1.test/phone", "bob@example.test", payload)
}

fn incoming(payload: &str) -> Stanza {
    message("bob@example.test/desk", "alice@example.test", payload)
}

fn outbound(payload: &str) -> Stanza {
    let mut stanza = outgoing(payload);
    translator().outbound(&mut stanza).unwrap();
    stanza
}

fn inbound(payload: &str) -> Stanza {
    let mut stanza = incoming(payload);
    translator().inbound(&mut stanza).unwrap();
    stanza
}

fn same_bytes(a: &Bytes, b: &Bytes) -> bool {
    a.as_ptr() == b.as_ptr() && a.len() == b.len()
}

fn to(jid: &str) -> Option<Jid> {
    Some(Jid::new(jid).unwrap())
}

/// Payloads, with `{}` where the address is, `{r}` where it has a resource,
/// `{d}` where it is a bare domain.
const PLACES: &[&str] = &[
    "<delay xmlns='urn:xmpp:delay' from='{d}' stamp='2026-11-24T01:52:31Z'/>",
    "<delay xmlns='urn:xmpp:delay' from='{r}' stamp='2026-11-24T01:52:31Z'>Delayed</delay>",
    "<x xmlns='jabber:x:delay' from='{r}' stamp='20261124T01:52:31'/>",
    "<event xmlns='http://jabber.org/protocol/pubsub#event'><items node='n'>\
     <item id='i' publisher='{r}'><x xmlns='urn:x'/></item></items></event>",
    "<event xmlns='http://jabber.org/protocol/pubsub#event'>\
     <subscription node='n' jid='{}' subscription='subscribed'/></event>",
    "<event xmlns='http://jabber.org/protocol/pubsub#event'>\
     <affiliation jid='{}' affiliation='none'/></event>",
    "<pubsub xmlns='http://jabber.org/protocol/pubsub'><subscribe node='n' jid='{}'/>\
     <options node='n' jid='{}'/></pubsub>",
    "<pubsub xmlns='http://jabber.org/protocol/pubsub'><unsubscribe node='n' jid='{}'/></pubsub>",
    "<pubsub xmlns='http://jabber.org/protocol/pubsub'><subscription node='n' jid='{r}'/></pubsub>",
    "<pubsub xmlns='http://jabber.org/protocol/pubsub'>\
     <affiliations><affiliation node='n' jid='{}'/></affiliations></pubsub>",
    "<pubsub xmlns='http://jabber.org/protocol/pubsub'>\
     <items node='n'><item id='i' publisher='{}'/></items></pubsub>",
    "<pubsub xmlns='http://jabber.org/protocol/pubsub#owner'><affiliations node='n'>\
     <affiliation jid='{}' affiliation='owner'/></affiliations></pubsub>",
    "<pubsub xmlns='http://jabber.org/protocol/pubsub#owner'><subscriptions node='n'>\
     <subscription jid='{}' subscription='none'/></subscriptions></pubsub>",
    "<addresses xmlns='http://jabber.org/protocol/address'>\
     <address type='ofrom' jid='{r}'/></addresses>",
    "<query xmlns='http://jabber.org/protocol/disco#items'><item jid='{r}'/></query>",
    "<x xmlns='http://jabber.org/protocol/muc#user'><item affiliation='owner' jid='{r}'>\
     <actor jid='{}'/></item></x>",
    "<x xmlns='http://jabber.org/protocol/muc#user'><invite from='{}' to='{}'>\
     <reason>come</reason></invite></x>",
    "<x xmlns='http://jabber.org/protocol/muc#user'><decline from='{}' to='{}'/></x>",
    "<query xmlns='http://jabber.org/protocol/muc#admin'>\
     <item affiliation='member' jid='{}'><actor jid='{}'/></item></query>",
    "<x xmlns='http://jabber.org/protocol/muc#user'><destroy jid='{}'/></x>",
    "<query xmlns='http://jabber.org/protocol/muc#owner'><destroy jid='{}'/></query>",
    "<x xmlns='jabber:x:conference' jid='{}'/>",
    "<jingle xmlns='urn:xmpp:jingle:1' action='session-initiate' initiator='{r}' responder='{r}'>\
     <content name='c'><transport xmlns='urn:xmpp:jingle:transports:s5b:1'>\
     <candidate cid='1' jid='{r}' host='192.0.2.1'/></transport></content></jingle>",
    "<reply xmlns='urn:xmpp:reply:0' to='{}' id='m0'/>",
    "<reference xmlns='urn:xmpp:reference:0' type='mention' uri='xmpp:{}?message'/>",
    "<vCard xmlns='vcard-temp'><FN>Alice</FN><JABBERID>{}</JABBERID></vCard>",
    "<vcard xmlns='urn:ietf:params:xml:ns:vcard-4.0'><impp><uri>xmpp:{}</uri></impp></vcard>",
    "<sent xmlns='urn:xmpp:carbons:2'><forwarded xmlns='urn:xmpp:forward:0'>\
     <delay xmlns='urn:xmpp:delay' from='{d}'/>\
     <message xmlns='jabber:client' from='{r}' to='{}'><body>hi</body></message></forwarded></sent>",
    "<forwarded xmlns='urn:xmpp:forward:0'><presence xmlns='jabber:client' from='{r}' to='{}'/>\
     <iq xmlns='jabber:client' from='{r}' to='{}' type='get' id='i'/></forwarded>",
    "<forwarded xmlns='urn:xmpp:forward:0'><message xmlns='jabber:client' from='{}'>\
     <error type='cancel' by='{d}'/></message></forwarded>",
    "<query xmlns='http://jabber.org/protocol/bytestreams' sid='s'>\
     <streamhost jid='{r}' host='192.0.2.1' port='7777'/></query>",
    "<query xmlns='http://jabber.org/protocol/bytestreams' sid='s'><streamhost-used jid='{r}'/></query>",
    "<x xmlns='http://jabber.org/protocol/rosterx'><item action='add' jid='{}'/></x>",
    "<query xmlns='jabber:iq:roster'><item jid='{}' subscription='both'/></query>",
    "<block xmlns='urn:xmpp:blocking'><item jid='{}'/></block>",
    "<x xmlns='jabber:x:data' type='form'><field var='a' type='jid-single'><value>{}</value></field>\
     <field var='b' type='jid-multi'><value>{}</value><value>{r}</value></field></x>",
    "<error type='cancel' by='{d}'>\
     <gone xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error>",
];

fn fill(place: &str, domain: &str) -> String {
    place
        .replace("{}", &format!("carol@{domain}"))
        .replace("{r}", &format!("carol@{domain}/r é"))
        .replace("{d}", domain)
}

#[test]
fn local_addresses_become_global_in_every_place() {
    assert!(PLACES.len() > 30);
    for place in PLACES {
        let before = fill(place, "dc1.test");
        let expected = outgoing(&fill(place, "example.test"));
        let after = outbound(&before);
        assert_eq!(
            after.to_element().children().collect::<Vec<_>>(),
            expected.to_element().children().collect::<Vec<_>>(),
            "{before}"
        );
        let text = String::from_utf8(after.payload().to_vec()).unwrap();
        assert!(!text.contains("dc1.test"), "{text}");
    }
}

#[test]
fn local_addresses_of_services_become_global_in_every_place() {
    for place in PLACES {
        let after = outbound(&fill(place, "rooms.dc1.test"));
        let expected = outgoing(&fill(place, "muc.example.test"));
        assert_eq!(
            after.to_element().children().collect::<Vec<_>>(),
            expected.to_element().children().collect::<Vec<_>>(),
            "{place}"
        );
    }
}

#[test]
fn every_row_of_the_table_has_an_example() {
    fn collect(element: &Element, found: &mut BTreeSet<String>) {
        for ((_, name), value) in element.attrs() {
            if value.contains("dc1.test") {
                found.insert(format!("{} {}/@{name}", element.ns(), element.name()));
            }
        }
        element.children().for_each(|child| collect(child, found));
    }
    let mut found = BTreeSet::new();
    for place in PLACES {
        let tree = message("joe@a.test", "bob@a.test", &fill(place, "dc1.test")).to_element();
        collect(&tree, &mut found);
    }
    let rows: BTreeSet<String> = places::attributes().collect();
    let missing: Vec<_> = rows.symmetric_difference(&found).collect();
    assert!(missing.is_empty(), "on one side only: {missing:?}");
}

#[test]
fn addresses_elsewhere_are_untouched_in_every_place() {
    for domain in [
        "example.test",
        "elsewhere.test",
        "conference.dc1.test",
        "dc1.test.org",
    ] {
        for place in PLACES {
            let before = outgoing(&fill(place, domain));
            let mut after = before.clone();
            translator().outbound(&mut after).unwrap();
            assert!(
                same_bytes(before.payload(), after.payload()),
                "{place} at {domain}"
            );
        }
    }
}

#[test]
fn a_second_translation_changes_nothing() {
    for place in PLACES {
        let once = outbound(&fill(place, "dc1.test"));
        let mut twice = once.clone();
        translator().outbound(&mut twice).unwrap();
        assert_eq!(once.from(), twice.from());
        assert!(same_bytes(once.payload(), twice.payload()), "{place}");
    }
}

#[test]
fn what_is_not_an_address_stays_byte_for_byte() {
    for payload in [
        "",
        "<body>hi</body>",
        "<body>write to alice@dc1.test</body>",
        "<subject>dc1.test</subject><thread>alice@dc1.test</thread>",
        "<status>at dc1.test</status>",
        "<c xmlns='http://jabber.org/protocol/caps' hash='sha-1' node='dc1.test' ver='dc1.test'/>",
        "<item xmlns='urn:other' jid='alice@dc1.test'/>",
        "<query xmlns='jabber:iq:roster'><item name='alice@dc1.test' jid='bob@example.test'/></query>",
        "<query xmlns='jabber:iq:roster'><item xmlns:p='urn:p' p:jid='alice@dc1.test'/></query>",
        "<encrypted xmlns='eu.siacs.conversations.axolotl'><payload>dc1.test</payload></encrypted>",
        "<x xmlns='http://jabber.org/protocol/muc#user'><invite from='bob@example.test'>\
         <reason>alice@dc1.test asks</reason></invite></x>",
        "<html xmlns='http://jabber.org/protocol/xhtml-im'><body xmlns='http://www.w3.org/1999/xhtml'>\
         <a href='xmpp:alice@dc1.test'>alice@dc1.test</a></body></html>",
        "<x xmlns='jabber:x:data'><field var='a' type='text-single'><value>alice@dc1.test</value>\
         </field></x>",
        "<vCard xmlns='vcard-temp'><DESC>alice@dc1.test</DESC></vCard>",
        "<origin-id xmlns='urn:xmpp:sid:0' id='alice@dc1.test'/>",
        "<stanza-id xmlns='urn:xmpp:sid:0' by='room@conference.dc1.test' id='1'/>",
        "<stanza-id xmlns='urn:other' by='alice@dc1.test' id='1'/>",
        "<reference xmlns='urn:xmpp:reference:0' type='data' uri='https://dc1.test/file'/>",
    ] {
        let before = outgoing(payload);
        let mut after = before.clone();
        translator().outbound(&mut after).unwrap();
        assert!(same_bytes(before.payload(), after.payload()), "{payload}");
    }
}

#[test]
fn the_text_beside_an_address_stays() {
    let after = outbound(
        "<body>from alice@dc1.test &lt;3</body><delay xmlns='urn:xmpp:delay' from='dc1.test'/>",
    );
    let tree = after.to_element();
    let body = tree.get_child("body", crate::stanza::NAMESPACE).unwrap();
    assert_eq!(body.text(), "from alice@dc1.test <3");
    assert_eq!(
        tree.get_child("delay", "urn:xmpp:delay")
            .unwrap()
            .attr("from"),
        Some("example.test")
    );
}

#[test]
fn addresses_in_other_spellings_are_found() {
    let after = outbound("<reply xmlns='urn:xmpp:reply:0' to='Alice@DC1.Test/Phone' id='x'/>");
    assert_eq!(
        after
            .to_element()
            .get_child("reply", "urn:xmpp:reply:0")
            .unwrap()
            .attr("to"),
        Some("Alice@example.test/Phone"),
        "normalising could make it longer"
    );
}

#[test]
fn the_sender_becomes_global() {
    for (before, after) in [
        ("alice@dc1.test/phone", "alice@example.test/phone"),
        ("alice@dc1.test", "alice@example.test"),
        ("dc1.test", "example.test"),
        ("room@conference.dc1.test/x", "room@conference.dc1.test/x"),
        ("room@rooms.dc1.test/nick", "room@muc.example.test/nick"),
        ("rooms.dc1.test", "muc.example.test"),
        ("bot.example.test", "bot.example.test"),
        ("joe@elsewhere.test", "joe@elsewhere.test"),
    ] {
        let mut stanza = message(before, "bob@example.test/desk", "<body>hi</body>");
        translator().outbound(&mut stanza).unwrap();
        assert_eq!(stanza.from(), to(after).as_ref());
        assert_eq!(stanza.to(), to("bob@example.test/desk").as_ref());
        assert_eq!(stanza.id().as_deref(), Some("m1"));
    }
}

#[test]
fn the_recipient_becomes_local() {
    for (before, after) in [
        ("alice@example.test/phone", "alice@dc1.test/phone"),
        ("alice@example.test", "alice@dc1.test"),
        ("example.test", "dc1.test"),
        ("joe@elsewhere.test", "joe@elsewhere.test"),
        ("room@muc.example.test/nick", "room@rooms.dc1.test/nick"),
        ("room@chat.example.test", "room@chat.example.test"),
        ("bot.example.test", "bot.example.test"),
    ] {
        let mut stanza = message("bob@example.test/desk", before, "<body>hi</body>");
        translator().inbound(&mut stanza).unwrap();
        assert_eq!(stanza.to(), to(after).as_ref());
        assert_eq!(stanza.from(), to("bob@example.test/desk").as_ref());
    }
}

#[test]
fn missing_addresses_are_refused() {
    for stanza in [
        "<message to='alice@example.test'/>",
        "<message from='alice@dc1.test'/>",
        "<message from='alice@example.test'/>",
        "<message/>",
    ] {
        let translator = translator();
        for refusal in [
            translator.outbound(&mut parse(stanza)),
            translator.inbound(&mut parse(stanza)),
        ] {
            assert_eq!(refusal.unwrap_err().reason, Reason::BadAddress, "{stanza}");
        }
    }
}

#[test]
fn foreign_senders_are_refused() {
    for sender in [
        "joe@elsewhere.test/x",
        "mallory@dc1.test/x",
        "bob@dc2.test",
        "room@rooms.dc1.test",
        "example.test.evil.test",
        "evilexample.test",
    ] {
        let before = message(sender, "alice@example.test", "");
        let mut stanza = before.clone();
        let refusal = translator().inbound(&mut stanza).unwrap_err();
        assert_eq!(refusal.reason, Reason::ForeignSender, "{sender}");
        assert!(
            refusal.text.contains("component.foreign_from"),
            "{refusal:?}"
        );
        assert!(!refusal.text.contains("dc1.test"), "{refusal:?}");
        assert_eq!(
            stanza.to(),
            before.to(),
            "a refused stanza is left as it was"
        );
    }
}

#[test]
fn services_below_the_shared_domain_are_no_foreign_senders() {
    for sender in [
        "room@chat.example.test/nick",
        "a.b.example.test",
        "muc.example.test",
    ] {
        let mut stanza = message(sender, "alice@example.test", "");
        translator().inbound(&mut stanza).unwrap();
        assert_eq!(stanza.from(), to(sender).as_ref());
        assert_eq!(stanza.to(), to("alice@dc1.test").as_ref());
    }
}

#[test]
fn our_servers_names_are_nobody_elses_even_below_the_shared_domain() {
    let host = |name: &str| Host::new(name).unwrap();
    let services = [ServiceConfig {
        domain: host("muc.example.test"),
        local: Some(host("rooms.dc1.example.test")),
        hidden: false,
    }];
    let translator = Translator::new(
        host("example.test"),
        host("dc1.example.test"),
        &services,
        Senders::default(),
    );
    for sender in [
        "mallory@dc1.example.test/x",
        "room@rooms.dc1.example.test/nick",
    ] {
        let mut stanza = message(sender, "alice@example.test", "");
        let refusal = translator.inbound(&mut stanza).unwrap_err();
        assert_eq!(refusal.reason, Reason::ForeignSender, "{sender}");
    }
}

#[test]
fn a_service_without_a_local_name_cannot_write_to_its_own_server_through_us() {
    let mut stanza = message("bot.example.test", "alice@example.test", "");
    let refusal = translator().inbound(&mut stanza).unwrap_err();
    assert_eq!(refusal.reason, Reason::ForeignSender);
    assert!(refusal.text.contains("[[services]]"), "{refusal:?}");
}

#[test]
fn a_room_keeps_its_own_archives_ids_under_its_global_name() {
    let payload = "<body>hi</body><stanza-id xmlns='urn:xmpp:sid:0' by='room@rooms.dc1.test' id='1'/>\
        <stanza-id xmlns='urn:xmpp:sid:0' by='alice@dc1.test' id='2'/>";
    let mut out = message(
        "room@rooms.dc1.test/nick",
        "alice@example.test/phone",
        payload,
    );
    translator().outbound(&mut out).unwrap();
    let by = |stanza: &Stanza| {
        let tree = stanza.to_element();
        let id = tree.get_child("stanza-id", "urn:xmpp:sid:0");
        id.and_then(|id| id.attr("by")).map(str::to_owned)
    };
    assert_eq!(names_and_ids(&out), ["body:", "stanza-id:1"]);
    assert_eq!(by(&out).as_deref(), Some("room@muc.example.test"));
    // The way back, to a user at the same host.
    let before = out.clone();
    translator().inbound(&mut out).unwrap();
    assert!(same_bytes(before.payload(), out.payload()));

    // No other entity may name the room's archive.
    let after = outbound(payload);
    assert_eq!(names_and_ids(&after), ["body:"]);
    for by in [
        "room@muc.example.test",
        "room@rooms.dc1.test",
        "bot.example.test",
    ] {
        let forged = format!("<stanza-id xmlns='urn:xmpp:sid:0' by='{by}' id='1'/><body>hi</body>");
        assert_eq!(names_and_ids(&inbound(&forged)), ["body:"], "{by}");
    }
}

/// ejabberd's rooms write this form beside the `<stanza-id/>`.
#[test]
fn the_older_form_of_an_archive_id_is_the_same() {
    let own = "<archived xmlns='urn:xmpp:mam:tmp' by='room@rooms.dc1.test' id='1'/>";
    let mut out = message("room@rooms.dc1.test/nick", "bob@example.test/desk", own);
    translator().outbound(&mut out).unwrap();
    let tree = out.to_element();
    let id = tree.get_child("archived", "urn:xmpp:mam:tmp").unwrap();
    assert_eq!(id.attr("by"), Some("room@muc.example.test"));

    let alices = "<body>hi</body><archived xmlns='urn:xmpp:mam:tmp' by='alice@dc1.test' id='1'/>";
    assert_eq!(names_and_ids(&outbound(alices)), ["body:"]);
    assert_eq!(names_and_ids(&inbound(alices)), ["body:"]);
}

#[test]
fn our_archives_ids_go_out_nowhere() {
    let after = outbound(
        "<body>hi</body><stanza-id xmlns='urn:xmpp:sid:0' by='alice@dc1.test' id='1'/>\
         <stanza-id xmlns='urn:xmpp:sid:0' by='room@muc.example.test' id='2'/>\
         <origin-id xmlns='urn:xmpp:sid:0' id='3'/>",
    );
    let names: Vec<_> = names_and_ids(&after);
    assert_eq!(names, ["body:", "stanza-id:2", "origin-id:3"]);
}

#[test]
fn forged_archive_ids_do_not_come_in() {
    for by in [
        "alice@dc1.test",
        "alice@example.test",
        "dc1.test",
        "Alice@DC1.test",
        "alice@dc1&#46;test",
        "alice@&#x64;c1.test",
        "alice@ｄｃ１.test",
    ] {
        let after = inbound(&format!(
            "<stanza-id xmlns='urn:xmpp:sid:0' by='{by}' id='1'/><body>hi</body>\
             <s:stanza-id xmlns:s='urn:xmpp:sid:0' by='{by}' id='2'/>"
        ));
        assert_eq!(names_and_ids(&after), ["body:"], "{by}");
    }
}

#[test]
fn other_payloads_come_in_byte_for_byte() {
    for payload in [
        "<body>hi</body>",
        "<body>stanza-id of alice@dc1.test &#38; größer</body>",
        "<reply xmlns='urn:xmpp:reply:0' to='alice@example.test' id='x'/>",
        "<delay xmlns='urn:xmpp:delay' from='alice@dc1.test'/>",
        "<stanza-id xmlns='urn:xmpp:sid:0' by='room@chat.example.test' id='1'/><body>hi</body>",
        "<stanza-id xmlns='urn:xmpp:sid:0' by='joe@elsewhere.test' id='1'/><body>größer</body>",
        "<jingle xmlns='urn:xmpp:jingle:1' initiator='bob@example.test/d' responder='alice@example.test/p'/>",
    ] {
        let before = incoming(payload);
        let mut after = before.clone();
        translator().inbound(&mut after).unwrap();
        assert!(same_bytes(before.payload(), after.payload()), "{payload}");
    }
}

#[test]
fn what_goes_out_and_comes_back_reaches_its_sender() {
    let there = outbound("<body>hi</body>");
    let mut back = message(
        there.to().unwrap().as_str(),
        there.from().unwrap().as_str(),
        "<body>hi yourself</body>",
    );
    translator().inbound(&mut back).unwrap();
    let mut out = BytesMut::new();
    back.write_to(&mut out);
    let written = parse(std::str::from_utf8(&out).unwrap());
    assert_eq!(written.to(), to("alice@dc1.test/phone").as_ref());
    assert_eq!(written.from(), to("bob@example.test").as_ref());
}

/// `name:id` of each child.
fn names_and_ids(stanza: &Stanza) -> Vec<String> {
    stanza
        .to_element()
        .children()
        .map(|e| format!("{}:{}", e.name(), e.attr("id").unwrap_or_default()))
        .collect()
}

/// The same translation of a payload as a tree.
fn translated(tree: &mut Element, rename: &Rename) {
    let renamed = |text: &str| {
        let (domain, to) = rename.domain(text)?;
        Some([&text[..domain.start], to, &text[domain.end..]].concat())
    };
    let rename_text = |element: &mut Element| {
        if let Some(text) = renamed(&element.text()) {
            element.take_nodes();
            element.append_node(Node::Text(text));
        }
    };
    for mut node in tree.take_nodes() {
        if let Some(element) = node.as_element_mut() {
            if ["stanza-id", "archived"].contains(&element.name())
                && [ns::SID, "urn:xmpp:mam:tmp"].contains(&&*element.ns())
                && element.attr("by").and_then(renamed).is_some()
            {
                continue;
            }
            for row in places::attributes() {
                let (place, attribute) = row.split_once("/@").unwrap();
                let (namespace, name) = place.split_once(' ').unwrap();
                if element.is(name, namespace)
                    && let Some(value) = element.attrs_mut().get_mut(&Namespace::NONE, attribute)
                {
                    *value = renamed(value).unwrap_or_else(|| value.clone());
                }
            }
            if element.is("JABBERID", ns::VCARD)
                || element.is("uri", "urn:ietf:params:xml:ns:vcard-4.0")
            {
                rename_text(element);
            }
            if element.is("field", ns::DATA_FORMS)
                && element
                    .attr("type")
                    .is_some_and(|field| field.starts_with("jid-"))
            {
                let values = element
                    .children_mut()
                    .filter(|e| e.is("value", ns::DATA_FORMS));
                values.for_each(rename_text);
            }
            translated(element, rename);
        }
        tree.append_node(node);
    }
}

fn address() -> impl Strategy<Value = String> {
    let domain = prop::sample::select(vec![
        "dc1.test",
        "DC1.test",
        "dc1.test.",
        "rooms.dc1.test",
        "x.dc1.test",
        "example.test",
        " dc1.test ",
    ]);
    let local = prop::sample::select(vec![
        "",
        "Alice@",
        "a&apos;b@",
        "&#x41;@",
        "&amp;@",
        "xmpp:b@",
        "b@b@",
    ]);
    let resource = prop::sample::select(vec![
        "",
        "/R",
        "/a/b@dc1.test",
        "/&gt;&#xe9;>",
        "?x#y",
        "/\u{fdfa}",
        "/\t",
    ]);
    (local, domain, resource).prop_map(|parts| [parts.0, parts.1, parts.2].concat())
}

/// An element like those in the table, and like others.
fn element() -> impl Strategy<Value = String> {
    let places = places::attributes()
        .map(|row| row.replace("/@", " "))
        .chain([
            "urn:xmpp:sid:0 stanza-id by".to_owned(),
            "urn:xmpp:mam:tmp archived by".to_owned(),
            "vcard-temp JABBERID x".to_owned(),
            "jabber:x:data value x".to_owned(),
            "urn:other item jid".to_owned(),
        ])
        .collect::<Vec<_>>();
    let leaf = (prop::sample::select(places), address(), any::<[bool; 3]>());
    let leaf = leaf.prop_map(|(place, address, [quote, prefixed, text])| {
        let [namespace, name, attribute] = *place.split(' ').collect::<Vec<_>>() else {
            panic!("{place}")
        };
        let quote = if quote { '"' } else { '\'' };
        let (prefix, colon) = if prefixed { ("p:", ":p") } else { ("", "") };
        let attribute = format!("{attribute} = {quote}{address}{quote} p:{attribute}='dc1.test'");
        let text = if text { &*address } else { "" };
        format!("<{prefix}{name} xmlns{colon}='{namespace}' {attribute}>{text}</{prefix}{name}>")
    });
    leaf.prop_recursive(4, 24, 4, |inner| {
        let wrapper = prop::sample::select(vec![
            "<x>|</x>",
            "<forwarded xmlns='urn:xmpp:forward:0'>|</forwarded>",
            "<x xmlns='jabber:x:data'><field type='jid-multi'><required/>|</field></x>",
            "<x xmlns='http://jabber.org/protocol/muc#user'>|<item jid='dc1.test'/></x>",
            "<p:query xmlns:p='jabber:iq:roster'>|<p:item jid='dc1.test'/><![CDATA[<item]]></p:query>",
        ]);
        (wrapper, prop::collection::vec(inner, 0..4))
            .prop_map(|(wrapper, children)| wrapper.replace('|', &children.concat()))
    })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(500) })]

    #[test]
    fn a_splice_means_what_the_tree_means(elements in prop::collection::vec(element(), 1..5)) {
        let payload = elements.concat();
        let before = parse(&format!(
            "<message xmlns:p='urn:p' from='alice@dc1.test/phone' to='bob@example.test'>{payload}</message>"
        ));
        let mut after = before.clone();
        translator().outbound(&mut after).unwrap();
        let mut tree = before.to_element();
        translated(&mut tree, &translator().outward);
        let written = after.to_element();
        prop_assert!(written.nodes().eq(tree.nodes()), "{payload}\n{after:?}");
        let names = payload.to_ascii_lowercase().matches("dc1.test").count();
        prop_assert!(after.payload().len() <= payload.len() + names * "muc.example.test".len());
    }
}

/// A namespace for each of many elements to refer to.
fn hostile(length: usize, escaped: bool) -> Stanza {
    let mut namespace = "urn:dc1.test/".repeat(length / 2 / 13);
    if escaped {
        namespace.push_str("&amp;");
    }
    let item = "<p:item jid='a@dc1.test'/>";
    let items = item.repeat(length / 2 / item.len());
    parse(&format!(
        "<message xmlns:p='{namespace}' from='alice@dc1.test/phone' to='bob@example.test'>\
         {items}<delay xmlns='urn:xmpp:delay' from='dc1.test'/></message>"
    ))
}

#[test]
fn a_long_namespace_costs_its_length_once() {
    for escaped in [false, true] {
        let before = hostile(500_000, escaped);
        let mut after = before.clone();
        translator().outbound(&mut after).unwrap();
        let grown = "example.test".len() - "dc1.test".len();
        assert_eq!(after.payload().len(), before.payload().len() + grown);
    }
}

#[test]
fn a_field_within_a_field_ends_before_it() {
    let nested = "<x xmlns='jabber:x:data'><field type='jid-multi'><field type='jid-multi'/>\
                  <value>dc1.test</value></field><value>dc1.test</value></x>";
    let after = outbound(nested);
    let expected = nested.replacen("<value>dc1.test", "<value>example.test", 1);
    assert_eq!(after.payload(), &expected);
}
