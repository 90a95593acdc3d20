//! The receiver's bookkeeping for one lane: what was taken, what of it is settled.

use std::collections::BTreeSet;

/// What a lane's stanza numbers have come to. Numbers rise, but need not be
/// without gaps: the sender may have given up on some.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    /// The highest number taken.
    taken: u64,
    /// Taken, their fate open.
    open: BTreeSet<u64>,
    /// Taken, but dropped here before anything became of them: the sender
    /// still has its copy and must be made to send it again.
    abandoned: BTreeSet<u64>,
    /// Abandoned before this connection, which was told to send them again.
    asked_again: BTreeSet<u64>,
}

/// What to do with a stanza that has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Take it.
    New,
    /// It was taken before: drop it.
    Duplicate,
}

impl Ledger {
    /// Begins with a new connection: what the sender need not send again on it.
    pub(super) fn resume(&mut self) -> u64 {
        self.asked_again.append(&mut self.abandoned);
        self.asked_again
            .first()
            .map_or(self.taken, |first| first - 1)
    }

    /// Notes that `number` has come.
    pub(super) fn take(&mut self, number: u64) -> Verdict {
        // They come in order: what was asked for and would have come before
        // this one will not come any more, the sender gave up on it.
        self.asked_again = self.asked_again.split_off(&number);
        if number <= self.taken && !self.asked_again.remove(&number) {
            return Verdict::Duplicate;
        }
        self.taken = self.taken.max(number);
        self.open.insert(number);
        Verdict::New
    }

    /// `number` has its fate.
    pub(super) fn settle(&mut self, number: u64) {
        self.open.remove(&number);
    }

    /// `number` was dropped before it had its fate.
    pub(super) fn abandon(&mut self, number: u64) {
        if self.open.remove(&number) {
            self.abandoned.insert(number);
        }
    }

    /// All that was taken up to this number is settled; 0 if nothing is.
    pub(super) fn settled_through(&self) -> u64 {
        let unsettled = [&self.open, &self.abandoned, &self.asked_again];
        let first = unsettled.into_iter().filter_map(BTreeSet::first).min();
        first.map_or(self.taken, |first| first - 1)
    }

    /// Whether only a new connection makes the sender send something again.
    pub(super) fn has_abandoned(&self) -> bool {
        !self.abandoned.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn settles_cumulatively_over_gaps() {
        let mut ledger = Ledger::default();
        for number in [3, 4, 9] {
            assert_eq!(ledger.take(number), Verdict::New);
        }
        assert_eq!(ledger.settled_through(), 2);
        ledger.settle(4);
        assert_eq!(ledger.settled_through(), 2);
        ledger.settle(3);
        assert_eq!(ledger.settled_through(), 8);
        ledger.settle(9);
        assert_eq!(ledger.settled_through(), 9);
        assert_eq!(ledger.take(4), Verdict::Duplicate);
    }

    /// 1 and 3 settled, 2 abandoned.
    fn with_a_hole() -> Ledger {
        let mut ledger = Ledger::default();
        for number in 1..=3 {
            ledger.take(number);
        }
        ledger.settle(1);
        ledger.settle(3);
        ledger.abandon(2);
        ledger
    }

    #[test]
    fn what_was_abandoned_is_asked_for_and_taken_again() {
        let mut ledger = with_a_hole();
        assert!(ledger.has_abandoned());
        assert_eq!(ledger.resume(), 1);
        assert!(!ledger.has_abandoned());
        assert_eq!(ledger.settled_through(), 1);
        assert_eq!(ledger.take(2), Verdict::New);
        assert_eq!(ledger.take(3), Verdict::Duplicate);
        ledger.settle(2);
        assert_eq!(ledger.settled_through(), 3);
        assert_eq!(ledger.resume(), 3);
    }

    #[test]
    fn what_the_sender_gave_up_on_is_waited_for_no_longer() {
        let mut ledger = with_a_hole();
        // Still on the old connection: nobody was asked yet.
        assert_eq!(ledger.take(3), Verdict::Duplicate);
        assert_eq!(ledger.settled_through(), 1);
        ledger.resume();
        assert_eq!(ledger.take(3), Verdict::Duplicate);
        assert_eq!(ledger.settled_through(), 3);
    }

    #[derive(Debug, Clone)]
    enum Step {
        Take(u64),
        Settle(u64),
        Abandon(u64),
        Resume,
    }

    proptest! {
        /// Nothing is acknowledged while open or to be sent again, nothing
        /// settled is taken twice, and in the end all is acknowledged.
        #[test]
        fn never_acknowledges_what_is_not_settled(
            steps in vec(
                prop_oneof![
                    4 => (1..30_u64).prop_map(Step::Take),
                    4 => (1..30_u64).prop_map(Step::Settle),
                    2 => (1..30_u64).prop_map(Step::Abandon),
                    1 => Just(Step::Resume),
                ],
                0..100,
            )
        ) {
            let mut ledger = Ledger::default();
            let (mut open, mut gone, mut settled) =
                (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
            for step in steps {
                match step {
                    Step::Take(number) => {
                        if ledger.take(number) == Verdict::New {
                            prop_assert!(!settled.contains(&number) && !gone.contains(&number));
                            prop_assert!(open.insert(number));
                        }
                    }
                    Step::Settle(number) => {
                        if open.remove(&number) {
                            settled.insert(number);
                        }
                        ledger.settle(number);
                    }
                    Step::Abandon(number) => {
                        if open.remove(&number) {
                            gone.insert(number);
                        }
                        ledger.abandon(number);
                    }
                    Step::Resume => {
                        let resume_after = ledger.resume();
                        prop_assert!(gone.iter().all(|number| *number > resume_after));
                        prop_assert!(ledger.settled_through() <= resume_after);
                        gone.clear();
                    }
                }
                let through = ledger.settled_through();
                prop_assert!(open.iter().chain(&gone).all(|number| *number > through));
            }
            open.iter().for_each(|number| ledger.settle(*number));
            ledger.resume();
            ledger.take(100);
            ledger.settle(100);
            prop_assert_eq!(ledger.settled_through(), 100);
        }
    }
}
