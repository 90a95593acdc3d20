//! What users were shown of each other's presence across datacenters.
//!
//! A *record* is what one viewer was told of one session through this gateway: of
//! a session elsewhere (*in*: the local server was handed its presence) or of a
//! local one (*out*). When a datacenter, its server or its gateway goes away,
//! nobody is left to tell the viewers; then the gateway does, and when it is
//! back, it asks the servers in the viewers' names. `docs/presence.md` tells
//! what follows from what.

mod action;
mod endings;
mod event;
mod hosts;
mod key;
mod peers;
mod probes;
mod sweep;
mod table;
#[cfg(test)]
mod tests;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use jid::{BareJid, FullJid, Jid};
use tokio::time::Instant;

pub use self::action::{Direction, ProbeRequest, SweepAction, UnavailableCause, UnavailableNotice};
pub use self::event::{Occupant, PresenceEvent};
pub use self::peers::{Nodes, PeerMonitor};
pub use self::sweep::{Sweep, SweepCause};
use self::table::PresenceTable;
use crate::host::Host;
use crate::metrics::Metrics;
use crate::stanza::{Kind, Stanza};

/// What a room says of its occupants in (XEP-0045).
const MUC_USER: &str = "http://jabber.org/protocol/muc#user";

/// All records that this gateway knows of. Addresses are global ones.
#[derive(Debug)]
pub struct PresenceSync {
    table: Mutex<PresenceTable>,
    metrics: Arc<Metrics>,
}

impl PresenceSync {
    /// None yet. `global` is the shared domain.
    #[must_use]
    pub fn new(global: Host, metrics: Arc<Metrics>) -> Self {
        // Series whose labels are known show from the start.
        for why in UnavailableCause::ALL {
            metrics.presence_withdrawn.with_label_values(&[why.label()]);
        }
        Self {
            table: Mutex::new(PresenceTable::new(global)),
            metrics,
        }
    }

    /// The local server was handed this, which came from `host`.
    pub fn came_in(&self, host: &Host, event: &PresenceEvent) {
        self.table().came_in(host, event);
    }

    /// The local server sent this, and it was given to a link to `host`, perhaps
    /// as one of several copies.
    pub fn went_out(&self, host: &Host, is_copy: bool, event: &PresenceEvent) {
        self.table().went_out(host, is_copy, event);
    }

    /// The local server sent this, and was handed it again.
    pub fn stayed(&self, event: &PresenceEvent) {
        self.table().stayed(event);
    }

    /// This was refused because it could not be delivered in time. `direction`: in, if
    /// it was for the local server. `host`: the other one, as far as it is known.
    pub fn missed(&self, direction: Direction, host: Option<&Host>, event: &PresenceEvent) {
        self.table().missed(direction, host, event);
    }

    /// Whether `stanza`, which came over a link, tells somebody of an end that
    /// this gateway has told of already.
    #[must_use]
    pub fn is_repeated(&self, stanza: &Stanza) -> bool {
        let is_end = stanza.stanza_type() == Some("unavailable");
        is_end && PresenceEvent::of(stanza).is_some_and(|event| self.table().is_repeated(&event))
    }

    /// A probe for `user` in the name of `viewer` is on its way that only this
    /// gateway has sent. `wanted_at`: the host that misses the answers, if one does.
    pub fn asked(&self, user: BareJid, viewer: BareJid, wanted_at: Option<&Host>) {
        let wanted_at = wanted_at.cloned();
        self.table().asked(user, viewer, wanted_at, Instant::now());
    }

    /// Which host misses `stanza`, from the local server, if it answers a
    /// request that this gateway has asked for that host.
    #[must_use]
    pub fn wanted_at(&self, stanza: &Stanza) -> Option<Host> {
        if stanza.kind() != Kind::Presence || stanza.stanza_type().is_some() {
            return None;
        }
        let pair = (stanza.from()?.to_bare(), stanza.to()?.to_bare());
        let table = self.table();
        table.pending.wanted_at(&pair, Instant::now()).cloned()
    }

    /// If `stanza` says that nobody is there, or nobody whom the viewer may see
    /// (RFC 6121 §4.3.2), and this gateway alone wanted to know: what follows.
    /// Nobody else waits for that answer; and a viewer who has only been shown a
    /// presence that was directed to them must not be told that they have no
    /// subscription, which could end a request for one.
    #[must_use]
    pub fn answers_us(&self, stanza: &Stanza) -> Option<Vec<UnavailableNotice>> {
        if !matches!(stanza.stanza_type(), Some("unavailable" | "unsubscribed")) {
            return None;
        }
        let user = stanza.from()?.try_as_full().err()?;
        let viewer = stanza.to()?.to_bare();
        self.table().nobody_home(user, &viewer, Instant::now())
    }

    /// Whoever was not named in answer to a request in time.
    #[must_use]
    pub fn answered(&self) -> Vec<UnavailableNotice> {
        self.table().answered(Instant::now())
    }

    /// Whether somebody elsewhere was shown a session of `user`.
    #[must_use]
    pub fn is_shown_elsewhere(&self, user: &BareJid) -> bool {
        self.table().is_shown_elsewhere(user)
    }

    /// `session` has ended here some time ago: who was not told.
    #[must_use]
    pub fn over(&self, session: &FullJid) -> Vec<UnavailableNotice> {
        self.table().over(session)
    }

    /// Whether `notice` is still to be made: nothing else was said since it
    /// was decided. To be asked where what the session sends is carried, right
    /// before it is made.
    #[must_use]
    pub fn confirm(&self, notice: &UnavailableNotice) -> bool {
        let confirmed = self.table().confirm(notice);
        if confirmed {
            let why = notice.why.label();
            self.metrics
                .presence_withdrawn
                .with_label_values(&[why])
                .inc();
        }
        confirmed
    }

    /// Goes on with a sweep: returns some `most` actions, or fewer.
    #[must_use]
    pub fn advance(
        &self,
        sweep: &mut Sweep,
        most: usize,
        is_here: &dyn Fn(&Jid) -> bool,
    ) -> Vec<SweepAction> {
        self.table().advance(sweep, most, is_here)
    }

    /// Shows in the metrics how many records there are, and returns it.
    pub fn count(&self) -> usize {
        let count = self.table().len();
        let shown = i64::try_from(count).unwrap_or(i64::MAX);
        self.metrics.presence_views.set(shown);
        count
    }

    fn table(&self) -> MutexGuard<'_, PresenceTable> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
