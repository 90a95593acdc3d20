//! Registry of hosts, nodes, endpoints and service domains: the peers, the addresses to dial and
//! the services on offer.

mod catalogue;
mod directory;
#[cfg(test)]
mod tests;

pub use directory::{Directory, ServiceListing};

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use self::catalogue::ServiceCatalogue;
use crate::config::{AllowedPeers, Endpoint, ServiceConfig};
use crate::host::Host;
use crate::store::{Announcement, Offer, Store, StoreError, within};

/// Time limit for one answer of the store.
const PATIENCE: Duration = Duration::from_secs(3);
/// Upper bound of the pause before an unreachable store is asked again.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// Host refresh intervals in which no missing entry is removed, after the store was unreachable or
/// emptied.
const GRACE: u32 = 3;

/// Endpoints of the peers, by host, without this gateway's own host.
pub type Peers = BTreeMap<Host, Vec<Endpoint>>;

/// Follows the registry in the store, and keeps this node's own entry there alive.
pub struct Registry {
    global: Host,
    domain_lifetime: Duration,
    local: Host,
    announcement: Announcement,
    /// Set while another node of this host has the server's stream: no peer may dial this node
    /// then.
    standby: watch::Sender<bool>,
    allowed: watch::Receiver<AllowedPeers>,
    store: Arc<dyn Store>,
    intervals: RegistryIntervals,
    peers: watch::Sender<Arc<Peers>>,
    directory: watch::Sender<Arc<Directory>>,
}

/// Settings of a [`Registry`].
#[derive(Debug, Clone)]
pub struct RegistryConfig {
    /// `global_host`: service domains are below it.
    pub global_host: Host,
    /// `local_host`: the host of this node.
    pub local_host: Host,
    /// Endpoints where peers may dial links to this node.
    pub endpoints: Vec<Endpoint>,
    /// `[[services]]`: the services of this host.
    pub services: Vec<ServiceConfig>,
    /// Intervals of reads and writes.
    pub intervals: RegistryIntervals,
    /// `[[peers]]`: the hosts to believe, and the services that each may offer.
    pub allowed: watch::Receiver<AllowedPeers>,
    /// `cache.domain_lifetime_seconds`: time for which a domain stays a service domain after the
    /// last host stopped offering it.
    pub domain_lifetime: Duration,
}

/// Intervals at which the registry is read and written.
#[derive(Debug, Clone)]
pub struct RegistryIntervals {
    /// Interval of this node's announcements: `redis.refresh_after`.
    pub announce: Duration,
    /// Interval of reads of hosts and services: `hosts_refresh_interval`.
    pub hosts: Duration,
    /// Interval of reads of endpoints: `connections.endpoint_refresh_interval`.
    pub endpoints: Duration,
    /// Interval of reads of an unreachable host's endpoints:
    /// `connections.endpoint_refresh_interval_when_empty`.
    pub endpoints_when_empty: Duration,
}

/// State of [`Registry::run`] between two rounds.
struct RegistryState {
    peers: BTreeMap<Host, PeerEndpoints>,
    catalogue: ServiceCatalogue,
    announced: bool,
    announce_at: Instant,
    hosts_at: Instant,
    /// End of the grace period after the store was unreachable or emptied: a host missing in the
    /// store may only not have announced itself again yet.
    grace_until: Instant,
    store_is_up: bool,
}

struct PeerEndpoints {
    endpoints: Vec<Endpoint>,
    /// `None` until the endpoints have been read.
    read_at: Option<Instant>,
    /// Set when the store reported a change after the last read.
    changed: bool,
}

impl Registry {
    /// Creates the registry of the node that `settings` describes.
    #[must_use]
    pub fn new(settings: RegistryConfig, store: Arc<dyn Store>) -> Self {
        let offers: Vec<Offer> = settings
            .services
            .into_iter()
            .map(|service| Offer {
                domain: service.domain,
                hidden: service.hidden,
            })
            .collect();
        let registry = Self {
            global: settings.global_host,
            domain_lifetime: settings.domain_lifetime,
            local: settings.local_host,
            announcement: Announcement {
                endpoints: settings.endpoints,
                offers,
            },
            standby: watch::Sender::new(false),
            allowed: settings.allowed,
            store,
            intervals: settings.intervals,
            peers: watch::Sender::new(Arc::default()),
            directory: watch::Sender::new(Arc::default()),
        };
        // Services of this host need no answer from the store.
        let own = registry.catalogue().directory(Instant::now());
        registry.directory.send_replace(Arc::new(own));
        registry
    }

