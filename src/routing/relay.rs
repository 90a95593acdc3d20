//! Takes stanzas in, obtains a decision for each, and carries the decision out.
//!
//! The page to read first. The path of a stanza is [`Relay::carry`] → `take_in` →
//! `route` → [`decide`](decide::decide) → `act`.

mod facts;
mod own;
mod presence_hooks;
mod retry;

use std::collections::VecDeque;
use std::sync::Arc;

use jid::Jid;
use tracing::debug;

use crate::addresses::Translator;
use crate::component::Components;
use crate::envelope::{Arrival, Envelope, Obstacle, Undelivered};
use crate::host::{Host, Locations};
use crate::link::Links;
use crate::metrics::{Metrics, RoutingCounters};
use crate::presence_sync::{PresenceSync, is_own_probe};
use crate::routing::decide::{
    self, Absorbed, Decision, IntakeOutcome, ReinjectReason, RoutingFacts, RoutingRules,
};
use crate::routing::fan_out::FanOut;
use crate::routing::hold::{self, HoldQueue, HoldReason, HoldRefused};
use crate::routing::shared_domain::SharedDomain;
use crate::services;
use crate::sessions::Sessions;
use crate::stanza::{Kind, Reason, Refusal, Stanza};

/// Routing, with the rooms that it uses.
pub struct Relay {
    /// The configuration of the decision.
    pub(crate) rules: RoutingRules,
    /// Global ⇄ local addresses.
    pub(crate) translator: Translator,
    /// The session table and the tracker of local sessions.
    pub(crate) sessions: Arc<Sessions>,
    /// The shared domain itself, and its service domains.
    pub(crate) shared_domain: SharedDomain,
    /// The routes to the peers.
    pub(crate) links: Arc<Links>,
    /// The routes to the local server.
    pub(crate) components: Components,
    /// Stanzas without a recipient or a route.
    pub(crate) hold: Arc<HoldQueue>,
    /// Stanzas that went to several hosts.
    pub(crate) fan_out: FanOut,
    /// The remote presence that local users have been sent, and the reverse.
    pub(crate) presence: Arc<PresenceSync>,
    /// Counters whose labels vary.
    pub(crate) metrics: Arc<Metrics>,
    /// Counters whose labels are fixed.
    pub(crate) counters: RoutingCounters,
}

/// An answer of the session table for which a held stanza has waited.
#[derive(Debug)]
pub(crate) struct LookedUp {
    pub(crate) recipient: Jid,
    pub(crate) locations: Locations,
}

/// Envelopes still to be routed in this turn: error replies, copies, held lines.
/// Nearly always empty, and then without an allocation.
type Backlog = VecDeque<Envelope>;

impl Relay {
    /// Routes an envelope that has just come in.
    pub(crate) async fn carry(&self, mut envelope: Envelope) {
        let mut backlog = Backlog::new();
        match self.take_in(&mut envelope) {
            IntakeOutcome::Accepted => self.route_behind_held(envelope, &mut backlog).await,
            intake => {
                let facts = RoutingFacts {
                    intake,
                    ..RoutingFacts::default()
                };
                let decision = decide::decide(&envelope, &facts, &self.rules);
                self.act(decision, envelope, facts, &mut backlog);
            }
        }
        self.carry_all(backlog).await;
    }

    /// Routes an envelope again that a link or the component returned.
    pub(crate) async fn reroute(&self, undelivered: Undelivered) {
        let Undelivered { envelope, reason } = undelivered;
        let mut backlog = Backlog::new();
        match reason {
            Obstacle::TooLate => self.refuse(envelope, &hold::too_late(), &mut backlog),
            Obstacle::TooLarge => self.refuse(envelope, &too_large(), &mut backlog),
            Obstacle::Absent | Obstacle::Full => {
                self.route_behind_held(envelope, &mut backlog).await;
            }
        }
        self.carry_all(backlog).await;
    }

