//! One peer: its pool under a lock, and what happens around it.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::BytesMut;
use prometheus::{Histogram, IntCounter, IntGauge};
use tokio::sync::{Notify, mpsc};
use tokio_util::sync::CancellationToken;

use super::frame::Header;
use super::pool::{LaneId, LaneView, Pool, SenderKey};
use super::wire::{LENGTH_FIELD, WireError};
use crate::config::Endpoint;
use crate::envelope::{Envelope, Obstacle, Undelivered};
use crate::host::Host;
use crate::metrics::Metrics;

/// What a stanza counts for in a queue beyond its bytes, so that many tiny
/// ones don't take much more memory than allowed.
const OVERHEAD: usize = 256;

/// As much is written at once, if there is as much.
const BATCH: usize = 64 * 1024;

/// One peer's pool, with its counters and its way back.
#[derive(Debug)]
pub(super) struct Peer {
    pub(super) host: Host,
    inner: Mutex<Inner>,
    counters: Counters,
    held: Arc<Held>,
    undelivered: mpsc::UnboundedSender<Undelivered>,
}

#[derive(Debug)]
struct Inner {
    pool: Pool<Envelope>,
    signals: HashMap<LaneId, Signals>,
}

/// How the pool speaks to a lane's task.
#[derive(Debug, Clone)]
pub(super) struct Signals {
    /// There is something to write.
    pub(super) wake: Arc<Notify>,
    /// Say goodbye and end.
    pub(super) leave: CancellationToken,
}

#[derive(Debug)]
struct Counters {
    sent: IntCounter,
    queue_time: Histogram,
    unsettled: IntGauge,
    up: IntGauge,
}

/// How many stanzas all pools hold together.
#[derive(Debug, Default)]
pub(super) struct Held {
    count: AtomicUsize,
    emptied: Notify,
}

impl Held {
    fn add(&self) {
        self.count.fetch_add(1, Ordering::SeqCst);
    }

    fn subtract(&self, count: usize) {
        if count > 0 && self.count.fetch_sub(count, Ordering::SeqCst) == count {
            self.emptied.notify_waiters();
        }
    }

    /// Completes when no pool holds anything.
    pub(super) async fn emptied(&self) {
        loop {
            let emptied = self.emptied.notified();
            if self.count.load(Ordering::SeqCst) == 0 {
                return;
            }
            emptied.await;
        }
    }
}

