//! Limits probes to one per user and period.

use std::collections::{HashSet, VecDeque};
use std::time::Duration;

use jid::BareJid;
use tokio::time::Instant;

/// Time for which the server's answer, or its silence, counts.
const AGAIN_AFTER: Duration = Duration::from_secs(10);
/// Upper bound of remembered users; further ones are not probed for.
const USERS: usize = 100_000;

/// Users for whom no probe is due.
#[derive(Debug, Default)]
pub(super) struct ProbeLimiter {
    users: HashSet<BareJid>,
    /// Oldest first.
    order: VecDeque<(Instant, BareJid)>,
}

impl ProbeLimiter {
    /// Whether a probe for `user` is due; notes that it is sent.
    pub(super) fn may_ask(&mut self, user: &BareJid, now: Instant) -> bool {
        while let Some((at, user)) = self.order.front()
            && now.duration_since(*at) >= AGAIN_AFTER
        {
            self.users.remove(user);
            self.order.pop_front();
        }
        if self.users.len() >= USERS || !self.users.insert(user.clone()) {
            return false;
        }
        self.order.push_back((now, user.clone()));
        true
    }
}
