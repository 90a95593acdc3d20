//! The interface to the relay, which reports the presence that passes. No other
//! stanza takes the table's lock.

use std::sync::Arc;

use jid::Jid;
use parking_lot::{Mutex, MutexGuard};
use tokio::time::Instant;

use super::action::{ActionKind, Direction, SweepAction, UnavailableCause};
use super::event::{EventKind, PresenceEvent};
use super::key::RecordKey;
use super::table::PresenceTable;
use crate::envelope::{Arrival, Envelope};
use crate::host::Host;
use crate::metrics::Metrics;
use crate::stanza::{Kind, Stanza};

/// The presence table, shared by workers and task. Addresses are global ones.
#[derive(Debug)]
pub(crate) struct PresenceSync {
    local: Host,
    table: Mutex<PresenceTable>,
    metrics: Arc<Metrics>,
}

/// Whether `envelope` is a probe that only this gateway sends: no sender is
/// notified if it fails.
pub(crate) fn is_own_probe(envelope: &Envelope) -> bool {
    let stanza = &envelope.stanza;
    envelope.arrival == Arrival::Own
        && stanza.kind() == Kind::Presence
        && stanza.stanza_type() == Some("probe")
}

impl PresenceSync {
    pub(crate) fn new(global: Host, local: Host, metrics: Arc<Metrics>) -> Self {
        // Series with known labels are exposed from the start.
        for label in UnavailableCause::LABELS {
            metrics.presence_withdrawn.with_label_values(&[label]);
        }
        Self {
            local,
            table: Mutex::new(PresenceTable::new(global)),
            metrics,
        }
    }

    /// The event to record once `envelope` has been handed over.
    pub(crate) fn event(&self, envelope: &Envelope) -> Option<PresenceEvent> {
        PresenceEvent::of(envelope, &self.local)
    }

    /// Records that the local server has received the presence.
    pub(crate) fn reinjected(&self, event: Option<PresenceEvent>) {
        let Some(event) = event else { return };
        match (&event.arrival, event.direction) {
            (Arrival::Component, _) => self.table().stayed_local(&event),
            (Arrival::Link(_), Direction::In) => self.table().delivered(&event),
            // A presence of the local server's own can come back over a link.
            (Arrival::Link(_), Direction::Out) | (Arrival::Own, _) => {}
        }
    }

    /// Records that a link to `host` has taken the presence. The time for the
    /// answers to a probe begins.
    pub(crate) fn forwarded(&self, event: Option<PresenceEvent>, host: &Host) {
        let Some(mut event) = event else { return };
        match event.arrival {
            Arrival::Component => {
                event.host = Some(host.clone());
                self.table().delivered(&event);
            }
            Arrival::Own if event.kind == EventKind::Probe => {
                self.probed(&event.user, &event.viewer, None);
            }
            Arrival::Link(_) | Arrival::Own => {}
        }
    }

    /// Records that `envelope` was refused because it could not be delivered in
    /// time.
    pub(crate) fn undelivered(&self, envelope: &Envelope) {
        if let Some(event) = self.event(envelope) {
            self.table().undelivered(&event);
        }
    }

    /// Records a probe that only this gateway has sent. `wanted_at`: the host whose
    /// viewer wants the answers, if that host receives the answers in any case.
    pub(crate) fn probed(&self, user: &Jid, viewer: &Jid, wanted_at: Option<&Host>) {
        let key = RecordKey::between(user, viewer);
        self.table().probed(key, wanted_at.cloned(), Instant::now());
    }

    /// The host that wants `stanza`, sent by the local server, as an answer to a
    /// probe.
    pub(crate) fn wanted_at(&self, stanza: &Stanza) -> Option<Host> {
        if stanza.kind() != Kind::Presence || stanza.stanza_type().is_some() {
            return None;
        }
        let key = RecordKey::between(stanza.from()?, stanza.to()?);
        self.table().probes.wanted_at(&key).cloned()
    }

    /// Whether presence of users is dropped here: an `unavailable` that this gateway
    /// has sent already, and the answer that no session is visible to the viewer
    /// (RFC 6121 §4.3.2) to a probe that only this gateway has sent. A viewer who has
    /// only been sent directed presence would take that answer for the refusal of a
    /// subscription.
    pub(crate) fn absorbs(&self, envelope: &Envelope) -> bool {
        let stanza = &envelope.stanza;
        let stanza_type = stanza.stanza_type();
        let is_end = matches!(stanza_type, Some("unavailable" | "unsubscribed"));
        if stanza.kind() != Kind::Presence || envelope.arrival == Arrival::Own || !is_end {
            return false;
        }
        let (Some(user), Some(viewer)) = (stanza.from(), stanza.to()) else {
            return false;
        };
        if user.is_bare() {
            let pair = RecordKey::between(user, viewer);
            return self.table().probes.nobody_home(&pair, Instant::now());
        }
        stanza_type == Some("unavailable")
            && envelope.arrival != Arrival::Component
            && self.table().is_repeated(&RecordKey::of(user, viewer))
    }

    /// Whether an `unavailable` is still due; if so the caller sends it now, at the
    /// worker that carries the stanzas of its session.
    pub(crate) fn confirm(&self, action: &SweepAction) -> bool {
        let ActionKind::Unavailable(cause, _) = action.kind else {
            return true;
        };
        let key = RecordKey::of(&action.user, &action.viewer);
        let is_due = self.table().confirm(&key);
        if is_due {
            let counter = &self.metrics.presence_withdrawn;
            counter.with_label_values(&[cause.label()]).inc();
        }
        is_due
    }

    /// Publishes the number of records, and returns it.
    pub(super) fn count(&self) -> usize {
        let count = self.table().records.len();
        let shown = i64::try_from(count).unwrap_or(i64::MAX);
        self.metrics.presence_views.set(shown);
        count
    }

    pub(super) fn table(&self) -> MutexGuard<'_, PresenceTable> {
        self.table.lock()
    }
}
