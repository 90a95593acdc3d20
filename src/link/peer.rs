//! The connection pool of one peer under a lock, with its counters and notifications.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::BytesMut;
use parking_lot::{Mutex, MutexGuard};
use prometheus::{Histogram, IntCounter, IntGauge};
use tokio::sync::{Notify, mpsc};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::frame::Header;
use super::pool::{Pool, SenderKey, SlotId, SlotStatus};
use super::wire::{LENGTH_FIELD, WireError};
use crate::config::Endpoint;
use crate::envelope::{Envelope, Obstacle, Undelivered};
use crate::host::Host;
use crate::log_limiter::{LeftOut, LogLimiter};
use crate::metrics::Metrics;

/// Bytes that a stanza counts for in a queue beyond its own, so that many tiny ones
/// don't take much more memory than allowed.
const OVERHEAD: usize = 256;

/// Bytes written at once, if the queue holds that many.
const BATCH: usize = 64 * 1024;

/// Bytes written while the pool stays locked.
const SLICE: usize = 4 * 1024;

/// One peer's pool, with its counters and the channel for undelivered stanzas.
#[derive(Debug)]
pub(super) struct Peer {
    pub(super) host: Host,
    inner: Mutex<Inner>,
    log_limiter: LogLimiter,
    counters: Counters,
    unsettled: Arc<UnsettledCount>,
    undelivered: mpsc::UnboundedSender<Undelivered>,
}

#[derive(Debug)]
struct Inner {
    pool: Pool<Envelope>,
    signals: HashMap<SlotId, ConnectionSignals>,
}

/// Signals from the pool to a slot's task.
#[derive(Debug, Clone)]
pub(super) struct ConnectionSignals {
    /// The slot has something to write.
    pub(super) wake: Arc<Notify>,
    /// The task is to send a goodbye and end.
    pub(super) leave: CancellationToken,
}

#[derive(Debug)]
struct Counters {
    forwarded: IntCounter,
    sent: IntCounter,
    queue_time: Histogram,
    unsettled: IntGauge,
    up: IntGauge,
}

/// Counts the stanzas of all pools together.
#[derive(Debug, Default)]
pub(super) struct UnsettledCount {
    count: AtomicUsize,
    emptied: Notify,
}

impl UnsettledCount {
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

impl Inner {
    /// Moves stanzas from slots that do not deliver to those that do.
    fn relocate(&mut self) {
        for slot in self.pool.relocate() {
            self.wake(slot);
        }
    }

