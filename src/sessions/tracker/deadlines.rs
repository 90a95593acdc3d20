//! Deadlines of sessions that may end without an unavailable presence.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use jid::FullJid;
use tokio::time::Instant;

/// Reminders of sessions, the earliest first. A session that every stanza renews has one reminder
/// all the same: the tracker sets it again only when it is due.
#[derive(Debug, Default)]
pub(super) struct Deadlines(BinaryHeap<Reverse<(Instant, FullJid)>>);

impl Deadlines {
    pub(super) fn push(&mut self, at: Instant, jid: FullJid) {
        self.0.push(Reverse((at, jid)));
    }

    pub(super) fn next(&self) -> Option<Instant> {
        self.0.peek().map(|Reverse((at, _))| *at)
    }

    /// Removes a reminder that is due.
    pub(super) fn pop(&mut self, now: Instant) -> Option<(Instant, FullJid)> {
        if self.next()? > now {
            return None;
        }
        self.0.pop().map(|Reverse(due)| due)
    }
}
