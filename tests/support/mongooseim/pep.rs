//! Personal eventing (XEP-0163): publish, fetch, subscribe. MongooseIM does not query remote
//! contacts' capabilities, so no remote contact receives `+notify` events.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use jid::Jid;

use super::refusal::{Place, Refusal, result};
use super::session::now;
use super::state::{State, address};
use super::tree::Tree;

pub const PUBSUB: &str = "http://jabber.org/protocol/pubsub";
const EVENT: &str = "http://jabber.org/protocol/pubsub#event";
const ERRORS: &str = "http://jabber.org/protocol/pubsub#errors";
/// Items per node: `max_items` of a node of MongooseIM's pep plugin.
const MOST: usize = 10;

/// A node of an account, with its items.
#[derive(Debug)]
pub struct Node {
    /// `access_model` is `open`, not `presence`.
    is_open: bool,
    /// `presence_based_delivery`: notifies only subscribers with a session that the server sees;
    /// the server sees no remote session.
    follows_presence: bool,
    /// Items, oldest first.
    items: Vec<Item>,
    /// Subscribers and their subscription ids.
    subscribers: BTreeMap<Jid, String>,
}

impl Default for Node {
    fn default() -> Self {
        Self {
            is_open: false,
            follows_presence: true,
            items: Vec::new(),
            subscribers: BTreeMap::new(),
        }
    }
}

#[derive(Debug, Clone)]
struct Item {
    id: String,
    /// The `<item/>` itself.
    tree: Tree,
    publisher: Option<Jid>,
    time: DateTime<Utc>,
}

impl State {
    /// Answers the owner's request.
    pub fn own_pep(&mut self, user: &str, iq: &Tree, pubsub: &Tree) {
        let Some(action) = pubsub.children().next() else {
            return self.refuse(iq, &Refusal::bad_request(), Place::First);
        };
        let node = action.attr("node").unwrap_or_default().to_owned();
        match action.name.as_str() {
            "publish" => self.publish(user, iq, &node, action),
            "retract" => self.retract(user, iq, &node, action),
            "create" => {
                self.account_mut(user).pep.entry(node).or_default();
                self.route(result(iq, None));
            }
            "configure" => self.configure(user, iq, &node, action),
            "delete" => match self.account_mut(user).pep.remove(&node) {
                Some(_) => self.route(result(iq, None)),
                None => self.refuse(iq, &Refusal::not_found(), Place::First),
            },
            _ => {
                let own = Jid::from(self.bare(user));
                self.others_pep(user, iq, pubsub, &own);
            }
        }
    }

    /// XEP-0060 §8.2, with two supported options.
    fn configure(&mut self, user: &str, iq: &Tree, name: &str, configure: &Tree) {
        let Some(node) = self.account_mut(user).pep.get_mut(name) else {
            return self.refuse(iq, &Refusal::not_found(), Place::First);
        };
        for field in configure.child("x").into_iter().flat_map(Tree::children) {
            let value = field.child("value").map(Tree::text).unwrap_or_default();
            match field.attr("var") {
                Some("pubsub#access_model") => node.is_open = value == "open",
                Some("pubsub#presence_based_delivery") => {
                    node.follows_presence = matches!(value.as_str(), "1" | "true");
                }
                _ => {}
            }
        }
        self.route(result(iq, None));
    }

    fn publish(&mut self, user: &str, iq: &Tree, name: &str, publish: &Tree) {
        let Some(item) = publish.child("item").cloned() else {
            return self.refuse(iq, &Refusal::bad_request(), Place::First);
        };
        let id = item.attr("id").map_or_else(|| self.new_id(), str::to_owned);
        let published = Item {
            tree: item.with("id", &id),
            id: id.clone(),
            publisher: address(iq, "from"),
            time: now(),
        };
        let node = self
            .account_mut(user)
            .pep
            .entry(name.to_owned())
            .or_default();
        node.items.retain(|item| item.id != id);
        node.items.push(published.clone());
        let too_many = node.items.len().saturating_sub(MOST);
        node.items.drain(..too_many);
        for subscriber in self.notified(user, name) {
            self.notify(user, name, &published, &subscriber, false);
        }
        let done = Tree::new("publish").with("node", name);
        let done = done.holding(Tree::new("item").with("id", &id));
        self.route(result(iq, Some(pubsub_with(done))));
    }

    fn retract(&mut self, user: &str, iq: &Tree, name: &str, retract: &Tree) {
        let id = retract.child("item").and_then(|item| item.attr("id"));
        let node = self.account_mut(user).pep.get_mut(name);
        let (Some(node), Some(id)) = (node, id) else {
            return self.refuse(iq, &Refusal::not_found(), Place::First);
        };
        node.items.retain(|item| item.id != id);
        for subscriber in self.notified(user, name) {
            let gone = Tree::new("items")
                .with("node", name)
                .holding(Tree::new("retract").with("id", id));
            self.send_event(user, &subscriber, gone, None);
        }
        self.route(result(iq, None));
    }

