//! All records, and what is to be said about them. Pure: time is an argument.

use std::collections::BTreeMap;
use std::ops::Bound::{Excluded, Included, Unbounded};

use jid::{BareJid, FullJid, Jid};

use super::action::{Direction, ProbeRequest, SweepAction};
use super::hosts::{HostId, Hosts};
use super::key::RecordKey;
use super::probes::PendingProbes;
use super::sweep::{RecordAction, Sweep};
use super::{Occupant, PresenceEvent};
use crate::host::Host;

/// As many are kept; what comes on top is not remembered: some 150 MB.
const MOST: usize = 1_000_000;
/// As many are looked at in one go, so that nobody waits for long.
const LOOK: usize = 5_000;

/// What one viewer knows of one session; or, without a session, that the
/// viewer may ask for the user.
#[derive(Debug, Clone, Copy)]
pub(super) struct PresenceRecord {
    pub(super) host: HostId,
    pub(super) direction: Direction,
    pub(super) state: RecordState,
    pub(super) occupant: Occupant,
}

/// What the viewer was told last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum RecordState {
    /// That the session is there.
    SentAvailable,
    /// The same; but whether it still is was asked.
    InDoubt,
    /// The same; but it is about to be told otherwise, by us.
    PendingUnavailable,
    /// That the session is gone, by us.
    SentUnavailable,
    /// That the session is there; that it is gone did not get through.
    Undelivered,
    /// Not all: something did not get through. Only without a session.
    Incomplete,
}

/// All records.
#[derive(Debug)]
pub(super) struct PresenceTable {
    global: Host,
    pub(super) records: BTreeMap<RecordKey, PresenceRecord>,
    pub(super) hosts: Hosts,
    pub(super) pending: PendingProbes,
}

impl PresenceTable {
    pub(super) fn new(global: Host) -> Self {
        Self {
            global,
            records: BTreeMap::new(),
            hosts: Hosts::default(),
            pending: PendingProbes::default(),
        }
    }

    /// How many records there are.
    pub(super) fn len(&self) -> usize {
        self.records.len()
    }

    /// The local server was handed this from `host`.
    pub(super) fn came_in(&mut self, host: &Host, event: &PresenceEvent) {
        let host = self.hosts.id(Some(host));
        self.note_answer(event);
        match event {
            PresenceEvent::Available {
                session,
                viewer,
                occupant,
            } => self.show(Direction::In, host, session, viewer, *occupant),
            PresenceEvent::Unavailable { session, viewer } => self.forget(session, viewer),
            PresenceEvent::Cancelled { user, viewer } => self.cut(user, viewer),
            PresenceEvent::Probe { .. } => {}
        }
    }

    /// The local server sent this, and it goes to `host`, perhaps to others too.
    pub(super) fn went_out(&mut self, host: &Host, is_copy: bool, event: &PresenceEvent) {
        let host = self.hosts.id(Some(host));
        self.note_answer(event);
        match event {
            PresenceEvent::Available {
                session,
                viewer,
                occupant,
            } => {
                let host = self.or_several(
                    RecordKey::of(session, viewer),
                    Direction::Out,
                    host,
                    is_copy,
                );
                self.show(Direction::Out, host, session, viewer, *occupant);
            }
            PresenceEvent::Unavailable { session, viewer } => self.forget(session, viewer),
            PresenceEvent::Cancelled { user, viewer } => self.cut(user, viewer),
            PresenceEvent::Probe { user, viewer } => {
                let host = self.or_several(
                    RecordKey::between(user, viewer),
                    Direction::In,
                    host,
                    is_copy,
                );
                self.relate(
                    Direction::In,
                    host,
                    RecordState::SentAvailable,
                    user,
                    viewer,
                );
            }
        }
    }

    /// Whoever is shown or told something of a session may see its user: if they
    /// may not any more later, that is news, and no answer to a request of ours.
    fn note_answer(&mut self, event: &PresenceEvent) {
        if let PresenceEvent::Available {
            session, viewer, ..
        }
        | PresenceEvent::Unavailable { session, viewer } = event
        {
            let pair = (session.to_bare(), viewer.to_bare());
            self.pending.note_answer(&pair);
        }
    }

