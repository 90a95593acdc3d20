//! Why the stream is not up, and what a person can do about it.

use std::io;
use std::time::Duration;

use jid::Jid;
use minidom::Element;
use xmpp_parsers::stream_error::{DefinedCondition, StreamError};

use super::queue::Ending;
use crate::stanza::ScanError;

/// Why an attempt to attach failed, or a stream ended.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    /// The server's name has no address.
    #[error("the server's name could not be resolved: {0}")]
    Unresolvable(io::Error),
    /// Nothing listens on the port.
    #[error("the connection was refused")]
    ConnectionRefused,
    /// No way to the server.
    #[error("the server can't be reached: {0}")]
    Unreachable(io::Error),
    /// A step of attaching took too long.
    #[error("{step} took longer than {}", seconds(.limit))]
    TimedOut {
        /// What was waited for.
        step: &'static str,
        /// How long.
        limit: Duration,
    },
    /// `not-authorized`
    #[error("the server does not accept the handshake (not-authorized{0})")]
    WrongSecret(Said),
    /// `host-unknown`
    #[error("the server does not know a component of this name (host-unknown{0})")]
    UnknownDomain(Said),
    /// `conflict` while attaching.
    #[error("the domain is taken (conflict{0})")]
    Conflict(Said),
    /// `conflict` on a stream that was up.
    #[error("another component has taken the domain over (conflict{0})")]
    Displaced(Said),
    /// What answers there does not speak XEP-0114.
    #[error("what listens there does not speak the component protocol: {0}")]
    WrongPort(String),
    /// `invalid-from`
    #[error("the server does not let us send from that address (invalid-from{0})")]
    ForeignFrom(Said),
    /// Another stream error about what we wrote.
    #[error("the server could not read what we sent ({condition}{said})")]
    BadStanza {
        /// The stream error's name.
        condition: String,
        /// The server's words.
        said: Said,
    },
    /// `system-shutdown`, or a closed stream.
    #[error("the server closed the stream ({0})")]
    Closed(String),
    /// The connection is gone, and the server did not say that it ends the stream.
    #[error("the server closed the stream ({0})")]
    Vanished(String),
    /// A peer that is gone without a word.
    #[error("the server has sent nothing for {}, not even the answer to a ping", seconds(.0))]
    Silent(Duration),
    /// Stanzas come in, but our pings are not answered.
    #[error("the server has not answered a ping to its own domain for {}", seconds(.0))]
    Unanswered(Duration),
    /// The stream can't be cut into stanzas any more.
    #[error("what the server sends can't be read: {0}")]
    Unreadable(#[from] ScanError),
    /// Reading or writing failed.
    #[error("the connection broke: {0}")]
    Broken(io::Error),
    /// A stream error with no advice of its own.
    #[error("the server ended the stream ({condition}{said})")]
    Ended {
        /// The stream error's name.
        condition: String,
        /// The server's words.
        said: Said,
    },
}

/// The text that a server put into its stream error, if it did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Said(Option<String>);

impl std::fmt::Display for Said {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.0 {
            Some(text) => write!(f, ": “{}”", text.escape_debug()),
            None => Ok(()),
        }
    }
}

/// How eagerly to try again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Patience {
    /// It passes by itself: the server restarts, the network comes back.
    Short,
    /// It passes when another one goes away, which may be soon or never.
    Standby,
    /// Somebody has to change a configuration first.
    Long,
}

/// Whether the handshake was still to come when something happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// Before the server accepted the handshake.
    Attaching,
    /// After it.
    Attached,
}

