//! Probes of this gateway that wait for their answers.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use tokio::time::Instant;

use super::key::RecordKey;
use crate::host::Host;

/// The time for a server's answer, both directions included.
pub(super) const PROBE_TIMEOUT: Duration = Duration::from_secs(10);

/// Probes that wait at once; the task sends 1,000 a second. The answers to further
/// probes are routed like other presence, and no user counts as unavailable for
/// lack of an answer.
const MAX_PROBES: usize = 50_000;

/// The pending probes, by user and viewer.
#[derive(Debug, Default)]
pub(super) struct PendingProbes {
    pending: HashMap<RecordKey, PendingProbe>,
    /// Oldest first.
    order: VecDeque<(Instant, RecordKey)>,
}

#[derive(Debug)]
struct PendingProbe {
    until: Instant,
    is_answered: bool,
    /// The peer whose viewer wants the answers.
    wanted_at: Option<Host>,
}

impl PendingProbes {
    pub(super) fn add(&mut self, key: RecordKey, wanted_at: Option<Host>, now: Instant) {
        if self.order.len() >= MAX_PROBES {
            return;
        }
        let before = self.wanted_at(&key).cloned();
        let probe = PendingProbe {
            until: now + PROBE_TIMEOUT,
            is_answered: false,
            wanted_at: wanted_at.or(before),
        };
        self.order.push_back((probe.until, key.clone()));
        self.pending.insert(key, probe);
    }

    /// Whether this is the first answer to a probe of this gateway.
    pub(super) fn answer(&mut self, key: &RecordKey) -> bool {
        let probe = self.pending.get_mut(key);
        probe.is_some_and(|probe| !std::mem::replace(&mut probe.is_answered, true))
    }

    /// Whether this is the first answer to a probe; the probe then expires at once.
    pub(super) fn nobody_home(&mut self, key: &RecordKey, now: Instant) -> bool {
        let is_ours = self.answer(key);
        if let Some(probe) = self.pending.get_mut(key).filter(|_| is_ours) {
            probe.until = now;
            self.order.push_front((now, key.clone()));
        }
        is_ours
    }

    pub(super) fn wanted_at(&self, key: &RecordKey) -> Option<&Host> {
        self.pending.get(key)?.wanted_at.as_ref()
    }

    /// Removes the oldest probe that has expired, answered or not.
    pub(super) fn pop_expired(&mut self, now: Instant) -> Option<RecordKey> {
        while self.order.front().is_some_and(|(until, _)| *until <= now) {
            let (until, key) = self.order.pop_front()?;
            // A later probe for the same key has the later time.
            if self.pending.get(&key).is_some_and(|p| p.until == until) {
                self.pending.remove(&key);
                return Some(key);
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use jid::Jid;

    use super::*;

    fn key(user: &str) -> RecordKey {
        let bob = Jid::new("bob@x.test").unwrap();
        RecordKey::of(&Jid::new(user).unwrap(), &bob)
    }

    #[test]
    fn a_probe_has_one_answer() {
        let (now, key) = (Instant::now(), key("alice@x.test"));
        let mut probes = PendingProbes::default();
        assert!(!probes.answer(&key));
        probes.add(key.clone(), None, now);
        assert!(probes.answer(&key));
        assert!(!probes.answer(&key), "the second is the server's");
        probes.add(key.clone(), None, now);
        assert!(probes.pop_expired(now + PROBE_TIMEOUT).is_some());
        assert!(!probes.answer(&key), "too late");
    }

    #[test]
    fn a_repeated_probe_starts_its_time_again() {
        let (now, key) = (Instant::now(), key("alice@x.test"));
        let mut probes = PendingProbes::default();
        probes.add(key.clone(), None, now);
        probes.add(key.clone(), None, now + PROBE_TIMEOUT / 2);
        assert_eq!(probes.pop_expired(now + PROBE_TIMEOUT), None);
        assert_eq!(probes.pop_expired(now + 2 * PROBE_TIMEOUT), Some(key));
        assert!(probes.pending.is_empty() && probes.order.is_empty());
    }

    #[test]
    fn a_probe_expires_when_nobody_is_home() {
        let (now, key) = (Instant::now(), key("alice@x.test"));
        let mut probes = PendingProbes::default();
        probes.add(key.clone(), None, now);
        assert_eq!(probes.pop_expired(now), None);
        assert!(probes.nobody_home(&key, now));
        assert!(!probes.nobody_home(&key, now), "the second is the server's");
        assert_eq!(probes.pop_expired(now), Some(key));
        assert_eq!(probes.pop_expired(now + PROBE_TIMEOUT), None);
    }

    #[test]
    fn pending_probes_are_bounded() {
        let now = Instant::now();
        let mut probes = PendingProbes::default();
        for n in 0..=MAX_PROBES {
            probes.add(key(&format!("u{n}@x.test")), None, now);
        }
        assert_eq!(probes.order.len(), MAX_PROBES);
    }
}
