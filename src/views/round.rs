//! Going through all views because of something that concerns many.

use jid::Jid;

use super::Occupant;
use super::book::{State, View};
use super::hosts::HostId;
use super::key::Key;
use super::step::{Side, Why};
use crate::host::Host;

/// One way through all views, in parts.
#[derive(Debug)]
pub struct Round {
    cause: Cause,
    /// Where it goes on; `None` at the beginning and at the end.
    pub(super) cursor: Option<Key>,
    /// The pair that was asked for last: one question for all its views.
    asked: Option<Key>,
}

/// Why a round is made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cause {
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
    /// There are many views; some are of no use any more.
    Sweep,
}

/// What becomes of a view.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    Keep,
    Forget,
    Withdraw(Why),
    Ask,
    AskHere,
    AskHereAndForget,
}

impl Round {
    /// At its beginning.
    #[must_use]
    pub fn new(cause: Cause) -> Self {
        Self {
            cause,
            cursor: None,
            asked: None,
        }
    }

    /// Why it is made.
    #[must_use]
    pub fn cause(&self) -> &Cause {
        &self.cause
    }

    /// Whether there is no more to look at.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.cursor.is_none()
    }

    pub(super) fn host(&self) -> Option<&Host> {
        match &self.cause {
            Cause::PeerLost(host) | Cause::PeerBack { host, .. } => Some(host),
            Cause::ServerLost | Cause::ServerBack | Cause::Sweep => None,
        }
    }

    /// What becomes of `view`; `host` is that of the round.
    pub(super) fn judge(
        &mut self,
        key: &Key,
        view: &mut View,
        host: HostId,
        global: &str,
        is_here: &dyn Fn(&Jid) -> bool,
    ) -> Verdict {
        let is_its = view.host == host;
        // It went to several, or nobody knows where it was to go.
        let is_nobodys = view.host == HostId::NONE;
        match self.cause {
            Cause::PeerLost(_) if is_its => peer_lost(key, view),
            Cause::PeerLost(_) => Verdict::Keep,
            Cause::PeerBack { fresh, lost, .. } => {
                let verdict = match view.side {
                    Side::In if is_its => told_by_peer(key, view, fresh || lost),
                    Side::In if is_nobodys => told_by_peer(key, view, false),
                    Side::Out if is_its || is_nobodys => told_to_peer(key, view, fresh, global),
                    Side::In | Side::Out => Verdict::Keep,
                };
                self.once(key, verdict)
            }
            Cause::ServerLost => server_lost(key, view),
            Cause::ServerBack => {
                let verdict = server_back(key, view, global);
                self.once(key, verdict)
            }
            Cause::Sweep => sweep(key, view, is_here),
        }
    }

    /// One question is enough for all sessions of a user.
    fn once(&mut self, key: &Key, verdict: Verdict) -> Verdict {
        let is_question = matches!(
            verdict,
            Verdict::Ask | Verdict::AskHere | Verdict::AskHereAndForget
        );
        if !is_question {
            return verdict;
        }
        let asked = self.asked.as_ref();
        if asked.is_some_and(|asked| asked.pair() == key.pair()) {
            return match verdict {
                Verdict::AskHereAndForget => Verdict::Forget,
                _ => Verdict::Keep,
            };
        }
        self.asked = Some(key.clone());
        verdict
    }
}

fn peer_lost(key: &Key, view: &mut View) -> Verdict {
    match (view.side, view.state) {
        (_, State::Unsaid) => Verdict::Keep,
        (Side::In, State::Shown | State::Doubted | State::Missed) if has_session(key) => {
            doom(view, Why::Peer)
        }
        // The occupant is told to have left the room: the room is told when it
        // can be reached again, unless the occupant has come back by then.
        (Side::Out, State::Shown) if is_room(key) => {
            view.state = State::Missed;
            Verdict::Keep
        }
        _ => Verdict::Keep,
    }
}

/// What it has told may be so no more: `all`, or what did not get through.
fn told_by_peer(key: &Key, view: &mut View, all: bool) -> Verdict {
    if !has_session(key) {
        let is_due = all || view.state == State::Unsaid;
        view.state = State::Shown;
        return if is_due { Verdict::Ask } else { Verdict::Keep };
    }
    let may_ask = all && is_contact(key) && view.occupant == Occupant::No;
    match view.state {
        State::Shown | State::Doubted if may_ask => {
            view.state = State::Doubted;
            Verdict::Ask
        }
        State::Withdrawn if may_ask => Verdict::Ask,
        _ => Verdict::Keep,
    }
}

/// What it was told it may not know any more: `all`, or what did not get through.
fn told_to_peer(key: &Key, view: &mut View, all: bool, global: &str) -> Verdict {
    match view.state {
        State::Missed => doom(view, Why::Missed),
        State::Unsaid => {
            view.state = State::Shown;
            Verdict::AskHere
        }
        State::Shown if all && is_user(key, global) => Verdict::AskHere,
        _ => Verdict::Keep,
    }
}

fn server_lost(key: &Key, view: &mut View) -> Verdict {
    match (view.side, view.state) {
        (Side::Out, State::Shown) if has_session(key) => doom(view, Why::Server),
        _ => Verdict::Keep,
    }
}

/// What it sent and was asked while nobody was attached is lost; also of those who
/// came back to it sooner than we did, and of those who were not there before. If it
/// was started anew it knows nothing of others.
fn server_back(key: &Key, view: &mut View, global: &str) -> Verdict {
    match (view.side, view.state) {
        (_, State::Unsaid | State::Shown) if !has_session(key) => {
            view.state = State::Shown;
            match view.side {
                Side::In => Verdict::Ask,
                Side::Out => Verdict::AskHere,
            }
        }
        (Side::Out, State::Withdrawn) if is_user(key, global) => Verdict::AskHereAndForget,
        (Side::Out, State::Withdrawn) => Verdict::Forget,
        (Side::In, State::Missed) => doom(view, Why::Missed),
        _ => Verdict::Keep,
    }
}

/// Nobody tells when a session is gone that was shown others.
fn sweep(key: &Key, view: &View, is_here: &dyn Fn(&Jid) -> bool) -> Verdict {
    let is_of_use = match view.side {
        Side::Out if has_session(key) => true,
        Side::Out => key.user().is_some_and(|user| is_here(&user.into())),
        Side::In if has_session(key) && is_contact(key) => true,
        Side::In => key.viewer().is_some_and(|viewer| is_here(&viewer)),
    };
    if is_of_use {
        Verdict::Keep
    } else {
        Verdict::Forget
    }
}

fn doom(view: &mut View, why: Why) -> Verdict {
    view.state = State::Doomed;
    Verdict::Withdraw(why)
}

fn has_session(key: &Key) -> bool {
    !key.resource().is_empty()
}

/// Whether the viewer is shown the presence as a contact, and not one of its
/// sessions for itself.
fn is_contact(key: &Key) -> bool {
    !key.pair().1.contains('/')
}

fn is_user(key: &Key, global: &str) -> bool {
    let at = |jid: &str| {
        jid.split_once('@')
            .is_some_and(|(_, domain)| domain == global)
    };
    let (user, viewer) = key.pair();
    at(user) && at(viewer)
}

fn is_room(key: &Key) -> bool {
    !is_contact(key)
}
