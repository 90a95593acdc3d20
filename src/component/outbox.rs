//! What is to be written to the server, and what it has not yet confirmed.

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
use super::queue::{Ending, OutboxLoad, QueuedStanza, Rejected, StanzaQueue};
use super::replay::Replay;
use super::routing_probe::{Misrouted, RoutingProbe, is_probe};
use super::{Role, Settings};
use crate::config::Endpoint;
use crate::envelope::{Envelope, Obstacle, Undelivered};
use crate::host::Host;
use crate::servers::{KnownServer, NoAnswer};
use crate::stanza::{Reason, Refusal, Stanza};

/// Bytes of the gateway's own stanzas that wait to be written, at most.
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
    /// Whether each stream asks for the server's disco#info.
    discovers: bool,
    discovery: ServerDiscovery,
    iqs: PendingIqs,
    load: Arc<OutboxLoad>,
    /// The way into the queue, without a lock.
    arrivals: mpsc::UnboundedSender<QueuedStanza>,
    /// Locked by the tasks of the stream. Before [`PendingIqs`]'s lock, if both are held.
    state: Mutex<OutboxState>,
    /// Something can be written that could not before.
    writable: Notify,
    /// Something was rejected.
    rejection: Notify,
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

    /// A stanza that is only written again has no error reply: it was accepted once.
    fn reject(&mut self, stanzas: impl IntoIterator<Item = QueuedStanza>, refusal: &Refusal) {
        let stanzas = stanzas.into_iter().filter(|stanza| !stanza.replayed);
        self.rejected.extend(stanzas.map(|stanza| Rejected {
            envelope: stanza.envelope,
            refusal: refusal.clone(),
        }));
    }
}

impl Outbox {
    /// An empty one, which shows its size in `unsettled`, whether foreign
    /// senders pass in `passes`, and what it finds out about the server in `known`.
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
        }
    }

    fn state(&self) -> MutexGuard<'_, OutboxState> {
        self.state.lock()
    }

    /// Queues `local`, or sets it aside as rejected when writing it would end
    /// the stream.
    ///
    /// # Errors
    /// Gives the envelope back when the queue is full, or closed for good.
    pub fn offer(&self, envelope: Envelope, local: Stanza) -> Result<(), Box<Undelivered>> {
        let undelivered = |envelope, reason| Err(Box::new(Undelivered { envelope, reason }));
        let len = local.len();
        if let Err(refusal) = self.check(&local, len) {
            let mut state = self.state();
            // Of a closed one, nobody looks at what was rejected any more.
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
            since: Some(Instant::now()),
            foreign,
            replayed: false,
            room,
        };
        if let Err(refused) = self.arrivals.send(stanza) {
            return undelivered(refused.0.envelope, Obstacle::Absent);
        }
        self.writable.notify_one();
        Ok(())
    }

    /// Queues a stanza of the gateway's own, which nobody keeps a copy of:
    /// dropped when there is no stream, or too much of this kind waits.
    pub fn offer_own(&self, stanza: &Stanza) {
        let len = stanza.len();
        if let Err(refusal) = self.check(stanza, len) {
            tracing::error!(
                from = shown(stanza.from()),
                to = shown(stanza.to()),
                "a stanza of the gateway's own was not written, the server would end the stream: {}",
                refusal.text
            );
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

    /// Whether the server would take `local`, of `len` bytes: one bad stanza
    /// ends the stream, and with it everybody else's.
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

    /// A stream is up: everything is to be written to it, from the oldest.
    pub fn attached(&self) {
        let now = Instant::now();
        let mut state = self.state();
        state.barriers = Some(Barriers::new(now));
        let (ours, server) = (jid(&self.domain), jid(&self.local));
        // First of all: it may end the stream.
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

    /// Looks after what time brings: answers that are missing, the keep-alive,
    /// the routing probe. What is misrouted, when that is news.
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
    /// answer to an iq of ours, or a probe. For other stanzas no lock is taken.
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
            // What comes back otherwise is from somebody else, who got the probe.
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

    /// The server has everything that was written up to the number `through`.
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

    /// For people: what is misrouted, and what to change.
    pub fn misrouted(&self) -> Option<String> {
        let state = self.state();
        let misrouted = state.probe.found()?;
        Some(misrouted.advice(&self.domain, &self.server))
    }

    /// The stream is gone. If the server ended it because of something we
    /// wrote, what was not confirmed is written one by one from now on, and what
    /// ends a stream when written alone is rejected. If it died, what it
    /// accepted at last is written again; returns how much.
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
        let text = "The recipient's server does not accept this stanza.";
        state.reject(culprit, &Refusal::new(Reason::Malformed, text));
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

    /// What is written already has its answer on the way.
    fn reject_foreign(&self, state: &mut OutboxState) {
        let foreign = state.queue.take_foreign(Instant::now());
        state.reject(foreign, &self.foreign_refusal());
        self.rejection.notify_one();
    }

    /// Nothing will be written any more; gives what is left, and what was
    /// rejected and not taken.
    pub fn close(&self) -> (Vec<Envelope>, Vec<Rejected>) {
        let mut state = self.state();
        state.barriers = None;
        state.own.clear();
        let left = state.queue.close(Instant::now());
        (accepted_never(left), std::mem::take(&mut state.rejected))
    }

    /// Moves what may be written now to `out`, with a barrier behind it.
    pub fn write_to(&self, out: &mut BytesMut, now: Instant) {
        let mut state = self.state();
        let state = &mut *state;
        let Some(barriers) = &mut state.barriers else {
            return;
        };
        // A suspect must be alone when it ends the stream.
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

    /// Wants a ping although nothing waits for one, unless an answer is owed already.
    pub fn want_ping(&self, now: Instant) {
        if let Some(barriers) = &mut self.state().barriers {
            barriers.want(now);
        }
        self.writable.notify_one();
    }

    /// Since when the server owes us an answer, if it does.
    pub fn owed_since(&self) -> Option<Instant> {
        self.state().barriers.as_ref()?.owed_since()
    }

    /// Whether the server has confirmed everything.
    pub fn is_settled(&self) -> bool {
        self.state().queue.is_settled()
    }

    /// Waits until something may be written that could not before.
    pub async fn writable(&self) {
        self.writable.notified().await;
    }

    /// Waits until something was rejected.
    pub async fn rejection(&self) {
        self.rejection.notified().await;
    }

    /// Takes what was rejected.
    pub fn take_rejected(&self) -> Vec<Rejected> {
        std::mem::take(&mut self.state().rejected)
    }

    /// Takes what has waited for the stream too long.
    pub fn take_late(&self, now: Instant) -> Vec<Envelope> {
        accepted_never(self.state().queue.take_late(self.max_wait, now))
    }
}

/// What is only written again is not reported: it was accepted once.
fn accepted_never(stanzas: Vec<QueuedStanza>) -> Vec<Envelope> {
    let stanzas = stanzas.into_iter().filter(|stanza| !stanza.replayed);
    stanzas.map(|stanza| stanza.envelope).collect()
}
