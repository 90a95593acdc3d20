//! Global ⇄ local addresses: the one door for alias mode.

mod mention;
mod places;
mod rename;
#[cfg(test)]
mod tests;

use memchr::memmem;

use self::mention::Mention;
use self::rename::Rename;
use crate::host::Host;
use crate::stanza::{Reason, Refusal, Stanza};

/// Rewrites addresses between the shared domain and this datacenter's own.
///
/// Text for people is never touched, even if it names an address: MongooseIM
/// writes the full local JID into the body of MUC invitations, and there it
/// stays.
#[derive(Debug, Clone)]
pub struct Translator {
    /// The shared domain, as people know it.
    global: Host,
    /// Local to global.
    outward: Rename,
    /// Global to local.
    inward: Rename,
    local_mention: Mention,
    global_mention: Mention,
    stanza_id: memmem::Finder<'static>,
}

impl Translator {
    /// Between `global` and `local`.
    #[must_use]
    pub fn new(global: Host, local: Host) -> Self {
        Self {
            outward: Rename::new(&local, &global),
            inward: Rename::new(&global, &local),
            local_mention: Mention::of(&local),
            global_mention: Mention::of(&global),
            stanza_id: memmem::Finder::new("stanza-id"),
            global,
        }
    }

    /// From the component stream to routing: `from` and the local addresses in
    /// the payload become global; a `<stanza-id/>` of a local archive is
    /// removed. A payload without any of these keeps its bytes.
    ///
    /// # Errors
    /// `BadAddress` when `from` or `to` is missing.
    pub fn outbound(&self, stanza: &mut Stanza) -> Result<(), Refusal> {
        let sender = addresses(stanza)?;
        if let Some(global) = self.outward.jid(sender) {
            stanza.set_from(global);
        }
        if self.local_mention.is_in(stanza.payload()) {
            let mut tree = stanza.to_element();
            if places::rename_below(&mut tree, &self.outward) {
                stanza.set_payload_from(&tree);
            }
        }
        Ok(())
    }

    /// From routing to the component stream: `to` becomes local; a
    /// `<stanza-id/>` that claims to be of a local archive is removed.
    ///
    /// # Errors
    /// `ForeignSender` when the sender is not under the shared domain;
    /// `BadAddress` when `from` or `to` is missing.
    pub fn inbound(&self, stanza: &mut Stanza) -> Result<(), Refusal> {
        let sender = addresses(stanza)?;
        if self.global != *sender.domain().as_str() {
            return Err(self.foreign_sender());
        }
        if let Some(local) = stanza.to().and_then(|to| self.inward.jid(to)) {
            stanza.set_to(local);
        }
        if self.may_claim_our_archive(stanza.payload()) {
            let mut tree = stanza.to_element();
            if places::remove_stanza_ids(&mut tree, |by| self.is_ours(by)) {
                stanza.set_payload_from(&tree);
            }
        }
        Ok(())
    }

    /// Whether `payload` may hold a `<stanza-id/>` by one of our addresses
    /// (XEP-0359 §5). Nobody has normalised it, so a name that is written in
    /// another way (character references, full-width letters) counts as well.
    fn may_claim_our_archive(&self, payload: &[u8]) -> bool {
        self.stanza_id.find(payload).is_some()
            && (self.local_mention.is_in(payload)
                || self.global_mention.is_in(payload)
                || memmem::find(payload, b"&#").is_some()
                || !payload.is_ascii())
    }

    /// Whether `by` is an address at the local or the shared domain.
    fn is_ours(&self, by: &str) -> bool {
        self.outward.address(by).is_some() || self.inward.address(by).is_some()
    }

    fn foreign_sender(&self) -> Refusal {
        Refusal::new(
            Reason::ForeignSender,
            format!(
                "the sender's address is not under {}, and the recipient's datacenter takes no \
                 others; its operator can change that (component.foreign_from)",
                self.global
            ),
        )
    }
}

/// The sender, if the stanza has both of its addresses.
fn addresses(stanza: &Stanza) -> Result<&jid::Jid, Refusal> {
    match (stanza.from(), stanza.to()) {
        (Some(sender), Some(_)) => Ok(sender),
        (None, _) => Err(Refusal::new(
            Reason::BadAddress,
            "the stanza does not say whom it is from",
        )),
        (Some(_), None) => Err(Refusal::new(
            Reason::BadAddress,
            "the stanza does not say whom it is to",
        )),
    }
}
