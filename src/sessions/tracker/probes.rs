//! Presence probes to the local server.

use std::collections::BTreeSet;
use std::time::Duration;

use jid::BareJid;
use tokio::time::Instant;

use super::Tracker;

/// Time limit for the server's answer to a probe.
const PROBE_PATIENCE: Duration = Duration::from_secs(10);

/// A presence probe (RFC 6121 §4.3) to the local server.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Probe {
    /// A user of the shared domain who was sent the presence of `to`, or the
    /// domain itself.
    pub from: BareJid,
    /// The user that the probe asks about.
    pub to: BareJid,
}

impl Tracker {
    /// Notes that the component stream is up; returns the probes to send, sorted. A session not
    /// seen within the time limit ends; one that cannot be probed for has the time of a lease.
    /// Without `may_ask` no session can be.
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

    /// Returns a probe when a stanza arrived for `user`, who has no session here, unless the server
    /// was asked within the limit. After a restart of the gateway, sessions that stayed online send
    /// no new presence.
    pub fn missing(&mut self, user: &BareJid, now: Instant) -> Option<Probe> {
        if self.users.contains_key(user) {
            return None;
        }
        self.ask_for(user, now)
    }

    /// Returns a probe for `user`, whose session is known by its traffic alone: once its presence
    /// is received, its end will be too.
    pub fn unconfirmed(&mut self, user: &BareJid, now: Instant) -> Option<Probe> {
        self.ask_for(user, now)
    }

    /// Probes in the name of the shared domain: a user as sender could receive a notice that they
    /// have no subscription.
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
