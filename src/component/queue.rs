//! The stanzas for the server: those that wait, and those that are written and
//! not confirmed.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::BytesMut;
use prometheus::IntGauge;
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::delivery::SendWindow;
use crate::envelope::Envelope;
use crate::stanza::{Refusal, Stanza};

/// Bytes written and not confirmed at most: bounds what is written twice when
/// the server goes away, and lets confirmations come in time even from a
/// server that reads 50 kB/s.
const WINDOW: usize = 256 * 1024;

/// What an outbox holds: its bound and its gauge.
#[derive(Debug)]
pub(super) struct OutboxLoad {
    bytes: AtomicUsize,
    limit: usize,
    stanzas: IntGauge,
}

/// The room of one stanza in an outbox; given back when dropped.
#[derive(Debug)]
pub(super) struct OutboxRoom {
    load: Arc<OutboxLoad>,
    bytes: usize,
}

/// One stanza for the server.
#[derive(Debug)]
pub(super) struct QueuedStanza {
    pub envelope: Envelope,
    /// The stanza under local addresses, as it is written.
    pub local: Stanza,
    /// Bytes of `local`.
    pub len: usize,
    /// Since when it waits; `None`: since it enters the queue (again).
    pub since: Option<Instant>,
    /// The sender is of another domain than the stream.
    pub foreign: bool,
    /// The server had accepted it once: it is only written again to be sure.
    pub replayed: bool,
    /// `None` once the server has accepted it.
    pub room: Option<OutboxRoom>,
}

/// How a stream ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ending {
    /// In order, or for a reason that the server gave.
    Orderly,
    /// The same, because of something that we wrote.
    Blamed,
    /// The same, because of a stanza's sender.
    BlamedSender,
    /// The connection was gone.
    Died,
    /// Nothing had come for some time.
    FellSilent,
}

/// A stanza that must not be written to the server, or not again.
#[derive(Debug)]
pub(super) struct Rejected {
    /// The stanza.
    pub envelope: Envelope,
    /// The error reply for its sender.
    pub refusal: Refusal,
}

impl OutboxLoad {
    pub fn new(limit: usize, stanzas: IntGauge) -> Arc<Self> {
        Arc::new(Self {
            bytes: AtomicUsize::new(0),
            limit,
            stanzas,
        })
    }

    /// Room for a stanza of `len` bytes, if there is any. A stanza larger than
    /// the bound still passes alone.
    pub fn room(self: &Arc<Self>, len: usize) -> Option<OutboxRoom> {
        let (before, room) = self.add(len);
        (before == 0 || before + room.bytes <= self.limit).then_some(room)
    }

    /// The same, whether there is any or not.
    pub fn room_anyway(self: &Arc<Self>, len: usize) -> OutboxRoom {
        self.add(len).1
    }

    fn add(self: &Arc<Self>, len: usize) -> (usize, OutboxRoom) {
        // The envelope may keep a copy of its own.
        let bytes = 2 * len + size_of::<QueuedStanza>();
        self.stanzas.inc();
        let before = self.bytes.fetch_add(bytes, Ordering::Relaxed);
        let load = Arc::clone(self);
        (before, OutboxRoom { load, bytes })
    }
}

