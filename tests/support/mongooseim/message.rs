//! Messages: delivery to sessions, carbon copies (XEP-0280), archive, offline storage.

use jid::Jid;

use super::account::stamp;
use super::refusal::{Place, Refusal};
use super::session::{Number, Session, now};
use super::state::State;
use super::tree::Tree;

const CARBONS: &str = "urn:xmpp:carbons:2";
const DELAY: &str = "urn:xmpp:delay";
const HINTS: &str = "urn:xmpp:hints";
const CHAT_STATES: &str = "http://jabber.org/protocol/chatstates";

impl State {
    /// Processes a client's message; `from` is its full JID already.
    pub fn message_out(&mut self, number: Number, message: Tree) {
        let Some(user) = self.user_of(number) else {
            return;
        };
        if is_copied(&message) {
            let others = self.which_of(&user, |session| session.carbons);
            let others: Vec<Number> = others
                .into_iter()
                .filter(|other| *other != number)
                .collect();
            self.copy("sent", &user, &message, &others);
        }
        self.archive_message(&user, &message, "to");
        self.route(message);
    }

    /// Processes a message for a user.
    pub fn message_in(&mut self, user: &str, message: Tree, from: &Jid, to: &Jid) {
        let kind = message.attr("type").unwrap_or("normal").to_owned();
        let Some(account) = self.accounts.get(user) else {
            return self.bounce(&message, &kind);
        };
        if account.blocks(from) {
            return self.refuse(&message, &Refusal::unavailable(), Place::First);
        }
        let exact = to
            .try_as_full()
            .ok()
            .and_then(|full| self.find_session(full));
        match exact {
            Some(session) => self.deliver_exactly(session, user, message),
            None => self.deliver_widely(user, message, &kind, to),
        }
    }

    /// Delivers to exactly this session.
    fn deliver_exactly(&mut self, session: Number, user: &str, message: Tree) {
        let message = self
            .archive_message(user, &message, "from")
            .unwrap_or(message);
        self.send(session, message.clone());
        if is_copied(&message) {
            let others = self.which_of(user, |other| other.carbons);
            let others: Vec<Number> = others
                .into_iter()
                .filter(|other| *other != session)
                .collect();
            self.copy("received", user, &message, &others);
        }
    }

    /// Delivers to the bare JID, or to a session that has ended, which is nearly the same here.
    fn deliver_widely(&mut self, user: &str, message: Tree, kind: &str, to: &Jid) {
        let all = self.which_of(user, Session::takes_messages);
        match kind {
            "error" => {}
            // RFC 6121 §8.5.2.1.1: a groupchat message to a bare JID is never delivered.
            "groupchat" if to.is_bare() && !all.is_empty() => {
                self.refuse(&message, &Refusal::unavailable(), Place::First);
            }
            "groupchat" | "headline" if all.is_empty() => self.bounce(&message, kind),
            _ if all.is_empty() => self.store(user, message),
            _ => {
                let stamped = self.archive_message(user, &message, "from");
                let message = stamped.unwrap_or(message);
                for session in &all {
                    self.send(*session, message.clone());
                }
                // The server sends copies to all sessions except the message's own one. Here that
                // session has ended, so all sessions receive the message twice.
                if to.is_full() && is_copied(&message) {
                    let copied = self.which_of(user, |session| session.carbons);
                    self.copy("received", user, &message, &copied);
                }
            }
        }
    }

    /// Returns a message that no session receives and that is not stored.
    fn bounce(&mut self, message: &Tree, kind: &str) {
        let text = match kind {
            "groupchat" | "headline" => "Bounce offline message",
            _ => "User not found",
        };
        self.refuse(message, &Refusal::unavailable().saying(text), Place::First);
    }

    /// Stores a message for the next login, without an error to the sender.
    fn store(&mut self, user: &str, message: Tree) {
        let hinted = |hint: &str| message.children().any(|child| child.is(hint, HINTS));
        let is_kept = !hinted("no-store")
            && !hinted("no-storage")
            && (message.child("body").is_some() || message.child_in(CHAT_STATES).is_none());
        let message = self
            .archive_message(user, &message, "from")
            .unwrap_or(message);
        if is_kept {
            self.account_mut(user).offline.push((now(), message));
        }
    }

    /// Delivers the stored messages to a session that has become available.
    pub fn deliver_offline(&mut self, number: Number, user: &str) {
        let domain = self.domain.clone();
        let mut stored = std::mem::take(&mut self.account_mut(user).offline);
        // The server sorts by stamp, and reverses messages with equal stamps.
        stored.reverse();
        stored.sort_by_key(|(since, message)| {
            let delays = message.children().filter(|child| child.is("delay", DELAY));
            let stamps = delays.filter_map(|delay| delay.attr("stamp")?.parse().ok());
            stamps.min().unwrap_or(*since)
        });
        for (since, message) in stored {
            let delay = Tree::new("delay")
                .with("from", &domain)
                .with("stamp", &stamp(since))
                .with("xmlns", DELAY)
                .saying("Offline Storage");
            self.send(number, message.holding(delay));
        }
    }

    fn copy(&self, direction: &str, user: &str, message: &Tree, sessions: &[Number]) {
        let own = self.bare(user);
        for session in sessions {
            let Some(to) = self
                .session(*session)
                .map(|session| session.jid.to_string())
            else {
                continue;
            };
            let copy = Tree::new("message")
                .with("from", own.as_str())
                .with("to", &to)
                .with("type", message.attr("type").unwrap_or("normal"))
                .holding(
                    Tree::new(direction)
                        .with("xmlns", CARBONS)
                        .holding(forwarded(message)),
                );
            self.send(*session, copy);
        }
    }
}

/// XEP-0297.
pub fn forwarded(message: &Tree) -> Tree {
    let message = message.clone().with("xmlns", "jabber:client");
    Tree::new("forwarded")
        .with("xmlns", "urn:xmpp:forward:0")
        .holding(message)
}

/// XEP-0280 §6.1: chats, and whatever else has a body.
fn is_copied(message: &Tree) -> bool {
    let excluded = message.children().any(|child| {
        child.is("private", CARBONS)
            || child.is("no-copy", HINTS)
            // A copy is not copied again.
            || (child.ns() == CARBONS && child.child("forwarded").is_some())
    });
    let kind = message.attr("type").unwrap_or("normal");
    !excluded && (kind == "chat" || (kind == "normal" && message.child("body").is_some()))
}
