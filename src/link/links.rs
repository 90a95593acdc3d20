//! Sends stanzas: the connection pools of all peers.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use parking_lot::RwLock;
use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior, interval, interval_at};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::connect_error::RefusalKind;
use super::dial::Dialler;
use super::outgoing::OutgoingConnection;
use super::peer::{Peer, UnsettledCount};
use crate::config::{Connections, Endpoint};
use crate::envelope::{Envelope, Obstacle, Undelivered};
use crate::host::Host;
use crate::metrics::Metrics;

/// Sends stanzas: a pool of connections to each peer. Dropping the value closes the
/// connections at once, as [`Links::close`] does.
#[derive(Debug)]
pub struct Links {
    shared: Arc<Shared>,
}

/// The state of one outgoing connection slot, for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LinkStatus {
    /// The host to which the slot leads.
    pub host: Host,
    /// The endpoint that the slot dials.
    pub endpoint: Endpoint,
    /// The slot's number within one process; also in the logs.
    pub slot: u32,
    /// The endpoint is still announced; if not, the slot is only drained.
    pub enabled: bool,
    /// The slot has a connection that takes stanzas.
    pub up: bool,
    /// The reason for which the slot has no connection, in words; `None` if it was
    /// not dialled yet.
    pub connect_error: Option<String>,
    /// Stanzas waiting or not acknowledged.
    pub stanzas: usize,
    /// The stanzas' size as counted in `connections.queue_bytes`.
    pub bytes: usize,
}

#[derive(Debug)]
struct Shared {
    dialler: Arc<Dialler>,
    connections_per_endpoint: usize,
    queue_bytes: usize,
    max_wait: Duration,
    metrics: Arc<Metrics>,
    undelivered: mpsc::UnboundedSender<Undelivered>,
    peers: RwLock<HashMap<Host, Arc<Peer>>>,
    unsettled: Arc<UnsettledCount>,
    next_slot: AtomicU32,
    /// The caller's tasks, including those of the slots.
    tasks: TaskTracker,
    slots: TaskTracker,
    /// The caller wants to stop: no new endpoint is dialled.
    shutdown: CancellationToken,
    /// Every slot is to send a goodbye and end.
    closing: CancellationToken,
}

impl Links {
    /// Creates the sender without pools. A stanza comes back through `undelivered`
    /// if it waits longer than `connections.max_wait`, is larger than the peer
    /// accepts, or is left in a pool that is closed. A stanza that waits on a
    /// broken connection for half of that time moves to another connection to the
    /// same host, if there is one.
    ///
    /// After `shutdown` no new endpoint is dialled; the slots continue, since there
    /// may be stanzas to hand over still, until [`Self::drain`] or [`Self::close`].
    /// Must be called within a tokio runtime.
    pub fn new(
        dialler: Arc<Dialler>,
        config: &Connections,
        stanza_size_limit: usize,
        metrics: Arc<Metrics>,
        undelivered: mpsc::UnboundedSender<Undelivered>,
        tasks: TaskTracker,
        shutdown: CancellationToken,
    ) -> Self {
        for kind in RefusalKind::ALL {
            // Known labels appear in the metrics from the start.
            metrics.links_refused.with_label_values(&[kind.label()]);
        }
        // A queue that can't hold the largest stanza would be of no use.
        let queue_bytes = config.queue_bytes.max(stanza_size_limit);
        let shared = Arc::new(Shared {
            dialler,
            connections_per_endpoint: config.connections_per_endpoint,
            queue_bytes,
            max_wait: config.max_wait,
            metrics,
            undelivered,
            peers: RwLock::default(),
            unsettled: Arc::default(),
            next_slot: AtomicU32::new(1),
            tasks,
            slots: TaskTracker::new(),
            shutdown,
            closing: CancellationToken::new(),
        });
        let keeper = Arc::clone(&shared).keep(config.disabled_gc_interval);
        shared.tasks.spawn(keeper);
        Self { shared }
    }

    /// Queues `envelope` on one of the connections to `host`: the same one for each
    /// stanza of a sender, while that connection stays up and enabled. The
    /// envelope's ttl is one less when the envelope arrives. Its receipt is settled
    /// when the peer has acknowledged the stanza. Never waits.
    ///
    /// # Errors
    /// Returns the envelope when there is no connection or the connection's queue is full.
    pub fn try_forward(&self, host: &Host, envelope: Envelope) -> Result<(), Box<Undelivered>> {
        match self.shared.peer(host) {
            Some(peer) if !self.shared.closing.is_cancelled() => peer.place(envelope),
            _ => Err(Box::new(Undelivered {
                envelope,
                reason: Obstacle::Absent,
            })),
        }
    }

