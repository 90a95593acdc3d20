//! The presence table. Pure: time is an argument.

use std::collections::BTreeMap;

use jid::Jid;
use tokio::time::Instant;

use super::action::{ActionKind, Direction, SweepAction, UnavailableCause};
use super::event::{EventKind, Occupant, PresenceEvent};
use super::key::RecordKey;
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

#[derive(Debug, Clone)]
pub(super) struct PresenceRoute {
    direction: Direction,
    /// The other datacenter, if it is known.
    host: Option<Host>,
    /// Whether other hosts may be sent the presence too.
    is_copy: bool,
}

#[derive(Debug)]
pub(super) struct PresenceTable {
    pub(super) global: Host,
    pub(super) records: BTreeMap<RecordKey, PresenceRecord>,
    pub(super) bounds: RecordBounds,
    counts: RecordCounts,
    pub(super) probes: PendingProbes,
    /// The number of stanzas that were not delivered so far.
    undelivered: u64,
    /// Each host once, for all records of the host, and `undelivered` at its last
    /// sweep.
    hosts: BTreeMap<Host, u64>,
}

impl PresenceRecord {
    pub(super) fn action(&self, key: &RecordKey, kind: ActionKind) -> Option<SweepAction> {
        let (user, viewer) = (key.user()?, key.viewer()?);
        let (direction, host) = (self.direction, self.host.clone());
        Some(SweepAction {
            kind,
            user,
            viewer,
            direction,
            host,
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
            undelivered: 0,
            hosts: BTreeMap::new(),
        }
    }

    /// Records that the local server has taken `event` (in), or a link has (out).
    pub(super) fn delivered(&mut self, mut route: PresenceRoute, event: &PresenceEvent) {
        route.host = route.host.map(|host| self.shared(host));
        let key = RecordKey::of(&event.user, &event.viewer);
        if event.kind != EventKind::Probe {
            // The viewer may see the user, or its subscription changes: a later
            // `unsubscribed` is not the answer to a probe.
            let pair = RecordKey::between(&event.user, &event.viewer);
            self.probes.answer(&pair);
        }
        match event.kind {
            EventKind::Available(occupant) => {
                self.record(key, &route, occupant);
                if event.viewer.is_bare() && occupant == Occupant::No {
                    self.relate(event, &route);
                }
            }
            EventKind::Unavailable => self.forget(&key),
            EventKind::Probe if route.direction == Direction::Out => {
                self.relate(event, &route.of_answer());
            }
            EventKind::Probe | EventKind::Requested => {}
            EventKind::Cancelled => self.forget_contact(event),
        }
    }

    /// Removes the records of a contact: the servers end the presence that the
    /// viewer sees. A probe in the viewer's name now could meet a new request,
    /// which the user's server would withdraw with `unsubscribed`.
    fn forget_contact(&mut self, event: &PresenceEvent) {
        let pair = RecordKey::between(&event.user, &event.viewer);
        for key in self.keys_of_pair(&pair) {
            let record = self.records.get(&key);
            let is_occupant = record.is_some_and(|record| record.occupant != Occupant::No);
            if !is_occupant && !key.viewer_str().contains('/') {
                self.remove(&key);
            }
        }
    }

    /// The local server has sent and received `event`: the session has moved here.
    pub(super) fn stayed_local(&mut self, event: &PresenceEvent) {
        if let EventKind::Available(_) | EventKind::Unavailable = event.kind {
            self.forget(&RecordKey::of(&event.user, &event.viewer));
        }
    }

    /// Records that `event` was not delivered within `connections.max_wait`. The
    /// next sweep repairs the presence that the viewer sees.
    pub(super) fn undelivered(&mut self, mut route: PresenceRoute, event: &PresenceEvent) {
        route.host = route.host.map(|host| self.shared(host));
        let is_out = route.direction == Direction::Out;
        self.undelivered += u64::from(is_out);
        match event.kind {
            EventKind::Available(_) if event.viewer.is_bare() => self.relate(event, &route),
            EventKind::Unavailable => {
                let key = RecordKey::of(&event.user, &event.viewer);
                let mut keys = self.keys_of(&key);
                if keys.is_empty() && is_out {
                    // A link took the presence, which removed the record, and
                    // returned it.
                    self.record(key.clone(), &route, Occupant::No);
                    keys.push(key);
                }
                for key in keys {
                    let Some(mut record) = self.remove(&key) else {
                        continue;
                    };
                    record.state = RecordState::PendingUnavailable;
                    if is_out {
                        record.host.clone_from(&route.host);
                    }
                    self.put(key, record);
                }
            }
            EventKind::Probe => self.relate(event, &route.of_answer()),
            EventKind::Available(_) | EventKind::Requested | EventKind::Cancelled => {}
        }
    }

    /// Whether presence was not delivered since the last call for `host`. The host
    /// of such a presence is mostly unknown by then.
    pub(super) fn take_stale(&mut self, host: &Host) -> bool {
        let before = self.hosts.insert(host.clone(), self.undelivered);
        before != Some(self.undelivered)
    }

    fn shared(&mut self, host: Host) -> Host {
        if let Some((known, _)) = self.hosts.get_key_value(&host) {
            return known.clone();
        }
        self.hosts.insert(host.clone(), self.undelivered);
        host
    }

    /// Records that the viewer may probe the user: the viewer's own server has
    /// probed, or the presence was sent to the viewer's bare address. In other
    /// names no probe is sent, as the server could answer `unsubscribed` (RFC 6121
    /// §4.3.2).
    fn relate(&mut self, event: &PresenceEvent, route: &PresenceRoute) {
        let key = RecordKey::between(&event.user, &event.viewer);
        if are_users(&self.global, &key) {
            self.record(key, route, Occupant::No);
        }
    }

    fn record(&mut self, key: RecordKey, route: &PresenceRoute, occupant: Occupant) {
        let direction = route.direction;
        let known = self.records.get(&key);
        let known = known.filter(|known| known.direction == direction);
        let host = match known.map(|known| &known.host) {
            Some(known) if route.host.is_none() => known,
            Some(known) if route.is_copy && *known != route.host => match direction {
                // One of the user's datacenters is probed, each of the viewer's notified.
                Direction::In => known,
                Direction::Out => &None,
            },
            _ => &route.host,
        };
        let record = PresenceRecord {
            host: host.clone(),
            direction,
            state: RecordState::SentAvailable,
            occupant,
        };
        self.put(key, record);
    }

    /// Removes records. An `unavailable` to a bare address goes to all its
    /// resources.
    fn forget(&mut self, key: &RecordKey) {
        let keys = self.keys_of(key).into_iter();
        let removed: Vec<_> = keys.filter_map(|key| self.remove(&key)).collect();
        if removed
            .iter()
            .any(|record| record.occupant == Occupant::Oneself)
        {
            // The room sends no more presence of its other occupants.
            for key in self.keys_of_pair(key) {
                self.remove(&key);
            }
        }
    }
}

/// Probes, and sessions that have ended.
impl PresenceTable {
    /// Records a probe that only this gateway has sent.
    pub(super) fn probed(&mut self, key: RecordKey, wanted_at: Option<Host>, now: Instant) {
        if are_users(&self.global, &key) {
            self.probes.add(key, wanted_at, now);
        }
    }

