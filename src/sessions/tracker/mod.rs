//! Sessions that are online here, found from the stanzas that the gateway sees.
//!
//! A session is known through its *recipients*, to whom its presence was sent through the gateway,
//! through the server's own *lists*, or through its *traffic* alone, which makes a lease that must
//! be renewed. The tracker is pure: time is an argument, and the changes that follow from a stanza
//! are returned.

mod deadlines;
mod event;
mod list;
mod probe_limiter;
mod probes;
mod recipients;

#[cfg(test)]
mod tests;

use std::collections::{HashMap, HashSet, VecDeque};
use std::time::Duration;

use jid::{BareJid, FullJid, Jid};
use tokio::time::Instant;

use deadlines::Deadlines;
pub use event::SessionEvent;
pub use list::Listing;
use list::RecentEnds;
use probe_limiter::ProbeLimiter;
pub use probes::Probe;
use recipients::{PresenceRecipients, can_probe};

/// Time for which a user is remembered after the last session ended. A server that stops sends
/// unavailable presence for all its sessions, and after its restart some may be online before the
/// gateway is connected. Users whose sessions ended this shortly before the stream broke are probed
/// for again.
const RECENTLY: Duration = Duration::from_secs(60);
/// Upper bound of those users.
const RECENT_USERS: usize = 100_000;

/// Sessions and users that are online here. All addresses are global ones.
#[derive(Debug)]
pub struct Tracker {
    lease: Duration,
    sessions: HashMap<FullJid, Session>,
    users: HashMap<BareJid, User>,
    deadlines: Deadlines,
    /// Number of times that the component stream broke.
    breaks: u32,
    detached: bool,
    /// Users whose last session ended lately, oldest first, each with a recipient of the end.
    recent: VecDeque<(Instant, Probe)>,
    /// Users whose sessions expired only because the stream was down, each with a recipient in
    /// whose name to probe.
    lost: HashMap<BareJid, BareJid>,
    recent_ends: RecentEnds,
    probe_limiter: ProbeLimiter,
}

#[derive(Debug)]
struct Session {
    /// Ms since the Unix epoch.
    since: u64,
    recipients: PresenceRecipients,
    /// Whether the server's last list had it; the next one ends it otherwise.
    listed: bool,
    seen_at: Instant,
    /// Time at which the session ends if nothing is seen of it; `None` if recipients will be sent
    /// its end, or the server sends lists.
    ends: Option<Instant>,
    /// Time of the session's reminder in [`Deadlines`].
    reminder: Option<Instant>,
    /// The value of `breaks` when it was last seen.
    seen_after: u32,
}

#[derive(Debug)]
struct User {
    /// Start of the first session, in ms since the Unix epoch.
    since: u64,
    sessions: HashSet<FullJid>,
}

/// A JID went online or offline here: a full one, or a bare one with its
/// first or last session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SessionChange {
    /// `since` is in ms since the Unix epoch.
    Online {
        /// Full or bare.
        jid: Jid,
        /// Start of the session, or of the user's first one.
        since: u64,
    },
    /// The JID is not online here any more.
    Offline {
        /// Full or bare.
        jid: Jid,
    },
}

impl Tracker {
    /// Creates a tracker without sessions. A session that is known only by its traffic ends `lease`
    /// after its last stanza.
    #[must_use]
    pub fn new(lease: Duration) -> Self {
        Self {
            lease,
            sessions: HashMap::new(),
            users: HashMap::new(),
            deadlines: Deadlines::default(),
            breaks: 0,
            detached: false,
            recent: VecDeque::new(),
            lost: HashMap::new(),
            recent_ends: RecentEnds::default(),
            probe_limiter: ProbeLimiter::default(),
        }
    }

    /// Applies `event`; `wall` is in ms since the Unix epoch.
    pub fn observe(
        &mut self,
        event: &SessionEvent<'_>,
        now: Instant,
        wall: u64,
    ) -> Vec<SessionChange> {
        match event {
            SessionEvent::Available { session, to } => self.available(session, to, now, wall),
            SessionEvent::Unavailable { session, to } => self.unavailable(session, *to, now),
            SessionEvent::NobodyHome { user } => self.nobody_home(user, now),
            SessionEvent::Traffic { session } => self.traffic(session, now, wall),
            SessionEvent::Nothing => Vec::new(),
        }
    }

    fn available(
        &mut self,
        jid: &FullJid,
        to: &Jid,
        now: Instant,
        wall: u64,
    ) -> Vec<SessionChange> {
        let changes = self.begin(jid, now, wall);
        if let Some(session) = self.sessions.get_mut(jid) {
            session.recipients.insert(to);
        }
        self.confirm(jid, now);
        changes
    }

    fn unavailable(&mut self, jid: &FullJid, to: Option<&Jid>, now: Instant) -> Vec<SessionChange> {
        let Some(session) = self.sessions.get_mut(jid) else {
            return Vec::new();
        };
        let over = match to {
            Some(to) => {
                let told = session.recipients.remove(to);
                // Recipients of a session known by its traffic only are unknown, so an end sent to
                // a bare JID counts. Leaving a room does not end a session.
                session.recipients.is_empty() && (told || to.is_bare())
            }
            None => true,
        };
        if !over {
            return Vec::new();
        }
        let changes = self.end(jid, now);
        if let Some(to) = to.filter(|to| can_probe(to, jid)) {
            self.remember_recent(jid, to, now);
        }
        changes
    }

    fn remember_recent(&mut self, jid: &FullJid, told: &Jid, now: Instant) {
        let to = jid.to_bare();
        if self.users.contains_key(&to) {
            return;
        }
        let from = told.to_bare();
        self.recent.push_back((now, Probe { from, to }));
        self.forget_recent(now);
    }