    /// Makes the pool to `host` match `endpoints`: the pool dials new endpoints,
    /// and disables removed ones (no new stanzas), which it closes when they have
    /// drained.
    pub fn set_endpoints(&self, host: &Host, endpoints: &[Endpoint]) {
        self.shared.set_endpoints(host, endpoints);
    }

    /// Whether `host` has a pool, as all peers in the registry have.
    #[must_use]
    pub fn is_known(&self, host: &Host) -> bool {
        self.shared.peer(host).is_some()
    }

    /// Returns whether a connection to `host` is up.
    #[must_use]
    pub fn is_up(&self, host: &Host) -> bool {
        self.shared
            .peer(host)
            .is_some_and(|peer| peer.up_count() > 0)
    }

    /// Returns the hosts that have a pool, and how many connections of each are up.
    #[must_use]
    pub fn peers(&self) -> Vec<(Host, usize)> {
        let all = self.shared.all().into_iter();
        all.map(|peer| (peer.host.clone(), peer.up_count()))
            .collect()
    }

    /// Returns the state of each connection slot.
    #[must_use]
    pub fn status(&self) -> Vec<LinkStatus> {
        let of_peer = |peer: Arc<Peer>| {
            let slots = peer.view().into_iter();
            slots
                .map(|slot| LinkStatus {
                    host: peer.host.clone(),
                    endpoint: slot.endpoint,
                    slot: slot.id,
                    enabled: slot.enabled,
                    up: slot.up,
                    connect_error: slot.connect_error,
                    stanzas: slot.stanzas,
                    bytes: slot.bytes,
                })
                .collect::<Vec<_>>()
        };
        self.shared.all().into_iter().flat_map(of_peer).collect()
    }

    /// Waits until all queued stanzas are acknowledged; then sends goodbyes and
    /// closes. The caller bounds the time.
    pub async fn drain(&self) {
        self.shared.unsettled.emptied().await;
        self.close();
        self.shared.slots.close();
        self.shared.slots.wait().await;
    }

    /// Sends a goodbye on all connections and closes them at once; stanzas that are
    /// not acknowledged yet come back through `undelivered`.
    pub fn close(&self) {
        self.shared.closing.cancel();
    }
}

impl Drop for Links {
    fn drop(&mut self) {
        self.close();
    }
}

impl Shared {
    fn peer(&self, host: &Host) -> Option<Arc<Peer>> {
        let peers = self.peers.read();
        peers.get(host).cloned()
    }

    fn all(&self) -> Vec<Arc<Peer>> {
        let peers = self.peers.read();
        peers.values().cloned().collect()
    }

    fn set_endpoints(&self, host: &Host, endpoints: &[Endpoint]) {
        if self.shutdown.is_cancelled() || self.closing.is_cancelled() {
            return;
        }
        let mut peers = self.peers.write();
        if endpoints.is_empty() && !peers.contains_key(host) {
            return;
        }
        let peer = peers.entry(host.clone()).or_insert_with(|| {
            Arc::new(Peer::new(
                host.clone(),
                self.queue_bytes,
                self.max_wait,
                &self.metrics,
                Arc::clone(&self.unsettled),
                self.undelivered.clone(),
            ))
        });
        let new_id = || self.next_slot.fetch_add(1, Ordering::Relaxed);
        let per_endpoint = self.connections_per_endpoint;
        for (id, endpoint, signals) in peer.follow(endpoints, per_endpoint, new_id, &self.closing) {
            let slot = OutgoingConnection {
                id,
                endpoint,
                peer: Arc::clone(peer),
                dialler: Arc::clone(&self.dialler),
                signals,
                metrics: Arc::clone(&self.metrics),
            };
            self.tasks.spawn(self.slots.track_future(slot.run()));
        }
    }

    /// Returns stanzas that wait too long as undelivered, and removes disabled
    /// slots, until closing; then returns the remaining stanzas.
    async fn keep(self: Arc<Self>, gc_interval: Duration) {
        let max_wait = self.max_wait;
        // A stanza may wait a tenth longer than allowed, at most a second.
        let often = (max_wait / 10).clamp(Duration::from_millis(10), Duration::from_secs(1));
        let mut expiry = interval(often);
        expiry.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let gc_interval = gc_interval.max(Duration::from_millis(10));
        let mut gc = interval_at(Instant::now() + gc_interval, gc_interval);
        loop {
            tokio::select! {
                _ = expiry.tick() => self.all().iter().for_each(|peer| peer.expire(max_wait)),
                _ = gc.tick() => {
                    let mut peers = self.peers.write();
                    peers.retain(|_, peer| !peer.collect());
                }
                () = self.closing.cancelled() => break,
            }
        }
        self.slots.close();
        self.slots.wait().await;
        for peer in self.all() {
            peer.abandon();
        }
    }
}
