//! The strict check of one whole element: refuses everything that would break the stream to which
//! the element is written.

use std::collections::HashSet;

use bytes::Bytes;
use memchr::{memchr, memmem, memrchr};

use super::fault::Fault;
use super::names::QName;
use super::scope::{Namespace, Scope};
use super::tag::{self, Attribute, Attributes, Tag};
use super::text::{check_characters, check_text, unescape};
use super::{Kind, NAMESPACE, Stanza};

/// Upper bound for the prefixes in scope at one place. They are searched linearly, so there must
/// be a bound.
const MAX_PREFIXES: usize = 128;

/// Namespaces that only `xml` and `xmlns` may be bound to (Namespaces in XML §3).
const RESERVED: [&str; 2] = [
    "http://www.w3.org/XML/1998/namespace",
    "http://www.w3.org/2000/xmlns/",
];

/// The content namespaces of streams (RFC 6120 §4.8.2, XEP-0114 §3). In a stanza, each of them
/// stands for the namespace of the stanza's stream.
const STREAM_NAMESPACES: [&str; 3] = [NAMESPACE, "jabber:client", "jabber:server"];

#[derive(Debug)]
pub(super) enum Checked {
    Stanza(Stanza),
    /// A stanza with a malformed address, without its payload.
    Misaddressed(Stanza, Fault),
    /// An element that is neither message, presence nor iq.
    Other,
}

/// Checks elements. The checker is kept between elements to reuse its memory.
#[derive(Debug, Default)]
pub(super) struct Checker {
    /// The attributes of the start tag being read.
    attributes: Vec<Attribute>,
}

/// Whether a prefix must be declared in the element itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Prefixes {
    Own,
    /// The stream's header may have declared the prefix, as it does for `<stream:error/>`.
    Inherited,
}

/// The root's start tag.
struct Head {
    tag: Tag,
    /// `None` for an element that is not a stanza.
    stanza: Option<(Kind, Attributes)>,
}

impl Checker {
    /// Checks `element`; its start tag is `element[..head_end]`.
    /// [`Bounds`](super::bounds::Bounds) has already checked that its tags are balanced and
    /// match.
    ///
    /// # Errors
    /// The first fault found.
    pub(super) fn check(&mut self, element: &Bytes, head_end: usize) -> Result<Checked, Fault> {
        check_characters(element)?;
        let start_tag = element.slice(..head_end);
        let mut scope = Scope::default();
        let head = self.read_head(&start_tag, &mut scope)?;
        if !head.tag.empty {
            let prefixes = match head.stanza {
                Some(_) => Prefixes::Own,
                None => Prefixes::Inherited,
            };
            self.check_content(element, head_end, prefixes, scope)?;
        }
        let Some((kind, attributes)) = head.stanza else {
            return Ok(Checked::Other);
        };
        let payload = match memrchr(b'<', element) {
            Some(end_tag) if !head.tag.empty => element.slice(head_end..end_tag),
            _ => Bytes::new(),
        };
        Ok(match Stanza::received(kind, attributes, payload) {
            (stanza, None) => Checked::Stanza(stanza),
            (head, Some(fault)) => Checked::Misaddressed(head.without_payload(), fault),
        })
    }

    /// Returns the start tag alone as a stanza without payload, if the tag itself passes the
    /// check. An address that is not a JID is left out.
    pub(super) fn head(&mut self, start_tag: &Bytes) -> Option<Stanza> {
        check_characters(start_tag).ok()?;
        let head = self.read_head(start_tag, &mut Scope::default()).ok()?;
        let (kind, attributes) = head.stanza?;
        Some(Stanza::received(kind, attributes, Bytes::new()).0)
    }

