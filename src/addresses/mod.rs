//! Translates global ⇄ local addresses: the only place for alias mode.

mod mention;
mod places;
mod rename;
#[cfg(test)]
mod tests;

use memchr::memmem;

use jid::Jid;

use self::mention::Mention;
use self::rename::Rename;
use crate::config::ServiceConfig;
use crate::host::Host;
use crate::stanza::{Reason, Refusal, Stanza};

/// Rewrites addresses between the global form, under the shared domain, and the
/// form that the local server uses: addresses of users, and of this host's services
/// that have a separate local name.
///
/// Text for people is never changed, even if it names an address: MongooseIM writes
/// the full local JID into the body of MUC invitations, and there the JID stays.
#[derive(Debug, Clone)]
pub struct Translator {
    /// The shared domain, as people know it.
    global: Host,
    /// Local to global.
    outward: Rename,
    /// Global to local.
    inward: Rename,
    /// The domains that `outward` renames.
    renamed: Vec<Mention>,
    /// Every domain with archives here, under each of its names.
    ours: Vec<(Host, Mention)>,
    /// Services of this host that the server knows under their global name: they
    /// have no stream, so the gateway can send nothing in their name.
    nameless: Vec<Host>,
    senders: Senders,
    archive_ids: Vec<memmem::Finder<'static>>,
}

impl Translator {
    /// Translates between `global` and `local`, for a host that offers `services`.
    #[must_use]
    pub fn new(global: Host, local: Host, services: &[ServiceConfig], senders: Senders) -> Self {
        let named = services
            .iter()
            .filter_map(|service| Some((service.local.as_ref()?, &service.domain)));
        let pairs: Vec<(&Host, &Host)> = [(&local, &global)].into_iter().chain(named).collect();
        let nameless = services.iter().filter(|service| service.local.is_none());
        let nameless: Vec<Host> = nameless.map(|service| service.domain.clone()).collect();
        let names = pairs.iter().flat_map(|(local, global)| [*local, *global]);
        Self {
            outward: Rename::new(pairs.iter().copied()),
            inward: Rename::new(pairs.iter().map(|(local, global)| (*global, *local))),
            renamed: pairs.iter().map(|(local, _)| Mention::of(local)).collect(),
            ours: names
                .chain(&nameless)
                .map(|name| (name.clone(), Mention::of(name)))
                .collect(),
            archive_ids: places::archive_ids().map(memmem::Finder::new).collect(),
            nameless,
            senders,
            global,
        }
    }

    /// Translates a stanza from the component stream for routing: `from` and the
    /// local addresses in the payload become global; a `<stanza-id/>` or
    /// `<archived/>` of a local archive is removed, unless it is a service's own,
    /// since every user can reach a service's archive. A payload without any of
    /// these keeps its bytes.
    ///
    /// # Errors
    /// `BadAddress` when `from` or `to` is missing.
    pub fn outbound(&self, stanza: &mut Stanza) -> Result<(), Refusal> {
        let sender = addresses(stanza)?;
        let global = self.outward.jid(sender);
        let is_service = global
            .as_ref()
            .is_some_and(|global| self.global != *global.domain().as_str());
        let own = |by: &str| is_service && is_at(by, sender);
        if self.renamed.iter().any(|m| m.is_in(stanza.payload())) {
            let mut fields = Vec::new();
            let edited = stanza.edited_payload(|element| {
                places::rename(element, &self.outward, own, &mut fields);
            });
            stanza.set_payload(edited);
        }
        if let Some(global) = global {
            stanza.set_from(global);
        }
        Ok(())
    }

