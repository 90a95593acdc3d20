//! The elements of a payload, one after the other, and changes to them in place.

use std::borrow::Cow;
use std::ops::Range;

use bytes::Bytes;
use memchr::{memchr, memmem};

use super::scope::{Namespace, Scope};
use super::tag::{self, Attribute, Tag};
use super::text::{Place, escape, raw_range, unescape};
use super::{NAMESPACE, Stanza};

/// A cursor over the elements of a payload, in the order of their start tags.
///
/// A change copies the bytes before it and leaves the rest of the payload as it is: the result is
/// as long as the payload and the texts put in at most. The time is linear in the payload's
/// length, for hostile payloads too.
#[derive(Debug)]
pub struct Elements<'a> {
    payload: &'a [u8],
    /// Offset of the first byte that is not parsed yet.
    at: usize,
    /// Number of open elements below the stanza, the current one included.
    depth: usize,
    scope: Scope<'a>,
    /// Offset of the current start tag.
    start: usize,
    tag: Option<Tag>,
    attributes: Vec<Attribute>,
    /// The payload up to `copied`, with its changes.
    changed: Vec<u8>,
    copied: usize,
}

/// A part of a value, and the text that takes its place.
pub type Replacement<'t> = (Range<usize>, &'t str);

impl Stanza {
    /// A cursor before the first element of the payload.
    #[must_use]
    pub fn elements(&self) -> Elements<'_> {
        let mut scope = Scope::default();
        scope.declare(b"", NAMESPACE.as_bytes(), 0);
        for (name, value) in self.attributes.values() {
            if let Some(prefix) = name.strip_prefix(b"xmlns:") {
                scope.declare(prefix, value, 0);
            }
        }
        Elements {
            payload: &self.payload,
            at: 0,
            depth: 0,
            scope,
            start: 0,
            tag: None,
            attributes: Vec::new(),
            changed: Vec::new(),
            copied: 0,
        }
    }

    /// Passes each element of the payload to `edit`, and returns the payload with the changes; the
    /// same bytes when there are none.
    #[must_use]
    pub fn edited_payload(&self, mut edit: impl FnMut(&mut Elements<'_>)) -> Bytes {
        let mut elements = self.elements();
        while elements.advance() {
            edit(&mut elements);
        }
        elements.finish().unwrap_or_else(|| self.payload.clone())
    }

    /// Replaces the payload by an edited one.
    pub fn set_payload(&mut self, edited: Bytes) {
        self.payload = edited;
    }
}

impl<'a> Elements<'a> {
    /// Moves to the next start tag; false at the payload's end.
    pub fn advance(&mut self) -> bool {
        loop {
            match self.step() {
                Some(true) => return true,
                Some(false) => {}
                None => return false,
            }
        }
    }

    /// Moves to the end of the current element, so that its sibling is next.
    pub fn skip(&mut self) {
        let depth = self.depth;
        if !self.is_empty() {
            while self.depth >= depth && self.step().is_some() {}
        }
    }

    /// Moves over the next markup, and returns whether it is a start tag.
    fn step(&mut self) -> Option<bool> {
        if self.is_empty() {
            self.leave();
        }
        self.tag = None;
        let rest = &self.payload[self.at..];
        let text = memchr(b'<', rest)?;
        let (start, rest) = (self.at + text, &rest[text..]);
        match rest.get(1) {
            Some(b'/') => {
                self.leave();
                self.at = start + memchr(b'>', rest)? + 1;
                Some(false)
            }
            // Of the declarations, the scanner passes CDATA sections alone.
            Some(b'!') => {
                self.at = start + memmem::find(rest, b"]]>")? + 3;
                Some(false)
            }
            _ => {
                let tag = tag::read(self.payload, start, &mut self.attributes).ok()?;
                self.depth += 1;
                for attribute in &self.attributes {
                    let name = attribute.name;
                    let prefix = match name.prefix(self.payload) {
                        Some(b"xmlns") => name.local(self.payload),
                        None if name.full(self.payload) == b"xmlns" => b"",
                        _ => continue,
                    };
                    let namespace = attribute.raw_value(self.payload);
                    self.scope.declare(prefix, namespace, self.depth);
                }
                (self.start, self.at, self.tag) = (start, tag.end, Some(tag));
                Some(true)
            }
        }
    }

