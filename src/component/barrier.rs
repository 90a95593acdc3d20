//! Pings that prove which stanzas the server has accepted.
//!
//! A server answers an iq only after routing everything written before it on the
//! same stream. An answered ping therefore settles everything written before the
//! ping; a result and an error prove the same. The pings are also the keep-alive.

use std::time::Duration;

use tokio::time::Instant;

use super::pending_iqs::OVERDUE;

/// The gateway pings a server that has answered no barrier for this time. The
/// server is dead when it sends nothing for as long again.
pub(super) const SILENCE: Duration = Duration::from_secs(30);

/// The times at which the barriers of one stream were written and answered.
#[derive(Debug)]
pub(super) struct Barriers {
    /// The last answer; at first, the start of the stream.
    answered_at: Instant,
    owed_since: Option<Instant>,
    /// The last barrier's time, while an answer is owed.
    written_at: Option<Instant>,
    /// Requests a barrier although no stanza waits for one.
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

    /// Requests a barrier as keep-alive, unless an answer is owed already.
    pub fn want(&mut self, now: Instant) {
        if self.owed_since.is_none() {
            self.wanted_since.get_or_insert(now);
        }
    }

    /// Pings on a stream that only receives, too.
    pub fn keep_alive(&mut self, now: Instant) {
        if now.saturating_duration_since(self.answered_at) >= SILENCE {
            self.want(now);
        }
    }

    /// A barrier is due at `now`; `unsettled` if a stanza waits for one. A
    /// barrier whose answer is overdue has a successor: the answer may have been
    /// misrouted.
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

    /// The time since which the server owes an answer, or will owe one after the
    /// next ping.
    pub fn owed_since(&self) -> Option<Instant> {
        self.owed_since.or(self.wanted_since)
    }
}
