//! The task watches peers, server and sessions, and paces the actions that follow.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use jid::{FullJid, Jid};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;
use tracing::info;

use super::action::{ActionKind, SweepAction};
use super::hooks::PresenceSync;
use super::peers::PeerMonitor;
use super::sweep::{Sweep, SweepCause};
use crate::component::Attachment;
use crate::host::Host;
use crate::link::ConnectedProcesses;

const TICK: Duration = Duration::from_millis(100);

/// The records that one tick checks under one lock: some milliseconds.
const PAGE: usize = 5_000;

/// The least cost of a sweep, in records, so that one tick begins a bounded number.
const SWEEP_COST: usize = 10;

/// The bound of the cost of one tick: 5,000 `unavailable` or 1,000 probes a second,
/// as each probe has several answers and the other gateways probe as well.
const BUDGET: usize = 500;
const PROBE_COST: usize = 5;

/// The gateways begin to probe a datacenter that is back within this time.
const SPREAD: Duration = Duration::from_secs(1);

/// The time that a server has to notify the viewers of a session that has ended.
const FAREWELL: Duration = Duration::from_secs(5);

/// The number of records below which there is no cleanup.
const CLEANUP_FROM: usize = 10_000;

pub(crate) struct PresenceInputs {
    /// `presence.unavailable_after`
    pub(crate) unavailable_after: Duration,
    /// The processes that are connected, by host.
    pub(crate) connected: watch::Receiver<ConnectedProcesses>,
    pub(crate) attachment: watch::Receiver<Attachment>,
    /// Local sessions that have ended.
    pub(crate) ended: mpsc::UnboundedReceiver<FullJid>,
    /// Whether a local session or user is online.
    pub(crate) is_here: Box<dyn Fn(&Jid) -> bool + Send + Sync>,
    /// Whether a link to the host is up.
    pub(crate) is_up: Box<dyn Fn(&Host) -> bool + Send + Sync>,
}

pub(crate) struct PresenceTask {
    inputs: PresenceInputs,
    sync: Arc<PresenceSync>,
    peers: PeerMonitor,
    is_attached: bool,
    /// The time at which the users of an unreachable server become unavailable.
    server_lost_at: Option<Instant>,
    /// Ended sessions, oldest first, with the end of the server's time to notify
    /// the viewers.
    ended: VecDeque<(Instant, Jid)>,
    /// Sweeps run one after the other, a small one first.
    sweeps: VecDeque<Sweep>,
    /// Actions to perform; filled by a page at a time, and only while few are left.
    pub(super) backlog: VecDeque<SweepAction>,
    /// The number of records beyond which there is a cleanup.
    cleanup_at: usize,
}

impl PresenceTask {
    pub(crate) fn new(sync: Arc<PresenceSync>, inputs: PresenceInputs) -> Self {
        Self {
            peers: PeerMonitor::new(inputs.unavailable_after, SPREAD),
            inputs,
            sync,
            is_attached: true,
            server_lost_at: None,
            ended: VecDeque::new(),
            sweeps: VecDeque::new(),
            backlog: VecDeque::new(),
            cleanup_at: CLEANUP_FROM,
        }
    }

    /// Runs until `end`. `perform` carries out an action at its sender's worker.
    pub(crate) async fn run<F: Future<Output = ()>>(
        mut self,
        perform: impl Fn(SweepAction) -> F,
        end: CancellationToken,
    ) {
        let mut tick = interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        self.inputs.connected.mark_changed();
        self.inputs.attachment.mark_changed();
        let work = async {
            loop {
                tokio::select! {
                    Ok(()) = self.inputs.connected.changed() => {
                        let connected = self.inputs.connected.borrow_and_update().clone();
                        self.peers.connected(connected, Instant::now());
                    }
                    Ok(()) = self.inputs.attachment.changed() => self.follow_attachment(),
                    Some(session) = self.inputs.ended.recv() => {
                        self.note_end(session.into(), Instant::now());
                    }
                    _ = tick.tick() => {
                        for action in self.due(Instant::now()) {
                            perform(action).await;
                        }
                    }
                }
            }
        };
        end.run_until_cancelled(work).await;
    }

