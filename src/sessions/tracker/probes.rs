//! Whom to ask the server for.

use std::collections::BTreeSet;
use std::time::Duration;

use jid::BareJid;
use tokio::time::Instant;

use super::Tracker;

/// So long may the server take to answer a probe.
const PROBE_PATIENCE: Duration = Duration::from_secs(10);

/// A presence probe (RFC 6121 §4.3) to the local server.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Probe {
    /// A user of the shared domain who was sent the presence of `to`, or the
    /// domain itself.
    pub from: BareJid,
    /// Whose sessions are asked for.
    pub to: BareJid,
}

impl Tracker {
    /// The component stream is up: returns whom to ask for, sorted. Who is
    /// not seen in time ends; who can't be asked for has the time of a lease.
    /// Without `may_ask` that is everybody.
    pub fn attached(&mut self, may_ask: bool, now: Instant) -> Vec<Probe> {
        self.detached = false;
        if !may_ask {
            self.lost.clear();
            self.recent.clear();
        }
        let mut probes: BTreeSet<Probe> = std::mem::take(&mut self.lost)
            .into_iter()
            .map(|(to, from)| Probe { from, to })
            .collect();
        let recent = std::mem::take(&mut self.recent).into_iter();
        probes.extend(
            recent
                .map(|(_, probe)| probe)
                .filter(|probe| !self.users.contains_key(&probe.to)),
        );
        for (jid, session) in &mut self.sessions {
            if session.seen_after == self.breaks || session.recipients.is_empty() {
                continue;
            }
            let patience = match session.recipients.prober(jid) {
                Some(from) if may_ask => {
                    let to = jid.to_bare();
                    probes.insert(Probe { from, to });
                    PROBE_PATIENCE
                }
                _ => self.lease,
            };
            session.end_at(now + patience, jid, &mut self.deadlines);
        }
        probes.into_iter().collect()
    }

    /// Something came for `user`, of whom nothing is known here: whom to ask
    /// for, if the server was not asked a moment ago. After a restart of the
    /// gateway nobody says again who was online all the time.
    pub fn missing(&mut self, user: &BareJid, now: Instant) -> Option<Probe> {
        if self.users.contains_key(user) {
            return None;
        }
        self.ask_for(user, now)
    }

    /// A session of `user` is known by its traffic alone: whom to ask for to
    /// learn of its presence, whose end will be told.
    pub fn unconfirmed(&mut self, user: &BareJid, now: Instant) -> Option<Probe> {
        self.ask_for(user, now)
    }

    /// In the name of the shared domain: a user who asks could be told that
    /// they have no subscription.
    fn ask_for(&mut self, user: &BareJid, now: Instant) -> Option<Probe> {
        if self.detached || !self.probe_limiter.may_ask(user, now) {
            return None;
        }
        Some(Probe {
            from: BareJid::from_parts(None, user.domain()),
            to: user.clone(),
        })
    }
}
