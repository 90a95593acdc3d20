//! The start tag: reading it, and writing it again.

use std::borrow::Cow;

use jid::Jid;

use super::*;
use crate::stanza::Kind;

fn jid(jid: &str) -> Jid {
    Jid::new(jid).unwrap()
}

#[test]
fn the_start_tag_is_read() {
    let stanza = parse(
        "<presence from='A@B.c/R &amp; R' to=\"d.e\" type='unavailable' id='&lt;1&gt;'>\
         <status>bye</status></presence>",
    )
    .unwrap();
    assert_eq!(stanza.kind(), Kind::Presence);
    assert_eq!(stanza.from(), Some(&jid("a@b.c/R & R")));
    assert_eq!(stanza.to(), Some(&jid("d.e")));
    assert_eq!(stanza.stanza_type(), Some("unavailable"));
    assert_eq!(stanza.id(), Some(Cow::Borrowed("<1>")));
    assert_eq!(stanza.payload(), "<status>bye</status>");

    let bare = parse("<message></message>").unwrap();
    assert_eq!((bare.from(), bare.to()), (None, None));
    assert_eq!((bare.stanza_type(), bare.id()), (None, None));
    assert_eq!(written(&bare), "<message/>");
}

#[test]
fn a_type_can_not_hide_behind_a_reference() {
    let stanza = parse("<message type='er&#114;or'/>").unwrap();
    assert_eq!(stanza.stanza_type(), Some("error"));
    assert!(!stanza.may_be_answered_with_error());
}

#[test]
fn all_attributes_but_xmlns_keep_order_and_spelling() {
    let tag = "<message xml:lang=\"de\" foo = 'a>\"b&#9;' xmlns:z='urn:z' id='1' z:q='/'";
    let stanza = parse(&format!("{tag} xmlns='jabber:client' ><z:a/></message>")).unwrap();
    assert_eq!(written(&stanza), format!("{tag}><z:a/></message>"));
}

#[test]
fn addresses_are_written_normalised_and_escaped_in_their_place() {
    let stanza =
        "<iq from=\"ROMEO@Example.COM/it's\" id='1' to='a@b.c/&lt;&quot;&amp;&gt;' type='get'/>";
    assert_eq!(
        written(&parse(stanza).unwrap()),
        "<iq from='romeo@example.com/it&apos;s' id='1' \
         to='a@b.c/&lt;&quot;&amp;&gt;' type='get'/>"
    );
}

#[test]
fn addresses_can_be_replaced_and_added() {
    let mut stanza = parse("<message id='1' to='a@b.c'><body>x</body></message>").unwrap();
    stanza.set_to(jid("d@e.f/\"'<&>"));
    stanza.set_from(jid("g@h.i"));
    assert_eq!(
        (stanza.to(), stanza.from()),
        (Some(&jid("d@e.f/\"'<&>")), Some(&jid("g@h.i")))
    );
    let text = written(&stanza);
    assert_eq!(
        text,
        "<message id='1' to='d@e.f/&quot;&apos;&lt;&amp;&gt;' from='g@h.i'><body>x</body></message>"
    );
    assert_eq!(written(&parse(&text).unwrap()), text);
}

#[test]
fn the_payload_is_never_touched() {
    for payload in [
        "<body>a</body>",
        " text \r\n<a  b = \"c\" ><d></d ></a >\t",
        "<![CDATA[</message>]]>&#x41;&amp;",
        "<body xmlns='jabber:client'/>",
    ] {
        let stanza = parse(&format!("<message>{payload}</message>")).unwrap();
        assert_eq!(stanza.payload(), payload);
        assert_eq!(written(&stanza), format!("<message>{payload}</message>"));
    }
}

#[test]
fn a_stanza_is_built_from_its_parts() {
    let ping = "<ping xmlns='urn:xmpp:ping'/>".parse().unwrap();
    let to = jid("dc1.example.com");
    let stanza = Stanza::new(
        Kind::Iq,
        Some("get"),
        Some("a'\n<\0"),
        None,
        Some(to),
        &[ping],
    );
    assert_eq!(stanza.stanza_type(), Some("get"));
    assert_eq!(stanza.id().as_deref(), Some("a'\n<\u{fffd}"));
    let text = written(&stanza);
    assert_eq!(
        text,
        "<iq type='get' id='a&apos;&#10;&lt;\u{fffd}' to='dc1.example.com'>\
         <ping xmlns='urn:xmpp:ping'/></iq>"
    );
    assert_eq!(written(&parse(&text).unwrap()), text);
    let least = Stanza::new(Kind::Presence, None, None, None, None, &[]);
    assert_eq!(written(&least), "<presence/>");
}
