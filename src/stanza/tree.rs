//! A stanza as a tree, for code that inspects its payload.

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
            // No input is known to cause this: the scanner is stricter than this parser, as the
            // scanner's property tests check.
            tracing::error!(
                kind = self.kind().name(), id = ?self.id(), %error,
                "a stanza that was let through can't be parsed; it is treated as empty"
            );
            Element::bare(self.kind().name(), NAMESPACE)
        })
    }
}

/// Replaces carriage returns by line feeds, as a parser must do first (XML 1.0 §2.11). rxml 0.14
/// rejects carriage returns in attributes.
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
    // The parser refuses attributes of more than 8 KiB by default.
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
