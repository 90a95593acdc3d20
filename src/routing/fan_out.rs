//! Stanzas that go to several hosts, a copy to each: no host receives two, and
//! error replies are merged: the sender receives one, and only if no copy arrived.
//!
//! Bounded in number and time: after eviction, a duplicate or an extra error can
//! reach the user.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use jid::{BareJid, Jid};
use moka::sync::Cache;
use parking_lot::Mutex;

use crate::envelope::{Envelope, EnvelopeId};
use crate::host::Host;
use crate::stanza::{Kind, Stanza};

/// A copy that is not delivered within a minute has failed for other reasons.
const LIFETIME: Duration = Duration::from_secs(60);
/// The bound of entries of each kind: some 20 MB.
const CAPACITY: u64 = 100_000;

/// The copies that one gateway remembers.
#[derive(Debug)]
pub struct FanOut {
    /// Copies that the local server has received.
    handed: Cache<EnvelopeId, ()>,
    /// Messages that were copied here, and the hosts whose copies have no error
    /// reply yet.
    unanswered: Cache<Message, Arc<Mutex<Vec<Host>>>>,
}

/// The parts of an error that identify the message it answers (RFC 6120 §8.3.1).
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Message {
    sender: Jid,
    recipient: BareJid,
    id: String,
}

impl Message {
    fn sent(message: &Stanza) -> Option<Self> {
        Self::between(message, message.from()?, message.to()?)
    }

    fn refused(error: &Stanza) -> Option<Self> {
        Self::between(error, error.to()?, error.from()?)
    }

    fn between(stanza: &Stanza, sender: &Jid, recipient: &Jid) -> Option<Self> {
        if stanza.kind() != Kind::Message {
            return None;
        }
        Some(Self {
            sender: sender.clone(),
            recipient: recipient.to_bare(),
            id: stanza.id()?.into_owned(),
        })
    }
}

impl FanOut {
    /// An empty memory. `max_wait` bounds the wait of a stanza at each of two
    /// hosts.
    #[must_use]
    pub(crate) fn new(max_wait: Duration) -> Self {
        let lifetime = LIFETIME.max(max_wait.saturating_mul(2));
        Self {
            handed: remembered(lifetime),
            unanswered: remembered(lifetime),
        }
    }

    /// Puts a copy of `envelope` for each of `hosts` into `copies`. The last host
    /// receives the envelope itself, with its receipt.
    pub(crate) fn split(
        &self,
        mut envelope: Envelope,
        mut hosts: Vec<Host>,
        copies: &mut VecDeque<Envelope>,
    ) {
        if hosts.len() > 1 {
            self.made(&envelope.stanza, hosts.clone());
        }
        let last = hosts.pop();
        for host in hosts {
            let mut copy = envelope.copy();
            copy.copy_for = Some(host);
            copies.push_back(copy);
        }
        envelope.copy_for = last;
        copies.push_back(envelope);
    }

    /// Records that a copy of `stanza` is sent from here to each of `hosts`.
    fn made(&self, stanza: &Stanza, hosts: Vec<Host>) {
        if let Some(message) = Message::sent(stanza) {
            self.unanswered.insert(message, Arc::new(Mutex::new(hosts)));
        }
    }

    /// Records that the local server receives `envelope`.
    pub(crate) fn handed(&self, envelope: &Envelope) {
        if envelope.copy_for.is_some() {
            self.handed.insert(envelope.id, ());
        }
    }

    /// Records that the local server did not receive `envelope`.
    pub(crate) fn given_back(&self, envelope: &Envelope) {
        if envelope.copy_for.is_some() {
            self.handed.invalidate(&envelope.id);
        }
    }

    /// Whether `envelope` is one of several copies, and the local server has
    /// received another one.
    #[must_use]
    pub(crate) fn has_another(&self, envelope: &Envelope) -> bool {
        envelope.copy_for.is_some() && self.handed.contains_key(&envelope.id)
    }

    /// Whether the sender of a copy expects an error if the copy is not delivered:
    /// the host that made the copies counts the errors about them, by the message's
    /// `id`.
    #[must_use]
    pub(crate) fn are_counted(copy: &Stanza) -> bool {
        Message::sent(copy).is_some()
    }

