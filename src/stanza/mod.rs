//! Stanzas as bytes: cut out of a stream, their start tag parsed, their
//! payload left alone.

mod refusal;
mod scanner;
mod tag;

pub use refusal::{Reason, Refusal};
pub use scanner::{Cut, Fault, Limits, ScanError, Scanner};

use std::borrow::Cow;

use bytes::{Bytes, BytesMut};
use jid::Jid;
use minidom::Element;

/// The namespace that stanzas on a component stream and on our links are in,
/// without saying so (XEP-0114 §3).
pub const NAMESPACE: &str = "jabber:component:accept";

/// Which of the three stanzas (RFC 6120 §8.2).
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
}

/// A message, presence or iq: the parsed start tag, and the payload as the
/// bytes that were received.
#[derive(Debug, Clone)]
pub struct Stanza {
    kind: Kind,
    from: Option<Jid>,
    to: Option<Jid>,
    payload: Bytes,
}

impl Stanza {
    /// Reads one stanza that is the whole of `bytes`, as strictly as
    /// [`Scanner`] does.
    ///
    /// # Errors
    /// When it is not exactly one well-formed stanza within `limits`.
    pub fn parse(bytes: Bytes, limits: &Limits) -> Result<Self, Fault> {
        todo!()
    }

    /// A stanza built from its parts; `payload` must be well-formed content.
    #[must_use]
    pub fn new(
        kind: Kind,
        stanza_type: Option<&str>,
        id: Option<&str>,
        from: Option<Jid>,
        to: Option<Jid>,
        payload: &[Element],
    ) -> Self {
        todo!()
    }

    /// Message, presence or iq.
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
        todo!()
    }

    /// The `id` attribute, unescaped.
    #[must_use]
    pub fn id(&self) -> Option<Cow<'_, str>> {
        todo!()
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

    /// The whole stanza as a tree, in [`NAMESPACE`].
    #[must_use]
    pub fn to_element(&self) -> Element {
        todo!()
    }

    /// Replaces the payload by the children (elements and text) of `tree`;
    /// the start tag stays.
    pub fn set_payload_from(&mut self, tree: &Element) {
        todo!()
    }

    /// Appends the stanza to `out`, ready to be spliced into a component
    /// stream.
    pub fn write_to(&self, out: &mut BytesMut) {
        todo!()
    }

    /// The number of bytes that [`Self::write_to`] will append.
    #[must_use]
    pub fn len(&self) -> usize {
        todo!()
    }

    /// Whether an error about this stanza may be sent at all: never about an
    /// error, an iq result, or a presence of type unavailable (RFC 6120 §8.3.1).
    #[must_use]
    pub fn may_be_answered_with_error(&self) -> bool {
        todo!()
    }

    /// The error reply (RFC 6120 §8.3), from the stanza's `to` to its `from`;
    /// `None` when [`Self::may_be_answered_with_error`] says no or there is no sender.
    #[must_use]
    pub fn error_reply(&self, refusal: &Refusal) -> Option<Stanza> {
        todo!()
    }

    /// The iq result for this iq, with `payload` in it.
    #[must_use]
    pub fn result_reply(&self, payload: Option<Element>) -> Stanza {
        todo!()
    }
}
