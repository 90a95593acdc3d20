//! Which server software the gateway is attached to (XEP-0030).
//!
//! The first stanza of each stream asks for the server's disco#info; until the
//! answer arrives, the quirks found before apply.

use jid::Jid;
use minidom::Element;
use tokio::sync::watch;
use uuid::Uuid;
use xmpp_parsers::ns;

use crate::host::Host;
use crate::servers::{MONGOOSEIM, ServerQuirks};
use crate::stanza::{Kind, Stanza};

/// Asks the server for its disco#info.
#[derive(Debug)]
pub(super) struct ServerDiscovery {
    wanted: bool,
    /// The id of the question, until it is answered.
    asked: Option<String>,
    known: watch::Sender<ServerQuirks>,
}

impl ServerDiscovery {
    /// The server is asked only if `wanted`; `known` receives the result.
    pub(super) fn new(wanted: bool, known: watch::Sender<ServerQuirks>) -> Self {
        Self {
            wanted,
            asked: None,
            known,
        }
    }

    /// The question that opens a stream of the component `domain` to the server of `local`.
    pub(super) fn question(&mut self, domain: &Host, local: &Host) -> Option<Stanza> {
        if !self.wanted {
            return None;
        }
        let id = format!("strait-server-{}", Uuid::new_v4().simple());
        let jid = |host: &Host| Jid::new(host.as_str()).ok();
        let info = Element::bare("query", ns::DISCO_INFO);
        let question = Stanza::new(
            Kind::Iq,
            Some("get"),
            Some(&id),
            jid(domain),
            jid(local),
            &[info],
        );
        self.asked = Some(id);
        Some(question)
    }

    /// Whether `stanza` is the server's answer. A server that does not name
    /// itself keeps the quirks found before.
    pub(super) fn recognise(&mut self, stanza: &Stanza) -> bool {
        let is_answer = self.asked.is_some()
            && stanza.kind() == Kind::Iq
            && stanza.id().as_deref() == self.asked.as_deref()
            && matches!(stanza.stanza_type(), Some("result" | "error"));
        if !is_answer {
            return false;
        }
        self.asked = None;
        let tree = stanza.to_element();
        if let Some(info) = tree.get_child("query", ns::DISCO_INFO)
            && stanza.stanza_type() == Some("result")
        {
            let now = ServerQuirks::of(info);
            let is_news = |before: &mut ServerQuirks| std::mem::replace(before, now.clone()) != now;
            if self.known.send_if_modified(is_news) {
                let is_odd = now != ServerQuirks::default();
                let kind = if is_odd { "a" } else { "no" };
                tracing::info!("the server is {kind} {MONGOOSEIM} (docs/mongooseim.md)");
            }
        }
        true
    }

    /// The stream has ended, so no answer will arrive.
    pub(super) fn detached(&mut self) {
        self.asked = None;
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::stanza::Limits;

    fn discovery() -> (ServerDiscovery, watch::Receiver<ServerQuirks>, String) {
        let (known, told) = watch::channel(ServerQuirks::default());
        let mut discovery = ServerDiscovery::new(true, known);
        let (domain, local) = (
            Host::new("example.test").unwrap(),
            Host::new("dc1.test").unwrap(),
        );
        let question = discovery.question(&domain, &local).unwrap();
        assert_eq!(question.to().unwrap().as_str(), "dc1.test");
        let id = question.id().unwrap().into_owned();
        (discovery, told, id)
    }

    fn answer(id: &str, kind: &str, payload: &str) -> Stanza {
        let text =
            format!("<iq from='dc1.test' id='{id}' to='example.test' type='{kind}'>{payload}</iq>");
        Stanza::parse(Bytes::from(text), &Limits::default()).unwrap()
    }

    /// What MongooseIM 6.8.0 was heard to say.
    fn captured() -> &'static str {
        let capture = include_str!("../../tests/captures/mongooseim-to-component.txt");
        let line = capture.lines().find(|line| line.contains("id='d1'"));
        let (_, rest) = line.unwrap().split_once('>').unwrap();
        rest.strip_suffix("</iq>").unwrap()
    }

    fn info_of(name: &str) -> String {
        format!(
            "<query xmlns='{}'><identity category='server' type='im' name='{name}'/>\
             <feature var='vcard-temp'/></query>",
            ns::DISCO_INFO
        )
    }

    #[test]
    fn a_mongooseim_is_recognised_by_what_it_says() {
        let (mut discovery, told, id) = discovery();
        assert!(discovery.recognise(&answer(&id, "result", captured())));
        let quirks = told.borrow();
        assert!(quirks.doubles_messages_to_the_gone);
        let features = quirks.account_features.as_deref().unwrap();
        for feature in [ns::PING, "vcard-temp", "jabber:iq:last", ns::PUBSUB] {
            assert!(features.iter().any(|f| f == feature), "{feature}");
        }
        for feature in ["msgoffline", "jabber:iq:version", "urn:xmpp:carbons:2"] {
            assert!(features.iter().all(|f| f != feature), "{feature}");
        }
    }

    #[test]
    fn others_have_none_and_a_server_may_be_replaced_by_another() {
        for name in ["Prosody", "ejabberd"] {
            let (mut discovery, told, id) = discovery();
            discovery.known.send_replace(ServerQuirks::mongooseim());
            assert!(discovery.recognise(&answer(&id, "result", &info_of(name))));
            assert_eq!(*told.borrow(), ServerQuirks::default(), "{name}");
        }
    }

    #[test]
    fn who_does_not_say_stays_what_it_was_taken_for() {
        let (mut discovery, told, id) = discovery();
        discovery.known.send_replace(ServerQuirks::mongooseim());
        assert!(discovery.recognise(&answer(&id, "error", &info_of("Prosody"))));
        assert_eq!(*told.borrow(), ServerQuirks::mongooseim());
    }

    #[test]
    fn only_the_answer_is_taken_and_only_once() {
        let (mut discovery, told, id) = discovery();
        let wrong = answer("strait-server-1", "result", &info_of(MONGOOSEIM));
        assert!(!discovery.recognise(&wrong));
        assert!(!discovery.recognise(&answer(&id, "get", &info_of(MONGOOSEIM))));
        assert_eq!(*told.borrow(), ServerQuirks::default());
        let right = answer(&id, "result", &info_of(MONGOOSEIM));
        assert!(discovery.recognise(&right));
        assert!(!discovery.recognise(&right));
        let (mut discovery, _, id) = self::discovery();
        discovery.detached();
        assert!(!discovery.recognise(&answer(&id, "result", &info_of(MONGOOSEIM))));
    }

    #[test]
    fn a_stream_that_need_not_know_does_not_ask() {
        let mut discovery =
            ServerDiscovery::new(false, watch::Sender::new(ServerQuirks::default()));
        let (domain, local) = (
            Host::new("muc.example.test").unwrap(),
            Host::new("dc1.test").unwrap(),
        );
        assert!(discovery.question(&domain, &local).is_none());
    }
}
