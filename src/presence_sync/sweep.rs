//! Going through all records because of something that concerns many.

use jid::Jid;

use super::Occupant;
use super::action::{Direction, UnavailableCause};
use super::hosts::HostId;
use super::key::RecordKey;
use super::table::{PresenceRecord, RecordState};
use crate::host::Host;

/// One way through all records, in parts.
#[derive(Debug)]
pub struct Sweep {
    cause: SweepCause,
    /// Where it goes on; `None` at the beginning and at the end.
    pub(super) cursor: Option<RecordKey>,
    /// The pair that was asked for last: one request for all its records.
    asked: Option<RecordKey>,
}

/// UnavailableCause a sweep is made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SweepCause {
    /// A datacenter can't be reached.
    PeerLost(Host),
    /// It can again.
    PeerBack {
        /// Which.
        host: Host,
        /// A process of it has come or gone: it may know nothing.
        fresh: bool,
        /// It was lost: what it said meanwhile may not have got through.
        lost: bool,
    },
    /// The local server is away.
    ServerLost,
    /// It is attached to again.
    ServerBack,
    /// There are many records; some are of no use any more.
    Cleanup,
}

/// What becomes of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum RecordAction {
    Keep,
    Forget,
    SendUnavailable(UnavailableCause),
    Probe,
    ProbeLocal,
    ProbeLocalAndForget,
}

impl Sweep {
    /// At its beginning.
    #[must_use]
    pub fn new(cause: SweepCause) -> Self {
        Self {
            cause,
            cursor: None,
            asked: None,
        }
    }

    /// UnavailableCause it is made.
    #[must_use]
    pub fn cause(&self) -> &SweepCause {
        &self.cause
    }

    /// Whether there is no more to look at.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.cursor.is_none()
    }

    pub(super) fn host(&self) -> Option<&Host> {
        match &self.cause {
            SweepCause::PeerLost(host) | SweepCause::PeerBack { host, .. } => Some(host),
            SweepCause::ServerLost | SweepCause::ServerBack | SweepCause::Cleanup => None,
        }
    }

    /// What becomes of `record`; `host` is that of the sweep.
    pub(super) fn judge(
        &mut self,
        key: &RecordKey,
        record: &mut PresenceRecord,
        host: HostId,
        global: &str,
        is_here: &dyn Fn(&Jid) -> bool,
    ) -> RecordAction {
        let is_its = record.host == host;
        // It went to several, or nobody knows where it was to go.
        let is_nobodys = record.host == HostId::NONE;
        match self.cause {
            SweepCause::PeerLost(_) if is_its => peer_lost(key, record),
            SweepCause::PeerLost(_) => RecordAction::Keep,
            SweepCause::PeerBack { fresh, lost, .. } => {
                let record_action = match record.direction {
                    Direction::In if is_its => told_by_peer(key, record, fresh || lost),
                    Direction::In if is_nobodys => told_by_peer(key, record, false),
                    Direction::Out if is_its || is_nobodys => {
                        told_to_peer(key, record, fresh, global)
                    }
                    Direction::In | Direction::Out => RecordAction::Keep,
                };
                self.once(key, record_action)
            }
            SweepCause::ServerLost => server_lost(key, record),
            SweepCause::ServerBack => {
                let record_action = server_back(key, record, global);
                self.once(key, record_action)
            }
            SweepCause::Cleanup => cleanup(key, record, is_here),
        }
    }

    /// One request is enough for all sessions of a user.
    fn once(&mut self, key: &RecordKey, record_action: RecordAction) -> RecordAction {
        let is_question = matches!(
            record_action,
            RecordAction::Probe | RecordAction::ProbeLocal | RecordAction::ProbeLocalAndForget
        );
        if !is_question {
            return record_action;
        }
        let asked = self.asked.as_ref();
        if asked.is_some_and(|asked| asked.pair() == key.pair()) {
            return match record_action {
                RecordAction::ProbeLocalAndForget => RecordAction::Forget,
                _ => RecordAction::Keep,
            };
        }
        self.asked = Some(key.clone());
        record_action
    }
}

fn peer_lost(key: &RecordKey, record: &mut PresenceRecord) -> RecordAction {
    match (record.direction, record.state) {
        (_, RecordState::Incomplete) => RecordAction::Keep,
        (
            Direction::In,
            RecordState::SentAvailable | RecordState::InDoubt | RecordState::Undelivered,
        ) if has_session(key) => mark_unavailable(record, UnavailableCause::Peer),
        // The occupant is told to have left the room: the room is told when it
        // can be reached again, unless the occupant has come back by then.
        (Direction::Out, RecordState::SentAvailable) if is_room(key) => {
            record.state = RecordState::Undelivered;
            RecordAction::Keep
        }
        _ => RecordAction::Keep,
    }
}

