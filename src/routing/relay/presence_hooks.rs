//! Which presence goes by, and what is said of those who can't say it themselves.

use jid::{BareJid, Jid};
use tracing::debug;

use super::{Backlog, Relay, not_held};
use crate::envelope::{Arrival, Envelope};
use crate::host::Host;
use crate::presence_sync::{
    Direction, PresenceEvent, ProbeRequest, SweepAction, UnavailableCause, UnavailableNotice,
};
use crate::routing::decide::{Decision, ReinjectReason};
use crate::routing::hold::HoldKey;
use crate::stanza::{Kind, Stanza};

/// A presence that is on its way to somebody, and where it came from.
pub(super) struct PresenceSnapshot {
    event: PresenceEvent,
    arrival: Arrival,
    origin: Host,
    is_copy: bool,
}

impl PresenceSnapshot {
    /// Of what is presence, and not our own.
    pub(super) fn of(envelope: &Envelope) -> Option<Self> {
        if envelope.arrival == Arrival::Own {
            return None;
        }
        Some(Self {
            event: PresenceEvent::of(&envelope.stanza)?,
            arrival: envelope.arrival.clone(),
            origin: envelope.origin.clone(),
            is_copy: envelope.copy_for.is_some(),
        })
    }
}

impl Relay {
    /// Says what a view needs.
    pub async fn perform(&self, action: SweepAction) {
        let mut backlog = Backlog::new();
        match action {
            SweepAction::SendUnavailable(notice) => self.send_unavailable(&notice, &mut backlog),
            SweepAction::Probe(request) => self.probe_peer(&request, &mut backlog),
            SweepAction::ProbeLocal(request) => self.probe_local(&request),
        }
        self.carry_all(backlog).await;
    }

    /// Tells that a session is gone, unless something else was said meanwhile.
    pub(super) fn send_unavailable(&self, notice: &UnavailableNotice, backlog: &mut Backlog) {
        let stanza = notice.stanza();
        let is_held = self.hold.reason(&pair_of(&stanza)).is_some();
        // What is held says so itself, or will be missed.
        let is_said = is_held && notice.why == UnavailableCause::Session;
        if is_said || !self.presence.confirm(notice) {
            return;
        }
        debug!(
            session = %notice.session, viewer = %notice.viewer, why = notice.why.label(),
            "told to be gone"
        );
        let origin = match (notice.direction, &notice.host) {
            (Direction::In, Some(host)) => host,
            _ => &self.rules.local,
        };
        let envelope = self.say_for(origin, stanza);
        match (notice.direction, &notice.host) {
            _ if is_held => backlog.push_back(not_held(envelope)),
            (Direction::In, _) => self.reinject(envelope, ReinjectReason::Routed, backlog),
            (Direction::Out, host) => self.send_to_its_server(envelope, host.as_ref(), backlog),
        }
    }

    /// For the server of that datacenter, even if its gateway does not know yet
    /// that the recipient is there.
    fn send_to_its_server(
        &self,
        mut envelope: Envelope,
        host: Option<&Host>,
        backlog: &mut Backlog,
    ) {
        match host {
            Some(host) => {
                envelope.copy_for = Some(host.clone());
                self.send_towards(envelope, host, backlog);
            }
            None => backlog.push_back(not_held(envelope)),
        }
    }

