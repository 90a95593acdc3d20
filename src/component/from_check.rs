//! A check whether the server accepts senders of other domains on the stream
//! (`component.foreign_from`).
//!
//! The first stanza of a stream tests it, before any other is at risk: an iq to
//! the stream's domain in the name of the local domain. A server that checks
//! senders ends the stream or answers with an error; another returns the iq.

use prometheus::IntGauge;

use super::pending_iqs::IqReply;
use crate::host::Host;
use crate::servers::{self, ServerProblem};

/// The result of the from-check, as far as it is known.
#[derive(Debug)]
pub(super) struct FromCheck {
    state: FromCheckState,
    /// Gauge: 1 if the server accepts foreign senders.
    passes: IntGauge,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum FromCheckState {
    /// `component.foreign_from` is false.
    Unwanted,
    Unknown,
    Asked,
    Passes,
    Refused,
}

impl FromCheck {
    pub fn new(wanted: bool, passes: IntGauge) -> Self {
        let state = if wanted {
            FromCheckState::Unknown
        } else {
            FromCheckState::Unwanted
        };
        Self { state, passes }
    }

    /// A stanza of a foreign sender may be written unless the server is known to
    /// refuse it.
    pub fn may_pass(&self) -> bool {
        !matches!(
            self.state,
            FromCheckState::Unwanted | FromCheckState::Refused
        )
    }

    /// Starts a stream. Returns true if the iq must be sent, because the result
    /// is not known.
    pub fn begin(&mut self) -> bool {
        let wanted = self.state == FromCheckState::Unknown;
        if wanted {
            self.state = FromCheckState::Asked;
        }
        wanted
    }

    /// Handles the reply to the iq. Returns true if the server accepts foreign senders.
    pub fn answered(&mut self, reply: IqReply, domain: &Host) -> bool {
        let passes = reply != IqReply::Error;
        if passes {
            self.settle(FromCheckState::Passes);
            tracing::info!(%domain, "the server accepts senders of other domains");
        } else {
            self.settle(FromCheckState::Refused);
            tracing::warn!(
                %domain,
                "component.foreign_from is true, but the server only takes senders in {domain}: \
                 others are refused. Turn its check off. {}",
                servers::advice(ServerProblem::SenderCheck, domain)
            );
        }
        passes
    }

    /// Handles the end of a stream; `by_sender` if a stanza's sender caused the
    /// end. Returns true if that sender was the iq's, which proves that the
    /// server checks senders.
    pub fn detached(&mut self, by_sender: bool) -> bool {
        let refused = by_sender && self.state == FromCheckState::Asked;
        match self.state {
            FromCheckState::Unwanted => {}
            _ if refused => self.settle(FromCheckState::Refused),
            // The next stream may be to a server with another configuration.
            _ => self.settle(FromCheckState::Unknown),
        }
        refused
    }

    fn settle(&mut self, state: FromCheckState) {
        self.passes.set(i64::from(state == FromCheckState::Passes));
        self.state = state;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked() -> FromCheck {
        let mut check = FromCheck::new(true, IntGauge::new("g", "g").unwrap());
        assert!(check.begin());
        check
    }

    fn domain() -> Host {
        Host::new("example.test").unwrap()
    }

    #[test]
    fn an_iq_that_returns_shows_that_foreign_senders_pass() {
        let mut check = asked();
        assert!(check.may_pass());
        assert!(check.answered(IqReply::Returned, &domain()));
        assert!(check.may_pass());
        assert_eq!(check.passes.get(), 1);
    }

    #[test]
    fn an_error_or_the_end_of_the_stream_refuses_until_the_next_but_one_stream() {
        let mut check = asked();
        assert!(!check.answered(IqReply::Error, &domain()));
        assert!(!check.may_pass());

        let mut check = asked();
        assert!(check.detached(true));
        assert!(!check.may_pass());
        // The iq does not end the next stream.
        assert!(!check.begin());
        assert!(!check.detached(false));
        assert!(check.begin());
    }

    #[test]
    fn without_the_option_nothing_is_sent_and_nobody_passes() {
        let mut check = FromCheck::new(false, IntGauge::new("g", "g").unwrap());
        assert!(!check.may_pass());
        assert!(!check.begin());
        assert!(!check.detached(true));
    }
}
