//! Stanzas that the gateway itself sends to repair the presence that contacts see.

use jid::{BareJid, Jid};
use minidom::Element;

use super::event::{MUC_USER, Occupant};
use crate::host::Host;
use crate::stanza::{Kind, Stanza};

/// The direction of a presence.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Direction {
    /// The presence of a session in another datacenter, for a viewer of the local
    /// server.
    In,
    /// The presence of a local session, for a viewer in another datacenter.
    Out,
}

impl Direction {
    pub(super) fn reverse(self) -> Self {
        match self {
            Self::In => Self::Out,
            Self::Out => Self::In,
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SweepAction {
    pub(crate) kind: ActionKind,
    pub(crate) user: Jid,
    pub(crate) viewer: Jid,
    /// The direction of the user's presence: a probe goes to a peer (in) or to the
    /// local server (out).
    pub(crate) direction: Direction,
    /// The other datacenter; `None` leaves it to the session table.
    pub(crate) host: Option<Host>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ActionKind {
    /// Sends an `unavailable` of the user's session to the viewer.
    Unavailable(UnavailableCause, Occupant),
    /// Probes the user (RFC 6121 §4.3) in the name of the viewer.
    Probe,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum UnavailableCause {
    /// No gateway of the session's datacenter is connected.
    Peer,
    /// The local server is unreachable.
    Server,
    /// The local server has lost the session without an `unavailable`.
    Session,
    /// The session's server was probed and did not name the session.
    Unanswered,
    /// An earlier `unavailable` was not delivered.
    Missed,
}

impl UnavailableCause {
    /// Labels in the metrics, in the order of the causes.
    pub(super) const LABELS: [&str; 5] = ["peer", "server", "session", "unanswered", "missed"];

    pub(crate) fn label(self) -> &'static str {
        Self::LABELS[self as usize]
    }
}

impl SweepAction {
    /// The sender whose worker performs the action, behind all that the sender has
    /// sent.
    pub(crate) fn sender(&self) -> BareJid {
        match self.kind {
            ActionKind::Unavailable(..) => self.user.to_bare(),
            ActionKind::Probe => self.viewer.to_bare(),
        }
    }

    pub(crate) fn stanza(&self) -> Stanza {
        let (user, viewer) = (self.user.clone(), self.viewer.clone());
        let ActionKind::Unavailable(_, occupant) = self.kind else {
            return Stanza::probe(viewer, user);
        };
        let payload = match occupant {
            Occupant::No => None,
            Occupant::Other => left_room(""),
            // 332: the service shuts down, so the client has to join again (XEP-0045 §9.8).
            Occupant::Oneself => left_room("<status code='110'/><status code='332'/>"),
        };
        let (kind, is_of) = (Kind::Presence, Some("unavailable"));
        let (from, to) = (Some(user), Some(viewer));
        Stanza::new(kind, is_of, None, from, to, payload.as_slice())
    }
}

/// The payload that a room sends for an occupant that has left the room.
fn left_room(statuses: &str) -> Option<Element> {
    let item = "<item affiliation='none' role='none'/>";
    let x = format!("<x xmlns='{MUC_USER}'>{item}{statuses}</x>");
    x.parse().ok()
}
