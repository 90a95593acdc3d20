//! The queue to the server: stanzas to write, and stanzas not yet confirmed.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use jid::Jid;
use minidom::Element;
use parking_lot::{Mutex, MutexGuard};
use prometheus::IntGauge;
use tokio::sync::{Notify, mpsc, oneshot, watch};
use tokio::time::Instant;

use super::barrier::Barriers;
use super::discovery::ServerDiscovery;
use super::failure::shown;
use super::from_check::FromCheck;
use super::pending_iqs::{IqPurpose, IqReply, PendingIqs, Recognised, jid, ping};
use super::quarantine::{Quarantine, SenderTrust};
use super::queue::{Ending, OutboxLoad, QueuedStanza, Rejected, StanzaQueue};
use super::replay::Replay;
use super::routing_probe::{Misrouted, RoutingProbe, is_probe};
use super::{Role, Settings};
use crate::config::Endpoint;
use crate::envelope::{Envelope, Obstacle, Undelivered};
use crate::host::Host;
use crate::log_limiter::LogLimiter;
use crate::servers::{KnownServer, NoAnswer};
use crate::stanza::{Reason, Refusal, Stanza};

/// Bytes of the gateway's own stanzas waiting to be written, at most.
const OWN_LIMIT: usize = 1024 * 1024;

/// The queue to the server. Stanzas stay in it, in order, until the server
/// has confirmed them; when a stream dies, they are written again on the next.
#[derive(Debug)]
pub(super) struct Outbox {
    domain: Host,
    local: Host,
    stanza_limit: usize,
    max_wait: Duration,
    server: Endpoint,
    probes_routing: bool,
    /// Each stream asks for the server's disco#info.
    discovers: bool,
    discovery: ServerDiscovery,
    iqs: PendingIqs,
    quarantine: Quarantine,
    load: Arc<OutboxLoad>,
    /// Senders use this end of the queue without a lock.
    arrivals: mpsc::UnboundedSender<QueuedStanza>,
    /// The stream's tasks lock this. Locked before [`PendingIqs`]'s lock if both
    /// are held.
    state: Mutex<OutboxState>,
    /// Notifies the writer that a stanza has become writable.
    writable: Notify,
    /// Notifies the task that returns rejected stanzas.
    rejection: Notify,
    /// For stanzas read from the stream, too.
    pub(super) log_limiter: LogLimiter,
}

#[derive(Debug)]
struct OutboxState {
    /// `None` while there is no stream.
    barriers: Option<Barriers>,
    queue: StanzaQueue,
    /// The gateway's own stanzas, to be written ahead of the queue.
    own: VecDeque<Bytes>,
    own_bytes: usize,
    rejected: Vec<Rejected>,
    from_check: FromCheck,
    replay: Replay,
    probe: RoutingProbe,
}

impl OutboxState {
    fn write_own(&mut self, stanza: &Stanza) {
        let mut wire = BytesMut::with_capacity(stanza.len());
        stanza.write_to(&mut wire);
        self.own_bytes += wire.len();
        self.own.push_back(wire.freeze());
    }

    /// A replayed stanza has no error reply: the server accepted it once.
    fn reject(&mut self, stanzas: impl IntoIterator<Item = QueuedStanza>, refusal: &Refusal) {
        let stanzas = stanzas.into_iter().filter(|stanza| !stanza.replayed);
        self.rejected.extend(stanzas.map(|stanza| Rejected {
            envelope: stanza.envelope,
            refusal: refusal.clone(),
        }));
    }
}

