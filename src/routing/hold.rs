//! Holds stanzas and retries them: the recipient is at no known host yet, or the
//! route is closed for the moment.
//!
//! Envelopes are held by pair of entities, in order: later envelopes of a pair wait
//! behind those held already, and a retry takes all of a pair at once.

#[cfg(test)]
mod tests;

use std::collections::hash_map::Entry;
use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use jid::{BareJid, Jid};
use parking_lot::{Mutex, MutexGuard};
use tokio::sync::Notify;

use crate::config;
use crate::envelope::{Arrival, Envelope};
use crate::host::Host;
use crate::metrics::Metrics;
use crate::stanza::{Reason, Refusal, Stanza};

/// The longest wait before a retry: a held stanza is a late stanza.
const LONGEST_DELAY: Duration = Duration::from_secs(5);
/// Look-ups waiting, at most, besides those without which nothing is tried.
const LOOKUPS_WAITING: usize = 1024;
/// The wait before a closed or full route is tried again. The operator's
/// `resend_after` is for recipients at no known host only.
const ROUTE_DELAY: Duration = Duration::from_millis(250);

/// The two entities between which stanzas stay in order: bare sender, bare
/// recipient. Copies are in order for each of their hosts: an unreachable host must
/// not delay the copies for the others.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct HoldKey {
    /// The sender; `None` when the stanza names none.
    pub sender: Option<BareJid>,
    /// The recipient.
    pub recipient: Option<BareJid>,
    /// The host that copies made here are for.
    pub copies_for: Option<Host>,
}

/// A held envelope, and the reason.
#[derive(Debug)]
pub struct HeldEnvelope {
    /// The envelope.
    pub envelope: Envelope,
    /// The reason for which the envelope is held.
    pub reason: HoldReason,
}

impl HeldEnvelope {
    /// The bytes that count against `bounce.max_bytes`.
    fn size(&self) -> usize {
        self.envelope.stanza.len()
    }
}

/// The reason for which an envelope is held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HoldReason {
    /// No host is known to have the recipient.
    NoRecipient,
    /// The route to the hosts that have the recipient is closed or full.
    NoRoute,
    /// The session table has not answered yet.
    Unanswered,
}

/// The held stanzas of one pair.
#[derive(Debug, Default)]
struct HeldLine {
    held: VecDeque<HeldEnvelope>,
    bytes: usize,
    /// The time of the next retry; `None` while a retry is on its way to a worker.
    due: Option<Instant>,
    /// A look-up for the line is queued or under way.
    is_asking: bool,
}

/// A look-up that the lines of a pair wait for, which no worker may wait for.
#[derive(Debug, Clone)]
pub(crate) struct PendingLookup {
    /// The pair.
    pub(crate) pair: HoldKey,
    /// The address to look up.
    pub(crate) recipient: Jid,
    /// Whether the pair is tried even if no host has the recipient.
    pub(crate) is_a_try: bool,
}

/// Work for which a pair is due.
#[derive(Debug)]
pub(crate) enum DueWork {
    /// The pair is to be tried again.
    Retry(HoldKey),
    /// The session table is to be asked first.
    LookUp(PendingLookup),
}

#[derive(Debug, Default)]
struct HeldLines {
    by_pair: HashMap<HoldKey, HeldLine>,
    by_due: BTreeSet<(Instant, HoldKey)>,
    by_recipient: HashMap<BareJid, BTreeSet<HoldKey>>,
    /// At most one of each line.
    lookups: VecDeque<PendingLookup>,
    count: usize,
    bytes: usize,
}

/// All envelopes that this gateway holds.
#[derive(Debug)]
pub struct HoldQueue {
    lines: Mutex<HeldLines>,
    /// Signals that a retry became due earlier than before.
    changed: Notify,
    /// [`HeldLines::count`], readable without the lock: nearly always 0.
    count: AtomicUsize,
    /// Set when the gateway stops: nothing is held any more.
    closing: AtomicBool,
    local: Host,
    /// `connections.max_wait`, counted from when this gateway took the stanza in.
    max_wait: Duration,
    resend_after: Duration,
    max_bytes: usize,
    metrics: Arc<Metrics>,
}

