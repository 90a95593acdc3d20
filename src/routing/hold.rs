//! Stanzas set aside, and tried again: their recipient is nowhere yet, or the
//! way there is closed for the moment.
//!
//! HeldEnvelope by pair of entities, in order: what comes later of a pair waits behind
//! what is held already, and a retry takes all of a pair at once.

#[cfg(test)]
mod tests;

use std::collections::hash_map::Entry;
use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use jid::{BareJid, Jid};
use tokio::sync::Notify;

use crate::config;
use crate::envelope::{Arrival, Envelope};
use crate::host::Host;
use crate::metrics::Metrics;

/// A retry never waits longer than this: a held stanza is a late stanza.
const LONGEST_DELAY: Duration = Duration::from_secs(5);
/// How soon a way that was closed or full is tried again. Not the operator's
/// `resend_after`: that is about recipients who are nowhere.
const ROUTE_DELAY: Duration = Duration::from_millis(250);

/// The two entities whose stanzas stay in order: bare sender, bare recipient.
/// FanOut are in order for each of their hosts: one that is away must not hold
/// up what the others get.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct HoldKey {
    /// The sender; `None` when the stanza names none.
    pub sender: Option<BareJid>,
    /// The recipient.
    pub recipient: Option<BareJid>,
    /// The host that copies made here are for.
    pub copies_for: Option<Host>,
}

impl HoldKey {
    /// The pair that `envelope` belongs to.
    #[must_use]
    pub fn of(envelope: &Envelope) -> Self {
        let is_made_here = !matches!(envelope.arrival, Arrival::Link(_));
        let copies_for = envelope.copy_for.clone().filter(|_| is_made_here);
        Self {
            sender: envelope.stanza.from().map(Jid::to_bare),
            recipient: envelope.stanza.to().map(Jid::to_bare),
            copies_for,
        }
    }
}

/// An envelope that waits, and for what.
#[derive(Debug)]
pub struct HeldEnvelope {
    /// The envelope.
    pub envelope: Envelope,
    /// What it waits for.
    pub reason: HoldReason,
}

impl HeldEnvelope {
    /// What it takes of `bounce.max_bytes`.
    fn size(&self) -> usize {
        self.envelope.stanza.len()
    }
}

/// What a held envelope waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HoldReason {
    /// Nobody is known to have its recipient.
    NoRecipient,
    /// The way to those who have its recipient is closed or full.
    NoRoute,
}

/// The stanzas of one pair.
#[derive(Debug, Default)]
struct Line {
    held: VecDeque<HeldEnvelope>,
    bytes: usize,
    /// When to try again; `None` while a retry is on its way to a worker.
    due: Option<Instant>,
}

#[derive(Debug, Default)]
struct Lines {
    by_pair: HashMap<HoldKey, Line>,
    by_due: BTreeSet<(Instant, HoldKey)>,
    by_recipient: HashMap<BareJid, BTreeSet<HoldKey>>,
    count: usize,
    bytes: usize,
}

/// All that is held by this gateway.
#[derive(Debug)]
pub struct HoldQueue {
    lines: Mutex<Lines>,
    /// Something became due earlier than before.
    changed: Notify,
    resend_after: Duration,
    max_bytes: usize,
    metrics: Arc<Metrics>,
}

impl HoldQueue {
    /// Nothing held yet.
    #[must_use]
    pub fn new(config: &config::Bounce, metrics: Arc<Metrics>) -> Self {
        Self {
            lines: Mutex::default(),
            changed: Notify::new(),
            resend_after: config.resend_after,
            max_bytes: config.max_bytes,
            metrics,
        }
    }

    /// Sets `envelope` aside, behind what its pair has here already and was
    /// taken in before it: one that a link gives back is older than what has
    /// found the way closed since. If it lacks its recipient, it is tried again after `resend_after`, doubled with each
    /// of `tries`; if it lacks a way, soon.
    ///
    /// # Errors
    /// Gives the envelope back when `max_bytes` would be exceeded.
    pub fn hold(&self, held: HeldEnvelope, tries: u32) -> Result<(), Box<HeldEnvelope>> {
        let size = held.size();
        let mut lines = self.lines();
        if lines.bytes.saturating_add(size) > self.max_bytes {
            return Err(Box::new(held));
        }
        lines.bytes += size;
        lines.count += 1;
        let pair = HoldKey::of(&held.envelope);
        let delay = match held.reason {
            HoldReason::NoRecipient => self.delay(tries),
            HoldReason::NoRoute => jittered(ROUTE_DELAY),
        };
        let line = lines.by_pair.entry(pair.clone()).or_default();
        let taken_at = held.envelope.taken_at;
        let older = |other: &HeldEnvelope| other.envelope.taken_at <= taken_at;
        let position = line.held.iter().rposition(older).map_or(0, |last| last + 1);
        line.held.insert(position, held);
        line.bytes += size;
        if line.due.is_none() {
            let due = Instant::now() + delay;
            line.due = Some(due);
            lines.by_due.insert((due, pair.clone()));
            self.changed.notify_one();
        }
        if let Some(recipient) = &pair.recipient {
            lines
                .by_recipient
                .entry(recipient.clone())
                .or_default()
                .insert(pair);
        }
        self.show(&lines);
        Ok(())
    }

