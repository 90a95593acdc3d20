//! Where payloads carry the addresses of users, and how they are renamed there.

use minidom::rxml::Namespace;
use minidom::{Element, Node};

use super::rename::Rename;

/// How an address is written.
#[derive(Clone, Copy)]
enum Form {
    Jid,
    /// An `xmpp:` URI, or another one, which is left alone.
    Uri,
}

impl Form {
    fn rename(self, value: &str, rename: &Rename) -> Option<String> {
        match self {
            Self::Jid => rename.text(value),
            Self::Uri => rename.uri(value),
        }
    }
}

/// Attributes that hold addresses: namespace, element, attribute.
///
/// Seen in what real servers and clients send; nothing else is touched. Above
/// all not `<c/>` (the capabilities hash) and texts for people.
const ATTRIBUTES: &[(&str, &str, &str, Form)] = {
    use Form::{Jid, Uri};
    &[
        // The stanza inside `<forwarded/>`: carbons, archives, privileges.
        ("jabber:client", "message", "from", Jid),
        ("jabber:client", "message", "to", Jid),
        ("jabber:client", "presence", "from", Jid),
        ("jabber:client", "presence", "to", Jid),
        ("jabber:client", "iq", "from", Jid),
        ("jabber:client", "iq", "to", Jid),
        // RFC 6120 §8.3: which entity raised the error.
        (crate::stanza::NAMESPACE, "error", "by", Jid),
        ("jabber:client", "error", "by", Jid),
        ("urn:xmpp:delay", "delay", "from", Jid),
        ("jabber:x:delay", "x", "from", Jid),
        ("jabber:iq:roster", "item", "jid", Jid),
        ("http://jabber.org/protocol/rosterx", "item", "jid", Jid),
        ("urn:xmpp:blocking", "item", "jid", Jid),
        ("http://jabber.org/protocol/disco#items", "item", "jid", Jid),
        ("http://jabber.org/protocol/address", "address", "jid", Jid),
        ("http://jabber.org/protocol/muc#user", "item", "jid", Jid),
        ("http://jabber.org/protocol/muc#user", "actor", "jid", Jid),
        ("http://jabber.org/protocol/muc#user", "invite", "from", Jid),
        ("http://jabber.org/protocol/muc#user", "invite", "to", Jid),
        (
            "http://jabber.org/protocol/muc#user",
            "decline",
            "from",
            Jid,
        ),
        ("http://jabber.org/protocol/muc#user", "decline", "to", Jid),
        ("http://jabber.org/protocol/muc#admin", "item", "jid", Jid),
        ("http://jabber.org/protocol/muc#admin", "actor", "jid", Jid),
        ("jabber:x:conference", "x", "jid", Jid),
        ("http://jabber.org/protocol/pubsub", "subscribe", "jid", Jid),
        (
            "http://jabber.org/protocol/pubsub",
            "unsubscribe",
            "jid",
            Jid,
        ),
        (
            "http://jabber.org/protocol/pubsub",
            "subscription",
            "jid",
            Jid,
        ),
        (
            "http://jabber.org/protocol/pubsub",
            "affiliation",
            "jid",
            Jid,
        ),
        ("http://jabber.org/protocol/pubsub", "options", "jid", Jid),
        (
            "http://jabber.org/protocol/pubsub",
            "item",
            "publisher",
            Jid,
        ),
        (
            "http://jabber.org/protocol/pubsub#owner",
            "subscription",
            "jid",
            Jid,
        ),
        (
            "http://jabber.org/protocol/pubsub#owner",
            "affiliation",
            "jid",
            Jid,
        ),
        (
            "http://jabber.org/protocol/pubsub#event",
            "subscription",
            "jid",
            Jid,
        ),
        (
            "http://jabber.org/protocol/pubsub#event",
            "affiliation",
            "jid",
            Jid,
        ),
        (
            "http://jabber.org/protocol/pubsub#event",
            "item",
            "publisher",
            Jid,
        ),
        ("urn:xmpp:jingle:1", "jingle", "initiator", Jid),
        ("urn:xmpp:jingle:1", "jingle", "responder", Jid),
        ("urn:xmpp:jingle:transports:s5b:1", "candidate", "jid", Jid),
        (
            "http://jabber.org/protocol/bytestreams",
            "streamhost",
            "jid",
            Jid,
        ),
        (
            "http://jabber.org/protocol/bytestreams",
            "streamhost-used",
            "jid",
            Jid,
        ),
        ("urn:xmpp:reply:0", "reply", "to", Jid),
        ("urn:xmpp:reference:0", "reference", "uri", Uri),
    ]
};

