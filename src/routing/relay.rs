//! Takes stanzas in, obtains a decision for each, and carries the decision out.
//!
//! The page to read first. The path of a stanza is [`Relay::carry`] → `take_in` →
//! `route` → [`decide`](decide::decide) → `act`.

mod own;
mod presence_hooks;
mod retry;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use jid::Jid;
use tracing::debug;

use crate::addresses::Translator;
use crate::component::Components;
use crate::envelope::{Arrival, Envelope, Obstacle, Undelivered};
use crate::host::{Host, Locations};
use crate::link::Links;
use crate::metrics::RoutingCounters;
use crate::presence_sync::{PresenceSync, is_own_probe};
use crate::routing::decide::{
    self, Absorbed, Decision, IntakeOutcome, ReinjectReason, RoutingFacts, RoutingRules,
    ServiceHost,
};
use crate::routing::fan_out::FanOut;
use crate::routing::hold::{self, HoldQueue, HoldReason, HoldRefused};
use crate::routing::shared_domain::SharedDomain;
use crate::services;
use crate::sessions::{Owner, Sessions};
use crate::stanza::{Kind, Reason, Refusal, Stanza};

/// Routing, with the rooms that it uses.
pub struct Relay {
    /// The configuration of the decision.
    pub(crate) rules: RoutingRules,
    /// The session table and the tracker of local sessions.
    pub(crate) sessions: Arc<Sessions>,
    /// The shared domain itself, and its service domains.
    pub(crate) shared_domain: SharedDomain,
    /// The local server and the peers.
    pub(crate) next_hops: NextHops,
    /// Stanzas without a recipient or a route.
    pub(crate) hold: Arc<HoldQueue>,
    /// Stanzas that went to several hosts.
    pub(crate) fan_out: FanOut,
    /// The remote presence that local users have been sent, and the reverse.
    pub(crate) presence: Arc<PresenceSync>,
    /// The counters of routing.
    pub(crate) counters: RoutingCounters,
}

/// The local server and the peers, and the addresses under which the server is
/// written to.
pub struct NextHops {
    /// Global ⇄ local addresses.
    pub(crate) translator: Translator,
    /// The routes to the local server.
    pub(crate) components: Components,
    /// The routes to the peers.
    pub(crate) links: Arc<Links>,
}

