//! Contacts and subscriptions (RFC 6121 §2, §3).

use std::collections::BTreeMap;

use jid::{BareJid, Jid};

use super::refusal::{Place, Refusal, result};
use super::session::Number;
use super::state::State;
use super::tree::Tree;

const ROSTER: &str = "jabber:iq:roster";

/// One contact.
#[derive(Debug, Clone, Default)]
pub struct Item {
    name: Option<String>,
    groups: Vec<String>,
    /// The account receives the contact's presence.
    pub to: bool,
    /// The contact receives the account's presence.
    pub from: bool,
    /// A subscription request to the contact is pending.
    pub asked: bool,
    /// The contact's request, which the user has not answered yet.
    pub request: Option<Tree>,
    /// The user has added the contact; a request alone does not show.
    listed: bool,
}

/// The contacts of one account, in the order of MongooseIM's captured broadcasts:
/// domains first.
#[derive(Debug, Default)]
pub struct Roster(BTreeMap<(Option<String>, String), Item>);

fn key(contact: &BareJid) -> (Option<String>, String) {
    let node = contact.node().map(ToString::to_string);
    (node, contact.domain().to_string())
}

fn contact((node, domain): &(Option<String>, String)) -> Jid {
    let text = node
        .as_ref()
        .map_or_else(|| domain.clone(), |node| format!("{node}@{domain}"));
    Jid::new(&text).expect("the address of a contact")
}

impl Roster {
    pub fn get(&self, jid: &Jid) -> Option<&Item> {
        self.0.get(&key(&jid.to_bare()))
    }

    pub fn entry(&mut self, jid: &Jid) -> &mut Item {
        self.0.entry(key(&jid.to_bare())).or_default()
    }

    fn remove(&mut self, jid: &Jid) -> Option<Item> {
        self.0.remove(&key(&jid.to_bare()))
    }

    /// Contacts from which the account receives presence.
    pub fn watched(&self) -> Vec<Jid> {
        self.all(|item| item.to)
    }

    /// Contacts to which the account sends presence.
    pub fn watchers(&self) -> Vec<Jid> {
        self.all(|item| item.from)
    }

    fn all(&self, which: impl Fn(&Item) -> bool) -> Vec<Jid> {
        let some = self.0.iter().filter(|(_, item)| which(item));
        some.map(|(key, _)| contact(key)).collect()
    }

    /// Requests that the user has not answered.
    pub fn requests(&self) -> Vec<Tree> {
        self.0
            .values()
            .filter_map(|item| item.request.clone())
            .collect()
    }

    pub fn shows_presence_to(&self, jid: &Jid) -> bool {
        self.get(jid).is_some_and(|item| item.from)
    }

    fn query(&self) -> Tree {
        let shown = self.0.iter().filter(|(_, item)| item.is_shown());
        shown.fold(
            Tree::new("query").with("xmlns", ROSTER),
            |query, (key, item)| query.holding(item.tree(&contact(key))),
        )
    }
}

impl Item {
    fn is_shown(&self) -> bool {
        self.listed || self.to || self.from || self.asked
    }

    fn tree(&self, jid: &Jid) -> Tree {
        let subscription = match (self.to, self.from) {
            (true, true) => "both",
            (true, false) => "to",
            (false, true) => "from",
            (false, false) => "none",
        };
        let mut item = Tree::new("item")
            .with("jid", jid.as_str())
            .with("subscription", subscription);
        if self.asked {
            item.set("ask", "subscribe");
        }
        if let Some(name) = &self.name {
            item.set("name", name);
        }
        let groups = self.groups.iter();
        groups.fold(item, |item, group| {
            item.holding(Tree::new("group").saying(group))
        })
    }
}

impl State {
    /// Answers a client's query of its own roster.
    pub fn roster_query(&mut self, session: Number, iq: &Tree, query: &Tree) {
        let Some(user) = self.user_of(session) else {
            return;
        };
        if iq.attr("type") == Some("get") {
            if let Some(session) = self.session_mut(session) {
                session.wants_pushes = true;
            }
            let query = self.account(&user).roster.query();
            return self.send(session, result(iq, Some(query)));
        }
        let item = query.child("item");
        let Some((item, jid)) =
            item.and_then(|item| Some((item, Jid::new(item.attr("jid")?).ok()?)))
        else {
            let refusal = Refusal::bad_request().about(iq, Place::Last);
            return refusal
                .into_iter()
                .for_each(|error| self.send(session, error));
        };
        if item.attr("subscription") == Some("remove") {
            self.remove_contact(&user, &jid);
        } else {
            let entry = self.account_mut(&user).roster.entry(&jid);
            entry.name = item.attr("name").map(str::to_owned);
            entry.groups = item.children().map(Tree::text).collect();
            entry.listed = true;
            self.push_roster(&user, &jid);
        }
        self.send(session, result(iq, None));
    }

