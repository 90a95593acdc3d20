//! The places in payloads that carry addresses of users and services, and their
//! renaming.

use minidom::rxml::Namespace;
use minidom::{Element, Node};
use xmpp_parsers::ns;

use super::rename::Rename;

// Namespaces that xmpp_parsers does not name.
const ADDRESS: &str = "http://jabber.org/protocol/address";
const BYTESTREAMS: &str = "http://jabber.org/protocol/bytestreams";
const CONFERENCE: &str = "jabber:x:conference";
const MUC_ADMIN: &str = "http://jabber.org/protocol/muc#admin";
const MUC_OWNER: &str = "http://jabber.org/protocol/muc#owner";
const OLD_DELAY: &str = "jabber:x:delay";
const OLD_MAM: &str = "urn:xmpp:mam:tmp";
const REFERENCE: &str = "urn:xmpp:reference:0";
const REPLY: &str = "urn:xmpp:reply:0";
const ROSTERX: &str = "http://jabber.org/protocol/rosterx";
const VCARD4: &str = "urn:ietf:params:xml:ns:vcard-4.0";

/// Attributes that hold addresses: namespace, element, attribute.
///
/// Found in stanzas of real servers and clients; nothing else is changed, in
/// particular not `<c/>` (the capabilities hash) and texts for people.
const ATTRIBUTES: &[(&str, &str, &str)] = &[
    // The stanza inside `<forwarded/>`: carbons, archives, privileges.
    (ns::JABBER_CLIENT, "message", "from"),
    (ns::JABBER_CLIENT, "message", "to"),
    (ns::JABBER_CLIENT, "presence", "from"),
    (ns::JABBER_CLIENT, "presence", "to"),
    (ns::JABBER_CLIENT, "iq", "from"),
    (ns::JABBER_CLIENT, "iq", "to"),
    // RFC 6120 §8.3: which entity raised the error.
    (crate::stanza::NAMESPACE, "error", "by"),
    (ns::JABBER_CLIENT, "error", "by"),
    (ns::DELAY, "delay", "from"),
    (OLD_DELAY, "x", "from"),
    (ns::ROSTER, "item", "jid"),
    (ROSTERX, "item", "jid"),
    (ns::BLOCKING, "item", "jid"),
    (ns::DISCO_ITEMS, "item", "jid"),
    (ADDRESS, "address", "jid"),
    (ns::MUC_USER, "item", "jid"),
    (ns::MUC_USER, "actor", "jid"),
    (ns::MUC_USER, "invite", "from"),
    (ns::MUC_USER, "invite", "to"),
    (ns::MUC_USER, "decline", "from"),
    (ns::MUC_USER, "decline", "to"),
    (ns::MUC_USER, "destroy", "jid"),
    (MUC_ADMIN, "item", "jid"),
    (MUC_ADMIN, "actor", "jid"),
    (MUC_OWNER, "destroy", "jid"),
    (CONFERENCE, "x", "jid"),
    (ns::PUBSUB, "subscribe", "jid"),
    (ns::PUBSUB, "unsubscribe", "jid"),
    (ns::PUBSUB, "subscription", "jid"),
    (ns::PUBSUB, "affiliation", "jid"),
    (ns::PUBSUB, "options", "jid"),
    (ns::PUBSUB, "item", "publisher"),
    (ns::PUBSUB_OWNER, "subscription", "jid"),
    (ns::PUBSUB_OWNER, "affiliation", "jid"),
    (ns::PUBSUB_EVENT, "subscription", "jid"),
    (ns::PUBSUB_EVENT, "affiliation", "jid"),
    (ns::PUBSUB_EVENT, "item", "publisher"),
    (ns::JINGLE, "jingle", "initiator"),
    (ns::JINGLE, "jingle", "responder"),
    (ns::JINGLE_S5B, "candidate", "jid"),
    (BYTESTREAMS, "streamhost", "jid"),
    (BYTESTREAMS, "streamhost-used", "jid"),
    (REPLY, "reply", "to"),
    (REFERENCE, "reference", "uri"),
];

/// The elements that name the archive of a message; those that stay are a service's
/// own. The second is the older form of the first, which ejabberd's rooms still
/// write beside it.
const ARCHIVE_IDS: [(&str, &str, &str); 2] =
    [(ns::SID, "stanza-id", "by"), (OLD_MAM, "archived", "by")];

/// Elements whose text is an address: namespace, element.
const TEXTS: &[(&str, &str)] = &[(ns::VCARD, "JABBERID"), (VCARD4, "uri")];

/// Renames every address below `element`, and removes the archive ids that would be
/// renamed too, unless they are by an address that is `kept`: they name an archive
/// that no user can reach under another address. Returns whether anything has
/// changed.
pub(super) fn rename_below(
    element: &mut Element,
    rename: &Rename,
    kept: &impl Fn(&str) -> bool,
) -> bool {
    let mut changed = remove_archive_ids(element, |by| rename.address(by).is_some() && !kept(by));
    for child in element.children_mut() {
        changed |= rename_attributes(child, rename);
        changed |= rename_texts(child, rename);
        changed |= rename_below(child, rename, kept);
    }
    changed
}

/// Removes the children of `element` that are archive ids (`<stanza-id by=…/>`) and
/// for whose `by` `unwanted` is true. Returns whether there were any.
pub(super) fn remove_archive_ids(element: &mut Element, unwanted: impl Fn(&str) -> bool) -> bool {
    let is_unwanted = |e: &Element| {
        let is_id = |(ns, name, by)| e.is(name, ns) && e.attr(by).is_some_and(&unwanted);
        ARCHIVE_IDS.into_iter().any(is_id)
    };
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
    for (namespace, name, attribute) in ATTRIBUTES.iter().chain(&ARCHIVE_IDS) {
        if !element.is(name, *namespace) {
            continue;
        }
        let Some(value) = element.attrs_mut().get_mut(&Namespace::NONE, *attribute) else {
            continue;
        };
        if let Some(renamed) = rename.address(value) {
            *value = renamed;
            changed = true;
        }
    }
    changed
}

fn rename_texts(element: &mut Element, rename: &Rename) -> bool {
    if is_address_field(element) {
        let mut changed = false;
        for value in element
            .children_mut()
            .filter(|e| e.is("value", ns::DATA_FORMS))
        {
            changed |= rename_text(value, rename);
        }
        return changed;
    }
    TEXTS.iter().any(|(ns, name)| element.is(name, *ns)) && rename_text(element, rename)
}

/// Whether this is a form's field with a type for addresses (XEP-0004 §3.3).
fn is_address_field(element: &Element) -> bool {
    element.is("field", ns::DATA_FORMS)
        && matches!(element.attr("type"), Some("jid-single" | "jid-multi"))
}

fn rename_text(element: &mut Element, rename: &Rename) -> bool {
    match rename.address(&element.text()) {
        Some(renamed) => {
            element.take_nodes();
            element.append_node(Node::Text(renamed));
            true
        }
        None => false,
    }
}

/// The names of archive ids.
pub(super) fn archive_ids() -> impl Iterator<Item = &'static str> {
    ARCHIVE_IDS.into_iter().map(|(_, name, _)| name)
}

/// The attributes of the table, for the test that there is an example of each.
#[cfg(test)]
pub(super) fn attributes() -> impl Iterator<Item = String> {
    ATTRIBUTES
        .iter()
        .map(|(namespace, element, attribute)| format!("{namespace} {element}/@{attribute}"))
}
