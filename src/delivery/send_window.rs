//! The sender's bookkeeping for one slot: what waits, what is written but not
//! acknowledged, and the numbers.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

/// A slot's stanzas, oldest first: those written on this connection, then
/// those to write. Numbers are given at the first write.
#[derive(Debug)]
pub(crate) struct SendWindow<T> {
    entries: VecDeque<Unacknowledged<T>>,
    /// How many of `entries` need no writing on this connection.
    written: usize,
    last_number: u64,
    bytes: usize,
}

/// An acknowledgement names a number that was never written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("it acknowledged stanza {through}, but only {written} were written")]
pub(crate) struct BeyondWritten {
    pub(crate) through: u64,
    pub(crate) written: u64,
}

/// One stanza of a slot.
#[derive(Debug)]
pub(crate) struct Unacknowledged<T> {
    number: Option<u64>,
    /// On this slot or on one before.
    was_written: bool,
    size: usize,
    /// Since when it waits to be written.
    queued_at: Instant,
    /// The stanza.
    pub(crate) item: T,
}

impl<T> Unacknowledged<T> {
    /// Since when it waits: since it was queued; or, when it was written
    /// already, since the connection was lost, if it is (`down_since`). What
    /// the peer has over a live connection is not waiting.
    fn waits_since(&self, down_since: Option<Instant>) -> Option<Instant> {
        match (self.number, down_since) {
            (None, _) => Some(self.queued_at),
            (Some(_), Some(down_since)) => Some(self.queued_at.max(down_since)),
            (Some(_), None) => None,
        }
    }
}

/// A stanza to be written now.
#[derive(Debug)]
pub(crate) struct Outgoing<'a, T> {
    /// Its number.
    pub(crate) number: u64,
    /// When it was queued, if it has never been written before.
    pub(crate) first_since: Option<Instant>,
    /// The stanza.
    pub(crate) item: &'a T,
}

impl<T> Default for SendWindow<T> {
    fn default() -> Self {
        Self {
            entries: VecDeque::new(),
            written: 0,
            last_number: 0,
            bytes: 0,
        }
    }
}

impl<T> SendWindow<T> {
    /// How many stanzas there are, written or not.
    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether nothing waits and nothing is unacknowledged.
    pub(crate) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The sum of the sizes given to [`Self::push`].
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// How many of the first entries the peer has, on this connection, and
    /// not acknowledged.
    pub(crate) fn awaiting_ack(&self) -> usize {
        self.written
    }

    /// Queues a stanza behind all others.
    pub(crate) fn push(&mut self, item: T, size: usize) {
        self.bytes += size;
        self.entries.push_back(Unacknowledged {
            number: None,
            was_written: false,
            size,
            queued_at: Instant::now(),
            item,
        });
    }

    /// Queues a stanza of another slot behind all others; it goes on waiting,
    /// and gets a number of this slot.
    pub(crate) fn requeue(&mut self, entry: Unacknowledged<T>) {
        self.bytes += entry.size;
        self.entries.push_back(Unacknowledged {
            number: None,
            ..entry
        });
    }

