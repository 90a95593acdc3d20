//! Tells users of those who can't be reached any more, and asks for them when
//! they can be again.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use jid::FullJid;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;
use tracing::info;

use crate::component::Attachment;
use crate::config;
use crate::link::Heard;
use crate::relay::Relay;
use crate::views::{Cause, Peers, Round, Step};
use crate::workers::Workers;

/// How often it is looked whether something is due.
const TICK: Duration = Duration::from_millis(100);

/// How much is said at once: 5,000 ends a second, and 1,000 questions, as each
/// has several answers, and the other gateways ask as well.
const ENDS_AT_ONCE: usize = 500;
const QUESTIONS_AT_ONCE: usize = 100;

/// Within this time the gateways begin to ask a datacenter that is back.
const SPREAD: Duration = Duration::from_secs(1);

/// A server tells each viewer of an end, one after the other: so long it has.
const FAREWELL: Duration = Duration::from_secs(5);

/// With fewer views none is looked for that is of no use.
const FEW: usize = 10_000;

/// What waits to be said, and what is watched.
pub(super) struct Presence {
    relay: Arc<Relay>,
    unavailable_after: Duration,
    heard: watch::Receiver<Heard>,
    attachment: watch::Receiver<Attachment>,
    ends: mpsc::UnboundedReceiver<FullJid>,
    peers: Peers,
    away: Option<Away>,
    /// What ended lately, oldest first.
    over: VecDeque<(Instant, FullJid)>,
    /// Ways through all views: one after the other.
    rounds: VecDeque<Round>,
    /// How many views there may be until some are looked for that are of no use.
    sweep_at: usize,
}

/// The local server is.
struct Away {
    since: Instant,
    is_told: bool,
}

impl Presence {
    pub(super) fn new(
        config: &config::PresenceConfig,
        relay: &Arc<Relay>,
        heard: watch::Receiver<Heard>,
    ) -> Self {
        let (tell, ends) = mpsc::unbounded_channel();
        relay.sessions.notify_ends(tell);
        Self {
            relay: Arc::clone(relay),
            unavailable_after: config.unavailable_after,
            attachment: relay.components.attachment(),
            heard,
            ends,
            peers: Peers::new(config.unavailable_after, SPREAD),
            away: None,
            over: VecDeque::new(),
            rounds: VecDeque::new(),
            sweep_at: FEW,
        }
    }

    /// Runs until `end`.
    pub(super) async fn run(mut self, workers: Workers, end: CancellationToken) {
        let mut tick = interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        self.heard.mark_changed();
        self.attachment.mark_changed();
        let work = async {
            loop {
                tokio::select! {
                    Ok(()) = self.heard.changed() => {
                        let heard = self.heard.borrow_and_update().clone();
                        self.peers.heard(heard, Instant::now());
                    }
                    Ok(()) = self.attachment.changed() => self.follow_attachment(),
                    Some(session) = self.ends.recv() => self.note_end(session),
                    _ = tick.tick() => {
                        for step in self.due(Instant::now()) {
                            workers.say(step).await;
                        }
                    }
                }
            }
        };
        end.run_until_cancelled(work).await;
    }

    fn follow_attachment(&mut self) {
        let is_attached = matches!(
            *self.attachment.borrow_and_update(),
            Attachment::Attached { .. }
        );
        if is_attached {
            self.away = None;
            self.begin(Cause::ServerBack);
        } else {
            self.away.get_or_insert(Away {
                since: Instant::now(),
                is_told: false,
            });
        }
    }

    /// The server tells who was shown the session by itself, mostly.
    fn note_end(&mut self, session: FullJid) {
        if self.relay.views.is_shown_elsewhere(&session.to_bare()) {
            self.over.push_back((Instant::now() + FAREWELL, session));
        }
    }

    /// Whatever is in its first part is overtaken by the newer cause.
    fn begin(&mut self, cause: Cause) {
        self.rounds
            .retain(|round| !is_outdated(round.cause(), &cause));
        self.rounds.push_back(Round::new(cause));
    }

    /// What is to be said now.
    fn due(&mut self, now: Instant) -> Vec<Step> {
        let relay = Arc::clone(&self.relay);
        let long_ago = |since: Instant| now.duration_since(since) >= self.unavailable_after;
        if let Some(away) = &mut self.away
            && !away.is_told
            && long_ago(away.since)
        {
            info!("the local server is away: its users are told to be unavailable");
            away.is_told = true;
            self.begin(Cause::ServerLost);
        }
        for cause in self.peers.due(now, |host| relay.links.is_up(host)) {
            match &cause {
                Cause::PeerLost(host) => {
                    info!(%host, "not heard for too long: its users are told to be unavailable");
                }
                Cause::PeerBack { host, fresh, lost } => {
                    info!(%host, fresh, lost, "heard again: its users are asked for");
                }
                _ => {}
            }
            self.begin(cause);
        }
        // While the server is away nobody is here, and everybody is to be asked for.
        if relay.views.count() > self.sweep_at && self.away.is_none() {
            self.begin(Cause::Sweep);
            self.sweep_at = usize::MAX;
        }
        let mut steps: Vec<Step> = relay
            .views
            .answered()
            .into_iter()
            .map(Step::Withdraw)
            .collect();
        steps.extend(self.farewells(now));
        steps.extend(self.go_on());
        steps
    }

    /// Of those who are still not here.
    fn farewells(&mut self, now: Instant) -> Vec<Step> {
        let mut steps = Vec::new();
        while self.over.front().is_some_and(|(at, _)| *at <= now) {
            let Some((_, session)) = self.over.pop_front() else {
                break;
            };
            if !self.relay.sessions.is_here(&session.clone().into()) {
                let told = self.relay.views.over(&session).into_iter();
                steps.extend(told.map(Step::Withdraw));
            }
        }
        steps
    }

    fn go_on(&mut self) -> Vec<Step> {
        let Some(round) = self.rounds.front_mut() else {
            return Vec::new();
        };
        let sessions = &self.relay.sessions;
        let is_here = |jid: &jid::Jid| sessions.is_here(jid);
        let most = match round.cause() {
            Cause::PeerLost(_) | Cause::ServerLost | Cause::Sweep => ENDS_AT_ONCE,
            Cause::PeerBack { .. } | Cause::ServerBack => QUESTIONS_AT_ONCE,
        };
        let steps = self.relay.views.advance(round, most, &is_here);
        if round.is_over() {
            if *round.cause() == Cause::Sweep {
                self.sweep_at = FEW.max(2 * self.relay.views.count());
            }
            self.rounds.pop_front();
        }
        steps
    }
}

/// Whether a round for `old` is of no use any more, as there is `new`.
fn is_outdated(old: &Cause, new: &Cause) -> bool {
    match (old, new) {
        (Cause::ServerLost, Cause::ServerBack) | (Cause::ServerBack, Cause::ServerLost) => true,
        (Cause::PeerLost(old), Cause::PeerBack { host: new, .. })
        | (Cause::PeerBack { host: old, .. }, Cause::PeerLost(new)) => old == new,
        _ => false,
    }
}
