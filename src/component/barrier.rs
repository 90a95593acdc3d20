//! Pings that prove what the server has accepted.
//!
//! A server answers an iq only after everything written before it on the
//! same stream has gone through its router. So an answered ping settles what
//! was written before the ping; which answer it is, a result or an error,
//! does not matter.

use bytes::BytesMut;
use jid::Jid;
use minidom::Element;
use tokio::time::Instant;
use uuid::Uuid;

use crate::host::Host;
use crate::stanza::{Kind, Stanza};

/// The barriers of one stream; one is under way at a time.
#[derive(Debug)]
pub(super) struct Barriers {
    /// Random, so that nobody else's answer is taken for a barrier's.
    prefix: String,
    count: u64,
    ours: Option<Jid>,
    server: Option<Jid>,
    raised: Option<Raised>,
}

#[derive(Debug)]
struct Raised {
    id: String,
    covers: usize,
    at: Instant,
}

/// What a stanza from the server means for the barriers.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum BarrierAnswer {
    /// The barrier is answered: this many of the oldest stanzas are the server's.
    Settles(usize),
    /// An answer that comes a second time.
    Late,
    /// Not about a barrier.
    Unrelated,
}

impl Barriers {
    /// For a stream of the component `domain` to the server of `local`.
    pub fn new(domain: &Host, local: &Host) -> Self {
        Self {
            prefix: format!("strait-barrier-{}-", Uuid::new_v4().simple()),
            count: 0,
            ours: Jid::new(domain.as_str()).ok(),
            server: Jid::new(local.as_str()).ok(),
            raised: None,
        }
    }

    /// When the barrier that is under way was raised.
    pub fn raised_at(&self) -> Option<Instant> {
        self.raised.as_ref().map(|raised| raised.at)
    }

    /// Appends a barrier to `out`, behind the `covers` oldest stanzas that are
    /// not settled.
    pub fn raise(&mut self, covers: usize, at: Instant, out: &mut BytesMut) {
        self.count += 1;
        let id = format!("{}{}", self.prefix, self.count);
        let ping = Element::bare("ping", xmpp_parsers::ns::PING);
        Stanza::new(
            Kind::Iq,
            Some("get"),
            Some(&id),
            self.ours.clone(),
            self.server.clone(),
            &[ping],
        )
        .write_to(out);
        self.raised = Some(Raised { id, covers, at });
    }

    /// Gives up the one that was raised before `then`: its answer may have gone
    /// astray. The next one covers the same; whether there was one.
    pub fn forget(&mut self, then: Instant) -> bool {
        self.raised.take_if(|raised| raised.at < then).is_some()
    }

    /// Whether `stanza` is the server's answer to a barrier.
    pub fn recognise(&mut self, stanza: &Stanza) -> BarrierAnswer {
        if stanza.kind() != Kind::Iq || !matches!(stanza.stanza_type(), Some("result" | "error")) {
            return BarrierAnswer::Unrelated;
        }
        let Some(id) = stanza.id() else {
            return BarrierAnswer::Unrelated;
        };
        if !id.starts_with(&self.prefix) {
            return BarrierAnswer::Unrelated;
        }
        match self.raised.take_if(|raised| raised.id == id) {
            Some(raised) => BarrierAnswer::Settles(raised.covers),
            None => BarrierAnswer::Late,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn barriers() -> Barriers {
        Barriers::new(
            &Host::new("example.test").unwrap(),
            &Host::new("dc1.test").unwrap(),
        )
    }

    fn iq(stanza_type: &str, id: &str) -> Stanza {
        let server = Jid::new("dc1.test").ok();
        let ours = Jid::new("example.test").ok();
        Stanza::new(Kind::Iq, Some(stanza_type), Some(id), server, ours, &[])
    }

    fn raise(barriers: &mut Barriers, covers: usize) -> String {
        let mut out = BytesMut::new();
        barriers.raise(covers, Instant::now(), &mut out);
        let text = std::str::from_utf8(&out).unwrap();
        assert!(text.contains("urn:xmpp:ping"), "{text}");
        barriers.raised.as_ref().unwrap().id.clone()
    }

    #[test]
    fn any_answer_settles_what_was_written_before() {
        for stanza_type in ["result", "error"] {
            let mut barriers = barriers();
            let id = raise(&mut barriers, 3);
            assert_eq!(
                barriers.recognise(&iq(stanza_type, &id)),
                BarrierAnswer::Settles(3)
            );
            assert_eq!(barriers.raised_at(), None);
        }
    }

    #[test]
    fn one_whose_answer_went_astray_is_given_up_for_the_next() {
        let mut barriers = barriers();
        let id = raise(&mut barriers, 3);
        let raised = barriers.raised_at().unwrap();
        assert!(!barriers.forget(raised));
        assert!(barriers.forget(raised + std::time::Duration::from_secs(1)));
        assert_eq!(barriers.recognise(&iq("result", &id)), BarrierAnswer::Late);
        let id = raise(&mut barriers, 4);
        assert_eq!(
            barriers.recognise(&iq("result", &id)),
            BarrierAnswer::Settles(4)
        );
    }

    #[test]
    fn nothing_else_settles_anything() {
        let mut barriers = barriers();
        let id = raise(&mut barriers, 3);
        assert_eq!(
            barriers.recognise(&iq("get", &id)),
            BarrierAnswer::Unrelated
        );
        assert_eq!(
            barriers.recognise(&iq("result", "strait-barrier-1")),
            BarrierAnswer::Unrelated
        );
        assert_eq!(
            barriers.recognise(&iq("result", &format!("{id}0"))),
            BarrierAnswer::Late
        );
        assert_eq!(
            barriers.recognise(&iq("result", &id)),
            BarrierAnswer::Settles(3)
        );
        assert_eq!(barriers.recognise(&iq("result", &id)), BarrierAnswer::Late);
    }

    #[test]
    fn ids_differ_between_streams() {
        assert_ne!(raise(&mut barriers(), 1), raise(&mut barriers(), 1));
    }
}
