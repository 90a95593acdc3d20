//! The server's own list of sessions: adds sessions that sent nothing to the gateway, and removes
//! sessions that ended without an unavailable presence.

use std::collections::{BTreeSet, HashMap};

use jid::{BareJid, FullJid, Jid};
use tokio::time::Instant;

use super::{SessionChange, Tracker};

/// Every session that the server has, under global addresses.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Listing {
    /// All sessions, also those without presence and those that hibernate (XEP-0198).
    pub sessions: BTreeSet<FullJid>,
    /// Users with an unreadable list: their sessions stay as they are.
    pub unclear: BTreeSet<BareJid>,
}

/// Sessions that ended between two lists, so that an older list does not overrule their end.
#[derive(Debug, Default)]
pub(super) struct RecentEnds {
    /// Whether the server sends lists.
    on: bool,
    ended: HashMap<FullJid, Instant>,
}

impl RecentEnds {
    pub(super) fn end(&mut self, jid: &FullJid, now: Instant) {
        if self.on {
            self.ended.insert(jid.clone(), now);
        }
    }

    fn begins(&mut self) {
        self.on = true;
    }

    fn stops(&mut self) {
        self.on = false;
        self.ended.clear();
    }

    fn ended_since(&self, jid: &FullJid, asked_at: Instant) -> bool {
        self.ended.get(jid).is_some_and(|at| *at >= asked_at)
    }

    fn forget_before(&mut self, asked_at: Instant) {
        self.ended.retain(|_, at| *at >= asked_at);
    }
}

impl Tracker {
    /// Expects lists: sessions that end from now on are remembered until the next list.
    pub fn expect_lists(&mut self) {
        self.recent_ends.begins();
    }

    /// Applies `listing`, the server's answer to a request made at `asked_at`. Events seen since
    /// then are newer and take precedence.
    pub fn listed(
        &mut self,
        listing: &Listing,
        asked_at: Instant,
        now: Instant,
        wall: u64,
    ) -> Vec<SessionChange> {
        let mut changes = Vec::new();
        for jid in &listing.sessions {
            if !self.recent_ends.ended_since(jid, asked_at) {
                changes.extend(self.begin(jid, now, wall));
                self.confirm_by_list(jid, asked_at);
            }
        }
        let gone: Vec<FullJid> = self
            .sessions
            .iter()
            .filter(|(jid, session)| {
                session.seen_at < asked_at
                    && !listing.sessions.contains(*jid)
                    && !listing.unclear.contains(&jid.to_bare())
            })
            .map(|(jid, _)| jid.clone())
            .collect();
        for jid in gone {
            changes.extend(self.end(&jid, now));
        }
        self.recent_ends.forget_before(asked_at);
        changes
    }

    fn confirm_by_list(&mut self, jid: &FullJid, asked_at: Instant) {
        if let Some(session) = self.sessions.get_mut(jid) {
            session.listed = true;
            session.ends = None;
            session.seen_after = self.breaks;
            session.seen_at = session.seen_at.max(asked_at);
        }
    }

    /// The server sends no lists any more: sessions known by lists alone have the time of a lease.
    pub fn lists_stopped(&mut self, now: Instant) {
        self.recent_ends.stops();
        for (jid, session) in &mut self.sessions {
            if std::mem::take(&mut session.listed) && session.recipients.is_empty() {
                session.end_at(now + self.lease, jid, &mut self.deadlines);
            }
        }
    }

    /// `recipient` will not be sent the ends of sessions any more: sessions known by that alone
    /// have the time of a lease.
    pub fn recipient_lost(&mut self, recipient: &Jid, now: Instant) {
        for (jid, session) in &mut self.sessions {
            if session.recipients.remove(recipient)
                && session.recipients.is_empty()
                && !session.listed
            {
                session.end_at(now + self.lease, jid, &mut self.deadlines);
            }
        }
    }
}