/// An envelope that can't be held, and the error for its sender.
#[derive(Debug)]
pub(crate) struct HoldRefused {
    pub(crate) envelope: Envelope,
    pub(crate) refusal: Refusal,
}

impl HoldQueue {
    /// An empty queue of the gateway of `local`.
    #[must_use]
    pub(crate) fn new(
        config: &config::Bounce,
        max_wait: Duration,
        local: Host,
        metrics: Arc<Metrics>,
    ) -> Self {
        Self {
            lines: Mutex::default(),
            changed: Notify::new(),
            count: AtomicUsize::new(0),
            closing: AtomicBool::new(false),
            local,
            max_wait,
            resend_after: config.resend_after,
            max_bytes: config.max_bytes,
            metrics,
        }
    }

    /// Whether nothing is held: then no stanza has to wait behind another.
    #[must_use]
    pub(crate) fn is_empty(&self) -> bool {
        self.count.load(Ordering::Acquire) == 0
    }

    /// Whether the gateway is stopping.
    #[must_use]
    pub(crate) fn is_closing(&self) -> bool {
        self.closing.load(Ordering::Relaxed)
    }

    /// Stops holding, and takes out all held envelopes, pair by pair.
    #[must_use]
    pub(crate) fn close(&self) -> Vec<HeldEnvelope> {
        self.closing.store(true, Ordering::Relaxed);
        let keys: Vec<HoldKey> = self.lines().by_pair.keys().cloned().collect();
        keys.iter().flat_map(|key| self.release(key)).collect()
    }

    /// The key of `envelope`. The gateway's own stanzas for the local server
    /// are in order with the others of their pair.
    pub(crate) fn key_of(&self, envelope: &Envelope) -> HoldKey {
        let copies_for = match envelope.arrival {
            Arrival::Link(_) => None,
            Arrival::Own => envelope.copy_for.clone().filter(|host| *host != self.local),
            Arrival::Component => envelope.copy_for.clone(),
        };
        HoldKey {
            copies_for,
            ..pair_of(&envelope.stanza)
        }
    }

    /// Holds `envelope` behind those of its pair that were taken in before it: a
    /// link can return an envelope that is older than those held since. Without a
    /// recipient the envelope is tried again after `resend_after`, doubled with
    /// each bounce; without a route soon, and not after `max_wait`; without an answer
    /// of the session table, when the answer is there.
    ///
    /// # Errors
    /// Returns the envelope when the gateway is stopping, when the stanza has been
    /// without a route for `max_wait`, and when `max_bytes` would be exceeded.
    pub(crate) fn hold(
        &self,
        mut envelope: Envelope,
        reason: HoldReason,
    ) -> Result<(), Box<HoldRefused>> {
        let deadline = envelope.taken_at + self.max_wait;
        let now = Instant::now();
        let is_late = reason == HoldReason::NoRoute && now >= deadline;
        if is_late || self.is_closing() {
            return Err(Box::new(HoldRefused {
                envelope,
                refusal: too_late(),
            }));
        }
        let size = envelope.stanza.len();
        let mut lines = self.lines();
        if lines.bytes.saturating_add(size) > self.max_bytes {
            drop(lines);
            return Err(Box::new(HoldRefused {
                envelope,
                refusal: overflow(),
            }));
        }
        let due = match reason {
            HoldReason::NoRecipient => {
                let delay = self.delay(envelope.retries_at(&self.local));
                envelope.count_retry(&self.local);
                now + delay
            }
            HoldReason::NoRoute => deadline.min(now + jittered(ROUTE_DELAY)),
            HoldReason::Unanswered => now,
        };
        // The stanza would keep all bytes that were read with it in memory.
        envelope.stanza.detach();
        lines.bytes += size;
        lines.count += 1;
        let key = self.key_of(&envelope);
        let line = lines.by_pair.entry(key.clone()).or_default();
        let older = |other: &HeldEnvelope| other.envelope.taken_at <= envelope.taken_at;
        let position = line.held.iter().rposition(older).map_or(0, |last| last + 1);
        line.held
            .insert(position, HeldEnvelope { envelope, reason });
        line.bytes += size;
        if reason == HoldReason::Unanswered {
            if line.held.len() == 1 {
                let first = line.held.front();
                let recipient = first.and_then(|held| held.envelope.stanza.to().cloned());
                self.ask(&mut lines, &key, recipient, true);
            }
        } else if line.due.is_none() {
            line.due = Some(due);
            lines.by_due.insert((due, key.clone()));
            self.changed.notify_one();
        }
        if let Some(recipient) = &key.recipient {
            let keys = lines.by_recipient.entry(recipient.clone()).or_default();
            keys.insert(key);
        }
        self.show(&lines);
        Ok(())
    }

