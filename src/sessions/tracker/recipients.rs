//! The recipients of a session's presence.

use std::collections::BTreeSet;

use jid::{BareJid, FullJid, Jid};

/// Recipients of one session's presence that are remembered: a user may direct presence to
/// any address.
const RECIPIENTS: usize = 2_000;

/// The recipients of a session's presence, which will be sent its end too: the
/// server keeps the same list (RFC 6121 §4.6.3).
#[derive(Debug, Default)]
pub(super) struct PresenceRecipients(BTreeSet<Jid>);

impl PresenceRecipients {
    pub(super) fn insert(&mut self, to: &Jid) {
        if self.0.len() < RECIPIENTS && !self.0.contains(to) {
            self.0.insert(to.clone());
        }
    }

    /// Removes a recipient of the end; whether it was on the list. A
    /// bare JID stands for its resources too: a contact to whom presence was
    /// also directed is sent one end only.
    pub(super) fn remove(&mut self, to: &Jid) -> bool {
        let before = self.0.len();
        if to.is_bare() {
            self.0.retain(|recipient| !is_of(recipient, to));
        } else {
            self.0.remove(to);
        }
        self.0.len() < before
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns a recipient of the same domain (a user, or the domain itself as a contact), in whose
    /// name the server can be asked for `session`: the gateway may write no other sender on the
    /// server's stream.
    pub(super) fn prober(&self, session: &FullJid) -> Option<BareJid> {
        self.0
            .iter()
            .find(|recipient| can_probe(recipient, session))
            .map(Jid::to_bare)
    }
}

/// Whether the server can be asked for `session` in the name of `recipient`.
pub(super) fn can_probe(recipient: &Jid, session: &FullJid) -> bool {
    recipient.domain() == session.domain() && recipient.node() != session.node()
}

fn is_of(jid: &Jid, bare: &Jid) -> bool {
    jid.node() == bare.node() && jid.domain() == bare.domain()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_recipients_of_one_session_are_bounded() {
        let mut recipients = PresenceRecipients::default();
        let jid = |n: usize| Jid::new(&format!("user{n}@example.test/r")).unwrap();
        for n in 0..=RECIPIENTS {
            recipients.insert(&jid(n));
        }
        assert_eq!(recipients.0.len(), RECIPIENTS);
        assert!(!recipients.remove(&jid(RECIPIENTS)), "it came last");
        assert!(recipients.remove(&jid(0)));
    }
}
