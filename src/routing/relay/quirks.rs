//! Workarounds for the attached server's quirks.

use super::Relay;
use crate::services;
use crate::stanza::{Kind, Stanza};

impl Relay {
    /// The reply to a disco query that the server fails to answer for its accounts.
    pub(super) fn answer_for_server(&self, stanza: &Stanza) -> Option<Stanza> {
        if stanza.kind() != Kind::Iq || !stanza.to().is_some_and(|to| self.is_user(to)) {
            return None;
        }
        let server = self.components.server().borrow();
        let features = server.quirks.account_features.as_deref()?;
        services::answer_for_account(stanza, features)
    }

    /// Readdresses `local`, the form of `stanza` that the server receives, to
    /// the bare JID if its session is offline and the server would deliver it
    /// twice to the others (RFC 6121 §8.5.3.2.1).
    pub(super) fn address_for_server(&self, local: &mut Stanza, stanza: &Stanza) {
        let goes_to_others = stanza.kind() == Kind::Message
            && matches!(stanza.stanza_type(), None | Some("chat" | "normal"));
        let Some(recipient) = stanza.to().filter(|to| goes_to_others && to.is_full()) else {
            return;
        };
        if self.is_user(recipient)
            && self
                .components
                .server()
                .borrow()
                .quirks
                .doubles_messages_to_the_gone
            && !self.sessions.is_here(recipient)
            && let Some(to) = local.to().map(|to| to.to_bare())
        {
            local.set_to(to.into());
        }
    }
}