    fn ask(&self, lines: &mut HeldLines, pair: &HoldKey, recipient: Option<Jid>, is_a_try: bool) {
        if let Some(line) = lines.by_pair.get_mut(pair)
            && let Some(recipient) = recipient
            && !line.is_asking
        {
            line.is_asking = true;
            let pair = pair.clone();
            lines.lookups.push_back(PendingLookup {
                pair,
                recipient,
                is_a_try,
            });
            self.changed.notify_one();
        }
    }

    /// Requests a look-up of the recipient of `envelope`; the held stanzas of its pair
    /// are tried when a host has the recipient.
    pub(crate) fn ask_for(&self, envelope: &Envelope) {
        let (pair, recipient) = (self.key_of(envelope), envelope.stanza.to().cloned());
        let mut lines = self.lines();
        if lines.lookups.len() < LOOKUPS_WAITING {
            self.ask(&mut lines, &pair, recipient, false);
        }
    }

    /// Records that a look-up for `pair` has ended, and its stanzas are not tried.
    pub(crate) fn asked(&self, pair: &HoldKey) {
        if let Some(line) = self.lines().by_pair.get_mut(pair) {
            line.is_asking = false;
        }
    }

    /// Puts the released `rest` back behind the envelopes of `pair` that were held
    /// since, for the same reason as those. `rest` was counted before, so
    /// `max_bytes` may be exceeded for a moment.
    ///
    /// # Errors
    /// Returns `rest` when nothing of `pair` is held any more.
    pub fn hold_behind(
        &self,
        pair: &HoldKey,
        mut rest: VecDeque<HeldEnvelope>,
    ) -> Result<(), VecDeque<HeldEnvelope>> {
        let mut lines = self.lines();
        let Some(line) = lines.by_pair.get_mut(pair) else {
            return Err(rest);
        };
        let (count, bytes) = (
            rest.len(),
            rest.iter().map(HeldEnvelope::size).sum::<usize>(),
        );
        if let Some(reason) = line.held.front().map(|held| held.reason) {
            rest.iter_mut().for_each(|held| held.reason = reason);
        }
        // `rest` may be long, the envelopes held since are few.
        while let Some(held) = line.held.pop_back() {
            rest.push_front(held);
        }
        line.held = rest;
        line.bytes += bytes;
        lines.count += count;
        lines.bytes += bytes;
        self.show(&lines);
        Ok(())
    }

    /// The reason for which `envelope` has to wait behind those of its pair, if any
    /// is held.
    #[must_use]
    pub(crate) fn reason_to_wait(&self, envelope: &Envelope) -> Option<HoldReason> {
        if self.is_empty() {
            return None;
        }
        self.reason(&self.key_of(envelope))
    }

    /// The reason for which the first held envelope of `key` waits; `None` if none
    /// is held.
    #[must_use]
    pub(crate) fn reason(&self, key: &HoldKey) -> Option<HoldReason> {
        let lines = self.lines();
        let first = lines.by_pair.get(key)?.held.front()?;
        Some(first.reason)
    }

    /// The hosts for which copies of the pair of `envelope` are held.
    #[must_use]
    pub(crate) fn copies_held_for(&self, envelope: &Envelope) -> Vec<Host> {
        if self.is_empty() {
            return Vec::new();
        }
        let pair = pair_of(&envelope.stanza);
        let lines = self.lines();
        let keys = pair
            .recipient
            .as_ref()
            .and_then(|it| lines.by_recipient.get(it));
        keys.into_iter()
            .flatten()
            .filter(|key| key.sender == pair.sender)
            .filter_map(|key| key.copies_for.clone())
            .collect()
    }

