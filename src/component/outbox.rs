//! What is to be written to the server, and what it has not yet confirmed.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use jid::Jid;
use minidom::Element;
use prometheus::IntGauge;
use tokio::sync::{Notify, oneshot, watch};
use tokio::time::Instant;

use super::barrier::Barriers;
use super::discovery::ServerDiscovery;
use super::failure::shown;
use super::from_check::FromCheck;
use super::pending_iqs::{IqPurpose, IqReply, PendingIqs, Recognised, jid, ping};
use super::queue::OutboxState;
use super::queued::{Ending, QueuedStanza, Rejected};
use super::replay::Replay;
use super::routing_probe::{Misrouted, RoutingProbe, is_probe};
use super::{Role, Settings};
use crate::config::Endpoint;
use crate::envelope::{Envelope, Obstacle, Undelivered};
use crate::host::Host;
use crate::servers::{KnownServer, NoAnswer};
use crate::stanza::{Reason, Refusal, Stanza};

/// Bytes written and not confirmed at most: bounds what is written twice when
/// the server goes away, and lets confirmations come in time even from a
/// server that reads 50 kB/s.
const WINDOW: usize = 256 * 1024;
/// Bytes of the gateway's own stanzas that wait to be written, at most.
const OWN_LIMIT: usize = 1024 * 1024;

/// The queue to the server. Stanzas stay in it, in order, until the server
/// has confirmed them; when a stream dies, they are written again on the next.
#[derive(Debug)]
pub(super) struct Outbox {
    domain: Host,
    local: Host,
    stanza_limit: usize,
    bytes_limit: usize,
    max_wait: Duration,
    server: Endpoint,
    probes_routing: bool,
    /// Whether each stream asks for the server's disco#info.
    discovers: bool,
    discovery: ServerDiscovery,
    iqs: PendingIqs,
    /// Shows how many stanzas are in here.
    unsettled: IntGauge,
    state: Mutex<OutboxState>,
    /// Something can be written that could not before.
    writable: Notify,
    /// Something was rejected.
    rejection: Notify,
}

impl Outbox {
    /// An empty one, which shows its size in `unsettled`, and whether foreign
    /// senders pass, and tells what the server does as others don't.
    pub fn new(
        settings: &Settings,
        unsettled: IntGauge,
        passes: IntGauge,
        known: watch::Sender<KnownServer>,
    ) -> Self {
        let is_shared = settings.role == Role::Shared;
        let wanted = settings.config.foreign_from && is_shared;
        Self {
            domain: settings.domain.clone(),
            local: settings.local_host.clone(),
            stanza_limit: settings.config.stanza_size_limit,
            bytes_limit: settings.queue_bytes,
            max_wait: settings.max_wait,
            server: settings.config.server.clone(),
            probes_routing: settings.probes_routing,
            discovers: is_shared,
            discovery: ServerDiscovery::new(known),
            iqs: PendingIqs::new(),
            unsettled,
            state: Mutex::new(OutboxState::new(
                FromCheck::new(wanted, passes),
                Replay::new(settings.config.replay, settings.queue_bytes),
                RoutingProbe::new(&settings.domain),
            )),
            writable: Notify::new(),
            rejection: Notify::new(),
        }
    }

