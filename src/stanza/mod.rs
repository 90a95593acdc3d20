//! Stanzas as bytes: cut out of a stream, with the start tag parsed and the payload left
//! unparsed.
//!
//! [`Scanner`] cuts a stream into [`Stanza`]s and other elements. A stanza that passes the
//! scanner can be written to another stream unchanged. [`Elements`] reads a payload, and changes
//! it in place.

mod bounds;
mod check;
mod elements;
mod fault;
mod names;
mod open;
mod payload;
mod refusal;
mod reply;
mod scanner;
mod scope;
mod tag;
#[cfg(test)]
mod tests;
mod text;
mod tree;

pub use elements::{Elements, Replacement};
pub use fault::{Fault, ScanError};
pub use refusal::{Reason, Refusal};
pub use scanner::{Cut, Limits, Scanner};

use std::borrow::Cow;

use bytes::{Bytes, BytesMut};
use jid::Jid;
use minidom::Element;

use bounds::{Bounds, Broken, Piece};
use check::{Checked, Checker};
use tag::Attributes;
use text::{Place, escape, unescape};

/// The namespace of stanzas on a component stream and on links. A stanza does not repeat it in an
/// `xmlns` (XEP-0114 §3).
pub const NAMESPACE: &str = "jabber:component:accept";

/// The kind of a stanza (RFC 6120 §8.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// `<message/>`
    Message,
    /// `<presence/>`
    Presence,
    /// `<iq/>`
    Iq,
}

impl Kind {
    /// The element's name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Message => "message",
            Self::Presence => "presence",
            Self::Iq => "iq",
        }
    }

    fn from_name(name: &[u8]) -> Option<Self> {
        match name {
            b"message" => Some(Self::Message),
            b"presence" => Some(Self::Presence),
            b"iq" => Some(Self::Iq),
            _ => None,
        }
    }
}

/// A message, presence or iq: the parsed start tag, and the payload as the
/// bytes that were received.
///
/// Every attribute but `xmlns` is kept as it was written, in its order; only
/// `from` and `to` are parsed, and written normalised (RFC 7622).
#[derive(Debug, Clone)]
pub struct Stanza {
    kind: Kind,
    from: Option<Jid>,
    to: Option<Jid>,
    /// Unescaped.
    stanza_type: Option<Bytes>,
    attributes: Attributes,
    payload: Bytes,
}

impl Stanza {
    /// Parses one stanza that is the whole of `bytes`, as strictly as [`Scanner`] does.
    ///
    /// # Errors
    /// When `bytes` is not exactly one well-formed stanza within `limits`.
    pub fn parse(bytes: Bytes, limits: &Limits) -> Result<Self, Fault> {
        if bytes.len() > limits.bytes {
            let limit = limits.bytes;
            return Err(Fault::TooLarge { limit });
        }
        let mut bounds = Bounds::new(limits.bytes);
        let broken = |Broken { what, offset }| Fault::Broken { what, offset };
        let piece = bounds.advance(&bytes).map_err(broken)?;
        let whole = bounds.start() == 0 && bounds.position() == bytes.len();
        let head_end = match piece {
            Some(Piece::Element) if whole => bounds.head_end().unwrap_or(bytes.len()),
            Some(Piece::Restricted(what)) => {
                let offset = bounds.start();
                return Err(Fault::Restricted { what, offset });
            }
            None | Some(Piece::Element | Piece::End) => {
                return Err(Fault::Broken {
                    what: "more or less than one element".into(),
                    offset: bounds.position(),
                });
            }
        };
        if bounds.deepest() > limits.depth {
            let limit = limits.depth;
            return Err(Fault::TooDeep { limit });
        }
        match Checker::default().check(&bytes, head_end)? {
            Checked::Stanza(stanza) => Ok(stanza),
            Checked::Misaddressed(_, fault) => Err(fault),
            Checked::Other => Err(Fault::NotAStanza),
        }
    }

    /// Creates a probe: `viewer` asks for the presence of `user` (RFC 6121 §4.3).
    #[must_use]
    pub fn probe(viewer: Jid, user: Jid) -> Self {
        let probe = Some("probe");
        Self::new(Kind::Presence, probe, None, Some(viewer), Some(user), &[])
    }

    /// Builds a stanza from its parts. Elements of `payload` in [`NAMESPACE`] are written without
    /// `xmlns`, as the stanza's own.
    #[must_use]
    pub fn new(
        kind: Kind,
        stanza_type: Option<&str>,
        id: Option<&str>,
        from: Option<Jid>,
        to: Option<Jid>,
        payload: &[Element],
    ) -> Self {
        let pairs: Vec<_> = [("type", stanza_type), ("id", id)]
            .into_iter()
            .filter_map(|(name, value)| Some((name, value?)))
            .collect();
        Self {
            kind,
            from,
            to,
            stanza_type: stanza_type.map(|value| Bytes::copy_from_slice(value.as_bytes())),
            attributes: Attributes::written(&pairs),
            payload: payload::write(payload),
        }
    }

