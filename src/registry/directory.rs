//! The service domains of all datacenters.

use std::collections::{BTreeMap, BTreeSet};

use crate::host::Host;

/// Service domains and the hosts that offer them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Directory {
    listings: BTreeMap<Host, ServiceListing>,
}

/// One service domain.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ServiceListing {
    /// Hosts that offer the domain now. Empty for a domain that a host offered lately: it is still
    /// a service domain, but no host has it.
    pub hosts: BTreeSet<Host>,
    /// Whether all hosts that offer the domain hide it.
    pub hidden: bool,
}

impl Directory {
    /// Creates a directory of these service domains.
    #[must_use]
    pub fn new(listings: BTreeMap<Host, ServiceListing>) -> Self {
        Self { listings }
    }

    /// The service domain `domain`, if it is one.
    #[must_use]
    pub fn find(&self, domain: &str) -> Option<&ServiceListing> {
        self.listings.get(domain)
    }

    /// All service domains, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&Host, &ServiceListing)> {
        self.listings.iter()
    }
}

impl ServiceListing {
    /// Returns the host that stanzas for this domain go to, seen from `local`: `local` if it has
    /// the domain, else the first by name, so that all others agree. `None` if no host has it.
    #[must_use]
    pub fn host(&self, local: &Host) -> Option<&Host> {
        self.hosts.get(local).or_else(|| self.hosts.first())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_agree_on_the_host_of_a_service() {
        let host = |name: &str| Host::new(name).unwrap();
        let (dc1, dc2, dc3) = (host("dc1.test"), host("dc2.test"), host("dc3.test"));
        let listing = ServiceListing {
            hosts: BTreeSet::from([dc2.clone(), dc3.clone()]),
            hidden: false,
        };
        let directory = Directory::new(BTreeMap::from([(host("muc.example.test"), listing)]));
        let listing = directory.find("muc.example.test").unwrap();
        assert_eq!(listing.host(&dc1), Some(&dc2));
        assert_eq!(listing.host(&dc3), Some(&dc3));
        assert_eq!(ServiceListing::default().host(&dc1), None);
        assert!(directory.find("other.example.test").is_none());
    }
}
