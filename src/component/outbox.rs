//! What is to be written to the server, and what it has not yet confirmed.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use prometheus::IntGauge;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

use super::barrier::{BarrierAnswer, Barriers};
use super::discovery::ServerDiscovery;
use super::failure::shown;
use super::from_check::{FromCheck, FromCheckResult};
use super::queue::{Ending, OutboxState, QueuedStanza, Rejected, Stream};
use super::replay::Replay;
use super::routing_probe::{Misrouted, RoutingProbe};
use super::{Role, Settings};
use crate::config::Endpoint;
use crate::envelope::{Envelope, Obstacle, Undelivered};
use crate::host::Host;
use crate::servers::KnownServer;
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
    /// Whether echoes are sent.
    probes_routing: bool,
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
            unsettled,
            state: Mutex::new(OutboxState::new(
                FromCheck::new(wanted, passes),
                ServerDiscovery::new(is_shared, known),
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
        if state.stream.is_none() || state.own_bytes + wire.len() > OWN_LIMIT {
            tracing::debug!(
                to = shown(stanza.to()),
                attached = state.stream.is_some(),
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
        let mut state = self.state();
        state.stream = Some(Stream {
            barriers: Barriers::new(&self.domain, &self.local),
            ping_wanted: None,
        });
        let questions = [
            state.discovery.question(&self.domain, &self.local),
            // In front: it may end the stream.
            state.foreign.question(&self.domain, &self.local),
        ];
        for question in questions.iter().flatten() {
            let wire = serialised(question);
            state.own_bytes += wire.len();
            state.own.push_front(wire);
        }
        if self.probes_routing {
            let echoes = state.echoes.attached(Instant::now());
            let echoes = echoes.iter().map(serialised);
            echoes.for_each(|wire| state.write_own(wire));
        }
        drop(state);
        self.writable.notify_one();
    }

    /// Looks after the echoes; what goes astray, when that is news.
    pub fn tend_echoes(&self, now: Instant) -> Option<Option<Misrouted>> {
        let mut state = self.state();
        let (before, was_astray) = (state.echoes.since(), state.echoes.found().is_some());
        let echoes = state.echoes.tend(now);
        let wanted = !echoes.is_empty();
        if wanted
            && was_astray
            && let (Some(stream), Some(before)) = (&mut state.stream, before)
            && stream.barriers.forget(before)
        {
            stream.ping_wanted.get_or_insert(now);
        }
        let echoes = echoes.iter().map(serialised);
        echoes.for_each(|wire| state.write_own(wire));
        let news = state.echoes.news();
        drop(state);
        if wanted {
            self.writable.notify_one();
        }
        news
    }

    /// Takes `stanza`, from the server, for an echo if it is one.
    pub fn echo_by(&self, stanza: &Stanza) -> bool {
        self.state().echoes.recognise(stanza)
    }

    /// For people: what goes astray, and what to change.
    pub fn astray(&self) -> Option<String> {
        let state = self.state();
        let astray = state.echoes.found()?;
        Some(astray.advice(&self.domain, &self.server))
    }

    /// The stream is gone. If the server ended it because of something we
    /// wrote, what was not confirmed is written one by one from now on, and what
    /// ends a stream when written alone is rejected. If it died, what it
    /// accepted at last is written again; returns how much.
    pub fn detached(&self, ending: Ending) -> usize {
        let mut state = self.state();
        let refused = state.foreign.detached(ending == Ending::BlamedSender);
        state.discovery.detached();
        let blamed = matches!(ending, Ending::Blamed | Ending::BlamedSender) && !refused;
        state.stream = None;
        state.echoes.detached();
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
        state.written = 0;
        state.written_bytes = 0;
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
        state.stream = None;
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
            stream: Some(stream),
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
        if stream.barriers.raised_at().is_none() && (*written > 0 || stream.ping_wanted.is_some()) {
            stream.ping_wanted = None;
            stream.barriers.raise(*written, now, out);
        }
    }

    /// Takes `stanza`, from the server, for a barrier's answer if it is one,
    /// and settles what that covers.
    pub fn settle_by(&self, stanza: &Stanza) -> bool {
        let mut state = self.state();
        let answer = state
            .stream
            .as_mut()
            .map_or(BarrierAnswer::Unrelated, |stream| {
                stream.barriers.recognise(stanza)
            });
        let mut settled = match answer {
            BarrierAnswer::Unrelated => return false,
            BarrierAnswer::Late => return true,
            BarrierAnswer::Settles(count) => state.settle(count),
        };
        let mut receipts = Vec::with_capacity(settled.len());
        for entry in &mut settled {
            receipts.push(std::mem::take(&mut entry.envelope.receipt));
        }
        let now = Instant::now();
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
        true
    }

    /// Takes `stanza`, from the server, for what tells whether it checks
    /// senders, if it is that; what it tells.
    pub fn check_by(&self, stanza: &Stanza) -> Option<FromCheckResult> {
        let mut state = self.state();
        let verdict = state.foreign.recognise(stanza)?;
        if verdict == FromCheckResult::Refused {
            // What is written already has its answer on the way.
            let written = state.written;
            let later = state.entries.split_off(written);
            let written = std::mem::replace(&mut state.entries, later);
            state.reject_foreign(&self.foreign_refusal());
            self.rejection.notify_one();
            let rest = std::mem::replace(&mut state.entries, written);
            state.entries.extend(rest);
        }
        Some(verdict)
    }

    /// Whether `stanza`, from the server, only says who the server is.
    pub fn met_by(&self, stanza: &Stanza) -> bool {
        self.state().discovery.recognise(stanza)
    }

    /// Wants a ping although nothing waits for one.
    pub fn want_ping(&self, now: Instant) {
        if let Some(stream) = &mut self.state().stream {
            stream.ping_wanted.get_or_insert(now);
        }
        self.writable.notify_one();
    }

    /// Since when the server owes us an answer, if it does.
    pub fn asked_at(&self) -> Option<Instant> {
        let state = self.state();
        let stream = state.stream.as_ref()?;
        stream.barriers.raised_at().or(stream.ping_wanted)
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
