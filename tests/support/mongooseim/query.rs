//! Queries to an account, which the server answers for the account.

use jid::Jid;

use super::archive::MAM;
use super::pep::PUBSUB;
use super::refusal::{Place, Refusal, result};
use super::session::{Number, now};
use super::state::State;
use super::tree::Tree;

const DISCO_INFO: &str = "http://jabber.org/protocol/disco#info";
const DISCO_ITEMS: &str = "http://jabber.org/protocol/disco#items";
const LAST: &str = "jabber:iq:last";

impl State {
    /// Processes an iq for a user or for a session of the user.
    pub fn query_in(&mut self, user: &str, iq: &Tree, from: &Jid, to: &Jid) {
        if self
            .accounts
            .get(user)
            .is_some_and(|account| account.blocks(from))
        {
            return self.refuse(iq, &Refusal::unavailable(), Place::First);
        }
        if let Ok(full) = to.try_as_full() {
            return match self.find_session(full) {
                Some(session) => self.send(session, iq.clone()),
                None => self.refuse(
                    iq,
                    &Refusal::unavailable().saying("Route offline"),
                    Place::First,
                ),
            };
        }
        let payload = iq.children().next();
        match (iq.attr("type"), payload) {
            (Some("result" | "error"), _) => {}
            (Some("get" | "set"), Some(payload)) => {
                let asker = from
                    .try_as_full()
                    .ok()
                    .and_then(|full| self.find_session(full));
                let is_own = from.to_bare() == to.to_bare();
                match asker.filter(|_| is_own) {
                    Some(session) => self.own_query(session, user, iq, payload),
                    None => self.others_query(user, iq, payload, from),
                }
            }
            _ => self.refuse(iq, &Refusal::bad_request(), Place::First),
        }
    }

    /// Answers a client's query of its own account.
    fn own_query(&mut self, session: Number, user: &str, iq: &Tree, payload: &Tree) {
        let sets = iq.attr("type") == Some("set");
        match (payload.name.as_str(), payload.ns()) {
            ("query", "jabber:iq:roster") => self.roster_query(session, iq, payload),
            ("query", "jabber:iq:private") => self.private_query(session, user, iq, payload),
            ("vCard", "vcard-temp") if sets => {
                self.account_mut(user).vcard = Some(payload.clone());
                self.send(session, result(iq, None));
            }
            ("blocklist" | "block" | "unblock", "urn:xmpp:blocking") => {
                self.blocking_query(session, user, iq, payload);
            }
            ("enable" | "disable", "urn:xmpp:carbons:2") => {
                let enables = payload.name == "enable";
                if let Some(session) = self.session_mut(session) {
                    session.carbons = enables;
                }
                self.send(session, result(iq, None));
            }
            ("query", MAM) => self.archive_query(session, user, iq, payload),
            ("session", "urn:ietf:params:xml:ns:xmpp-session") => {
                self.send(session, result(iq, None))
            }
            ("query", DISCO_INFO) => {
                self.send(session, result(iq, Some(own_info())));
            }
            ("query", DISCO_ITEMS) => {
                let own = self.bare(user);
                let items = self.account(user).pep.keys().fold(
                    Tree::new("query").with("xmlns", DISCO_ITEMS),
                    |query, node| {
                        let item = Tree::new("item").with("jid", own.as_str());
                        query.holding(item.with("node", node))
                    },
                );
                self.send(session, result(iq, Some(items)));
            }
            (_, ns) if ns.starts_with(PUBSUB) => self.own_pep(user, iq, payload),
            _ => {
                let from = self.bare(user).into();
                self.others_query(user, iq, payload, &from);
            }
        }
    }

    /// Answers a query from any other user; only where necessary does the answer show whether the
    /// account exists.
    fn others_query(&mut self, user: &str, iq: &Tree, payload: &Tree, from: &Jid) {
        match (payload.name.as_str(), payload.ns()) {
            ("ping", "urn:xmpp:ping") => self.route(result(iq, None)),
            // MongooseIM looks the sender's domain up as a local one.
            ("query", DISCO_INFO | DISCO_ITEMS) if from.domain().as_str() != self.domain => {
                self.refuse(iq, &Refusal::internal(), Place::Last);
            }
            ("query", DISCO_INFO | DISCO_ITEMS) => {
                self.refuse(iq, &Refusal::unavailable(), Place::Last);
            }
            ("vCard", "vcard-temp") if iq.attr("type") == Some("get") => {
                match self
                    .accounts
                    .get(user)
                    .and_then(|account| account.vcard.clone())
                {
                    Some(vcard) => self.route(result(iq, Some(vcard))),
                    None => self.refuse(iq, &Refusal::not_found(), Place::Last),
                }
            }
            ("vCard", "vcard-temp") => self.refuse(iq, &Refusal::not_allowed(), Place::Last),
            ("query", "jabber:iq:roster") => {
                let text = "It is forbidden to query the roster of another user";
                self.refuse(iq, &Refusal::forbidden().saying(text), Place::Last);
            }
            ("query", "jabber:iq:private") => {
                let text = "Only requests from/to your JID are allowed";
                self.refuse(iq, &Refusal::forbidden().saying(text), Place::Last);
            }
            ("query", LAST) => self.last_query(user, iq, from),
            ("pubsub", PUBSUB) => self.others_pep(user, iq, payload, from),
            (_, ns) => {
                let text = format!("Unknown xmlns={ns} for host={}", self.domain);
                self.refuse(iq, &Refusal::unavailable().saying(&text), Place::First);
            }
        }
    }

    /// Answers XEP-0012 for users with a subscription to the presence.
    fn last_query(&mut self, user: &str, iq: &Tree, from: &Jid) {
        let account = self.accounts.get(user);
        let Some(account) = account.filter(|account| account.roster.shows_presence_to(from)) else {
            return self.refuse(iq, &Refusal::forbidden(), Place::Last);
        };
        let (seconds, status) = match (&account.last, self.sessions_of(user).is_empty()) {
            (Some((since, status)), true) => ((now() - *since).num_seconds(), status.clone()),
            _ => (0, String::new()),
        };
        let query = Tree::new("query")
            .with("seconds", &seconds.to_string())
            .with("xmlns", LAST)
            .saying(&status);
        self.route(result(iq, Some(query)));
    }

    /// XEP-0049.
    fn private_query(&mut self, session: Number, user: &str, iq: &Tree, query: &Tree) {
        let sets = iq.attr("type") == Some("set");
        let private = &mut self.account_mut(user).private;
        let mut found = Tree::new("query").with("xmlns", query.ns());
        for asked in query.children() {
            let key = (asked.name.clone(), asked.ns().to_owned());
            if sets {
                private.insert(key, asked.clone());
            } else {
                found.push(private.get(&key).unwrap_or(asked).clone());
            }
        }
        self.send(session, result(iq, (!sets).then_some(found)));
    }
}

/// The result of XEP-0030 §3, of an account to itself.
fn own_info() -> Tree {
    let info = Tree::new("query").with("xmlns", DISCO_INFO);
    let identities = [("account", "registered"), ("pubsub", "pep")];
    let info = identities.into_iter().fold(info, |info, (category, kind)| {
        info.holding(
            Tree::new("identity")
                .with("category", category)
                .with("type", kind),
        )
    });
    let features = [
        DISCO_INFO,
        DISCO_ITEMS,
        PUBSUB,
        MAM,
        "urn:xmpp:carbons:2",
        "vcard-temp",
    ];
    features.into_iter().fold(info, |info, feature| {
        info.holding(Tree::new("feature").with("var", feature))
    })
}
