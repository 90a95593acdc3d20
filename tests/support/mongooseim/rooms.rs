//! Rooms (XEP-0045), limited to the features that users of several datacenters need: enter, talk,
//! history, invite, kick, leave.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use jid::{BareJid, Jid};

use super::archive::{self, MAM};
use super::refusal::{Place, Refusal, result};
use super::session::now;
use super::state::State;
use super::tree::Tree;

const USER: &str = "http://jabber.org/protocol/muc#user";
const ADMIN: &str = "http://jabber.org/protocol/muc#admin";
const OWNER: &str = "http://jabber.org/protocol/muc#owner";
const DISCO_INFO: &str = "http://jabber.org/protocol/disco#info";
const DISCO_ITEMS: &str = "http://jabber.org/protocol/disco#items";
/// The value of `history_size`.
const HISTORY: usize = 20;

/// A service with its rooms.
#[derive(Debug)]
pub struct Rooms {
    domain: String,
    rooms: BTreeMap<BareJid, Room>,
}

#[derive(Debug)]
struct Room {
    owner: BareJid,
    /// Only the owner can enter until the owner has accepted the configuration.
    is_locked: bool,
    /// Occupants by nick.
    occupants: BTreeMap<String, Jid>,
    history: Vec<(DateTime<Utc>, Jid, Tree)>,
}

impl Rooms {
    pub fn new(domain: &str) -> Self {
        Self {
            domain: domain.to_owned(),
            rooms: BTreeMap::new(),
        }
    }

    pub fn domain(&self) -> &str {
        &self.domain
    }

    /// Removes rooms that are not persistent; they are lost when the server ends.
    pub fn forget_occupants(&mut self) {
        self.rooms.clear();
    }
}

impl Room {
    fn nick_of(&self, jid: &Jid) -> Option<String> {
        let mut all = self.occupants.iter();
        all.find(|(_, occupant)| *occupant == jid)
            .map(|(nick, _)| nick.clone())
    }

    fn affiliation(&self, jid: &Jid) -> &'static str {
        if jid.to_bare() == self.owner {
            "owner"
        } else {
            "none"
        }
    }

    fn role(&self, jid: &Jid) -> &'static str {
        if jid.to_bare() == self.owner {
            "moderator"
        } else {
            "participant"
        }
    }

    /// All occupants see each other's address, as in the captured room.
    fn item(&self, occupant: &Jid, role: &str) -> Tree {
        Tree::new("item")
            .with("affiliation", self.affiliation(occupant))
            .with("jid", occupant.as_str())
            .with("role", role)
    }
}

impl State {
    /// Processes a stanza for the service, a room or an occupant.
    pub fn room_service(&mut self, stanza: Tree, from: &Jid, to: &Jid) {
        let Some(mut rooms) = self.rooms.take() else {
            return;
        };
        let out = rooms.take(&stanza, from, to, self);
        self.rooms = Some(rooms);
        for stanza in out {
            self.route(stanza);
        }
    }
}

impl Rooms {
    fn take(&mut self, stanza: &Tree, from: &Jid, to: &Jid, state: &State) -> Vec<Tree> {
        let refused = |refusal: Refusal| refusal.about(stanza, Place::First).into_iter().collect();
        let Some(nick) = to.resource().map(ToString::to_string) else {
            return match stanza.name.as_str() {
                "message" => self.message(stanza, from, &to.to_bare(), state),
                "iq" => self.query(stanza, from, &to.to_bare()),
                _ => Vec::new(),
            };
        };
        match (stanza.name.as_str(), stanza.attr("type")) {
            ("presence", None) => self.enter(stanza, from, &to.to_bare(), &nick),
            ("presence", Some("unavailable" | "error")) => {
                let statuses = [];
                self.leave(from, &to.to_bare(), &statuses, None)
            }
            ("presence", _) => Vec::new(),
            _ => self
                .privately(stanza, from, &to.to_bare(), &nick)
                .unwrap_or_else(|| refused(Refusal::not_acceptable())),
        }
    }