    /// Stops holding: from now on a stanza without a route, those held so far
    /// included, goes to the local server or back to its sender.
    pub(crate) async fn close(&self) {
        let held = self.hold.close().into_iter();
        self.carry_all(held.map(|held| held.envelope).collect())
            .await;
    }

    /// Routes all envelopes of `backlog`, in order, and those that result.
    async fn carry_all(&self, mut backlog: Backlog) {
        while let Some(envelope) = backlog.pop_front() {
            self.route(envelope, None, &mut backlog).await;
        }
    }

    /// Counts, translates and learns, once per envelope.
    fn take_in(&self, envelope: &mut Envelope) -> IntakeOutcome {
        match &envelope.arrival {
            Arrival::Component => {
                self.counters.taken_component.inc();
                if let Err(refusal) = self.translator.outbound(&mut envelope.stanza) {
                    return IntakeOutcome::Refused(refusal);
                }
                if self.is_from_user(&envelope.stanza)
                    && let Some(probe) = self.sessions.observe(&envelope.stanza)
                {
                    self.probe(probe);
                }
            }
            Arrival::Link(_) => {
                self.counters.taken_link.inc();
                let checked = self.translator.check_link_sender(&envelope.stanza);
                let checked = checked.and_then(|()| self.shared_domain.check_origin(envelope));
                if let Err(refusal) = checked {
                    return IntakeOutcome::Refused(refusal);
                }
                self.learn(envelope);
            }
            Arrival::Own => self.counters.taken_own.inc(),
        }
        if self.presence.absorbs(envelope) {
            return IntakeOutcome::Absorbed(Absorbed::Presence);
        }
        let host = match &envelope.arrival {
            Arrival::Link(peer) => peer,
            Arrival::Component | Arrival::Own => &self.rules.local,
        };
        if self.fan_out.absorb(&envelope.stanza, host) {
            return IntakeOutcome::Absorbed(Absorbed::Error);
        }
        if !self.hold.is_empty()
            && shows_presence(&envelope.stanza)
            && let Some(sender) = envelope.stanza.from()
            // A server also writes in the name of users who are offline.
            && (envelope.arrival != Arrival::Component || self.sessions.is_here(sender))
        {
            // The sender is online: stanzas held for it need not wait longer.
            self.hold.wake(sender);
        }
        IntakeOutcome::Accepted
    }

    /// Decides, unless the stanza has to wait behind others of its pair.
    async fn route(&self, envelope: Envelope, looked_up: Option<&LookedUp>, backlog: &mut Backlog) {
        if let Some(reason) = self.hold.reason_to_wait(&envelope) {
            return self.hold(envelope, reason, backlog);
        }
        let Some(locations) = self.locate(&envelope, looked_up).await else {
            return self.hold(envelope, HoldReason::Unanswered, backlog);
        };
        let facts = self.facts(&envelope, locations).await;
        let decision = decide::decide(&envelope, &facts, &self.rules);
        self.probe_missing(&decision, &envelope.stanza, facts.here);
        self.act(decision, envelope, facts, backlog);
    }

    fn act(
        &self,
        decision: Decision,
        mut envelope: Envelope,
        facts: RoutingFacts,
        backlog: &mut Backlog,
    ) {
        debug!(
            id = %envelope.id,
            kind = envelope.stanza.kind().name(),
            to = envelope.stanza.to().map(tracing::field::display),
            ?decision,
            "decided"
        );
        match decision {
            Decision::Answer => {
                let answer = self.shared_domain.answer(&envelope.stanza);
                self.answer(answer, envelope, backlog);
            }
            Decision::AnswerForAccount => {
                let reply = facts.account_reply.into_iter().collect();
                self.answer(services::Answer::Reply(reply), envelope, backlog);
            }
            Decision::Reinject { reason, to_bare } => {
                self.reinject(envelope, reason, to_bare, backlog);
            }
            Decision::Forward(host) => self.forward(envelope, &host, backlog),
            Decision::FanOut(hosts) => {
                self.metrics.copied.inc_by(hosts.len() as u64 - 1);
                self.fan_out.split(envelope, hosts, backlog);
            }
            Decision::Bounce => self.hold(envelope, HoldReason::NoRecipient, backlog),
            Decision::HoldForRoute => self.hold(envelope, HoldReason::NoRoute, backlog),
            Decision::Absorb(what) => {
                let absorbed = &self.metrics.absorbed;
                absorbed.with_label_values(&[what.label()]).inc();
                if what == Absorbed::Copy && FanOut::are_counted(&envelope.stanza) {
                    // The host that made the copies counts the errors about the
                    // copies.
                    let text = "Another copy of it is there already.";
                    let refusal = Refusal::new(Reason::Unavailable, text);
                    self.reply_with_error(&envelope, &refusal, backlog);
                }
                envelope.receipt.settle();
            }
            Decision::Refuse(refusal) => self.refuse(envelope, &refusal, backlog),
        }
    }

