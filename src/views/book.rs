//! All views, and what is to be said about them. Pure: time is an argument.

use std::collections::BTreeMap;
use std::ops::Bound::{Excluded, Included, Unbounded};

use jid::{BareJid, FullJid, Jid};

use super::hosts::{HostId, Hosts};
use super::key::Key;
use super::pending::Pending;
use super::round::{Round, Verdict};
use super::step::{Question, Side, Step};
use super::{Occupant, Sighting};
use crate::host::Host;

/// As many are kept; what comes on top is not remembered: some 150 MB.
const MOST: usize = 1_000_000;
/// As many are looked at in one go, so that nobody waits for long.
const LOOK: usize = 5_000;

/// What one viewer knows of one session; or, without a session, that the
/// viewer may ask for the user.
#[derive(Debug, Clone, Copy)]
pub(super) struct View {
    pub(super) host: HostId,
    pub(super) side: Side,
    pub(super) state: State,
    pub(super) occupant: Occupant,
}

/// What the viewer was told last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    /// That the session is there.
    Shown,
    /// The same; but whether it still is was asked.
    Doubted,
    /// The same; but it is about to be told otherwise, by us.
    Doomed,
    /// That the session is gone, by us.
    Withdrawn,
    /// That the session is there; that it is gone did not get through.
    Missed,
    /// Not all: something did not get through. Only without a session.
    Unsaid,
}

/// All views.
#[derive(Debug)]
pub(super) struct Book {
    global: Host,
    pub(super) views: BTreeMap<Key, View>,
    pub(super) hosts: Hosts,
    pub(super) pending: Pending,
}

impl Book {
    pub(super) fn new(global: Host) -> Self {
        Self {
            global,
            views: BTreeMap::new(),
            hosts: Hosts::default(),
            pending: Pending::default(),
        }
    }

    /// How many views there are.
    pub(super) fn len(&self) -> usize {
        self.views.len()
    }

    /// The local server was handed this from `host`.
    pub(super) fn came_in(&mut self, host: &Host, sighting: &Sighting) {
        let host = self.hosts.id(Some(host));
        self.note_answer(sighting);
        match sighting {
            Sighting::Available {
                session,
                viewer,
                occupant,
            } => self.show(Side::In, host, session, viewer, *occupant),
            Sighting::Unavailable { session, viewer } => self.forget(session, viewer),
            Sighting::Cancelled { user, viewer } => self.cut(user, viewer),
            Sighting::Probe { .. } => {}
        }
    }

    /// The local server sent this, and it goes to `host`, perhaps to others too.
    pub(super) fn went_out(&mut self, host: &Host, is_copy: bool, sighting: &Sighting) {
        let host = self.hosts.id(Some(host));
        self.note_answer(sighting);
        match sighting {
            Sighting::Available {
                session,
                viewer,
                occupant,
            } => {
                let host = self.or_several(Key::of(session, viewer), Side::Out, host, is_copy);
                self.show(Side::Out, host, session, viewer, *occupant);
            }
            Sighting::Unavailable { session, viewer } => self.forget(session, viewer),
            Sighting::Cancelled { user, viewer } => self.cut(user, viewer),
            Sighting::Probe { user, viewer } => {
                let host = self.or_several(Key::between(user, viewer), Side::In, host, is_copy);
                self.relate(Side::In, host, State::Shown, user, viewer);
            }
        }
    }

    /// Whoever is shown or told something of a session may see its user: if they
    /// may not any more later, that is news, and no answer to a question of ours.
    fn note_answer(&mut self, sighting: &Sighting) {
        if let Sighting::Available {
            session, viewer, ..
        }
        | Sighting::Unavailable { session, viewer } = sighting
        {
            let pair = (session.to_bare(), viewer.to_bare());
            self.pending.note_answer(&pair);
        }
    }

