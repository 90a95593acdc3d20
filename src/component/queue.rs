//! The stanzas for the server: those that wait, and those written but not confirmed.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::BytesMut;
use jid::Jid;
use prometheus::IntGauge;
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::delivery::SendWindow;
use crate::envelope::Envelope;
use crate::stanza::{Refusal, Stanza};

/// Bytes written and not confirmed, at most. The limit bounds what is written
/// twice after the server fails, and lets confirmations arrive in time even from
/// a server that reads 50 kB/s.
const WINDOW: usize = 256 * 1024;

/// The size of an outbox: its bound and its gauge.
#[derive(Debug)]
pub(super) struct OutboxLoad {
    bytes: AtomicUsize,
    limit: usize,
    stanzas: IntGauge,
}

/// The share of one stanza in an outbox's bound, released on drop.
#[derive(Debug)]
pub(super) struct OutboxRoom {
    load: Arc<OutboxLoad>,
    bytes: usize,
}

#[derive(Debug)]
pub(super) struct QueuedStanza {
    pub envelope: Envelope,
    /// The stanza under local addresses, as it is written.
    pub local: Stanza,
    /// Bytes of `local`.
    pub len: usize,
    /// The start of the wait; `None` stands for the time at which the stanza
    /// enters the queue (again).
    pub since: Option<Instant>,
    /// The sender is in another domain than the stream.
    pub foreign: bool,
    /// The stanza is written while no other waits for its confirmation.
    pub alone: bool,
    /// The server had accepted the stanza once; the gateway writes it again in
    /// case the server lost it.
    pub replayed: bool,
    /// `None` once the server has accepted it.
    pub room: Option<OutboxRoom>,
}

/// The way in which a stream ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ending {
    /// The server ended the stream in order, or gave a reason.
    Orderly,
    /// The server ended the stream because of something that the gateway wrote.
    Blamed,
    /// The server ended the stream because of a stanza's sender.
    BlamedSender,
    /// The connection broke.
    Died,
    /// The server had sent nothing for some time.
    FellSilent,
}

/// A stanza that must not be written to the server, or not again.
#[derive(Debug)]
pub(super) struct Rejected {
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

    /// Reserves `len` bytes if the bound allows it. A stanza larger than the
    /// bound still passes alone.
    pub fn room(self: &Arc<Self>, len: usize) -> Option<OutboxRoom> {
        let (before, room) = self.add(len);
        (before == 0 || before + room.bytes <= self.limit).then_some(room)
    }

    /// Reserves `len` bytes even beyond the bound.
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

#[derive(Debug)]
pub(super) struct StanzaQueue {
    /// Senders fill this channel without a lock.
    arrivals: mpsc::UnboundedReceiver<QueuedStanza>,
    window: SendWindow<QueuedStanza>,
    /// Bytes written to the current stream and not confirmed.
    unconfirmed: usize,
    /// The number of the last stanza written to the current stream; 0 for none.
    last: u64,
    /// Stanzas up to this number are written one at a time, because one of them
    /// is suspected to have ended a stream.
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

    /// The next stanza to write, with its number if the stanza was written before.
    fn next(&self) -> Option<(Option<u64>, &QueuedStanza)> {
        let next = self.window.iter().nth(self.window.awaiting_ack())?;
        Some((next.number, &next.item))
    }

    /// A suspected stanza is on the stream, or is the next to write.
    pub fn is_suspicious(&self) -> bool {
        if self.is_suspect_written() {
            return true;
        }
        let is_suspect = |number: Option<u64>| number.is_some_and(|it| it <= self.suspects);
        self.next()
            .is_some_and(|(number, stanza)| stanza.alone || is_suspect(number))
    }

    fn is_suspect_written(&self) -> bool {
        let mut written = self.window.iter().take(self.window.awaiting_ack());
        written
            .next()
            .is_some_and(|entry| entry.item.alone || self.last <= self.suspects)
    }

    /// Appends the stanzas that may be written now to `out`; returns the number
    /// of the last stanza that waits for its confirmation, if there is one.
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

    /// Removes the stanzas that the server has accepted: all up to the number `through`.
    pub fn settle(&mut self, through: u64) -> Vec<QueuedStanza> {
        let settled: Vec<QueuedStanza> = match self.window.acknowledge(through) {
            Ok(settled) => settled.map(|entry| entry.item).collect(),
            // The number is not from this queue: nothing is settled.
            Err(_) => Vec::new(),
        };
        self.unconfirmed -= settled.iter().map(|stanza| stanza.len).sum::<usize>();
        settled
    }

    /// Handles the end of the stream; `blamed` if a stanza on the stream caused
    /// the end. Returns that stanza if it is certain; if not, the unconfirmed
    /// stanzas are written one by one.
    pub fn detached(&mut self, blamed: bool) -> Option<QueuedStanza> {
        let mut culprit = None;
        let last = self.last;
        if blamed && self.window.awaiting_ack() == 1 && self.is_suspect_written() {
            let mut culprits = self.window.extract(|entry| entry.number == Some(last));
            culprit = culprits.pop().map(|entry| entry.item);
        } else if blamed {
            self.suspects = self.suspects.max(last);
        }
        // No stanza has the number 0, so this can't fail: all are written again.
        let _ = self.window.reconnect(0);
        (self.unconfirmed, self.last) = (0, 0);
        culprit
    }

    /// Puts `stanzas` in front of all others; only while there is no stream.
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

    /// Removes the stanzas still to be written that are `wanted`.
    fn take_waiting(&mut self, wanted: impl Fn(&QueuedStanza) -> bool) -> Vec<QueuedStanza> {
        let last = self.last;
        let taken = self.window.extract(|entry| {
            entry.number.is_none_or(|number| number > last) && wanted(&entry.item)
        });
        taken.into_iter().map(|entry| entry.item).collect()
    }

    /// Removes the stanzas still to be written that have a foreign sender.
    pub fn take_foreign(&mut self, now: Instant) -> Vec<QueuedStanza> {
        self.pull(now);
        self.take_waiting(|stanza| stanza.foreign)
    }

    /// Makes every stanza of `sender`, a bare JID, be written alone.
    pub fn isolate(&mut self, sender: &Jid, now: Instant) {
        self.pull(now);
        for stanza in self.window.items_mut() {
            stanza.alone |= is_of(stanza, sender);
        }
    }

    /// Removes the stanzas still to be written of `sender`, a bare JID.
    pub fn take_of(&mut self, sender: &Jid, now: Instant) -> Vec<QueuedStanza> {
        self.pull(now);
        self.take_waiting(|stanza| is_of(stanza, sender))
    }

    /// Removes the stanzas that have waited for the stream for `max_wait`. A
    /// stanza written on a stream that is up waits for its confirmation without a
    /// limit.
    pub fn take_late(&mut self, max_wait: Duration, now: Instant) -> Vec<QueuedStanza> {
        self.pull(now);
        let is_late = |since| now.saturating_duration_since(since) >= max_wait;
        self.take_waiting(|stanza| stanza.since.is_some_and(is_late))
    }

    pub fn is_settled(&self) -> bool {
        self.arrivals.is_empty() && self.window.is_empty()
    }

    /// Removes all stanzas; the queue accepts no more.
    pub fn close(&mut self, now: Instant) -> Vec<QueuedStanza> {
        self.arrivals.close();
        self.pull(now);
        self.last = 0;
        self.take_waiting(|_| true)
    }
}

fn is_of(stanza: &QueuedStanza, sender: &Jid) -> bool {
    let from = stanza.local.from();
    from.is_some_and(|from| (from.node(), from.domain()) == (sender.node(), sender.domain()))
}
