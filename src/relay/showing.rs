//! Which presence goes by, and what is said of those who can't say it themselves.

use jid::{BareJid, Jid};
use tracing::debug;

use super::{Next, Relay, on_its_way};
use crate::bounce::Pair;
use crate::envelope::{Arrival, Envelope};
use crate::host::Host;
use crate::route::{Decision, Why};
use crate::stanza::{Kind, Stanza};
use crate::views::{self, Question, Side, Sighting, Step, Withdrawal};

/// A presence that is on its way to somebody, and where it came from.
pub(super) struct Glimpse {
    sighting: Sighting,
    arrival: Arrival,
    origin: Host,
    is_copy: bool,
}

impl Glimpse {
    /// Of what is presence, and not our own.
    pub(super) fn of(envelope: &Envelope) -> Option<Self> {
        if envelope.arrival == Arrival::Own {
            return None;
        }
        Some(Self {
            sighting: Sighting::of(&envelope.stanza)?,
            arrival: envelope.arrival.clone(),
            origin: envelope.origin.clone(),
            is_copy: envelope.copy_for.is_some(),
        })
    }
}

impl Relay {
    /// Says what a view needs.
    pub async fn say(&self, step: Step) {
        let mut next = Next::new();
        match step {
            Step::Withdraw(withdrawal) => self.withdraw(&withdrawal, &mut next),
            Step::Ask(question) => self.ask(&question, &mut next),
            Step::AskHere(question) => self.ask_here(&question),
        }
        self.carry_all(next).await;
    }

    /// Tells that a session is gone, unless something else was said meanwhile.
    pub(super) fn withdraw(&self, withdrawal: &Withdrawal, next: &mut Next) {
        let stanza = withdrawal.stanza();
        let is_held = self.bounce.lack(&pair_of(&stanza)).is_some();
        // What is held says so itself, or will be missed.
        let is_said = is_held && withdrawal.why == views::Why::Session;
        if is_said || !self.views.confirm(withdrawal) {
            return;
        }
        debug!(
            session = %withdrawal.session, viewer = %withdrawal.viewer, why = withdrawal.why.label(),
            "told to be gone"
        );
        let origin = match (withdrawal.side, &withdrawal.host) {
            (Side::In, Some(host)) => host,
            _ => &self.rules.local,
        };
        let envelope = self.say_for(origin, stanza);
        match (withdrawal.side, &withdrawal.host) {
            _ if is_held => next.push_back(on_its_way(envelope)),
            (Side::In, _) => self.reinject(envelope, Why::Routed, next),
            (Side::Out, host) => self.send_to_its_server(envelope, host.as_ref(), next),
        }
    }

    /// For the server of that datacenter, even if its gateway does not know yet
    /// that the recipient is there.
    fn send_to_its_server(&self, mut envelope: Envelope, host: Option<&Host>, next: &mut Next) {
        match host {
            Some(host) => {
                envelope.copy_for = Some(host.clone());
                self.send_towards(envelope, host, next);
            }
            None => next.push_back(on_its_way(envelope)),
        }
    }

    /// What the local server answers to a question that was asked for one host
    /// goes there too, whether or not that host is known to have the viewer.
    pub(super) fn with_who_wants_it(
        &self,
        decision: Decision,
        envelope: &mut Envelope,
    ) -> Decision {
        if envelope.arrival != Arrival::Component || envelope.copy_for.is_some() {
            return decision;
        }
        let Some(host) = self.views.wanted_at(&envelope.stanza) else {
            return decision;
        };
        let (mut hosts, here_too) = match decision {
            Decision::Forward { hosts, here_too } => (hosts, here_too),
            Decision::Bounce
            | Decision::Reinject {
                why: Why::LastResort,
            } => (Vec::new(), false),
            Decision::Reinject { why: Why::Routed } => (Vec::new(), true),
            other => return other,
        };
        if !hosts.contains(&host) {
            hosts.push(host.clone());
        }
        if hosts.len() == 1 && !here_too {
            envelope.copy_for = Some(host);
        }
        Decision::Forward { hosts, here_too }
    }

