//! Which JIDs changed lately, for the peers that follow us.

use std::collections::VecDeque;

/// A peer that is further behind is brought up by comparing whole parts.
const LIMIT: usize = 1 << 16;

/// JIDs in the order of their changes; how they stand now is looked up when
/// they are told.
#[derive(Debug, Default)]
pub(super) struct ChangeLog {
    jids: VecDeque<Box<str>>,
    /// The number of the first one.
    first: u64,
}

impl ChangeLog {
    /// One more change.
    pub(super) fn push(&mut self, jid: &str) {
        if self.jids.len() == LIMIT {
            self.jids.pop_front();
            self.first += 1;
        }
        self.jids.push_back(jid.into());
    }

    /// The number that the next change will have.
    pub(super) fn head(&self) -> u64 {
        self.first + self.jids.len() as u64
    }

    /// What changed from number `from` on; `None` when that is forgotten.
    pub(super) fn since(&self, from: u64) -> Option<impl Iterator<Item = &str>> {
        let skip = usize::try_from(from.checked_sub(self.first)?).ok()?;
        Some(self.jids.iter().skip(skip).map(AsRef::as_ref))
    }

    /// Nobody will ask for what is before `upto`.
    pub(super) fn forget(&mut self, upto: u64) {
        let done = upto.min(self.head()).saturating_sub(self.first);
        // Less than the length.
        self.jids.drain(..done as usize);
        self.first += done;
        if self.jids.is_empty() {
            self.jids.shrink_to(1024);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(log: &ChangeLog, from: u64) -> Option<Vec<&str>> {
        log.since(from).map(Iterator::collect)
    }

    #[test]
    fn numbers_stay_whatever_is_forgotten() {
        let mut log = ChangeLog::default();
        log.push("a");
        log.push("b");
        assert_eq!(log.head(), 2);
        assert_eq!(told(&log, 0), Some(vec!["a", "b"]));
        log.forget(1);
        assert_eq!(told(&log, 0), None);
        assert_eq!(told(&log, 1), Some(vec!["b"]));
        assert_eq!(told(&log, 2), Some(vec![]));
        log.forget(99);
        assert_eq!(log.head(), 2);
    }

    #[test]
    fn does_not_grow_for_ever() {
        let mut log = ChangeLog::default();
        for _ in 0..=LIMIT {
            log.push("a");
        }
        assert_eq!(told(&log, 0), None);
        assert_eq!(told(&log, 1).map(|told| told.len()), Some(LIMIT));
    }
}