impl Failure {
    /// From what reading or writing said.
    pub fn from_io(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::UnexpectedEof => Self::Vanished("end of the connection".to_owned()),
            io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionAborted
            | io::ErrorKind::BrokenPipe => Self::Vanished(error.to_string()),
            _ => Self::Broken(error),
        }
    }

    /// From what connecting said.
    pub fn from_connect(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::ConnectionRefused => Self::ConnectionRefused,
            _ => Self::Unreachable(error),
        }
    }

    /// From an element that should be a stream error (RFC 6120 §4.9); `None`
    /// when it is something else.
    pub fn from_element(element: Element, phase: Phase) -> Option<Self> {
        if !element.is("error", xmpp_parsers::ns::STREAM) {
            return None;
        }
        let fallback = String::from(&element);
        let failure = match StreamError::try_from(element) {
            Ok(error) => Self::from_stream_error(&error, phase),
            Err(_) => Self::Ended {
                condition: "a stream error of an unknown kind".to_owned(),
                said: Said(Some(fallback)),
            },
        };
        Some(failure)
    }

    fn from_stream_error(error: &StreamError, phase: Phase) -> Self {
        use DefinedCondition as Condition;
        let said = Said(error.get_best_text(vec!["en"]).map(|(_, t)| t.clone()));
        let condition = error.condition.to_string();
        match (&error.condition, phase) {
            (Condition::NotAuthorized, _) => Self::WrongSecret(said),
            (Condition::HostUnknown | Condition::HostGone, _) => Self::UnknownDomain(said),
            (Condition::Conflict, Phase::Attaching) => Self::Conflict(said),
            (Condition::Conflict, Phase::Attached) => Self::Displaced(said),
            (Condition::InvalidFrom, Phase::Attached) => Self::ForeignFrom(said),
            // A client or server port takes offence at the stream's namespace.
            (Condition::InvalidNamespace | Condition::BadNamespacePrefix, Phase::Attaching) => {
                Self::WrongPort(format!("{condition}{said}"))
            }
            (Condition::SystemShutdown | Condition::Reset, _) => {
                Self::Closed(format!("{condition}{said}"))
            }
            (
                Condition::BadFormat
                | Condition::BadNamespacePrefix
                | Condition::ImproperAddressing
                | Condition::InvalidNamespace
                | Condition::InvalidXml
                | Condition::NotWellFormed
                | Condition::PolicyViolation
                | Condition::RestrictedXml
                | Condition::UnsupportedStanzaType,
                Phase::Attached,
            ) => Self::BadStanza { condition, said },
            _ => Self::Ended { condition, said },
        }
    }

    /// The label of the counters.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Unresolvable(_) => "unresolvable",
            Self::ConnectionRefused => "connection_refused",
            Self::Unreachable(_) => "unreachable",
            Self::TimedOut { .. } => "timeout",
            Self::WrongSecret(_) => "not_authorized",
            Self::UnknownDomain(_) => "host_unknown",
            Self::Conflict(_) => "conflict",
            Self::Displaced(_) => "displaced",
            Self::WrongPort(_) => "wrong_port",
            Self::ForeignFrom(_) => "invalid_from",
            Self::BadStanza { .. } => "bad_stanza",
            Self::Closed(_) | Self::Vanished(_) => "closed",
            Self::Silent(_) => "silent",
            Self::Unanswered(_) => "ping_unanswered",
            Self::Unreadable(_) => "unreadable",
            Self::Broken(_) => "broken",
            Self::Ended { .. } => "stream_error",
        }
    }

    /// How eagerly to try again.
    pub fn patience(&self) -> Patience {
        match self {
            // Most likely another gateway of this datacenter has it: as soon as
            // that one is gone, we take over.
            Self::Conflict(_) => Patience::Standby,
            Self::WrongSecret(_)
            | Self::UnknownDomain(_)
            | Self::Displaced(_)
            | Self::WrongPort(_)
            | Self::Unanswered(_) => Patience::Long,
            _ => Patience::Short,
        }
    }

    /// Whether another one is attached under this name.
    pub fn is_taken(&self) -> bool {
        matches!(self, Self::Conflict(_) | Self::Displaced(_))
    }

    /// What it means for what we wrote.
    pub fn ending(&self) -> Ending {
        match self {
            Self::ForeignFrom(_) => Ending::BlamedSender,
            Self::BadStanza { .. } => Ending::Blamed,
            Self::Vanished(_) | Self::Broken(_) => Ending::Died,
            Self::Silent(_) => Ending::FellSilent,
            _ => Ending::Orderly,
        }
    }
}

/// For error messages: who sent a stanza, or that nobody is named.
pub(super) fn shown(jid: Option<&Jid>) -> &str {
    jid.map_or("(none)", Jid::as_str)
}

fn seconds(time: &Duration) -> String {
    format!("{} s", time.as_secs())
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    fn stream_error(inner: &str) -> Element {
        format!("<e:error xmlns:e='http://etherx.jabber.org/streams'>{inner}</e:error>")
            .parse()
            .unwrap()
    }

    pub(in super::super) fn classify(condition: &str, phase: Phase) -> Failure {
        let inner = format!(
            "<{condition} xmlns='urn:ietf:params:xml:ns:xmpp-streams'/>\
             <text xmlns='urn:ietf:params:xml:ns:xmpp-streams'>As I said</text>"
        );
        Failure::from_element(stream_error(&inner), phase).unwrap()
    }

    #[test]
    fn each_stream_error_has_its_reaction() {
        use Patience::{Long, Short, Standby};
        use Phase::{Attached, Attaching};
        for (condition, phase, reason, patience, blames) in [
            ("not-authorized", Attaching, "not_authorized", Long, false),
            ("host-unknown", Attaching, "host_unknown", Long, false),
            ("conflict", Attaching, "conflict", Standby, false),
            ("conflict", Attached, "displaced", Long, false),
            ("invalid-namespace", Attaching, "wrong_port", Long, false),
            ("invalid-from", Attached, "invalid_from", Short, true),
            ("not-well-formed", Attached, "bad_stanza", Short, true),
            ("policy-violation", Attached, "bad_stanza", Short, true),
            ("improper-addressing", Attached, "bad_stanza", Short, true),
            ("system-shutdown", Attached, "closed", Short, false),
            ("connection-timeout", Attached, "stream_error", Short, false),
            (
                "undefined-condition",
                Attaching,
                "stream_error",
                Short,
                false,
            ),
        ] {
            let failure = classify(condition, phase);
            assert_eq!(failure.reason(), reason, "{condition}");
            assert_eq!(failure.patience(), patience, "{condition}");
            let blamed = matches!(failure.ending(), Ending::Blamed | Ending::BlamedSender);
            assert_eq!(blamed, blames, "{condition}");
            assert!(failure.to_string().contains("As I said"), "{failure}");
        }
    }

    #[test]
    fn an_unknown_stream_error_is_still_one() {
        let failure = Failure::from_element(stream_error("<new xmlns='urn:x'/>"), Phase::Attached);
        assert_eq!(failure.unwrap().reason(), "stream_error");
    }

    #[test]
    fn other_elements_are_no_stream_errors() {
        let element: Element = "<error xmlns='jabber:component:accept'/>".parse().unwrap();
        assert!(Failure::from_element(element, Phase::Attached).is_none());
    }
}
