//! What a stanza tells on its way about who is where, and whom to ask.

use std::time::Duration;

use tracing::warn;

use super::{Relay, shows_presence};
use crate::envelope::Envelope;
use crate::host::Host;
use crate::routing::decide::Decision;
use crate::stanza::{Kind, Stanza};

impl Relay {
    /// Whether the sender is in the session table's charge: a room and its
    /// occupants, say, have addresses that look like users'.
    pub(super) fn is_from_user(&self, stanza: &Stanza) -> bool {
        stanza.from().is_some_and(|sender| self.is_user(sender))
    }

    /// The reply may come before the table here knows where the sender is.
    pub(super) fn learn(&self, envelope: &Envelope) {
        let shows = shows_presence(&envelope.stanza) && self.is_from_user(&envelope.stanza);
        if let (true, Some(sender)) = (shows, envelope.stanza.from()) {
            self.sessions.learn(sender, &envelope.origin);
        }
    }

    /// It was bounced here, then sent on, and comes back: what sent it on, a
    /// home perhaps, is no longer so by the table of somebody else.
    pub(super) fn doubt_if_returned(&self, envelope: &Envelope) {
        if let (1.., Some(recipient)) =
            (envelope.retries_at(&self.rules.local), envelope.stanza.to())
        {
            self.sessions.ask_anew(recipient, Duration::ZERO);
        }
    }

    /// A user of whom nobody knows here may be here all the same, since before
    /// this gateway started. A presence finds that out by itself.
    pub(super) fn ask_for_missing(&self, decision: &Decision, stanza: &Stanza) {
        let Some(recipient) = stanza.to().filter(|to| self.is_user(to)) else {
            return;
        };
        let may_be_here = match decision {
            Decision::Reinject { .. } => true,
            Decision::Bounce => !self.sessions.has_home_elsewhere(recipient),
            _ => false,
        };
        if may_be_here
            && stanza.kind() != Kind::Presence
            && let Some(probe) = self.sessions.missing(recipient)
        {
            self.probe(probe);
        }
    }

    /// Asks the local server whether somebody is still there. `probe` has
    /// global addresses.
    pub fn probe(&self, probe: Stanza) {
        self.probe_for(probe, None);
    }

    /// The same; the answers are wanted by `host`.
    pub(super) fn probe_for(&self, mut probe: Stanza, host: Option<&Host>) {
        if let (Some(viewer), Some(user)) = (probe.from(), probe.to()) {
            self.presence.probed(user, viewer, host);
        }
        match self.translator.inbound(&mut probe) {
            Ok(()) => self.components.send_own(probe),
            Err(refusal) => warn!(text = refusal.text, "a probe could not be sent"),
        }
    }
}
