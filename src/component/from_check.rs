//! Whether the server lets us write in the name of senders of other domains
//! (`component.foreign_from`).
//!
//! That is found out with the first stanza of a stream, before anybody's is on
//! it: an iq to ourselves in the name of the local domain. If the server checks
//! senders, it ends that stream or answers with an error; otherwise the iq comes
//! back to us.

use jid::Jid;
use minidom::Element;
use prometheus::IntGauge;
use uuid::Uuid;

use crate::host::Host;
use crate::stanza::{Kind, Stanza};

/// What is known of the server's check.
#[derive(Debug)]
pub(super) struct FromCheck {
    state: FromCheckState,
    /// Shows whether foreign senders pass.
    passes: IntGauge,
}

#[derive(Debug, PartialEq, Eq)]
enum FromCheckState {
    /// Nobody wants to know.
    Unwanted,
    Unknown,
    Asked {
        id: String,
    },
    Passes,
    Refused,
}

/// What a stanza from the server means for the question.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum FromCheckResult {
    Passes,
    Refused,
}

impl FromCheck {
    pub(super) fn new(wanted: bool, passes: IntGauge) -> Self {
        let state = if wanted {
            FromCheckState::Unknown
        } else {
            FromCheckState::Unwanted
        };
        Self { state, passes }
    }

    /// Whether a stanza of a foreign sender may be written, as far as is known.
    pub(super) fn may_pass(&self) -> bool {
        !matches!(
            self.state,
            FromCheckState::Unwanted | FromCheckState::Refused
        )
    }

    /// A stream begins: the question to write first on it, unless the answer is known.
    pub(super) fn question(&mut self, domain: &Host, local: &Host) -> Option<Stanza> {
        if self.state != FromCheckState::Unknown {
            return None;
        }
        let id = format!("strait-from-check-{}", Uuid::new_v4().simple());
        let (from, to) = (
            Jid::new(local.as_str()).ok(),
            Jid::new(domain.as_str()).ok(),
        );
        let ping = Element::bare("ping", xmpp_parsers::ns::PING);
        let question = Stanza::new(Kind::Iq, Some("get"), Some(&id), from, to, &[ping]);
        self.state = FromCheckState::Asked { id };
        Some(question)
    }

    /// What `stanza` from the server answers, if it answers the question.
    pub(super) fn recognise(&mut self, stanza: &Stanza) -> Option<FromCheckResult> {
        let FromCheckState::Asked { id } = &self.state else {
            return None;
        };
        if stanza.kind() != Kind::Iq || stanza.id().as_deref() != Some(id) {
            return None;
        }
        let refused = stanza.stanza_type() == Some("error");
        self.settle(if refused {
            FromCheckState::Refused
        } else {
            FromCheckState::Passes
        });
        Some(if refused {
            FromCheckResult::Refused
        } else {
            FromCheckResult::Passes
        })
    }

    /// A stream has ended; `by_sender`: because of a stanza's sender. Whether
    /// that was the question's, and answers it.
    pub(super) fn detached(&mut self, by_sender: bool) -> bool {
        let answered = by_sender && matches!(self.state, FromCheckState::Asked { .. });
        match self.state {
            FromCheckState::Unwanted => {}
            _ if answered => self.settle(FromCheckState::Refused),
            // The next stream may be to a server with another configuration.
            _ => self.settle(FromCheckState::Unknown),
        }
        answered
    }

    fn settle(&mut self, state: FromCheckState) {
        self.passes.set(i64::from(state == FromCheckState::Passes));
        self.state = state;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(name: &str) -> Host {
        Host::new(name).unwrap()
    }

    fn asked() -> (FromCheck, Stanza) {
        let gauge = IntGauge::new("g", "g").unwrap();
        let mut foreign = FromCheck::new(true, gauge);
        let question = foreign
            .question(&host("example.test"), &host("dc1.test"))
            .unwrap();
        (foreign, question)
    }

    #[test]
    fn what_comes_back_passes() {
        let (mut foreign, question) = asked();
        assert_eq!(question.from().unwrap().as_str(), "dc1.test");
        assert_eq!(question.to().unwrap().as_str(), "example.test");
        assert!(foreign.may_pass());
        assert_eq!(foreign.recognise(&question), Some(FromCheckResult::Passes));
        assert!(foreign.may_pass());
        assert_eq!(foreign.passes.get(), 1);
        assert_eq!(foreign.recognise(&question), None);
    }

    #[test]
    fn an_error_or_the_end_of_the_stream_refuses_until_the_next_but_one_stream() {
        let (mut foreign, question) = asked();
        let id = question.id().unwrap().into_owned();
        let error = Stanza::new(Kind::Iq, Some("error"), Some(&id), None, None, &[]);
        assert_eq!(foreign.recognise(&error), Some(FromCheckResult::Refused));
        assert!(!foreign.may_pass());

        let (mut foreign, _) = asked();
        assert!(foreign.detached(true));
        assert!(!foreign.may_pass());
        // The stream after that is not ended by a question.
        let (domain, local) = (host("example.test"), host("dc1.test"));
        assert!(foreign.question(&domain, &local).is_none());
        assert!(!foreign.detached(false));
        assert!(foreign.question(&domain, &local).is_some());
    }

    #[test]
    fn who_does_not_want_to_know_never_asks() {
        let mut foreign = FromCheck::new(false, IntGauge::new("g", "g").unwrap());
        assert!(!foreign.may_pass());
        let (domain, local) = (host("example.test"), host("dc1.test"));
        assert!(foreign.question(&domain, &local).is_none());
        assert!(!foreign.detached(true));
    }
}
