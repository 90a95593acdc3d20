//! Service domains that hosts offer, or offered lately.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use super::{Directory, ServiceListing};
use crate::config::AllowedPeers;
use crate::host::Host;
use crate::store::Offer;

/// The most services of one peer: the gateway opens a component stream for each.
const SERVICES_PER_HOST: usize = 64;

/// Current offers of the hosts, and for `lifetime` the former ones.
pub(super) struct ServiceCatalogue {
    global: Host,
    local: Host,
    /// Configured offers of this node; they count without the store.
    own: Vec<Offer>,
    allowed: watch::Receiver<AllowedPeers>,
    lifetime: Duration,
    offers: BTreeMap<Host, Vec<Offer>>,
    known: BTreeMap<Host, KnownService>,
    /// Host and domain of each ignored offer, so that each is logged once.
    ignored: BTreeSet<(Host, Host)>,
}

struct KnownService {
    listing: ServiceListing,
    /// Time since which no host offers the domain.
    gone_since: Option<Instant>,
}

impl ServiceCatalogue {
    /// Creates the catalogue of a node of `local` that offers `own`. A domain that no host offers
    /// any more is kept for `lifetime`.
    pub(super) fn new(
        global: Host,
        local: Host,
        own: Vec<Offer>,
        allowed: watch::Receiver<AllowedPeers>,
        lifetime: Duration,
    ) -> Self {
        Self {
            offers: BTreeMap::from([(local.clone(), own.clone())]),
            global,
            local,
            own,
            allowed,
            lifetime,
            known: BTreeMap::new(),
            ignored: BTreeSet::new(),
        }
    }

    /// Sets the offers of `host`. With `lenient`, missing offers are kept: they may only not have
    /// been announced again yet.
    pub(super) fn set(&mut self, host: &Host, mut offers: Vec<Offer>, lenient: bool) {
        let before = self.offers.remove(host).unwrap_or_default();
        let missing = |offers: &[Offer], offer: &Offer| {
            let mut domains = offers.iter().map(|offer| &offer.domain);
            domains.all(|domain| *domain != offer.domain)
        };
        let kept = if lenient { before } else { Vec::new() };
        let own = (*host == self.local).then(|| self.own.clone());
        for offer in kept.into_iter().chain(own.into_iter().flatten()) {
            if missing(&offers, &offer) {
                offers.push(offer);
            }
        }
        if *host != self.local && offers.len() > SERVICES_PER_HOST {
            tracing::warn!(
                %host, offers = offers.len(),
                "a host offers too many services: only the first {SERVICES_PER_HOST} are used"
            );
            offers.sort_by(|one, other| one.domain.cmp(&other.domain));
            offers.truncate(SERVICES_PER_HOST);
        }
        self.offers.insert(host.clone(), offers);
    }

    /// Removes the offers of all hosts but `hosts` and this one.
    pub(super) fn keep(&mut self, hosts: &BTreeSet<Host>) {
        let local = &self.local;
        self.offers
            .retain(|host, _| host == local || hosts.contains(host));
    }

    /// Returns the current directory; removes domains that no host has offered for `lifetime`.
    pub(super) fn directory(&mut self, now: Instant) -> Directory {
        let mut offered = self.offered();
        for (domain, known) in &mut self.known {
            match offered.remove(domain) {
                Some(listing) => {
                    known.listing = listing;
                    known.gone_since = None;
                }
                None => {
                    known.listing.hosts.clear();
                    known.gone_since.get_or_insert(now);
                }
            }
        }
        for (domain, listing) in offered {
            let gone_since = None;
            let known = KnownService {
                listing,
                gone_since,
            };
            self.known.insert(domain, known);
        }
        let lifetime = self.lifetime;
        self.known
            .retain(|_, known| known.gone_since.is_none_or(|since| now < since + lifetime));
        let listings = self.known.iter();
        Directory::new(
            listings
                .map(|(domain, known)| (domain.clone(), known.listing.clone()))
                .collect(),
        )
    }

