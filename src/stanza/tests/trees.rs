//! Conversion to minidom.

use super::*;

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
fn long_attributes_do_not_hinder() {
    let long = "x".repeat(100_000);
    let stanza = parse(&format!("<iq><a xmlns='u' b='{long}'>{long}</a></iq>"));
    let tree = stanza.unwrap().to_element();
    let a = tree.get_child("a", "u").unwrap();
    assert_eq!((a.attr("b"), a.text()), (Some(&*long), long.clone()));
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
