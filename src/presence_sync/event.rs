//! What a presence that passes says about who knows what.

use jid::{BareJid, FullJid, Jid};
use memchr::memmem;

use crate::stanza::{Kind, Stanza};

/// What a presence that passes says about who knows what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PresenceEvent {
    /// `viewer` is shown that `session` is available.
    Available {
        /// Whose presence.
        session: FullJid,
        /// Who is shown it.
        viewer: Jid,
        /// Whether it is somebody in a room.
        occupant: Occupant,
    },
    /// `viewer` is told that `session` is gone.
    Unavailable {
        /// Which session.
        session: FullJid,
        /// Who is told.
        viewer: Jid,
    },
    /// The server of `viewer` asks for the presence of `user` (RFC 6121 §4.3).
    Probe {
        /// Whose presence.
        user: BareJid,
        /// In whose name.
        viewer: BareJid,
    },
    /// From now on `viewer` is not shown the presence of `user` (RFC 6121 §3.2, §3.3).
    Cancelled {
        /// Whose presence.
        user: BareJid,
        /// Who was shown it.
        viewer: BareJid,
    },
}

/// Whether a presence is that of somebody in a room (XEP-0045).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Occupant {
    /// It is not.
    No,
    /// It is.
    Other,
    /// It is that of the viewer (status 110).
    Oneself,
}

impl PresenceEvent {
    /// What `stanza` (global addresses) says, if it is a presence that says anything.
    #[must_use]
    pub fn of(stanza: &Stanza) -> Option<Self> {
        if stanza.kind() != Kind::Presence {
            return None;
        }
        let (from, to) = (stanza.from()?, stanza.to()?.clone());
        match (stanza.stanza_type(), from.try_as_full()) {
            (None, Ok(session)) => Some(Self::Available {
                session: session.clone(),
                viewer: to,
                occupant: Occupant::shown_by(stanza.payload()),
            }),
            (Some("unavailable"), Ok(session)) => Some(Self::Unavailable {
                session: session.clone(),
                viewer: to,
            }),
            (Some("probe"), _) => Some(Self::Probe {
                user: to.into_bare(),
                viewer: from.to_bare(),
            }),
            (Some("unsubscribed"), _) => Some(Self::Cancelled {
                user: from.to_bare(),
                viewer: to.into_bare(),
            }),
            (Some("unsubscribe"), _) => Some(Self::Cancelled {
                user: to.into_bare(),
                viewer: from.to_bare(),
            }),
            _ => None,
        }
    }
}

impl Occupant {
    /// By the bytes alone: who is taken for an occupant wrongly is told of the
    /// end in a room's words, which mean nothing to others.
    fn shown_by(payload: &[u8]) -> Self {
        let has = |text: &str| memmem::find(payload, text.as_bytes()).is_some();
        if !has(super::MUC_USER) {
            Self::No
        } else if has("code='110'") || has("code=\"110\"") {
            Self::Oneself
        } else {
            Self::Other
        }
    }
}
