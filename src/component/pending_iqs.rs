//! The iqs that the gateway itself sends on a component stream, and their
//! answers: barriers, the routing probe, the from-check, server discovery and
//! the control component's requests.
//!
//! The ids of one table share a random prefix, so a stanza without the prefix
//! is known to be no answer before a lock is taken. An answer is matched by
//! (from, to, id), because several contacts may use one id at a time.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use jid::Jid;
use minidom::Element;
use parking_lot::{Mutex, MutexGuard};
use tokio::sync::oneshot;
use tokio::time::Instant;
use uuid::Uuid;

use crate::host::Host;
use crate::servers::NoAnswer;
use crate::stanza::{Kind, Stanza};

/// The ids of all gateways' own iqs start with this mark.
pub(super) const ID_MARK: &str = "strait-";
/// After this time, the server is slow, or the answer went elsewhere.
pub(super) const OVERDUE: Duration = Duration::from_secs(5);
/// The longest wait for an answer. A server takes long to list many sessions.
const PATIENCE: Duration = Duration::from_secs(30);

/// The mechanism that sent an iq, and what it needs to take the answer.
#[derive(Debug)]
pub(super) enum IqPurpose {
    /// The answer settles everything written up to this position.
    Barrier(u64),
    /// The probe with this number.
    RoutingProbe(u64),
    FromCheck,
    ServerDiscovery,
    /// The answer goes to the caller unchanged.
    Request(oneshot::Sender<Result<Stanza, NoAnswer>>),
}

/// The way in which an iq came back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum IqReply {
    Result,
    Error,
    /// The server routed the iq itself to its sender.
    Returned,
}

/// A stanza from the server, compared with the pending iqs.
#[derive(Debug)]
pub(super) enum Recognised {
    Unrelated,
    /// The id has this table's prefix, but no iq is pending for the stanza (any more).
    Late,
    Answer(IqPurpose, IqReply),
}

/// The iqs of one component stream that have no answer yet.
#[derive(Debug)]
pub(super) struct PendingIqs {
    prefix: String,
    last: AtomicU64,
    pending: Mutex<HashMap<u64, PendingIq>>,
}

#[derive(Debug)]
struct PendingIq {
    from: Jid,
    to: Jid,
    sent_at: Instant,
    purpose: IqPurpose,
}

impl PendingIqs {
    pub fn new() -> Self {
        Self {
            prefix: format!("{ID_MARK}{}-", Uuid::new_v4().simple()),
            last: AtomicU64::new(0),
            pending: Mutex::default(),
        }
    }

    fn pending(&self) -> MutexGuard<'_, HashMap<u64, PendingIq>> {
        self.pending.lock()
    }

    /// Creates an iq to write now; the answer will have this `purpose`.
    pub fn create(
        &self,
        purpose: IqPurpose,
        stanza_type: &str,
        (from, to): (Jid, Jid),
        payload: Element,
        now: Instant,
    ) -> Stanza {
        let number = self.last.fetch_add(1, Ordering::Relaxed) + 1;
        let id = format!("{}{number}", self.prefix);
        let (sender, recipient) = (Some(from.clone()), Some(to.clone()));
        let iq = PendingIq {
            from,
            to,
            sent_at: now,
            purpose,
        };
        self.pending().insert(number, iq);
        let payload = &[payload];
        Stanza::new(
            Kind::Iq,
            Some(stanza_type),
            Some(&id),
            sender,
            recipient,
            payload,
        )
    }

    /// Matches `stanza`, from the server, with the pending iqs.
    pub fn recognise(&self, stanza: &Stanza) -> Recognised {
        let Some(id) = stanza.id().filter(|_| stanza.kind() == Kind::Iq) else {
            return Recognised::Unrelated;
        };
        let Some(number) = id.strip_prefix(&self.prefix) else {
            return Recognised::Unrelated;
        };
        let mut pending = self.pending();
        let Some(Entry::Occupied(iq)) = number.parse().ok().map(|number| pending.entry(number))
        else {
            return Recognised::Late;
        };
        let (from, to) = (&iq.get().from, &iq.get().to);
        let goes = |by: &Jid, to: &Jid| stanza.from() == Some(by) && stanza.to() == Some(to);
        let reply = match stanza.stanza_type() {
            Some("result") if goes(to, from) => IqReply::Result,
            Some("error") if goes(to, from) => IqReply::Error,
            Some("get" | "set") if goes(from, to) => IqReply::Returned,
            _ => return Recognised::Late,
        };
        let purpose = iq.remove().purpose;
        if let IqPurpose::Barrier(through) = purpose {
            // Answers to earlier barriers may be lost, but no stanza waits for
            // those answers.
            pending.retain(|_, iq| !matches!(iq.purpose, IqPurpose::Barrier(to) if to <= through));
        }
        Recognised::Answer(purpose, reply)
    }

    /// Removes the iqs that have waited too long. Barriers stay: the stream ends
    /// when no barrier is answered. Returns true if an answer is [`OVERDUE`];
    /// requests may take long.
    pub fn expire(&self, now: Instant) -> bool {
        let mut overdue = false;
        let mut pending = self.pending();
        let expired = pending.extract_if(|_, iq| {
            let age = now.saturating_duration_since(iq.sent_at);
            overdue |= age >= OVERDUE && !matches!(iq.purpose, IqPurpose::Request(_));
            age >= PATIENCE && !matches!(iq.purpose, IqPurpose::Barrier(_))
        });
        expired.for_each(|(_, iq)| iq.give_up(NoAnswer::Late(PATIENCE)));
        overdue
    }

    /// Fails all pending iqs when the stream ends: no answer will arrive.
    pub fn clear(&self) {
        let pending = std::mem::take(&mut *self.pending());
        pending
            .into_values()
            .for_each(|iq| iq.give_up(NoAnswer::Detached));
    }
}