    /// Whether `stanza`, from `host`, is an error about a copy that was made here,
    /// and another copy may have arrived: then the sender must not receive the error.
    /// The error about the last copy stands for all. Each host has one copy, so that a
    /// correspondent who makes errors up makes up for one copy at most.
    #[must_use]
    pub(crate) fn absorb(&self, stanza: &Stanza, host: &Host) -> bool {
        if stanza.stanza_type() != Some("error") {
            return false;
        }
        let Some(message) = Message::refused(stanza) else {
            return false;
        };
        let Some(unanswered) = self.unanswered.get(&message) else {
            return false;
        };
        let mut hosts = unanswered.lock();
        let Some(answered) = hosts.iter().position(|other| other == host) else {
            return false;
        };
        hosts.swap_remove(answered);
        let is_last = hosts.is_empty();
        drop(hosts);
        if is_last {
            self.unanswered.invalidate(&message);
        }
        !is_last
    }
}

fn remembered<K, V>(lifetime: Duration) -> Cache<K, V>
where
    K: std::hash::Hash + Eq + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
{
    Cache::builder()
        .max_capacity(CAPACITY)
        .time_to_live(lifetime)
        .build()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::envelope::Arrival;

    const ALICE: &str = "alice@x.test/a";

    fn host(name: &str) -> Host {
        Host::new(name).unwrap()
    }

    fn copies() -> FanOut {
        FanOut::new(Duration::from_secs(30))
    }

    fn stanza(kind: Kind, stanza_type: &str, id: Option<&str>, from: &str, to: &str) -> Stanza {
        let jid = |text: &str| Some(Jid::new(text).unwrap());
        Stanza::new(kind, Some(stanza_type), id, jid(from), jid(to), &[])
    }

    fn chat(id: &str) -> Stanza {
        stanza(Kind::Message, "chat", Some(id), ALICE, "bob@x.test")
    }

    fn error(id: &str, from: &str) -> Stanza {
        stanza(Kind::Message, "error", Some(id), from, ALICE)
    }

    #[test]
    fn of_errors_about_all_copies_the_last_one_is_told() {
        let copies = copies();
        let hosts = ["dc1.test", "dc2.test", "dc3.test"].map(host);
        copies.made(&chat("1"), hosts.to_vec());
        for (from, at, absorbed) in [
            ("bob@x.test", "dc1.test", true),
            // One host has one copy, so this error is about something else.
            ("bob@x.test/r", "dc1.test", false),
            ("bob@x.test/r", "dc4.test", false),
            ("bob@x.test/gone", "dc2.test", true),
            ("bob@x.test", "dc3.test", false),
            // More errors than copies: the sender receives the error.
            ("bob@x.test", "dc3.test", false),
        ] {
            let is_absorbed = copies.absorb(&error("1", from), &host(at));
            assert_eq!(is_absorbed, absorbed, "{from} at {at}");
        }
    }

    #[test]
    fn what_is_no_error_about_a_copy_passes() {
        let copies = copies();
        let hosts = vec![host("dc1.test"), host("dc2.test")];
        copies.made(&chat("1"), hosts.clone());
        let nameless = stanza(Kind::Message, "chat", None, ALICE, "bob@x.test");
        copies.made(&nameless, hosts);
        let from_bob = |kind, stanza_type, id| stanza(kind, stanza_type, id, "bob@x.test", ALICE);
        for passes in [
            from_bob(Kind::Message, "chat", Some("1")),
            from_bob(Kind::Iq, "error", Some("1")),
            from_bob(Kind::Presence, "error", Some("1")),
            from_bob(Kind::Message, "error", None),
            error("2", "bob@x.test"),
            error("1", "carol@x.test"),
        ] {
            assert!(!copies.absorb(&passes, &host("dc2.test")), "{passes:?}");
        }
        assert!(copies.absorb(&error("1", "bob@x.test"), &host("dc2.test")));
    }

    #[test]
    fn one_copy_is_handed_to_the_server() {
        let copies = copies();
        let host = Host::new("dc1.test").unwrap();
        let mut one = Envelope::new(host.clone(), Arrival::Component, 4, chat("1"));
        copies.handed(&one);
        assert!(!copies.has_another(&one), "it is the only one");

        one.copy_for = Some(host.clone());
        copies.handed(&one);
        let mut another = one.copy();
        another.copy_for = Some(Host::new("dc2.test").unwrap());
        assert!(copies.has_another(&another));

        let reply = Envelope::new(host, Arrival::Own, 4, error("1", "bob@x.test"));
        assert_ne!(reply.id, one.id, "an error reply has an id of its own");

        copies.given_back(&one);
        assert!(!copies.has_another(&another));
    }
}
