//! An account's archive of messages (XEP-0313).

use chrono::{DateTime, Utc};
use jid::Jid;

use super::account::stamp;
use super::message::forwarded;
use super::refusal::{Place, Refusal, result};
use super::session::{Number, now};
use super::state::{State, address};
use super::tree::Tree;

pub const MAM: &str = "urn:xmpp:mam:2";
const RSM: &str = "http://jabber.org/protocol/rsm";
const HINTS: &str = "urn:xmpp:hints";
/// Results per page: `max_result_limit` of mod_mam; its default is 50, and an operator can raise
/// it.
const MOST: usize = 1000;

/// Messages, oldest first.
#[derive(Debug, Default)]
pub struct Archive(Vec<Entry>);

#[derive(Debug, Clone)]
struct Entry {
    id: String,
    with: Jid,
    time: DateTime<Utc>,
    message: Tree,
}

/// A page of an archive (XEP-0059).
struct Page<'a> {
    entries: &'a [&'a Entry],
    first: usize,
    count: usize,
    is_last: bool,
}

impl State {
    /// Archives `message`, with the other side in the attribute `with`, if it is to be archived;
    /// returns the message that the user's clients receive then (XEP-0359).
    pub fn archive_message(&mut self, user: &str, message: &Tree, with: &str) -> Option<Tree> {
        let kind = message.attr("type").unwrap_or("normal");
        let hinted = message.children().any(|child| child.is("no-store", HINTS));
        if hinted || !matches!(kind, "chat" | "normal") || message.child("body").is_none() {
            return None;
        }
        let with = address(message, with)?;
        let own = self.bare(user);
        let archive = &mut self.account_mut(user).archive;
        // The ids ascend, as MongooseIM's do.
        let id = format!("{:010}", archive.0.len() + 1);
        archive.0.push(Entry {
            id: id.clone(),
            with,
            time: now(),
            message: message.clone(),
        });
        let mut stamped = message.clone();
        stamped.push_first(
            Tree::new("stanza-id")
                .with("by", own.as_str())
                .with("id", &id)
                .with("xmlns", "urn:xmpp:sid:0"),
        );
        Some(stamped)
    }

    /// Answers a client's query of its own archive.
    pub fn archive_query(&mut self, session: Number, user: &str, iq: &Tree, query: &Tree) {
        if iq.attr("type") != Some("set") {
            return self.refuse(iq, &Refusal::not_implemented(), Place::First);
        }
        let entries: Vec<&Entry> = self.account(user).archive.matching(query);
        let page = page(&entries, query.child_in(RSM));
        let to = iq.attr("from").unwrap_or_default();
        for entry in page.entries {
            self.send(session, entry.found(to, query.attr("queryid")));
        }
        let fin = page.fin();
        self.send(session, result(iq, Some(fin)));
    }
}

impl Archive {
    fn matching(&self, query: &Tree) -> Vec<&Entry> {
        let field = |name: &str| {
            let form = query.child("x")?;
            let mut fields = form.children();
            let field = fields.find(|field| field.attr("var") == Some(name))?;
            Some(field.child("value")?.text())
        };
        let with = field("with").and_then(|with| Jid::new(&with).ok());
        let stands = |jid: &Jid| match &with {
            None => true,
            Some(with) if with.is_bare() => jid.to_bare() == with.to_bare(),
            Some(with) => jid == with,
        };
        let (start, end) = (field("start"), field("end"));
        let in_time = |time: DateTime<Utc>| {
            let at = |text: &str| DateTime::parse_from_rfc3339(text).ok();
            start
                .as_deref()
                .and_then(at)
                .is_none_or(|start| time >= start)
                && end.as_deref().and_then(at).is_none_or(|end| time <= end)
        };
        let all = self.0.iter();
        all.filter(|entry| stands(&entry.with) && in_time(entry.time))
            .collect()
    }
}

impl Entry {
    fn found(&self, to: &str, queryid: Option<&str>) -> Tree {
        let mut forwarded = forwarded(&self.message);
        forwarded.push_first(
            Tree::new("delay")
                .with("stamp", &stamp(self.time))
                .with("xmlns", "urn:xmpp:delay"),
        );
        let mut found = Tree::new("result").with("xmlns", MAM).with("id", &self.id);
        if let Some(queryid) = queryid {
            found.set("queryid", queryid);
        }
        let bare = to.split('/').next().unwrap_or_default();
        Tree::new("message")
            .with("from", bare)
            .with("to", to)
            .with("id", &self.id)
            .holding(found.holding(forwarded))
    }
}

/// Returns the page that `set` requests; without `set`, the first.
fn page<'a>(entries: &'a [&'a Entry], set: Option<&Tree>) -> Page<'a> {
    let text = |name: &str| set?.child(name).map(Tree::text);
    let max = text("max").and_then(|max| max.parse().ok()).unwrap_or(50);
    let max = max.min(MOST);
    let at = |id: &str| entries.iter().position(|entry| entry.id == id);
    let (first, end) = match (text("after"), text("before")) {
        (Some(after), _) => {
            let first = at(&after).map_or(0, |at| at + 1);
            (first, entries.len().min(first + max))
        }
        // An empty `before` requests the last page.
        (None, Some(before)) => {
            let end = at(&before).unwrap_or(entries.len());
            (end.saturating_sub(max), end)
        }
        (None, None) => (0, entries.len().min(max)),
    };
    let backwards = text("after").is_none() && text("before").is_some();
    Page {
        entries: &entries[first..end],
        first,
        count: entries.len(),
        is_last: if backwards {
            first == 0
        } else {
            end == entries.len()
        },
    }
}

/// The answer of an empty archive.
pub fn nothing_found() -> Tree {
    page(&[], None).fin()
}

impl Page<'_> {
    fn fin(&self) -> Tree {
        let mut set = Tree::new("set").with("xmlns", RSM);
        if let (Some(first), Some(last)) = (self.entries.first(), self.entries.last()) {
            let index = self.first.to_string();
            set.push(Tree::new("first").with("index", &index).saying(&first.id));
            set.push(Tree::new("last").saying(&last.id));
        }
        set.push(Tree::new("count").saying(&self.count.to_string()));
        let mut fin = Tree::new("fin").with("xmlns", MAM);
        if self.is_last {
            fin.set("complete", "true");
        }
        fin.holding(set)
    }
}