    fn enter(&mut self, presence: &Tree, from: &Jid, address: &BareJid, nick: &str) -> Vec<Tree> {
        let is_new = !self.rooms.contains_key(address);
        let room = self.rooms.entry(address.clone()).or_insert_with(|| Room {
            owner: from.to_bare(),
            is_locked: true,
            occupants: BTreeMap::new(),
            history: Vec::new(),
        });
        let refused =
            |refusal: Refusal| refusal.about(presence, Place::First).into_iter().collect();
        if room.is_locked && from.to_bare() != room.owner {
            return refused(Refusal::not_found().saying("This room is locked"));
        }
        if room
            .occupants
            .get(nick)
            .is_some_and(|other| other.to_bare() != from.to_bare())
        {
            return refused(Refusal::conflict());
        }
        let mut out = Vec::new();
        let was_in = room.nick_of(from).is_some();
        if !was_in {
            for (other, occupant) in &room.occupants {
                out.push(presence_in(
                    address,
                    other,
                    from,
                    room.item(occupant, room.role(occupant)),
                    &[],
                ));
            }
        }
        room.occupants.insert(nick.to_owned(), from.clone());
        for occupant in room.occupants.values() {
            let mut statuses = Vec::new();
            if occupant == from {
                statuses.extend(["110", "100"]);
                statuses.extend(is_new.then_some("201"));
            }
            out.push(presence_in(
                address,
                nick,
                occupant,
                room.item(from, room.role(from)),
                &statuses,
            ));
        }
        if !was_in {
            out.extend(room.told_so_far(from));
            let subject = Tree::new("message")
                .with("from", address.as_str())
                .with("to", from.as_str())
                .with("type", "groupchat")
                .holding(Tree::new("subject"))
                .holding(Tree::new("body"));
            out.push(subject);
        }
        out
    }

    /// Removes an occupant, also one who was kicked: `statuses` are the codes, `reason` is the
    /// cause.
    fn leave(
        &mut self,
        from: &Jid,
        address: &BareJid,
        statuses: &[&str],
        reason: Option<String>,
    ) -> Vec<Tree> {
        let Some(room) = self.rooms.get_mut(address) else {
            return Vec::new();
        };
        let Some(nick) = room.nick_of(from) else {
            return Vec::new();
        };
        let mut out = Vec::new();
        for occupant in room.occupants.values() {
            let mut item = room.item(from, "none");
            if let Some(reason) = &reason {
                item.push(Tree::new("reason").saying(reason));
            }
            let mut statuses = statuses.to_vec();
            statuses.extend((occupant == from && reason.is_none()).then_some("110"));
            out.push(
                presence_in(address, &nick, occupant, item, &statuses).with("type", "unavailable"),
            );
        }
        room.occupants.remove(&nick);
        if room.occupants.is_empty() {
            self.rooms.remove(address);
        }
        out
    }

    fn message(
        &mut self,
        message: &Tree,
        from: &Jid,
        address: &BareJid,
        state: &State,
    ) -> Vec<Tree> {
        let refused = |refusal: Refusal| refusal.about(message, Place::First).into_iter().collect();
        let Some(room) = self.rooms.get_mut(address) else {
            return refused(Refusal::not_found());
        };
        if let Some(invite) = message.child_in(USER).and_then(|x| x.child("invite")) {
            return invitation(address, from, invite);
        }
        let Some(nick) = room.nick_of(from) else {
            return refused(Refusal::not_acceptable());
        };
        if message.attr("type") != Some("groupchat") {
            return refused(Refusal::bad_request());
        }
        let said = message.clone().with("from", &format!("{address}/{nick}"));
        if said.child("body").is_some() {
            let mut kept = said.clone();
            kept.push_first(
                Tree::new("stanza-id")
                    .with("by", address.as_str())
                    .with("id", &state.new_id())
                    .with("xmlns", "urn:xmpp:sid:0"),
            );
            room.history.push((now(), from.clone(), kept));
            let too_many = room.history.len().saturating_sub(HISTORY);
            room.history.drain(..too_many);
        }
        let all = room.occupants.values();
        all.map(|occupant| said.clone().with("to", occupant.as_str()))
            .collect()
    }

    /// Sends a stanza to one occupant, by nick.
    fn privately(
        &self,
        stanza: &Tree,
        from: &Jid,
        address: &BareJid,
        nick: &str,
    ) -> Option<Vec<Tree>> {
        let room = self.rooms.get(address)?;
        let sender = room.nick_of(from)?;
        let to = room.occupants.get(nick)?;
        let from = format!("{address}/{sender}");
        Some(vec![
            stanza.clone().with("from", &from).with("to", to.as_str()),
        ])
    }

