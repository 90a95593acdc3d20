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
use crate::presence_sync::{PeerMonitor, Sweep, SweepAction, SweepCause};
use crate::routing::{Relay, Workers};

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
pub(super) struct PresenceTask {
    relay: Arc<Relay>,
    unavailable_after: Duration,
    heard: watch::Receiver<Heard>,
    attachment: watch::Receiver<Attachment>,
    ends: mpsc::UnboundedReceiver<FullJid>,
    peers: PeerMonitor,
    away: Option<Away>,
    /// What ended lately, oldest first.
    over: VecDeque<(Instant, FullJid)>,
    /// Ways through all views: one after the other.
    sweeps: VecDeque<Sweep>,
    /// How many views there may be until some are looked for that are of no use.
    sweep_at: usize,
}

/// The local server is.
struct Away {
    since: Instant,
    is_told: bool,
}

impl PresenceTask {
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
            peers: PeerMonitor::new(config.unavailable_after, SPREAD),
            away: None,
            over: VecDeque::new(),
            sweeps: VecDeque::new(),
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
                        for action in self.due(Instant::now()) {
                            workers.perform(action).await;
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
            self.begin(SweepCause::ServerBack);
        } else {
            self.away.get_or_insert(Away {
                since: Instant::now(),
                is_told: false,
            });
        }
    }

    /// The server tells who was shown the session by itself, mostly.
    fn note_end(&mut self, session: FullJid) {
        if self.relay.presence.is_shown_elsewhere(&session.to_bare()) {
            self.over.push_back((Instant::now() + FAREWELL, session));
        }
    }

    /// Whatever is in its first part is overtaken by the newer cause.
    fn begin(&mut self, cause: SweepCause) {
        self.sweeps
            .retain(|sweep| !is_outdated(sweep.cause(), &cause));
        self.sweeps.push_back(Sweep::new(cause));
    }

    /// What is to be said now.
    fn due(&mut self, now: Instant) -> Vec<SweepAction> {
        let relay = Arc::clone(&self.relay);
        let long_ago = |since: Instant| now.duration_since(since) >= self.unavailable_after;
        if let Some(away) = &mut self.away
            && !away.is_told
            && long_ago(away.since)
        {
            info!("the local server is away: its users are told to be unavailable");
            away.is_told = true;
            self.begin(SweepCause::ServerLost);
        }
        for cause in self.peers.due(now, |host| relay.links.is_up(host)) {
            match &cause {
                SweepCause::PeerLost(host) => {
                    info!(%host, "not heard for too long: its users are told to be unavailable");
                }
                SweepCause::PeerBack { host, fresh, lost } => {
                    info!(%host, fresh, lost, "heard again: its users are asked for");
                }
                _ => {}
            }
            self.begin(cause);
        }
        // While the server is away nobody is here, and everybody is to be asked for.
        if relay.presence.count() > self.sweep_at && self.away.is_none() {
            self.begin(SweepCause::Cleanup);
            self.sweep_at = usize::MAX;
        }
        let mut actions: Vec<SweepAction> = relay
            .presence
            .answered()
            .into_iter()
            .map(SweepAction::SendUnavailable)
            .collect();
        actions.extend(self.farewells(now));
        actions.extend(self.go_on());
        actions
    }

    /// Of those who are still not here.
    fn farewells(&mut self, now: Instant) -> Vec<SweepAction> {
        let mut actions = Vec::new();
        while self.over.front().is_some_and(|(at, _)| *at <= now) {
            let Some((_, session)) = self.over.pop_front() else {
                break;
            };
            if !self.relay.sessions.is_here(&session.clone().into()) {
                let told = self.relay.presence.over(&session).into_iter();
                actions.extend(told.map(SweepAction::SendUnavailable));
            }
        }
        actions
    }

    fn go_on(&mut self) -> Vec<SweepAction> {
        let Some(sweep) = self.sweeps.front_mut() else {
            return Vec::new();
        };
        let sessions = &self.relay.sessions;
        let is_here = |jid: &jid::Jid| sessions.is_here(jid);
        let most = match sweep.cause() {
            SweepCause::PeerLost(_) | SweepCause::ServerLost | SweepCause::Cleanup => ENDS_AT_ONCE,
            SweepCause::PeerBack { .. } | SweepCause::ServerBack => QUESTIONS_AT_ONCE,
        };
        let actions = self.relay.presence.advance(sweep, most, &is_here);
        if sweep.is_over() {
            if *sweep.cause() == SweepCause::Cleanup {
                self.sweep_at = FEW.max(2 * self.relay.presence.count());
            }
            self.sweeps.pop_front();
        }
        actions
    }
}

/// Whether a sweep for `old` is of no use any more, as there is `new`.
fn is_outdated(old: &SweepCause, new: &SweepCause) -> bool {
    match (old, new) {
        (SweepCause::ServerLost, SweepCause::ServerBack)
        | (SweepCause::ServerBack, SweepCause::ServerLost) => true,
        (SweepCause::PeerLost(old), SweepCause::PeerBack { host: new, .. })
        | (SweepCause::PeerBack { host: old, .. }, SweepCause::PeerLost(new)) => old == new,
        _ => false,
    }
}
