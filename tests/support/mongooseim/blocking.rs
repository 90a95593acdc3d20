//! Blocking (XEP-0191).

use std::collections::BTreeSet;

use jid::{BareJid, Jid};

use super::refusal::{Place, Refusal, result};
use super::session::Number;
use super::state::State;
use super::tree::Tree;

const BLOCKING: &str = "urn:xmpp:blocking";

impl State {
    /// Answers a client's query of its own blocklist, or a change of the list.
    pub fn blocking_query(&mut self, session: Number, user: &str, iq: &Tree, payload: &Tree) {
        let named = payload.children().filter_map(|item| item.attr("jid"));
        let named: Vec<BareJid> = named.filter_map(|jid| BareJid::new(jid).ok()).collect();
        match (iq.attr("type"), payload.name.as_str()) {
            (Some("get"), "blocklist") => {
                if let Some(session) = self.session_mut(session) {
                    session.wants_blocklist = true;
                }
                let list = Tree::new("blocklist").with("xmlns", BLOCKING);
                let list = self.account(user).blocked.iter().fold(list, |list, jid| {
                    list.holding(Tree::new("item").with("jid", jid.as_str()))
                });
                return self.send(session, result(iq, Some(list)));
            }
            (Some("set"), "block") if !named.is_empty() => {
                for jid in named {
                    let jid = Jid::from(jid);
                    if self.account(user).roster.shows_presence_to(&jid) {
                        // XEP-0191 §3.3: a blocked contact receives unavailable presence.
                        self.end_presence_for(user, &jid);
                    }
                    self.account_mut(user).blocked.insert(jid.to_bare());
                }
            }
            (Some("set"), "unblock") => {
                let blocked = std::mem::take(&mut self.account_mut(user).blocked);
                let (freed, kept): (BTreeSet<_>, BTreeSet<_>) = blocked
                    .into_iter()
                    .partition(|jid| named.is_empty() || named.contains(jid));
                self.account_mut(user).blocked = kept;
                self.show_presence_to_freed(user, freed);
            }
            _ => return self.refuse(iq, &Refusal::bad_request(), Place::Last),
        }
        self.send(session, result(iq, None));
        self.push_blocking(user, payload);
    }

    /// XEP-0191 §3.4: a contact who is unblocked receives the user's presence again.
    fn show_presence_to_freed(&mut self, user: &str, freed: BTreeSet<BareJid>) {
        for jid in freed.into_iter().map(Jid::from) {
            if self.account(user).roster.shows_presence_to(&jid) {
                self.show_presence_to(user, &jid);
            }
        }
    }

    fn push_blocking(&self, user: &str, payload: &Tree) {
        for number in self.which_of(user, |session| session.wants_blocklist) {
            let push = Tree::new("iq")
                .with("id", &self.new_id())
                .with("type", "set")
                .holding(payload.clone());
            self.send(number, push);
        }
    }

    /// XEP-0191 §3.6: a client's stanza to a contact whom the client blocks is returned with an
    /// error.
    pub fn is_blocked_by_sender(&self, session: Number, stanza: &Tree, to: &Jid) -> bool {
        let user = self.user_of(session);
        if !user.is_some_and(|user| self.account(&user).blocks(to)) {
            return false;
        }
        if stanza.name != "presence" {
            let refusal = Refusal::not_acceptable().with("blocked", "urn:xmpp:blocking:errors");
            // The usual route refuses every stanza with the address of a blocked contact.
            if let Some(error) = refusal.about(stanza, Place::First) {
                self.send(session, error);
            }
        }
        true
    }
}