    /// None, if a copy went to another host than the one before.
    fn or_several(&self, key: Key, side: Side, host: HostId, is_copy: bool) -> HostId {
        match self.views.get(&key) {
            Some(view) if is_copy && view.side == side && view.host != host => HostId::NONE,
            _ => host,
        }
    }

    /// The local server sent this, and was handed it: the session has moved here,
    /// if it was elsewhere.
    pub(super) fn stayed(&mut self, sighting: &Sighting) {
        match sighting {
            Sighting::Available {
                session, viewer, ..
            }
            | Sighting::Unavailable { session, viewer } => self.forget(session, viewer),
            Sighting::Cancelled { .. } | Sighting::Probe { .. } => {}
        }
    }

    /// This did not get through in time. `host`: the other one, as far as it is known.
    pub(super) fn missed(&mut self, side: Side, host: Option<&Host>, sighting: &Sighting) {
        let other = match side {
            Side::In => Side::Out,
            Side::Out => Side::In,
        };
        let id = self.hosts.id(host);
        match sighting {
            Sighting::Available {
                session, viewer, ..
            } => {
                if let Err(viewer) = viewer.try_as_full() {
                    let user = session.to_bare();
                    self.relate(side, id, State::Unsaid, &user, viewer);
                }
            }
            Sighting::Unavailable { session, viewer } => {
                let mut told = self.told_of(session, viewer);
                for view in &mut told {
                    view.state = State::Missed;
                    if side == Side::Out {
                        view.host = id;
                    }
                }
                if told.is_empty() && side == Side::Out {
                    // Said by us, and forgotten then.
                    let view = View {
                        host: id,
                        side,
                        state: State::Missed,
                        occupant: Occupant::No,
                    };
                    self.put(Key::of(session, viewer), view);
                }
            }
            Sighting::Probe { user, viewer } => {
                self.relate(other, id, State::Unsaid, user, viewer);
            }
            Sighting::Cancelled { .. } => {}
        }
    }

    fn show(
        &mut self,
        side: Side,
        host: HostId,
        session: &FullJid,
        viewer: &Jid,
        occupant: Occupant,
    ) {
        let view = View {
            host,
            side,
            state: State::Shown,
            occupant,
        };
        self.put(Key::of(session, viewer), view);
        if let Err(viewer) = viewer.try_as_full() {
            self.relate(side, host, State::Shown, &session.to_bare(), viewer);
        }
    }

    /// `viewer` may ask for `user`: its own server does, or it was shown the
    /// presence as a contact. In the name of others it must not be done: a
    /// server could answer that they have no subscription (RFC 6121 §4.3.2).
    fn relate(&mut self, side: Side, host: HostId, state: State, user: &BareJid, viewer: &BareJid) {
        if !(self.is_user(user) && self.is_user(viewer)) {
            return;
        }
        let key = Key::between(user, viewer);
        let known = self.views.get(&key).filter(|known| known.side == side);
        let view = View {
            host: match known {
                Some(known) if host == HostId::NONE => known.host,
                _ => host,
            },
            side,
            state: match known {
                Some(known) if known.state == State::Unsaid => State::Unsaid,
                _ => state,
            },
            occupant: Occupant::No,
        };
        self.put(key, view);
    }

    fn put(&mut self, key: Key, view: View) {
        if self.views.len() < MOST || self.views.contains_key(&key) {
            self.views.insert(key, view);
        }
    }

    /// To tell a bare JID tells its resources too, whoever of them was shown it.
    fn forget(&mut self, session: &FullJid, viewer: &Jid) {
        let mut has_left_room = false;
        for key in self.keys_of(session, viewer) {
            let view = self.views.remove(&key);
            has_left_room |= view.is_some_and(|view| view.occupant == Occupant::Oneself);
        }
        if has_left_room {
            // It is not told of the others any more.
            let room = session.to_bare();
            for key in self.keys_like(&room, viewer) {
                self.views.remove(&key);
            }
        }
    }