    /// Puts `rest`, which was released, back behind what was held of `pair`
    /// since: it waits for the same. It has been let in before, so that
    /// `max_bytes` may be exceeded for a moment.
    ///
    /// # Errors
    /// Gives it back when nothing of `pair` is held any more.
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
        // The rest may be long, what it waits behind is short.
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

    /// What the first held envelope of `pair` waits for; `None` when nothing is held.
    #[must_use]
    pub fn reason(&self, pair: &HoldKey) -> Option<HoldReason> {
        let lines = self.lines();
        lines
            .by_pair
            .get(pair)
            .and_then(|line| line.held.front())
            .map(|held| held.reason)
    }

    /// Whether copies for `host`, of the pair of `envelope`, are held.
    #[must_use]
    pub fn holds_copies(&self, envelope: &Envelope, host: &Host) -> bool {
        // Nearly always, and then without a look at the pair.
        if self.metrics.held.get() == 0 {
            return false;
        }
        let pair = HoldKey {
            copies_for: Some(host.clone()),
            ..HoldKey::of(envelope)
        };
        self.reason(&pair).is_some()
    }

    /// Takes out all of `pair`, in order.
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

    /// Takes out everything, pair by pair.
    #[must_use]
    pub fn release_all(&self) -> Vec<HeldEnvelope> {
        let pairs: Vec<HoldKey> = self.lines().by_pair.keys().cloned().collect();
        pairs.iter().flat_map(|pair| self.release(pair)).collect()
    }

    /// `recipient` has turned up: what is held for it is due now.
    pub fn wake(&self, recipient: &BareJid) {
        let mut lines = self.lines();
        let Some(pairs) = lines.by_recipient.get(recipient).cloned() else {
            return;
        };
        let now = Instant::now();
        for pair in pairs {
            let Some(line) = lines.by_pair.get_mut(&pair) else {
                continue;
            };
            // Without a time its retry is on its way already.
            if let Some(due) = line.due.replace(now) {
                lines.by_due.remove(&(due, pair.clone()));
                lines.by_due.insert((now, pair));
            } else {
                line.due = None;
            }
        }
        self.changed.notify_one();
    }

    /// Waits for the next pair whose retry is due. It stays held until
    /// [`Self::release`] takes it.
    pub async fn due(&self) -> HoldKey {
        loop {
            let changed = self.changed.notified();
            match self.take_due(Instant::now()) {
                Ok(pair) => return pair,
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

    /// A pair due by `now`, or when the first will be.
    fn take_due(&self, now: Instant) -> Result<HoldKey, Option<Instant>> {
        let mut lines = self.lines();
        let (due, pair) = lines.by_due.first().cloned().ok_or(None)?;
        if due > now {
            return Err(Some(due));
        }
        lines.by_due.pop_first();
        if let Some(line) = lines.by_pair.get_mut(&pair) {
            line.due = None;
        }
        Ok(pair)
    }

    /// The wait before try number `tries`.
    fn delay(&self, tries: u32) -> Duration {
        let doubled = self
            .resend_after
            .saturating_mul(2_u32.saturating_pow(tries));
        let longest = LONGEST_DELAY.max(self.resend_after);
        jittered(doubled.min(longest))
    }

    fn show(&self, lines: &Lines) {
        let gauge = |n: usize| i64::try_from(n).unwrap_or(i64::MAX);
        self.metrics.held.set(gauge(lines.count));
        self.metrics.bounce_queue_size.set(gauge(lines.count));
        self.metrics.held_bytes.set(gauge(lines.bytes));
    }

    /// Plain data: a panic elsewhere cannot have left it half changed.
    fn lines(&self) -> std::sync::MutexGuard<'_, Lines> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A quarter more or less, so that a thousand stanzas held in one second do not
/// come back in one.
fn jittered(delay: Duration) -> Duration {
    delay.mul_f64(0.75 + fastrand::f64() / 2.0)
}