    fn forget_recent(&mut self, now: Instant) {
        while let Some((at, _)) = self.recent.front()
            && (now.duration_since(*at) > RECENTLY || self.recent.len() > RECENT_USERS)
        {
            self.recent.pop_front();
        }
    }

    /// The server answered a probe: none of the user's sessions is there.
    fn nobody_home(&mut self, user: &BareJid, now: Instant) -> Vec<SessionChange> {
        let Some(sessions) = self.users.get(user).map(|user| user.sessions.clone()) else {
            return Vec::new();
        };
        let is_gone = |jid: &&FullJid| {
            self.sessions.get(*jid).is_some_and(|session| {
                session.seen_after != self.breaks && !session.recipients.is_empty()
            })
        };
        let gone: Vec<FullJid> = sessions.iter().filter(is_gone).cloned().collect();
        gone.iter().flat_map(|jid| self.end(jid, now)).collect()
    }

    fn traffic(&mut self, jid: &FullJid, now: Instant, wall: u64) -> Vec<SessionChange> {
        let changes = self.begin(jid, now, wall);
        self.confirm(jid, now);
        changes
    }

    fn begin(&mut self, jid: &FullJid, now: Instant, wall: u64) -> Vec<SessionChange> {
        if self.sessions.contains_key(jid) {
            return Vec::new();
        }
        self.sessions.insert(
            jid.clone(),
            Session {
                since: wall,
                recipients: PresenceRecipients::default(),
                listed: false,
                seen_at: now,
                ends: None,
                reminder: None,
                seen_after: self.breaks,
            },
        );
        let mut changes = vec![SessionChange::Online {
            jid: jid.clone().into(),
            since: wall,
        }];
        let bare = jid.to_bare();
        self.lost.remove(&bare);
        let user = self.users.entry(bare).or_insert_with_key(|bare| {
            changes.push(SessionChange::Online {
                jid: bare.clone().into(),
                since: wall,
            });
            User {
                since: wall,
                sessions: HashSet::new(),
            }
        });
        user.sessions.insert(jid.clone());
        changes
    }

    fn confirm(&mut self, jid: &FullJid, now: Instant) {
        let Some(session) = self.sessions.get_mut(jid) else {
            return;
        };
        session.seen_after = self.breaks;
        session.seen_at = now;
        session.ends = None;
        if session.recipients.is_empty() && !session.listed {
            session.end_at(now + self.lease, jid, &mut self.deadlines);
        }
    }

    fn end(&mut self, jid: &FullJid, now: Instant) -> Vec<SessionChange> {
        if self.sessions.remove(jid).is_none() {
            return Vec::new();
        }
        self.recent_ends.end(jid, now);
        let mut changes = vec![SessionChange::Offline {
            jid: jid.clone().into(),
        }];
        let bare = jid.to_bare();
        if let Some(user) = self.users.get_mut(&bare) {
            user.sessions.remove(jid);
            if user.sessions.is_empty() {
                self.users.remove(&bare);
                changes.push(SessionChange::Offline { jid: bare.into() });
            }
        }
        changes
    }

    /// Notes that the component stream is down: no session is confirmed any more. If the stream
    /// stays down, sessions end after the time of a lease, lest this host claims users for ever who
    /// have moved to another host long ago.
    pub fn detached(&mut self, now: Instant) {
        self.breaks = self.breaks.wrapping_add(1);
        if !self.detached {
            self.forget_recent(now);
        }
        self.detached = true;
        for (jid, session) in &mut self.sessions {
            if session.listed || !session.recipients.is_empty() {
                session.end_at(now + self.lease, jid, &mut self.deadlines);
            }
        }
    }

    /// Returns the time at which [`Self::expire`] is due next.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Instant> {
        self.deadlines.next()
    }

    /// Ends the sessions that were not seen in time.
    pub fn expire(&mut self, now: Instant) -> Vec<SessionChange> {
        let mut changes = Vec::new();
        while let Some((at, jid)) = self.deadlines.pop(now) {
            let Some(session) = self.sessions.get_mut(&jid) else {
                continue;
            };
            // Reminders are never removed before they are due; only the last one set counts.
            if session.reminder != Some(at) {
                continue;
            }
            session.reminder = None;
            match session.ends {
                Some(ends) if ends <= now => {
                    self.remember_lost(&jid);
                    changes.extend(self.end(&jid, now));
                }
                Some(ends) => session.end_at(ends, &jid, &mut self.deadlines),
                None => {}
            }
        }
        changes
    }

    fn remember_lost(&mut self, jid: &FullJid) {
        if !self.detached {
            return;
        }
        let session = self.sessions.get(jid);
        if let Some(from) = session.and_then(|session| session.recipients.prober(jid)) {
            self.lost.insert(jid.to_bare(), from);
        }
    }

    /// Returns the time since which `jid` (bare: any session of it) is online here, in ms since the
    /// Unix epoch.
    #[must_use]
    pub fn since(&self, jid: &Jid) -> Option<u64> {
        match jid.try_as_full() {
            Ok(full) => self.sessions.get(full).map(|session| session.since),
            Err(bare) => self.users.get(bare).map(|user| user.since),
        }
    }

    /// Number of sessions that are online.
    #[must_use]
    pub fn len(&self) -> usize {
        self.sessions.len()
    }

    /// Whether no session is online.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.sessions.is_empty()
    }
}

impl Session {
    fn end_at(&mut self, at: Instant, jid: &FullJid, deadlines: &mut Deadlines) {
        self.ends = Some(at);
        if self.reminder.is_none_or(|reminder| reminder > at) {
            self.reminder = Some(at);
            deadlines.push(at, jid.clone());
        }
    }
}