    fn is_empty(&self) -> bool {
        self.tag.is_some_and(|tag| tag.empty)
    }

    fn leave(&mut self) {
        self.scope.leave(self.depth);
        self.depth = self.depth.saturating_sub(1);
    }

    /// The depth of the current element: 1 for a child of the stanza.
    #[must_use]
    pub fn depth(&self) -> usize {
        self.depth
    }

    /// The local name of the current element.
    #[must_use]
    pub fn name(&self) -> &'a str {
        let name = self.tag.map(|tag| tag.name.local(self.payload));
        str::from_utf8(name.unwrap_or_default()).unwrap_or_default()
    }

    /// The namespace of the current element.
    #[must_use]
    pub fn namespace(&self) -> Cow<'a, str> {
        unescape(
            self.scoped_namespace()
                .map_or(b"", |namespace| namespace.raw),
        )
    }

    fn scoped_namespace(&self) -> Option<Namespace<'a>> {
        let prefix = self.tag?.name.prefix(self.payload);
        self.scope.namespace(prefix.unwrap_or_default())
    }

    /// Whether the current element has this local name and namespace.
    #[must_use]
    pub fn is(&self, name: &str, namespace: &str) -> bool {
        self.name() == name && self.scoped_namespace().is_some_and(|own| own.is(namespace))
    }

    /// The value of the attribute of the current element with that name and no prefix.
    #[must_use]
    pub fn attribute(&self, name: &str) -> Option<Cow<'a, str>> {
        let mut attributes = self.attributes.iter();
        let found = attributes.find(|a| a.name.full(self.payload) == name.as_bytes())?;
        Some(unescape(found.raw_value(self.payload)))
    }

    /// Passes name and value of each attribute without a prefix to `edit`, which returns the
    /// part of the value to replace.
    pub fn edit_attributes<'t>(&mut self, edit: impl Fn(&str, &str) -> Option<Replacement<'t>>) {
        for index in 0..self.attributes.len() {
            let attribute = self.attributes[index];
            let name = str::from_utf8(attribute.name.full(self.payload)).unwrap_or_default();
            let value = unescape(attribute.raw_value(self.payload));
            if let Some(replacement) = edit(name, &value) {
                self.replace(attribute.value_range(), replacement);
            }
        }
    }

    /// Like [`Self::edit_attributes`], for the text of an element that has nothing else.
    pub fn edit_text<'t>(&mut self, edit: impl FnOnce(&str) -> Option<Replacement<'t>>) {
        let rest = &self.payload[self.at..];
        if let Some(length) = memchr(b'<', rest).filter(|_| !self.is_empty())
            && rest[length + 1..].starts_with(b"/")
            && let Some(replacement) = edit(&unescape(&rest[..length]))
        {
            self.replace(self.at..self.at + length, replacement);
        }
    }

    /// Replaces a part of the value that is written at `written`.
    fn replace(&mut self, written: Range<usize>, (part, with): Replacement<'_>) {
        let part = raw_range(&self.payload[written.clone()], part);
        self.copy_until(written.start + part.start);
        escape(with, Place::Value, |piece| self.changed.extend(piece));
        self.copied = written.start + part.end;
    }

    /// Removes the current element from the payload, with all that is in it.
    pub fn remove(&mut self) {
        self.copy_until(self.start);
        // With the text behind the element it could become `]]>`.
        if self.changed.pop_if(|last| *last == b']').is_some() {
            self.changed.extend(b"&#93;");
        }
        self.skip();
        self.copied = self.at;
    }

    fn copy_until(&mut self, end: usize) {
        let unchanged = &self.payload[self.copied..end];
        self.changed.extend_from_slice(unchanged);
    }

    /// Returns the payload with its changes, if there are any.
    fn finish(mut self) -> Option<Bytes> {
        if self.copied == 0 {
            return None;
        }
        self.copy_until(self.payload.len());
        Some(self.changed.into())
    }
}