    /// The subscribers who are notified of new items.
    fn notified(&self, user: &str, name: &str) -> Vec<Jid> {
        let Some(node) = self.account(user).pep.get(name) else {
            return Vec::new();
        };
        let is_here = |jid: &&Jid| jid.domain().as_str() == self.domain;
        let all = node.subscribers.keys();
        all.filter(|jid| !node.follows_presence || is_here(jid))
            .cloned()
            .collect()
    }

    /// Answers a request from anybody.
    pub fn others_pep(&mut self, user: &str, iq: &Tree, pubsub: &Tree, from: &Jid) {
        let Some(action) = pubsub.children().next() else {
            return self.refuse(iq, &Refusal::bad_request(), Place::First);
        };
        let name = action.attr("node").unwrap_or_default();
        let account = self.accounts.get(user);
        let Some((account, node)) = account.and_then(|it| Some((it, it.pep.get(name)?))) else {
            return self.refuse(iq, &Refusal::not_found(), Place::First);
        };
        let is_own = from.to_bare() == self.bare(user);
        if !is_own && !node.is_open && !account.roster.shows_presence_to(from) {
            let refusal = Refusal::not_authorized().with("presence-subscription-required", ERRORS);
            return self.refuse(iq, &refusal, Place::First);
        }
        match action.name.as_str() {
            "items" => {
                let found = node.found(name, action);
                self.route(result(iq, Some(pubsub_with(found))));
            }
            "subscribe" => self.subscribe(user, iq, name, action, from),
            "unsubscribe" => {
                let jid = address(action, "jid");
                let node = self.account_mut(user).pep.get_mut(name);
                let gone = jid.and_then(|jid| node?.subscribers.remove(&jid));
                match gone {
                    Some(_) => self.route(result(iq, None)),
                    None => self.refuse(iq, &Refusal::not_found(), Place::First),
                }
            }
            "publish" | "retract" | "create" | "delete" => {
                self.refuse(iq, &Refusal::forbidden(), Place::First);
            }
            _ => self.refuse(iq, &Refusal::not_implemented(), Place::First),
        }
    }

    /// Subscribes; the last item is sent before the answer.
    fn subscribe(&mut self, user: &str, iq: &Tree, name: &str, action: &Tree, from: &Jid) {
        let jid = address(action, "jid").filter(|jid| jid.to_bare() == from.to_bare());
        let Some(jid) = jid else {
            let refusal = Refusal::bad_request().with("invalid-jid", ERRORS);
            return self.refuse(iq, &refusal, Place::First);
        };
        let random = uuid::Uuid::new_v4().as_u128();
        let subid = format!(
            "{}-{}-{}",
            random % 10_000,
            random % 1_000_003,
            random % 999_983
        );
        let Some(node) = self.account_mut(user).pep.get_mut(name) else {
            return self.refuse(iq, &Refusal::not_found(), Place::First);
        };
        node.subscribers.insert(jid.clone(), subid.clone());
        if let Some(last) = node.items.last().cloned() {
            self.notify(user, name, &last, &jid, true);
        }
        let done = Tree::new("subscription")
            .with("jid", jid.as_str())
            .with("node", name)
            .with("subid", &subid)
            .with("subscription", "subscribed");
        self.route(result(iq, Some(pubsub_with(done))));
    }

    fn notify(&mut self, user: &str, name: &str, item: &Item, to: &Jid, is_late: bool) {
        let mut items = Tree::new("items").with("node", name);
        if is_late {
            // MongooseIM adds the type here too, for no known reason.
            items.set("type", "headline");
        }
        let delay = is_late.then(|| {
            let publisher = item.publisher.as_ref().map_or("", Jid::as_str);
            Tree::new("delay")
                .with("from", publisher)
                .with("stamp", &item.time.format("%Y-%m-%dT%H:%M:%SZ").to_string())
                .with("xmlns", "urn:xmpp:delay")
                .saying("")
        });
        self.send_event(user, to, items.holding(item.tree.clone()), delay);
    }

    fn send_event(&mut self, user: &str, to: &Jid, items: Tree, delay: Option<Tree>) {
        let event = Tree::new("event").with("xmlns", EVENT).holding(items);
        let message = Tree::new("message")
            .with("from", self.bare(user).as_str())
            .with("to", to.as_str())
            .with("type", "headline")
            .holding(event);
        self.route(delay.into_iter().fold(message, Tree::holding));
    }
}

impl Node {
    /// The newest items first, or the requested ones.
    fn found(&self, name: &str, asked: &Tree) -> Tree {
        let ids: Vec<&str> = asked
            .children()
            .filter_map(|item| item.attr("id"))
            .collect();
        let most = asked
            .attr("max_items")
            .and_then(|max| max.parse().ok())
            .unwrap_or(MOST);
        let items = self.items.iter().rev();
        let items = items.filter(|item| ids.is_empty() || ids.contains(&item.id.as_str()));
        items
            .take(most)
            .fold(Tree::new("items").with("node", name), |found, item| {
                found.holding(item.tree.clone())
            })
    }
}

fn pubsub_with(child: Tree) -> Tree {
    Tree::new("pubsub").with("xmlns", PUBSUB).holding(child)
}
