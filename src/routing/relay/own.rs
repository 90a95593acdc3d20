//! The gateway's own stanzas: answers, error replies, probes and presence
//! notices. Each has an envelope with an id of its own and is counted and decided
//! about as any other.

use tracing::{debug, warn};

use super::{Backlog, Relay};
use crate::envelope::{Arrival, Envelope, EnvelopeId};
use crate::host::Host;
use crate::services::Answer;
use crate::stanza::{Refusal, Stanza};

/// A stanza that this gateway sends by itself.
pub(super) struct OwnStanza {
    pub(super) stanza: Stanza,
    /// The host in whose name the stanza is sent, and where it leaves the shared
    /// domain.
    pub(super) origin: Host,
    /// The host whose server is to receive the stanza; `None`: by its address.
    pub(super) host: Option<Host>,
    /// The envelope that the stanza answers.
    pub(super) cause: Option<EnvelopeId>,
}

impl Relay {
    /// Sends a stanza of the gateway's own: all of them are sent here.
    pub(super) fn send_own(&self, own: OwnStanza, backlog: &mut Backlog) {
        let OwnStanza {
            stanza,
            origin,
            host,
            cause,
        } = own;
        let mut envelope = Envelope::new(origin, Arrival::Own, self.rules.message_ttl, stanza);
        envelope.copy_for = host;
        self.counters.taken_own.inc();
        if let Some(cause) = cause {
            debug!(id = %envelope.id, %cause, "a stanza of the gateway's own");
        }
        backlog.push_back(envelope);
    }

    fn reply(&self, stanza: Stanza, cause: &Envelope, host: Option<Host>, backlog: &mut Backlog) {
        let own = OwnStanza {
            stanza,
            origin: cause.origin.clone(),
            host,
            cause: Some(cause.id),
        };
        self.send_own(own, backlog);
    }

    /// Sends the answer for the shared domain or an account.
    pub(super) fn answer(&self, answer: Answer, mut envelope: Envelope, backlog: &mut Backlog) {
        self.counters.all.answered.inc();
        match answer {
            Answer::Reply(replies) => {
                for reply in replies {
                    self.reply(reply, &envelope, None, backlog);
                }
            }
            Answer::Absorb(what) => debug!(id = %envelope.id, what, "needs no answer"),
            Answer::Warn(text) => warn!(id = %envelope.id, "{text}"),
        }
        envelope.receipt.settle();
    }

    /// Sends the error reply to `envelope`, unless `envelope` is one of several
    /// copies and another copy may have arrived.
    pub(super) fn reply_with_error(
        &self,
        envelope: &Envelope,
        refusal: &Refusal,
        backlog: &mut Backlog,
    ) {
        let host = envelope.copy_for.as_ref().unwrap_or(&self.rules.local);
        if let Some(reply) = envelope.stanza.error_reply(refusal)
            && !self.fan_out.absorb(&reply, host)
        {
            let host = self
                .has_no_address(envelope)
                .then(|| self.rules.local.clone());
            self.reply(reply, envelope, host, backlog);
        }
    }

    /// Whether the sender is a local user but the global address belongs to another
    /// user: a reply to that address would reach the wrong user.
    fn has_no_address(&self, envelope: &Envelope) -> bool {
        envelope.arrival == Arrival::Component
            && envelope
                .stanza
                .from()
                .is_some_and(|sender| self.is_user(sender) && !self.sessions.may_be_here(sender))
    }

    /// Probes the local server for the users that `probes` are to.
    pub(crate) async fn probe_all(&self, probes: Vec<Stanza>) {
        for probe in probes {
            let mut backlog = Backlog::new();
            self.probe(probe, None, &mut backlog);
            self.carry_all(backlog).await;
        }
    }

    /// Probes the local server for a user; `probe` has global addresses, and `host`
    /// receives the answers.
    pub(super) fn probe(&self, probe: Stanza, host: Option<&Host>, backlog: &mut Backlog) {
        if let (Some(viewer), Some(user)) = (probe.from(), probe.to()) {
            self.presence.probed(user, viewer, host);
        }
        let own = OwnStanza {
            stanza: probe,
            origin: self.rules.local.clone(),
            host: Some(self.rules.local.clone()),
            cause: None,
        };
        self.send_own(own, backlog);
    }
}