    /// Removes a contact; RFC 6121 §2.5.2 ends both subscriptions first.
    fn remove_contact(&mut self, user: &str, jid: &Jid) {
        let Some(item) = self.account_mut(user).roster.remove(jid) else {
            return;
        };
        if item.to || item.asked {
            self.route_presence("unsubscribe", user, jid);
        }
        if item.from || item.request.is_some() {
            self.route_presence("unsubscribed", user, jid);
        }
        if item.from {
            self.end_presence_for(user, jid);
        }
        let gone = Tree::new("item")
            .with("jid", jid.to_bare().as_str())
            .with("subscription", "remove");
        self.push_item(user, &gone);
    }

    fn route_presence(&mut self, kind: &str, user: &str, to: &Jid) {
        let presence = Tree::new("presence")
            .with("from", self.bare(user).as_str())
            .with("to", to.to_bare().as_str())
            .with("type", kind);
        self.route(presence);
    }

    fn push_roster(&mut self, user: &str, jid: &Jid) {
        let bare = Jid::from(jid.to_bare());
        let item = self.account(user).roster.get(&bare);
        let Some(item) = item
            .filter(|item| item.is_shown())
            .map(|item| item.tree(&bare))
        else {
            return;
        };
        self.push_item(user, &item);
    }

    fn push_item(&mut self, user: &str, item: &Tree) {
        for session in self.sessions_of(user) {
            if self
                .session(session)
                .is_some_and(|session| session.wants_pushes)
            {
                let id = self.new_id();
                let push = Tree::new("iq").with("id", &id).with("type", "set").holding(
                    Tree::new("query")
                        .with("xmlns", ROSTER)
                        .holding(item.clone()),
                );
                self.send(session, push);
            }
        }
    }

    /// Processes a client's subscription stanza (RFC 6121 §3, "outbound").
    pub fn subscription_out(&mut self, user: &str, to: &Jid, mut presence: Tree) {
        let to = Jid::from(to.to_bare());
        presence.set("from", self.bare(user).as_str());
        presence.set("to", to.as_str());
        let kind = presence.attr("type").unwrap_or_default().to_owned();
        let item = self.account_mut(user).roster.entry(&to);
        let goes_out = match kind.as_str() {
            "subscribe" => {
                item.asked |= !item.to;
                item.listed = true;
                true
            }
            "unsubscribe" => {
                let had = item.to || item.asked;
                (item.to, item.asked) = (false, false);
                had
            }
            "subscribed" => {
                let request = item.request.take();
                item.from |= request.is_some();
                request.is_some()
            }
            _ => {
                let had = item.from || item.request.take().is_some();
                (item.from, item.request) = (false, None);
                had
            }
        };
        if !goes_out {
            return;
        }
        self.push_roster(user, &to);
        self.route(presence);
        match kind.as_str() {
            "subscribed" => self.show_presence_to(user, &to),
            "unsubscribed" => self.end_presence_for(user, &to),
            _ => {}
        }
    }

    /// Processes a subscription stanza for a user (RFC 6121 §3, "inbound").
    pub fn subscription_in(&mut self, user: &str, from: &Jid, presence: Tree) {
        let kind = presence.attr("type").unwrap_or_default().to_owned();
        let item = self.account_mut(user).roster.entry(from);
        let is_news = match kind.as_str() {
            "subscribe" if item.from => {
                return self.route_presence("subscribed", user, from);
            }
            "subscribe" => {
                item.request = Some(presence.clone());
                true
            }
            "unsubscribe" => {
                let had = item.from || item.request.take().is_some();
                (item.from, item.request) = (false, None);
                had
            }
            "subscribed" => {
                let asked = std::mem::take(&mut item.asked);
                item.to |= asked;
                asked
            }
            _ => {
                let had = item.to || item.asked;
                (item.to, item.asked) = (false, false);
                had
            }
        };
        if !is_news {
            return;
        }
        if kind != "subscribe" {
            self.push_roster(user, from);
        }
        for session in self.available_of(user) {
            self.send(session, presence.clone());
        }
        if kind == "unsubscribe" {
            self.end_presence_for(user, from);
        }
    }
}