impl Outbox {
    /// Creates an empty outbox, which shows its size in `unsettled`, the result
    /// of the check for foreign senders in `passes`, and the discovered server in
    /// `known`.
    pub fn new(
        settings: &Settings,
        unsettled: IntGauge,
        passes: IntGauge,
        known: watch::Sender<KnownServer>,
    ) -> Self {
        let is_shared = settings.role == Role::Shared;
        let wanted = settings.config.foreign_from && is_shared;
        let (arrivals, queue) = StanzaQueue::new();
        Self {
            domain: settings.domain.clone(),
            local: settings.local_host.clone(),
            stanza_limit: settings.config.stanza_size_limit,
            max_wait: settings.max_wait,
            server: settings.config.server.clone(),
            probes_routing: settings.probes_routing,
            discovers: is_shared,
            discovery: ServerDiscovery::new(known),
            iqs: PendingIqs::new(),
            quarantine: Quarantine::default(),
            load: OutboxLoad::new(settings.queue_bytes, unsettled),
            arrivals,
            state: Mutex::new(OutboxState {
                barriers: None,
                queue,
                own: VecDeque::new(),
                own_bytes: 0,
                rejected: Vec::new(),
                from_check: FromCheck::new(wanted, passes),
                replay: Replay::new(settings.config.replay, settings.queue_bytes),
                probe: RoutingProbe::new(&settings.domain),
            }),
            writable: Notify::new(),
            rejection: Notify::new(),
            log_limiter: LogLimiter::default(),
        }
    }

