//! What has to wait: behind what, for how long, and when it is tried again.

use std::collections::HashSet;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::{Next, Relay, too_late};
use crate::bounce::{Held, Lack, Pair};
use crate::envelope::Envelope;
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
    pub async fn retry(&self, pair: &Pair) {
        let mut line = self.bounce.release(pair);
        self.ask_anew(&line);
        while let Some(held) = line.pop_front() {
            self.carry_all(Next::from([held])).await;
            let Some(lack) = self.bounce.lack(pair) else {
                continue;
            };
            if lack == Lack::Recipient {
                for held in &mut line {
                    held.envelope.count_retry(&self.rules.local);
                }
            }
            match self.bounce.hold_behind(pair, line) {
                Ok(()) => return,
                Err(rest) => line = rest,
            }
        }
    }

    /// Before a retry the table is asked for each address in `line`. For one
    /// that only waits for its way, much less often than that is tried.
    fn ask_anew(&self, line: &Next) {
        let Some(first) = line.front() else {
            return;
        };
        let (age, until) = match first.lack {
            Lack::Recipient => (Duration::ZERO, line.len()),
            // Only that one is tried now.
            Lack::Way => (FOUND_BEFORE, 1),
        };
        let line = line.iter().take(until);
        let recipients = line.filter_map(|held| held.envelope.stanza.to());
        for recipient in recipients.collect::<HashSet<_>>() {
            self.sessions.ask_anew(recipient, age);
        }
    }

    /// What is held of the same pair goes first, if its recipient has been found.
    pub(super) async fn carry_behind_held(&self, next: Next) {
        if let Some(held) = next.front() {
            let pair = Pair::of(&held.envelope);
            if self.bounce.lack(&pair) == Some(Lack::Recipient) && self.is_found(held).await {
                self.retry(&pair).await;
            }
        }
        self.carry_all(next).await;
    }

    /// Whether somebody has the recipient now, of whom nobody was known to. The
    /// cache still says nobody.
    async fn is_found(&self, held: &Held) -> bool {
        let Some(recipient) = held.envelope.stanza.to() else {
            return false;
        };
        self.sessions.ask_anew(recipient, MOMENT);
        let known = self.sessions.locate(recipient).await;
        !known.full.is_empty() || !known.bare.is_empty()
    }

    /// We know who has the recipient, but the way there is closed or full.
    pub(super) fn wait_for_way(&self, envelope: Envelope, next: &mut Next) {
        if self.closing.load(Ordering::Relaxed) || envelope.taken_at.elapsed() >= self.max_wait {
            return self.refuse(envelope, too_late(), next);
        }
        self.hold(
            Held {
                envelope,
                lack: Lack::Way,
            },
            0,
            next,
        );
    }

    /// Nobody is known to have the recipient: perhaps soon.
    pub(super) fn bounce(&self, mut held: Held, next: &mut Next) {
        let tries = held.envelope.retries_at(&self.rules.local);
        held.envelope.count_retry(&self.rules.local);
        held.lack = Lack::Recipient;
        self.hold(held, tries, next);
    }

    fn hold(&self, held: Held, tries: u32, next: &mut Next) {
        if let Err(held) = self.bounce.hold(held, tries) {
            let text = "Too many messages are waiting for their recipients; try again later.";
            self.refuse(held.envelope, Refusal::new(Reason::Overflow, text), next);
        }
    }
}
