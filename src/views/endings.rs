//! Who is found to be gone, and has to be told to be.

use jid::{BareJid, FullJid, Jid};
use tokio::time::Instant;

use super::book::{Book, State, View};
use super::key::Key;
use super::step::{Side, Why, Withdrawal};
use super::{Occupant, Sighting};
use crate::host::Host;

impl Book {
    /// Whether the viewer was told by us already that the session is gone.
    pub(super) fn is_repeated(&mut self, sighting: &Sighting) -> bool {
        let Sighting::Unavailable { session, viewer } = sighting else {
            return false;
        };
        let key = Key::of(session, viewer);
        let is_withdrawn = |view: &View| view.side == Side::In && view.state == State::Withdrawn;
        let repeated = self.views.get(&key).is_some_and(is_withdrawn);
        if repeated {
            self.views.remove(&key);
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
    ) -> Option<Vec<Withdrawal>> {
        let pair = (user.clone(), viewer.clone());
        if !self.pending.answer(&pair, now) {
            return None;
        }
        Some(self.doom_doubted(user, viewer))
    }

    /// The questions to which all answers have come: whoever was not named is gone.
    pub(super) fn answered(&mut self, now: Instant) -> Vec<Withdrawal> {
        let mut gone = Vec::new();
        for (user, viewer) in self.pending.take_over(now) {
            gone.extend(self.doom_doubted(&user, &viewer));
            for key in self.keys_like(&user, &Jid::from(viewer)) {
                let over = |view: &View| view.side == Side::In && view.state == State::Withdrawn;
                if self.views.get(&key).is_some_and(over) {
                    self.views.remove(&key);
                }
            }
        }
        gone
    }

    fn doom_doubted(&mut self, user: &BareJid, viewer: &BareJid) -> Vec<Withdrawal> {
        let keys = self.keys_like(user, &Jid::from(viewer.clone()));
        let doom = |key| self.doom(&key, Why::Unanswered, |view| view.state == State::Doubted);
        keys.into_iter().filter_map(doom).collect()
    }

    /// The local server has `session` no more, whoever was told of that.
    pub(super) fn over(&mut self, session: &FullJid) -> Vec<Withdrawal> {
        let mut keys: Vec<Key> = self
            .keys_from(&Key::all_of(&session.to_bare()))
            .cloned()
            .collect();
        keys.retain(|key| key.resource() == session.resource().as_str());
        let doom = |key| {
            self.doom(&key, Why::Session, |view| {
                view.side == Side::Out && view.state == State::Shown
            })
        };
        keys.into_iter().filter_map(doom).collect()
    }

    /// Whether anybody elsewhere was shown a session of `user`.
    pub(super) fn is_shown_elsewhere(&self, user: &BareJid) -> bool {
        let prefix = Key::all_of(user);
        let mut keys = self.keys_from(&prefix);
        keys.any(|key| {
            self.views
                .get(key)
                .is_some_and(|view| view.side == Side::Out)
        })
    }

    fn doom(&mut self, key: &Key, why: Why, is_due: impl Fn(&View) -> bool) -> Option<Withdrawal> {
        let view = self.views.get_mut(key).filter(|view| is_due(view))?;
        view.state = State::Doomed;
        let view = *view;
        self.withdrawal(key, &view, why)
    }

    pub(super) fn withdrawal(&self, key: &Key, view: &View, why: Why) -> Option<Withdrawal> {
        Some(Withdrawal {
            session: key.session()?,
            viewer: key.viewer()?,
            side: view.side,
            host: self.hosts.find(view.host).cloned(),
            occupant: view.occupant,
            why,
        })
    }

    /// Whether the viewer is still to be told: nothing else has passed since.
    /// If so, it is about to be.
    pub(super) fn confirm(&mut self, withdrawal: &Withdrawal) -> bool {
        let key = Key::of(&withdrawal.session, &withdrawal.viewer);
        let Some(view) = self.views.get_mut(&key) else {
            return false;
        };
        if view.state != State::Doomed {
            return false;
        }
        view.state = State::Withdrawn;
        let is_kept = match view.side {
            // That it is not told again by its own datacenter, later.
            Side::In => true,
            // That it is asked for when the server is back.
            Side::Out => withdrawal.why == Why::Server,
        };
        let is_contact = withdrawal.viewer.is_bare() && view.occupant == Occupant::No;
        if !(is_kept && is_contact) {
            self.views.remove(&key);
        }
        true
    }
}