    fn catalogue(&self) -> ServiceCatalogue {
        ServiceCatalogue::new(
            self.global.clone(),
            self.local.clone(),
            self.announcement.offers.clone(),
            self.allowed.clone(),
            self.domain_lifetime,
        )
    }

    /// Subscribes to the peers. The receiver is notified only of real changes; while the store is
    /// unreachable, the peers stay as last read.
    #[must_use]
    pub fn peers(&self) -> watch::Receiver<Arc<Peers>> {
        self.peers.subscribe()
    }

    /// Subscribes to the service domains of all datacenters, this one included. The receiver is
    /// notified only of real changes; while the store is unreachable, the domains stay as last
    /// read, and those that no host offered expire.
    #[must_use]
    pub fn directory(&self) -> watch::Receiver<Arc<Directory>> {
        self.directory.subscribe()
    }

    /// Sets whether this node is a standby. A standby is announced without endpoints: stanzas that
    /// peers sent there would wait for a server whose stream another node has.
    pub fn set_standby(&self, standby: bool) {
        self.standby
            .send_if_modified(|before| std::mem::replace(before, standby) != standby);
    }

    /// Announces this node and refreshes the registry until `shutdown`, then retires this node.
    /// `is_up` returns whether a link to a host is up: while none is, the host's endpoints are read
    /// as often as if it had none.
    pub async fn run(
        &self,
        is_up: impl Fn(&Host) -> bool + Send + Sync,
        shutdown: CancellationToken,
    ) {
        let mut state = RegistryState::new(self.catalogue(), Instant::now());
        let mut standby = self.standby.subscribe();
        while !shutdown.is_cancelled() {
            let wake_at = tokio::select! {
                () = shutdown.cancelled() => break,
                wake_at = self.run_due(&mut state, &is_up) => wake_at,
            };
            tokio::select! {
                () = shutdown.cancelled() => break,
                () = sleep_until(wake_at) => {}
                // Cannot fail: `self` holds the sender.
                _ = standby.changed() => state.announce_at = Instant::now(),
                () = self.store.changed() => state.look_again(),
            }
        }
        if let Err(error) = within(PATIENCE, self.store.retire()).await {
            tracing::warn!(
                %error,
                "this node could not be taken out of the registry; its entry will expire"
            );
        }
    }

    /// Runs the reads and writes that are due; returns the time of the next ones.
    async fn run_due(
        &self,
        state: &mut RegistryState,
        is_up: &(impl Fn(&Host) -> bool + Send + Sync),
    ) -> Instant {
        let result = self.refresh_due(state, is_up).await;
        self.publish(state);
        let now = Instant::now();
        match result {
            Ok(()) => {
                state.store_answered();
                let next_read = state.peers.iter().map(|(host, peer)| {
                    let interval = self.endpoint_interval(host, peer, is_up);
                    peer.read_at.map_or(now, |read_at| read_at + interval)
                });
                next_read
                    .chain([state.announce_at, state.hosts_at])
                    .chain(state.catalogue.next_change())
                    .min()
                    .unwrap_or(now)
            }
            Err(error) => {
                state.store_failed(&error);
                now + RETRY_AFTER.mul_f64(jitter())
            }
        }
    }

    async fn refresh_due(
        &self,
        state: &mut RegistryState,
        is_up: &(impl Fn(&Host) -> bool + Send + Sync),
    ) -> Result<(), StoreError> {
        if !state.store_is_up {
            self.announce(state).await?;
            state.grace_until = Instant::now() + GRACE * self.intervals.hosts;
        } else if state.announce_at <= Instant::now() {
            self.announce(state).await?;
        }
        if state.hosts_at <= Instant::now() {
            self.read_hosts_and_offers(state).await?;
            state.hosts_at = Instant::now() + self.intervals.hosts;
        }
        for (host, peer) in &mut state.peers {
            let interval = self.endpoint_interval(host, peer, is_up);
            let is_due = peer
                .read_at
                .is_none_or(|at| at + interval <= Instant::now());
            if is_due || peer.changed {
                let endpoints = within(PATIENCE, self.store.endpoints(host)).await?;
                if !endpoints.is_empty() || state.grace_until <= Instant::now() {
                    peer.endpoints = endpoints;
                }
                peer.read_at = Some(Instant::now());
                peer.changed = false;
            }
        }
        Ok(())
    }

    async fn announce(&self, state: &mut RegistryState) -> Result<(), StoreError> {
        let mut announcement = self.announcement.clone();
        if *self.standby.borrow() {
            announcement.endpoints.clear();
        }
        within(PATIENCE, self.store.announce(&announcement)).await?;
        state.announced = true;
        state.announce_at = Instant::now() + self.intervals.announce.mul_f64(jitter());
        Ok(())
    }

