//! Hosts, nodes, endpoints and service domains: who the peers are, where to
//! dial them and what they offer.

mod directory;
#[cfg(test)]
mod tests;

pub use directory::{Directory, Listing};

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use crate::config::{Connections, Endpoint};
use crate::host::Host;
use crate::store::{Announcement, Store, StoreError, within};

/// So long may the store take for one answer.
const PATIENCE: Duration = Duration::from_secs(3);
/// How often a store that is away is asked again, at least.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// For so many rounds nobody is missed after the store was away or emptied.
const GRACE: u32 = 3;

/// The peers' endpoints, by host. Without this gateway's own host.
pub type Peers = BTreeMap<Host, Vec<Endpoint>>;

/// Follows the registry in the store, and keeps this node's own entry there alive.
pub struct Registry {
    local: Host,
    announcement: Announcement,
    store: Arc<dyn Store>,
    intervals: Intervals,
    peers: watch::Sender<Arc<Peers>>,
    directory: watch::Sender<Arc<Directory>>,
}

struct Intervals {
    announce: Duration,
    hosts: Duration,
    endpoints: Duration,
    endpoints_when_empty: Duration,
}

/// What [`Registry::run`] knows between two rounds.
struct Round {
    peers: BTreeMap<Host, Peer>,
    announced: bool,
    announce_at: Instant,
    hosts_at: Instant,
    /// The store was away or emptied: until then, a host that is not in there
    /// may only not have announced itself again yet.
    grace_until: Instant,
    store_is_up: bool,
}

struct Peer {
    endpoints: Vec<Endpoint>,
    /// `None` until they are known.
    read_at: Option<Instant>,
}

impl Registry {
    /// For the node of `local` that announces `endpoints`. `refresh_after` is
    /// how often it is announced again, `hosts_refresh_interval` how often
    /// the store is asked for new hosts.
    #[must_use]
    pub fn new(
        local: Host,
        endpoints: Vec<Endpoint>,
        store: Arc<dyn Store>,
        connections: &Connections,
        hosts_refresh_interval: Duration,
        refresh_after: Duration,
    ) -> Self {
        Self {
            local,
            announcement: Announcement {
                endpoints,
                domains: Vec::new(),
                public_domains: Vec::new(),
            },
            store,
            intervals: Intervals {
                announce: refresh_after,
                hosts: hosts_refresh_interval,
                endpoints: connections.endpoint_refresh_interval,
                endpoints_when_empty: connections.endpoint_refresh_interval_when_empty,
            },
            peers: watch::Sender::new(Arc::default()),
            directory: watch::Sender::new(Arc::default()),
        }
    }

    /// Follows the peers. Only told when they really change; while the store
    /// is away, they stay as they were.
    #[must_use]
    pub fn peers(&self) -> watch::Receiver<Arc<Peers>> {
        self.peers.subscribe()
    }

    /// Follows the service domains of all datacenters, this one included. Only
    /// told when they really change; while the store is away, they stay as
    /// they were.
    #[must_use]
    pub fn directory(&self) -> watch::Receiver<Arc<Directory>> {
        self.directory.subscribe()
    }

    /// Announces and refreshes, until `shutdown`; then retires this node.
    /// `is_up` tells whether a link to a host stands: while none does, its
    /// endpoints are asked for as often as when it had none.
    pub async fn run(
        &self,
        is_up: impl Fn(&Host) -> bool + Send + Sync,
        shutdown: CancellationToken,
    ) {
        let mut round = Round::first(Instant::now());
        while !shutdown.is_cancelled() {
            let wake_at = tokio::select! {
                () = shutdown.cancelled() => break,
                wake_at = self.go_round(&mut round, &is_up) => wake_at,
            };
            tokio::select! {
                () = shutdown.cancelled() => break,
                () = sleep_until(wake_at) => {}
            }
        }
        if let Err(error) = within(PATIENCE, self.store.retire()).await {
            tracing::warn!(
                %error,
                "this node could not be taken out of the registry; its entry will expire"
            );
        }
    }