    /// What the local server answers to a request that was asked for one host
    /// goes there too, whether or not that host is known to have the viewer.
    pub(super) fn with_who_wants_it(
        &self,
        decision: Decision,
        envelope: &mut Envelope,
    ) -> Decision {
        if envelope.arrival != Arrival::Component || envelope.copy_for.is_some() {
            return decision;
        }
        let Some(host) = self.presence.wanted_at(&envelope.stanza) else {
            return decision;
        };
        let (mut hosts, here_too) = match decision {
            Decision::Forward { hosts, here_too } => (hosts, here_too),
            Decision::Bounce
            | Decision::Reinject {
                reason: ReinjectReason::LastResort,
            } => (Vec::new(), false),
            Decision::Reinject {
                reason: ReinjectReason::Routed,
            } => (Vec::new(), true),
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
    fn probe_peer(&self, request: &ProbeRequest, backlog: &mut Backlog) {
        let asked = &self.metrics.presence_asked;
        asked.with_label_values(&["peer"]).inc();
        let envelope = self.say_for(&self.rules.local, request.stanza());
        self.send_to_its_server(envelope, request.host.as_ref(), backlog);
    }

    fn probe_local(&self, request: &ProbeRequest) {
        let asked = &self.metrics.presence_asked;
        asked.with_label_values(&["server"]).inc();
        self.probe_for(request.stanza(), request.host.as_ref());
    }

    fn say_for(&self, origin: &Host, stanza: Stanza) -> Envelope {
        self.metrics.taken.with_label_values(&["own"]).inc();
        Envelope::new(origin.clone(), Arrival::Own, self.message_ttl, stanza)
    }

    /// What goes to nobody: only this gateway wanted to know, or the viewer was
    /// told already.
    pub(super) fn absorb_presence(&self, envelope: &mut Envelope, backlog: &mut Backlog) -> bool {
        let stanza = &envelope.stanza;
        if stanza.kind() != Kind::Presence || envelope.arrival == Arrival::Own {
            return false;
        }
        if let Some(gone) = self.presence.answers_us(stanza) {
            for notice in &gone {
                self.send_unavailable(notice, backlog);
            }
        } else if envelope.arrival == Arrival::Component || !self.presence.is_repeated(stanza) {
            return false;
        }
        self.metrics.absorbed.with_label_values(&["presence"]).inc();
        debug!(id = %envelope.id, "nobody waits for this presence");
        envelope.receipt.settle();
        true
    }

    /// The local server was handed it.
    pub(super) fn note_reinjected(&self, snapshot: Option<PresenceSnapshot>) {
        match snapshot {
            Some(snapshot) if snapshot.arrival == Arrival::Component => {
                self.presence.stayed(&snapshot.event);
            }
            // What comes around is our own server's.
            Some(snapshot) if snapshot.origin != self.rules.local => {
                self.presence.came_in(&snapshot.origin, &snapshot.event);
            }
            _ => {}
        }
    }

    /// A link to `host` has it.
    pub(super) fn note_forwarded(&self, snapshot: Option<PresenceSnapshot>, host: &Host) {
        if let Some(snapshot) = snapshot
            && snapshot.arrival == Arrival::Component
        {
            self.presence
                .went_out(host, snapshot.is_copy, &snapshot.event);
        }
    }

    /// A link has a request of ours: from now on there is an answer to wait for.
    pub(super) fn note_probed(&self, probe: Option<(BareJid, BareJid)>) {
        if let Some((user, viewer)) = probe {
            self.presence.asked(user, viewer, None);
        }
    }

    /// It could not be delivered in time.
    pub(super) fn note_missed(&self, envelope: &Envelope) {
        if let Some(event) = PresenceEvent::of(&envelope.stanza) {
            let (direction, host) = if envelope.origin == self.rules.local {
                (Direction::Out, envelope.copy_for.as_ref())
            } else {
                (Direction::In, Some(&envelope.origin))
            };
            self.presence.missed(direction, host, &event);
        }
    }
}

/// For whom and in whose name `envelope` asks, if it is a request of ours.
pub(super) fn own_probe(envelope: &Envelope) -> Option<(BareJid, BareJid)> {
    // First: this is looked at for each stanza.
    if !is_own_probe(envelope) {
        return None;
    }
    let stanza = &envelope.stanza;
    Some((stanza.to()?.to_bare(), stanza.from()?.to_bare()))
}

fn pair_of(stanza: &Stanza) -> HoldKey {
    HoldKey {
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
