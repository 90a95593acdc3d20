//! Carries out one decision: the page to read first.

mod accounts;
mod copies;
mod holding;
mod learning;
mod presence_hooks;
mod quirks;

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use jid::Jid;
use tokio::sync::watch;
use tracing::{debug, warn};

use crate::addresses::Translator;
use crate::component::Components;
use crate::envelope::{Arrival, Envelope, Obstacle, Undelivered};
use crate::host::{Host, Locations};
use crate::link::Links;
use crate::metrics::Metrics;
use crate::presence_sync::{PresenceSnapshot, PresenceSync, is_own_probe};
use crate::registry::Directory;
use crate::routing::decide::{
    self, Decision, ReinjectReason, RoutingInput, RoutingRules, ServiceHost,
};
use crate::routing::fan_out::FanOut;
use crate::routing::hold::{HeldEnvelope, HoldKey, HoldQueue, HoldReason};
use crate::services::{Answer, Offered, Services};
use crate::sessions::Sessions;
use crate::stanza::{Kind, Reason, Refusal, Stanza};

/// What routing needs: each part behind its own door.
pub struct Relay {
    /// How to decide.
    pub rules: RoutingRules,
    /// Global ⇄ local addresses.
    pub translator: Translator,
    /// Who is where.
    pub sessions: Arc<Sessions>,
    /// Answers for the shared domain itself.
    pub services: Services,
    /// The ways to the peers.
    pub links: Arc<Links>,
    /// Which service domains there are, and who has them.
    pub directory: watch::Receiver<Arc<Directory>>,
    /// The ways to the local server.
    pub components: Components,
    /// What has no way at the moment.
    pub hold: Arc<HoldQueue>,
    /// What went to several hosts.
    pub fan_out: FanOut,
    /// The presence that users have been sent across datacenters.
    pub(crate) presence: Arc<PresenceSync>,
    /// `message_ttl`, for stanzas that start here.
    pub message_ttl: u32,
    /// `connections.max_wait`: how long a stanza may wait for its next hop.
    pub max_wait: Duration,
    /// The counters.
    pub metrics: Arc<Metrics>,
    /// Set when the gateway is on its way out: nothing is set aside any more.
    pub closing: AtomicBool,
}

/// One step leaves at most a few more to do: the error reply, a held line.
type Backlog = VecDeque<HeldEnvelope>;

impl Relay {
    /// Carries an envelope that has just come in.
    pub async fn carry(&self, envelope: Envelope) {
        let mut backlog = Backlog::new();
        self.receive(envelope, &mut backlog);
        self.carry_behind_held(backlog).await;
    }

    /// Takes back what a link or the component could not deliver.
    pub async fn reroute(&self, undelivered: Undelivered) {
        let Undelivered { envelope, reason } = undelivered;
        let mut backlog = Backlog::new();
        match reason {
            Obstacle::TooLate => self.refuse(envelope, too_late(), &mut backlog),
            Obstacle::TooLarge => self.refuse(envelope, too_large(), &mut backlog),
            Obstacle::Absent | Obstacle::Full => backlog.push_back(not_held(envelope)),
        }
        self.carry_behind_held(backlog).await;
    }

    /// From now on nothing is set aside: what has no way at once goes to the
    /// local server or back to its sender. What is held goes the same way.
    pub async fn close(&self) {
        self.closing.store(true, Ordering::Relaxed);
        self.carry_all(self.hold.release_all().into()).await;
    }

    /// In order: behind a stanza that has to wait, the rest of its pair waits too.
    async fn carry_all(&self, mut backlog: Backlog) {
        while let Some(held) = backlog.pop_front() {
            match self.hold.reason(&HoldKey::of(&held.envelope)) {
                None => self.step(held, &mut backlog).await,
                Some(HoldReason::NoRecipient) => self.bounce(held, &mut backlog),
                Some(HoldReason::NoRoute) => self.hold_for_route(held.envelope, &mut backlog),
            }
        }
    }

