//! The state of the server, and the routing of a stanza through it.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use jid::{BareJid, FullJid, Jid};
use uuid::Uuid;

use super::account::Account;
use super::refusal::{Place, Refusal};
use super::rooms::Rooms;
use super::session::{Number, Outgoing, Session, now};
use super::tree::Tree;

/// A server: accounts survive a restart, everything else is lost.
#[derive(Debug)]
pub struct State {
    pub domain: String,
    /// The password in `[[listen.component]]`.
    pub password: String,
    pub check_from: bool,
    pub kick_old: bool,
    pub accounts: BTreeMap<String, Account>,
    sessions: BTreeMap<Number, Session>,
    pub components: BTreeMap<String, (Number, Outgoing)>,
    pub rooms: Option<Rooms>,
    /// The start time of the process.
    pub started: DateTime<Utc>,
    last: Number,
}

impl State {
    pub fn new(domain: &str, password: &str) -> Self {
        Self {
            domain: domain.to_owned(),
            password: password.to_owned(),
            check_from: true,
            kick_old: false,
            accounts: BTreeMap::new(),
            sessions: BTreeMap::new(),
            components: BTreeMap::new(),
            rooms: None,
            started: now(),
            last: 0,
        }
    }

    /// Removes everything that a process loses at its end and that is not on disk.
    pub fn forget_connections(&mut self) {
        self.sessions.clear();
        self.components.clear();
        if let Some(rooms) = &mut self.rooms {
            rooms.forget_occupants();
        }
    }

    pub fn next_number(&mut self) -> Number {
        self.last += 1;
        self.last
    }

    pub fn new_id(&self) -> String {
        Uuid::new_v4().simple().to_string()
    }

    /// # Panics
    /// When there is no such account.
    pub fn account(&self, user: &str) -> &Account {
        self.accounts.get(user).expect("an account")
    }

    /// # Panics
    /// When there is no such account.
    pub fn account_mut(&mut self, user: &str) -> &mut Account {
        self.accounts.get_mut(user).expect("an account")
    }

    /// The address of an account.
    pub fn bare(&self, user: &str) -> BareJid {
        BareJid::new(&format!("{user}@{}", self.domain)).expect("an account's address")
    }

    pub fn session(&self, number: Number) -> Option<&Session> {
        self.sessions.get(&number)
    }

    pub fn session_mut(&mut self, number: Number) -> Option<&mut Session> {
        self.sessions.get_mut(&number)
    }

    /// The account of a session.
    pub fn user_of(&self, session: Number) -> Option<String> {
        let node = self.session(session)?.jid.node()?;
        Some(node.to_string())
    }

    pub fn insert_session(&mut self, number: Number, session: Session) {
        self.sessions.insert(number, session);
    }

    pub fn remove_session(&mut self, number: Number) -> Option<Session> {
        self.sessions.remove(&number)
    }

    /// The session with that address.
    pub fn find_session(&self, jid: &FullJid) -> Option<Number> {
        let mut sessions = self.sessions.iter();
        sessions
            .find(|(_, session)| session.jid == *jid)
            .map(|(number, _)| *number)
    }

    /// The account's sessions, the newest first, which is MongooseIM's order.
    pub fn sessions_of(&self, user: &str) -> Vec<Number> {
        self.which_of(user, |_| true)
    }

    /// The account's sessions that have sent presence.
    pub fn available_of(&self, user: &str) -> Vec<Number> {
        self.which_of(user, Session::is_available)
    }

    /// The account's sessions that satisfy `which`.
    pub fn which_of(&self, user: &str, which: impl Fn(&Session) -> bool) -> Vec<Number> {
        let mine = self.sessions.iter().rev().filter(|(_, session)| {
            session.jid.node().is_some_and(|node| node.as_str() == user) && which(session)
        });
        mine.map(|(number, _)| *number).collect()
    }

    /// All full JIDs, in the form of `listSessions`.
    pub fn all_sessions(&self) -> Vec<String> {
        self.sessions
            .values()
            .map(|session| session.jid.to_string())
            .collect()
    }

    /// Sends a stanza to a session. For a hibernating session, the stanzas are kept until it is
    /// resumed, which the tests' clients never do.
    pub fn send(&self, session: Number, stanza: Tree) {
        if let Some(out) = self
            .session(session)
            .and_then(|session| session.out.as_ref())
        {
            out.write(stanza);
        }
    }

    /// Routes a stanza that has both addresses; every stanza passes here.
    pub fn route(&mut self, mut stanza: Tree) {
        let (Some(from), Some(to)) = (address(&stanza, "from"), address(&stanza, "to")) else {
            return;
        };
        stanza.set("from", from.as_str());
        stanza.set("to", to.as_str());
        stanza.unset("xmlns");
        let domain = to.domain().as_str();
        if domain == self.domain {
            self.route_here(stanza, &from, &to);
        } else if let Some((_, out)) = self.components.get(domain) {
            out.write(stanza);
        } else if self
            .rooms
            .as_ref()
            .is_some_and(|rooms| rooms.domain() == domain)
        {
            self.room_service(stanza, &from, &to);
        } else {
            self.refuse(&stanza, &Refusal::unavailable(), Place::First);
        }
    }

    fn route_here(&mut self, stanza: Tree, from: &Jid, to: &Jid) {
        let user = to.node().map(ToString::to_string);
        match (user, stanza.name.as_str()) {
            (Some(user), "message") => self.message_in(&user, stanza, from, to),
            (Some(user), "presence") => self.presence_in(&user, stanza, from, to),
            (Some(user), _) => self.query_in(&user, &stanza, from, to),
            (None, "iq") => self.host_query(&stanza, to),
            (None, "message") => self.refuse(&stanza, &Refusal::unavailable(), Place::First),
            // The server itself has no presence to probe.
            (None, _) => {}
        }
    }

    /// Returns the error to the sender, if an error may be sent.
    pub fn refuse(&mut self, stanza: &Tree, refusal: &Refusal, place: Place) {
        if let Some(error) = refusal.about(stanza, place) {
            self.route(error);
        }
    }

    /// Ends the session; `reason` is MongooseIM's text in the status.
    pub fn end_session(&mut self, number: Number, reason: &str) {
        let Some(user) = self.user_of(number) else {
            return;
        };
        self.say_unavailable(number, [Tree::new("status").saying(reason)].into_iter());
        self.remove_session(number);
        self.account_mut(&user).last = Some((now(), reason.to_owned()));
    }
}

/// An address of a stanza; `None` if it is not a JID.
pub fn address(stanza: &Tree, attribute: &str) -> Option<Jid> {
    Jid::new(stanza.attr(attribute)?).ok()
}
