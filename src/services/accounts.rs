//! Answers disco queries (XEP-0030) to accounts for a server that cannot answer
//! them itself.

use std::collections::BTreeSet;

use memchr::memmem;
use xmpp_parsers::disco::{DiscoInfoResult, DiscoItemsResult, Identity};
use xmpp_parsers::ns;

use super::{Answer, Request, no_such_node};
use crate::stanza::{Kind, Stanza};

/// The prefix of the namespaces of all XEP-0030 queries.
const DISCO: &[u8] = b"http://jabber.org/protocol/disco#";

/// The answer to `iq` if it queries the features of a user's account: `features`.
/// The answer is the same for every sender and every account, so that it reveals
/// nothing about an account.
#[must_use]
pub fn answer_for_account(iq: &Stanza, features: &[String]) -> Option<Stanza> {
    let recipient = iq.to()?;
    let asks = iq.kind() == Kind::Iq && iq.stanza_type() == Some("get");
    let is_account = recipient.is_bare() && recipient.node().is_some();
    if !asks || !is_account || memmem::find(iq.payload(), DISCO).is_none() {
        return None;
    }
    let query = Request::of(iq)?;
    let payload = match (query.name, &*query.namespace) {
        ("query", ns::DISCO_INFO | ns::DISCO_ITEMS) if query.has_node => {
            return match no_such_node(iq) {
                Answer::Reply(replies) => replies.into_iter().next(),
                Answer::Absorb(_) | Answer::Warn(_) => None,
            };
        }
        ("query", ns::DISCO_INFO) => info(features).into(),
        ("query", ns::DISCO_ITEMS) => nothing().into(),
        _ => return None,
    };
    Some(iq.result_reply(Some(payload)))
}

/// XEP-0030 §3 with the identities of XEP-0163 §6.
fn info(features: &[String]) -> DiscoInfoResult {
    let identity = |category: &str, type_: &str| Identity {
        category: category.to_owned(),
        type_: type_.to_owned(),
        lang: None,
        name: None,
    };
    let has_pep = features.iter().any(|feature| feature == ns::PUBSUB);
    let pep = has_pep.then(|| identity("pubsub", "pep"));
    DiscoInfoResult {
        node: None,
        identities: [identity("account", "registered")]
            .into_iter()
            .chain(pep)
            .collect(),
        features: features.iter().cloned().collect::<BTreeSet<_>>(),
        extensions: Vec::new(),
    }
}

/// The gateway does not know an account's nodes; a sender who knows a node's name
/// can query the node.
fn nothing() -> DiscoItemsResult {
    DiscoItemsResult {
        node: None,
        items: Vec::new(),
        rsm: None,
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::stanza::Limits;

    fn answer(stanza: &str) -> Option<minidom::Element> {
        let stanza = Stanza::parse(Bytes::from(stanza.to_owned()), &Limits::default()).unwrap();
        let features = [ns::PING, ns::PUBSUB].map(str::to_owned);
        answer_for_account(&stanza, &features).map(|reply| reply.to_element())
    }

    fn asked(to: &str, payload: &str) -> Option<minidom::Element> {
        answer(&format!(
            "<iq type='get' id='i' from='bob@example.test/x' to='{to}'>{payload}</iq>"
        ))
    }

    const INFO: &str = "<query xmlns='http://jabber.org/protocol/disco#info'/>";
    const ITEMS: &str = "<query xmlns='http://jabber.org/protocol/disco#items'/>";

    #[test]
    fn an_account_says_what_it_is_and_offers() {
        let reply = asked("alice@example.test", INFO).unwrap();
        assert_eq!(reply.attr("type"), Some("result"));
        assert_eq!(reply.attr("from"), Some("alice@example.test"));
        assert_eq!(reply.attr("to"), Some("bob@example.test/x"));
        let query = reply.get_child("query", ns::DISCO_INFO).unwrap();
        let info = DiscoInfoResult::try_from(query.clone()).unwrap();
        let kinds = info.identities.iter();
        let kinds: Vec<_> = kinds
            .map(|it| (it.category.as_str(), it.type_.as_str()))
            .collect();
        assert_eq!(kinds, [("account", "registered"), ("pubsub", "pep")]);
        assert!(info.features.contains(ns::PING));
    }

    #[test]
    fn its_items_are_none_and_a_node_is_not_found() {
        let reply = asked("alice@example.test", ITEMS).unwrap();
        let query = reply.get_child("query", ns::DISCO_ITEMS).unwrap();
        assert_eq!(query.children().count(), 0);
        let node = INFO.replace("/>", " node='x'/>");
        let reply = asked("alice@example.test", &node).unwrap();
        assert_eq!(reply.attr("type"), Some("error"));
        assert!(format!("{reply:?}").contains("item-not-found"));
    }

    #[test]
    fn everything_else_is_the_servers_and_the_sessions_own_to_answer() {
        assert!(asked("alice@example.test/phone", INFO).is_none());
        assert!(asked("example.test", INFO).is_none());
        assert!(asked("alice@example.test", "<vCard xmlns='vcard-temp'/>").is_none());
        assert!(asked("alice@example.test", &format!("{INFO}{ITEMS}")).is_none());
        let result = "<iq type='result' id='i' from='bob@example.test/x' to='alice@example.test'>\
                      <query xmlns='http://jabber.org/protocol/disco#info'/></iq>";
        assert!(answer(result).is_none());
    }
}