impl Peer {
    pub(super) fn new(
        host: Host,
        queue_bytes: usize,
        metrics: &Metrics,
        held: Arc<Held>,
        undelivered: mpsc::UnboundedSender<Undelivered>,
    ) -> Self {
        let label = [host.as_str()];
        let counters = Counters {
            sent: metrics.outgoing_messages.with_label_values(&label),
            queue_time: metrics.outgoing_queue_time.with_label_values(&label),
            unsettled: metrics.link_unsettled.with_label_values(&label),
            up: metrics.links_up.with_label_values(&label),
        };
        Self {
            host,
            inner: Mutex::new(Inner {
                pool: Pool::new(queue_bytes),
                signals: HashMap::new(),
            }),
            counters,
            held,
            undelivered,
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Queues `envelope` on its sender's lane.
    ///
    /// # Errors
    /// Gives it back when there is no lane for it, or that one is full.
    pub(super) fn place(&self, envelope: Envelope) -> Result<(), Box<Undelivered>> {
        let sender = envelope.stanza.from();
        let sender = SenderKey::of(sender.map(|jid| (jid.node(), jid.domain())));
        let size = envelope.stanza.len() + OVERHEAD;
        let mut inner = self.lock();
        // Counted before a lane can settle it.
        self.held.add();
        match inner.pool.place(sender, envelope, size) {
            Ok(lane) => {
                self.counters.unsettled.inc();
                if let Some(signals) = inner.signals.get(&lane) {
                    signals.wake.notify_one();
                }
                Ok(())
            }
            Err((envelope, reason)) => {
                drop(inner);
                self.held.subtract(1);
                Err(Box::new(Undelivered { envelope, reason }))
            }
        }
    }

    /// Appends stanza frames to `out` as long as there is something to write
    /// over `lane`'s connection and the batch is not full.
    pub(super) fn fill(&self, lane: LaneId, out: &mut BytesMut, frame_limit: usize) {
        let mut too_large = Vec::new();
        let mut inner = self.lock();
        while out.len() < BATCH {
            let Some(next) = inner.pool.next(lane) else {
                break;
            };
            let number = next.number;
            if let Some(since) = next.first_since {
                self.counters.sent.inc();
                self.counters
                    .queue_time
                    .observe(since.elapsed().as_secs_f64() * 1e6);
            }
            let start = out.len();
            header(number, next.item).put(out, |out| next.item.stanza.write_to(out));
            if out.len() - start - LENGTH_FIELD > frame_limit {
                out.truncate(start);
                too_large.extend(inner.pool.remove(lane, number));
            }
        }
        drop(inner);
        for envelope in &too_large {
            tracing::warn!(
                peer = %self.host, id = %envelope.id, bytes = envelope.stanza.len(), frame_limit,
                "a stanza is larger than the peer takes; set component.stanza_size_limit to the \
                 same value in all datacenters"
            );
        }
        self.give_back(too_large, Obstacle::TooLate);
    }

    /// The peer has settled all of `lane` up to `through`.
    ///
    /// # Errors
    /// When that was never written.
    pub(super) fn acknowledge(&self, lane: LaneId, through: u64) -> Result<(), WireError> {
        let settled = self.lock().pool.acknowledge(lane, through)?;
        self.uncount(settled.len());
        for mut envelope in settled {
            envelope.receipt.settle();
        }
        Ok(())
    }

    /// `lane` has a connection.
    ///
    /// # Errors
    /// When the peer claims to have what was never written.
    pub(super) fn up(&self, lane: LaneId, resume_after: u64) -> Result<(), WireError> {
        let mut inner = self.lock();
        inner.pool.up(lane, resume_after)?;
        self.show_up(&inner);
        Ok(())
    }

    /// The peer wants nothing new over `lane`'s connection.
    pub(super) fn leaving(&self, lane: LaneId) {
        let mut inner = self.lock();
        inner.pool.leaving(lane);
        self.show_up(&inner);
    }

    /// Whether a connection that the peer is leaving has nothing more to tell.
    pub(super) fn has_left(&self, lane: LaneId) -> bool {
        self.lock().pool.has_left(lane)
    }

    /// `lane` has lost its connection.
    pub(super) fn down(&self, lane: LaneId) {
        let mut inner = self.lock();
        inner.pool.down(lane);
        self.show_up(&inner);
    }

    /// Why `lane` has no connection, for people.
    pub(super) fn note_trouble(&self, lane: LaneId, text: &str) {
        self.lock().pool.note_trouble(lane, text);
    }

    /// Makes the lanes follow `endpoints`. Returns the new ones and their
    /// signals; `leave` is the parent of theirs.
    pub(super) fn follow(
        &self,
        endpoints: &[Endpoint],
        per_endpoint: usize,
        new_id: impl FnMut() -> LaneId,
        leave: &CancellationToken,
    ) -> Vec<(LaneId, Endpoint, Signals)> {
        let mut inner = self.lock();
        let added = inner.pool.follow(endpoints, per_endpoint, new_id);
        let with_signals = |(lane, endpoint)| {
            let signals = Signals {
                wake: Arc::new(Notify::new()),
                leave: leave.child_token(),
            };
            inner.signals.insert(lane, signals.clone());
            (lane, endpoint, signals)
        };
        added.into_iter().map(with_signals).collect()
    }

    /// Gives back what has waited for `max_wait`.
    pub(super) fn expire(&self, max_wait: Duration) {
        let expired = self.lock().pool.expire(max_wait);
        self.give_back(expired, Obstacle::TooLate);
    }

    /// Ends the disabled lanes that have drained or have no connection, and
    /// gives back what they still held. Whether no lane is left.
    pub(super) fn collect(&self) -> bool {
        let mut inner = self.lock();
        let (done, left) = inner.pool.collect();
        for lane in &done {
            if let Some(signals) = inner.signals.remove(lane) {
                signals.leave.cancel();
            }
        }
        self.show_up(&inner);
        let is_empty = inner.pool.is_empty();
        drop(inner);
        self.give_back(left, Obstacle::Absent);
        is_empty
    }

    /// Gives back everything: nobody will send it.
    pub(super) fn abandon(&self) {
        self.lock().pool.follow(&[], 0, || 0);
        self.collect();
    }

    /// How many lanes have a connection.
    pub(super) fn up_count(&self) -> usize {
        self.lock().pool.up_count()
    }

    /// How each lane does.
    pub(super) fn view(&self) -> Vec<LaneView> {
        self.lock().pool.view()
    }

    fn give_back(&self, envelopes: Vec<Envelope>, reason: Obstacle) {
        self.uncount(envelopes.len());
        for envelope in envelopes {
            // Nobody listens only when the gateway is gone; the receipt,
            // dropped, then tells upstream.
            let _ = self.undelivered.send(Undelivered { envelope, reason });
        }
    }

    fn uncount(&self, count: usize) {
        self.counters
            .unsettled
            .sub(i64::try_from(count).unwrap_or(i64::MAX));
        self.held.subtract(count);
    }

    fn show_up(&self, inner: &Inner) {
        let up = i64::try_from(inner.pool.up_count()).unwrap_or(i64::MAX);
        self.counters.up.set(up);
    }
}

fn header(number: u64, envelope: &Envelope) -> Header<Host> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    Header {
        number,
        id: envelope.id.0,
        ttl: envelope.ttl,
        sent_at: now.map_or(0, |now| u64::try_from(now.as_micros()).unwrap_or(u64::MAX)),
        origin: envelope.origin.clone(),
        retries: envelope.retries.clone(),
        is_copy: envelope.copy_for.is_some(),
    }
}