    /// Takes out all envelopes of `pair`, in order.
    #[must_use]
    pub fn release(&self, pair: &HoldKey) -> VecDeque<HeldEnvelope> {
        let mut lines = self.lines();
        let Some(line) = lines.by_pair.remove(pair) else {
            return VecDeque::new();
        };
        if let Some(due) = line.due {
            lines.by_due.remove(&(due, pair.clone()));
        }
        if let Some(recipient) = &pair.recipient
            && let Entry::Occupied(mut pairs) = lines.by_recipient.entry(recipient.clone())
        {
            pairs.get_mut().remove(pair);
            if pairs.get().is_empty() {
                pairs.remove();
            }
        }
        lines.count -= line.held.len();
        lines.bytes -= line.bytes;
        self.show(&lines);
        line.held
    }

    /// `recipient` has come online: the envelopes held for it are due now.
    pub(crate) fn wake(&self, recipient: &Jid) {
        if self.is_empty() {
            return;
        }
        let mut lines = self.lines();
        let Some(pairs) = lines.by_recipient.get(&recipient.to_bare()).cloned() else {
            return;
        };
        let now = Instant::now();
        for pair in pairs {
            let Some(line) = lines.by_pair.get_mut(&pair) else {
                continue;
            };
            // A line without a time has a retry on its way already.
            if let Some(due) = line.due.replace(now) {
                lines.by_due.remove(&(due, pair.clone()));
                lines.by_due.insert((now, pair));
            } else {
                line.due = None;
            }
        }
        self.changed.notify_one();
    }

    /// Waits for the next pair that is due for a retry or a look-up. The pair stays
    /// held until [`Self::release`] takes it.
    pub(crate) async fn due(&self) -> DueWork {
        loop {
            let changed = self.changed.notified();
            match self.take_due(Instant::now()) {
                Ok(work) => return work,
                Err(None) => changed.await,
                Err(Some(at)) => {
                    tokio::select! {
                        () = tokio::time::sleep_until(at.into()) => {}
                        () = changed => {}
                    }
                }
            }
        }
    }

    /// A pair due by `now`, or the time at which the first pair is due.
    fn take_due(&self, now: Instant) -> Result<DueWork, Option<Instant>> {
        let mut lines = self.lines();
        if let Some(lookup) = lines.lookups.pop_front() {
            return Ok(DueWork::LookUp(lookup));
        }
        let (due, pair) = lines.by_due.first().cloned().ok_or(None)?;
        if due > now {
            return Err(Some(due));
        }
        lines.by_due.pop_first();
        if let Some(line) = lines.by_pair.get_mut(&pair) {
            line.due = None;
        }
        Ok(DueWork::Retry(pair))
    }

    /// The wait before try number `tries`.
    fn delay(&self, tries: u32) -> Duration {
        let doubled = self
            .resend_after
            .saturating_mul(2_u32.saturating_pow(tries));
        let longest = LONGEST_DELAY.max(self.resend_after);
        jittered(doubled.min(longest))
    }

    fn show(&self, lines: &HeldLines) {
        self.count.store(lines.count, Ordering::Release);
        let gauge = |n: usize| i64::try_from(n).unwrap_or(i64::MAX);
        self.metrics.held.set(gauge(lines.count));
        self.metrics.bounce_queue_size.set(gauge(lines.count));
        self.metrics.held_bytes.set(gauge(lines.bytes));
    }

    /// The lines are plain data: a panic elsewhere cannot have left them half
    /// changed.
    fn lines(&self) -> MutexGuard<'_, HeldLines> {
        self.lines.lock()
    }
}

/// The pair of `stanza`, regardless of the hosts that its copies are for.
pub(crate) fn pair_of(stanza: &Stanza) -> HoldKey {
    HoldKey {
        sender: stanza.from().map(Jid::to_bare),
        recipient: stanza.to().map(Jid::to_bare),
        copies_for: None,
    }
}

/// The error for a stanza that was without a route for `connections.max_wait`.
pub(crate) fn too_late() -> Refusal {
    let text = "The recipient's server could not be reached in time.";
    Refusal::new(Reason::Timeout, text)
}

fn overflow() -> Refusal {
    let text = "Too many messages are waiting for their recipients; try again later.";
    Refusal::new(Reason::Overflow, text)
}

/// Adds or subtracts up to a quarter, so that a thousand stanzas held in one second
/// are not retried in one.
fn jittered(delay: Duration) -> Duration {
    delay.mul_f64(0.75 + fastrand::f64() / 2.0)
}