    /// Returns the time at which the next domain expires.
    pub(super) fn next_change(&self) -> Option<Instant> {
        let gone = self.known.values().filter_map(|known| known.gone_since);
        gone.map(|since| since + self.lifetime).min()
    }

    /// Listings by domain, without names that cannot be service domains.
    fn offered(&mut self) -> BTreeMap<Host, ServiceListing> {
        let mut listings = BTreeMap::<Host, ServiceListing>::new();
        let allowed = self.allowed.borrow().clone();
        for (host, offers) in &self.offers {
            for offer in offers {
                let domain = &offer.domain;
                // MongooseIM also announces services under its own name.
                let reason = if !self.global.is_above(domain.as_str()) {
                    Some("it is not under the shared domain")
                } else if self.offers.contains_key(domain) {
                    Some("it has the name of a datacenter")
                } else if *host != self.local && !allowed.may_offer(host, domain) {
                    Some("[[peers]] does not list it for this host")
                } else {
                    None
                };
                if let Some(reason) = reason {
                    if self.ignored.insert((host.clone(), domain.clone())) {
                        tracing::info!(%host, %domain, "ignoring a service: {reason}");
                    }
                    continue;
                }
                let listing = listings
                    .entry(domain.clone())
                    .or_insert_with(|| ServiceListing {
                        hosts: BTreeSet::new(),
                        hidden: true,
                    });
                listing.hosts.insert(host.clone());
                listing.hidden &= offer.hidden;
            }
        }
        listings
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::AllowedPeer;

    const LIFETIME: Duration = Duration::from_secs(600);
    const MUC: &str = "muc.example.test";

    fn host(name: &str) -> Host {
        Host::new(name).unwrap()
    }

    fn offer(domain: &str) -> Offer {
        Offer {
            domain: host(domain),
            hidden: false,
        }
    }

    fn catalogue(own: Vec<Offer>) -> ServiceCatalogue {
        allowing(AllowedPeers::default(), own)
    }

    fn allowing(allowed: AllowedPeers, own: Vec<Offer>) -> ServiceCatalogue {
        let allowed = watch::channel(allowed).1;
        ServiceCatalogue::new(
            host("example.test"),
            host("dc1.test"),
            own,
            allowed,
            LIFETIME,
        )
    }

    #[test]
    fn a_host_offers_only_the_services_that_it_may() {
        let allowed = |name: &str, services: Option<&[&str]>| AllowedPeer {
            host: host(name),
            services: services.map(|services| services.iter().copied().map(host).collect()),
        };
        let allowed = vec![allowed("dc2.test", Some(&[MUC])), allowed("dc3.test", None)];
        let mut catalogue = allowing(allowed.into(), vec![offer("own.example.test")]);
        let other = "upload.example.test";
        catalogue.set(&host("dc2.test"), [MUC, other].map(offer).into(), false);
        let directory = catalogue.directory(Instant::now());
        assert!(directory.find(MUC).is_some() && directory.find("own.example.test").is_some());
        assert!(directory.find(other).is_none());
        catalogue.set(&host("dc3.test"), vec![offer(other)], false);
        let directory = catalogue.directory(Instant::now());
        assert_eq!(
            directory.find(other).unwrap().hosts,
            [host("dc3.test")].into()
        );
    }

    #[test]
    fn a_host_offers_only_so_many_services() {
        let mut catalogue = catalogue(Vec::new());
        let offers = (0..1024).map(|n| offer(&format!("s{n}.example.test")));
        catalogue.set(&host("dc2.test"), offers.collect(), false);
        let directory = catalogue.directory(Instant::now());
        assert_eq!(directory.iter().count(), SERVICES_PER_HOST);
    }

    fn hosts(directory: &Directory, domain: &str) -> Option<Vec<Host>> {
        let listing = directory.find(domain)?;
        Some(listing.hosts.iter().cloned().collect())
    }

    #[test]
    fn a_domain_is_known_for_a_while_after_the_last_one_gave_it_up() {
        let mut catalogue = catalogue(Vec::new());
        let start = Instant::now();
        for dc in ["dc2.test", "dc3.test"] {
            catalogue.set(&host(dc), vec![offer(MUC)], false);
        }
        let both = vec![host("dc2.test"), host("dc3.test")];
        assert_eq!(hosts(&catalogue.directory(start), MUC), Some(both));

        // dc2 stops offering the domain, dc3 is removed.
        catalogue.set(&host("dc2.test"), Vec::new(), false);
        let one = vec![host("dc3.test")];
        assert_eq!(hosts(&catalogue.directory(start), MUC), Some(one));
        catalogue.keep(&BTreeSet::from([host("dc2.test")]));
        assert_eq!(catalogue.next_change(), None);
        assert_eq!(hosts(&catalogue.directory(start), MUC), Some(Vec::new()));
        assert_eq!(catalogue.next_change(), Some(start + LIFETIME));

        let before = start + LIFETIME - Duration::from_secs(1);
        assert_eq!(hosts(&catalogue.directory(before), MUC), Some(Vec::new()));
        assert_eq!(hosts(&catalogue.directory(start + LIFETIME), MUC), None);
        assert_eq!(catalogue.next_change(), None);
    }

    #[test]
    fn a_domain_that_comes_back_is_not_forgotten() {
        let mut catalogue = catalogue(Vec::new());
        let (start, dc2) = (Instant::now(), host("dc2.test"));
        for offers in [vec![offer(MUC)], Vec::new(), vec![offer(MUC)]] {
            catalogue.set(&dc2, offers, false);
            catalogue.directory(start);
        }
        let later = start + 2 * LIFETIME;
        assert_eq!(hosts(&catalogue.directory(later), MUC), Some(vec![dc2]));
    }

    #[test]
    fn what_is_missing_while_one_has_to_be_lenient_is_kept() {
        let mut catalogue = catalogue(Vec::new());
        let dc2 = host("dc2.test");
        catalogue.set(&dc2, vec![offer(MUC)], false);
        catalogue.set(&dc2, vec![offer("new.example.test")], true);
        let directory = catalogue.directory(Instant::now());
        for domain in [MUC, "new.example.test"] {
            assert_eq!(hosts(&directory, domain), Some(vec![dc2.clone()]));
        }
    }

    #[test]
    fn what_this_node_offers_itself_needs_no_store() {
        let mut catalogue = catalogue(vec![offer(MUC)]);
        let dc1 = host("dc1.test");
        catalogue.set(&dc1, vec![offer("of-another-node.example.test")], false);
        catalogue.keep(&BTreeSet::new());
        let directory = catalogue.directory(Instant::now());
        for domain in [MUC, "of-another-node.example.test"] {
            assert_eq!(hosts(&directory, domain), Some(vec![dc1.clone()]));
        }
    }

    #[test]
    fn hidden_is_what_all_hide() {
        let mut catalogue = catalogue(vec![Offer {
            hidden: true,
            ..offer(MUC)
        }]);
        let now = Instant::now();
        assert!(catalogue.directory(now).find(MUC).unwrap().hidden);
        catalogue.set(&host("dc2.test"), vec![offer(MUC)], false);
        assert!(!catalogue.directory(now).find(MUC).unwrap().hidden);
    }

    #[test]
    fn what_can_be_no_service_domain_is_ignored() {
        let allowed = watch::channel(AllowedPeers::default()).1;
        let mut catalogue = ServiceCatalogue::new(
            host("example.test"),
            host("dc1.example.test"),
            Vec::new(),
            allowed,
            LIFETIME,
        );
        let no_services = ["example.test", "muc.dc2.test", "dc1.example.test"];
        catalogue.set(&host("dc2.test"), no_services.map(offer).into(), false);
        assert_eq!(catalogue.directory(Instant::now()), Directory::default());
    }
}
