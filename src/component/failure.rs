//! Why the stream is not up, and what a person can do about it.

use std::io;
use std::time::Duration;

use jid::Jid;
use minidom::Element;
use xmpp_parsers::stream_error::{DefinedCondition, StreamError};

use crate::config::Endpoint;
use crate::host::Host;
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
    /// `system-shutdown`, a closed stream or a closed connection.
    #[error("the server closed the stream ({0})")]
    Closed(String),
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

/// What advice needs to name.
#[derive(Debug, Clone, Copy)]
pub(super) struct Subject<'a> {
    /// `component.server`
    pub server: &'a Endpoint,
    /// `global_host`
    pub global: &'a Host,
    /// `local_host`
    pub local: &'a Host,
}

impl Failure {
    /// From what reading or writing said.
    pub fn from_io(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::UnexpectedEof => Self::Closed("end of the connection".to_owned()),
            io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionAborted
            | io::ErrorKind::BrokenPipe => Self::Closed(error.to_string()),
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
            Self::Closed(_) => "closed",
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
            Self::WrongSecret(_)
            | Self::UnknownDomain(_)
            | Self::Conflict(_)
            | Self::Displaced(_)
            | Self::WrongPort(_)
            | Self::Unanswered(_) => Patience::Long,
            _ => Patience::Short,
        }
    }

    /// Whether one of the stanzas that we wrote last is what ended the stream.
    pub fn blames_a_stanza(&self) -> bool {
        matches!(self, Self::ForeignFrom(_) | Self::BadStanza { .. })
    }

    /// What to change, and where.
    pub fn advice(
        &self,
        Subject {
            server,
            global,
            local,
        }: Subject<'_>,
    ) -> String {
        let port = server.port;
        match self {
            Self::Unresolvable(_) => format!(
                "Check `component.server` ({server}) and this machine's DNS."
            ),
            Self::ConnectionRefused => format!(
                "Is the server running, and does it accept components there? Prosody: \
                 `component_ports = {{ {port} }}` and `component_interfaces` in the global section; \
                 ejabberd: a `listen` entry with `port: {port}` and `module: ejabberd_service`; \
                 MongooseIM: `[[listen.component]]` with `port = {port}`. \
                 If it listens elsewhere, change `component.server`."
            ),
            Self::Unreachable(_) | Self::TimedOut { .. } => format!(
                "Check `component.server` ({server}), the network and the firewalls between this \
                 gateway and the server, and that the server is not overloaded."
            ),
            Self::WrongSecret(_) => format!(
                "Make `component.secret` the same as the server's. Prosody: `component_secret` under \
                 `Component \"{global}\"`; ejabberd: `hosts: {{\"{global}\": {{password: …}}}}` of the \
                 `ejabberd_service` listener on port {port} (it says not-authorized as well when \
                 {global} is not among its `hosts`); MongooseIM: `password` of `[[listen.component]]`."
            ),
            Self::UnknownDomain(_) => format!(
                "Prosody: add `Component \"{global}\"` with a `component_secret` (and no module name \
                 behind it; not `VirtualHost`), then reload and activate it; ejabberd: add \
                 `\"{global}\": {{password: …}}` to the listener's `hosts`. Or correct `global_host`."
            ),
            Self::Conflict(_) => format!(
                "Is a second gateway or another component attached as {global}, or does the server \
                 itself host it (as an account domain or a built-in service)? Stop that one, or take \
                 {global} out of the server's hosts. If it is only a dead connection of ours: Prosody \
                 `component_conflict_resolve = \"kick_old\"` under `Component \"{global}\"`, MongooseIM \
                 `conflict_behaviour = \"kick_old\"` replace it at once."
            ),
            Self::Displaced(_) => format!(
                "Two gateways (or another component) attach to this server as {global}: stop one of \
                 them. Several nodes of one datacenter need a server node each."
            ),
            Self::WrongPort(_) => format!(
                "Is {port} the component port? It is neither the clients' (5222) nor the servers' (5269). \
                 Prosody: `component_ports`; ejabberd: the listener with `module: ejabberd_service`; \
                 MongooseIM: `[[listen.component]]`. Correct `component.server`."
            ),
            Self::ForeignFrom(_) => format!(
                "The server only takes senders in {global} on this stream. To pass other senders on, \
                 turn its check off: Prosody `validate_from_addresses = false` under \
                 `Component \"{global}\"`; ejabberd and MongooseIM `check_from: false` in the \
                 component listener."
            ),
            Self::BadStanza { .. } => format!(
                "Most likely a stanza larger than the server takes: make `component.stanza_size_limit` \
                 at most the server's own limit. Prosody: `component_stanza_size_limit` (512 KiB unless \
                 set); ejabberd: `max_stanza_size` of the listener on port {port}."
            ),
            Self::Closed(_) => {
                "If the server is not being restarted, its log says why. The gateway attaches again \
                 as soon as it can."
                    .to_owned()
            }
            Self::Silent(_) | Self::Broken(_) => format!(
                "The connection to {server} is dead, or the server hangs. The gateway attaches again."
            ),
            Self::Unanswered(_) => format!(
                "Stanzas are confirmed by pings to {local}: is that, `local_host`, a domain that this \
                 server hosts?"
            ),
            Self::Unreadable(_) => {
                "The gateway closed the stream and attaches again. This is a fault of the server, or \
                 of the gateway: please report it."
                    .to_owned()
            }
            Self::Ended { .. } => "The server's log may say more.".to_owned(),
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
mod tests {
    use super::*;

    fn stream_error(inner: &str) -> Element {
        format!("<e:error xmlns:e='http://etherx.jabber.org/streams'>{inner}</e:error>")
            .parse()
            .unwrap()
    }

    fn classify(condition: &str, phase: Phase) -> Failure {
        let inner = format!(
            "<{condition} xmlns='urn:ietf:params:xml:ns:xmpp-streams'/>\
             <text xmlns='urn:ietf:params:xml:ns:xmpp-streams'>As I said</text>"
        );
        Failure::from_element(stream_error(&inner), phase).unwrap()
    }

    #[test]
    fn each_stream_error_has_its_reaction() {
        use Patience::{Long, Short};
        use Phase::{Attached, Attaching};
        for (condition, phase, reason, patience, blames) in [
            ("not-authorized", Attaching, "not_authorized", Long, false),
            ("host-unknown", Attaching, "host_unknown", Long, false),
            ("conflict", Attaching, "conflict", Long, false),
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
            assert_eq!(failure.blames_a_stanza(), blames, "{condition}");
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

    #[test]
    fn advice_names_the_setting_of_each_server() {
        let server = Endpoint {
            host: "127.0.0.1".to_owned(),
            port: 5347,
        };
        let (global, local) = (
            Host::new("example.test").unwrap(),
            Host::new("dc1.test").unwrap(),
        );
        let subject = Subject {
            server: &server,
            global: &global,
            local: &local,
        };
        for (failure, expected) in [
            (
                Failure::ConnectionRefused,
                ["component_ports = { 5347 }", "ejabberd_service"],
            ),
            (
                classify("not-authorized", Phase::Attaching),
                ["component_secret", "hosts: {\"example.test\""],
            ),
            (
                classify("host-unknown", Phase::Attaching),
                ["Component \"example.test\"", "hosts"],
            ),
            (
                classify("conflict", Phase::Attaching),
                ["component_conflict_resolve", "conflict_behaviour"],
            ),
            (
                classify("invalid-from", Phase::Attached),
                ["validate_from_addresses", "check_from"],
            ),
            (
                classify("not-well-formed", Phase::Attached),
                ["component_stanza_size_limit", "max_stanza_size"],
            ),
        ] {
            let advice = failure.advice(subject);
            for part in expected {
                assert!(advice.contains(part), "{part} is not in: {advice}");
            }
        }
    }
}
