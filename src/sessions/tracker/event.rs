//! Events of a session, as one stanza shows them.

use jid::{BareJid, FullJid, Jid};

use crate::stanza::Kind;

/// Event of the session that sent a stanza. Addresses are global ones.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SessionEvent<'a> {
    /// Presence of the session was sent to a recipient, who will also be sent its end.
    Available {
        /// The session that sent the presence.
        session: &'a FullJid,
        /// The recipient.
        to: &'a Jid,
    },
    /// Unavailable presence of the session was sent: it ended, at least for the recipient.
    Unavailable {
        /// The session that ended.
        session: &'a FullJid,
        /// The recipient; `None` if the session ended for all.
        to: Option<&'a Jid>,
    },
    /// The server reports that the user has no session that the sender of the probe may see (RFC
    /// 6121 §4.3.2).
    NobodyHome {
        /// The user without a session.
        user: &'a BareJid,
    },
    /// The session sent something.
    Traffic {
        /// The session that sent the stanza.
        session: &'a FullJid,
    },
    /// The stanza shows nothing about a session.
    Nothing,
}

impl<'a> SessionEvent<'a> {
    /// Reads the start tag of a stanza that the local server sent.
    ///
    /// An error is no event: servers also write errors for a session that has ended, under its
    /// address. A stanza from a bare JID is none either: it is a subscription (RFC 6121 §3), or the
    /// server acts for a user.
    #[must_use]
    pub fn read(kind: Kind, stanza_type: Option<&str>, from: &'a Jid, to: Option<&'a Jid>) -> Self {
        if from.node().is_none() || stanza_type == Some("error") {
            return Self::Nothing;
        }
        match (from.try_as_full(), kind, stanza_type, to) {
            (Ok(session), Kind::Presence, None, Some(to)) => Self::Available { session, to },
            (Ok(session), Kind::Presence, Some("unavailable"), to) => {
                Self::Unavailable { session, to }
            }
            (Ok(session), ..) => Self::Traffic { session },
            (Err(user), Kind::Presence, Some("unavailable"), _) => Self::NobodyHome { user },
            (Err(_), ..) => Self::Nothing,
        }
    }
}
