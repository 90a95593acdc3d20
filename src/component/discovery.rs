//! Which server software the gateway is attached to (XEP-0030).
//!
//! The first stanza of each stream asks for the server's disco#info; until the
//! answer arrives, what was known before applies.

use jid::Jid;
use minidom::Element;
use tokio::sync::watch;
use uuid::Uuid;
use xmpp_parsers::ns;

use crate::host::Host;
use crate::servers::KnownServer;
use crate::stanza::{Kind, Stanza};

/// Asks the server for its disco#info.
#[derive(Debug)]
pub(super) struct ServerDiscovery {
    wanted: bool,
    /// The id of the question, until it is answered.
    asked: Option<String>,
    known: watch::Sender<KnownServer>,
}

impl ServerDiscovery {
    /// The server is asked only if `wanted`; `known` receives the result.
    pub(super) fn new(wanted: bool, known: watch::Sender<KnownServer>) -> Self {
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

    /// Whether `stanza` is the server's answer. An error leaves what is known as
    /// it is.
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
            let now = KnownServer::of_info(info);
            let name = now
                .name
                .clone()
                .unwrap_or_else(|| "of an unknown kind".to_owned());
            let is_news = |before: &mut KnownServer| std::mem::replace(before, now.clone()) != now;
            if self.known.send_if_modified(is_news) {
                tracing::info!("the server is {} (docs/servers.md)", name.escape_debug());
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

    fn discovery() -> (ServerDiscovery, watch::Receiver<KnownServer>, String) {
        let (known, told) = watch::channel(KnownServer::default());
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

    fn info_of(name: &str) -> String {
        format!(
            "<query xmlns='{}'><identity category='server' type='im' name='{name}'/>\
             <feature var='vcard-temp'/></query>",
            ns::DISCO_INFO
        )
    }

    fn named(name: &str) -> KnownServer {
        KnownServer::of_info(&info_of(name).parse().unwrap())
    }

    #[test]
    fn a_server_may_be_replaced_by_another() {
        let (mut discovery, told, id) = discovery();
        discovery.known.send_replace(named("MongooseIM"));
        assert!(discovery.recognise(&answer(&id, "result", &info_of("Prosody"))));
        assert_eq!(*told.borrow(), named("Prosody"));
    }

    #[test]
    fn an_error_leaves_what_is_known() {
        let (mut discovery, told, id) = discovery();
        discovery.known.send_replace(named("MongooseIM"));
        assert!(discovery.recognise(&answer(&id, "error", &info_of("Prosody"))));
        assert_eq!(*told.borrow(), named("MongooseIM"));
    }

    #[test]
    fn only_the_answer_is_taken_and_only_once() {
        let (mut discovery, told, id) = discovery();
        let wrong = answer("strait-server-1", "result", &info_of("MongooseIM"));
        assert!(!discovery.recognise(&wrong));
        assert!(!discovery.recognise(&answer(&id, "get", &info_of("MongooseIM"))));
        assert_eq!(*told.borrow(), KnownServer::default());
        let right = answer(&id, "result", &info_of("MongooseIM"));
        assert!(discovery.recognise(&right));
        assert!(!discovery.recognise(&right));
        let (mut discovery, _, id) = self::discovery();
        discovery.detached();
        assert!(!discovery.recognise(&answer(&id, "result", &info_of("MongooseIM"))));
    }

    #[test]
    fn a_stream_that_need_not_know_does_not_ask() {
        let mut discovery = ServerDiscovery::new(false, watch::Sender::new(KnownServer::default()));
        let (domain, local) = (
            Host::new("muc.example.test").unwrap(),
            Host::new("dc1.test").unwrap(),
        );
        assert!(discovery.question(&domain, &local).is_none());
    }
}
