//! Presence that passes the gateway, as far as it changes the presence table.

use jid::Jid;
use memchr::memmem;

use super::action::Direction;
use crate::envelope::{Arrival, Envelope};
use crate::host::Host;
use crate::stanza::Kind;

/// The namespace of the presence of room occupants (XEP-0045).
pub(super) const MUC_USER: &str = "http://jabber.org/protocol/muc#user";

/// One presence stanza that passes, under global addresses.
#[derive(Debug, Clone)]
pub(crate) struct PresenceEvent {
    pub(super) kind: EventKind,
    /// A session, if it becomes available or unavailable.
    pub(super) user: Jid,
    pub(super) viewer: Jid,
    pub(super) direction: Direction,
    /// The other datacenter, if it is known.
    pub(super) host: Option<Host>,
    /// Whether other hosts may be sent the presence too.
    pub(super) is_copy: bool,
    pub(super) arrival: Arrival,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum EventKind {
    Available(Occupant),
    Unavailable,
    /// The viewer's server asks for the user's presence (RFC 6121 §4.3).
    Probe,
    /// The viewer asks for a subscription (RFC 6121 §3.1).
    Requested,
    /// The viewer's subscription has ended (RFC 6121 §3.2, §3.3).
    Cancelled,
}

/// Whether a presence is that of a room occupant (XEP-0045).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Occupant {
    No,
    Other,
    /// The viewer's own occupant (status 110).
    Oneself,
}

impl PresenceEvent {
    /// `None` for any other stanza. Takes no lock.
    pub(super) fn of(envelope: &Envelope, local: &Host) -> Option<Self> {
        let (stanza, arrival) = (&envelope.stanza, envelope.arrival.clone());
        if stanza.kind() != Kind::Presence {
            return None;
        }
        let (from, to) = (stanza.from()?, stanza.to()?);
        let (kind, user, viewer) = match stanza.stanza_type() {
            None if from.is_full() => {
                let occupant = Occupant::in_payload(stanza.payload());
                (EventKind::Available(occupant), from, to)
            }
            Some("unavailable") if from.is_full() => (EventKind::Unavailable, from, to),
            Some("probe") => (EventKind::Probe, to, from),
            Some("unsubscribed") => (EventKind::Cancelled, from, to),
            Some("unsubscribe") => (EventKind::Cancelled, to, from),
            Some("subscribe") => (EventKind::Requested, to, from),
            _ => return None,
        };
        let (direction, host) = match &arrival {
            _ if envelope.origin == *local => (Direction::Out, envelope.copy_for.clone()),
            // The records of one connection share the name.
            Arrival::Link(peer) if *peer == envelope.origin => (Direction::In, Some(peer.clone())),
            _ => (Direction::In, Some(envelope.origin.clone())),
        };
        let is_copy = direction == Direction::Out && host.is_some();
        let (user, viewer) = (user.clone(), viewer.clone());
        Some(Self {
            kind,
            user,
            viewer,
            direction,
            host,
            is_copy,
            arrival,
        })
    }
}

impl Occupant {
    /// Searches the bytes only: a user taken for an occupant by mistake is sent an
    /// `unavailable` with a room's payload, which other clients ignore.
    fn in_payload(payload: &[u8]) -> Self {
        let has = |text: &str| memmem::find(payload, text.as_bytes()).is_some();
        match has("code='110'") || has("code=\"110\"") {
            _ if !has(MUC_USER) => Self::No,
            true => Self::Oneself,
            false => Self::Other,
        }
    }
}