    fn state(&self) -> MutexGuard<'_, OutboxState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn show_unsettled(&self, state: &OutboxState) {
        let count = i64::try_from(state.entries.len()).unwrap_or(i64::MAX);
        self.unsettled.set(count);
    }

    /// Queues `local`, or sets it aside as rejected when writing it would end
    /// the stream.
    ///
    /// # Errors
    /// Gives the envelope back when the queue is full, or closed for good.
    pub fn offer(&self, envelope: Envelope, local: &Stanza) -> Result<(), Box<Undelivered>> {
        if let Err(refusal) = self.check(local) {
            let mut state = self.state();
            // Of a closed one, nobody looks at what was rejected any more.
            if state.closed {
                let reason = Obstacle::Absent;
                return Err(Box::new(Undelivered { envelope, reason }));
            }
            state.rejected.push(Rejected { envelope, refusal });
            drop(state);
            self.rejection.notify_one();
            return Ok(());
        }
        let entry = QueuedStanza {
            envelope,
            wire: serialised(local),
            since: Instant::now(),
            foreign: self.is_foreign(local),
            replayed: false,
        };
        let mut state = self.state();
        if let Some(reason) = state.obstacle(entry.weight(), self.bytes_limit) {
            let envelope = entry.envelope;
            return Err(Box::new(Undelivered { envelope, reason }));
        }
        state.bytes += entry.weight();
        state.entries.push_back(entry);
        self.show_unsettled(&state);
        drop(state);
        self.writable.notify_one();
        Ok(())
    }

    /// Queues a stanza of the gateway's own, which nobody keeps a copy of:
    /// dropped when there is no stream, or too much of this kind waits.
    pub fn offer_own(&self, stanza: &Stanza) {
        if let Err(refusal) = self.check(stanza) {
            tracing::error!(
                from = shown(stanza.from()),
                to = shown(stanza.to()),
                "a stanza of the gateway's own was not written, the server would end the stream: {}",
                refusal.text
            );
            return;
        }
        let wire = serialised(stanza);
        let mut state = self.state();
        if state.barriers.is_none() || state.own_bytes + wire.len() > OWN_LIMIT {
            tracing::debug!(
                to = shown(stanza.to()),
                attached = state.barriers.is_some(),
                "a stanza of the gateway's own was dropped"
            );
            return;
        }
        state.write_own(wire);
        drop(state);
        self.writable.notify_one();
    }

    /// Whether the server would take `local`: one bad stanza ends the stream,
    /// and with it everybody else's.
    fn check(&self, local: &Stanza) -> Result<(), Refusal> {
        match local.from() {
            None => {
                return Err(Refusal::new(
                    Reason::BadAddress,
                    "The stanza has no sender.",
                ));
            }
            Some(_) if self.is_foreign(local) && !self.state().foreign.may_pass() => {
                return Err(self.foreign_refusal());
            }
            Some(_) => {}
        }
        if local.to().is_none() {
            return Err(Refusal::new(
                Reason::BadAddress,
                "The stanza has no recipient.",
            ));
        }
        if local.len() > self.stanza_limit {
            return Err(Refusal::new(
                Reason::TooLarge,
                format!("The stanza is larger than {} bytes.", self.stanza_limit),
            ));
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
        if state.foreign.begin() {
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
        state.write_own(serialised(&iq));
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
        state.write_own(serialised(&iq));
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
                if !state.foreign.answered(reply, &self.domain) {
                    self.reject_unwritten_foreign(&mut state);
                }
            }
            IqPurpose::ServerDiscovery => self.discovery.answered(reply, stanza),
            IqPurpose::Request(waiting) => {
                // An error means that the caller does not wait any more.
                let _ = waiting.send(Ok(stanza.clone()));
            }
        }
    }

    /// What is written already has its answer on the way.
    fn reject_unwritten_foreign(&self, state: &mut OutboxState) {
        let written = state.written;
        let later = state.entries.split_off(written);
        let written = std::mem::replace(&mut state.entries, later);
        state.reject_foreign(&self.foreign_refusal());
        self.rejection.notify_one();
        let rest = std::mem::replace(&mut state.entries, written);
        state.entries.extend(rest);
    }

    /// The server has everything that was written up to `through`.
    fn settle(&self, through: u64) {
        let mut state = self.state();
        let now = Instant::now();
        if let Some(barriers) = &mut state.barriers {
            barriers.answered(now);
        }
        let count = through.saturating_sub(state.settled);
        let mut settled = state.settle(usize::try_from(count).unwrap_or(usize::MAX));
        let mut receipts = Vec::with_capacity(settled.len());
        for entry in &mut settled {
            receipts.push(std::mem::take(&mut entry.envelope.receipt));
        }
        state.replay.alive(now);
        for entry in settled {
            state.replay.keep(entry, now);
        }
        self.show_unsettled(&state);
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
        let mut state = self.state();
        let refused = state.foreign.detached(ending == Ending::BlamedSender);
        let blamed = matches!(ending, Ending::Blamed | Ending::BlamedSender) && !refused;
        state.barriers = None;
        state.probe.detached();
        self.iqs.clear();
        state.own.clear();
        state.own_bytes = 0;
        if blamed && state.suspects > 0 && state.written == 1 {
            let refusal = Refusal::new(
                Reason::Malformed,
                "The recipient's server does not accept this stanza.",
            );
            let culprit = state.settle(1);
            state.reject(culprit, &refusal);
            self.rejection.notify_one();
        } else if blamed {
            state.suspects = state.suspects.max(state.written);
        }
        (state.settled, state.written, state.written_bytes) = (0, 0, 0);
        if refused {
            state.suspects = 0;
            state.reject_foreign(&self.foreign_refusal());
            self.rejection.notify_one();
        }
        let replayed = state.replay(ending, &self.domain);
        self.show_unsettled(&state);
        replayed
    }

    /// Nothing will be written any more; gives what is left, and what was
    /// rejected and not taken.
    pub fn close(&self) -> (Vec<Envelope>, Vec<Rejected>) {
        let mut state = self.state();
        state.closed = true;
        state.barriers = None;
        state.own.clear();
        state.written = 0;
        state.suspects = 0;
        (state.bytes, state.written_bytes, state.own_bytes) = (0, 0, 0);
        let entries = std::mem::take(&mut state.entries);
        let rejected = std::mem::take(&mut state.rejected);
        self.show_unsettled(&state);
        let left = entries.into_iter().filter(|entry| !entry.replayed);
        (left.map(|entry| entry.envelope).collect(), rejected)
    }

    /// Moves what may be written now to `out`, with a barrier behind it.
    pub fn write_to(&self, out: &mut BytesMut, now: Instant) {
        let mut state = self.state();
        let OutboxState {
            barriers: Some(barriers),
            settled,
            entries,
            written,
            written_bytes,
            suspects,
            own,
            own_bytes,
            ..
        } = &mut *state
        else {
            return;
        };
        // A suspect must be alone when it ends the stream.
        if *suspects == 0 {
            own.drain(..).for_each(|wire| out.extend_from_slice(&wire));
            *own_bytes = 0;
        }
        while let Some(entry) = entries.get(*written) {
            let alone = *written == 0;
            let fits = *suspects == 0 && *written_bytes + entry.wire.len() <= WINDOW;
            if !(alone || fits) {
                break;
            }
            out.extend_from_slice(&entry.wire);
            *written += 1;
            *written_bytes += entry.wire.len();
        }
        if barriers.is_due(*written > 0, now) {
            barriers.written(now);
            let through = *settled + *written as u64;
            let (purpose, route) = (
                IqPurpose::Barrier(through),
                (jid(&self.domain), jid(&self.local)),
            );
            self.iqs
                .create(purpose, "get", route, ping(), now)
                .write_to(out);
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
        self.state().entries.is_empty()
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

    /// Takes what has waited for the stream too long. What is written on a
    /// stream that is up waits for its confirmation as long as that takes.
    pub fn take_late(&self, now: Instant) -> Vec<Envelope> {
        let mut state = self.state();
        let start = state.written;
        let late = state
            .entries
            .range(start..)
            .take_while(|entry| now.duration_since(entry.since) >= self.max_wait)
            .count();
        let late: Vec<QueuedStanza> = state.entries.drain(start..start + late).collect();
        if late.is_empty() {
            return Vec::new();
        }
        let end = (start + late.len()).min(state.suspects);
        state.suspects -= end.saturating_sub(start);
        state.bytes -= late.iter().map(QueuedStanza::weight).sum::<usize>();
        self.show_unsettled(&state);
        let late = late.into_iter().filter(|entry| !entry.replayed);
        late.map(|entry| entry.envelope).collect()
    }
}

fn serialised(stanza: &Stanza) -> Bytes {
    let mut wire = BytesMut::with_capacity(stanza.len());
    stanza.write_to(&mut wire);
    wire.freeze()
}
