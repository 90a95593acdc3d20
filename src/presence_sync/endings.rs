//! Who is found to be gone, and has to be told to be.

use jid::{BareJid, FullJid, Jid};
use tokio::time::Instant;

use super::action::{Direction, UnavailableCause, UnavailableNotice};
use super::key::RecordKey;
use super::table::{PresenceRecord, PresenceTable, RecordState};
use super::{Occupant, PresenceEvent};
use crate::host::Host;

impl PresenceTable {
    /// Whether the viewer was told by us already that the session is gone.
    pub(super) fn is_repeated(&mut self, event: &PresenceEvent) -> bool {
        let PresenceEvent::Unavailable { session, viewer } = event else {
            return false;
        };
        let key = RecordKey::of(session, viewer);
        let is_withdrawn = |record: &PresenceRecord| {
            record.direction == Direction::In && record.state == RecordState::SentUnavailable
        };
        let repeated = self.records.get(&key).is_some_and(is_withdrawn);
        if repeated {
            self.records.remove(&key);
        }
        repeated
    }

    /// A probe is on its way that nobody but us has sent. `wanted_at`: the host
    /// that misses the answers, if one does.
    pub(super) fn asked(
        &mut self,
        user: BareJid,
        viewer: BareJid,
        wanted_at: Option<Host>,
        now: Instant,
    ) {
        if self.is_user(&user) && self.is_user(&viewer) {
            self.pending.ask((user, viewer), wanted_at, now);
        }
    }

    /// A server says that `user` has no session that `viewer` may see. If we
    /// have asked that, what follows.
    pub(super) fn nobody_home(
        &mut self,
        user: &BareJid,
        viewer: &BareJid,
        now: Instant,
    ) -> Option<Vec<UnavailableNotice>> {
        let pair = (user.clone(), viewer.clone());
        if !self.pending.answer(&pair, now) {
            return None;
        }
        Some(self.mark_unanswered(user, viewer))
    }

    /// The questions to which all answers have come: whoever was not named is gone.
    pub(super) fn answered(&mut self, now: Instant) -> Vec<UnavailableNotice> {
        let mut gone = Vec::new();
        for (user, viewer) in self.pending.take_over(now) {
            gone.extend(self.mark_unanswered(&user, &viewer));
            for key in self.keys_like(&user, &Jid::from(viewer)) {
                let over = |record: &PresenceRecord| {
                    record.direction == Direction::In
                        && record.state == RecordState::SentUnavailable
                };
                if self.records.get(&key).is_some_and(over) {
                    self.records.remove(&key);
                }
            }
        }
        gone
    }

    fn mark_unanswered(&mut self, user: &BareJid, viewer: &BareJid) -> Vec<UnavailableNotice> {
        let keys = self.keys_like(user, &Jid::from(viewer.clone()));
        let mark_unavailable = |key| {
            self.mark_unavailable(&key, UnavailableCause::Unanswered, |record| {
                record.state == RecordState::InDoubt
            })
        };
        keys.into_iter().filter_map(mark_unavailable).collect()
    }

    /// The local server has `session` no more, whoever was told of that.
    pub(super) fn over(&mut self, session: &FullJid) -> Vec<UnavailableNotice> {
        let mut keys: Vec<RecordKey> = self
            .keys_from(&RecordKey::all_of(&session.to_bare()))
            .cloned()
            .collect();
        keys.retain(|key| key.resource() == session.resource().as_str());
        let mark_unavailable = |key| {
            self.mark_unavailable(&key, UnavailableCause::Session, |record| {
                record.direction == Direction::Out && record.state == RecordState::SentAvailable
            })
        };
        keys.into_iter().filter_map(mark_unavailable).collect()
    }

    /// Whether anybody elsewhere was shown a session of `user`.
    pub(super) fn is_shown_elsewhere(&self, user: &BareJid) -> bool {
        let prefix = RecordKey::all_of(user);
        let mut keys = self.keys_from(&prefix);
        keys.any(|key| {
            self.records
                .get(key)
                .is_some_and(|record| record.direction == Direction::Out)
        })
    }

    fn mark_unavailable(
        &mut self,
        key: &RecordKey,
        why: UnavailableCause,
        is_due: impl Fn(&PresenceRecord) -> bool,
    ) -> Option<UnavailableNotice> {
        let record = self.records.get_mut(key).filter(|record| is_due(record))?;
        record.state = RecordState::PendingUnavailable;
        let record = *record;
        self.notice(key, &record, why)
    }

    pub(super) fn notice(
        &self,
        key: &RecordKey,
        record: &PresenceRecord,
        why: UnavailableCause,
    ) -> Option<UnavailableNotice> {
        Some(UnavailableNotice {
            session: key.session()?,
            viewer: key.viewer()?,
            direction: record.direction,
            host: self.hosts.find(record.host).cloned(),
            occupant: record.occupant,
            why,
        })
    }

    /// Whether the viewer is still to be told: nothing else has passed since.
    /// If so, it is about to be.
    pub(super) fn confirm(&mut self, notice: &UnavailableNotice) -> bool {
        let key = RecordKey::of(&notice.session, &notice.viewer);
        let Some(record) = self.records.get_mut(&key) else {
            return false;
        };
        if record.state != RecordState::PendingUnavailable {
            return false;
        }
        record.state = RecordState::SentUnavailable;
        let is_kept = match record.direction {
            // That it is not told again by its own datacenter, later.
            Direction::In => true,
            // That it is asked for when the server is back.
            Direction::Out => notice.why == UnavailableCause::Server,
        };
        let is_contact = notice.viewer.is_bare() && record.occupant == Occupant::No;
        if !(is_kept && is_contact) {
            self.records.remove(&key);
        }
        true
    }
}
