//! The presence table. Pure: time is an argument.

use std::collections::{BTreeMap, BTreeSet};

use jid::Jid;
use tokio::time::Instant;

use super::action::{ActionKind, Direction, SweepAction};
use super::event::{EventKind, Occupant, PresenceEvent};
use super::key::{RecordKey, bare};
use super::probes::PendingProbes;
use super::quota::{RecordBounds, RecordCounts};
use crate::host::Host;

/// The presence of one session that one viewer has been sent; or, without a
/// session, that the viewer may probe the user.
#[derive(Debug, Clone)]
pub(super) struct PresenceRecord {
    /// The other datacenter; `None` for several or an unknown one.
    pub(super) host: Option<Host>,
    pub(super) direction: Direction,
    /// Unused without a session.
    pub(super) state: RecordState,
    pub(super) occupant: Occupant,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum RecordState {
    SentAvailable,
    /// The viewer needs an `unavailable`, unless other presence passes first.
    PendingUnavailable,
    /// This gateway has sent the `unavailable`: the session's own is not delivered
    /// a second time.
    SentUnavailable,
}

#[derive(Debug)]
pub(super) struct PresenceTable {
    pub(super) global: Host,
    pub(super) records: BTreeMap<RecordKey, PresenceRecord>,
    pub(super) bounds: RecordBounds,
    counts: RecordCounts,
    pub(super) probes: PendingProbes,
    /// Peers that were swept since the last presence that was not delivered. The
    /// host of such a presence is mostly unknown by then.
    pub(super) repaired: BTreeSet<Host>,
}

impl PresenceRecord {
    pub(super) fn is(&self, direction: Direction, state: RecordState) -> bool {
        (self.direction, self.state) == (direction, state)
    }

    /// Other viewers are sessions: in a room, or sent directed presence.
    pub(super) fn is_contact(&self, key: &RecordKey) -> bool {
        !key.viewer_str().contains('/') && self.occupant == Occupant::No
    }

    pub(super) fn action(&self, key: &RecordKey, kind: ActionKind) -> Option<SweepAction> {
        Some(SweepAction {
            kind,
            user: key.user()?,
            viewer: key.viewer()?,
            direction: self.direction,
            host: self.host.clone(),
        })
    }
}

/// Presence that passes.
impl PresenceTable {
    pub(super) fn new(global: Host) -> Self {
        Self {
            global,
            records: BTreeMap::new(),
            bounds: RecordBounds::default(),
            counts: RecordCounts::new(),
            probes: PendingProbes::default(),
            repaired: BTreeSet::new(),
        }
    }

    /// Records that the local server has taken `event` (in), or a link has (out).
    pub(super) fn delivered(&mut self, event: &PresenceEvent) {
        if event.kind != EventKind::Probe {
            // The viewer may see the user, or its subscription changes: a later
            // `unsubscribed` is not the answer to a probe.
            let pair = RecordKey::between(&event.user, &event.viewer);
            self.probes.answer(&pair);
        }
        match event.kind {
            EventKind::Available(occupant) => {
                let key = RecordKey::of(&event.user, &event.viewer);
                self.record(key, event, event.direction, occupant);
                if event.viewer.is_bare() && occupant == Occupant::No {
                    self.relate(event, event.direction);
                }
            }
            EventKind::Unavailable => self.forget(event),
            EventKind::Probe if event.direction == Direction::Out => {
                self.relate(event, Direction::In);
            }
            EventKind::Probe | EventKind::Requested => {}
            EventKind::Cancelled => self.forget_contact(event),
        }
    }

    /// The local server has sent and received `event`: the session has moved here.
    pub(super) fn stayed_local(&mut self, event: &PresenceEvent) {
        if let EventKind::Available(_) | EventKind::Unavailable = event.kind {
            self.forget(event);
        }
    }

    /// Records that `event` was not delivered within `connections.max_wait`. The
    /// next sweep repairs the presence that the viewer sees.
    pub(super) fn undelivered(&mut self, event: &PresenceEvent) {
        let is_out = event.direction == Direction::Out;
        if is_out {
            self.repaired.clear();
        }
        match event.kind {
            EventKind::Available(_) if event.viewer.is_bare() => {
                self.relate(event, event.direction);
            }
            EventKind::Unavailable => {
                let key = RecordKey::of(&event.user, &event.viewer);
                if is_out && self.keys_of(&key).is_empty() {
                    // A link took the presence, which removed the record, and
                    // returned it.
                    self.record(key.clone(), event, Direction::Out, Occupant::No);
                }
                for key in self.keys_of(&key) {
                    let Some(mut record) = self.remove(&key) else {
                        continue;
                    };
                    record.state = RecordState::PendingUnavailable;
                    if is_out {
                        record.host.clone_from(&event.host);
                    }
                    self.put(key, record);
                }
            }
            EventKind::Probe => self.relate(event, event.direction.reverse()),
            EventKind::Available(_) | EventKind::Requested | EventKind::Cancelled => {}
        }
    }

    /// Records that the viewer may probe the user: the viewer's own server has
    /// probed, or the presence was sent to the viewer's bare address. In other
    /// names no probe is sent, as the server could answer `unsubscribed` (RFC 6121
    /// §4.3.2). `direction`: that of the user's presence.
    fn relate(&mut self, event: &PresenceEvent, direction: Direction) {
        let key = RecordKey::between(&event.user, &event.viewer);
        if are_users(&self.global, &key) {
            self.record(key, event, direction, Occupant::No);
        }
    }

