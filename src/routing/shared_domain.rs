//! The shared domain itself: its answers, and the service domains below it.

use std::sync::Arc;

use jid::Jid;
use tokio::sync::watch;

use super::decide::ServiceHost;
use crate::envelope::Envelope;
use crate::host::Host;
use crate::registry::Directory;
use crate::services::{Answer, Offered, Services};
use crate::stanza::{Reason, Refusal, Stanza};

/// Answers for the shared domain, and knows the hosts of service domains.
pub struct SharedDomain {
    global: Host,
    local: Host,
    services: Services,
    directory: watch::Receiver<Arc<Directory>>,
}

impl SharedDomain {
    /// `global`: the shared domain; `local`: the host of this gateway.
    #[must_use]
    pub fn new(
        global: Host,
        local: Host,
        services: Services,
        directory: watch::Receiver<Arc<Directory>>,
    ) -> Self {
        Self {
            global,
            local,
            services,
            directory,
        }
    }

    /// The answer to a stanza for the shared domain.
    pub(crate) fn answer(&self, stanza: &Stanza) -> Answer {
        let directory = Arc::clone(&self.directory.borrow());
        let offered = directory
            .iter()
            .filter(|(_, listing)| !listing.hosts.is_empty())
            .map(|(domain, listing)| Offered {
                domain,
                hidden: listing.hidden,
            });
        self.services.answer(stanza, offered)
    }

    /// Checks that a service domain in `from` is offered by the host from which the
    /// stanza originates: a peer can't speak for the rooms of another.
    ///
    /// # Errors
    /// Other hosts offer the domain. While none does, its host may have restarted.
    pub(crate) fn check_origin(&self, envelope: &Envelope) -> Result<(), Refusal> {
        let sender = envelope.stanza.from();
        let Some(sender) = sender.filter(|sender| self.global.is_above(sender.domain().as_str()))
        else {
            return Ok(());
        };
        let directory = self.directory.borrow();
        let Some(listing) = directory.find(sender.domain().as_str()) else {
            return Ok(());
        };
        if listing.hosts.is_empty() || listing.hosts.contains(&envelope.origin) {
            return Ok(());
        }
        let text = format!("{} does not offer {}", envelope.origin, sender.domain());
        Err(Refusal::new(Reason::ForeignSender, text))
    }

    /// The host of the recipient's domain, if that is a service domain.
    pub(crate) fn service_host(&self, recipient: &Jid) -> ServiceHost {
        match self.directory.borrow().find(recipient.domain().as_str()) {
            None => ServiceHost::NotAService,
            Some(listing) => match listing.host(&self.local) {
                Some(host) => ServiceHost::HostedAt(host.clone()),
                None => ServiceHost::Unhosted,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::envelope::Arrival;
    use crate::registry::ServiceListing;
    use crate::stanza::Limits;

    #[test]
    fn a_peer_speaks_only_for_the_services_that_it_offers() {
        let host = |name: &str| Host::new(name).unwrap();
        let listing = |hosts: &[&str]| ServiceListing {
            hosts: hosts.iter().copied().map(host).collect(),
            hidden: false,
        };
        let (_directory, directory) = watch::channel(Arc::new(Directory::new(BTreeMap::from([
            (host("muc.example.test"), listing(&["dc1.test"])),
            (host("lately.example.test"), listing(&[])),
        ]))));
        let global = host("example.test");
        let services = Services::new(global.clone(), true);
        let shared = SharedDomain::new(global, host("dc1.test"), services, directory);
        let check = |origin: &str, from: &str| {
            let xml = format!("<message from='{from}' to='bob@example.test'/>");
            let stanza = Stanza::parse(xml.into(), &Limits::default()).unwrap();
            let origin = host(origin);
            let envelope = Envelope::new(origin.clone(), Arrival::Link(origin), 4, stanza);
            shared.check_origin(&envelope).is_ok()
        };
        assert!(check("dc1.test", "lobby@muc.example.test/nick"));
        assert!(!check("dc2.test", "lobby@muc.example.test/nick"));
        assert!(check("dc2.test", "lobby@lately.example.test/nick"));
        assert!(check("dc2.test", "lobby@new.example.test/nick"));
        assert!(check("dc2.test", "alice@example.test/phone"));
    }
}
