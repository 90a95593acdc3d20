//! Errors of a component stream, and how soon the gateway tries again.

use std::io;
use std::time::Duration;

use jid::Jid;
use minidom::Element;
use xmpp_parsers::stream_error::{DefinedCondition, StreamError};

use super::queue::Ending;
use crate::stanza::ScanError;

/// An attempt to attach failed, or a stream ended.
#[derive(Debug, thiserror::Error)]
pub(super) enum StreamFailure {
    /// The server's name has no address.
    #[error("the server's name could not be resolved: {0}")]
    Unresolvable(io::Error),
    /// Nothing listens on the port.
    #[error("the connection was refused")]
    ConnectionRefused,
    /// The network has no route to the server.
    #[error("the server can't be reached: {0}")]
    Unreachable(io::Error),
    /// A step of attaching took too long.
    #[error("{step} took longer than {}", seconds(.limit))]
    TimedOut {
        /// The step, for people.
        step: &'static str,
        /// The limit that the step exceeded.
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
    /// The listener on the port does not speak XEP-0114.
    #[error("what listens there does not speak the component protocol: {0}")]
    WrongPort(String),
    /// `invalid-from`
    #[error("the server does not let us send from that address (invalid-from{0})")]
    ForeignFrom(Said),
    /// Another stream error about a stanza that the gateway wrote.
    #[error("the server could not read what we sent ({condition}{said})")]
    BadStanza {
        /// The stream error's name.
        condition: String,
        said: Said,
    },
    /// `system-shutdown`, or a closed stream.
    #[error("the server closed the stream ({0})")]
    Closed(String),
    /// The connection ended without a stream error or the end of the stream.
    #[error("the server closed the stream ({0})")]
    Vanished(String),
    /// The server sent nothing, and did not answer a ping either.
    #[error("the server has sent nothing for {}, not even the answer to a ping", seconds(.0))]
    Silent(Duration),
    /// The server sends stanzas, but does not answer the gateway's pings.
    #[error("the server has not answered a ping to its own domain for {}", seconds(.0))]
    Unanswered(Duration),
    /// The scanner can't cut the stream into stanzas any more.
    #[error("what the server sends can't be read: {0}")]
    Unreadable(#[from] ScanError),
    #[error("the connection broke: {0}")]
    Broken(io::Error),
    /// A stream error with no advice of its own.
    #[error("the server ended the stream ({condition}{said})")]
    Ended {
        /// The stream error's name.
        condition: String,
        said: Said,
    },
}

/// The text in a server's stream error, if there is one.
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

/// The pace of further attempts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Patience {
    /// The failure passes without a change: the server restarts, the network recovers.
    Short,
    /// The name becomes free when the other component detaches, which may be soon
    /// or never.
    Standby,
    /// An operator has to change a configuration first.
    Long,
}

/// The handshake divides a stream into two phases.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// The server has not accepted the handshake yet.
    Attaching,
    /// The server has accepted the handshake.
    Attached,
}

impl StreamFailure {
    /// Classifies an error of reading or writing.
    pub fn from_io(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::UnexpectedEof => Self::Vanished("end of the connection".to_owned()),
            io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionAborted
            | io::ErrorKind::BrokenPipe => Self::Vanished(error.to_string()),
            _ => Self::Broken(error),
        }
    }

    /// Classifies an error of connecting.
    pub fn from_connect(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::ConnectionRefused => Self::ConnectionRefused,
            _ => Self::Unreachable(error),
        }
    }

    /// Classifies an element that should be a stream error (RFC 6120 §4.9);
    /// `None` for any other element.
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
            // A client or server port rejects the namespace of the stream.
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

    /// The counters use this label.
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

    pub fn patience(&self) -> Patience {
        match self {
            // Most likely another gateway of this datacenter has the name: as
            // soon as that gateway stops, this one takes over.
            Self::Conflict(_) => Patience::Standby,
            Self::WrongSecret(_)
            | Self::UnknownDomain(_)
            | Self::Displaced(_)
            | Self::WrongPort(_)
            | Self::Unanswered(_) => Patience::Long,
            _ => Patience::Short,
        }
    }

    /// Another component is attached under this name.
    pub fn is_taken(&self) -> bool {
        matches!(self, Self::Conflict(_) | Self::Displaced(_))
    }

    /// The way the stream ended decides which stanzas are written again.
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

/// A stanza's sender or recipient for error messages; `(none)` without one.
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

    pub(in super::super) fn classify(condition: &str, phase: Phase) -> StreamFailure {
        let inner = format!(
            "<{condition} xmlns='urn:ietf:params:xml:ns:xmpp-streams'/>\
             <text xmlns='urn:ietf:params:xml:ns:xmpp-streams'>As I said</text>"
        );
        StreamFailure::from_element(stream_error(&inner), phase).unwrap()
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
        let failure =
            StreamFailure::from_element(stream_error("<new xmlns='urn:x'/>"), Phase::Attached);
        assert_eq!(failure.unwrap().reason(), "stream_error");
    }

    #[test]
    fn other_elements_are_no_stream_errors() {
        let element: Element = "<error xmlns='jabber:component:accept'/>".parse().unwrap();
        assert!(StreamFailure::from_element(element, Phase::Attached).is_none());
    }
}