    fn read_head<'a>(
        &mut self,
        start_tag: &'a Bytes,
        scope: &mut Scope<'a>,
    ) -> Result<Head, Fault> {
        let tag = tag::read(start_tag, 0, &mut self.attributes)?;
        let kind = Kind::from_name(tag.name.full(start_tag))
            .filter(|_| self.is_in_stream_namespace(start_tag));
        let prefixes = match kind {
            Some(_) => Prefixes::Own,
            None => Prefixes::Inherited,
        };
        self.check_namespaces(start_tag, &tag, 1, prefixes, scope)?;
        let stanza = kind.map(|kind| {
            let mut kept = self.attributes.clone();
            kept.retain(|attribute| attribute.name.full(start_tag) != b"xmlns");
            (kind, Attributes::received(start_tag.clone(), kept))
        });
        Ok(Head { tag, stanza })
    }

    fn is_in_stream_namespace(&self, bytes: &[u8]) -> bool {
        self.attributes
            .iter()
            .find(|attribute| attribute.name.full(bytes) == b"xmlns")
            .is_none_or(|attribute| {
                STREAM_NAMESPACES.contains(&&*unescape(attribute.raw_value(bytes)))
            })
    }

    fn check_content<'a>(
        &mut self,
        bytes: &'a [u8],
        head_end: usize,
        prefixes: Prefixes,
        mut scope: Scope<'a>,
    ) -> Result<(), Fault> {
        let mut depth = 1;
        let mut at = head_end;
        while let Some(text) = memchr(b'<', &bytes[at..]) {
            let mark = at + text;
            check_text(bytes, at, mark)?;
            at = match bytes.get(mark + 1) {
                Some(b'/') => {
                    scope.leave(depth);
                    depth -= 1;
                    behind(bytes, mark, memchr(b'>', &bytes[mark..]))
                }
                Some(b'?' | b'!') => check_declaration(bytes, mark)?,
                _ => {
                    let tag = tag::read(bytes, mark, &mut self.attributes)?;
                    depth += 1;
                    self.check_namespaces(bytes, &tag, depth, prefixes, &mut scope)?;
                    if tag.empty {
                        scope.leave(depth);
                        depth -= 1;
                    }
                    tag.end
                }
            };
        }
        Ok(())
    }

    /// Checks the declarations and the prefixes of one start tag.
    fn check_namespaces<'a>(
        &self,
        bytes: &'a [u8],
        tag: &Tag,
        depth: usize,
        prefixes: Prefixes,
        scope: &mut Scope<'a>,
    ) -> Result<(), Fault> {
        let mut prefixed = 0;
        for attribute in &self.attributes {
            match attribute.name.prefix(bytes) {
                None if attribute.name.full(bytes) == b"xmlns" => {
                    check_namespace(bytes, attribute)?;
                }
                None => {}
                Some(b"xmlns") => {
                    check_prefix_declaration(bytes, attribute)?;
                    if scope.len() == MAX_PREFIXES {
                        return Err(Fault::TooMany {
                            what: "namespace prefixes",
                            limit: MAX_PREFIXES,
                            offset: tag.name.start - 1,
                        });
                    }
                    let prefix = attribute.name.local(bytes);
                    scope.declare(prefix, attribute.raw_value(bytes), depth);
                }
                Some(_) => prefixed += 1,
            }
        }
        // `xml` is bound, but no element is in the namespace of `xml`.
        if matches!(tag.name.prefix(bytes), Some(b"xml" | b"xmlns")) {
            return Err(unbound(bytes, tag.name));
        }
        let check_prefix = |name: QName| match name.prefix(bytes) {
            None | Some(b"xml" | b"xmlns") => Ok(()),
            Some(_) if prefixes == Prefixes::Inherited => Ok(()),
            Some(prefix) if scope.namespace(prefix).is_some() => Ok(()),
            Some(_) => Err(unbound(bytes, name)),
        };
        check_prefix(tag.name)?;
        if prefixed > 0 {
            for attribute in &self.attributes {
                check_prefix(attribute.name)?;
            }
        }
        if prefixed > 1 {
            self.check_expanded_names(bytes, scope)?;
        }
        Ok(())
    }

    /// Refuses two attributes that are one by their expanded names, because two prefixes may
    /// stand for the same namespace (Namespaces in XML §6.3).
    fn check_expanded_names(&self, bytes: &[u8], scope: &Scope<'_>) -> Result<(), Fault> {
        let mut expanded = HashSet::new();
        for attribute in &self.attributes {
            let namespace = attribute
                .name
                .prefix(bytes)
                .map(|prefix| scope.namespace(prefix));
            if let Some(Some(Namespace { hash, .. })) = namespace
                && !expanded.insert((attribute.name.local(bytes), hash))
            {
                return Err(tag::duplicate(bytes, *attribute));
            }
        }
        Ok(())
    }
}

/// Returns the position behind `found`, a one-byte end of the markup that began at `mark`.
/// `found` is never `None`, because `Bounds` has found the end before.
fn behind(bytes: &[u8], mark: usize, found: Option<usize>) -> usize {
    found.map_or(bytes.len(), |found| mark + found + 1)
}

/// Allows a CDATA section and refuses everything else that begins with `<?` or `<!`; returns the
/// position of its end.
fn check_declaration(bytes: &[u8], mark: usize) -> Result<usize, Fault> {
    let rest = &bytes[mark..];
    let what = if rest.starts_with(b"<![CDATA[") {
        let last = memmem::find(rest, b"]]>").map(|end| end + 2);
        return Ok(behind(bytes, mark, last));
    } else if rest.starts_with(b"<?") {
        "a processing instruction"
    } else if rest.starts_with(b"<!--") {
        "a comment"
    } else {
        "a document type declaration"
    };
    let offset = mark;
    Err(Fault::Restricted { what, offset })
}

/// Checks `xmlns:p='…'`.
fn check_prefix_declaration(bytes: &[u8], attribute: &Attribute) -> Result<(), Fault> {
    let reserved = matches!(attribute.name.local(bytes), b"xml" | b"xmlns");
    if reserved || attribute.raw_value(bytes).is_empty() {
        let offset = attribute.name.start;
        return Err(Fault::Namespace { offset });
    }
    check_namespace(bytes, attribute)
}

/// Checks the namespace that `xmlns` or `xmlns:p` declares.
fn check_namespace(bytes: &[u8], attribute: &Attribute) -> Result<(), Fault> {
    let raw = attribute.raw_value(bytes);
    let legal = match memchr(b'&', raw) {
        None => RESERVED.iter().all(|reserved| reserved.as_bytes() != raw),
        // Parsers join namespace and name by a control character, and refuse a namespace that
        // contains it (expat ≥ 2.4.5; ejabberd's is a line feed). Only a reference can produce
        // one here.
        Some(_) => {
            let uri = unescape(raw);
            !RESERVED.contains(&&*uri) && !uri.contains(char::is_control)
        }
    };
    if legal {
        Ok(())
    } else {
        let offset = attribute.name.start;
        Err(Fault::Namespace { offset })
    }
}

fn unbound(bytes: &[u8], name: QName) -> Fault {
    let prefix = name.prefix(bytes).unwrap_or_default();
    Fault::UnboundPrefix {
        prefix: String::from_utf8_lossy(prefix).into_owned(),
        offset: name.start,
    }
}