    fn query(&mut self, iq: &Tree, from: &Jid, address: &BareJid) -> Vec<Tree> {
        let refused = |refusal: Refusal| refusal.about(iq, Place::First).into_iter().collect();
        let payload = match (iq.attr("type"), iq.children().next()) {
            (Some("get" | "set"), Some(payload)) => payload,
            (Some("result" | "error"), _) => return Vec::new(),
            _ => return refused(Refusal::bad_request()),
        };
        if address.node().is_none() {
            return self.service_query(iq, payload);
        }
        let Some(room) = self.rooms.get_mut(address) else {
            return refused(Refusal::not_found());
        };
        let is_owner = from.to_bare() == room.owner;
        match payload.ns() {
            DISCO_INFO => vec![result(
                iq,
                Some(info("text", address.node().map_or("", |n| n.as_str()))),
            )],
            DISCO_ITEMS => vec![result(iq, Some(room.items(address)))],
            OWNER if is_owner => {
                room.is_locked = false;
                vec![result(iq, None)]
            }
            ADMIN if is_owner => {
                let kicked = payload.child("item").and_then(|item| {
                    let kicks = item.attr("role") == Some("none");
                    let occupant = room.occupants.get(item.attr("nick")?)?;
                    let reason = item.child("reason").map(Tree::text).unwrap_or_default();
                    kicks.then(|| (occupant.clone(), reason))
                });
                let Some((occupant, reason)) = kicked else {
                    return refused(Refusal::bad_request());
                };
                let mut out = self.leave(&occupant, address, &["307"], Some(reason));
                out.push(result(iq, None));
                out
            }
            OWNER | ADMIN => refused(Refusal::forbidden()),
            // MongooseIM looks the sender's domain up as a local one in order to forward the
            // results.
            MAM if !room.history.is_empty() => refused(Refusal::internal()),
            MAM => vec![result(iq, Some(archive::nothing_found()))],
            _ => refused(Refusal::not_implemented()),
        }
    }

    fn service_query(&self, iq: &Tree, payload: &Tree) -> Vec<Tree> {
        let answer = match (payload.name.as_str(), payload.ns()) {
            ("ping", "urn:xmpp:ping") => None,
            (_, DISCO_INFO) => Some(info("text", "Chatrooms")),
            (_, DISCO_ITEMS) => {
                let items = Tree::new("query").with("xmlns", DISCO_ITEMS);
                Some(self.rooms.keys().fold(items, |items, room| {
                    items.holding(Tree::new("item").with("jid", room.as_str()))
                }))
            }
            _ => {
                let refusal = Refusal::unavailable();
                return refusal.about(iq, Place::First).into_iter().collect();
            }
        };
        vec![result(iq, answer)]
    }
}

impl Room {
    /// The history for a new occupant; `delay` names each sender by the address that only the
    /// service knows.
    fn told_so_far(&self, to: &Jid) -> Vec<Tree> {
        let all = self.history.iter();
        all.map(|(time, from, said)| {
            let delay = Tree::new("delay")
                .with("from", from.as_str())
                .with("stamp", &time.format("%Y-%m-%dT%H:%M:%SZ").to_string())
                .with("xmlns", "urn:xmpp:delay")
                .saying("");
            said.clone().with("to", to.as_str()).holding(delay)
        })
        .collect()
    }

    fn items(&self, address: &BareJid) -> Tree {
        let items = Tree::new("query").with("xmlns", DISCO_ITEMS);
        self.occupants.keys().rev().fold(items, |items, nick| {
            let jid = format!("{address}/{nick}");
            items.holding(Tree::new("item").with("jid", &jid).with("name", nick))
        })
    }
}

fn presence_in(address: &BareJid, nick: &str, to: &Jid, item: Tree, statuses: &[&str]) -> Tree {
    let x = Tree::new("x").with("xmlns", USER).holding(item);
    let x = statuses.iter().fold(x, |x, code| {
        x.holding(Tree::new("status").with("code", code))
    });
    Tree::new("presence")
        .with("from", &format!("{address}/{nick}"))
        .with("to", to.as_str())
        .holding(x)
}

/// XEP-0045 §7.8.2; the text names the inviter's own address.
fn invitation(address: &BareJid, from: &Jid, invite: &Tree) -> Vec<Tree> {
    let Some(to) = invite.attr("to").and_then(|to| Jid::new(to).ok()) else {
        return Vec::new();
    };
    let reason = invite.child("reason").map(Tree::text);
    let shown = reason
        .as_ref()
        .map_or(String::new(), |reason| format!(" ({reason})"));
    let mut invited = Tree::new("invite").with("from", from.as_str());
    if let Some(reason) = &reason {
        invited.push(Tree::new("reason").saying(reason));
    }
    let text = format!("{from} invites you to the room {address}{shown} ");
    let message = Tree::new("message")
        .with("from", address.as_str())
        .with("to", to.as_str())
        .with("type", "normal")
        .holding(Tree::new("x").with("xmlns", USER).holding(invited))
        .holding(Tree::new("body").saying(&text));
    vec![message]
}

fn info(kind: &str, name: &str) -> Tree {
    let identity = Tree::new("identity")
        .with("category", "conference")
        .with("name", name)
        .with("type", kind);
    let info = Tree::new("query")
        .with("xmlns", DISCO_INFO)
        .holding(identity);
    let features = ["http://jabber.org/protocol/muc", DISCO_INFO, DISCO_ITEMS];
    features.into_iter().fold(info, |info, feature| {
        info.holding(Tree::new("feature").with("var", feature))
    })
}