    fn record(
        &mut self,
        key: RecordKey,
        event: &PresenceEvent,
        direction: Direction,
        occupant: Occupant,
    ) {
        let known = self.records.get(&key);
        let known = known.filter(|known| known.direction == direction);
        let host = match (known.map(|known| &known.host), direction) {
            (Some(known), _) if event.host.is_none() || *known == event.host => known.clone(),
            // One of the user's datacenters is probed, each of the viewer's notified.
            (Some(known), Direction::In) if event.is_copy => known.clone(),
            (Some(_), Direction::Out) if event.is_copy => None,
            _ => event.host.clone(),
        };
        let record = PresenceRecord {
            host,
            direction,
            state: RecordState::SentAvailable,
            occupant,
        };
        self.put(key, record);
    }

    /// Removes the records of a session. An `unavailable` to a bare address goes to
    /// all its resources.
    fn forget(&mut self, event: &PresenceEvent) {
        let key = RecordKey::of(&event.user, &event.viewer);
        let removed = self.keys_of(&key).into_iter();
        let removed = removed.filter_map(|key| self.remove(&key));
        let own = removed.filter(|record| record.occupant == Occupant::Oneself);
        if own.count() > 0 {
            // The room sends no more presence of its other occupants.
            for key in self.keys_of_pair(&key) {
                self.remove(&key);
            }
        }
    }

    /// Removes the records of a contact: the servers end the presence that the
    /// viewer sees. A probe in the viewer's name now could meet a new request,
    /// which the user's server would withdraw with `unsubscribed`.
    fn forget_contact(&mut self, event: &PresenceEvent) {
        let pair = RecordKey::between(&event.user, &event.viewer);
        for key in self.keys_of_pair(&pair) {
            if self
                .records
                .get(&key)
                .is_some_and(|record| record.is_contact(&key))
            {
                self.remove(&key);
            }
        }
    }

    /// Records a probe that only this gateway has sent.
    pub(super) fn probed(&mut self, key: RecordKey, wanted_at: Option<Host>, now: Instant) {
        if are_users(&self.global, &key) {
            self.probes.add(key, wanted_at, now);
        }
    }

    /// Whether this gateway has sent the same `unavailable`.
    pub(super) fn is_repeated(&mut self, key: &RecordKey) -> bool {
        let record = self.records.get(key);
        let is_repeated = record.is_some_and(|record| record.state == RecordState::SentUnavailable);
        if is_repeated {
            self.remove(key);
        }
        is_repeated
    }

    /// Whether the `unavailable` for `key` is still to be sent: nothing else has
    /// passed since it was decided. If so, the caller sends it now.
    pub(super) fn confirm(&mut self, key: &RecordKey) -> bool {
        let record = self.records.get_mut(key);
        let Some(record) = record.filter(|r| r.state == RecordState::PendingUnavailable) else {
            return false;
        };
        if record.direction == Direction::In && record.is_contact(key) {
            record.state = RecordState::SentUnavailable;
        } else {
            self.remove(key);
        }
        true
    }
}

/// The records.
impl PresenceTable {
    /// Adds a record. Beyond a bound the record is dropped, and its viewer is not
    /// notified later.
    fn put(&mut self, key: RecordKey, record: PresenceRecord) {
        let is_known = self.remove(&key).is_some();
        let peer = record.host.as_ref().map(Host::as_str);
        let users = || charged_users(&self.global, &key);
        let weight = key.weight();
        if is_known || self.counts.have_room(&self.bounds, users(), peer) {
            self.counts.change(users().chain(peer), weight);
            self.records.insert(key, record);
        }
    }

    pub(super) fn remove(&mut self, key: &RecordKey) -> Option<PresenceRecord> {
        let record = self.records.remove(key)?;
        let peer = record.host.as_ref().map(Host::as_str);
        let names = charged_users(&self.global, key).chain(peer);
        self.counts.change(names, -key.weight());
        Some(record)
    }

    /// Whether there is any presence of `user`.
    pub(super) fn knows(&self, user: &Jid) -> bool {
        let first = RecordKey::first_of_user(user);
        let mut from = self.records.range(&first..);
        from.next().is_some_and(|(key, _)| key.starts_with(&first))
    }

    /// The keys of the session with its viewer or, if the viewer is a bare JID, its
    /// resources.
    fn keys_of(&self, key: &RecordKey) -> Vec<RecordKey> {
        let mut keys = self.keys_of_pair(key);
        keys.retain(|other| other.resource() == key.resource());
        keys
    }

    /// The keys like [`Self::keys_of`], for all sessions of the user.
    fn keys_of_pair(&self, key: &RecordKey) -> Vec<RecordKey> {
        let first = key.first_of_pair();
        let from = self.records.range(&first..).map(|(key, _)| key);
        let keys = from.take_while(|other| other.starts_with(&first));
        keys.filter(|other| other.concerns(key)).cloned().collect()
    }
}

/// The users of the shared domain that a record counts against.
fn charged_users<'a>(global: &'a Host, key: &'a RecordKey) -> impl Iterator<Item = &'a str> {
    let names = [key.user_str(), bare(key.viewer_str())].into_iter();
    names.filter(move |name| is_user(global, name))
}

pub(super) fn are_users(global: &Host, key: &RecordKey) -> bool {
    charged_users(global, key).count() == 2
}

fn is_user(global: &Host, bare: &str) -> bool {
    let at = bare.split_once('@');
    at.is_some_and(|(_, domain)| *global == *domain)
}