    /// None, if a copy went to another host than the one before.
    fn or_several(
        &self,
        key: RecordKey,
        direction: Direction,
        host: HostId,
        is_copy: bool,
    ) -> HostId {
        match self.records.get(&key) {
            Some(record) if is_copy && record.direction == direction && record.host != host => {
                HostId::NONE
            }
            _ => host,
        }
    }

    /// The local server sent this, and was handed it: the session has moved here,
    /// if it was elsewhere.
    pub(super) fn stayed(&mut self, event: &PresenceEvent) {
        match event {
            PresenceEvent::Available {
                session, viewer, ..
            }
            | PresenceEvent::Unavailable { session, viewer } => self.forget(session, viewer),
            PresenceEvent::Cancelled { .. } | PresenceEvent::Probe { .. } => {}
        }
    }

    /// This did not get through in time. `host`: the other one, as far as it is known.
    pub(super) fn missed(
        &mut self,
        direction: Direction,
        host: Option<&Host>,
        event: &PresenceEvent,
    ) {
        let other = match direction {
            Direction::In => Direction::Out,
            Direction::Out => Direction::In,
        };
        let id = self.hosts.id(host);
        match event {
            PresenceEvent::Available {
                session, viewer, ..
            } => {
                if let Err(viewer) = viewer.try_as_full() {
                    let user = session.to_bare();
                    self.relate(direction, id, RecordState::Incomplete, &user, viewer);
                }
            }
            PresenceEvent::Unavailable { session, viewer } => {
                let mut told = self.told_of(session, viewer);
                for record in &mut told {
                    record.state = RecordState::Undelivered;
                    if direction == Direction::Out {
                        record.host = id;
                    }
                }
                if told.is_empty() && direction == Direction::Out {
                    // Said by us, and forgotten then.
                    let record = PresenceRecord {
                        host: id,
                        direction,
                        state: RecordState::Undelivered,
                        occupant: Occupant::No,
                    };
                    self.put(RecordKey::of(session, viewer), record);
                }
            }
            PresenceEvent::Probe { user, viewer } => {
                self.relate(other, id, RecordState::Incomplete, user, viewer);
            }
            PresenceEvent::Cancelled { .. } => {}
        }
    }

    fn show(
        &mut self,
        direction: Direction,
        host: HostId,
        session: &FullJid,
        viewer: &Jid,
        occupant: Occupant,
    ) {
        let record = PresenceRecord {
            host,
            direction,
            state: RecordState::SentAvailable,
            occupant,
        };
        self.put(RecordKey::of(session, viewer), record);
        if let Err(viewer) = viewer.try_as_full() {
            self.relate(
                direction,
                host,
                RecordState::SentAvailable,
                &session.to_bare(),
                viewer,
            );
        }
    }

    /// `viewer` may ask for `user`: its own server does, or it was shown the
    /// presence as a contact. In the name of others it must not be done: a
    /// server could answer that they have no subscription (RFC 6121 §4.3.2).
    fn relate(
        &mut self,
        direction: Direction,
        host: HostId,
        state: RecordState,
        user: &BareJid,
        viewer: &BareJid,
    ) {
        if !(self.is_user(user) && self.is_user(viewer)) {
            return;
        }
        let key = RecordKey::between(user, viewer);
        let known = self
            .records
            .get(&key)
            .filter(|known| known.direction == direction);
        let record = PresenceRecord {
            host: match known {
                Some(known) if host == HostId::NONE => known.host,
                _ => host,
            },
            direction,
            state: match known {
                Some(known) if known.state == RecordState::Incomplete => RecordState::Incomplete,
                _ => state,
            },
            occupant: Occupant::No,
        };
        self.put(key, record);
    }

    fn put(&mut self, key: RecordKey, record: PresenceRecord) {
        if self.records.len() < MOST || self.records.contains_key(&key) {
            self.records.insert(key, record);
        }
    }

    /// To tell a bare JID tells its resources too, whoever of them was shown it.
    fn forget(&mut self, session: &FullJid, viewer: &Jid) {
        let mut has_left_room = false;
        for key in self.keys_of(session, viewer) {
            let record = self.records.remove(&key);
            has_left_room |= record.is_some_and(|record| record.occupant == Occupant::Oneself);
        }
        if has_left_room {
            // It is not told of the others any more.
            let room = session.to_bare();
            for key in self.keys_like(&room, viewer) {
                self.records.remove(&key);
            }
        }
    }