    /// Counts, translates and learns: done once per envelope.
    fn receive(&self, mut envelope: Envelope, backlog: &mut Backlog) {
        let from = match &envelope.arrival {
            Arrival::Component => "component",
            Arrival::Link(_) => "link",
            Arrival::Own => "own",
        };
        self.metrics.taken.with_label_values(&[from]).inc();
        // It may stay for long, and should not keep all that was read with it.
        envelope.stanza.detach();
        match &envelope.arrival {
            Arrival::Component => {
                if let Err(refusal) = self.translator.outbound(&mut envelope.stanza) {
                    return self.refuse(envelope, refusal, backlog);
                }
                if self.is_from_user(&envelope.stanza)
                    && let Some(probe) = self.sessions.observe(&envelope.stanza)
                {
                    self.probe(probe);
                }
            }
            Arrival::Link(_) => {
                if let Err(refusal) = self.translator.check_link_sender(&envelope.stanza) {
                    return self.refuse(envelope, refusal, backlog);
                }
                self.learn(&envelope);
                self.doubt_if_returned(&envelope);
            }
            Arrival::Own => {}
        }
        if self.absorb_presence(&mut envelope, backlog) {
            return;
        }
        if self.fan_out.absorb(&envelope.stanza) {
            self.metrics.absorbed.with_label_values(&["error"]).inc();
            debug!(id = %envelope.id, "an error about one of several copies");
            return envelope.receipt.settle();
        }
        if let (true, Some(sender)) = (shows_presence(&envelope.stanza), envelope.stanza.from()) {
            // Whoever sends is there: what waits for it need not wait longer.
            // But a server also writes in the name of those who are not.
            if envelope.arrival != Arrival::Component || self.sessions.is_here(sender) {
                self.hold.wake(&sender.to_bare());
            }
        }
        backlog.push_back(not_held(envelope));
    }

    async fn step(&self, mut held: HeldEnvelope, backlog: &mut Backlog) {
        let decision = self.decide(&held).await;
        let decision = self.with_who_wants_it(decision, &mut held.envelope);
        debug!(
            id = %held.envelope.id,
            kind = held.envelope.stanza.kind().name(),
            to = held.envelope.stanza.to().map(tracing::field::display),
            ?decision,
            "decided"
        );
        self.ask_for_missing(&decision, &held.envelope.stanza);
        match decision {
            Decision::Answer => self.answer(held.envelope, backlog),
            Decision::Reinject { reason } => self.reinject(held.envelope, reason, backlog),
            Decision::Forward { hosts, here_too } => {
                self.forward(held.envelope, &hosts, here_too, backlog)
            }
            Decision::Bounce => self.bounce(held, backlog),
            Decision::Refuse(refusal) => self.refuse(held.envelope, refusal, backlog),
        }
    }

    fn is_user(&self, jid: &Jid) -> bool {
        jid.node().is_some() && self.rules.global == *jid.domain().as_str()
    }

    /// Asks who has the recipient, then decides.
    async fn decide(&self, held: &HeldEnvelope) -> Decision {
        let envelope = &held.envelope;
        let Some(recipient) = envelope.stanza.to() else {
            return Decision::Refuse(Refusal::new(
                Reason::BadAddress,
                "The stanza has no recipient.",
            ));
        };
        let to_user = self.is_user(recipient);
        let known = if to_user {
            self.sessions.locate(recipient).await
        } else {
            Locations::default()
        };
        if let Some(refusal) = self.check_account(envelope).await {
            return Decision::Refuse(refusal);
        }
        // On the way out nobody waits for a claim any more.
        let closing = self.closing.load(Ordering::Relaxed);
        decide::decide(&RoutingInput {
            recipient,
            kind: envelope.stanza.kind(),
            stanza_type: envelope.stanza.stanza_type(),
            arrival: &envelope.arrival,
            origin: &envelope.origin,
            copy_for: envelope.copy_for.as_ref(),
            ttl: envelope.ttl,
            retries: if closing {
                u32::MAX
            } else {
                envelope.retries_at(&self.rules.local)
            },
            whereabouts: &known,
            here: to_user && self.sessions.is_here(recipient),
            service: self.service_at(recipient),
            rules: &self.rules,
        })
    }

    /// Who has the recipient's domain, if it is a service domain.
    fn service_at(&self, recipient: &Jid) -> ServiceHost {
        let domain = recipient.domain().as_str();
        if self.rules.global == *domain {
            return ServiceHost::NotAService;
        }
        match self.directory.borrow().find(domain) {
            None => ServiceHost::NotAService,
            Some(listing) => match listing.host(&self.rules.local) {
                Some(host) => ServiceHost::HostedAt(host.clone()),
                None => ServiceHost::Unhosted,
            },
        }
    }

    /// Hands to the local server.
    fn reinject(&self, envelope: Envelope, reason: ReinjectReason, backlog: &mut Backlog) {
        if let Some(reply) = self.answer_for_server(&envelope.stanza) {
            return self.answer_with(Answer::Reply(vec![reply]), envelope, backlog);
        }
        if self.fan_out.has_another(&envelope) {
            return self.absorb_copy(envelope, backlog);
        }
        if self.hold.holds_copies(&envelope, &self.rules.local) {
            return self.hold_for_route(envelope, backlog);
        }
        let mut local = envelope.stanza.clone();
        if let Err(refusal) = self.translator.inbound(&mut local) {
            return self.refuse(envelope, refusal, backlog);
        }
        self.address_for_server(&mut local, &envelope.stanza);
        let (ttl, kind) = (envelope.ttl, envelope.stanza.kind());
        let snapshot = PresenceSnapshot::of(&envelope);
        self.fan_out.handed(&envelope);
        match self.components.try_reinject(envelope, local) {
            Ok(()) => {
                self.presence.reinjected(snapshot);
                self.metrics
                    .reinjected
                    .with_label_values(&[kind.name()])
                    .inc();
                if reason == ReinjectReason::TtlZero {
                    self.metrics.stop_ttl_zero.inc();
                } else {
                    self.metrics.delivered_with_ttl.observe(f64::from(ttl));
                }
            }
            Err(undelivered) => {
                self.fan_out.given_back(&undelivered.envelope);
                self.hold_for_route(undelivered.envelope, backlog);
            }
        }
    }