    fn wake(&self, slot: SlotId) {
        if let Some(signals) = self.signals.get(&slot) {
            signals.wake.notify_one();
        }
    }
}

impl Peer {
    /// Creates a pool without slots. Stanzas that can't be sent for half of
    /// `max_wait` may move to another slot.
    pub(super) fn new(
        host: Host,
        queue_bytes: usize,
        max_wait: Duration,
        metrics: &Metrics,
        unsettled: Arc<UnsettledCount>,
        undelivered: mpsc::UnboundedSender<Undelivered>,
    ) -> Self {
        let label = [host.as_str()];
        let counters = Counters {
            forwarded: metrics.forwarded.with_label_values(&label),
            sent: metrics.outgoing_messages.with_label_values(&label),
            queue_time: metrics.outgoing_queue_time.with_label_values(&label),
            unsettled: metrics.link_unsettled.with_label_values(&label),
            up: metrics.links_up.with_label_values(&label),
        };
        Self {
            host,
            inner: Mutex::new(Inner {
                pool: Pool::new(queue_bytes, max_wait / 2),
                signals: HashMap::new(),
            }),
            log_limiter: LogLimiter::default(),
            counters,
            unsettled,
            undelivered,
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock()
    }

    /// Queues `envelope` on its sender's slot.
    ///
    /// # Errors
    /// Returns the envelope when no slot takes it, or its slot is full.
    pub(super) fn place(&self, envelope: Envelope) -> Result<(), Box<Undelivered>> {
        let sender = envelope.stanza.from();
        let sender = SenderKey::of(sender.map(|jid| (jid.node(), jid.domain())));
        let size = envelope.stanza.len() + OVERHEAD;
        let mut inner = self.lock();
        // Counted before a slot can settle it.
        self.unsettled.add();
        let taken_at = Instant::from_std(envelope.taken_at);
        match inner.pool.place(sender, envelope, size, taken_at) {
            Ok(slot) => {
                self.counters.forwarded.inc();
                self.counters.unsettled.inc();
                inner.wake(slot);
                Ok(())
            }
            Err((envelope, reason)) => {
                drop(inner);
                self.unsettled.subtract(1);
                Err(Box::new(Undelivered { envelope, reason }))
            }
        }
    }

    /// Appends stanza frames to `out` as long as `slot` has stanzas to write over
    /// its connection and the batch is not full. Workers that place stanzas
    /// meanwhile wait for one slice at most.
    pub(super) fn fill(&self, slot: SlotId, out: &mut BytesMut, frame_limit: usize) {
        let mut too_large = Vec::new();
        let (now, sent_at) = (Instant::now(), micros_since_epoch());
        let mut inner = self.lock();
        let mut slice_end = out.len() + SLICE;
        while out.len() < BATCH {
            if out.len() >= slice_end {
                MutexGuard::bump(&mut inner);
                slice_end = out.len() + SLICE;
            }
            let Some(next) = inner.pool.next(slot) else {
                break;
            };
            let number = next.number;
            if let Some(since) = next.first_since {
                self.counters.sent.inc();
                self.counters
                    .queue_time
                    .observe(now.saturating_duration_since(since).as_secs_f64() * 1e6);
            }
            let start = out.len();
            header(number, sent_at, next.item).put(out, |out| next.item.stanza.write_to(out));
            if out.len() - start - LENGTH_FIELD > frame_limit {
                out.truncate(start);
                too_large.extend(inner.pool.remove(slot, number));
            }
        }
        drop(inner);
        for envelope in &too_large {
            if let Some(left_out) = self.log_limiter.allows("too large") {
                tracing::warn!(
                    peer = %self.host, id = %envelope.id, bytes = envelope.stanza.len(), frame_limit,
                    "a stanza is larger than the peer takes; set component.stanza_size_limit to \
                     the same value in all datacenters{left_out}"
                );
            }
        }
        self.give_back(too_large, Obstacle::TooLarge);
    }

    /// Settles all stanzas of `slot` up to `through`, as the peer acknowledged.
    ///
    /// # Errors
    /// When that number was never written.
    pub(super) fn acknowledge(&self, slot: SlotId, through: u64) -> Result<(), WireError> {
        let mut inner = self.lock();
        let settled = inner.pool.acknowledge(slot, through)?;
        if !inner.pool.is_up(slot) {
            // For some senders it was the last stanza that kept them on the slot.
            inner.relocate();
        }
        drop(inner);
        self.uncount(settled.len());
        for mut envelope in settled {
            envelope.receipt.settle();
        }
        Ok(())
    }

    /// Marks `slot` as connected. Returns whether it is the only one.
    ///
    /// # Errors
    /// When the peer claims to have received a number that was never written.
    pub(super) fn up(&self, slot: SlotId, resume_after: u64) -> Result<bool, WireError> {
        let mut inner = self.lock();
        inner.pool.up(slot, resume_after)?;
        inner.relocate();
        self.show_up(&inner);
        Ok(inner.pool.up_count() == 1)
    }

    /// Marks `slot`'s connection as one over which the peer takes nothing new.
    /// Returns whether it was the last that took any.
    pub(super) fn leaving(&self, slot: SlotId) -> bool {
        self.lose(|pool| pool.leaving(slot))
    }

    /// Returns whether a connection that the peer is leaving has no ack outstanding.
    pub(super) fn has_left(&self, slot: SlotId) -> bool {
        self.lock().pool.has_left(slot)
    }

    /// Marks `slot` as disconnected. Returns whether it was the last that took stanzas.
    pub(super) fn down(&self, slot: SlotId) -> bool {
        self.lose(|pool| pool.down(slot))
    }

    fn lose(&self, change: impl FnOnce(&mut Pool<Envelope>)) -> bool {
        let mut inner = self.lock();
        let before = inner.pool.up_count();
        change(&mut inner.pool);
        inner.relocate();
        self.show_up(&inner);
        before > 0 && inner.pool.up_count() == 0
    }

    /// Records why `slot` to `endpoint` has no connection, in words. Returns
    /// whether the log does not have the same text already, for this slot or
    /// another.
    pub(super) fn note_trouble(
        &self,
        slot: SlotId,
        endpoint: &Endpoint,
        text: &str,
    ) -> Option<LeftOut> {
        self.lock().pool.note_trouble(slot, text);
        self.log_limiter.allows(&format!("{endpoint} {text}"))
    }

    /// Makes the slots match `endpoints`. Returns the new slots and their signals;
    /// `leave` is the parent of their tokens.
    pub(super) fn follow(
        &self,
        endpoints: &[Endpoint],
        per_endpoint: usize,
        new_id: impl FnMut() -> SlotId,
        leave: &CancellationToken,
    ) -> Vec<(SlotId, Endpoint, ConnectionSignals)> {
        let mut inner = self.lock();
        let added = inner.pool.follow(endpoints, per_endpoint, new_id);
        inner.relocate();
        let with_signals = |(slot, endpoint)| {
            let signals = ConnectionSignals {
                wake: Arc::new(Notify::new()),
                leave: leave.child_token(),
            };
            inner.signals.insert(slot, signals.clone());
            (slot, endpoint, signals)
        };
        added.into_iter().map(with_signals).collect()
    }

    /// Moves stanzas that have waited for half of `max_wait`, and returns as
    /// undelivered those that can't move, or have waited for all of it.
    pub(super) fn expire(&self, max_wait: Duration) {
        let mut inner = self.lock();
        inner.relocate();
        let stranded = inner.pool.strand(max_wait / 2);
        let expired = inner.pool.expire(max_wait);
        drop(inner);
        self.give_back(stranded, Obstacle::Absent);
        self.give_back(expired, Obstacle::TooLate);
    }

    /// Ends the disabled slots that have drained or have no connection, and returns
    /// their unsettled stanzas as undelivered. Returns whether no slot is left.
    pub(super) fn collect(&self) -> bool {
        let mut inner = self.lock();
        inner.relocate();
        let stranded = inner.pool.strand(Duration::ZERO);
        let done = inner.pool.collect();
        for slot in &done {
            if let Some(signals) = inner.signals.remove(slot) {
                signals.leave.cancel();
            }
        }
        if !done.is_empty() {
            tracing::info!(peer = %self.host, slots = ?done, "connections to endpoints that are gone are closed");
        }
        self.show_up(&inner);
        let is_empty = inner.pool.is_empty();
        drop(inner);
        self.give_back(stranded, Obstacle::Absent);
        is_empty
    }

    /// Returns all stanzas as undelivered: no connection will send them.
    pub(super) fn abandon(&self) {
        self.lock().pool.follow(&[], 0, || 0);
        self.collect();
    }

    pub(super) fn up_count(&self) -> usize {
        self.lock().pool.up_count()
    }

    pub(super) fn view(&self) -> Vec<SlotStatus> {
        self.lock().pool.view()
    }

    /// Returns envelopes as undelivered, oldest first, whichever slots they come from.
    fn give_back(&self, mut envelopes: Vec<Envelope>, reason: Obstacle) {
        envelopes.sort_by_key(|envelope| envelope.taken_at);
        self.uncount(envelopes.len());
        for envelope in envelopes {
            // The channel is closed only when the gateway stops; the dropped
            // receipt then makes the sending gateway send again.
            let _ = self.undelivered.send(Undelivered { envelope, reason });
        }
    }

    fn uncount(&self, count: usize) {
        self.counters
            .unsettled
            .sub(i64::try_from(count).unwrap_or(i64::MAX));
        self.unsettled.subtract(count);
    }

    fn show_up(&self, inner: &Inner) {
        let up = i64::try_from(inner.pool.up_count()).unwrap_or(i64::MAX);
        self.counters.up.set(up);
    }
}

/// The time in µs since the Unix epoch.
fn micros_since_epoch() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.map_or(0, |now| u64::try_from(now.as_micros()).unwrap_or(u64::MAX))
}

fn header(number: u64, sent_at: u64, envelope: &Envelope) -> Header<Host> {
    Header {
        number,
        id: envelope.id.0,
        // The ttl is spent only when the stanza is written: an undelivered one may
        // take another route.
        ttl: envelope.ttl.saturating_sub(1),
        sent_at,
        origin: envelope.origin.clone(),
        retries: envelope.retries.clone(),
        is_copy: envelope.copy_for.is_some(),
        former: envelope.former.clone(),
    }
}
