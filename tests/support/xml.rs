//! Cuts an XML stream into its pieces, and keeps the raw text.

use bytes::{Buf, BytesMut};
use minidom::Element;

/// A piece of a stream, in the order of the wire.
#[derive(Debug, Clone)]
pub enum Piece {
    /// `<stream:stream …>`
    Header(String),
    /// A child of the stream, whole.
    Element(Box<Element>, String),
    /// `</stream:stream>`
    End,
}

/// Turns bytes into pieces. For well-formed streams only.
#[derive(Debug)]
pub struct Splitter {
    namespace: &'static str,
    buffer: BytesMut,
}

impl Splitter {
    /// Creates a reader for a stream with stanzas in `namespace`.
    pub fn new(namespace: &'static str) -> Self {
        Self {
            namespace,
            buffer: BytesMut::new(),
        }
    }

    /// The buffer to which read bytes are appended.
    pub fn buffer(&mut self) -> &mut BytesMut {
        &mut self.buffer
    }

    /// Returns the next whole piece, or `None` if it is incomplete.
    ///
    /// # Panics
    /// On input that is not XML.
    pub fn next(&mut self) -> Option<Piece> {
        self.skip_between();
        if self.buffer.starts_with(b"</") {
            let end = tag_length(&self.buffer)?;
            self.buffer.advance(end);
            return Some(Piece::End);
        }
        if self.buffer.starts_with(b"<stream:stream") {
            let end = tag_length(&self.buffer)?;
            return Some(Piece::Header(self.take(end)));
        }
        let end = element_length(&self.buffer)?;
        let raw = self.take(end);
        Some(Piece::Element(Box::new(parse(&raw, self.namespace)), raw))
    }

    /// Drops white space (keepalives) and XML declarations.
    fn skip_between(&mut self) {
        loop {
            let spaces = self.buffer.iter().take_while(|b| b.is_ascii_whitespace());
            let spaces = spaces.count();
            self.buffer.advance(spaces);
            if !self.buffer.starts_with(b"<?") {
                return;
            }
            let Some(end) = memchr::memmem::find(&self.buffer, b"?>") else {
                return;
            };
            self.buffer.advance(end + 2);
        }
    }

    fn take(&mut self, length: usize) -> String {
        String::from_utf8(self.buffer.split_to(length).to_vec()).expect("UTF-8 from a server")
    }
}

/// Parses one stanza as part of a stream of `namespace`.
///
/// # Panics
/// On input that is not XML.
pub fn parse(raw: &str, namespace: &str) -> Element {
    format!("<s xmlns='{namespace}' xmlns:stream='http://etherx.jabber.org/streams'>{raw}</s>")
        .parse::<Element>()
        .unwrap_or_else(|error| panic!("{error}: {raw}"))
        .children()
        .next()
        .unwrap_or_else(|| panic!("no element: {raw}"))
        .clone()
}

/// The first child of that name, in any namespace.
pub fn child<'a>(element: &'a Element, name: &str) -> Option<&'a Element> {
    element.children().find(|child| child.name() == name)
}

/// All children of that name, in any namespace.
pub fn children<'a>(element: &'a Element, name: &str) -> impl Iterator<Item = &'a Element> {
    element.children().filter(move |child| child.name() == name)
}

/// An attribute of a stream's header.
pub fn attribute(header: &str, name: &str) -> Option<String> {
    // An end tag makes the header an element.
    let element = format!("{header}</stream:stream>")
        .parse::<Element>()
        .ok()?;
    element.attr(name).map(str::to_owned)
}

/// The text of the `<body/>`.
pub fn body(element: &Element) -> Option<String> {
    child(element, "body").map(Element::text)
}

/// Whether `jid` is `expected`, or one of its resources if that is bare.
pub fn is_jid(jid: Option<&str>, expected: &str) -> bool {
    jid.is_some_and(|jid| {
        jid == expected
            || (!expected.contains('/')
                && jid
                    .strip_prefix(expected)
                    .is_some_and(|rest| rest.starts_with('/')))
    })
}

/// Escapes a text for XML.
pub fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('\'', "&apos;")
        .replace('"', "&quot;")
}

/// Length in bytes of the element at the start of `bytes`, when it is whole.
fn element_length(bytes: &[u8]) -> Option<usize> {
    let mut at = 0;
    let mut depth = 0_usize;
    loop {
        at += memchr::memchr(b'<', &bytes[at..])?;
        let rest = &bytes[at..];
        let length = tag_length(rest)?;
        if rest.starts_with(b"</") {
            depth -= 1;
        } else if !rest.starts_with(b"<!") && !rest[..length].ends_with(b"/>") {
            depth += 1;
        }
        at += length;
        if depth == 0 {
            return Some(at);
        }
    }
}

/// Length in bytes of the tag, comment or CDATA section at the start of `bytes`.
fn tag_length(bytes: &[u8]) -> Option<usize> {
    for (start, end) in [("<![CDATA[", "]]>"), ("<!--", "-->")] {
        if bytes.starts_with(start.as_bytes()) {
            return Some(memchr::memmem::find(bytes, end.as_bytes())? + end.len());
        }
    }
    let mut quote = None;
    for (at, byte) in bytes.iter().enumerate() {
        match (quote, byte) {
            (None, b'>') => return Some(at + 1),
            (None, b'\'' | b'"') => quote = Some(*byte),
            (Some(open), byte) if open == *byte => quote = None,
            _ => {}
        }
    }
    None
}
