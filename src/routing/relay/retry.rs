//! Tries held stanzas again.

use std::collections::{HashSet, VecDeque};
use std::time::Duration;

use super::{Backlog, LookedUp, Relay};
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
    pub(crate) async fn retry(&self, key: &HoldKey, looked_up: Option<LookedUp>) {
        let mut line = self.hold.release(key);
        if looked_up.is_none() {
            self.ask_anew(&line);
        }
        while let Some(held) = line.pop_front() {
            let mut backlog = Backlog::new();
            self.route(held.envelope, looked_up.as_ref(), &mut backlog)
                .await;
            self.carry_all(backlog).await;
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
            HoldReason::Unanswered => return,
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
            && let Some(recipient) = envelope.stanza.to()
        {
            self.sessions.ask_anew(recipient, MOMENT);
            match self.sessions.locate_now(recipient) {
                Some(locations) if locations.is_online() => {
                    self.retry(&self.hold.key_of(&envelope), None).await;
                }
                Some(_) => {}
                None => self.hold.ask_for(&envelope),
            }
        }
        self.route(envelope, None, backlog).await;
    }
}