    /// Translates a stanza from routing for the component stream: `to` becomes
    /// local; a `<stanza-id/>` that claims to be of a local archive is removed,
    /// unless it is the sender's own.
    ///
    /// # Errors
    /// `ForeignSender` when the sender is neither at the shared domain nor a
    /// service below it, or is a service in whose name nothing can be sent to this
    /// server; `BadAddress` when `from` or `to` is missing.
    pub fn inbound(&self, stanza: &mut Stanza) -> Result<(), Refusal> {
        let sender = addresses(stanza)?;
        self.check_sender(sender)?;
        let is_service = self.global != *sender.domain().as_str();
        let forged = |by: &str| self.is_ours(by) && !(is_service && is_at(by, sender));
        if self.may_claim_our_archive(stanza.payload()) {
            let edited = stanza.edited_payload(|element| {
                if element.depth() == 1 && places::is_archive_id(element, forged) {
                    element.remove();
                }
            });
            stanza.set_payload(edited);
        }
        if let Some(local) = stanza.to().and_then(|to| self.inward.jid(to)) {
            stanza.set_to(local);
        }
        Ok(())
    }

    /// Whether the server accepts stanzas of `sender` from this gateway.
    fn check_sender(&self, sender: &Jid) -> Result<(), Refusal> {
        let domain = sender.domain().as_str();
        if self.nameless.iter().any(|service| *service == *domain) {
            return Err(self.nameless_sender(domain));
        }
        // A peer has no users under this server's own names, even if those names
        // are below the shared domain.
        let is_local = self.outward.jid(sender).is_some();
        let is_shared = self.global == *domain || self.global.is_above(domain);
        if !is_local && (is_shared || self.senders.foreign) {
            return Ok(());
        }
        Err(self.foreign_sender())
    }

    /// Whether `payload` may hold a `<stanza-id/>` by an address of this host
    /// (XEP-0359 §5), or its older form. Payloads are not normalised, so a name
    /// that is written in another way (character references, full-width letters)
    /// counts as well.
    fn may_claim_our_archive(&self, payload: &[u8]) -> bool {
        self.archive_ids
            .iter()
            .any(|name| name.find(payload).is_some())
            && (self.ours.iter().any(|(_, mention)| mention.is_in(payload))
                || memmem::find(payload, b"&#").is_some()
                || !payload.is_ascii())
    }

    /// Whether `by` is an address at a domain whose archives are here.
    fn is_ours(&self, by: &str) -> bool {
        Jid::new(by.trim()).is_ok_and(|by| {
            let domain = by.domain().as_str();
            self.ours.iter().any(|(ours, _)| *ours == *domain)
        })
    }

    /// Refuses a stanza that arrives over a link with a sender at this very server:
    /// only the server itself may send in the name of its own domain and the
    /// domains below it.
    ///
    /// # Errors
    /// `ForeignSender`.
    pub fn check_link_sender(&self, stanza: &Stanza) -> Result<(), Refusal> {
        let Some(sender) = stanza.from() else {
            return Ok(());
        };
        let domain = sender.domain().as_str();
        let is_own = self.outward.jid(sender).is_some()
            || self
                .senders
                .own
                .iter()
                .any(|own| *own == *domain || own.is_above(domain));
        if is_own {
            return Err(self.foreign_sender());
        }
        Ok(())
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

    fn nameless_sender(&self, domain: &str) -> Refusal {
        Refusal::new(
            Reason::ForeignSender,
            format!(
                "{domain} is at the recipient's own server, where it can only write to local \
                 addresses; its operator can change that by giving it a local name ([[services]] \
                 local)"
            ),
        )
    }
}

/// Senders that may be reinjected besides those under the shared domain.
#[derive(Debug, Clone, Default)]
pub struct Senders {
    /// `component.foreign_from`: all other senders too.
    pub foreign: bool,
    /// Domains of this very server: `local_host` and `control.domain`.
    pub own: Vec<Host>,
}

/// Whether `address` is at the domain of `jid`.
fn is_at(address: &str, jid: &Jid) -> bool {
    Jid::new(address.trim()).is_ok_and(|address| address.domain() == jid.domain())
}

/// The sender, if the stanza has both of its addresses.
fn addresses(stanza: &Stanza) -> Result<&Jid, Refusal> {
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
