//! Why a stanza is not delivered, for its sender and for the counters.

use xmpp_parsers::stanza_error::{DefinedCondition, ErrorType};

/// Why a stanza goes back to its sender: the error of RFC 6120 §8.3, and the
/// label under which it is counted.
#[derive(Debug, Clone)]
pub struct Refusal {
    /// What the counters and logs call it.
    pub reason: Reason,
    /// A sentence for the sender. Never names another user's data or a local host.
    pub text: String,
}

impl Refusal {
    /// A refusal for `reason`, explained by `text`.
    pub fn new(reason: Reason, text: impl Into<String>) -> Self {
        Self {
            reason,
            text: text.into(),
        }
    }
}

/// The reasons to refuse a stanza; one label of the counter each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Reason {
    /// Nobody and nothing under the shared domain answers to this address.
    Unavailable,
    /// It waited longer than `connections.max_wait` for its next hop.
    Timeout,
    /// The queue for held stanzas is full.
    Overflow,
    /// The sender's address may not be used here.
    ForeignSender,
    /// The sender's localpart belongs to another host's account.
    ForeignAccount,
    /// The stanza came back to where it had been.
    Loop,
    /// `to` or `from` is missing or malformed.
    BadAddress,
    /// Larger than `component.stanza_size_limit`, or nested too deep.
    TooLarge,
    /// Not well-formed, or XML that XMPP does not allow (RFC 6120 §11.1).
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

    /// The error that tells the sender (RFC 6120 §8.3.3).
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
