//! The receiver's window of one connection: received numbers, and those not yet settled.

use std::collections::{BTreeMap, BTreeSet};
use std::mem;

/// Ranges of numbers that a window remembers besides the highest: a peer that
/// leaves a gap before each stanza must not fill the memory.
const RANGES: usize = 1024;

/// The numbers that were taken, and their state. Numbers rise, but may have gaps:
/// the sender may have dropped items or moved them to another connection.
#[derive(Debug, Default)]
pub(crate) struct ReceiveWindow {
    /// The highest number that was received.
    highest: u64,
    /// Taken, not settled.
    open: BTreeSet<u64>,
    /// Taken, but dropped here unsettled: the sender must send them again.
    abandoned: BTreeSet<u64>,
    /// Abandoned before the present connection, on which the sender was to send them again.
    asked_again: BTreeSet<u64>,
    /// Up to `highest`, and never taken here, or not any more.
    absent: NumberRanges,
    /// Up to this number `absent` is incomplete: too many ranges were evicted.
    unknown_through: u64,
    /// Above `highest`, and taken over another connection meanwhile.
    claimed: NumberRanges,
}

/// The state of an item at its former place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FormerFate {
    /// The item was not taken there, and will not be.
    NotTaken,
    /// The item was taken there and is not settled.
    Open,
    /// The item was taken there and is settled.
    Settled,
}

impl ReceiveWindow {
    /// Begins a new connection. Returns the highest number that the sender need not
    /// write again on it.
    pub(crate) fn resume(&mut self) -> u64 {
        // The sender has taken these out; bytes on the old connection are lost.
        self.claimed = NumberRanges::default();
        self.asked_again.append(&mut self.abandoned);
        self.asked_again
            .first()
            .map_or(self.highest, |first| first - 1)
    }

    /// Records that `number` was received. Returns whether to take it; if not, it
    /// is a duplicate.
    pub(crate) fn take(&mut self, number: u64) -> bool {
        let in_order = number == self.highest + 1;
        if !(in_order && self.asked_again.is_empty() && self.claimed.0.is_empty()) {
            return self.take_out_of_order(number);
        }
        self.highest = number;
        self.open.insert(number);
        true
    }

    fn take_out_of_order(&mut self, number: u64) -> bool {
        // Numbers come in order: the sender has dropped the requested items that
        // would have come before this one.
        let later = self.asked_again.split_off(&number);
        for given_up in mem::replace(&mut self.asked_again, later) {
            self.note_absent(given_up, given_up);
        }
        if self.asked_again.remove(&number) {
            self.open.insert(number);
            return true;
        }
        if number <= self.highest {
            return false;
        }
        if number - self.highest > 1 {
            self.note_absent(self.highest + 1, number - 1);
        }
        self.highest = number;
        if self.claimed.contains(number) {
            self.note_absent(number, number);
            return false;
        }
        self.open.insert(number);
        true
    }

    pub(crate) fn settle(&mut self, number: u64) {
        self.open.remove(&number);
    }

    /// Records that `number` was dropped unsettled.
    pub(crate) fn abandon(&mut self, number: u64) {
        if self.open.remove(&number) {
            self.abandoned.insert(number);
        }
    }

    /// Records that the item with `number` here has come over another connection.
    /// An item that was not taken here belongs to the other connection from now on.
    pub(crate) fn claim(&mut self, number: u64) -> FormerFate {
        if self.open.contains(&number) {
            return FormerFate::Open;
        }
        if self.abandoned.remove(&number) || self.asked_again.remove(&number) {
            self.note_absent(number, number);
            return FormerFate::NotTaken;
        }
        if number > self.highest {
            // After eviction, the item may come twice.
            self.claimed.insert(number, number);
            return FormerFate::NotTaken;
        }
        // A duplicate is better than a loss.
        if number <= self.unknown_through || self.absent.contains(number) {
            return FormerFate::NotTaken;
        }
        FormerFate::Settled
    }

    /// Returns the number up to which all taken items are settled; 0 if there is none.
    pub(crate) fn settled_through(&self) -> u64 {
        let unsettled = [&self.open, &self.abandoned, &self.asked_again];
        let first = unsettled.into_iter().filter_map(BTreeSet::first).min();
        first.map_or(self.highest, |first| first - 1)
    }

    /// Returns whether the sender sends some items again, and only on a new connection.
    pub(crate) fn has_abandoned(&self) -> bool {
        !self.abandoned.is_empty()
    }

    fn note_absent(&mut self, first: u64, last: u64) {
        if let Some(evicted) = self.absent.insert(first, last) {
            self.unknown_through = self.unknown_through.max(evicted);
        }
    }
}

/// A set of numbers, kept as ranges: first → last.
#[derive(Debug, Default)]
struct NumberRanges(BTreeMap<u64, u64>);

impl NumberRanges {
    fn contains(&self, number: u64) -> bool {
        let range = self.0.range(..=number).next_back();
        range.is_some_and(|(_, last)| *last >= number)
    }

    /// Adds one number, or several that are higher than all others. Returns the
    /// last number of the range that had to be evicted for the new one.
    fn insert(&mut self, first: u64, last: u64) -> Option<u64> {
        let before = self.0.range_mut(..=first).next_back();
        if let Some((_, end)) = before.filter(|(_, end)| end.saturating_add(1) >= first) {
            *end = last.max(*end);
            return None;
        }
        self.0.insert(first, last);
        if self.0.len() <= RANGES {
            return None;
        }
        self.0.pop_first().map(|(_, last)| last)
    }
}