impl PendingIq {
    fn give_up(self, why: NoAnswer) {
        if let IqPurpose::Request(waiting) = self.purpose {
            // An error means that the caller does not wait any more.
            let _ = waiting.send(Err(why));
        }
    }
}

/// A ping (XEP-0199).
pub(super) fn ping() -> Element {
    Element::bare("ping", xmpp_parsers::ns::PING)
}

pub(super) fn jid(host: &Host) -> Jid {
    Jid::new(host.as_str()).unwrap_or_else(|_| unreachable!("{host} is a domain"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> Jid {
        Jid::new(text).unwrap()
    }

    fn sent(iqs: &PendingIqs, purpose: IqPurpose) -> Stanza {
        let route = (address("example.test"), address("dc1.test"));
        iqs.create(purpose, "get", route, ping(), Instant::now())
    }

    fn answer(iq: &Stanza, stanza_type: &str) -> Stanza {
        let (from, to) = (iq.to().cloned(), iq.from().cloned());
        Stanza::new(
            Kind::Iq,
            Some(stanza_type),
            iq.id().as_deref(),
            from,
            to,
            &[],
        )
    }

    #[test]
    fn an_answer_is_recognised_once() {
        let iqs = PendingIqs::new();
        for (stanza_type, reply) in [("result", IqReply::Result), ("error", IqReply::Error)] {
            let iq = sent(&iqs, IqPurpose::Barrier(3));
            let answer = answer(&iq, stanza_type);
            let recognised = iqs.recognise(&answer);
            let Recognised::Answer(IqPurpose::Barrier(3), is) = recognised else {
                panic!("{recognised:?}");
            };
            assert_eq!(is, reply);
            assert!(matches!(iqs.recognise(&answer), Recognised::Late));
        }
    }

    #[test]
    fn only_the_iq_itself_is_one_that_returned() {
        let iqs = PendingIqs::new();
        let iq = sent(&iqs, IqPurpose::FromCheck);
        assert!(matches!(
            iqs.recognise(&answer(&iq, "get")),
            Recognised::Late
        ));
        let recognised = iqs.recognise(&iq);
        assert!(matches!(
            recognised,
            Recognised::Answer(IqPurpose::FromCheck, IqReply::Returned)
        ));
    }

    #[test]
    fn an_answer_from_or_to_somebody_else_is_none() {
        let iqs = PendingIqs::new();
        let right = answer(&sent(&iqs, IqPurpose::FromCheck), "result");
        let mut wrong = right.clone();
        wrong.set_from(address("mallory@dc1.test/x"));
        assert!(matches!(iqs.recognise(&wrong), Recognised::Late));
        let mut wrong = right.clone();
        wrong.set_to(address("bob@example.test"));
        assert!(matches!(iqs.recognise(&wrong), Recognised::Late));
        assert!(matches!(iqs.recognise(&right), Recognised::Answer(..)));
    }

    #[test]
    fn other_stanzas_are_unrelated() {
        let (iqs, others) = (PendingIqs::new(), PendingIqs::new());
        let theirs = answer(&sent(&others, IqPurpose::FromCheck), "result");
        sent(&iqs, IqPurpose::FromCheck);
        assert!(matches!(iqs.recognise(&theirs), Recognised::Unrelated));
        let named = |kind, id| Stanza::new(kind, Some("result"), id, None, None, &[]);
        let id = format!("{}1", iqs.prefix);
        for (kind, id) in [
            (Kind::Iq, None),
            (Kind::Iq, Some("strait-1")),
            (Kind::Message, Some(&*id)),
        ] {
            let recognised = iqs.recognise(&named(kind, id));
            assert!(matches!(recognised, Recognised::Unrelated), "{id:?}");
        }
    }

    #[test]
    fn an_answered_barrier_makes_up_for_those_before_it() {
        let iqs = PendingIqs::new();
        sent(&iqs, IqPurpose::Barrier(1));
        let second = answer(&sent(&iqs, IqPurpose::Barrier(2)), "result");
        let third = answer(&sent(&iqs, IqPurpose::Barrier(3)), "result");
        iqs.recognise(&second);
        assert!(iqs.expire(Instant::now() + OVERDUE));
        iqs.recognise(&third);
        assert!(!iqs.expire(Instant::now() + OVERDUE));
    }

    #[test]
    fn a_request_ends_with_its_time_or_its_stream_and_a_barrier_with_its_stream() {
        let iqs = PendingIqs::new();
        let (waiting, mut outcome) = oneshot::channel();
        sent(&iqs, IqPurpose::Request(waiting));
        let start = Instant::now();
        assert!(!iqs.expire(start + OVERDUE));
        assert!(outcome.try_recv().is_err());
        iqs.expire(start + PATIENCE + OVERDUE);
        assert!(matches!(outcome.try_recv(), Ok(Err(NoAnswer::Late(_)))));

        let barrier = sent(&iqs, IqPurpose::Barrier(1));
        let (waiting, mut outcome) = oneshot::channel();
        sent(&iqs, IqPurpose::Request(waiting));
        assert!(!iqs.expire(Instant::now()));
        assert!(iqs.expire(Instant::now() + OVERDUE));
        iqs.expire(Instant::now() + PATIENCE - OVERDUE);
        iqs.clear();
        assert!(matches!(outcome.try_recv(), Ok(Err(NoAnswer::Detached))));
        assert!(matches!(
            iqs.recognise(&answer(&barrier, "result")),
            Recognised::Late
        ));
    }
}
