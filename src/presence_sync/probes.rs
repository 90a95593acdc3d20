//! Which questions have no answer yet.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use jid::BareJid;
use tokio::time::Instant;

use crate::host::Host;

/// So long may a server, and the way there and back, take to answer a probe.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);

/// Whose presence, and in whose name.
pub(super) type ProbePair = (BareJid, BareJid);

/// The probes that this gateway has sent in the name of others.
#[derive(Debug, Default)]
pub(super) struct PendingProbes {
    asked: HashMap<ProbePair, Asked>,
    /// Oldest first.
    order: VecDeque<(Instant, ProbePair)>,
}

#[derive(Debug)]
struct Asked {
    until: Instant,
    is_answered: bool,
    /// Where the answers are wanted.
    wanted_at: Option<Host>,
}

impl PendingProbes {
    /// A request is on its way; the answers are wanted by a host in particular,
    /// perhaps.
    pub(super) fn ask(&mut self, pair: ProbePair, wanted_at: Option<Host>, now: Instant) {
        let until = now + PATIENCE;
        let before = self.asked.get(&pair).filter(|asked| asked.until > now);
        let wanted_at = wanted_at.or_else(|| before?.wanted_at.clone());
        let asked = Asked {
            until,
            is_answered: false,
            wanted_at,
        };
        self.asked.insert(pair.clone(), asked);
        self.order.push_back((until, pair));
    }

    /// A server says that nobody is there. Whether that answers a request of
    /// ours, to which there was no such answer before.
    pub(super) fn answer(&mut self, pair: &ProbePair, now: Instant) -> bool {
        match self.asked.get_mut(pair) {
            Some(asked) if asked.until > now => !std::mem::replace(&mut asked.is_answered, true),
            _ => false,
        }
    }

    /// The request has its answer: another one is a server's own.
    pub(super) fn note_answer(&mut self, pair: &ProbePair) {
        if let Some(asked) = self.asked.get_mut(pair) {
            asked.is_answered = true;
        }
    }

    /// Which host wants the answers to a request of ours.
    pub(super) fn wanted_at(&self, pair: &ProbePair, now: Instant) -> Option<&Host> {
        let asked = self.asked.get(pair).filter(|asked| asked.until > now)?;
        asked.wanted_at.as_ref()
    }

    /// Takes the questions whose time is over, answered or not.
    pub(super) fn take_over(&mut self, now: Instant) -> Vec<ProbePair> {
        let mut over = Vec::new();
        while self.order.front().is_some_and(|(until, _)| *until <= now) {
            let Some((_, pair)) = self.order.pop_front() else {
                break;
            };
            // It may have been asked again since.
            if self
                .asked
                .get(&pair)
                .is_some_and(|asked| asked.until <= now)
            {
                self.asked.remove(&pair);
                over.push(pair);
            }
        }
        over
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair() -> ProbePair {
        let jid = |text| BareJid::new(text).unwrap();
        (jid("alice@x.test"), jid("bob@x.test"))
    }

    #[test]
    fn one_answer_to_each_question() {
        let now = Instant::now();
        let mut pending = PendingProbes::default();
        assert!(!pending.answer(&pair(), now));
        pending.ask(pair(), None, now);
        assert!(pending.answer(&pair(), now));
        assert!(
            !pending.answer(&pair(), now),
            "the second is the server's own"
        );
        pending.ask(pair(), None, now);
        assert!(!pending.answer(&pair(), now + PATIENCE), "too late");
    }

    #[test]
    fn a_question_that_is_asked_again_has_its_time_again() {
        let now = Instant::now();
        let mut pending = PendingProbes::default();
        pending.ask(pair(), None, now);
        pending.ask(pair(), None, now + PATIENCE / 2);
        assert_eq!(pending.take_over(now + PATIENCE), []);
        assert_eq!(pending.take_over(now + 2 * PATIENCE), [pair()]);
        assert!(pending.asked.is_empty() && pending.order.is_empty());
    }
}
