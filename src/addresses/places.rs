//! The places in payloads that carry addresses of users and services, and their
//! renaming.

use xmpp_parsers::ns;

use super::rename::Rename;
use crate::stanza::Elements;

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

/// Renames the addresses of the current element, or removes it if it is an archive id that would
/// be renamed and is not by an address that is `kept`: it names an archive that no user can reach
/// under another address. `fields` has the depths of the forms' fields around the element whose
/// type is for addresses (XEP-0004 §3.3), the innermost last; it is kept from one element of a
/// payload to the next.
pub(super) fn rename(
    element: &mut Elements<'_>,
    rename: &Rename,
    kept: impl Fn(&str) -> bool,
    fields: &mut Vec<usize>,
) {
    if is_archive_id(element, |by| rename.domain(by).is_some() && !kept(by)) {
        return element.remove();
    }
    let rows = ATTRIBUTES.iter().chain(&ARCHIVE_IDS);
    let rows = rows.filter(|(namespace, name, _)| element.is(name, namespace));
    let attributes: Vec<&str> = rows.map(|(_, _, attribute)| *attribute).collect();
    if !attributes.is_empty() {
        element.edit_attributes(|name, value| {
            let holds_address = attributes.contains(&name);
            holds_address.then(|| rename.domain(value)).flatten()
        });
    }
    while fields.pop_if(|depth| *depth >= element.depth()).is_some() {}
    let holds_address = if element.is("value", ns::DATA_FORMS) {
        fields
            .last()
            .is_some_and(|depth| depth + 1 == element.depth())
    } else {
        TEXTS.iter().any(|(ns, name)| element.is(name, ns))
    };
    if holds_address {
        element.edit_text(|text| rename.domain(text));
    }
    if element.is("field", ns::DATA_FORMS)
        && matches!(
            element.attribute("type").as_deref(),
            Some("jid-single" | "jid-multi")
        )
    {
        fields.push(element.depth());
    }
}

/// Whether the current element is an archive id (`<stanza-id by=…/>`) for whose `by` `unwanted`
/// is true.
pub(super) fn is_archive_id(element: &Elements<'_>, unwanted: impl Fn(&str) -> bool) -> bool {
    ARCHIVE_IDS.into_iter().any(|(namespace, name, by)| {
        element.is(name, namespace) && element.attribute(by).is_some_and(|by| unwanted(&by))
    })
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