    /// Does what is due; returns when to come again.
    async fn go_round(
        &self,
        round: &mut Round,
        is_up: &(impl Fn(&Host) -> bool + Send + Sync),
    ) -> Instant {
        let result = self.do_what_is_due(round, is_up).await;
        self.publish(round);
        let now = Instant::now();
        match result {
            Ok(()) => {
                round.store_answered();
                let next_read = round.peers.iter().map(|(host, peer)| {
                    let interval = self.endpoint_interval(host, peer, is_up);
                    peer.read_at.map_or(now, |read_at| read_at + interval)
                });
                next_read
                    .chain([round.announce_at, round.hosts_at])
                    .min()
                    .unwrap_or(now)
            }
            Err(error) => {
                round.store_failed(&error);
                now + RETRY_AFTER.mul_f64(jitter())
            }
        }
    }

    async fn do_what_is_due(
        &self,
        round: &mut Round,
        is_up: &(impl Fn(&Host) -> bool + Send + Sync),
    ) -> Result<(), StoreError> {
        if !round.store_is_up {
            self.announce(round).await?;
            round.grace_until = Instant::now() + GRACE * self.intervals.hosts;
        } else if round.announce_at <= Instant::now() {
            self.announce(round).await?;
        }
        if round.hosts_at <= Instant::now() {
            self.read_hosts(round).await?;
        }
        for (host, peer) in &mut round.peers {
            let interval = self.endpoint_interval(host, peer, is_up);
            if peer
                .read_at
                .is_none_or(|at| at + interval <= Instant::now())
            {
                let endpoints = within(PATIENCE, self.store.endpoints(host)).await?;
                if !endpoints.is_empty() || round.grace_until <= Instant::now() {
                    peer.endpoints = endpoints;
                }
                peer.read_at = Some(Instant::now());
            }
        }
        Ok(())
    }

    async fn announce(&self, round: &mut Round) -> Result<(), StoreError> {
        within(PATIENCE, self.store.announce(&self.announcement)).await?;
        round.announced = true;
        round.announce_at = Instant::now() + self.intervals.announce.mul_f64(jitter());
        Ok(())
    }

    async fn read_hosts(&self, round: &mut Round) -> Result<(), StoreError> {
        let hosts = within(PATIENCE, self.store.hosts()).await?;
        let now = Instant::now();
        round.hosts_at = now + self.intervals.hosts;
        if round.announced && !hosts.contains(&self.local) {
            tracing::warn!("the registry lost this node's entry; was the store emptied?");
            round.grace_until = now + GRACE * self.intervals.hosts;
            self.announce(round).await?;
        }
        round.update_hosts(hosts.into_iter().filter(|host| *host != self.local), now);
        Ok(())
    }

    /// Often while a host can't be reached: its endpoints may be others by now.
    fn endpoint_interval(
        &self,
        host: &Host,
        peer: &Peer,
        is_up: &impl Fn(&Host) -> bool,
    ) -> Duration {
        if peer.endpoints.is_empty() || !is_up(host) {
            self.intervals.endpoints_when_empty
        } else {
            self.intervals.endpoints
        }
    }

    fn publish(&self, round: &Round) {
        let known = round
            .peers
            .iter()
            .filter(|(_, peer)| peer.read_at.is_some());
        let peers: Peers = known
            .map(|(host, peer)| (host.clone(), peer.endpoints.clone()))
            .collect();
        self.peers.send_if_modified(|current| {
            let changed = **current != peers;
            if changed {
                *current = Arc::new(peers);
            }
            changed
        });
    }
}

impl Round {
    fn first(now: Instant) -> Self {
        Self {
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
        }
        for host in hosts {
            self.peers.entry(host).or_insert(Peer {
                endpoints: Vec::new(),
                read_at: None,
            });
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

/// Lets many gateways that were started at once not write in step; never later
/// than asked.
fn jitter() -> f64 {
    0.8 + 0.2 * fastrand::f64()
}