    /// A server reports no session of a user that the viewer may see. `None` unless
    /// the report answers a probe of this gateway.
    pub(super) fn nobody_home(&mut self, key: &RecordKey) -> Option<Vec<SweepAction>> {
        let is_ours = self.probes.answer(key);
        is_ours.then(|| self.unanswered(key))
    }

    /// Returns actions for the sessions that servers did not name in time.
    pub(super) fn expire_probes(&mut self, limit: usize, now: Instant) -> Vec<SweepAction> {
        let expired = self.probes.take_expired(limit, now).into_iter();
        expired.flat_map(|key| self.unanswered(&key)).collect()
    }

    fn unanswered(&mut self, key: &RecordKey) -> Vec<SweepAction> {
        let due = (Direction::In, RecordState::PendingUnavailable);
        self.end(self.keys_of_pair(key), due, UnavailableCause::Unanswered)
    }

    /// Returns the actions for `session`, which the local server has lost.
    pub(super) fn session_ended(&mut self, session: &Jid) -> Vec<SweepAction> {
        let resource = session.resource().map_or("", |resource| resource.as_str());
        let keys = self.range(RecordKey::first_of_user(session));
        let keys = keys.filter(|(key, _)| key.resource() == resource);
        let keys = keys.map(|(key, _)| key.clone()).collect();
        let due = (Direction::Out, RecordState::SentAvailable);
        self.end(keys, due, UnavailableCause::Session)
    }

