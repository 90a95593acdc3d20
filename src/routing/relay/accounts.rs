//! Local users whose name belongs to another datacenter's.

use super::{Backlog, Relay};
use crate::envelope::{Arrival, Envelope};
use crate::routing::decide::ReinjectReason;
use crate::sessions::Owner;
use crate::stanza::{Reason, Refusal, Stanza};

impl Relay {
    /// ReinjectReason a local user may not write under the shared domain, if so: the
    /// address would be another datacenter's user's.
    pub(super) async fn check_account(&self, envelope: &Envelope) -> Option<Refusal> {
        let sender = envelope.stanza.from()?;
        if envelope.arrival != Arrival::Component
            || sender.node().is_none()
            || !self.is_from_user(&envelope.stanza)
        {
            return None;
        }
        match self.sessions.owner_of(&sender.to_bare()).await {
            Owner::Ours => None,
            Owner::Theirs => Some(Refusal::new(
                Reason::ForeignAccount,
                format!(
                    "{} belongs to an account in another datacenter; this one can't write under that \
                     address",
                    sender.to_bare()
                ),
            )),
            Owner::Unknown => Some(Refusal::new(
                Reason::Timeout,
                "It can't be found out at present whose address this is; try again later.",
            )),
        }
    }

    /// Whether the sender is a local user who can't be reached under its global
    /// address: what is sent there goes to somebody else.
    pub(super) fn has_no_address(&self, envelope: &Envelope) -> bool {
        envelope.arrival == Arrival::Component
            && self.is_from_user(&envelope.stanza)
            && envelope
                .stanza
                .from()
                .is_some_and(|sender| sender.node().is_some() && !self.sessions.may_be_here(sender))
    }

    /// Hands a reply to the local server whoever else has the address.
    pub(super) fn hand_back(&self, reply: Stanza, cause: &Envelope, backlog: &mut Backlog) {
        self.reinject(self.own(reply, cause), ReinjectReason::Routed, backlog);
    }
}
