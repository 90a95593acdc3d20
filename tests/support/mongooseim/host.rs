//! Queries to the server itself.

use chrono::SecondsFormat;
use jid::Jid;

use super::refusal::{Place, Refusal, result};
use super::session::now;
use super::state::State;
use super::tree::Tree;

const DISCO_INFO: &str = "http://jabber.org/protocol/disco#info";
const DISCO_ITEMS: &str = "http://jabber.org/protocol/disco#items";
const COMMANDS: &str = "http://jabber.org/protocol/commands";

/// The disco#info result of MongooseIM 6.8.0, as captured.
const INFO: &str = include_str!("info.xml");

impl State {
    /// Answers an iq to the server, or to a resource of its domain.
    pub fn host_query(&mut self, iq: &Tree, to: &Jid) {
        let payload = match (iq.attr("type"), iq.children().next()) {
            (Some("result" | "error"), _) => return,
            (Some("get" | "set"), Some(payload)) => payload,
            _ => return self.refuse(iq, &Refusal::bad_request(), Place::First),
        };
        if to.is_full() {
            return self.refuse(iq, &Refusal::not_found(), Place::First);
        }
        let answer = match (payload.name.as_str(), payload.ns()) {
            ("ping", "urn:xmpp:ping") => None,
            ("query", "jabber:iq:version") => Some(
                Tree::new("query")
                    .with("xmlns", payload.ns())
                    .holding(Tree::new("name").saying("MongooseIM"))
                    .holding(Tree::new("version").saying("6.8.0")),
            ),
            ("time", "urn:xmpp:time") => {
                let utc = now().to_rfc3339_opts(SecondsFormat::Secs, true);
                Some(
                    Tree::new("time")
                        .with("xmlns", payload.ns())
                        .holding(Tree::new("tzo").saying("+00:00"))
                        .holding(Tree::new("utc").saying(&utc)),
                )
            }
            ("query", "jabber:iq:last") => {
                let up = (now() - self.started).num_seconds().to_string();
                let query = Tree::new("query").with("seconds", &up);
                Some(query.with("xmlns", payload.ns()))
            }
            ("query", DISCO_INFO) => match payload.attr("node") {
                None => Some(Tree::read(INFO.trim())),
                Some(COMMANDS) => Some(commands_info()),
                Some(_) => return self.refuse(iq, &Refusal::not_found(), Place::Last),
            },
            ("query", DISCO_ITEMS) => match payload.attr("node") {
                None => Some(self.items()),
                Some(COMMANDS) => Some(self.commands()),
                Some(_) => return self.refuse(iq, &Refusal::not_found(), Place::Last),
            },
            ("command", COMMANDS) if payload.attr("node") == Some("ping") => Some(pong()),
            ("command", COMMANDS) => return self.refuse(iq, &Refusal::not_found(), Place::Last),
            _ => {
                let text = "Local server does not implement this feature";
                return self.refuse(iq, &Refusal::not_implemented().saying(text), Place::First);
            }
        };
        self.route(result(iq, answer));
    }

    /// The server's services and components, by name. Those without a stand-in are listed too,
    /// but do not answer: `pubsub.…` and `vjud.…`.
    fn items(&self) -> Tree {
        let domain = &self.domain;
        let services = ["conference", "pubsub", "vjud"].map(|name| format!("{name}.{domain}"));
        let mut jids: Vec<&str> = services.iter().map(String::as_str).collect();
        jids.extend(self.components.keys().map(String::as_str));
        jids.push(domain);
        jids.sort_unstable();
        jids.into_iter().fold(
            Tree::new("query").with("xmlns", DISCO_ITEMS),
            |query, jid| {
                let item = Tree::new("item").with("jid", jid);
                query.holding(match jid == domain {
                    true => item.with("name", "Commands").with("node", COMMANDS),
                    false => item,
                })
            },
        )
    }

    fn commands(&self) -> Tree {
        let ping = Tree::new("item")
            .with("jid", &self.domain)
            .with("name", "Ping")
            .with("node", "ping");
        Tree::new("query")
            .with("node", COMMANDS)
            .with("xmlns", DISCO_ITEMS)
            .holding(ping)
    }
}

fn commands_info() -> Tree {
    let identity = Tree::new("identity")
        .with("category", "automation")
        .with("name", "Commands")
        .with("type", "command-list");
    Tree::new("query")
        .with("node", COMMANDS)
        .with("xmlns", DISCO_INFO)
        .holding(identity)
}

fn pong() -> Tree {
    Tree::new("command")
        .with("node", "ping")
        .with("sessionid", &super::account::stamp(now()))
        .with("status", "completed")
        .with("xmlns", COMMANDS)
        .holding(Tree::new("note").with("type", "info").saying("Pong"))
}
