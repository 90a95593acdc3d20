//! What goes to several hosts, and comes back from them.

use tracing::debug;

use super::{Backlog, Relay};
use crate::envelope::Envelope;
use crate::host::Host;
use crate::routing::fan_out::FanOut;
use crate::stanza::{Reason, Refusal};

impl Relay {
    /// Hands a copy to each of `hosts`, and one to the local server if it is
    /// among those who have the recipient.
    pub(super) fn forward(
        &self,
        mut envelope: Envelope,
        hosts: &[Host],
        here_too: bool,
        backlog: &mut Backlog,
    ) {
        let local = here_too.then_some(&self.rules.local);
        let ways: Vec<&Host> = local.into_iter().chain(hosts).collect();
        let Some((last, others)) = ways.split_last() else {
            return;
        };
        if !others.is_empty() {
            self.fan_out.made(&envelope.stanza, ways.len());
        }
        for way in others {
            self.metrics.copied.inc();
            let mut copy = envelope.copy();
            copy.copy_for = Some((*way).clone());
            self.send_towards(copy, way, backlog);
        }
        if !others.is_empty() {
            envelope.copy_for = Some((*last).clone());
        }
        self.send_towards(envelope, last, backlog);
    }

    /// The local server has a copy of it already: this one has come around
    /// over another host that had lost the recipient. Where the copies were
    /// made it counts as one that did not arrive.
    pub(super) fn absorb_copy(&self, mut envelope: Envelope, backlog: &mut Backlog) {
        self.metrics.absorbed.with_label_values(&["copy"]).inc();
        debug!(id = %envelope.id, "another copy of it is here");
        if FanOut::are_counted(&envelope.stanza) {
            let text = "Another copy of it is there already.";
            self.tell(&envelope, &Refusal::new(Reason::Unavailable, text), backlog);
        }
        envelope.receipt.settle();
    }

    /// Sends the error for `envelope`, unless it is about a copy that was made
    /// here, and another one may have arrived.
    pub(super) fn tell(&self, envelope: &Envelope, refusal: &Refusal, backlog: &mut Backlog) {
        if let Some(reply) = envelope.stanza.error_reply(refusal)
            && !self.fan_out.absorb(&reply)
        {
            if self.has_no_address(envelope) {
                self.hand_back(reply, envelope, backlog);
            } else {
                self.send_own(reply, envelope, backlog);
            }
        }
    }
}
