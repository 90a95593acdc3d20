//! Pings that prove what the server has accepted.
//!
//! A server answers an iq only after everything written before it on the same
//! stream has gone through its router. So an answered ping settles what was
//! written before the ping; whether the answer is a result or an error does not
//! matter. The pings are also the keep-alive.

use std::time::Duration;

use tokio::time::Instant;

use super::pending_iqs::OVERDUE;

/// A server that has answered no barrier for this time is asked, and dead when
/// it sends nothing for as long again.
pub(super) const SILENCE: Duration = Duration::from_secs(30);

/// When the barriers of one stream were written and answered.
#[derive(Debug)]
pub(super) struct Barriers {
    /// When one was answered last; at first, when the stream began.
    answered_at: Instant,
    /// Since when the server owes an answer.
    owed_since: Option<Instant>,
    /// When the last one was written, while an answer is owed.
    written_at: Option<Instant>,
    /// One is wanted although no stanza waits for it, since then.
    wanted_since: Option<Instant>,
}

impl Barriers {
    pub fn new(now: Instant) -> Self {
        Self {
            answered_at: now,
            owed_since: None,
            written_at: None,
            wanted_since: None,
        }
    }

    /// Wants a barrier as keep-alive, unless an answer is owed already.
    pub fn want(&mut self, now: Instant) {
        if self.owed_since.is_none() {
            self.wanted_since.get_or_insert(now);
        }
    }

    /// Time has passed: a stream that only receives is asked, too.
    pub fn keep_alive(&mut self, now: Instant) {
        if now.saturating_duration_since(self.answered_at) >= SILENCE {
            self.want(now);
        }
    }

    /// Whether one is to be written at `now`; `unsettled`: something waits for
    /// it. One whose answer is overdue gets a successor: the answer may have
    /// been misrouted.
    pub fn is_due(&self, unsettled: bool, now: Instant) -> bool {
        let is_overdue = |at| now.saturating_duration_since(at) >= OVERDUE;
        self.written_at.is_none_or(is_overdue) && (unsettled || self.wanted_since.is_some())
    }

    pub fn written(&mut self, now: Instant) {
        self.wanted_since = None;
        self.written_at = Some(now);
        self.owed_since.get_or_insert(now);
    }

    pub fn answered(&mut self, now: Instant) {
        self.answered_at = now;
        (self.owed_since, self.written_at) = (None, None);
    }

    /// Since when the server owes an answer, or will as soon as it is asked.
    pub fn owed_since(&self) -> Option<Instant> {
        self.owed_since.or(self.wanted_since)
    }
}
