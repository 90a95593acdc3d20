//! What the server does as others don't, so that it is done for it.
//!
//! The server is asked who it is with the first stanza of each stream
//! (XEP-0030); until it has answered, what was known before counts.

use jid::Jid;
use minidom::Element;
use tokio::sync::watch;
use uuid::Uuid;
use xmpp_parsers::ns;

use crate::host::Host;
use crate::stanza::{Kind, Stanza};

/// What MongooseIM calls itself.
const MONGOOSEIM: &str = "MongooseIM";
/// What an account there offers if the server says nothing more.
const ALWAYS: [&str; 3] = [ns::DISCO_INFO, ns::DISCO_ITEMS, ns::PING];
/// What of the server's own features is its accounts' too, by how it begins.
const OF_ACCOUNTS: [&str; 3] = [ns::PUBSUB, "vcard-temp", "jabber:iq:last"];

/// What the server does as others don't.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Oddities {
    /// It fails when somebody of another domain asks what an account offers
    /// (XEP-0030): these features, and the gateway has to say so.
    pub account_features: Option<Vec<String>>,
    /// A message to a session that is gone comes twice to each that has carbons
    /// (XEP-0280): it has to go to the bare JID.
    pub doubles_messages_to_the_gone: bool,
}

impl Oddities {
    /// Those of a MongooseIM that offers `features`.
    fn of_mongooseim<'a>(features: impl Iterator<Item = &'a str>) -> Self {
        let of_accounts = |feature: &&str| OF_ACCOUNTS.iter().any(|it| feature.starts_with(it));
        let features = ALWAYS.into_iter().chain(features.filter(of_accounts));
        Self {
            account_features: Some(features.map(str::to_owned).collect()),
            doubles_messages_to_the_gone: true,
        }
    }

    /// Those of a MongooseIM, of which nothing more is known.
    #[must_use]
    pub fn mongooseim() -> Self {
        Self::of_mongooseim(std::iter::empty())
    }

    /// Those of a server that answers with `info` who it is.
    fn of(info: &Element) -> Self {
        let server = |child: &&Element| {
            child.name() == "identity" && child.attr("category") == Some("server")
        };
        let name = info.children().find(server).and_then(|it| it.attr("name"));
        if name != Some(MONGOOSEIM) {
            return Self::default();
        }
        let features = info.children().filter(|child| child.name() == "feature");
        Self::of_mongooseim(features.filter_map(|feature| feature.attr("var")))
    }
}

/// Asks the server who it is.
#[derive(Debug)]
pub(super) struct Meeting {
    wanted: bool,
    /// The id of the question, until it is answered.
    asked: Option<String>,
    known: watch::Sender<Oddities>,
}

impl Meeting {
    /// Nobody is asked unless `wanted`. What is learned is told to `known`.
    pub(super) fn new(wanted: bool, known: watch::Sender<Oddities>) -> Self {
        Self {
            wanted,
            asked: None,
            known,
        }
    }

    /// A stream of the component `domain` to the server of `local` begins: the question.
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

    /// Takes `stanza`, from the server, for the answer if it is that. A server
    /// that does not say who it is stays what it was taken for.
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
            let now = Oddities::of(info);
            let is_news = |before: &mut Oddities| std::mem::replace(before, now.clone()) != now;
            if self.known.send_if_modified(is_news) {
                let is_odd = now != Oddities::default();
                let kind = if is_odd { "a" } else { "no" };
                tracing::info!("the server is {kind} {MONGOOSEIM} (docs/mongooseim.md)");
            }
        }
        true
    }

    /// The stream is gone, and the answer with it.
    pub(super) fn detached(&mut self) {
        self.asked = None;
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::stanza::Limits;

    fn meeting() -> (Meeting, watch::Receiver<Oddities>, String) {
        let (known, told) = watch::channel(Oddities::default());
        let mut meeting = Meeting::new(true, known);
        let (domain, local) = (
            Host::new("example.test").unwrap(),
            Host::new("dc1.test").unwrap(),
        );
        let question = meeting.question(&domain, &local).unwrap();
        assert_eq!(question.to().unwrap().as_str(), "dc1.test");
        let id = question.id().unwrap().into_owned();
        (meeting, told, id)
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
        let (mut meeting, told, id) = meeting();
        assert!(meeting.recognise(&answer(&id, "result", captured())));
        let oddities = told.borrow();
        assert!(oddities.doubles_messages_to_the_gone);
        let features = oddities.account_features.as_deref().unwrap();
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
            let (mut meeting, told, id) = meeting();
            meeting.known.send_replace(Oddities::mongooseim());
            assert!(meeting.recognise(&answer(&id, "result", &info_of(name))));
            assert_eq!(*told.borrow(), Oddities::default(), "{name}");
        }
    }

    #[test]
    fn who_does_not_say_stays_what_it_was_taken_for() {
        let (mut meeting, told, id) = meeting();
        meeting.known.send_replace(Oddities::mongooseim());
        assert!(meeting.recognise(&answer(&id, "error", &info_of("Prosody"))));
        assert_eq!(*told.borrow(), Oddities::mongooseim());
    }

    #[test]
    fn only_the_answer_is_taken_and_only_once() {
        let (mut meeting, told, id) = meeting();
        let wrong = answer("strait-server-1", "result", &info_of(MONGOOSEIM));
        assert!(!meeting.recognise(&wrong));
        assert!(!meeting.recognise(&answer(&id, "get", &info_of(MONGOOSEIM))));
        assert_eq!(*told.borrow(), Oddities::default());
        let right = answer(&id, "result", &info_of(MONGOOSEIM));
        assert!(meeting.recognise(&right));
        assert!(!meeting.recognise(&right));
        let (mut meeting, _, id) = self::meeting();
        meeting.detached();
        assert!(!meeting.recognise(&answer(&id, "result", &info_of(MONGOOSEIM))));
    }

    #[test]
    fn a_stream_that_need_not_know_does_not_ask() {
        let mut meeting = Meeting::new(false, watch::Sender::new(Oddities::default()));
        let (domain, local) = (
            Host::new("muc.example.test").unwrap(),
            Host::new("dc1.test").unwrap(),
        );
        assert!(meeting.question(&domain, &local).is_none());
    }
}