    /// To the datacenter that showed the user last: its server knows.
    fn ask(&self, question: &Question, next: &mut Next) {
        let asked = &self.metrics.presence_asked;
        asked.with_label_values(&["peer"]).inc();
        let envelope = self.say_for(&self.rules.local, question.stanza());
        self.send_to_its_server(envelope, question.host.as_ref(), next);
    }

    fn ask_here(&self, question: &Question) {
        let asked = &self.metrics.presence_asked;
        asked.with_label_values(&["server"]).inc();
        self.probe_for(question.stanza(), question.host.as_ref());
    }

    fn say_for(&self, origin: &Host, stanza: Stanza) -> Envelope {
        self.metrics.taken.with_label_values(&["own"]).inc();
        Envelope::new(origin.clone(), Arrival::Own, self.message_ttl, stanza)
    }

    /// What goes to nobody: only this gateway wanted to know, or the viewer was
    /// told already.
    pub(super) fn absorb_presence(&self, envelope: &mut Envelope, next: &mut Next) -> bool {
        let stanza = &envelope.stanza;
        if stanza.kind() != Kind::Presence || envelope.arrival == Arrival::Own {
            return false;
        }
        if let Some(gone) = self.views.answers_us(stanza) {
            for withdrawal in &gone {
                self.withdraw(withdrawal, next);
            }
        } else if envelope.arrival == Arrival::Component || !self.views.is_repeated(stanza) {
            return false;
        }
        self.metrics.absorbed.with_label_values(&["presence"]).inc();
        debug!(id = %envelope.id, "nobody waits for this presence");
        envelope.receipt.settle();
        true
    }

    /// The local server was handed it.
    pub(super) fn note_reinjected(&self, glimpse: Option<Glimpse>) {
        match glimpse {
            Some(glimpse) if glimpse.arrival == Arrival::Component => {
                self.views.stayed(&glimpse.sighting);
            }
            // What comes around is our own server's.
            Some(glimpse) if glimpse.origin != self.rules.local => {
                self.views.came_in(&glimpse.origin, &glimpse.sighting);
            }
            _ => {}
        }
    }

    /// A link to `host` has it.
    pub(super) fn note_forwarded(&self, glimpse: Option<Glimpse>, host: &Host) {
        if let Some(glimpse) = glimpse
            && glimpse.arrival == Arrival::Component
        {
            self.views
                .went_out(host, glimpse.is_copy, &glimpse.sighting);
        }
    }

    /// A link has a question of ours: from now on there is an answer to wait for.
    pub(super) fn note_asked(&self, question: Option<(BareJid, BareJid)>) {
        if let Some((user, viewer)) = question {
            self.views.asked(user, viewer, None);
        }
    }

    /// It could not be delivered in time.
    pub(super) fn note_missed(&self, envelope: &Envelope) {
        if let Some(sighting) = Sighting::of(&envelope.stanza) {
            let (side, host) = if envelope.origin == self.rules.local {
                (Side::Out, envelope.copy_for.as_ref())
            } else {
                (Side::In, Some(&envelope.origin))
            };
            self.views.missed(side, host, &sighting);
        }
    }
}

/// For whom and in whose name `envelope` asks, if it is a question of ours.
pub(super) fn own_question(envelope: &Envelope) -> Option<(BareJid, BareJid)> {
    // First: this is looked at for each stanza.
    if !is_own_probe(envelope) {
        return None;
    }
    let stanza = &envelope.stanza;
    Some((stanza.to()?.to_bare(), stanza.from()?.to_bare()))
}

fn pair_of(stanza: &Stanza) -> Pair {
    Pair {
        sender: stanza.from().map(Jid::to_bare),
        recipient: stanza.to().map(Jid::to_bare),
        copies_for: None,
    }
}

/// A probe in somebody's name who did not ask: nobody is to be told of its fate.
pub(super) fn is_own_probe(envelope: &Envelope) -> bool {
    let stanza = &envelope.stanza;
    envelope.arrival == Arrival::Own
        && stanza.kind() == Kind::Presence
        && stanza.stanza_type() == Some("probe")
}
