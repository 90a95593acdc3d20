//! Writes elements of the gateway's own as the payload of a stanza.
//!
//! minidom's writer would repeat the namespace that the payload inherits from the stream.

use bytes::Bytes;
use minidom::{Element, Node};

use super::NAMESPACE;
use super::text::{Place, escape};

const XML_NAMESPACE: &str = "http://www.w3.org/XML/1998/namespace";

/// Writes `elements`, without `xmlns` where they are in [`NAMESPACE`]. Of the prefixes, only
/// `xml` is written.
pub(super) fn write(elements: &[Element]) -> Bytes {
    let mut out = Vec::new();
    for element in elements {
        write_element(&mut out, element, NAMESPACE);
    }
    out.into()
}

/// Writes `element` at a place where elements without `xmlns` are in the namespace `default`.
fn write_element(out: &mut Vec<u8>, element: &Element, default: &str) {
    let (name, namespace) = (element.name(), element.ns());
    out.extend([b"<", name.as_bytes()].concat());
    if namespace != default {
        write_attribute(out, "", "xmlns", &namespace);
    }
    for ((uri, name), value) in element.attrs() {
        debug_assert!(["", XML_NAMESPACE].contains(&&**uri), "{uri} has no prefix");
        write_attribute(out, if uri.is_empty() { "" } else { "xml:" }, name, value);
    }
    if element.nodes().next().is_none() {
        out.extend(b"/>");
        return;
    }
    out.extend(b">");
    for node in element.nodes() {
        match node {
            Node::Element(child) => write_element(out, child, &namespace),
            Node::Text(text) => escape(text, Place::Content, |piece| out.extend(piece)),
        }
    }
    out.extend([b"</", name.as_bytes(), b">"].concat());
}

fn write_attribute(out: &mut Vec<u8>, prefix: &str, name: &str, value: &str) {
    out.extend([" ", prefix, name, "='"].concat().as_bytes());
    escape(value, Place::Value, |piece| out.extend(piece));
    out.extend(b"'");
}