impl Drop for OutboxRoom {
    fn drop(&mut self) {
        self.load.stanzas.dec();
        self.load.bytes.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// The stanzas of an outbox, in order.
#[derive(Debug)]
pub(super) struct StanzaQueue {
    /// From the senders, who take no lock.
    arrivals: mpsc::UnboundedReceiver<QueuedStanza>,
    window: SendWindow<QueuedStanza>,
    /// Bytes written to the present stream and not confirmed.
    unconfirmed: usize,
    /// The number of the last stanza written to the present stream; 0 for none.
    last: u64,
    /// Stanzas up to this number are written one at a time, because one of
    /// them is suspected to have ended a stream.
    suspects: u64,
}

impl StanzaQueue {
    pub fn new() -> (mpsc::UnboundedSender<QueuedStanza>, Self) {
        let (sender, arrivals) = mpsc::unbounded_channel();
        let queue = Self {
            arrivals,
            window: SendWindow::default(),
            unconfirmed: 0,
            last: 0,
            suspects: 0,
        };
        (sender, queue)
    }

    fn pull(&mut self, now: Instant) {
        while let Ok(stanza) = self.arrivals.try_recv() {
            self.push(stanza, now);
        }
    }

    fn push(&mut self, stanza: QueuedStanza, now: Instant) {
        let (len, since) = (stanza.len, stanza.since.or(Some(now)));
        self.window.push(QueuedStanza { since, ..stanza }, len);
    }

    /// The next stanza to write, and its number if it was written before.
    fn next(&self) -> Option<(Option<u64>, &QueuedStanza)> {
        let next = self.window.iter().nth(self.window.awaiting_ack())?;
        Some((next.number, &next.item))
    }

    /// Whether a stanza that may end the stream is on it, or is the next.
    pub fn is_suspicious(&self) -> bool {
        let written = self.window.awaiting_ack() > 0 && self.last <= self.suspects;
        let next = self.next().and_then(|(number, _)| number);
        written || next.is_some_and(|number| number <= self.suspects)
    }

    /// Appends what may be written now to `out`; the number of the last stanza
    /// that waits for its confirmation, if one does.
    pub fn write_to(&mut self, out: &mut BytesMut, now: Instant) -> Option<u64> {
        self.pull(now);
        while let Some((_, stanza)) = self.next() {
            let alone = self.window.awaiting_ack() == 0;
            let fits = self.unconfirmed + stanza.len <= WINDOW && !self.is_suspicious();
            if !(alone || fits) {
                break;
            }
            if let Some(next) = self.window.next_to_write() {
                next.item.local.write_to(out);
                self.unconfirmed += next.item.len;
                self.last = next.number;
            }
        }
        (self.window.awaiting_ack() > 0).then_some(self.last)
    }

    /// Takes out what the server has accepted: all up to the number `through`.
    pub fn settle(&mut self, through: u64) -> Vec<QueuedStanza> {
        let settled: Vec<QueuedStanza> = match self.window.acknowledge(through) {
            Ok(settled) => settled.map(|entry| entry.item).collect(),
            // The number is not one of ours: nothing is settled.
            Err(_) => Vec::new(),
        };
        self.unconfirmed -= settled.iter().map(|stanza| stanza.len).sum::<usize>();
        settled
    }

    /// The stream is gone; `blamed`: because of something on it. The stanza
    /// that must have been it, if that is certain; if not, what was not
    /// confirmed is written one by one.
    pub fn detached(&mut self, blamed: bool) -> Option<QueuedStanza> {
        let mut culprit = None;
        let last = self.last;
        if blamed && self.window.awaiting_ack() == 1 && last <= self.suspects {
            let mut culprits = self.window.extract(|entry| entry.number == Some(last));
            culprit = culprits.pop().map(|entry| entry.item);
        } else if blamed {
            self.suspects = self.suspects.max(last);
        }
        // Nothing has the number 0, so this can't fail: all is written again.
        let _ = self.window.reconnect(0);
        (self.unconfirmed, self.last) = (0, 0);
        culprit
    }

    /// Puts `stanzas` in front of all others; while there is no stream.
    pub fn put_in_front(&mut self, stanzas: Vec<QueuedStanza>, now: Instant) {
        if stanzas.is_empty() {
            return;
        }
        let rest = self.window.extract(|_| true);
        let rest = rest.into_iter().map(|entry| entry.item);
        for stanza in stanzas.into_iter().chain(rest) {
            self.push(stanza, now);
        }
    }

    /// Takes out those of what is still to be written that are `wanted`.
    fn take_waiting(&mut self, wanted: impl Fn(&QueuedStanza) -> bool) -> Vec<QueuedStanza> {
        let last = self.last;
        let taken = self.window.extract(|entry| {
            entry.number.is_none_or(|number| number > last) && wanted(&entry.item)
        });
        taken.into_iter().map(|entry| entry.item).collect()
    }

    /// Takes out what is to be written and has a foreign sender.
    pub fn take_foreign(&mut self, now: Instant) -> Vec<QueuedStanza> {
        self.pull(now);
        self.take_waiting(|stanza| stanza.foreign)
    }

    /// Takes out what has waited for the stream for `max_wait`. What is
    /// written on a stream that is up waits for its confirmation as long as
    /// that takes.
    pub fn take_late(&mut self, max_wait: Duration, now: Instant) -> Vec<QueuedStanza> {
        self.pull(now);
        let is_late = |since| now.saturating_duration_since(since) >= max_wait;
        self.take_waiting(|stanza| stanza.since.is_some_and(is_late))
    }

    /// Whether the server has confirmed everything.
    pub fn is_settled(&self) -> bool {
        self.arrivals.is_empty() && self.window.is_empty()
    }

    /// Takes out everything, and takes nothing any more.
    pub fn close(&mut self, now: Instant) -> Vec<QueuedStanza> {
        self.arrivals.close();
        self.pull(now);
        self.last = 0;
        self.take_waiting(|_| true)
    }
}