    fn follow_attachment(&mut self) {
        let attachment = self.inputs.attachment.borrow_and_update().clone();
        let was_attached = self.is_attached;
        self.is_attached = matches!(attachment, Attachment::Attached { .. });
        if self.is_attached {
            self.server_lost_at = None;
            self.begin(SweepCause::ServerBack);
        } else if was_attached {
            self.server_lost_at = Some(Instant::now() + self.inputs.unavailable_after);
        }
    }

    pub(super) fn note_end(&mut self, session: Jid, now: Instant) {
        if self.sync.table().knows(&session) {
            self.ended.push_back((now + FAREWELL, session));
        }
    }

    pub(super) fn begin(&mut self, cause: SweepCause) {
        match &cause {
            SweepCause::PeerLost(host) => {
                info!(%host, "no connection for too long: contacts of its users receive unavailable");
            }
            SweepCause::PeerBack { host, fresh, lost } => {
                info!(%host, fresh, lost, "connected: presence is synchronized");
            }
            SweepCause::ServerLost => {
                info!("the local server is away: remote contacts of its users receive unavailable");
            }
            _ => {}
        }
        self.sweeps.retain(|sweep| !sweep.is_outdated_by(&cause));
        let sweep = Sweep::new(cause, &mut self.sync.table());
        self.sweeps.extend(sweep);
    }

    /// The actions of this tick.
    pub(super) fn due(&mut self, now: Instant) -> Vec<SweepAction> {
        if self.server_lost_at.take_if(|at| *at <= now).is_some() {
            self.begin(SweepCause::ServerLost);
        }
        for cause in self.peers.due(now, &self.inputs.is_up) {
            self.begin(cause);
        }
        // While the server is not attached no session is here, and all are to be
        // probed.
        if self.sync.count() > self.cleanup_at && self.is_attached {
            self.begin(SweepCause::Cleanup);
            self.cleanup_at = usize::MAX;
        }
        let mut left = PAGE;
        while self.backlog.len() < BUDGET && left > 0 && self.sweep(&mut left, now) {}
        self.take_budget()
    }

    /// Runs a page of the next sweep. `left`: the records that this tick may check.
    /// Returns whether there was a sweep.
    fn sweep(&mut self, left: &mut usize, now: Instant) -> bool {
        let mut table = self.sync.table();
        if !self.sweeps.front().is_some_and(Sweep::is_small) {
            let is_due = self.ended.front().is_some_and(|(at, _)| *at <= now);
            let cause = match table.probes.pop_expired(now) {
                Some(pair) => Some(SweepCause::Unanswered(pair)),
                None if is_due => self
                    .ended
                    .pop_front()
                    .map(|it| SweepCause::SessionEnded(it.1)),
                None => None,
            };
            if let Some(small) = cause.and_then(|cause| Sweep::new(cause, &mut table)) {
                self.sweeps.push_front(small);
            }
        }
        let Some(sweep) = self.sweeps.front_mut() else {
            return false;
        };
        let (actions, is_more) = sweep.next_page(&mut table, left, &*self.inputs.is_here);
        drop(table);
        *left = left.saturating_sub(SWEEP_COST);
        self.backlog.extend(actions);
        if !is_more {
            if sweep.cause == SweepCause::Cleanup {
                self.cleanup_at = CLEANUP_FROM.max(2 * self.sync.count());
            }
            self.sweeps.pop_front();
        }
        true
    }

    fn take_budget(&mut self) -> Vec<SweepAction> {
        let (mut actions, mut cost) = (Vec::new(), 0);
        while cost < BUDGET
            && let Some(action) = self.backlog.pop_front()
        {
            cost += match action.kind {
                ActionKind::Unavailable(..) => 1,
                ActionKind::Probe => PROBE_COST,
            };
            actions.push(action);
        }
        actions
    }
}
