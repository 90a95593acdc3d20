//! The control component's stream: requests to the server, and the presence and
//! privileges that it sends.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use jid::Jid;
use minidom::Element;
use tokio::sync::watch;

use super::{ControlSettings, Names};
use crate::component::{Attachment, Component};
use crate::config::Source;
use crate::envelope::{Envelope, Intake};
use crate::host::Host;
use crate::metrics::Metrics;
use crate::servers::NoAnswer;
use crate::sessions::Sessions;
use crate::stanza::{Kind, Reason, Refusal, Stanza};

/// The namespaces of all versions of XEP-0356 start with this prefix.
const PRIVILEGE: &str = "urn:xmpp:privilege:";

/// The client behind the control component's stream: sends requests, and takes
/// the server's presence and privileges.
pub struct ControlClient {
    /// The control component's domain.
    pub(super) domain: Host,
    us: Jid,
    server: Jid,
    names: Names,
    component: Component,
    /// The configuration allows presence that arrives by privilege.
    use_presence: bool,
    /// The server does not report all ends of the sessions whose presence it sends.
    silent_ends: AtomicBool,
    sessions: Arc<Sessions>,
    metrics: Arc<Metrics>,
    privilege: watch::Sender<bool>,
}

impl ControlClient {
    pub(super) fn new(
        domain: Host,
        component: Component,
        names: Names,
        settings: &ControlSettings,
    ) -> Self {
        Self {
            us: address(&domain),
            server: address(&settings.local),
            domain,
            names,
            component,
            use_presence: settings.sources.allow(Source::Privilege),
            silent_ends: AtomicBool::new(false),
            sessions: Arc::clone(&settings.sessions),
            metrics: Arc::clone(&settings.metrics),
            privilege: watch::Sender::new(false),
        }
    }

    pub(super) fn attachment(&self) -> watch::Receiver<Attachment> {
        self.component.attachment()
    }

    pub(super) fn is_attached(&self) -> bool {
        matches!(*self.attachment().borrow(), Attachment::Attached { .. })
    }

    /// Follows whether the server sends all presence (XEP-0356 §4.2) and the
    /// configuration allows its use.
    pub(super) fn privilege(&self) -> watch::Receiver<bool> {
        self.privilege.subscribe()
    }

    /// The presence that the server sends leaves out ends of sessions if
    /// `silent`. Such presence is only worth a lease.
    pub(super) fn set_silent_ends(&self, silent: bool) {
        if !self.silent_ends.swap(silent, Ordering::Relaxed) && silent {
            self.sessions.recipient_lost(&self.us);
        }
    }

    /// The stream is down: no presence and no privilege arrive by it any more.
    pub(super) fn detached(&self) {
        self.privilege.send_if_modified(std::mem::take);
        self.sessions.recipient_lost(&self.us);
    }

    pub(super) async fn ask(&self, kind: &str, payload: Element) -> Result<Element, NoAnswer> {
        let answer = self.component.request(kind, payload).await;
        match &answer {
            Ok(_) => self.count("answer"),
            Err(NoAnswer::Late(_)) => self.count("late"),
            Err(_) => {}
        }
        let answer = answer?.to_element();
        match answer.attr("type") {
            Some("result") => Ok(answer),
            _ => Err(NoAnswer::Refused(condition(&answer))),
        }
    }

    fn count(&self, what: &str) {
        let counter = &self.metrics.control_stanzas;
        counter.with_label_values(&[what]).inc();
    }

    fn take_presence(&self, presence: &Stanza) -> &'static str {
        let session = presence.from().and_then(|from| from.try_as_full().ok());
        let session = session.and_then(|session| self.names.session(session));
        match (session, presence.stanza_type()) {
            (Some(session), kind @ (None | Some("unavailable"))) if self.use_presence => {
                let told_of_end = !self.silent_ends.load(Ordering::Relaxed);
                self.sessions
                    .observe_presence(kind, &session, &self.us, told_of_end);
                "presence"
            }
            (_, Some("subscribe")) => {
                let from = presence.from().map(|from| Jid::from(from.to_bare()));
                let refusal = Some("unsubscribed");
                let us = Some(self.us.clone());
                self.component
                    .send_own(Stanza::new(Kind::Presence, refusal, None, us, from, &[]));
                "refused"
            }
            _ => "unused",
        }
    }

    fn take_message(&self, message: &Stanza) -> &'static str {
        if message.from() == Some(&self.server)
            && let Some(granted) = grants_presence(message)
        {
            self.privilege.send_if_modified(|before| {
                let now = granted && self.use_presence;
                std::mem::replace(before, now) != now
            });
            return "privilege";
        }
        self.refuse(message)
    }

    /// Every request has an answer (RFC 6120 §8.2.3), every message a reader or an error.
    fn refuse(&self, stanza: &Stanza) -> &'static str {
        let text = format!("{} only asks its server, and serves nobody", self.us);
        let refusal = Refusal::new(Reason::Unavailable, text);
        match stanza.error_reply(&refusal) {
            Some(reply) => {
                self.component.send_own(reply);
                "refused"
            }
            None => "unused",
        }
    }
}

#[async_trait]
impl Intake for ControlClient {
    async fn take(&self, mut envelope: Envelope) {
        let stanza = &envelope.stanza;
        let what = match (stanza.kind(), stanza.stanza_type()) {
            // Answers to pending requests do not arrive here: this iq answers no
            // pending request.
            (Kind::Iq, Some("result" | "error")) => "late",
            (Kind::Iq, _) => self.refuse(stanza),
            (Kind::Presence, _) => self.take_presence(stanza),
            (Kind::Message, _) => self.take_message(stanza),
        };
        self.count(what);
        envelope.receipt.settle();
    }
}

fn address(host: &Host) -> Jid {
    Jid::new(host.as_str()).unwrap_or_else(|_| unreachable!("{host} is a domain"))
}

/// `None` if `message` grants no privileges; true if all presence is one of the
/// privileges.
fn grants_presence(message: &Stanza) -> Option<bool> {
    let tree = message.to_element();
    let mut children = tree.children();
    let privilege = children.find(|e| e.name() == "privilege" && e.ns().starts_with(PRIVILEGE))?;
    let is_presence = |perm: &Element| {
        perm.attr("access") == Some("presence")
            && matches!(perm.attr("type"), Some("managed_entity" | "roster"))
    };
    Some(privilege.children().any(is_presence))
}

/// The condition of an error (RFC 6120 §8.3.3), for people.
fn condition(iq: &Element) -> String {
    let error = iq.children().find(|child| child.name() == "error");
    let condition = error
        .into_iter()
        .flat_map(Element::children)
        .find(|child| child.name() != "text");
    condition
        .map_or("an error without a condition", Element::name)
        .to_owned()
}
