//! The shared domain itself: its answers, and the service domains below it.

use std::sync::Arc;

use jid::Jid;
use tokio::sync::watch;

use super::decide::ServiceHost;
use crate::host::Host;
use crate::registry::Directory;
use crate::services::{Answer, Offered, Services};
use crate::stanza::Stanza;

/// Answers for the shared domain, and knows the hosts of service domains.
pub struct SharedDomain {
    local: Host,
    services: Services,
    directory: watch::Receiver<Arc<Directory>>,
}

impl SharedDomain {
    /// `local`: the host of this gateway.
    #[must_use]
    pub fn new(
        local: Host,
        services: Services,
        directory: watch::Receiver<Arc<Directory>>,
    ) -> Self {
        Self {
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