    fn end(
        &mut self,
        keys: Vec<RecordKey>,
        due: (Direction, RecordState),
        cause: UnavailableCause,
    ) -> Vec<SweepAction> {
        let action = |key: RecordKey| {
            let record = self.records.get_mut(&key)?;
            if (record.direction, record.state) != due {
                return None;
            }
            record.state = RecordState::PendingUnavailable;
            record.action(&key, ActionKind::Unavailable(cause, record.occupant))
        };
        keys.into_iter().filter_map(action).collect()
    }

    /// Whether viewers elsewhere have been sent presence of `user`.
    pub(super) fn has_remote_viewers(&self, user: &Jid) -> bool {
        self.range(RecordKey::first_of_user(user))
            .any(|(_, record)| record.direction == Direction::Out)
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
        let is_contact = record.occupant == Occupant::No && !key.viewer_str().contains('/');
        if record.direction == Direction::In && is_contact {
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
        if is_known || self.has_room(&key, record.host.as_ref()) {
            for name in charged(&self.global, &key, record.host.as_ref()) {
                self.counts.add(name);
            }
            self.records.insert(key, record);
        }
    }

    fn has_room(&self, key: &RecordKey, peer: Option<&Host>) -> bool {
        let is_below = |name: &str, bound| self.counts.get(name) < bound;
        self.records.len() < self.bounds.all
            && peer.is_none_or(|peer| is_below(peer.as_str(), self.bounds.per_peer))
            && charged(&self.global, key, None).all(|user| is_below(user, self.bounds.per_user))
    }

    pub(super) fn remove(&mut self, key: &RecordKey) -> Option<PresenceRecord> {
        let record = self.records.remove(key)?;
        for name in charged(&self.global, key, record.host.as_ref()) {
            self.counts.remove(name);
        }
        Some(record)
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
        let keys = self.range(key.first_of_pair()).map(|(key, _)| key);
        keys.filter(|other| other.concerns(key)).cloned().collect()
    }

    fn range(&self, first: RecordKey) -> impl Iterator<Item = (&RecordKey, &PresenceRecord)> {
        let from = self.records.range(first.clone()..);
        from.take_while(move |(key, _)| key.starts_with(&first))
    }
}

impl PresenceRoute {
    pub(super) fn new(direction: Direction, host: Option<Host>, is_copy: bool) -> Self {
        Self {
            direction,
            host,
            is_copy,
        }
    }

    /// The route of the presence that answers a probe.
    fn of_answer(&self) -> Self {
        let direction = match self.direction {
            Direction::In => Direction::Out,
            Direction::Out => Direction::In,
        };
        Self::new(direction, self.host.clone(), self.is_copy)
    }
}

/// The names that a record counts against: users of the shared domain and `peer`.
fn charged<'a>(
    global: &'a Host,
    key: &'a RecordKey,
    peer: Option<&'a Host>,
) -> impl Iterator<Item = &'a str> {
    let users = [key.user_str(), bare(key.viewer_str())].into_iter();
    let users = users.filter(move |name| is_user(global, name));
    users.chain(peer.map(Host::as_str))
}

pub(super) fn are_users(global: &Host, key: &RecordKey) -> bool {
    is_user(global, key.user_str()) && is_user(global, bare(key.viewer_str()))
}

fn is_user(global: &Host, bare: &str) -> bool {
    let at = bare.split_once('@');
    at.is_some_and(|(_, domain)| *global == *domain)
}

fn bare(jid: &str) -> &str {
    jid.split_once('/').map_or(jid, |(bare, _)| bare)
}
