//! Writes parsed elements as the payload of a stanza.
//!
//! minidom's own writer panics on input that declares a prefix twice, and has no parameter for
//! the namespace that is inherited from the stream.

use minidom::{Element, Node};

use super::text::{Place, escape};

const XML_NAMESPACE: &str = "http://www.w3.org/XML/1998/namespace";

/// Writes the content of `nodes`. Elements of the namespace `inherited` get no `xmlns`, because
/// the stanza around them has none.
pub(super) fn write<'a>(nodes: impl Iterator<Item = &'a Node>, inherited: &str) -> Vec<u8> {
    let mut writer = Writer::default();
    for node in nodes {
        writer.node(node, inherited);
    }
    writer.out
}

/// Like [`write()`], for elements without text between them.
pub(super) fn write_elements(elements: &[Element], inherited: &str) -> Vec<u8> {
    let mut writer = Writer::default();
    for element in elements {
        writer.element(element, inherited);
    }
    writer.out
}

#[derive(Default)]
struct Writer {
    out: Vec<u8>,
    /// The prefixes in scope, the innermost last, and their namespaces.
    prefixes: Vec<(String, String)>,
}

impl Writer {
    fn node(&mut self, node: &Node, default: &str) {
        match node {
            Node::Element(element) => self.element(element, default),
            Node::Text(text) => self.escaped(text, Place::Content),
        }
    }

    /// Writes `element` at a place where elements without `xmlns` are in namespace `default`.
    fn element(&mut self, element: &Element, default: &str) {
        let namespace = element.ns();
        let outside = self.prefixes.len();
        self.raw("<");
        self.raw(element.name());
        if namespace != default {
            self.attribute("xmlns", &namespace);
        }
        // Attribute values may use a prefix too, so the declared ones stay.
        for (prefix, uri) in element.prefixes.declared_prefixes() {
            if let Some(prefix) = prefix {
                self.declare(prefix.clone(), uri);
            }
        }
        for ((uri, name), value) in element.attrs() {
            match &**uri {
                "" => self.attribute(name, value),
                XML_NAMESPACE => self.attribute(&format!("xml:{name}"), value),
                uri => {
                    let prefix = self.prefix(uri);
                    self.attribute(&format!("{prefix}:{name}"), value);
                }
            }
        }
        if element.nodes().next().is_none() {
            self.raw("/>");
        } else {
            self.raw(">");
            for node in element.nodes() {
                self.node(node, &namespace);
            }
            self.raw("</");
            self.raw(element.name());
            self.raw(">");
        }
        self.prefixes.truncate(outside);
    }

    /// Returns the prefix of `uri`; declares one here when there is none.
    fn prefix(&mut self, uri: &str) -> String {
        let visible = |index: usize, prefix: &str| {
            self.prefixes[index + 1..]
                .iter()
                .all(|(inner, _)| inner != prefix)
        };
        let known = self
            .prefixes
            .iter()
            .enumerate()
            .rfind(|(index, (prefix, bound))| bound == uri && visible(*index, prefix));
        if let Some((_, (prefix, _))) = known {
            return prefix.clone();
        }
        let mut number = self.prefixes.len();
        let free = loop {
            let candidate = format!("ns{number}");
            if self.prefixes.iter().all(|(prefix, _)| *prefix != candidate) {
                break candidate;
            }
            number += 1;
        };
        self.declare(free.clone(), uri);
        free
    }

    fn declare(&mut self, prefix: String, uri: &str) {
        self.attribute(&format!("xmlns:{prefix}"), uri);
        self.prefixes.push((prefix, uri.to_owned()));
    }

    fn attribute(&mut self, name: &str, value: &str) {
        self.raw(" ");
        self.raw(name);
        self.raw("='");
        self.escaped(value, Place::Value);
        self.raw("'");
    }

    fn raw(&mut self, text: &str) {
        self.out.extend_from_slice(text.as_bytes());
    }

    fn escaped(&mut self, text: &str, place: Place) {
        escape(text, place, |piece| self.out.extend_from_slice(piece));
    }
}
