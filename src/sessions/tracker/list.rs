//! The server's own list of sessions: adds those that said nothing to us, and
//! ends those of whose end nobody is told.

use std::collections::{BTreeSet, HashMap};

use jid::{BareJid, FullJid, Jid};
use tokio::time::Instant;

use super::{SessionChange, Tracker};

/// Every session that the server has, under global addresses.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Listing {
    /// All of them, also those without presence and those that hibernate (XEP-0198).
    pub sessions: BTreeSet<FullJid>,
    /// Users of whom the list can't be read: nothing is concluded about them.
    pub unclear: BTreeSet<BareJid>,
}

/// What was seen between two lists, so that an older list does not overrule it.
#[derive(Debug, Default)]
pub(super) struct RecentEnds {
    /// Whether lists come at all.
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
    /// Lists will come: what ends from now on is remembered until the next one.
    pub fn expect_lists(&mut self) {
        self.recent_ends.begins();
    }

    /// The server answered with `listing`, some time after `asked_at`. What was
    /// seen of a session since then is newer, and counts more.
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

    /// There are no lists any more: who is known by them alone has the time of
    /// a lease.
    pub fn lists_stopped(&mut self, now: Instant) {
        self.recent_ends.stops();
        for (jid, session) in &mut self.sessions {
            if std::mem::take(&mut session.listed) && session.recipients.is_empty() {
                session.end_at(now + self.lease, jid, &mut self.deadlines);
            }
        }
    }

    /// `recipient` will not be told any more of anybody's end: who is known by
    /// that alone has the time of a lease.
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
