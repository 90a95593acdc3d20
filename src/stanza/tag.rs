//! Start tags: reading them, and keeping those of stanzas.

use std::borrow::Cow;
use std::ops::Range;

use bytes::{BufMut, Bytes, BytesMut};
use memchr::memchr2;

use super::fault::Fault;
use super::names::QName;
use super::text::{Place, check_reference, escape, unescape};

/// Upper bound for the attributes of one element, more than any protocol uses. They are compared
/// pairwise, so there must be a bound.
const MAX_ATTRIBUTES: usize = 128;

/// An attribute, as positions in the bytes from which it was read.
#[derive(Debug, Clone, Copy)]
pub(super) struct Attribute {
    pub(super) name: QName,
    value: usize,
    value_end: usize,
}

impl Attribute {
    /// The value as written, without the quotes.
    pub(super) fn raw_value<'a>(&self, bytes: &'a [u8]) -> &'a [u8] {
        &bytes[self.value..self.value_end]
    }

    /// The place of the value.
    pub(super) fn value_range(&self) -> Range<usize> {
        self.value..self.value_end
    }

    /// Name, equals sign and quoted value, as written.
    pub(super) fn raw<'a>(&self, bytes: &'a [u8]) -> &'a [u8] {
        &bytes[self.name.start..=self.value_end]
    }
}

/// A start tag without its attributes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Tag {
    pub(super) name: QName,
    /// Offset behind the `>`.
    pub(super) end: usize,
    /// `<name/>`
    pub(super) empty: bool,
}

/// Reads the start tag at `start`, the offset of its `<`, and appends its attributes to
/// `attributes`. Checks everything except the namespaces.
///
/// # Errors
/// When the tag violates XML 1.0 §3.1.
pub(super) fn read(
    bytes: &[u8],
    start: usize,
    attributes: &mut Vec<Attribute>,
) -> Result<Tag, Fault> {
    attributes.clear();
    let name = read_name(bytes, start + 1)?;
    let mut at = name.end;
    loop {
        let behind = skip_space(bytes, at);
        let empty = match bytes.get(behind) {
            Some(b'>') => false,
            Some(b'/') if bytes.get(behind + 1) == Some(&b'>') => true,
            _ if behind == at => return Err(expected("white space or >", at)),
            _ => {
                let attribute = read_attribute(bytes, behind)?;
                if attributes.len() == MAX_ATTRIBUTES {
                    return Err(Fault::TooMany {
                        what: "attributes",
                        limit: MAX_ATTRIBUTES,
                        offset: start,
                    });
                }
                let name = attribute.name.full(bytes);
                if attributes
                    .iter()
                    .any(|other| other.name.full(bytes) == name)
                {
                    return Err(duplicate(bytes, attribute));
                }
                attributes.push(attribute);
                at = attribute.value_end + 1;
                continue;
            }
        };
        let end = behind + 1 + usize::from(empty);
        return Ok(Tag { name, end, empty });
    }
}

/// The fault for an attribute that occurs twice.
pub(super) fn duplicate(bytes: &[u8], attribute: Attribute) -> Fault {
    Fault::DuplicateAttribute {
        name: String::from_utf8_lossy(attribute.name.full(bytes)).into_owned(),
        offset: attribute.name.start,
    }
}

fn read_name(bytes: &[u8], at: usize) -> Result<QName, Fault> {
    QName::read(bytes, at).ok_or(Fault::Name { offset: at })
}

fn read_attribute(bytes: &[u8], at: usize) -> Result<Attribute, Fault> {
    let name = read_name(bytes, at)?;
    let equals = skip_space(bytes, name.end);
    if bytes.get(equals) != Some(&b'=') {
        return Err(expected("=", equals));
    }
    let open = skip_space(bytes, equals + 1);
    let Some(&quote @ (b'\'' | b'"')) = bytes.get(open) else {
        return Err(expected("a quoted value", open));
    };
    let value = open + 1;
    let mut at = value;
    loop {
        let Some(found) = memchr2(quote, b'&', &bytes[at..]) else {
            return Err(expected("the end of the value", bytes.len()));
        };
        at += found;
        if bytes[at] == quote {
            return Ok(Attribute {
                name,
                value,
                value_end: at,
            });
        }
        at = check_reference(bytes, at)?;
    }
}

fn skip_space(bytes: &[u8], mut at: usize) -> usize {
    while let Some(b' ' | b'\t' | b'\n' | b'\r') = bytes.get(at) {
        at += 1;
    }
    at
}

fn expected(expected: &'static str, offset: usize) -> Fault {
    Fault::Tag { expected, offset }
}

/// The attributes of a stanza, in their order and as written.
#[derive(Debug, Clone, Default)]
pub(super) struct Attributes {
    raw: Bytes,
    list: Vec<Attribute>,
}

impl Attributes {
    /// Takes the attributes in `list`, which are positions in `raw`.
    pub(super) fn received(raw: Bytes, list: Vec<Attribute>) -> Self {
        Self { raw, list }
    }

    /// Creates attributes with these names and values.
    pub(super) fn written(pairs: &[(&str, &str)]) -> Self {
        let mut raw = BytesMut::new();
        let mut list = Vec::with_capacity(pairs.len());
        for (name, value) in pairs {
            let start = raw.len();
            raw.put_slice(name.as_bytes());
            let end = raw.len();
            raw.put_slice(b"='");
            escape(value, Place::Value, |piece| raw.put_slice(piece));
            list.push(Attribute {
                name: QName {
                    start,
                    colon: name.find(':').map(|colon| start + colon),
                    end,
                },
                value: end + 2,
                value_end: raw.len(),
            });
            raw.put_slice(b"'");
        }
        let raw = raw.freeze();
        Self { raw, list }
    }

    /// Copies the attributes out of the read buffer, which they would keep alive.
    pub(super) fn detach(&mut self) {
        self.raw = Bytes::copy_from_slice(&self.raw);
    }

    /// Iterates over the name and the value of each attribute, as written.
    pub(super) fn values(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        let list = self.list.iter();
        list.map(|attribute| {
            (
                attribute.name.full(&self.raw),
                attribute.raw_value(&self.raw),
            )
        })
    }

    /// Iterates over the name of each attribute and the whole attribute as written.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.list
            .iter()
            .map(|attribute| (attribute.name.full(&self.raw), attribute.raw(&self.raw)))
    }

    /// The value of the attribute with that qualified name, as written.
    pub(super) fn raw_value(&self, name: &str) -> Option<&[u8]> {
        self.values()
            .find_map(|(other, value)| (other == name.as_bytes()).then_some(value))
    }

    /// The unescaped value, without a copy when nothing is escaped.
    pub(super) fn value(&self, name: &str) -> Option<Bytes> {
        let raw = self.raw_value(name)?;
        Some(match unescape(raw) {
            Cow::Borrowed(_) => self.raw.slice_ref(raw),
            Cow::Owned(value) => value.into(),
        })
    }
}
