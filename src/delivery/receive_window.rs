//! The receiver's window of one connection: received, not yet settled, and
//! which numbers have come.

use std::collections::{BTreeMap, BTreeSet};
use std::mem;

/// Ranges of numbers that a window remembers beside the highest: a peer that
/// leaves a gap before each stanza must not fill the memory.
const RANGES: usize = 1024;

/// Which numbers were taken, and which of these are settled. Numbers rise, but
/// need not be without gaps: the sender may have given items up or moved them
/// to another connection.
#[derive(Debug, Default)]
pub(crate) struct ReceiveWindow {
    /// The highest number that has come.
    highest: u64,
    /// Taken, not settled.
    open: BTreeSet<u64>,
    /// Taken, but dropped here unsettled: the sender must send them again.
    abandoned: BTreeSet<u64>,
    /// Abandoned before the present connection, which was to send them again.
    asked_again: BTreeSet<u64>,
    /// Up to `highest`, and never taken here, or not any more.
    absent: NumberRanges,
    /// Up to this number `absent` is not complete: too much was evicted.
    unknown_through: u64,
    /// Above `highest`, and taken over another connection meanwhile.
    claimed: NumberRanges,
}

/// What has become of an item at its former place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FormerFate {
    /// It was not taken there, and will not be.
    NotTaken,
    /// It was taken there and is not settled.
    Open,
    /// It was taken there and is settled.
    Settled,
}

impl ReceiveWindow {
    /// Begins a new connection: the highest number that the sender need not
    /// write again on it.
    pub(crate) fn resume(&mut self) -> u64 {
        // The sender has taken these out; what was on the old connection is lost.
        self.claimed = NumberRanges::default();
        self.asked_again.append(&mut self.abandoned);
        self.asked_again
            .first()
            .map_or(self.highest, |first| first - 1)
    }

    /// Notes that `number` has come. Whether it is to be taken; else it is a
    /// duplicate.
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
        // They come in order: the sender has given up those that were asked
        // for and would have come before this one.
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

    /// `number` is settled.
    pub(crate) fn settle(&mut self, number: u64) {
        self.open.remove(&number);
    }

    /// `number` was dropped unsettled.
    pub(crate) fn abandon(&mut self, number: u64) {
        if self.open.remove(&number) {
            self.abandoned.insert(number);
        }
    }

    /// The item that had `number` here has come over another connection. If it
    /// was not taken here, it belongs to the other one from now on.
    pub(crate) fn claim(&mut self, number: u64) -> FormerFate {
        if self.open.contains(&number) {
            return FormerFate::Open;
        }
        if self.abandoned.remove(&number) || self.asked_again.remove(&number) {
            self.note_absent(number, number);
            return FormerFate::NotTaken;
        }
        if number > self.highest {
            // Evicted, it may come twice.
            self.claimed.insert(number, number);
            return FormerFate::NotTaken;
        }
        // Better twice than never.
        if number <= self.unknown_through || self.absent.contains(number) {
            return FormerFate::NotTaken;
        }
        FormerFate::Settled
    }

    /// All that was taken up to this number is settled; 0 if nothing is.
    pub(crate) fn settled_through(&self) -> u64 {
        let unsettled = [&self.open, &self.abandoned, &self.asked_again];
        let first = unsettled.into_iter().filter_map(BTreeSet::first).min();
        first.map_or(self.highest, |first| first - 1)
    }

    /// Whether only a new connection makes the sender send something again.
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

    /// Adds one number, or several that are higher than all. Returns the last
    /// number of the range that had to be evicted for it.
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
