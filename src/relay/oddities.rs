//! What the local server does as others don't is done for it, or avoided.

use super::Relay;
use crate::services;
use crate::stanza::{Kind, Stanza};

impl Relay {
    /// The answer to what the server can't answer for its accounts.
    pub(super) fn answer_for_server(&self, stanza: &Stanza) -> Option<Stanza> {
        if stanza.kind() != Kind::Iq || !stanza.to().is_some_and(|to| self.is_user(to)) {
            return None;
        }
        let oddities = self.components.oddities();
        let features = oddities.account_features.as_deref()?;
        services::answer_for_account(stanza, features)
    }

    /// `local` is what the server is about to get of `stanza`. A message to a
    /// session that is gone, and which any server gives to the others, goes to
    /// the bare JID where it would come twice (RFC 6121 §8.5.3.2.1).
    pub(super) fn address_for_server(&self, local: &mut Stanza, stanza: &Stanza) {
        let goes_to_others = stanza.kind() == Kind::Message
            && matches!(stanza.stanza_type(), None | Some("chat" | "normal"));
        let Some(recipient) = stanza.to().filter(|to| goes_to_others && to.is_full()) else {
            return;
        };
        if self.is_user(recipient)
            && self.components.oddities().doubles_messages_to_the_gone
            && !self.sessions.is_here(recipient)
            && let Some(to) = local.to().map(|to| to.to_bare())
        {
            local.set_to(to.into());
        }
    }
}
