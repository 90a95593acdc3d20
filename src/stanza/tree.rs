//! A stanza as a tree, for those that must be looked into.

use std::borrow::Cow;

use bytes::BytesMut;
use memchr::memchr;
use minidom::Element;
use minidom::rxml::{Options, RawReader};
use minidom::tree_builder::TreeBuilder;

use super::{NAMESPACE, Stanza};

impl Stanza {
    /// The whole stanza as a tree, in [`NAMESPACE`].
    #[must_use]
    pub fn to_element(&self) -> Element {
        let mut bytes = BytesMut::new();
        self.write_to(&mut bytes);
        parse(&with_line_feeds(&bytes)).unwrap_or_else(|error| {
            // Not known to happen: the scanner is stricter than this parser,
            // which its property tests check.
            tracing::error!(
                kind = self.kind().name(), id = ?self.id(), %error,
                "a stanza that was let through can't be parsed; it is treated as empty"
            );
            Element::bare(self.kind().name(), NAMESPACE)
        })
    }
}

/// Carriage returns made line feeds, as a parser must do first (XML 1.0 §2.11).
/// This one can't take them in attributes (rxml 0.14).
fn with_line_feeds(bytes: &[u8]) -> Cow<'_, [u8]> {
    if memchr(b'\r', bytes).is_none() {
        return Cow::Borrowed(bytes);
    }
    let mut normalised = Vec::with_capacity(bytes.len());
    for (index, &byte) in bytes.iter().enumerate() {
        match byte {
            b'\r' if bytes.get(index + 1) == Some(&b'\n') => {}
            b'\r' => normalised.push(b'\n'),
            _ => normalised.push(byte),
        }
    }
    Cow::Owned(normalised)
}

fn parse(bytes: &[u8]) -> Result<Element, minidom::Error> {
    // The parser refuses attributes of more than 8 KiB, unless told otherwise.
    let options = Options {
        max_token_length: bytes.len(),
        ..Options::default()
    };
    let mut reader = RawReader::with_options(bytes, options);
    let mut builder = TreeBuilder::new().with_prefixes_stack(vec![NAMESPACE.to_owned().into()]);
    while let Some(event) = reader.read()? {
        builder.process_event(event)?;
        if let Some(root) = builder.root.take() {
            return Ok(root);
        }
    }
    Err(minidom::Error::EndOfDocument)
}