    fn state(&self) -> MutexGuard<'_, OutboxState> {
        self.state.lock()
    }

    /// Queues `local`, or rejects it when writing it would end the stream.
    ///
    /// # Errors
    /// Returns the envelope when the queue is full, or closed for good.
    pub fn offer(&self, envelope: Envelope, local: Stanza) -> Result<(), Box<Undelivered>> {
        let undelivered = |envelope, reason| Err(Box::new(Undelivered { envelope, reason }));
        let len = local.len();
        let now = Instant::now();
        let trust = self.quarantine.trust(local.from(), now);
        let checked = match trust {
            SenderTrust::Refused => Err(quarantined()),
            SenderTrust::Trusted | SenderTrust::WrittenAlone => self.check(&local, len),
        };
        if let Err(refusal) = checked {
            let mut state = self.state();
            // No task collects the rejected stanzas of a closed queue any more.
            if self.arrivals.is_closed() {
                return undelivered(envelope, Obstacle::Absent);
            }
            state.rejected.push(Rejected { envelope, refusal });
            drop(state);
            self.rejection.notify_one();
            return Ok(());
        }
        let room = self.load.room(len);
        if room.is_none() && !self.arrivals.is_closed() {
            return undelivered(envelope, Obstacle::Full);
        }
        let foreign = self.is_foreign(&local);
        let stanza = QueuedStanza {
            envelope,
            local,
            len,
            since: Some(now),
            foreign,
            alone: trust == SenderTrust::WrittenAlone,
            replayed: false,
            room,
        };
        if let Err(refused) = self.arrivals.send(stanza) {
            return undelivered(refused.0.envelope, Obstacle::Absent);
        }
        self.writable.notify_one();
        Ok(())
    }

    /// Queues a stanza of the gateway's own, which no sender keeps a copy of:
    /// dropped when there is no stream, or too much of this kind waits.
    pub fn offer_own(&self, stanza: &Stanza) {
        let len = stanza.len();
        if let Err(refusal) = self.check(stanza, len) {
            if let Some(left_out) = self.log_limiter.allows("own") {
                tracing::error!(
                    from = shown(stanza.from()),
                    to = shown(stanza.to()),
                    "a stanza of the gateway's own was not written, the server would end the \
                     stream: {}{left_out}",
                    refusal.text
                );
            }
            return;
        }
        let mut state = self.state();
        if state.barriers.is_none() || state.own_bytes + len > OWN_LIMIT {
            tracing::debug!(
                to = shown(stanza.to()),
                attached = state.barriers.is_some(),
                "a stanza of the gateway's own was dropped"
            );
            return;
        }
        state.write_own(stanza);
        drop(state);
        self.writable.notify_one();
    }

    /// Checks that the server would accept `local`, of `len` bytes: one bad
    /// stanza ends the stream for all senders.
    fn check(&self, local: &Stanza, len: usize) -> Result<(), Refusal> {
        let bad_address = |text| Err(Refusal::new(Reason::BadAddress, text));
        if local.from().is_none() {
            return bad_address("The stanza has no sender.");
        }
        if self.is_foreign(local) && !self.state().from_check.may_pass() {
            return Err(self.foreign_refusal());
        }
        if local.to().is_none() {
            return bad_address("The stanza has no recipient.");
        }
        if len > self.stanza_limit {
            let text = format!("The stanza is larger than {} bytes.", self.stanza_limit);
            return Err(Refusal::new(Reason::TooLarge, text));
        }
        Ok(())
    }

    fn is_foreign(&self, local: &Stanza) -> bool {
        local
            .from()
            .is_some_and(|from| self.domain != *from.domain().as_str())
    }

    fn foreign_refusal(&self) -> Refusal {
        let text = format!("Only senders in {} can be passed on here.", self.domain);
        Refusal::new(Reason::ForeignSender, text)
    }

    /// Starts a new stream: all stanzas are to be written to it, from the oldest.
    pub fn attached(&self) {
        let now = Instant::now();
        let mut state = self.state();
        state.barriers = Some(Barriers::new(now));
        let (ours, server) = (jid(&self.domain), jid(&self.local));
        // The from-check comes first because it may end the stream.
        if state.from_check.begin() {
            let route = (server.clone(), ours.clone());
            self.write_iq(&mut state, IqPurpose::FromCheck, route, ping(), now);
        }
        if self.discovers {
            let info = Element::bare("query", xmpp_parsers::ns::DISCO_INFO);
            self.write_iq(
                &mut state,
                IqPurpose::ServerDiscovery,
                (ours, server),
                info,
                now,
            );
        }
        if self.probes_routing {
            self.write_probes(&mut state, now);
        }
        drop(state);
        self.writable.notify_one();
    }

    fn write_iq(
        &self,
        state: &mut OutboxState,
        purpose: IqPurpose,
        route: (Jid, Jid),
        payload: Element,
        now: Instant,
    ) {
        let iq = self.iqs.create(purpose, "get", route, payload, now);
        state.write_own(&iq);
    }

    fn write_probes(&self, state: &mut OutboxState, now: Instant) {
        for number in state.probe.begin(now) {
            if let Some(address) = state.probe.address(number) {
                let (purpose, route) =
                    (IqPurpose::RoutingProbe(number), (address.clone(), address));
                self.write_iq(state, purpose, route, ping(), now);
            }
        }
    }

    /// Sends a request of the gateway's own to the server.
    pub fn request(
        &self,
        stanza_type: &str,
        payload: Element,
    ) -> oneshot::Receiver<Result<Stanza, NoAnswer>> {
        let (waiting, outcome) = oneshot::channel();
        let mut state = self.state();
        if state.barriers.is_none() {
            let _ = waiting.send(Err(NoAnswer::Detached));
            return outcome;
        }
        let (purpose, route) = (
            IqPurpose::Request(waiting),
            (jid(&self.domain), jid(&self.local)),
        );
        let iq = self
            .iqs
            .create(purpose, stanza_type, route, payload, Instant::now());
        state.write_own(&iq);
        drop(state);
        self.writable.notify_one();
        outcome
    }

    /// Runs the periodic checks: overdue answers, the keep-alive, the routing
    /// probe. Returns what is misrouted when that has changed.
    pub fn tend(&self, now: Instant) -> Option<Option<Misrouted>> {
        let overdue = self.iqs.expire(now);
        let mut state = self.state();
        if let Some(barriers) = &mut state.barriers {
            barriers.keep_alive(now);
        }
        if state.probe.tend(now, overdue) {
            self.write_probes(&mut state, now);
        }
        let news = state.probe.news();
        drop(state);
        self.writable.notify_one();
        news
    }

    /// Takes `stanza`, from the server, if it is for the gateway itself: the
    /// answer to one of the gateway's iqs, or a probe. Other stanzas need no
    /// lock.
    pub fn take(&self, stanza: &Stanza) -> bool {
        match self.iqs.recognise(stanza) {
            Recognised::Answer(purpose, reply) => self.answered(purpose, reply, stanza),
            Recognised::Late => {}
            Recognised::Unrelated => {
                let is_probe = is_probe(stanza);
                if let Some(to) = stanza.to()
                    && (is_probe || self.domain != *to.domain().as_str())
                {
                    self.state().probe.stranger(to.domain().as_str());
                }
                return is_probe;
            }
        }
        true
    }

    fn answered(&self, purpose: IqPurpose, reply: IqReply, stanza: &Stanza) {
        match purpose {
            IqPurpose::Barrier(through) => self.settle(through),
            // Any other reply comes from another component, which received the probe.
            IqPurpose::RoutingProbe(number) if reply == IqReply::Returned => {
                self.state().probe.returned(number);
            }
            IqPurpose::RoutingProbe(_) => {}
            IqPurpose::FromCheck => {
                let mut state = self.state();
                if !state.from_check.answered(reply, &self.domain) {
                    self.reject_foreign(&mut state);
                }
            }
            IqPurpose::ServerDiscovery => self.discovery.answered(reply, stanza),
            IqPurpose::Request(waiting) => {
                // An error means that the caller does not wait any more.
                let _ = waiting.send(Ok(stanza.clone()));
            }
        }
    }

    /// Settles the stanzas up to the number `through`, all of which the server
    /// has accepted.
    fn settle(&self, through: u64) {
        let now = Instant::now();
        let mut state = self.state();
        if let Some(barriers) = &mut state.barriers {
            barriers.answered(now);
        }
        state.replay.alive(now);
        let mut receipts = Vec::new();
        for mut stanza in state.queue.settle(through) {
            receipts.push(std::mem::take(&mut stanza.envelope.receipt));
            state.replay.keep(stanza, now);
        }
        drop(state);
        self.writable.notify_one();
        for mut receipt in receipts {
            receipt.settle();
        }
    }

    /// An explanation for people: the misrouted stanzas, and the configuration to change.
    pub fn misrouted(&self) -> Option<String> {
        let state = self.state();
        let misrouted = state.probe.found()?;
        Some(misrouted.advice(&self.domain, &self.server))
    }

    /// Ends the stream. If the server ended the stream because of something that
    /// the gateway wrote, unconfirmed stanzas are written one by one from now on,
    /// and a stanza that ends a stream when written alone is rejected. If the
    /// server died, the stanzas accepted last are written again; returns their
    /// number.
    pub fn detached(&self, ending: Ending) -> usize {
        let now = Instant::now();
        let mut state = self.state();
        let refused = state.from_check.detached(ending == Ending::BlamedSender);
        let blamed = matches!(ending, Ending::Blamed | Ending::BlamedSender) && !refused;
        state.barriers = None;
        state.probe.detached();
        self.iqs.clear();
        state.own.clear();
        state.own_bytes = 0;
        let culprit = state.queue.detached(blamed);
        if let Some(culprit) = culprit {
            self.put_in_quarantine(&mut state, &culprit, now);
            let text = "The recipient's server does not accept this stanza.";
            state.reject([culprit], &Refusal::new(Reason::Malformed, text));
        }
        if refused {
            self.reject_foreign(&mut state);
        }
        let again = match ending {
            Ending::Died | Ending::FellSilent => {
                let silent = ending == Ending::FellSilent;
                state.replay.died(silent, &self.domain, now)
            }
            Ending::Orderly | Ending::Blamed | Ending::BlamedSender => {
                state.replay.stopped();
                Vec::new()
            }
        };
        let count = again.len();
        let room = |mut stanza: QueuedStanza| {
            stanza.room = Some(self.load.room_anyway(stanza.len));
            stanza
        };
        state
            .queue
            .put_in_front(again.into_iter().map(room).collect(), now);
        drop(state);
        self.rejection.notify_one();
        count
    }

    /// A sender that has ended a stream ends at most one more within the hour.
    fn put_in_quarantine(&self, state: &mut OutboxState, culprit: &QueuedStanza, now: Instant) {
        let Some(sender) = culprit.local.from().map(|from| Jid::from(from.to_bare())) else {
            return;
        };
        match self.quarantine.add(&sender, now) {
            SenderTrust::Trusted | SenderTrust::WrittenAlone => state.queue.isolate(&sender, now),
            SenderTrust::Refused => {
                let others = state.queue.take_of(&sender, now);
                state.reject(others, &quarantined());
            }
        }
    }

    /// Stanzas already written are not rejected: the server's answer to them is
    /// on the way.
    fn reject_foreign(&self, state: &mut OutboxState) {
        let foreign = state.queue.take_foreign(Instant::now());
        state.reject(foreign, &self.foreign_refusal());
        self.rejection.notify_one();
    }

    /// Closes the queue for good; returns the stanzas left, and the rejected ones
    /// that were not taken.
    pub fn close(&self) -> (Vec<Envelope>, Vec<Rejected>) {
        let mut state = self.state();
        state.barriers = None;
        state.own.clear();
        let left = state.queue.close(Instant::now());
        (accepted_never(left), std::mem::take(&mut state.rejected))
    }

    /// Moves the stanzas that may be written now to `out`, with a barrier behind them.
    pub fn write_to(&self, out: &mut BytesMut, now: Instant) {
        let mut state = self.state();
        let state = &mut *state;
        let Some(barriers) = &mut state.barriers else {
            return;
        };
        // A suspected stanza must be alone when it ends the stream.
        if !state.queue.is_suspicious() {
            let own = state.own.drain(..);
            own.for_each(|wire| out.extend_from_slice(&wire));
            state.own_bytes = 0;
        }
        let last = state.queue.write_to(out, now);
        if barriers.is_due(last.is_some(), now) {
            barriers.written(now);
            let purpose = IqPurpose::Barrier(last.unwrap_or_default());
            let route = (jid(&self.domain), jid(&self.local));
            let iq = self.iqs.create(purpose, "get", route, ping(), now);
            iq.write_to(out);
        }
    }

    /// Requests a ping although no stanza waits for one, unless an answer is owed
    /// already.
    pub fn want_ping(&self, now: Instant) {
        if let Some(barriers) = &mut self.state().barriers {
            barriers.want(now);
        }
        self.writable.notify_one();
    }

    /// The time since which the server owes an answer, if it does.
    pub fn owed_since(&self) -> Option<Instant> {
        self.state().barriers.as_ref()?.owed_since()
    }

    pub fn is_settled(&self) -> bool {
        self.state().queue.is_settled()
    }

    /// Waits until a stanza has become writable.
    pub async fn writable(&self) {
        self.writable.notified().await;
    }

    pub async fn rejection(&self) {
        self.rejection.notified().await;
    }

    pub fn take_rejected(&self) -> Vec<Rejected> {
        std::mem::take(&mut self.state().rejected)
    }

    /// Removes the stanzas that have waited too long for the stream.
    pub fn take_late(&self, now: Instant) -> Vec<Envelope> {
        accepted_never(self.state().queue.take_late(self.max_wait, now))
    }
}

/// Replayed stanzas are not reported: the server accepted them once.
fn accepted_never(stanzas: Vec<QueuedStanza>) -> Vec<Envelope> {
    let stanzas = stanzas.into_iter().filter(|stanza| !stanza.replayed);
    stanzas.map(|stanza| stanza.envelope).collect()
}

fn quarantined() -> Refusal {
    let text = "Stanzas of this sender have ended the stream to the recipient's server; nothing \
                of it is delivered for an hour.";
    Refusal::new(Reason::Malformed, text)
}
