//! Presence, without subscriptions (RFC 6121 §4).

use jid::Jid;

use super::account::stamp;
use super::session::{Number, now};
use super::state::State;
use super::tree::Tree;

impl State {
    /// Processes a client's presence; `from` is its full JID already.
    pub fn presence_out(&mut self, number: Number, presence: Tree, to: Option<Jid>) {
        let Some(user) = self.user_of(number) else {
            return;
        };
        let kind = presence.attr("type").map(str::to_owned);
        match (kind.as_deref(), to) {
            (None, None) => self.broadcast(number, &user, presence),
            (Some("unavailable"), None) => {
                self.say_unavailable(number, presence.children().cloned());
            }
            (Some("subscribe" | "subscribed" | "unsubscribe" | "unsubscribed"), Some(to)) => {
                self.subscription_out(&user, &to, presence);
            }
            (kind, Some(to)) => {
                if let Some(session) = self.session_mut(number) {
                    match kind {
                        None => drop(session.directed.insert(to)),
                        Some("unavailable") => drop(session.directed.remove(&to)),
                        _ => {}
                    }
                }
                self.route(presence);
            }
            (Some(_), None) => {}
        }
    }

    /// Broadcasts initial presence, or a change of it.
    fn broadcast(&mut self, number: Number, user: &str, presence: Tree) {
        let priority = presence.child("priority").map(Tree::text);
        let priority = priority
            .and_then(|text| text.trim().parse().ok())
            .unwrap_or(0);
        let Some(session) = self.session_mut(number) else {
            return;
        };
        let is_first = !session.is_available();
        let took_messages = session.takes_messages();
        session.presence = Some((now(), presence.clone()));
        session.priority = priority;
        let from = session.jid.clone();
        let roster = &self.account(user).roster;
        let (watched, watchers) = (roster.watched(), roster.watchers());
        if is_first {
            for contact in watched {
                // The probe is sent from the full JID, as MongooseIM does.
                let probe = Tree::new("presence").with("type", "probe");
                self.route(
                    probe
                        .with("from", from.as_str())
                        .with("to", contact.as_str()),
                );
            }
        }
        for contact in self.not_blocked(user, watchers) {
            self.route(presence.clone().with("to", contact.as_str()));
        }
        self.share_among_resources(number, user, &presence, is_first);
        if is_first {
            for request in self.account(user).roster.requests() {
                self.send(number, request);
            }
        }
        if !took_messages && priority >= 0 {
            self.deliver_offline(number, user);
        }
    }

    /// Sends presence among the user's own sessions (RFC 6121 §4.2.2).
    fn share_among_resources(
        &mut self,
        number: Number,
        user: &str,
        presence: &Tree,
        is_first: bool,
    ) {
        let own = self.bare(user);
        for other in self.available_of(user) {
            self.send(other, presence.clone().with("to", own.as_str()));
            let shown = self
                .session(other)
                .and_then(|session| session.presence.clone());
            if let (true, true, Some((_, shown))) = (is_first, other != number, shown) {
                self.send(number, shown.with("to", own.as_str()));
            }
        }
    }

    /// Sends unavailable presence to all who have received the available presence. A session that
    /// never broadcast sends none, not even to recipients of its directed presence.
    pub fn say_unavailable(&mut self, number: Number, payload: impl Iterator<Item = Tree>) {
        let Some(user) = self.user_of(number) else {
            return;
        };
        let Some(session) = self.session_mut(number) else {
            return;
        };
        let directed = std::mem::take(&mut session.directed);
        if session.presence.take().is_none() {
            return;
        }
        let from = session.jid.clone();
        let presence = Tree::new("presence")
            .with("from", from.as_str())
            .with("type", "unavailable");
        let presence = payload.fold(presence, Tree::holding);
        let watchers = self.account(&user).roster.watchers();
        let more = directed.into_iter().filter(|to| !watchers.contains(to));
        let all: Vec<Jid> = watchers.iter().cloned().chain(more).collect();
        for to in self.not_blocked(&user, all) {
            self.route(presence.clone().with("to", to.as_str()));
        }
        let own = self.bare(&user);
        for other in self.available_of(&user) {
            self.send(other, presence.clone().with("to", own.as_str()));
        }
    }

    fn not_blocked(&self, user: &str, mut contacts: Vec<Jid>) -> Vec<Jid> {
        let account = self.account(user);
        contacts.retain(|contact| !account.blocks(contact));
        contacts
    }

    /// Sends the presence to a contact who may see it from now on.
    pub fn show_presence_to(&mut self, user: &str, to: &Jid) {
        for session in self.available_of(user) {
            let shown = self
                .session(session)
                .and_then(|session| session.presence.clone());
            if let Some((_, shown)) = shown {
                self.route(shown.with("to", to.as_str()));
            }
        }
    }

    /// Sends unavailable presence to a contact who may not see the presence any more.
    pub fn end_presence_for(&mut self, user: &str, to: &Jid) {
        for session in self.available_of(user) {
            let Some(from) = self.session(session).map(|session| session.jid.clone()) else {
                continue;
            };
            let gone = Tree::new("presence").with("type", "unavailable");
            self.route(gone.with("from", from.as_str()).with("to", to.as_str()));
        }
    }

    /// Processes presence for a user.
    pub fn presence_in(&mut self, user: &str, presence: Tree, from: &Jid, to: &Jid) {
        let Some(account) = self.accounts.get(user) else {
            return;
        };
        if account.blocks(from) {
            return;
        }
        match presence.attr("type") {
            Some("probe") => self.probed(user, from),
            Some("subscribe" | "subscribed" | "unsubscribe" | "unsubscribed") => {
                self.subscription_in(user, from, presence);
            }
            _ => {
                let sessions = match to.try_as_full() {
                    Ok(full) => self.find_session(full).into_iter().collect(),
                    Err(_) => self.available_of(user),
                };
                for session in sessions {
                    self.send(session, presence.clone());
                }
            }
        }
    }

    /// Answers a probe with one presence for each resource, also hibernating ones; no answer to a
    /// sender who may not see the presence.
    fn probed(&mut self, user: &str, from: &Jid) {
        let is_own = from.to_bare() == self.bare(user);
        if !is_own && !self.account(user).roster.shows_presence_to(from) {
            return;
        }
        for session in self.available_of(user) {
            let Some(session) = self.session(session) else {
                continue;
            };
            let Some((since, shown)) = session.presence.clone() else {
                continue;
            };
            let delay = Tree::new("delay")
                .with("from", session.jid.as_str())
                .with("stamp", &stamp(since))
                .with("xmlns", "urn:xmpp:delay")
                .saying("Delayed presence");
            let mut shown = shown.with("to", from.as_str());
            shown.push_first(delay);
            self.route(shown);
        }
    }
}
