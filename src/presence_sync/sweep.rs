//! Passes over the presence table after an event that concerns many records.

use std::ops::Bound::{Excluded, Included, Unbounded};

use jid::Jid;

use super::action::{ActionKind, Direction, SweepAction, UnavailableCause};
use super::key::RecordKey;
use super::table::{PresenceRecord, PresenceTable, RecordState, are_users};
use crate::host::Host;

/// One pass, in pages.
#[derive(Debug)]
pub(crate) struct Sweep {
    pub(super) cause: SweepCause,
    /// Whether the gateway probes the local server for the users that the peer's
    /// viewers may see. A peer that was only cut off probes by itself.
    probes_server: bool,
    /// The beginning of the keys of all records that are checked.
    prefix: RecordKey,
    /// The last key of the page before; `None` at the beginning and at the end.
    cursor: Option<RecordKey>,
    /// A key of the last pair that was probed.
    probed: Option<RecordKey>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum SweepCause {
    PeerLost(Host),
    PeerBack {
        host: Host,
        /// Whether the peer has a process that was not there before and may know
        /// nothing.
        fresh: bool,
        /// Whether the return follows a `PeerLost`.
        lost: bool,
    },
    /// The local server is unreachable.
    ServerLost,
    ServerBack,
    /// The local server has lost the session without an `unavailable`.
    SessionEnded(Jid),
    /// The sessions of a user that are still pending were not named to the viewer.
    Unanswered(RecordKey),
    /// The table has many records: unused ones are removed.
    Cleanup,
}

enum RecordDecision {
    Keep,
    Remove,
    /// The viewer needs an `unavailable`, later.
    Pend,
    SendUnavailable(UnavailableCause),
    Probe,
}

impl Sweep {
    /// `None` if nothing is to be repaired.
    pub(super) fn new(cause: SweepCause, table: &mut PresenceTable) -> Option<Self> {
        let mut probes_server = false;
        if let SweepCause::PeerBack { host, fresh, lost } = &cause {
            let is_stale = table.repaired.insert(host.clone());
            probes_server = *fresh || is_stale;
            if !probes_server && !lost {
                return None;
            }
        }
        let prefix = match &cause {
            SweepCause::SessionEnded(session) => RecordKey::first_of_user(session),
            SweepCause::Unanswered(pair) => pair.first_of_pair(),
            _ => RecordKey::default(),
        };
        Some(Self {
            cause,
            probes_server,
            prefix,
            cursor: None,
            probed: None,
        })
    }

    /// Whether the sweep checks the records of one user only.
    pub(super) fn is_small(&self) -> bool {
        self.prefix != RecordKey::default()
    }

    /// Whether `newer` makes this sweep pointless.
    pub(super) fn is_outdated_by(&self, newer: &SweepCause) -> bool {
        use SweepCause::{PeerBack, PeerLost, ServerBack, ServerLost};
        match (&self.cause, newer) {
            (ServerLost, ServerBack) | (ServerBack, ServerLost) => true,
            (PeerLost(old), PeerBack { host: new, .. })
            | (PeerBack { host: old, .. }, PeerLost(new)) => old == new,
            _ => false,
        }
    }

    /// Checks as many records as are `left` in this tick. Returns the actions, and
    /// whether the sweep has more records.
    pub(super) fn next_page(
        &mut self,
        table: &mut PresenceTable,
        left: &mut usize,
        is_here: &dyn Fn(&Jid) -> bool,
    ) -> (Vec<SweepAction>, bool) {
        let start = self.cursor.take();
        let start = start.map_or_else(|| Included(self.prefix.clone()), Excluded);
        let (mut actions, mut removed) = (Vec::new(), Vec::new());
        for (key, record) in table.records.range_mut((start, Unbounded)).take(*left) {
            if !key.starts_with(&self.prefix) {
                break;
            }
            match self.decide(key, record, &table.global, is_here) {
                RecordDecision::Keep => {}
                RecordDecision::Remove => removed.push(key.clone()),
                RecordDecision::Pend => record.state = RecordState::PendingUnavailable,
                RecordDecision::SendUnavailable(cause) => {
                    record.state = RecordState::PendingUnavailable;
                    let kind = ActionKind::Unavailable(cause, record.occupant);
                    actions.extend(record.action(key, kind));
                }
                RecordDecision::Probe => {
                    let is_session = !key.resource().is_empty();
                    let is_awaited = is_session && are_users(&table.global, key);
                    if is_awaited && record.is(Direction::In, RecordState::SentAvailable) {
                        // The record stays pending until the answer, or until the
                        // probe expires.
                        record.state = RecordState::PendingUnavailable;
                    }
                    actions.extend(self.probe_once(key, record));
                }
            }
            *left -= 1;
            if *left == 0 {
                self.cursor = Some(key.clone());
            }
        }
        for key in removed {
            table.remove(&key);
        }
        (actions, self.cursor.is_some())
    }

