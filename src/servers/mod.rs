//! Everything that is special to one server software, one file each: its detection,
//! its quirks, its lists of sessions and accounts, the advice for it in errors, and
//! its snippet. No other room names a server software; `tests/floors.rs` checks
//! that.
//!
//! # A fourth server
//!
//! 1. `src/servers/NAME.rs`: a unit struct that implements [`ServerSoftware`].
//!    The compiler lists what is missing; `lists.rs` has the forms of XEP-0133
//!    and the items of XEP-0030, `snippet.rs` the values of the configuration.
//! 2. Its `mod` line below, and its entry in [`ALL`].
//!
//! Then `strait snippet NAME` prints its snippet, its advice stands in every
//! error about attaching, and its lists are tried. Only a server whose lists
//! need another way than [`AskServer`] has, or an option of its own, touches
//! more: `config` (`sessions.sources`, `[control]`) and `control`.

mod ejabberd;
mod lists;
mod mongooseim;
mod prosody;
mod snippet;

use std::time::Duration;

use async_trait::async_trait;
use jid::{BareJid, FullJid};
use minidom::Element;
use serde_json::Value;

pub(crate) use self::mongooseim::HOST_WITHOUT_GATEWAY;
pub use self::snippet::SnippetRequest;

use crate::config::{ControlConfig, Secret, Source};
use crate::host::Host;

/// Every known software. The lists of a server that is not recognised are tried
/// in this order.
pub static ALL: &[&dyn ServerSoftware] = &[
    &prosody::Prosody,
    &ejabberd::Ejabberd,
    &mongooseim::MongooseIm,
];

/// The parts that are special to one server software.
#[async_trait]
pub trait ServerSoftware: Send + Sync {
    /// The name for people.
    fn name(&self) -> &'static str;

    /// The name in lower case: the argument of `strait snippet`, and part of
    /// the name in the server's own disco#info.
    fn word(&self) -> &'static str;

    /// The quirks of a server that has `features` (XEP-0030).
    fn quirks(&self, _features: &[&str]) -> ServerQuirks {
        ServerQuirks::default()
    }

    /// The interface for administrators that is configured, if this software
    /// has one.
    fn admin_api(&self, _control: &ControlConfig) -> Option<AdminApi> {
        None
    }

    /// The value of `sessions.sources` for [`sessions`](Self::sessions).
    fn list_source(&self) -> Source;

    /// All sessions of the server, under its own addresses.
    async fn sessions(&self, server: &dyn AskServer) -> Result<SessionList, NoAnswer>;

    /// All accounts of the server, under its own addresses.
    async fn accounts(&self, server: &dyn AskServer) -> Result<Vec<BareJid>, NoAnswer>;

    /// The change to make in this server when the component `domain` has `problem`.
    fn advice(&self, problem: ServerProblem, domain: &Host) -> Option<String>;

    /// The server's configuration for this gateway, ready to be pasted.
    ///
    /// # Errors
    /// A text for people, if the server can't do what is requested.
    fn snippet(&self, request: &SnippetRequest) -> Result<String, &'static str>;
}

/// The differences of the attached server from RFC 6121 and the XEPs that the
/// gateway has to work around.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ServerQuirks {
    /// The server fails when another domain queries the features of an account
    /// (XEP-0030): the gateway answers with these features.
    pub account_features: Option<Vec<String>>,
    /// A message to a session that is offline arrives twice at each session
    /// with carbons (XEP-0280): it has to be sent to the bare JID.
    pub doubles_messages_to_the_gone: bool,
    /// The presence that the server sends by privilege (XEP-0356) leaves out
    /// the end of a session whose connection is lost or closed.
    pub hides_lost_connections: bool,
}

/// The name and the quirks of the attached server, as far as known.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct KnownServer {
    /// The server's name for itself, or that of the software configured.
    pub name: Option<String>,
    /// The quirks of its software.
    pub quirks: ServerQuirks,
}

impl KnownServer {
    /// The server as far as the configuration names its software.
    #[must_use]
    pub fn configured(control: &ControlConfig) -> Self {
        let software = ALL.iter().find(|it| it.admin_api(control).is_some());
        software.map_or_else(Self::default, |it| Self::new(Some(it.name()), &[]))
    }

