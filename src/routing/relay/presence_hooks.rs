//! Performs the actions of `presence_sync` and absorbs presence that nobody waits for.

use jid::Jid;
use tracing::debug;

use super::{Backlog, Relay, not_held};
use crate::envelope::{Arrival, Envelope};
use crate::host::Host;
use crate::presence_sync::{ActionKind, Direction, SweepAction, UnavailableCause};
use crate::routing::decide::{Decision, ReinjectReason};
use crate::routing::hold::HoldKey;
use crate::stanza::Stanza;

impl Relay {
    pub(crate) async fn perform(&self, action: SweepAction) {
        let mut backlog = Backlog::new();
        match action.kind {
            ActionKind::Unavailable(cause, _) => {
                self.send_unavailable(&action, cause, &mut backlog)
            }
            ActionKind::Probe => self.send_probe(&action, &mut backlog),
        }
        self.carry_all(backlog).await;
    }

    /// Sends an `unavailable`, unless other presence has passed meanwhile.
    fn send_unavailable(
        &self,
        action: &SweepAction,
        cause: UnavailableCause,
        backlog: &mut Backlog,
    ) {
        let stanza = action.stanza();
        let is_held = self.hold.reason(&pair_of(&stanza)).is_some();
        // The session's own `unavailable` may be among what is held.
        let is_superfluous = is_held && cause == UnavailableCause::Session;
        if is_superfluous || !self.presence.confirm(action) {
            return;
        }
        debug!(
            session = %action.user, viewer = %action.viewer, cause = cause.label(),
            "unavailable is sent for a session"
        );
        let origin = match (action.direction, &action.host) {
            (Direction::In, Some(host)) => host,
            _ => &self.rules.local,
        };
        let envelope = self.own_presence(origin, stanza);
        match (action.direction, &action.host) {
            _ if is_held => backlog.push_back(not_held(envelope)),
            (Direction::In, _) => self.reinject(envelope, ReinjectReason::Routed, backlog),
            (Direction::Out, host) => self.send_to_its_server(envelope, host.as_ref(), backlog),
        }
    }

    fn send_probe(&self, action: &SweepAction, backlog: &mut Backlog) {
        let (stanza, host) = (action.stanza(), action.host.as_ref());
        let counter = &self.metrics.presence_asked;
        match action.direction {
            Direction::In => {
                counter.with_label_values(&["peer"]).inc();
                let envelope = self.own_presence(&self.rules.local, stanza);
                self.send_to_its_server(envelope, host, backlog);
            }
            Direction::Out => {
                counter.with_label_values(&["server"]).inc();
                self.probe_for(stanza, host);
            }
        }
    }

    /// For the server of `host`, even if its gateway does not know yet that the
    /// recipient is there.
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

    fn own_presence(&self, origin: &Host, stanza: Stanza) -> Envelope {
        self.metrics.taken.with_label_values(&["own"]).inc();
        Envelope::new(origin.clone(), Arrival::Own, self.message_ttl, stanza)
    }

    /// The local server's answer to a probe for one host goes there too, whether or
    /// not the viewer is known to be there.
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

    /// Whether `envelope` ends here.
    pub(super) fn absorb_presence(&self, envelope: &mut Envelope, backlog: &mut Backlog) -> bool {
        let Some(actions) = self.presence.absorb(envelope) else {
            return false;
        };
        for action in &actions {
            if let ActionKind::Unavailable(cause, _) = action.kind {
                self.send_unavailable(action, cause, backlog);
            }
        }
        self.metrics.absorbed.with_label_values(&["presence"]).inc();
        debug!(id = %envelope.id, "nobody waits for this presence");
        envelope.receipt.settle();
        true
    }
}

fn pair_of(stanza: &Stanza) -> HoldKey {
    HoldKey {
        sender: stanza.from().map(Jid::to_bare),
        recipient: stanza.to().map(Jid::to_bare),
        copies_for: None,
    }
}
