//! What one stanza says about its sender's session.

use jid::{BareJid, FullJid, Jid};

use crate::stanza::Kind;

/// What one stanza says about its sender's session. Addresses are global ones.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SessionEvent<'a> {
    /// The session's presence was sent to somebody, who will also be told of its end.
    Available {
        /// Whose presence.
        session: &'a FullJid,
        /// Who was sent it.
        to: &'a Jid,
    },
    /// Somebody was told that the session is gone, at least for them.
    Unavailable {
        /// Which session.
        session: &'a FullJid,
        /// Who was told.
        to: Option<&'a Jid>,
    },
    /// The server says that the user has no session that the asker may see
    /// (RFC 6121 §4.3.2).
    NobodyHome {
        /// Which user.
        user: &'a BareJid,
    },
    /// The session sent something.
    Traffic {
        /// Which session.
        session: &'a FullJid,
    },
    /// Nothing.
    Nothing,
}

impl<'a> SessionEvent<'a> {
    /// Reads the start tag of a stanza that the local server sent.
    ///
    /// An error is no event: servers also write them for a session that is
    /// gone, under its address. Neither is what comes from a bare JID: a
    /// subscription (RFC 6121 §3), or what a server does for a user.
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