    fn cut(&mut self, user: &BareJid, viewer: &BareJid) {
        self.records.remove(&RecordKey::between(user, viewer));
    }

    pub(super) fn keys_like(&self, user: &BareJid, viewer: &Jid) -> Vec<RecordKey> {
        let prefix = RecordKey::all_like(user, viewer);
        let like = self.keys_from(&prefix);
        like.filter(|key| key.is_of_viewer(viewer))
            .cloned()
            .collect()
    }

    fn keys_of(&self, session: &FullJid, viewer: &Jid) -> Vec<RecordKey> {
        let mut keys = self.keys_like(&session.to_bare(), viewer);
        keys.retain(|key| key.resource() == session.resource().as_str());
        keys
    }

    pub(super) fn keys_from<'a>(&'a self, prefix: &'a str) -> impl Iterator<Item = &'a RecordKey> {
        let from = self
            .records
            .range::<str, _>((Included(prefix), Unbounded))
            .map(|(key, _)| key);
        from.take_while(move |key| key.starts_with(prefix))
    }

    fn told_of(&mut self, session: &FullJid, viewer: &Jid) -> Vec<&mut PresenceRecord> {
        let prefix = RecordKey::all_like(&session.to_bare(), viewer);
        let from = self
            .records
            .range_mut::<str, _>((Included(prefix.as_str()), Unbounded));
        from.take_while(|(key, _)| key.starts_with(&prefix))
            .filter(|(key, _)| {
                key.is_of_viewer(viewer) && key.resource() == session.resource().as_str()
            })
            .map(|(_, record)| record)
            .collect()
    }

    /// Goes on with a sweep, until there are `most` actions or it has looked at enough.
    pub(super) fn advance(
        &mut self,
        sweep: &mut Sweep,
        most: usize,
        is_here: &dyn Fn(&Jid) -> bool,
    ) -> Vec<SweepAction> {
        let host = sweep
            .host()
            .map_or(HostId::NONE, |host| self.hosts.id(Some(host)));
        let start = sweep.cursor.take().map_or(Unbounded, Excluded);
        let (mut record_actions, mut looked) = (Vec::new(), 0);
        let global = self.global.as_str();
        for (key, record) in self.records.range_mut::<RecordKey, _>((start, Unbounded)) {
            let record_action = sweep.judge(key, record, host, global, is_here);
            if record_action != RecordAction::Keep {
                record_actions.push((key.clone(), *record, record_action));
            }
            looked += 1;
            if looked >= LOOK || record_actions.len() >= most {
                sweep.cursor = Some(key.clone());
                break;
            }
        }
        let host = sweep.host();
        let carry_out =
            |(key, record, record_action)| self.carry_out(&key, &record, record_action, host);
        record_actions.into_iter().filter_map(carry_out).collect()
    }

    /// `host`: that of the sweep, for what the local server is to say to no host in
    /// particular. Another server is only asked for users that it has shown: of
    /// others it might say that nobody may see them.
    fn carry_out(
        &mut self,
        key: &RecordKey,
        record: &PresenceRecord,
        record_action: RecordAction,
        host: Option<&Host>,
    ) -> Option<SweepAction> {
        let its = self.hosts.find(record.host);
        let host = if record.direction == Direction::Out {
            its.or(host)
        } else {
            its
        };
        let host = host.cloned();
        let request = || {
            Some(ProbeRequest {
                viewer: key.viewer()?.into_bare(),
                user: key.user()?,
                host: host.clone(),
            })
        };
        match record_action {
            RecordAction::Keep => None,
            RecordAction::Forget => {
                self.records.remove(key);
                None
            }
            RecordAction::SendUnavailable(why) => self
                .notice(key, record, why)
                .map(SweepAction::SendUnavailable),
            RecordAction::Probe => request().map(SweepAction::Probe),
            RecordAction::ProbeLocal => request().map(SweepAction::ProbeLocal),
            RecordAction::ProbeLocalAndForget => {
                let action = request().map(SweepAction::ProbeLocal);
                self.records.remove(key);
                action
            }
        }
    }

    pub(super) fn is_user(&self, jid: &BareJid) -> bool {
        jid.node().is_some() && self.global == *jid.domain().as_str()
    }
}
