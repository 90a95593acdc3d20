//! Answers stanzas for the global domain itself: disco, ping, version.

mod accounts;
#[cfg(test)]
mod tests;

pub use accounts::answer_for_account;

use std::borrow::Cow;
use std::collections::BTreeSet;

use jid::Jid;
use minidom::Element;
use xmpp_parsers::disco::{DiscoInfoResult, DiscoItemsResult, Identity, Item};
use xmpp_parsers::ns;
use xmpp_parsers::stanza_error::{DefinedCondition, ErrorType, StanzaError};
use xmpp_parsers::version::VersionResult;

use crate::host::Host;
use crate::servers::{self, ServerProblem};
use crate::stanza::{Kind, Reason, Refusal, Stanza};

/// The gateway's name (XEP-0030 identity, XEP-0092 name).
const NAME: &str = "strait";

/// The features that disco#info lists: those that [`Services::answer`] answers.
const FEATURES: [&str; 4] = [ns::DISCO_INFO, ns::DISCO_ITEMS, ns::PING, ns::VERSION];

/// The prefix of the namespaces of all versions of XEP-0356.
const PRIVILEGE: &str = "urn:xmpp:privilege:";

/// Answers stanzas that are addressed to the global domain itself.
#[derive(Debug, Clone)]
pub struct Services {
    global: Host,
    users_can_see_hidden: bool,
}

/// A service domain that some datacenter offers.
#[derive(Debug, Clone, Copy)]
pub struct Offered<'a> {
    /// `muc.example.com`
    pub domain: &'a Host,
    /// Whether the service is hidden from some senders.
    pub hidden: bool,
}

/// The result for a stanza to the global domain itself.
#[derive(Debug)]
pub enum Answer {
    /// The sender receives these replies.
    Reply(Vec<Stanza>),
    /// RFC 6120 requires no answer to the stanza; the text names the stanza.
    Absorb(&'static str),
    /// The stanza has no answer either, but the operator has to know; the text
    /// names the problem and the remedy.
    Warn(String),
}

impl Services {
    /// Answers for the shared domain `global`; `users_can_see_hidden` as in
    /// `disco.users_can_see_hidden_services`.
    #[must_use]
    pub fn new(global: Host, users_can_see_hidden: bool) -> Self {
        Self {
            global,
            users_can_see_hidden,
        }
    }

    /// The answer to `stanza`, whose recipient is the global domain (bare, or
    /// with a resource). Addresses in it are global ones. `offered` are the
    /// services of all datacenters.
    #[must_use]
    pub fn answer<'a>(
        &self,
        stanza: &Stanza,
        offered: impl Iterator<Item = Offered<'a>>,
    ) -> Answer {
        let (Some(sender), Some(recipient)) = (stanza.from(), stanza.to()) else {
            return Answer::Absorb("stanza without a sender or recipient");
        };
        match stanza.kind() {
            Kind::Iq => self.answer_iq(stanza, sender, offered),
            Kind::Message => self.answer_message(stanza, sender),
            Kind::Presence => answer_presence(stanza.stanza_type(), sender, recipient),
        }
    }

    fn answer_iq<'a>(
        &self,
        iq: &Stanza,
        sender: &Jid,
        offered: impl Iterator<Item = Offered<'a>>,
    ) -> Answer {
        match iq.stanza_type() {
            Some("get") => self.answer_get(iq, self.visible_to(sender, offered)),
            Some("set") => self.unknown_request(iq),
            Some("result" | "error") => Answer::Absorb("iq response that nobody waits for"),
            _ => refuse(
                iq,
                &Refusal::new(
                    Reason::Malformed,
                    "the type of an iq is get, set, result or error",
                ),
            ),
        }
    }

    /// A sender without a localpart is no user but a component or a server, which
    /// need all services.
    fn visible_to<'a>(
        &self,
        sender: &Jid,
        offered: impl Iterator<Item = Offered<'a>>,
    ) -> impl Iterator<Item = &'a Host> {
        let sees_all = self.users_can_see_hidden || sender.node().is_none();
        offered
            .filter(move |service| sees_all || !service.hidden)
            .map(|service| service.domain)
    }

    fn answer_get<'a>(&self, iq: &Stanza, visible: impl Iterator<Item = &'a Host>) -> Answer {
        let Some(payload) = Request::of(iq) else {
            return refuse(
                iq,
                &Refusal::new(Reason::Malformed, "an iq request holds exactly one element"),
            );
        };
        match (payload.name, &*payload.namespace) {
            ("query", ns::DISCO_INFO | ns::DISCO_ITEMS) if payload.has_node => no_such_node(iq),
            ("query", ns::DISCO_INFO) => result(iq, Some(info().into())),
            ("query", ns::DISCO_ITEMS) => result(iq, Some(items(visible).into())),
            ("query", ns::VERSION) => result(iq, Some(version().into())),
            ("ping", ns::PING) => result(iq, None),
            _ => self.unknown_request(iq),
        }
    }

    fn unknown_request(&self, iq: &Stanza) -> Answer {
        refuse(
            iq,
            &Refusal::new(
                Reason::Unavailable,
                format!(
                    "{} itself answers disco, ping and version only",
                    self.global
                ),
            ),
        )
    }

    fn answer_message(&self, message: &Stanza, sender: &Jid) -> Answer {
        let from_our_server = sender.is_bare() && is_domain(sender, &self.global);
        match message.stanza_type() {
            Some("error") => Answer::Absorb("error message"),
            _ if from_our_server && grants_privileges(message) => {
                Answer::Warn(self.privileges_warning())
            }
            _ => refuse(
                message,
                &Refusal::new(
                    Reason::Unavailable,
                    format!(
                        "nobody reads messages to {}: write to somebody there",
                        self.global
                    ),
                ),
            ),
        }
    }

    fn privileges_warning(&self) -> String {
        format!(
            "the server grants privileges (XEP-0356) to {0}; take them away at once. Remote users \
             write under {0}, so each of them can use these privileges to read and change local \
             users' data. {1}. Only the control domain may have privileges",
            self.global,
            servers::advice(ServerProblem::Privileged, &self.global)
        )
    }
}

