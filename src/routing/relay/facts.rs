//! Collects the facts for a decision, and learns from stanzas that pass.

use std::time::Duration;

use jid::Jid;

use super::{LookedUp, Relay, shows_presence};
use crate::envelope::{Arrival, Envelope};
use crate::host::Locations;
use crate::routing::decide::{Decision, IntakeOutcome, RoutingFacts, ServiceHost};
use crate::services;
use crate::sessions::Owner;
use crate::stanza::{Kind, Stanza};

impl Relay {
    /// Returns the hosts of the recipient; `None` if the session table has to be asked,
    /// for which a worker does not wait, except at the end of the gateway.
    pub(super) async fn locate(
        &self,
        envelope: &Envelope,
        looked_up: Option<&LookedUp>,
    ) -> Option<Locations> {
        let Some(user) = envelope.stanza.to().filter(|to| self.is_user(to)) else {
            return Some(Locations::default());
        };
        let answer = looked_up.filter(|answer| answer.recipient == *user);
        match answer.map(|answer| answer.locations.clone()) {
            None if self.hold.is_closing() => Some(self.sessions.locate(user).await),
            None => self.sessions.locate_now(user),
            known => known,
        }
    }

    pub(super) async fn facts(&self, envelope: &Envelope, locations: Locations) -> RoutingFacts {
        let stanza = &envelope.stanza;
        let user = stanza.to().filter(|to| self.is_user(to));
        let sender_owner = self.owner_of_sender(envelope).await;
        let server = self.components.server().borrow();
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

    pub(super) fn is_user(&self, jid: &Jid) -> bool {
        jid.node().is_some() && self.rules.global == *jid.domain().as_str()
    }

    /// Whether the session table has the sender: a room and its occupants, for
    /// example, have addresses that look like users'.
    pub(super) fn is_from_user(&self, stanza: &Stanza) -> bool {
        stanza.from().is_some_and(|sender| self.is_user(sender))
    }

    /// Learns from a stanza that came over a link.
    pub(super) fn learn(&self, envelope: &Envelope) {
        let stanza = &envelope.stanza;
        if let Some(sender) = stanza.from().filter(|sender| self.is_user(sender))
            && shows_presence(stanza)
        {
            // The reply may come before the table here has the sender.
            self.sessions.learn(sender, &envelope.origin);
        }
        if let (1.., Some(recipient)) = (envelope.retries_at(&self.rules.local), stanza.to()) {
            // This gateway has bounced and forwarded the stanza, and a peer has
            // returned it: the peer's table contradicts the reason, a home perhaps.
            self.sessions.ask_anew(recipient, Duration::ZERO);
        }
    }

    /// A user without a known session here can be online here all the same, since
    /// before this gateway started. A presence needs no probe to find that out.
    pub(super) fn probe_missing(&self, decision: &Decision, stanza: &Stanza, here: bool) {
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
            self.probe(probe);
        }
    }
}
