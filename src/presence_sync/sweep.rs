//! Passes over the presence table after an event that concerns many records.

use std::ops::Bound::{Excluded, Unbounded};

use jid::Jid;

use super::action::{ActionKind, Direction, SweepAction, UnavailableCause};
use super::event::Occupant;
use super::key::RecordKey;
use super::table::{PresenceRecord, PresenceTable, RecordState, are_users};
use crate::host::Host;

/// One pass, in pages.
#[derive(Debug)]
pub(crate) struct Sweep {
    cause: SweepCause,
    /// Whether the gateway probes the local server for the users that the peer's
    /// viewers may see. A peer that was only cut off probes by itself.
    probes_server: bool,
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
    /// The table has many records: unused ones are removed.
    Cleanup,
}

enum RecordDecision {
    Keep,
    Remove,
    Perform(Option<SweepAction>),
}

impl Sweep {
    /// `None` if nothing is to be repaired.
    pub(super) fn new(cause: SweepCause, table: &mut PresenceTable) -> Option<Self> {
        let mut probes_server = false;
        if let SweepCause::PeerBack { host, fresh, lost } = &cause {
            let is_stale = table.take_stale(host);
            probes_server = *fresh || is_stale;
            if !probes_server && !lost {
                return None;
            }
        }
        Some(Self {
            cause,
            probes_server,
            cursor: None,
            probed: None,
        })
    }

    pub(super) fn cause(&self) -> &SweepCause {
        &self.cause
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

    /// Checks the next `limit` records. Returns the actions, and whether any
    /// records are left.
    pub(super) fn next_page(
        &mut self,
        table: &mut PresenceTable,
        limit: usize,
        is_here: &dyn Fn(&Jid) -> bool,
    ) -> (Vec<SweepAction>, bool) {
        let start = self.cursor.take().map_or(Unbounded, Excluded);
        let (mut actions, mut removed, mut looked_at) = (Vec::new(), Vec::new(), 0);
        for (key, record) in table.records.range_mut((start, Unbounded)).take(limit) {
            match self.decide(key, record, &table.global, is_here) {
                RecordDecision::Keep => {}
                RecordDecision::Remove => removed.push(key.clone()),
                RecordDecision::Perform(action) => actions.extend(action),
            }
            looked_at += 1;
            if looked_at == limit {
                self.cursor = Some(key.clone());
            }
        }
        for key in removed {
            table.remove(&key);
        }
        (actions, self.cursor.is_some())
    }

    fn decide(
        &mut self,
        key: &RecordKey,
        record: &mut PresenceRecord,
        global: &Host,
        is_here: &dyn Fn(&Jid) -> bool,
    ) -> RecordDecision {
        use Direction::{In, Out};
        use RecordState::{PendingUnavailable, SentAvailable, SentUnavailable};
        use SweepCause::{Cleanup, PeerBack, PeerLost, ServerBack, ServerLost};
        let is_its = record.host.as_ref() == self.host();
        let may_be_its = is_its || record.host.is_none();
        let is_session = !key.resource().is_empty();
        // Other viewers are sessions: in a room, or sent directed presence.
        let is_contact = !key.viewer_str().contains('/') && record.occupant == Occupant::No;
        let are_users = are_users(global, key);
        match (&self.cause, record.direction, record.state) {
            (PeerLost(_), In, SentAvailable | PendingUnavailable) if is_session && is_its => {
                send_unavailable(key, record, UnavailableCause::Peer)
            }
            // The room is notified when its datacenter is back, unless the occupant
            // has joined again by then.
            (PeerLost(_), Out, SentAvailable) if is_its && !is_contact => {
                record.state = PendingUnavailable;
                RecordDecision::Keep
            }
            (PeerBack { .. }, Out, PendingUnavailable) if may_be_its => {
                send_unavailable(key, record, UnavailableCause::Missed)
            }
            (PeerBack { .. }, In, _) if may_be_its && is_contact => {
                if is_session && are_users && record.state == SentAvailable {
                    // The record stays pending until the answer, or until the probe
                    // expires.
                    record.state = PendingUnavailable;
                }
                self.probe_once(key, record)
            }
            (PeerBack { .. }, Out, _)
                if may_be_its && is_contact && are_users && self.probes_server =>
            {
                self.probe_once(key, record)
            }
            (ServerLost, Out, SentAvailable) if is_session => {
                send_unavailable(key, record, UnavailableCause::Server)
            }
            // Only the server knows the presence that it sent and received
            // meanwhile; and a restarted server knows nothing.
            (ServerBack, _, _) if !is_session => self.probe_once(key, record),
            (ServerBack, In, PendingUnavailable) => {
                send_unavailable(key, record, UnavailableCause::Missed)
            }
            (Cleanup, In, SentUnavailable) => RecordDecision::Remove,
            (Cleanup, In, _) if !(is_session && is_contact) => keep_if_here(key.viewer(), is_here),
            (Cleanup, Out, _) if !is_session => keep_if_here(key.user(), is_here),
            _ => RecordDecision::Keep,
        }
    }

    fn host(&self) -> Option<&Host> {
        match &self.cause {
            SweepCause::PeerLost(host) | SweepCause::PeerBack { host, .. } => Some(host),
            _ => None,
        }
    }

    /// One probe serves all records of a user and a viewer, which are neighbours.
    fn probe_once(&mut self, key: &RecordKey, record: &PresenceRecord) -> RecordDecision {
        let before = self.probed.as_ref();
        if before.is_some_and(|before| before.pair() == key.pair()) {
            return RecordDecision::Keep;
        }
        self.probed = Some(key.clone());
        let mut probe = record.action(key, ActionKind::Probe);
        if let Some(probe) = &mut probe {
            probe.user = probe.user.to_bare().into();
            // A peer is probed only for users whose presence it has sent: for
            // others it might report `unsubscribed`.
            if probe.direction == Direction::Out && probe.host.is_none() {
                probe.host = self.host().cloned();
            }
        }
        RecordDecision::Perform(probe)
    }
}

fn send_unavailable(
    key: &RecordKey,
    record: &mut PresenceRecord,
    cause: UnavailableCause,
) -> RecordDecision {
    record.state = RecordState::PendingUnavailable;
    let kind = ActionKind::Unavailable(cause, record.occupant);
    RecordDecision::Perform(record.action(key, kind))
}

fn keep_if_here(jid: Option<Jid>, is_here: &dyn Fn(&Jid) -> bool) -> RecordDecision {
    if jid.is_some_and(|jid| is_here(&jid)) {
        RecordDecision::Keep
    } else {
        RecordDecision::Remove
    }
}
