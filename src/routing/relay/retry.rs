//! Tries held stanzas again.

use std::collections::{HashSet, VecDeque};
use std::time::Duration;

use super::{Backlog, Relay};
use crate::envelope::Envelope;
use crate::routing::hold::{HeldEnvelope, HoldKey, HoldReason};

/// The shortest time between look-ups of one recipient: each held stanza of the
/// pair asks the table, and most of these look-ups find no host.
const MOMENT: Duration = Duration::from_millis(50);
/// The age from which a location is asked for anew when its route is closed: the
/// user may be online elsewhere by now.
const FOUND_BEFORE: Duration = Duration::from_secs(1);

impl Relay {
    /// Retries the held stanzas of `key`, in order, until one has to wait again;
    /// then the rest waits too.
    pub(crate) async fn retry(&self, key: &HoldKey) {
        let mut line = self.hold.release(key);
        self.ask_anew(&line);
        while let Some(held) = line.pop_front() {
            self.carry_all(Backlog::from([held.envelope])).await;
            let Some(reason) = self.hold.reason(key) else {
                continue;
            };
            if reason == HoldReason::NoRecipient {
                for held in &mut line {
                    held.envelope.count_retry(&self.rules.local);
                }
            }
            match self.hold.hold_behind(key, line) {
                Ok(()) => return,
                Err(rest) => line = rest,
            }
        }
    }

    /// Asks the table anew for each recipient in `line`; for a recipient without a
    /// route much less often than its stanza is tried.
    fn ask_anew(&self, line: &VecDeque<HeldEnvelope>) {
        let Some(first) = line.front() else {
            return;
        };
        let (age, until) = match first.reason {
            HoldReason::NoRecipient => (Duration::ZERO, line.len()),
            // Only the first stanza is tried now.
            HoldReason::NoRoute => (FOUND_BEFORE, 1),
        };
        let line = line.iter().take(until);
        let recipients = line.filter_map(|held| held.envelope.stanza.to());
        for recipient in recipients.collect::<HashSet<_>>() {
            self.sessions.ask_anew(recipient, age);
        }
    }

    /// Routes `envelope`, and before it the held stanzas of its pair if their
    /// recipient has been found.
    pub(super) async fn route_behind_held(&self, envelope: Envelope, backlog: &mut Backlog) {
        if self.hold.reason_to_wait(&envelope) == Some(HoldReason::NoRecipient)
            && self.is_found(&envelope).await
        {
            self.retry(&self.hold.key_of(&envelope)).await;
        }
        self.route(envelope, backlog).await;
    }

    /// Whether a host has the recipient now; the cache still has none.
    async fn is_found(&self, envelope: &Envelope) -> bool {
        let Some(recipient) = envelope.stanza.to() else {
            return false;
        };
        self.sessions.ask_anew(recipient, MOMENT);
        let known = self.sessions.locate(recipient).await;
        !known.full.is_empty() || !known.bare.is_empty()
    }
}