impl NextHops {
    fn under_local_addresses(&self, stanza: &Stanza, to_bare: bool) -> Result<Stanza, Refusal> {
        let mut local = stanza.clone();
        self.translator.inbound(&mut local)?;
        if let Some(to) = local.to().filter(|_| to_bare).map(Jid::to_bare) {
            local.set_to(to.into());
        }
        Ok(local)
    }
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
        match self.take_in(&mut envelope, &mut backlog) {
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
    fn take_in(&self, envelope: &mut Envelope, backlog: &mut Backlog) -> IntakeOutcome {
        match &envelope.arrival {
            Arrival::Component => {
                self.counters.taken_component.inc();
                if let Err(refusal) = self.next_hops.translator.outbound(&mut envelope.stanza) {
                    return IntakeOutcome::Refused(refusal);
                }
                if self.is_from_user(&envelope.stanza)
                    && let Some(probe) = self.sessions.observe(&envelope.stanza)
                {
                    self.probe(probe, None, backlog);
                }
            }
            Arrival::Link(_) => {
                self.counters.taken_link.inc();
                let checked = self
                    .next_hops
                    .translator
                    .check_link_sender(&envelope.stanza);
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

    /// Returns the hosts of the recipient; `None` if the session table has to be asked,
    /// for which a worker does not wait, except at the end of the gateway.
    async fn locate(&self, envelope: &Envelope, looked_up: Option<&LookedUp>) -> Option<Locations> {
        let for_server = envelope.arrival == Arrival::Own
            && envelope.copy_for.as_ref() == Some(&self.rules.local);
        let user = envelope.stanza.to().filter(|to| self.is_user(to));
        let Some(user) = user.filter(|_| !for_server) else {
            return Some(Locations::default());
        };
        let answer = looked_up.filter(|answer| answer.recipient == *user);
        match answer.map(|answer| answer.locations.clone()) {
            None if self.hold.is_closing() => Some(self.sessions.locate(user).await),
            None => self.sessions.locate_now(user),
            known => known,
        }
    }

    async fn facts(&self, envelope: &Envelope, locations: Locations) -> RoutingFacts {
        let stanza = &envelope.stanza;
        let user = stanza.to().filter(|to| self.is_user(to));
        let sender_owner = self.owner_of_sender(envelope).await;
        let server = self.next_hops.components.server().borrow();
        let features = server.quirks.account_features.as_deref();
        RoutingFacts {
            intake: IntakeOutcome::Accepted,
            locations,
            here: user.is_some_and(|user| self.sessions.is_here(user)),
            service: match (user, stanza.to()) {
                (None, Some(to)) => self.shared_domain.service_host(to),
                _ => ServiceHost::NotAService,
            },
            sender_owner,
            wanted_at: (envelope.arrival == Arrival::Component && envelope.copy_for.is_none())
                .then(|| self.presence.wanted_at(stanza))
                .flatten(),
            account_reply: features
                .filter(|_| user.is_some() && stanza.kind() == Kind::Iq)
                .and_then(|features| services::answer_for_account(stanza, features)),
            server_doubles_messages: server.quirks.doubles_messages_to_the_gone,
            has_copy_here: self.fan_out.has_another(envelope),
            copies_held_for: self.hold.copies_held_for(envelope),
            closing: self.hold.is_closing(),
        }
    }

    /// The owner of the sender's account, if the sender is a user of the local
    /// server.
    async fn owner_of_sender(&self, envelope: &Envelope) -> Owner {
        match envelope.stanza.from() {
            Some(sender) if envelope.arrival == Arrival::Component && self.is_user(sender) => {
                self.sessions.owner_of(&sender.to_bare()).await
            }
            _ => Owner::Ours,
        }
    }

    fn is_user(&self, jid: &Jid) -> bool {
        jid.node().is_some() && self.rules.global == *jid.domain().as_str()
    }

    /// Whether the session table has the sender: a room and its occupants, for
    /// example, have addresses that look like users'.
    fn is_from_user(&self, stanza: &Stanza) -> bool {
        stanza.from().is_some_and(|sender| self.is_user(sender))
    }

    /// Learns from a stanza that came over a link.
    fn learn(&self, envelope: &Envelope) {
        let stanza = &envelope.stanza;
        if let Some(sender) = stanza.from().filter(|sender| self.is_user(sender))
            && shows_presence(stanza)
        {
            // The reply may come before the table here has the sender.
            let is_peer = |host: &Host| {
                // A peer that nobody can dial has no pool, but has proved its name.
                matches!(&envelope.arrival, Arrival::Link(peer) if peer == host)
                    || self.next_hops.links.is_known(host)
            };
            self.sessions.learn(sender, &envelope.origin, is_peer);
        }
        if let (1.., Some(recipient)) = (envelope.retries_at(&self.rules.local), stanza.to()) {
            // This gateway has bounced and forwarded the stanza, and a peer has
            // returned it: the peer's table contradicts the reason, a home perhaps.
            self.sessions.ask_anew(recipient, Duration::ZERO);
        }
    }

    /// A user without a known session here can be online here all the same, since
    /// before this gateway started. A presence needs no probe to find that out.
    fn probe_missing(
        &self,
        decision: &Decision,
        stanza: &Stanza,
        here: bool,
        backlog: &mut Backlog,
    ) {
        if here || stanza.kind() == Kind::Presence {
            return;
        }
        let Some(recipient) = stanza.to().filter(|to| self.is_user(to)) else {
            return;
        };
        let may_be_here = match decision {
            Decision::Reinject { .. } => true,
            Decision::Bounce => !self.sessions.has_home_elsewhere(recipient),
            _ => false,
        };
        if may_be_here && let Some(probe) = self.sessions.missing(recipient) {
            self.probe(probe, None, backlog);
        }
    }

    /// Whether the gateway probes the local server.
    fn is_local_probe(&self, envelope: &Envelope) -> bool {
        is_own_probe(envelope) && envelope.copy_for.as_ref() == Some(&self.rules.local)
    }

    /// Decides, unless the stanza has to wait behind others of its pair.
    async fn route(&self, envelope: Envelope, looked_up: Option<&LookedUp>, backlog: &mut Backlog) {
        // A probe is of use only at once, and finds those for whom the others wait.
        if let Some(reason) = self.hold.reason_to_wait(&envelope)
            && !self.is_local_probe(&envelope)
        {
            return self.hold(envelope, reason, backlog);
        }
        let Some(locations) = self.locate(&envelope, looked_up).await else {
            return self.hold(envelope, HoldReason::Unanswered, backlog);
        };
        let facts = self.facts(&envelope, locations).await;
        let decision = decide::decide(&envelope, &facts, &self.rules);
        self.probe_missing(&decision, &envelope.stanza, facts.here, backlog);
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
                self.counters.all.copied.inc_by(hosts.len() as u64 - 1);
                self.fan_out.split(envelope, hosts, backlog);
            }
            Decision::Bounce => self.hold(envelope, HoldReason::NoRecipient, backlog),
            Decision::HoldForRoute => self.hold(envelope, HoldReason::NoRoute, backlog),
            Decision::Absorb(what) => {
                let absorbed = &self.counters.all.absorbed;
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
        let local = match self
            .next_hops
            .under_local_addresses(&envelope.stanza, to_bare)
        {
            Ok(local) => local,
            Err(refusal) => return self.refuse(envelope, &refusal, backlog),
        };
        if self.is_local_probe(&envelope) {
            // It goes ahead of waiting stanzas, and is dropped while the stream is down.
            self.counters.reinjected(Kind::Presence).inc();
            return self.next_hops.components.send_own(local);
        }
        let (ttl, kind) = (envelope.ttl, envelope.stanza.kind());
        let event = self.presence.event(&envelope);
        self.fan_out.handed(&envelope);
        match self.next_hops.components.try_reinject(envelope, local) {
            Ok(()) => {
                self.presence.reinjected(event);
                self.counters.reinjected(kind).inc();
                if reason == ReinjectReason::TtlZero {
                    self.counters.all.stop_ttl_zero.inc();
                } else {
                    self.counters.all.delivered_with_ttl.observe(f64::from(ttl));
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
        match self.next_hops.links.try_forward(host, envelope) {
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
        self.counters.all.refused.with_label_values(&[label]).inc();
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
