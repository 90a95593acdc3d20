//! What has to wait: behind what, for how long, and when it is tried again.

use std::collections::HashSet;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::{Backlog, Relay, too_late};
use crate::envelope::Envelope;
use crate::routing::hold::{HeldEnvelope, HoldKey, HoldReason};
use crate::stanza::{Reason, Refusal};

/// While somebody is looked for, each stanza of the pair asks the table, but not
/// more often than this: at any rate of stanzas it is mostly in vain.
const MOMENT: Duration = Duration::from_millis(50);
/// How old an answer may be that names a host, when the way there is closed: the
/// user may have turned up elsewhere.
const FOUND_BEFORE: Duration = Duration::from_secs(1);

impl Relay {
    /// Tries what is held of `pair` again, in order, until one has to wait
    /// again; then the rest does too.
    pub async fn retry(&self, pair: &HoldKey) {
        let mut line = self.hold.release(pair);
        self.ask_anew(&line);
        while let Some(held) = line.pop_front() {
            self.carry_all(Backlog::from([held])).await;
            let Some(reason) = self.hold.reason(pair) else {
                continue;
            };
            if reason == HoldReason::NoRecipient {
                for held in &mut line {
                    held.envelope.count_retry(&self.rules.local);
                }
            }
            match self.hold.hold_behind(pair, line) {
                Ok(()) => return,
                Err(rest) => line = rest,
            }
        }
    }

    /// Before a retry the table is asked for each address in `line`. For one
    /// that only waits for its way, much less often than that is tried.
    fn ask_anew(&self, line: &Backlog) {
        let Some(first) = line.front() else {
            return;
        };
        let (age, until) = match first.reason {
            HoldReason::NoRecipient => (Duration::ZERO, line.len()),
            // Only that one is tried now.
            HoldReason::NoRoute => (FOUND_BEFORE, 1),
        };
        let line = line.iter().take(until);
        let recipients = line.filter_map(|held| held.envelope.stanza.to());
        for recipient in recipients.collect::<HashSet<_>>() {
            self.sessions.ask_anew(recipient, age);
        }
    }

    /// What is held of the same pair goes first, if its recipient has been found.
    pub(super) async fn carry_behind_held(&self, backlog: Backlog) {
        if let Some(held) = backlog.front() {
            let pair = HoldKey::of(&held.envelope);
            if self.hold.reason(&pair) == Some(HoldReason::NoRecipient) && self.is_found(held).await
            {
                self.retry(&pair).await;
            }
        }
        self.carry_all(backlog).await;
    }

    /// Whether somebody has the recipient now, of whom nobody was known to. The
    /// cache still says nobody.
    async fn is_found(&self, held: &HeldEnvelope) -> bool {
        let Some(recipient) = held.envelope.stanza.to() else {
            return false;
        };
        self.sessions.ask_anew(recipient, MOMENT);
        let known = self.sessions.locate(recipient).await;
        !known.full.is_empty() || !known.bare.is_empty()
    }

    /// We know who has the recipient, but the way there is closed or full.
    pub(super) fn hold_for_route(&self, envelope: Envelope, backlog: &mut Backlog) {
        if self.closing.load(Ordering::Relaxed) || envelope.taken_at.elapsed() >= self.max_wait {
            return self.refuse(envelope, too_late(), backlog);
        }
        self.hold(
            HeldEnvelope {
                envelope,
                reason: HoldReason::NoRoute,
            },
            0,
            backlog,
        );
    }

    /// Nobody is known to have the recipient: perhaps soon.
    pub(super) fn bounce(&self, mut held: HeldEnvelope, backlog: &mut Backlog) {
        let tries = held.envelope.retries_at(&self.rules.local);
        held.envelope.count_retry(&self.rules.local);
        held.reason = HoldReason::NoRecipient;
        self.hold(held, tries, backlog);
    }

    fn hold(&self, held: HeldEnvelope, tries: u32, backlog: &mut Backlog) {
        if let Err(held) = self.hold.hold(held, tries) {
            let text = "Too many messages are waiting for their recipients; try again later.";
            self.refuse(held.envelope, Refusal::new(Reason::Overflow, text), backlog);
        }
    }
}
