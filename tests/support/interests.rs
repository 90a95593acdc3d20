//! A client that announces its capabilities and interests (XEP-0115, XEP-0163 §4.3.2), and
//! answers disco queries about them.

use minidom::Element;
use tokio::sync::watch;
use xmpp_parsers::caps::{self, Caps};
use xmpp_parsers::disco::{DiscoInfoResult, Identity};
use xmpp_parsers::hashes::Algo;
use xmpp_parsers::ns;

use super::client::Client;
use super::patience::in_time;
use super::xml::is_jid;

/// The capabilities of one client.
#[derive(Debug)]
pub struct Interests {
    info: DiscoInfoResult,
    /// Addresses that have queried the capabilities and were answered.
    answered: watch::Sender<Vec<String>>,
}

impl Interests {
    /// Creates the capabilities of a program with that name and an interest in the contacts'
    /// items at `nodes`. Servers cache the capabilities of a program, so a unique name is one
    /// that no server has cached.
    pub fn new(program: &str, nodes: &[&str]) -> Self {
        let notify = nodes.iter().map(|node| format!("{node}+notify"));
        let info = DiscoInfoResult {
            node: None,
            identities: vec![Identity::new("client", "pc", "en", program)],
            features: notify.chain([ns::DISCO_INFO.to_owned()]).collect(),
            extensions: vec![],
        };
        let answered = watch::Sender::default();
        Self { info, answered }
    }

    /// Presence that announces the capabilities.
    pub fn presence(&self) -> String {
        let hash = caps::hash_caps(&caps::compute_disco(&self.info), Algo::Sha_1);
        let caps = Caps::new("urn:strait:test", hash.expect("SHA-1"));
        format!(
            "<presence>{}</presence>",
            String::from(&Element::from(caps))
        )
    }

    /// Answers all disco queries to `client` until `work` is done.
    pub async fn while_answering<T>(&self, client: &Client, work: impl Future<Output = T>) -> T {
        tokio::select! {
            done = work => done,
            () = self.answer_all(client) => unreachable!("it never ends"),
        }
    }

    async fn answer_all(&self, client: &Client) {
        loop {
            let question = client.inbox().whenever(is_question).await;
            let (Some(from), Some(id)) = (question.attr("from"), question.attr("id")) else {
                panic!("{question:?}");
            };
            let mut info = self.info.clone();
            info.node = asked_node(&question);
            let answer = String::from(&Element::from(info));
            let answer = format!("<iq type='result' to='{from}' id='{id}'>{answer}</iq>");
            client.send(&answer).await;
            let asker = from.to_owned();
            self.answered.send_modify(|answered| answered.push(asker));
        }
    }

    /// Waits until `asker` (bare: any of its resources) was answered.
    pub async fn until_answered(&self, asker: &str) {
        let mut answered = self.answered.subscribe();
        let asked = |all: &Vec<String>| all.iter().any(|known| is_jid(Some(known), asker));
        let asked = in_time(answered.wait_for(asked)).await;
        let asked = asked.unwrap_or_else(|_| panic!("{asker} has not asked in time"));
        asked.expect("we hold the sender");
    }
}

fn is_question(stanza: &Element) -> bool {
    stanza.name() == "iq"
        && stanza.attr("type") == Some("get")
        && stanza.get_child("query", ns::DISCO_INFO).is_some()
}

fn asked_node(question: &Element) -> Option<String> {
    let query = question.get_child("query", ns::DISCO_INFO)?;
    query.attr("node").map(str::to_owned)
}