/// Whether `jid` has no localpart and the domain `domain`.
fn is_domain(jid: &Jid, domain: &Host) -> bool {
    jid.node().is_none() && *domain == *jid.domain().as_str()
}

/// Whether this is the advertisement of XEP-0356 §4.2.
fn grants_privileges(message: &Stanza) -> bool {
    // The server's other messages to the gateway are rare: no cheaper check comes
    // first.
    let mut elements = message.elements();
    while elements.advance() {
        if elements.name() == "privilege" && elements.namespace().starts_with(PRIVILEGE) {
            return true;
        }
        elements.skip();
    }
    false
}

/// The one element of an iq request.
struct Request<'a> {
    name: &'a str,
    namespace: Cow<'a, str>,
    has_node: bool,
}

impl<'a> Request<'a> {
    /// `None` if there is more or less than one element (RFC 6120 §8.2.3, rule 5).
    fn of(iq: &'a Stanza) -> Option<Self> {
        let mut elements = iq.elements();
        if !elements.advance() {
            return None;
        }
        let request = Self {
            name: elements.name(),
            namespace: elements.namespace(),
            has_node: elements.attribute("node").is_some(),
        };
        elements.skip();
        (!elements.advance()).then_some(request)
    }
}

/// The domain accepts every subscription, and is always available: the local server
/// therefore sends it the presence of online users (RFC 6121 §3, §4).
fn answer_presence(presence_type: Option<&str>, sender: &Jid, domain: &Jid) -> Answer {
    let reply = |presence_type, to: Jid| {
        let from = domain.to_bare().into();
        Stanza::new(
            Kind::Presence,
            presence_type,
            None,
            Some(from),
            Some(to),
            &[],
        )
    };
    // A subscription belongs to the account, a probe to the session that sent it.
    let account = || Jid::from(sender.to_bare());
    match presence_type {
        Some("probe") => Answer::Reply(vec![reply(None, sender.clone())]),
        Some("subscribe") => Answer::Reply(vec![
            reply(Some("subscribed"), account()),
            reply(None, account()),
        ]),
        Some("unsubscribe") => Answer::Reply(vec![
            reply(Some("unsubscribed"), account()),
            reply(Some("unavailable"), account()),
        ]),
        Some("subscribed" | "unsubscribed") => Answer::Absorb("answer to a subscription"),
        Some("error") => Answer::Absorb("presence error"),
        _ => Answer::Absorb("presence"),
    }
}

/// XEP-0030 §3: to its users, the shared domain is a server.
fn info() -> DiscoInfoResult {
    DiscoInfoResult {
        node: None,
        identities: vec![Identity {
            category: "server".to_owned(),
            type_: "im".to_owned(),
            lang: None,
            name: Some(NAME.to_owned()),
        }],
        features: FEATURES
            .map(str::to_owned)
            .into_iter()
            .collect::<BTreeSet<_>>(),
        extensions: Vec::new(),
    }
}

/// XEP-0030 §4: the services are the items of the shared domain.
fn items<'a>(visible: impl Iterator<Item = &'a Host>) -> DiscoItemsResult {
    DiscoItemsResult {
        node: None,
        items: visible
            // Every host is a JID without a localpart.
            .filter_map(|domain| Jid::new(domain.as_str()).ok())
            .map(|jid| Item {
                jid,
                node: None,
                name: None,
            })
            .collect(),
        rsm: None,
    }
}

/// XEP-0092, without the operating system, which is not disclosed.
fn version() -> VersionResult {
    VersionResult {
        name: NAME.to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        os: None,
    }
}

fn result(iq: &Stanza, payload: Option<Element>) -> Answer {
    Answer::Reply(vec![iq.result_reply(payload)])
}

fn refuse(stanza: &Stanza, refusal: &Refusal) -> Answer {
    match stanza.error_reply(refusal) {
        Some(reply) => Answer::Reply(vec![reply]),
        None => Answer::Absorb("stanza that is never answered with an error"),
    }
}

/// XEP-0030 §7. Not a [`Refusal`]: the iq was delivered, and this is its answer.
fn no_such_node(iq: &Stanza) -> Answer {
    let error = StanzaError::new(
        ErrorType::Cancel,
        DefinedCondition::ItemNotFound,
        "en",
        "there is no such node",
    );
    Answer::Reply(vec![Stanza::new(
        Kind::Iq,
        Some("error"),
        iq.id().as_deref(),
        iq.to().cloned(),
        iq.from().cloned(),
        &[error.into()],
    )])
}