    fn decide(
        &self,
        key: &RecordKey,
        record: &PresenceRecord,
        global: &Host,
        is_here: &dyn Fn(&Jid) -> bool,
    ) -> RecordDecision {
        use Direction::{In, Out};
        use RecordDecision::{Keep, Pend, Probe, Remove, SendUnavailable};
        use RecordState::{PendingUnavailable, SentAvailable, SentUnavailable};
        use SweepCause::{
            Cleanup, PeerBack, PeerLost, ServerBack, ServerLost, SessionEnded, Unanswered,
        };
        let is_its = record.host.as_ref() == self.host();
        let may_be_its = is_its || record.host.is_none();
        let is_session = !key.resource().is_empty();
        let is_contact = record.is_contact(key);
        let is_missing = |jid: Option<Jid>| !jid.is_some_and(|jid| is_here(&jid));
        match (&self.cause, record.direction, record.state) {
            (PeerLost(_), In, SentAvailable | PendingUnavailable) if is_session && is_its => {
                SendUnavailable(UnavailableCause::Peer)
            }
            // The room is notified when its datacenter is back, unless the occupant
            // has joined again by then.
            (PeerLost(_), Out, SentAvailable) if is_its && !is_contact => Pend,
            (PeerBack { .. }, Out, PendingUnavailable) if may_be_its => {
                SendUnavailable(UnavailableCause::Missed)
            }
            (PeerBack { .. }, In, _) if may_be_its && is_contact => Probe,
            (PeerBack { .. }, Out, _) if may_be_its && is_contact && self.probes_server => {
                match are_users(global, key) {
                    true => Probe,
                    false => Keep,
                }
            }
            (ServerLost, Out, SentAvailable) if is_session => {
                SendUnavailable(UnavailableCause::Server)
            }
            // Only the server knows the presence that it sent and received
            // meanwhile; and a restarted server knows nothing.
            (ServerBack, _, _) if !is_session => Probe,
            (ServerBack, In, PendingUnavailable) => SendUnavailable(UnavailableCause::Missed),
            (SessionEnded(session), Out, SentAvailable)
                if key.resource() == RecordKey::resource_of(session) && !is_here(session) =>
            {
                SendUnavailable(UnavailableCause::Session)
            }
            (Unanswered(pair), In, PendingUnavailable) if key.concerns(pair) => {
                SendUnavailable(UnavailableCause::Unanswered)
            }
            (Cleanup, In, SentUnavailable) => Remove,
            (Cleanup, In, _) if !(is_session && is_contact) && is_missing(key.viewer()) => Remove,
            (Cleanup, Out, _) if !is_session && is_missing(key.user()) => Remove,
            _ => Keep,
        }
    }

    fn host(&self) -> Option<&Host> {
        match &self.cause {
            SweepCause::PeerLost(host) | SweepCause::PeerBack { host, .. } => Some(host),
            _ => None,
        }
    }

    /// One probe serves all records of a user and a viewer, which are neighbours.
    fn probe_once(&mut self, key: &RecordKey, record: &PresenceRecord) -> Option<SweepAction> {
        let before = self.probed.as_ref();
        if before.is_some_and(|before| before.pair() == key.pair()) {
            return None;
        }
        self.probed = Some(key.clone());
        let mut probe = record.action(key, ActionKind::Probe)?;
        probe.user = probe.user.to_bare().into();
        // A peer is probed only for users whose presence it has sent: for others it
        // might report `unsubscribed`.
        if probe.direction == Direction::Out && probe.host.is_none() {
            probe.host = self.host().cloned();
        }
        Some(probe)
    }
}