    /// The next stanza to write; counts as written.
    pub(crate) fn next(&mut self) -> Option<Outgoing<'_, T>> {
        let entry = self.entries.get_mut(self.written)?;
        self.written += 1;
        let mut first_since = None;
        let number = *entry.number.get_or_insert_with(|| {
            if !entry.was_written {
                first_since = Some(entry.queued_at);
            }
            entry.was_written = true;
            self.last_number += 1;
            self.last_number
        });
        Some(Outgoing {
            number,
            first_since,
            item: &entry.item,
        })
    }

    /// A new connection: everything behind `resume_after` is to be written (again).
    ///
    /// # Errors
    /// When nothing with that number was ever written.
    pub(crate) fn rewind(&mut self, resume_after: u64) -> Result<(), BeyondWritten> {
        self.check(resume_after)?;
        self.written = self.numbered_through(resume_after);
        Ok(())
    }

    /// Takes what the peer has settled out of the window.
    ///
    /// # Errors
    /// When nothing with that number was ever written.
    pub(crate) fn acknowledge(
        &mut self,
        through: u64,
    ) -> Result<Vec<Unacknowledged<T>>, BeyondWritten> {
        self.check(through)?;
        let settled = self.numbered_through(through);
        self.written = self.written.saturating_sub(settled);
        let entries: Vec<_> = self.entries.drain(..settled).collect();
        self.bytes -= entries.iter().map(|entry| entry.size).sum::<usize>();
        Ok(entries)
    }

    /// Takes out the one with this number.
    pub(crate) fn remove(&mut self, number: u64) -> Option<Unacknowledged<T>> {
        self.extract(|entry| entry.number == Some(number)).pop()
    }

    /// Takes out what has waited for `max_wait`.
    pub(crate) fn expire(
        &mut self,
        down_since: Option<Instant>,
        max_wait: Duration,
    ) -> Vec<Unacknowledged<T>> {
        self.extract(|entry| {
            let since = entry.waits_since(down_since);
            since.is_some_and(|since| since.elapsed() >= max_wait)
        })
    }

    /// How long the one that has waited longest has; `None` when none waits.
    pub(crate) fn longest_wait(&self, down_since: Option<Instant>) -> Option<Duration> {
        let waits = self
            .entries
            .iter()
            .filter_map(|e| e.waits_since(down_since));
        waits.min().map(|since| since.elapsed())
    }

    /// Those that have a number: the peer may have them.
    pub(crate) fn written(&self) -> impl Iterator<Item = &T> {
        // Numbers are given in the order of the window.
        let numbered = self.entries.iter().take_while(|e| e.number.is_some());
        numbered.map(|entry| &entry.item)
    }

    /// Takes out those that are `wanted`.
    pub(crate) fn take(&mut self, wanted: impl Fn(&T) -> bool) -> Vec<Unacknowledged<T>> {
        self.extract(|entry| wanted(&entry.item))
    }

    /// Takes out everything, to be queued elsewhere: from now on all of it
    /// waits since it did here.
    pub(crate) fn take_all(&mut self, down_since: Option<Instant>) -> Vec<Unacknowledged<T>> {
        let mut taken = self.extract(|_| true);
        for entry in &mut taken {
            entry.queued_at = entry.waits_since(down_since).unwrap_or(entry.queued_at);
        }
        taken
    }

    fn check(&self, number: u64) -> Result<(), BeyondWritten> {
        if number <= self.last_number {
            return Ok(());
        }
        Err(BeyondWritten {
            through: number,
            written: self.last_number,
        })
    }

    /// How many entries have a number up to `through`.
    fn numbered_through(&self, through: u64) -> usize {
        self.entries
            .partition_point(|entry| entry.number.is_some_and(|number| number <= through))
    }

    fn extract(&mut self, out: impl Fn(&Unacknowledged<T>) -> bool) -> Vec<Unacknowledged<T>> {
        if !self.entries.iter().any(&out) {
            return Vec::new();
        }
        let mut taken = Vec::new();
        let mut kept = VecDeque::with_capacity(self.entries.len());
        let mut written = self.written;
        for (position, entry) in self.entries.drain(..).enumerate() {
            if out(&entry) {
                written -= usize::from(position < self.written);
                self.bytes -= entry.size;
                taken.push(entry);
            } else {
                kept.push_back(entry);
            }
        }
        self.entries = kept;
        self.written = written;
        taken
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::super::{Arrived, ReceiveWindow};
    use super::*;

    fn items<T>(entries: Vec<Unacknowledged<T>>) -> Vec<T> {
        entries.into_iter().map(|entry| entry.item).collect()
    }

    fn write_all(window: &mut SendWindow<u32>) -> Vec<(u64, u32)> {
        std::iter::from_fn(|| window.next().map(|next| (next.number, *next.item))).collect()
    }

    #[test]
    fn resends_in_order_with_the_same_numbers_before_newer_ones() {
        let mut window = SendWindow::default();
        (1..=3).for_each(|n| window.push(n, 10));
        assert_eq!(write_all(&mut window), [(1, 1), (2, 2), (3, 3)]);
        window.push(4, 10);
        assert_eq!(items(window.acknowledge(1).unwrap()), [1]);
        window.rewind(0).unwrap();
        assert_eq!(write_all(&mut window), [(2, 2), (3, 3), (4, 4)]);
        window.rewind(3).unwrap();
        assert_eq!(write_all(&mut window), [(4, 4)]);
        assert_eq!(items(window.acknowledge(4).unwrap()), [2, 3, 4]);
        assert_eq!((window.len(), window.bytes()), (0, 0));
    }

    #[test]
    fn an_ack_for_what_was_never_written_is_an_error() {
        let mut window = SendWindow::default();
        window.push(1, 10);
        assert!(window.acknowledge(1).is_err());
        assert!(window.rewind(1).is_err());
        write_all(&mut window);
        assert!(window.acknowledge(2).is_err());
        assert!(window.acknowledge(1).is_ok());
        // An old ack that comes late says nothing new.
        assert_eq!(items(window.acknowledge(1).unwrap()), [0; 0]);
    }

    #[tokio::test(start_paused = true)]
    async fn only_what_waits_expires() {
        let second = Duration::from_secs(1);
        let mut window = SendWindow::default();
        window.push(1, 10);
        write_all(&mut window);
        window.push(2, 10);
        tokio::time::advance(second * 10).await;
        window.push(3, 10);
        // On a live connection the written one is the peer's to keep.
        assert_eq!(items(window.expire(None, second * 10)), [2]);
        // Its time starts when the connection is lost.
        let down = Instant::now();
        tokio::time::advance(second * 9).await;
        assert_eq!(items(window.expire(Some(down), second * 10)), [0; 0]);
        tokio::time::advance(second).await;
        assert_eq!(items(window.expire(Some(down), second * 10)), [1, 3]);
        assert_eq!((window.bytes(), window.awaiting_ack()), (0, 0));
    }

    #[derive(Debug, Clone)]
    enum Step {
        Push,
        Write,
        Arrive,
        Settle(usize),
        Ack,
        Reconnect { same_process: bool },
        GiveUp(usize),
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            4 => Just(Step::Push),
            4 => Just(Step::Write),
            4 => Just(Step::Arrive),
            3 => (0..8_usize).prop_map(Step::Settle),
            2 => Just(Step::Ack),
            1 => any::<bool>().prop_map(|same_process| Step::Reconnect { same_process }),
            1 => (0..8_usize).prop_map(Step::GiveUp),
        ];
        vec(step, 0..200)
    }

    /// A sender, a wire and a receiver, driven in any order.
    #[derive(Default)]
    struct ConnectionSlot {
        sender: SendWindow<u32>,
        wire: VecDeque<(u64, u32)>,
        receiver: ReceiveWindow,
        /// Taken by the present receiver, in order; and which of it is open.
        taken: Vec<u32>,
        open: Vec<u64>,
        pushed: u32,
        given_up: Vec<u32>,
        acknowledged: Vec<u32>,
        settled: Vec<u32>,
    }

    impl ConnectionSlot {
        fn step(&mut self, step: &Step) {
            match step {
                Step::Push => {
                    self.pushed += 1;
                    self.sender.push(self.pushed, 1);
                }
                Step::Write => {
                    let next = self.sender.next().map(|next| (next.number, *next.item));
                    self.wire.extend(next);
                }
                Step::Arrive => {
                    if let Some((number, item)) = self.wire.pop_front()
                        && self.receiver.take(number) == Arrived::New
                    {
                        self.taken.push(item);
                        self.open.push(number);
                        // Numbers and items differ once something was given up.
                        self.settled.push(item);
                    }
                }
                Step::Settle(which) => {
                    if let Some(number) = self.open.get(*which).copied() {
                        self.open.retain(|open| *open != number);
                        self.receiver.settle(number);
                    }
                }
                Step::Ack => {
                    let through = self.receiver.settled_through();
                    let acknowledged = self.sender.acknowledge(through).unwrap();
                    self.acknowledged.extend(items(acknowledged));
                }
                Step::Reconnect { same_process } => {
                    self.wire.clear();
                    if !same_process {
                        self.receiver = ReceiveWindow::default();
                        self.taken.clear();
                        self.open.clear();
                    }
                    self.sender.rewind(self.receiver.resume()).unwrap();
                }
                Step::GiveUp(which) => {
                    if let Some(number) = self.sender.entries.get(*which).and_then(|e| e.number) {
                        self.given_up
                            .extend(self.sender.remove(number).map(|e| e.item));
                    }
                }
            }
        }
    }

    proptest! {
        /// Whatever breaks: one receiver takes each stanza at most once and in
        /// order, and in the end all arrive that were not given up.
        #[test]
        fn nothing_is_lost_doubled_or_reordered(steps in steps()) {
            let mut slot = ConnectionSlot::default();
            for step in &steps {
                slot.step(step);
                prop_assert!(slot.taken.is_sorted_by(|a, b| a < b), "{:?}", slot.taken);
                prop_assert_eq!(slot.sender.bytes(), slot.sender.len());
                prop_assert!(slot.acknowledged.iter().all(|item| slot.settled.contains(item)));
            }
            slot.step(&Step::Reconnect { same_process: true });
            for _ in 0..slot.sender.len() {
                slot.step(&Step::Write);
                slot.step(&Step::Arrive);
            }
            while !slot.open.is_empty() {
                slot.step(&Step::Settle(0));
            }
            slot.step(&Step::Ack);
            prop_assert!(slot.sender.is_empty());
            let mut all = [slot.acknowledged, slot.given_up].concat();
            all.sort_unstable();
            prop_assert_eq!(all, (1..=slot.pushed).collect::<Vec<_>>());
        }
    }
}