    fn cut(&mut self, user: &BareJid, viewer: &BareJid) {
        self.views.remove(&Key::between(user, viewer));
    }

    pub(super) fn keys_like(&self, user: &BareJid, viewer: &Jid) -> Vec<Key> {
        let prefix = Key::all_like(user, viewer);
        let like = self.keys_from(&prefix);
        like.filter(|key| key.is_of_viewer(viewer))
            .cloned()
            .collect()
    }

    fn keys_of(&self, session: &FullJid, viewer: &Jid) -> Vec<Key> {
        let mut keys = self.keys_like(&session.to_bare(), viewer);
        keys.retain(|key| key.resource() == session.resource().as_str());
        keys
    }

    pub(super) fn keys_from<'a>(&'a self, prefix: &'a str) -> impl Iterator<Item = &'a Key> {
        let from = self
            .views
            .range::<str, _>((Included(prefix), Unbounded))
            .map(|(key, _)| key);
        from.take_while(move |key| key.starts_with(prefix))
    }

    fn told_of(&mut self, session: &FullJid, viewer: &Jid) -> Vec<&mut View> {
        let prefix = Key::all_like(&session.to_bare(), viewer);
        let from = self
            .views
            .range_mut::<str, _>((Included(prefix.as_str()), Unbounded));
        from.take_while(|(key, _)| key.starts_with(&prefix))
            .filter(|(key, _)| {
                key.is_of_viewer(viewer) && key.resource() == session.resource().as_str()
            })
            .map(|(_, view)| view)
            .collect()
    }

    /// Goes on with a round, until there are `most` steps or it has looked at enough.
    pub(super) fn advance(
        &mut self,
        round: &mut Round,
        most: usize,
        is_here: &dyn Fn(&Jid) -> bool,
    ) -> Vec<Step> {
        let host = round
            .host()
            .map_or(HostId::NONE, |host| self.hosts.id(Some(host)));
        let start = round.cursor.take().map_or(Unbounded, Excluded);
        let (mut verdicts, mut looked) = (Vec::new(), 0);
        let global = self.global.as_str();
        for (key, view) in self.views.range_mut::<Key, _>((start, Unbounded)) {
            let verdict = round.judge(key, view, host, global, is_here);
            if verdict != Verdict::Keep {
                verdicts.push((key.clone(), *view, verdict));
            }
            looked += 1;
            if looked >= LOOK || verdicts.len() >= most {
                round.cursor = Some(key.clone());
                break;
            }
        }
        let host = round.host();
        let carry_out = |(key, view, verdict)| self.carry_out(&key, &view, verdict, host);
        verdicts.into_iter().filter_map(carry_out).collect()
    }

    /// `host`: that of the round, for what the local server is to say to no host in
    /// particular. Another server is only asked for users that it has shown: of
    /// others it might say that nobody may see them.
    fn carry_out(
        &mut self,
        key: &Key,
        view: &View,
        verdict: Verdict,
        host: Option<&Host>,
    ) -> Option<Step> {
        let its = self.hosts.find(view.host);
        let host = if view.side == Side::Out {
            its.or(host)
        } else {
            its
        };
        let host = host.cloned();
        let question = || {
            Some(Question {
                viewer: key.viewer()?.into_bare(),
                user: key.user()?,
                host: host.clone(),
            })
        };
        match verdict {
            Verdict::Keep => None,
            Verdict::Forget => {
                self.views.remove(key);
                None
            }
            Verdict::Withdraw(why) => self.withdrawal(key, view, why).map(Step::Withdraw),
            Verdict::Ask => question().map(Step::Ask),
            Verdict::AskHere => question().map(Step::AskHere),
            Verdict::AskHereAndForget => {
                let step = question().map(Step::AskHere);
                self.views.remove(key);
                step
            }
        }
    }

    pub(super) fn is_user(&self, jid: &BareJid) -> bool {
        jid.node().is_some() && self.global == *jid.domain().as_str()
    }
}
