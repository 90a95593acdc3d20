//! Performs the actions of `presence_sync`.

use tracing::debug;

use super::own::OwnStanza;
use super::{Backlog, Relay};
use crate::presence_sync::{ActionKind, Direction, SweepAction, UnavailableCause};
use crate::routing::hold::pair_of;

impl Relay {
    pub(crate) async fn perform(&self, action: SweepAction) {
        let mut backlog = Backlog::new();
        match action.kind {
            ActionKind::Unavailable(cause, _) => {
                self.send_unavailable(&action, cause, &mut backlog);
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
        let is_held = !self.hold.is_empty() && self.hold.reason(&pair_of(&stanza)).is_some();
        // The held stanzas may include the session's own `unavailable`.
        let is_superfluous = is_held && cause == UnavailableCause::Session;
        if is_superfluous || !self.presence.confirm(action) {
            return;
        }
        debug!(
            session = %action.user, viewer = %action.viewer, cause = cause.label(),
            "unavailable is sent for a session"
        );
        let local = &self.rules.local;
        let (origin, host) = match (action.direction, &action.host) {
            (Direction::In, host) => (host.as_ref().unwrap_or(local), Some(local)),
            (Direction::Out, _) if is_held => (local, None),
            (Direction::Out, host) => (local, host.as_ref()),
        };
        let own = OwnStanza {
            stanza,
            origin: origin.clone(),
            host: host.cloned(),
            cause: None,
        };
        self.send_own(own, backlog);
    }

    /// Probes the server of the host that sent the presence, even if that host is
    /// not known to have the user.
    fn send_probe(&self, action: &SweepAction, backlog: &mut Backlog) {
        let (stanza, host) = (action.stanza(), action.host.clone());
        let counter = &self.counters.all.presence_asked;
        match action.direction {
            Direction::In => {
                counter.with_label_values(&["peer"]).inc();
                let own = OwnStanza {
                    stanza,
                    origin: self.rules.local.clone(),
                    host,
                    cause: None,
                };
                self.send_own(own, backlog);
            }
            Direction::Out => {
                counter.with_label_values(&["server"]).inc();
                self.probe(stanza, host.as_ref(), backlog);
            }
        }
    }
}