    fn reinject(
        &self,
        envelope: Envelope,
        reason: ReinjectReason,
        to_bare: bool,
        backlog: &mut Backlog,
    ) {
        let mut local = envelope.stanza.clone();
        if let Err(refusal) = self.translator.inbound(&mut local) {
            return self.refuse(envelope, &refusal, backlog);
        }
        if let Some(to) = local.to().filter(|_| to_bare).map(Jid::to_bare) {
            local.set_to(to.into());
        }
        let (ttl, kind) = (envelope.ttl, envelope.stanza.kind());
        let event = self.presence.event(&envelope);
        self.fan_out.handed(&envelope);
        match self.components.try_reinject(envelope, local) {
            Ok(()) => {
                self.presence.reinjected(event);
                self.counters.reinjected(kind).inc();
                if reason == ReinjectReason::TtlZero {
                    self.metrics.stop_ttl_zero.inc();
                } else {
                    self.metrics.delivered_with_ttl.observe(f64::from(ttl));
                }
            }
            Err(undelivered) => {
                self.fan_out.given_back(&undelivered.envelope);
                self.hold(undelivered.envelope, HoldReason::NoRoute, backlog);
            }
        }
    }

    fn forward(&self, envelope: Envelope, host: &Host, backlog: &mut Backlog) {
        let event = self.presence.event(&envelope);
        match self.links.try_forward(host, envelope) {
            Ok(()) => {
                self.presence.forwarded(event, host);
            }
            Err(undelivered) => self.hold(undelivered.envelope, HoldReason::NoRoute, backlog),
        }
    }

    fn hold(&self, envelope: Envelope, reason: HoldReason, backlog: &mut Backlog) {
        if let Err(refused) = self.hold.hold(envelope, reason) {
            let HoldRefused { envelope, refusal } = *refused;
            self.refuse(envelope, &refusal, backlog);
        }
    }

    /// Sends an error to the sender, unless RFC 6120 forbids it, and counts.
    fn refuse(&self, mut envelope: Envelope, refusal: &Refusal, backlog: &mut Backlog) {
        let label = refusal.reason.label();
        self.metrics.refused.with_label_values(&[label]).inc();
        debug!(id = %envelope.id, reason = label, text = refusal.text, "refused");
        if matches!(refusal.reason, Reason::Timeout | Reason::Overflow) {
            self.presence.undelivered(&envelope);
        }
        if !is_own_probe(&envelope) {
            self.reply_with_error(&envelope, refusal, backlog);
        }
        envelope.receipt.settle();
    }
}

/// Whether the stanza shows that its sender is reachable at the host it comes from.
/// A server also sends errors for users who are offline.
fn shows_presence(stanza: &Stanza) -> bool {
    match stanza.stanza_type() {
        Some("error") => false,
        Some("unavailable") => stanza.kind() != Kind::Presence,
        _ => true,
    }
}

fn too_large() -> Refusal {
    let text = "The stanza is larger than the recipient's server takes.";
    Refusal::new(Reason::TooLarge, text)
}
