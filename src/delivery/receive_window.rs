//! The receiver's bookkeeping for one slot: what was taken, what of it is settled.

use std::collections::BTreeSet;

/// What a slot's stanza numbers have come to. Numbers rise, but need not be
/// without gaps: the sender may have given up on some.
#[derive(Debug, Default)]
pub(crate) struct ReceiveWindow {
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
pub(crate) enum Arrived {
    /// Take it.
    New,
    /// It was taken before: drop it.
    Duplicate,
}

impl ReceiveWindow {
    /// Begins with a new connection: what the sender need not send again on it.
    pub(crate) fn resume(&mut self) -> u64 {
        self.asked_again.append(&mut self.abandoned);
        self.asked_again
            .first()
            .map_or(self.taken, |first| first - 1)
    }

    /// Notes that `number` has come.
    pub(crate) fn take(&mut self, number: u64) -> Arrived {
        // They come in order: what was asked for and would have come before
        // this one will not come any more, the sender gave up on it.
        self.asked_again = self.asked_again.split_off(&number);
        if number <= self.taken && !self.asked_again.remove(&number) {
            return Arrived::Duplicate;
        }
        self.taken = self.taken.max(number);
        self.open.insert(number);
        Arrived::New
    }

    /// `number` has its fate.
    pub(crate) fn settle(&mut self, number: u64) {
        self.open.remove(&number);
    }

    /// `number` was dropped before it had its fate.
    pub(crate) fn abandon(&mut self, number: u64) {
        if self.open.remove(&number) {
            self.abandoned.insert(number);
        }
    }

    /// All that was taken up to this number is settled; 0 if nothing is.
    pub(crate) fn settled_through(&self) -> u64 {
        let unsettled = [&self.open, &self.abandoned, &self.asked_again];
        let first = unsettled.into_iter().filter_map(BTreeSet::first).min();
        first.map_or(self.taken, |first| first - 1)
    }

    /// Whether only a new connection makes the sender send something again.
    pub(crate) fn has_abandoned(&self) -> bool {
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
        let mut window = ReceiveWindow::default();
        for number in [3, 4, 9] {
            assert_eq!(window.take(number), Arrived::New);
        }
        assert_eq!(window.settled_through(), 2);
        window.settle(4);
        assert_eq!(window.settled_through(), 2);
        window.settle(3);
        assert_eq!(window.settled_through(), 8);
        window.settle(9);
        assert_eq!(window.settled_through(), 9);
        assert_eq!(window.take(4), Arrived::Duplicate);
    }

    /// 1 and 3 settled, 2 abandoned.
    fn with_a_hole() -> ReceiveWindow {
        let mut window = ReceiveWindow::default();
        for number in 1..=3 {
            window.take(number);
        }
        window.settle(1);
        window.settle(3);
        window.abandon(2);
        window
    }

    #[test]
    fn what_was_abandoned_is_asked_for_and_taken_again() {
        let mut window = with_a_hole();
        assert!(window.has_abandoned());
        assert_eq!(window.resume(), 1);
        assert!(!window.has_abandoned());
        assert_eq!(window.settled_through(), 1);
        assert_eq!(window.take(2), Arrived::New);
        assert_eq!(window.take(3), Arrived::Duplicate);
        window.settle(2);
        assert_eq!(window.settled_through(), 3);
        assert_eq!(window.resume(), 3);
    }

    #[test]
    fn what_the_sender_gave_up_on_is_waited_for_no_longer() {
        let mut window = with_a_hole();
        // Still on the old connection: nobody was asked yet.
        assert_eq!(window.take(3), Arrived::Duplicate);
        assert_eq!(window.settled_through(), 1);
        window.resume();
        assert_eq!(window.take(3), Arrived::Duplicate);
        assert_eq!(window.settled_through(), 3);
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
            let mut window = ReceiveWindow::default();
            let (mut open, mut gone, mut settled) =
                (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
            for step in steps {
                match step {
                    Step::Take(number) => {
                        if window.take(number) == Arrived::New {
                            prop_assert!(!settled.contains(&number) && !gone.contains(&number));
                            prop_assert!(open.insert(number));
                        }
                    }
                    Step::Settle(number) => {
                        if open.remove(&number) {
                            settled.insert(number);
                        }
                        window.settle(number);
                    }
                    Step::Abandon(number) => {
                        if open.remove(&number) {
                            gone.insert(number);
                        }
                        window.abandon(number);
                    }
                    Step::Resume => {
                        let resume_after = window.resume();
                        prop_assert!(gone.iter().all(|number| *number > resume_after));
                        prop_assert!(window.settled_through() <= resume_after);
                        gone.clear();
                    }
                }
                let through = window.settled_through();
                prop_assert!(open.iter().chain(&gone).all(|number| *number > through));
            }
            open.iter().for_each(|number| window.settle(*number));
            window.resume();
            window.take(100);
            window.settle(100);
            prop_assert_eq!(window.settled_through(), 100);
        }
    }
}
