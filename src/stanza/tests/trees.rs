//! Conversion to minidom and back.

use minidom::Element;

use super::*;

fn round_trip(stanza: &str) -> String {
    let mut stanza = parse(stanza).unwrap();
    let before = stanza.to_element();
    stanza.set_payload_from(&before);
    assert_eq!(stanza.to_element(), before, "the same tree");
    let text = written(&stanza);
    assert!(parse(&text).is_ok(), "{text}");
    text
}

#[test]
fn a_stanza_becomes_a_tree_in_the_components_namespace() {
    let stanza = parse(
        "<message xmlns='jabber:client' to='a@b.c' xml:lang='de'><body>x&amp;<![CDATA[<y>]]></body>\
         <a xmlns='u'/></message>",
    );
    let tree = stanza.unwrap().to_element();
    assert!(tree.is("message", "jabber:component:accept"));
    assert_eq!(tree.attr("to"), Some("a@b.c"));
    assert!(tree.has_child("a", "u"));
    let body = tree.get_child("body", "jabber:component:accept").unwrap();
    assert_eq!(body.text(), "x&<y>");
}

#[test]
fn the_stanzas_own_children_stay_without_namespace_and_prefix() {
    for stanza in [
        "<message to='a@b.c'><body>x</body><body xml:lang='en'>y</body><subject/></message>",
        "<presence><show>xa</show><status>a b</status><priority>7</priority></presence>",
        "<iq type='error'><error code='503' type='cancel'><service-unavailable \
         xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error></iq>",
        "<message>text<a xmlns='u'><b><c xmlns='v'/></b></a>&lt;more&gt;</message>",
        "<message><f xmlns='urn:xmpp:forward:0'><message xmlns='jabber:client' to='a@b.c'>\
         <body>x</body></message></f></message>",
    ] {
        assert_eq!(round_trip(stanza), stanza);
    }
    assert_eq!(
        round_trip("<message xmlns='jabber:client'><body><![CDATA[<&]]></body></message>"),
        "<message><body>&lt;&amp;</body></message>"
    );
}

#[test]
fn prefixes_survive_in_meaning() {
    for (stanza, expected) in [
        (
            "<iq><p:x p:a='v' xmlns:p='urn:p'><p:y/><y xmlns=''/></p:x></iq>",
            "<iq><x xmlns='urn:p' xmlns:p='urn:p' p:a='v'><y/><y xmlns=''/></x></iq>",
        ),
        (
            "<iq xmlns:p='urn:p'><p:x p:a='v'><b c='p:d'/></p:x></iq>",
            "<iq xmlns:p='urn:p'><x xmlns='urn:p' xmlns:ns0='urn:p' ns0:a='v'>\
             <b xmlns='jabber:component:accept' c='p:d'/></x></iq>",
        ),
        // A prefix that is declared twice; minidom's own writer panics on it.
        (
            "<iq xmlns:p='a'><x xmlns:p='b' p:k=''><y xmlns:p='c' xmlns:q='b' p:k='' q:k=''/>\
             </x></iq>",
            "<iq xmlns:p='a'><x xmlns:p='b' p:k=''><y xmlns:p='c' xmlns:q='b' q:k='' p:k=''/>\
             </x></iq>",
        ),
        (
            "<iq><x xmlns:ns0='a' xmlns:q='b' q:k=''><y xmlns:q='c' q:k='' ns0:k=''/></x></iq>",
            "<iq><x xmlns:ns0='a' xmlns:q='b' q:k=''><y xmlns:q='c' ns0:k='' q:k=''/></x></iq>",
        ),
    ] {
        assert_eq!(round_trip(stanza), expected);
    }
}

#[test]
fn a_payload_may_come_from_any_tree() {
    let mut stanza = parse("<message to='a@b.c'><body>old</body></message>").unwrap();
    let tree: Element = "<other xmlns='jabber:client'><body>new</body>\
                         <body xmlns='jabber:client' a='&#10;'>too</body></other>"
        .parse()
        .unwrap();
    stanza.set_payload_from(&tree);
    assert_eq!(
        written(&stanza),
        "<message to='a@b.c'><body>new</body><body a='&#10;'>too</body></message>"
    );
    stanza.set_payload_from(&Element::bare("message", "jabber:component:accept"));
    assert_eq!(written(&stanza), "<message to='a@b.c'/>");
}

#[test]
fn long_attributes_do_not_hinder() {
    let long = "x".repeat(100_000);
    let stanza = format!("<iq><a xmlns='u' b='{long}'>{long}</a></iq>");
    assert_eq!(round_trip(&stanza), stanza);
}

#[test]
fn carriage_returns_are_the_line_ends_that_they_mean() {
    let stanza = parse("<iq a='\ré'>x\r\ny\rz&#13;\r<b xmlns='u' c='\r\n\rd'/></iq>").unwrap();
    let tree = stanza.to_element();
    assert_eq!(tree.attr("a"), Some(" é"));
    assert_eq!(tree.text(), "x\ny\nz\r\n");
    let b = tree.get_child("b", "u").unwrap();
    assert_eq!(b.attr("c"), Some("  d"));
}