    fn send_towards(&self, envelope: Envelope, host: &Host, backlog: &mut Backlog) {
        if *host == self.rules.local {
            self.reinject(envelope, ReinjectReason::Routed, backlog);
        } else if self.hold.holds_copies(&envelope, host) {
            // Each host gets what is for it in order.
            self.hold_for_route(envelope, backlog);
        } else {
            self.forward_one(envelope, host, backlog);
        }
    }

    fn forward_one(&self, envelope: Envelope, host: &Host, backlog: &mut Backlog) {
        let snapshot = PresenceSnapshot::of(&envelope);
        match self.links.try_forward(host, envelope) {
            Ok(()) => {
                self.presence.forwarded(snapshot, host);
                let forwarded = &self.metrics.forwarded;
                forwarded.with_label_values(&[host.as_str()]).inc();
            }
            Err(undelivered) => {
                self.hold_for_route(undelivered.envelope, backlog);
            }
        }
    }

    /// For the shared domain itself.
    fn answer(&self, envelope: Envelope, backlog: &mut Backlog) {
        let directory = Arc::clone(&self.directory.borrow());
        let answer = self.services.answer(&envelope.stanza, offered(&directory));
        self.answer_with(answer, envelope, backlog);
    }

    fn answer_with(&self, answer: Answer, mut envelope: Envelope, backlog: &mut Backlog) {
        self.metrics.answered.inc();
        match answer {
            Answer::Reply(replies) => {
                for reply in replies {
                    self.send_own(reply, &envelope, backlog);
                }
            }
            Answer::Absorb(what) => debug!(id = %envelope.id, what, "needs no answer"),
            Answer::Warn(text) => warn!(id = %envelope.id, "{text}"),
        }
        envelope.receipt.settle();
    }

    /// Tells the sender, unless RFC 6120 forbids it, and counts.
    fn refuse(&self, mut envelope: Envelope, refusal: Refusal, backlog: &mut Backlog) {
        self.metrics
            .refused
            .with_label_values(&[refusal.reason.label()])
            .inc();
        debug!(id = %envelope.id, reason = refusal.reason.label(), text = refusal.text, "refused");
        if matches!(refusal.reason, Reason::Timeout | Reason::Overflow) {
            self.presence.undelivered(&envelope);
        }
        if !is_own_probe(&envelope) {
            self.tell(&envelope, &refusal, backlog);
        }
        envelope.receipt.settle();
    }

    /// Puts a stanza of our own on its way, back to where `cause` came from.
    fn send_own(&self, stanza: Stanza, cause: &Envelope, backlog: &mut Backlog) {
        backlog.push_back(not_held(self.own(stanza, cause)));
    }

    fn own(&self, stanza: Stanza, cause: &Envelope) -> Envelope {
        let own = Envelope::new(cause.origin.clone(), Arrival::Own, self.message_ttl, stanza);
        debug!(id = %own.id, cause = %cause.id, "a stanza of the gateway's own");
        self.metrics.taken.with_label_values(&["own"]).inc();
        own
    }
}

/// Whether the sender can be reached where this comes from. An error may be its
/// server's, for somebody who is not there.
fn shows_presence(stanza: &Stanza) -> bool {
    match stanza.stanza_type() {
        Some("error") => false,
        Some("unavailable") => stanza.kind() != Kind::Presence,
        _ => true,
    }
}

/// What somebody has at present.
fn offered(directory: &Directory) -> impl Iterator<Item = Offered<'_>> {
    directory
        .iter()
        .filter(|(_, listing)| !listing.hosts.is_empty())
        .map(|(domain, listing)| Offered {
            domain,
            hidden: listing.hidden,
        })
}

/// An envelope that waits for nothing yet.
fn not_held(envelope: Envelope) -> HeldEnvelope {
    HeldEnvelope {
        envelope,
        reason: HoldReason::NoRecipient,
    }
}

fn too_large() -> Refusal {
    Refusal::new(
        Reason::TooLarge,
        "The stanza is larger than the recipient's server takes.",
    )
}

fn too_late() -> Refusal {
    Refusal::new(
        Reason::Timeout,
        "The recipient's server could not be reached in time.",
    )
}
