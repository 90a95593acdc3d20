//! Replies to a stanza.

use minidom::Element;
use xmpp_parsers::stanza_error::StanzaError;

use super::tag::Attributes;
use super::text::unescape;
use super::{Kind, Refusal, Stanza, payload};

impl Stanza {
    /// Returns whether an error about this stanza may be sent: never about an error, an iq
    /// result, or a presence of type unavailable (RFC 6120 §8.3.1, RFC 6121 §4.7.1). Errors about
    /// those could loop, or reach an entity that does not wait for them.
    #[must_use]
    pub fn may_be_answered_with_error(&self) -> bool {
        match (self.kind(), self.stanza_type()) {
            (_, Some("error"))
            | (Kind::Iq, Some("result"))
            | (Kind::Presence, Some("unavailable")) => false,
            (Kind::Message | Kind::Presence | Kind::Iq, _) => true,
        }
    }

    /// The error reply (RFC 6120 §8.3), from the stanza's `to` to its `from`, with the same `id`
    /// and `xml:lang` and without the original payload; `None` when
    /// [`Self::may_be_answered_with_error`] is false or there is no sender.
    #[must_use]
    pub fn error_reply(&self, refusal: &Refusal) -> Option<Stanza> {
        if !self.may_be_answered_with_error() || self.from().is_none() {
            return None;
        }
        let (kind, condition) = refusal.reason.error();
        let error = StanzaError::new(kind, condition, "en", refusal.text.as_str());
        Some(self.reply("error", &[error.into()]))
    }

    /// The iq result for this iq, with `payload`.
    #[must_use]
    pub fn result_reply(&self, payload: Option<Element>) -> Stanza {
        self.reply("result", payload.as_slice())
    }

    fn reply(&self, stanza_type: &'static str, payload: &[Element]) -> Stanza {
        let id = self.id();
        let lang = self.attributes.raw_value("xml:lang").map(unescape);
        let pairs: Vec<(&str, &str)> = [
            ("type", Some(stanza_type)),
            ("id", id.as_deref()),
            ("xml:lang", lang.as_deref()),
        ]
        .into_iter()
        .filter_map(|(name, value)| Some((name, value?)))
        .collect();
        Stanza {
            kind: self.kind(),
            from: self.to().cloned(),
            to: self.from().cloned(),
            stanza_type: Some(stanza_type.into()),
            attributes: Attributes::written(&pairs),
            payload: payload::write(payload),
        }
    }
}
