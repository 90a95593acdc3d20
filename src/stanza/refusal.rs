//! The reasons for not delivering a stanza: an error for the sender, a label for the counters.

use xmpp_parsers::stanza_error::{DefinedCondition, ErrorType};

/// The refusal of a stanza: the error of RFC 6120 §8.3 for the sender, and the label under which
/// the refusal is counted.
#[derive(Debug, Clone)]
pub struct Refusal {
    /// The label in counters and logs.
    pub reason: Reason,
    /// A sentence for the sender. The text never names another user's data or a local host.
    pub text: String,
}

impl Refusal {
    /// Creates a refusal for `reason`, explained by `text`.
    pub fn new(reason: Reason, text: impl Into<String>) -> Self {
        Self {
            reason,
            text: text.into(),
        }
    }
}

/// The reasons to refuse a stanza; each is one label of the counter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Reason {
    /// No session, account or service under the shared domain has this address.
    Unavailable,
    /// The stanza waited longer than `connections.max_wait` for its next hop.
    Timeout,
    /// The queue for held stanzas is full.
    Overflow,
    /// The sender's address may not be used on this host.
    ForeignSender,
    /// The sender's localpart belongs to another host's account.
    ForeignAccount,
    /// The stanza returned to a host that it had passed before.
    Loop,
    /// `to` or `from` is missing or malformed.
    BadAddress,
    /// The stanza is larger than `component.stanza_size_limit`, or nested too deep.
    TooLarge,
    /// The stanza is not well-formed, or has XML that XMPP does not allow (RFC 6120 §11.1).
    Malformed,
}

impl Reason {
    /// Every reason, for tables and for initialising counters.
    pub const ALL: [Self; 9] = [
        Self::Unavailable,
        Self::Timeout,
        Self::Overflow,
        Self::ForeignSender,
        Self::ForeignAccount,
        Self::Loop,
        Self::BadAddress,
        Self::TooLarge,
        Self::Malformed,
    ];

    /// The counter's label.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Unavailable => "unavailable",
            Self::Timeout => "timeout",
            Self::Overflow => "overflow",
            Self::ForeignSender => "foreign_sender",
            Self::ForeignAccount => "foreign_account",
            Self::Loop => "loop",
            Self::BadAddress => "bad_address",
            Self::TooLarge => "too_large",
            Self::Malformed => "malformed",
        }
    }

    /// The error condition that the sender receives (RFC 6120 §8.3.3).
    #[must_use]
    pub fn error(self) -> (ErrorType, DefinedCondition) {
        match self {
            Self::Unavailable => (ErrorType::Cancel, DefinedCondition::ServiceUnavailable),
            Self::Timeout => (ErrorType::Wait, DefinedCondition::RemoteServerTimeout),
            Self::Overflow => (ErrorType::Wait, DefinedCondition::ResourceConstraint),
            Self::ForeignSender | Self::ForeignAccount => {
                (ErrorType::Cancel, DefinedCondition::NotAllowed)
            }
            Self::Loop => (ErrorType::Cancel, DefinedCondition::ServiceUnavailable),
            Self::BadAddress => (ErrorType::Modify, DefinedCondition::JidMalformed),
            Self::TooLarge => (ErrorType::Modify, DefinedCondition::PolicyViolation),
            Self::Malformed => (ErrorType::Modify, DefinedCondition::BadRequest),
        }
    }
}