    /// The server that answers disco#info with `info`.
    pub(crate) fn of_info(info: &Element) -> Self {
        let server = |child: &&Element| {
            child.name() == "identity" && child.attr("category") == Some("server")
        };
        let identity = info.children().find(server);
        let features = info.children().filter(|child| child.name() == "feature");
        let features: Vec<&str> = features.filter_map(|it| it.attr("var")).collect();
        Self::new(identity.and_then(|it| it.attr("name")), &features)
    }

    fn new(name: Option<&str>, features: &[&str]) -> Self {
        let name = name.map(str::to_owned);
        let mut known = Self {
            name,
            ..Self::default()
        };
        if let Some(software) = known.software() {
            known.quirks = software.quirks(features);
        }
        known
    }

    /// The server's software, if it is one of [`ALL`].
    #[must_use]
    pub fn software(&self) -> Option<&'static dyn ServerSoftware> {
        let name = self.name.as_deref()?.to_lowercase();
        ALL.iter().copied().find(|it| name.contains(it.word()))
    }
}

/// A server's HTTP interface for administrators.
#[derive(Debug, Clone)]
pub struct AdminApi {
    /// http or https.
    pub url: String,
    /// The user name for basic authentication (RFC 7617).
    pub username: String,
    /// The password for basic authentication.
    pub password: Secret,
}

/// The interface for administrators that the configuration has.
#[must_use]
pub fn admin_api(control: &ControlConfig) -> Option<AdminApi> {
    ALL.iter().find_map(|it| it.admin_api(control))
}

/// The ways to query the server.
#[async_trait]
pub trait AskServer: Send + Sync {
    /// Sends an iq of type `kind` from the control component to the server's
    /// domain, and returns the result.
    async fn iq(&self, kind: &str, payload: Element) -> Result<Element, NoAnswer>;

    /// Posts `body` to the [`AdminApi`], and returns the response's body.
    async fn post(&self, body: &Value) -> Result<Value, NoAnswer>;

    /// `local_host`
    fn local(&self) -> &Host;
}

/// The reason for which the server returned no list.
#[derive(Debug, thiserror::Error)]
pub enum NoAnswer {
    /// No connection for the query is attached at present.
    #[error("the control component is not attached")]
    Detached,
    /// No answer came in time.
    #[error("the server did not answer within {} s", .0.as_secs())]
    Late(Duration),
    /// The server answered with an error.
    #[error("the server refuses ({0})")]
    Refused(String),
    /// The answer lacks the requested part.
    #[error("the server answers without {0}")]
    Strange(&'static str),
    /// The HTTP request failed. The error holds no password.
    #[error("the server's admin interface cannot be asked: {0}")]
    Http(#[from] reqwest::Error),
}

/// Every session of a server, those without presence and hibernating ones
/// (XEP-0198) included.
#[derive(Debug, Default)]
pub struct SessionList {
    /// All sessions that could be read.
    pub sessions: Vec<FullJid>,
    /// Users whose sessions could not be read.
    pub unclear: Vec<BareJid>,
}

/// Problems that an operator has to solve in the server's configuration. A number
/// is the component's port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ServerProblem {
    /// Nothing listens on the port.
    NotListening(u16),
    /// Something else than a component listener listens on the port.
    NotTheComponentPort,
    /// The secrets differ.
    WrongSecret(u16),
    /// The server has no such component.
    UnknownDomain(u16),
    /// A dead connection of the gateway still holds the domain.
    StaleConnection,
    /// The server refuses senders of other domains.
    SenderCheck,
    /// A stanza is larger than the server takes.
    StanzaTooLarge(u16),
    /// The stream receives stanzas for other domains.
    RoutesOtherDomains(u16),
    /// Two gateways are attached as one domain.
    TwoGateways,
    /// Stanzas for the domain are routed elsewhere.
    LostStanzas,
    /// The domain has privileges (XEP-0356) that it must not have.
    Privileged,
    /// The server does not list its sessions.
    NoSessionList,
    /// The server does not list its accounts.
    NoAccountList,
}

/// The advice of each software that has one, for `problem` of the component
/// `domain`.
#[must_use]
pub fn advice(problem: ServerProblem, domain: &Host) -> String {
    let advice = |it: &&dyn ServerSoftware| {
        let advice = it.advice(problem, domain)?;
        Some(format!("{}: {advice}", it.name()))
    };
    ALL.iter().filter_map(advice).collect::<Vec<_>>().join("; ")
}

#[cfg(test)]
mod tests;