    async fn read_hosts(&self, state: &mut RegistryState) -> Result<(), StoreError> {
        let hosts = within(PATIENCE, self.store.hosts()).await?;
        let now = Instant::now();
        if state.announced && !hosts.contains(&self.local) {
            tracing::warn!("the registry lost this node's entry; was the store emptied?");
            state.grace_until = now + GRACE * self.intervals.hosts;
            self.announce(state).await?;
        }
        let allowed = self.allowed.borrow().clone();
        let peers = hosts.into_iter();
        let peers = peers.filter(|host| *host != self.local && allowed.admits(host));
        state.update_hosts(peers, now);
        Ok(())
    }

    /// Reads offers as often as hosts, lest users wait for a new service.
    async fn read_hosts_and_offers(&self, state: &mut RegistryState) -> Result<(), StoreError> {
        let known: BTreeSet<Host> = state.peers.keys().chain([&self.local]).cloned().collect();
        let mut offers = self.read_offers(known.iter()).await?;
        // Hosts are read after the offers: a missing own host shows that the store was emptied
        // meanwhile, and then missing offers are kept.
        self.read_hosts(state).await?;
        let new = state.peers.keys().filter(|host| !known.contains(*host));
        offers.extend(self.read_offers(new).await?);
        let lenient = Instant::now() < state.grace_until;
        for (host, offers) in offers {
            if host == self.local || state.peers.contains_key(&host) {
                state.catalogue.set(&host, offers, lenient);
            }
        }
        Ok(())
    }

    async fn read_offers(
        &self,
        hosts: impl Iterator<Item = &Host> + Send,
    ) -> Result<Vec<(Host, Vec<Offer>)>, StoreError> {
        let mut all = Vec::new();
        for host in hosts {
            let offers = within(PATIENCE, self.store.offers(host)).await?;
            all.push((host.clone(), offers));
        }
        Ok(all)
    }

    /// Returns the shorter interval while a host is unreachable: its endpoints may have changed.
    fn endpoint_interval(
        &self,
        host: &Host,
        peer: &PeerEndpoints,
        is_up: &impl Fn(&Host) -> bool,
    ) -> Duration {
        if peer.endpoints.is_empty() || !is_up(host) {
            self.intervals.endpoints_when_empty
        } else {
            self.intervals.endpoints
        }
    }

    fn publish(&self, state: &mut RegistryState) {
        let known = state
            .peers
            .iter()
            .filter(|(_, peer)| peer.read_at.is_some());
        let peers: Peers = known
            .map(|(host, peer)| (host.clone(), peer.endpoints.clone()))
            .collect();
        // Services are published first, so that the services of each linked peer are known.
        publish_change(&self.directory, state.catalogue.directory(Instant::now()));
        publish_change(&self.peers, peers);
    }
}

impl RegistryState {
    fn new(catalogue: ServiceCatalogue, now: Instant) -> Self {
        Self {
            catalogue,
            peers: BTreeMap::new(),
            announced: false,
            announce_at: now,
            hosts_at: now,
            grace_until: now,
            store_is_up: true,
        }
    }

    fn update_hosts(&mut self, hosts: impl Iterator<Item = Host>, now: Instant) {
        let hosts: BTreeSet<Host> = hosts.collect();
        if self.grace_until <= now {
            self.peers.retain(|host, _| hosts.contains(host));
            self.catalogue.keep(&hosts);
        }
        for host in hosts {
            self.peers.entry(host).or_insert(PeerEndpoints {
                endpoints: Vec::new(),
                read_at: None,
                changed: false,
            });
        }
    }

    /// The store notified of a change: all hosts and endpoints are due.
    fn look_again(&mut self) {
        self.hosts_at = Instant::now();
        for peer in self.peers.values_mut() {
            peer.changed = true;
        }
    }

    fn store_failed(&mut self, error: &StoreError) {
        if self.store_is_up {
            tracing::warn!(%error, "the registry is not reachable; the peers stay as last known");
        }
        self.store_is_up = false;
    }

    fn store_answered(&mut self) {
        if !self.store_is_up {
            tracing::info!("the registry is reachable again");
        }
        self.store_is_up = true;
    }
}

/// Notifies the followers only if the value differs.
fn publish_change<T: PartialEq>(followers: &watch::Sender<Arc<T>>, news: T) {
    followers.send_if_modified(|current| {
        let changed = **current != news;
        if changed {
            *current = Arc::new(news);
        }
        changed
    });
}

/// Factor of 0.8 to 1 for an interval, lest gateways started at the same time write in step; it
/// never lengthens the interval.
fn jitter() -> f64 {
    0.8 + 0.2 * fastrand::f64()
}