    /// Creates a stanza from bytes that have been checked. A malformed address is left out and
    /// returned as a fault.
    fn received(kind: Kind, attributes: Attributes, payload: Bytes) -> (Self, Option<Fault>) {
        let (from, from_fault) = address(&attributes, "from");
        let (to, to_fault) = address(&attributes, "to");
        let stanza = Self {
            kind,
            from,
            to,
            stanza_type: attributes.value("type"),
            attributes,
            payload,
        };
        (stanza, to_fault.or(from_fault))
    }

    /// Returns the same start tag without a payload.
    fn without_payload(self) -> Self {
        Self {
            payload: Bytes::new(),
            ..self
        }
    }

    /// The kind: message, presence or iq.
    #[must_use]
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// The sender's address.
    #[must_use]
    pub fn from(&self) -> Option<&Jid> {
        self.from.as_ref()
    }

    /// The recipient's address.
    #[must_use]
    pub fn to(&self) -> Option<&Jid> {
        self.to.as_ref()
    }

    /// The `type` attribute, unescaped.
    #[must_use]
    pub fn stanza_type(&self) -> Option<&str> {
        self.stanza_type
            .as_ref()
            .and_then(|value| str::from_utf8(value).ok())
    }

    /// The `id` attribute, unescaped.
    #[must_use]
    pub fn id(&self) -> Option<Cow<'_, str>> {
        self.attributes.raw_value("id").map(unescape)
    }

    /// Replaces the sender's address.
    pub fn set_from(&mut self, from: Jid) {
        self.from = Some(from);
    }

    /// Replaces the recipient's address.
    pub fn set_to(&mut self, to: Jid) {
        self.to = Some(to);
    }

    /// The bytes between start and end tag, as they were received.
    #[must_use]
    pub fn payload(&self) -> &Bytes {
        &self.payload
    }

    /// Adds `element` behind the payload.
    pub(crate) fn append_to_payload(&mut self, element: &Element) {
        let element = payload::write(std::slice::from_ref(element));
        self.payload = [&self.payload[..], &element].concat().into();
    }

    /// Copies the stanza out of its read buffer, which it would keep in memory as a whole. For
    /// stanzas that are held for long.
    pub fn detach(&mut self) {
        self.attributes.detach();
        self.stanza_type = self.attributes.value("type");
        self.payload = Bytes::copy_from_slice(&self.payload);
    }

    /// Appends the stanza to `out`, ready to be spliced into a component
    /// stream.
    pub fn write_to(&self, out: &mut BytesMut) {
        self.write(|piece| out.extend_from_slice(piece));
    }

    /// The number of bytes that [`Self::write_to`] appends.
    #[must_use]
    #[expect(clippy::len_without_is_empty, reason = "a stanza never is")]
    pub fn len(&self) -> usize {
        let mut length = 0;
        self.write(|piece| length += piece.len());
        length
    }

    /// Passes the stanza's bytes piece by piece to `write`.
    fn write(&self, mut write: impl FnMut(&[u8])) {
        let name = self.kind.name().as_bytes();
        let mut from = self.from.as_ref();
        let mut to = self.to.as_ref();
        write(b"<");
        write(name);
        for (name, raw) in self.attributes.iter() {
            match name {
                b"from" => write_address("from", from.take(), &mut write),
                b"to" => write_address("to", to.take(), &mut write),
                _ => {
                    write(b" ");
                    write(raw);
                }
            }
        }
        write_address("from", from, &mut write);
        write_address("to", to, &mut write);
        if self.payload.is_empty() {
            write(b"/>");
        } else {
            write(b">");
            write(&self.payload);
            write(b"</");
            write(name);
            write(b">");
        }
    }
}

fn write_address(name: &str, jid: Option<&Jid>, mut write: impl FnMut(&[u8])) {
    if let Some(jid) = jid {
        write(b" ");
        write(name.as_bytes());
        write(b"='");
        escape(jid.as_str(), Place::Value, &mut write);
        write(b"'");
    }
}

/// Returns the JID in the attribute `name`, or the fault in it.
fn address(attributes: &Attributes, name: &'static str) -> (Option<Jid>, Option<Fault>) {
    const ENOUGH: usize = 80;
    let Some(raw) = attributes.raw_value(name) else {
        return (None, None);
    };
    let value = unescape(raw);
    match Jid::new(&value) {
        Ok(jid) => (Some(jid), None),
        Err(error) => {
            let fault = Fault::BadAddress {
                attribute: name,
                value: value.chars().take(ENOUGH).collect(),
                why: error.to_string(),
            };
            (None, Some(fault))
        }
    }
}