/// Elements whose text is an address: namespace, element.
const TEXTS: &[(&str, &str, Form)] = &[
    ("vcard-temp", "JABBERID", Form::Jid),
    ("urn:ietf:params:xml:ns:vcard-4.0", "uri", Form::Uri),
];

/// The namespace of `<stanza-id/>` (XEP-0359).
const STANZA_ID: &str = "urn:xmpp:sid:0";

/// Renames every address below `element`, and removes the
/// `<stanza-id/>`s that are to be renamed: they name an archive that nobody
/// can reach under another address. Tells whether anything has changed.
pub(super) fn rename_below(element: &mut Element, rename: &Rename) -> bool {
    let mut changed = remove_stanza_ids(element, |by| rename.text(by).is_some());
    for child in element.children_mut() {
        changed |= rename_attributes(child, rename);
        changed |= rename_texts(child, rename);
        changed |= rename_below(child, rename);
    }
    changed
}

/// Removes the children `<stanza-id by=…/>` of `element` for whose `by`
/// `unwanted` is true. Tells whether there were any.
pub(super) fn remove_stanza_ids(element: &mut Element, unwanted: impl Fn(&str) -> bool) -> bool {
    let is_unwanted =
        |e: &Element| e.is("stanza-id", STANZA_ID) && e.attr("by").is_some_and(&unwanted);
    if !element.children().any(is_unwanted) {
        return false;
    }
    for node in element.take_nodes() {
        if !node.as_element().is_some_and(is_unwanted) {
            element.append_node(node);
        }
    }
    true
}

fn rename_attributes(element: &mut Element, rename: &Rename) -> bool {
    let mut changed = false;
    for (namespace, name, attribute, form) in ATTRIBUTES {
        if !element.is(name, *namespace) {
            continue;
        }
        let Some(value) = element.attrs_mut().get_mut(&Namespace::NONE, *attribute) else {
            continue;
        };
        if let Some(renamed) = form.rename(value, rename) {
            *value = renamed;
            changed = true;
        }
    }
    changed
}

fn rename_texts(element: &mut Element, rename: &Rename) -> bool {
    if is_address_field(element) {
        let mut changed = false;
        for value in element.children_mut().filter(|e| e.is("value", DATA_FORM)) {
            changed |= rename_text(value, Form::Jid, rename);
        }
        return changed;
    }
    match TEXTS.iter().find(|(ns, name, _)| element.is(name, *ns)) {
        Some((_, _, form)) => rename_text(element, *form, rename),
        None => false,
    }
}

const DATA_FORM: &str = "jabber:x:data";

/// Whether this is a form's field that says that it holds addresses (XEP-0004 §3.3).
fn is_address_field(element: &Element) -> bool {
    element.is("field", DATA_FORM)
        && matches!(element.attr("type"), Some("jid-single" | "jid-multi"))
}

fn rename_text(element: &mut Element, form: Form, rename: &Rename) -> bool {
    match form.rename(&element.text(), rename) {
        Some(renamed) => {
            element.take_nodes();
            element.append_node(Node::Text(renamed));
            true
        }
        None => false,
    }
}

/// The attributes of the table, for the test that there is an example of each.
#[cfg(test)]
pub(super) fn attributes() -> impl Iterator<Item = String> {
    ATTRIBUTES
        .iter()
        .map(|(namespace, element, attribute, _)| format!("{namespace} {element}/@{attribute}"))
}