/// What it has told may be so no more: `all`, or what did not get through.
fn told_by_peer(key: &RecordKey, record: &mut PresenceRecord, all: bool) -> RecordAction {
    if !has_session(key) {
        let is_due = all || record.state == RecordState::Incomplete;
        record.state = RecordState::SentAvailable;
        return if is_due {
            RecordAction::Probe
        } else {
            RecordAction::Keep
        };
    }
    let may_ask = all && is_contact(key) && record.occupant == Occupant::No;
    match record.state {
        RecordState::SentAvailable | RecordState::InDoubt if may_ask => {
            record.state = RecordState::InDoubt;
            RecordAction::Probe
        }
        RecordState::SentUnavailable if may_ask => RecordAction::Probe,
        _ => RecordAction::Keep,
    }
}

/// What it was told it may not know any more: `all`, or what did not get through.
fn told_to_peer(
    key: &RecordKey,
    record: &mut PresenceRecord,
    all: bool,
    global: &str,
) -> RecordAction {
    match record.state {
        RecordState::Undelivered => mark_unavailable(record, UnavailableCause::Undelivered),
        RecordState::Incomplete => {
            record.state = RecordState::SentAvailable;
            RecordAction::ProbeLocal
        }
        RecordState::SentAvailable if all && is_user(key, global) => RecordAction::ProbeLocal,
        _ => RecordAction::Keep,
    }
}

fn server_lost(key: &RecordKey, record: &mut PresenceRecord) -> RecordAction {
    match (record.direction, record.state) {
        (Direction::Out, RecordState::SentAvailable) if has_session(key) => {
            mark_unavailable(record, UnavailableCause::Server)
        }
        _ => RecordAction::Keep,
    }
}

/// What it sent and was asked while nobody was attached is lost; also of those who
/// came back to it sooner than we did, and of those who were not there before. If it
/// was started anew it knows nothing of others.
fn server_back(key: &RecordKey, record: &mut PresenceRecord, global: &str) -> RecordAction {
    match (record.direction, record.state) {
        (_, RecordState::Incomplete | RecordState::SentAvailable) if !has_session(key) => {
            record.state = RecordState::SentAvailable;
            match record.direction {
                Direction::In => RecordAction::Probe,
                Direction::Out => RecordAction::ProbeLocal,
            }
        }
        (Direction::Out, RecordState::SentUnavailable) if is_user(key, global) => {
            RecordAction::ProbeLocalAndForget
        }
        (Direction::Out, RecordState::SentUnavailable) => RecordAction::Forget,
        (Direction::In, RecordState::Undelivered) => {
            mark_unavailable(record, UnavailableCause::Undelivered)
        }
        _ => RecordAction::Keep,
    }
}

/// Nobody tells when a session is gone that was shown others.
fn cleanup(
    key: &RecordKey,
    record: &PresenceRecord,
    is_here: &dyn Fn(&Jid) -> bool,
) -> RecordAction {
    let is_of_use = match record.direction {
        Direction::Out if has_session(key) => true,
        Direction::Out => key.user().is_some_and(|user| is_here(&user.into())),
        Direction::In if has_session(key) && is_contact(key) => true,
        Direction::In => key.viewer().is_some_and(|viewer| is_here(&viewer)),
    };
    if is_of_use {
        RecordAction::Keep
    } else {
        RecordAction::Forget
    }
}

fn mark_unavailable(record: &mut PresenceRecord, why: UnavailableCause) -> RecordAction {
    record.state = RecordState::PendingUnavailable;
    RecordAction::SendUnavailable(why)
}

fn has_session(key: &RecordKey) -> bool {
    !key.resource().is_empty()
}

/// Whether the viewer is shown the presence as a contact, and not one of its
/// sessions for itself.
fn is_contact(key: &RecordKey) -> bool {
    !key.pair().1.contains('/')
}

fn is_user(key: &RecordKey, global: &str) -> bool {
    let at = |jid: &str| {
        jid.split_once('@')
            .is_some_and(|(_, domain)| domain == global)
    };
    let (user, viewer) = key.pair();
    at(user) && at(viewer)
}

fn is_room(key: &RecordKey) -> bool {
    !is_contact(key)
}
