//! Reading and changing a payload without a tree.

use super::*;
use crate::stanza::{Elements, Replacement};

/// The payload after each `old` in an attribute `a` or in the text of an element `t` has become
/// `new`.
fn renewed(payload: &str) -> String {
    fn old(value: &str) -> Option<Replacement<'static>> {
        let at = value.find("old")?;
        Some((at..at + 3, "new"))
    }
    edited(payload, |element| {
        element.edit_attributes(|name, value| (name == "a").then(|| old(value)).flatten());
        if element.name() == "t" {
            element.edit_text(old);
        }
    })
}

fn edited(payload: &str, edit: impl FnMut(&mut Elements<'_>)) -> String {
    let mut stanza = parse(&format!("<iq>{payload}</iq>")).unwrap();
    stanza.set_payload(stanza.edited_payload(edit));
    let text = written(&stanza);
    assert!(parse(&text).is_ok(), "{text}");
    String::from_utf8(stanza.payload().to_vec()).unwrap()
}

#[test]
fn only_the_replaced_part_changes() {
    for (before, after) in [
        ("<x a='old'/>", "<x a='new'/>"),
        (
            "<x  b='old' a = \"'>old&lt;\" />old",
            "<x  b='old' a = \"'>new&lt;\" />old",
        ),
        (
            "<p:x xmlns:p='u' p:a='old' a='old'/>",
            "<p:x xmlns:p='u' p:a='old' a='new'/>",
        ),
        (
            "<x a='&#x41;&amp;\u{e9}\r\n&#111;ld&#33;'/>",
            "<x a='&#x41;&amp;\u{e9}\r\nnew&#33;'/>",
        ),
        (
            "<x a='old'><x a='old'>a<x/></x></x>b",
            "<x a='new'><x a='new'>a<x/></x></x>b",
        ),
        (
            "<t>an &lt;old&gt;</t><t/>old",
            "<t>an &lt;new&gt;</t><t/>old",
        ),
        ("<t><b/>old</t>", "<t><b/>old</t>"),
        ("<t><![CDATA[old]]></t>", "<t><![CDATA[old]]></t>"),
        (
            "<![CDATA[<x a='old'/>]]><x a='old'/>",
            "<![CDATA[<x a='old'/>]]><x a='new'/>",
        ),
    ] {
        assert_eq!(renewed(before), after);
    }
}

#[test]
fn a_replacement_is_escaped() {
    let after = edited("<x a='1'/>", |element| {
        element.edit_attributes(|_, _| Some((0..1, "<'&\">")));
    });
    assert_eq!(after, "<x a='&lt;&apos;&amp;&quot;&gt;'/>");
}

#[test]
fn an_element_is_removed_with_all_that_is_in_it() {
    for (before, after) in [
        ("<r/>", ""),
        ("<r>a<b/><c>d</c></r>", ""),
        ("1<r><r><b/></r></r>2<k/>3<r/>4", "12<k/>34"),
        ("<k><b/><r><b/></r><b/></k>", "<k><b/><b/></k>"),
        ("]]<r/>>", "]&#93;>"),
        ("]<r/>]<r/><r/>>", "&#93;&#93;>"),
    ] {
        let after_removal = edited(before, |element| {
            if element.name() == "r" {
                element.remove();
            }
        });
        assert_eq!(after_removal, after, "{before}");
    }
}

#[test]
fn namespaces_are_those_in_scope() {
    let stanza = parse(
        "<iq xmlns:p='urn:p' xmlns='jabber:client'><a/><p:b p:x='1' x='2'><c xmlns='ur&#110;:c'/><d/></p:b>\
         <e xmlns='urn:e' xmlns:p='urn:q'><p:f/><g xmlns=''/></e><p:h/></iq>",
    )
    .unwrap();
    let mut elements = stanza.elements();
    for (name, namespace, depth) in [
        ("a", "jabber:component:accept", 1),
        ("b", "urn:p", 1),
        ("c", "urn:c", 2),
        ("d", "jabber:component:accept", 2),
        ("e", "urn:e", 1),
        ("f", "urn:q", 2),
        ("g", "", 2),
        ("h", "urn:p", 1),
    ] {
        assert!(elements.advance(), "{name}");
        assert!(elements.is(name, namespace), "{name}: {elements:?}");
        assert_eq!(elements.namespace(), namespace);
        assert_eq!(elements.depth(), depth, "{name}");
        assert!(!elements.is(name, "urn:other"), "{name}");
        let x = elements.attribute("x");
        assert_eq!(x.as_deref(), (name == "b").then_some("2"), "{name}");
    }
    assert!(!elements.advance());
}
