//! A model check of the delivery between two gateways: seeded schedules of writes,
//! delays, cuts, kills, clean stops and moves drive the real pool ([`Peer`]), the real
//! frames, and the real receive windows, without sockets and tasks. The model is the
//! list of deliveries: see [`Model::deliver`] and [`Model::check`].
//!
//! `STRAIT_SEED=N` runs one schedule and prints its steps; `STRAIT_SCHEDULES=N` runs
//! that many.

use std::collections::{BTreeMap, BTreeSet, HashSet, VecDeque};
use std::fmt::{Debug, Write as _};
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use fastrand::Rng;
use futures::FutureExt;
use parking_lot::Mutex;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::super::frame::Frame;
use super::super::incoming::Reception;
use super::super::incoming_slots::{ConnectionLease, IncomingSlots, SlotKey};
use super::super::peer::{ConnectionSignals, Peer};
use super::super::pool::SlotId;
use super::super::wire;
use super::gateways::{host, number};
use crate::config::Endpoint;
use crate::envelope::{Arrival, Envelope, Obstacle, Receipt, Settle, Undelivered};
use crate::host::Host;
use crate::metrics::Metrics;
use crate::stanza::{Limits, Stanza};

const SCHEDULES: u64 = 10_000;
const STEPS: usize = 250;
const FRAME_LIMIT: usize = 4096;
/// Stanzas that one worker's queue holds here: few, so that hand-overs wait.
const QUEUE: usize = 3;

/// One stanza: its sender, and its number among all stanzas of that sender.
type Item = (usize, u64);

/// Keeps each stanza until it is settled, as the server or gateway before ours does.
#[derive(Default)]
struct Upstream {
    settled: Mutex<BTreeSet<Item>>,
}

/// One sender's receipts.
struct UpstreamOf(Arc<Upstream>, usize);

impl Settle for UpstreamOf {
    fn settled(&self, sequence: u64) {
        self.0.settled.lock().insert((self.1, sequence));
    }
}

/// A receiving process: one worker and one component stream.
struct Process {
    slots: IncomingSlots,
    generation: usize,
    /// Asked to stop: takes no new connection.
    is_leaving: bool,
    /// While it was stopping, a slot had no connection over which to get its acks.
    is_cut_off: bool,
    queue: VecDeque<Envelope>,
    /// Connections that wait for room in the queue, in their order.
    waiting: VecDeque<usize>,
    /// Written to the server, which has not answered a barrier after it yet.
    written: VecDeque<Envelope>,
}

impl Process {
    fn new(generation: usize) -> Self {
        Self {
            slots: IncomingSlots::default(),
            generation,
            is_leaving: false,
            is_cut_off: false,
            queue: VecDeque::new(),
            waiting: VecDeque::new(),
            written: VecDeque::new(),
        }
    }
}

/// The near end of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Near {
    /// The welcome is on its way, with this `resume_after`.
    Greeting(u64),
    Up,
    Closed,
}

struct Connection {
    slot: SlotId,
    process: usize,
    near: Near,
    /// Frames from the near end. `far_sees_end` when no more come after them.
    to_far: VecDeque<wire::RawFrame>,
    far_sees_end: bool,
    to_near: VecDeque<Frame>,
    near_sees_end: bool,
    /// The far end, until it is closed.
    lease: Option<ConnectionLease>,
    acknowledged: u64,
    /// A stanza that waits for room in the worker's queue.
    handing_over: Option<Envelope>,
    /// The far end is to close as soon as the hand-over is done.
    is_replaced: bool,
}

struct Model {
    rng: Rng,
    log: Option<String>,
    metrics: Arc<Metrics>,
    reception: Arc<Reception>,
    local: Host,
    max_wait: Duration,
    start: Instant,
    upstream: Arc<Upstream>,
    /// Stanzas that each sender has sent.
    sent: Vec<u64>,
    /// Not placed, because no slot took them: behind them wait all later ones.
    held: Vec<VecDeque<Envelope>>,
    errors: BTreeSet<Item>,
    peer: Peer,
    undelivered: mpsc::UnboundedReceiver<Undelivered>,
    epoch: u32,
    next_slot: SlotId,
    endpoints: Vec<Endpoint>,
    dialled: BTreeMap<SlotId, (usize, ConnectionSignals)>,
    nodes: usize,
    processes: Vec<Process>,
    /// Indices are kept; a connection whose two ends are closed is removed.
    connections: BTreeMap<usize, Connection>,
    next_connection: usize,
    /// How often each stanza was delivered to a server.
    delivered: BTreeMap<Item, usize>,
    /// The same with the sending and the receiving process.
    in_processes: BTreeSet<(Item, u32, usize)>,
    /// The number of each sender's last first delivery.
    last: Vec<u64>,
    broken: Option<String>,
    /// How often a stanza was in flight when a process was killed.
    in_flight_at_a_kill: BTreeMap<Item, usize>,
}

/// Returns whether `happens` in one of `n` cases.
fn one_in(rng: &mut Rng, n: usize) -> bool {
    rng.usize(..n) == 0
}

impl Model {
    fn new(seed: u64, reception: &Arc<Reception>, metrics: &Arc<Metrics>, logs: bool) -> Self {
        let mut rng = Rng::with_seed(seed);
        let nodes = rng.usize(1..=2);
        let endpoints = (0..nodes * rng.usize(1..=2)).map(|n| Endpoint {
            host: format!("gw{n}.test"),
            port: 5555,
        });
        let max_wait = [Duration::from_secs(4), Duration::from_secs(3600)][rng.usize(..2)];
        let senders = rng.usize(1..=3);
        let (back, undelivered) = mpsc::unbounded_channel();
        let mut model = Self {
            log: logs.then(String::new),
            metrics: Arc::clone(metrics),
            reception: Arc::clone(reception),
            local: host("dc1.test"),
            max_wait,
            start: Instant::now(),
            upstream: Arc::default(),
            sent: vec![0; senders],
            held: (0..senders).map(|_| VecDeque::new()).collect(),
            errors: BTreeSet::new(),
            peer: peer(max_wait, metrics, back),
            undelivered,
            epoch: 1,
            next_slot: 1,
            endpoints: endpoints.collect(),
            dialled: BTreeMap::new(),
            nodes,
            processes: (0..nodes).map(Process::new).collect(),
            connections: BTreeMap::new(),
            next_connection: 0,
            delivered: BTreeMap::new(),
            in_processes: BTreeSet::new(),
            last: vec![0; senders],
            broken: None,
            in_flight_at_a_kill: BTreeMap::new(),
            rng,
        };
        model.announce(model.endpoints.clone());
        model
    }

    fn note(&mut self, text: impl FnOnce() -> String) {
        if let Some(log) = &mut self.log {
            let _ = writeln!(log, "{}", text());
        }
    }

    // ---- the sending gateway ----

    fn envelope(&self, (sender, n): Item) -> Envelope {
        let xml =
            format!("<message from='s{sender}@example.test/r' to='bob@example.test'>{n}</message>");
        let stanza = Stanza::parse(xml.into(), &Limits::default()).unwrap();
        // The receiver reads the sending process from the ttl, one less after the link.
        let ttl = self.epoch + 1;
        let mut envelope = Envelope::new(self.local.clone(), Arrival::Component, ttl, stanza);
        envelope.taken_at = Instant::now().into_std();
        let upstream = UpstreamOf(Arc::clone(&self.upstream), sender);
        envelope.receipt = Receipt::new(Arc::new(upstream), n);
        envelope
    }

    fn send(&mut self) {
        let sender = self.rng.usize(..self.sent.len());
        self.sent[sender] += 1;
        let item = (sender, self.sent[sender]);
        self.note(|| format!("send {item:?}"));
        let envelope = self.envelope(item);
        self.held[sender].push_back(envelope);
        self.place_held(sender);
    }

    fn place_held(&mut self, sender: usize) {
        while let Some(envelope) = self.held[sender].pop_front() {
            if let Err(undelivered) = self.peer.place(envelope) {
                self.held[sender].push_front(undelivered.envelope);
                return;
            }
        }
    }

    /// Holds what came back, before all later stanzas of the sender; answers what
    /// came too late with an error.
    fn take_undelivered(&mut self) {
        while let Ok(Undelivered {
            mut envelope,
            reason,
        }) = self.undelivered.try_recv()
        {
            let item = item(&envelope);
            self.note(|| format!("{item:?} comes back: {reason:?}"));
            if reason == Obstacle::TooLate {
                envelope.receipt.settle();
                self.errors.insert(item);
                continue;
            }
            let held = &mut self.held[item.0];
            let at = held.partition_point(|other| number(other) < item.1);
            held.insert(at, envelope);
        }
    }

    fn announce(&mut self, endpoints: Vec<Endpoint>) {
        self.note(|| format!("announced: {endpoints:?}"));
        let mut next = self.next_slot;
        let per_endpoint = 1 + usize::from(self.epoch.is_multiple_of(2));
        let new_id = || {
            next += 1;
            next - 1
        };
        let leave = CancellationToken::new();
        let added = self.peer.follow(&endpoints, per_endpoint, new_id, &leave);
        self.next_slot = next;
        for (slot, endpoint, signals) in added {
            let at = self.endpoints.iter().position(|known| *known == endpoint);
            let process = at.unwrap() % self.nodes;
            self.dialled.insert(slot, (process, signals));
        }
    }

    /// Closes the near end; it has sent everything that it has written.
    fn close_near(&mut self, id: usize) {
        let connection = self.connections.get_mut(&id).unwrap();
        let (slot, before) = (connection.slot, connection.near);
        connection.near = Near::Closed;
        connection.to_near.clear();
        connection.far_sees_end = true;
        if before == Near::Up {
            self.peer.down(slot);
        }
    }

    /// The sending process is killed and started anew; the stanzas that are not
    /// settled come again, in order.
    fn kill_near(&mut self) {
        self.note(|| "the sending process is killed".to_owned());
        self.count_in_flight(|_| true);
        let (back, undelivered) = mpsc::unbounded_channel();
        let killed = std::mem::replace(&mut self.peer, peer(self.max_wait, &self.metrics, back));
        self.undelivered = undelivered;
        drop(killed);
        for connection in self.connections.values_mut() {
            connection.near = Near::Closed;
            connection.to_near.clear();
            connection.far_sees_end = true;
        }
        self.epoch += 1;
        self.next_slot = 1;
        self.dialled.clear();
        self.announce(self.endpoints.clone());
        for sender in 0..self.sent.len() {
            let settled = self.upstream.settled.lock().clone();
            let all = (1..=self.sent[sender]).map(|n| (sender, n));
            let unsettled: VecDeque<_> = all
                .filter(|item| !settled.contains(item))
                .map(|item| self.envelope(item))
                .collect();
            self.held[sender] = unsettled;
        }
    }

    /// Counts the unsettled stanzas for which `was_there`: they may be delivered
    /// once more.
    fn count_in_flight(&mut self, was_there: impl Fn(Item) -> bool) {
        let settled = self.upstream.settled.lock();
        for (sender, sent) in self.sent.iter().enumerate() {
            let all = (1..=*sent).map(|n| (sender, n));
            for item in all.filter(|item| !settled.contains(item) && was_there(*item)) {
                *self.in_flight_at_a_kill.entry(item).or_default() += 1;
            }
        }
    }

    // ---- the network ----

    fn dial(&mut self) {
        let live: HashSet<SlotId> = self
            .connections
            .values()
            .filter(|c| c.near != Near::Closed)
            .map(|c| c.slot)
            .collect();
        let free = self.dialled.iter().filter(|(slot, _)| !live.contains(slot));
        let free: Vec<_> = free.map(|(slot, (process, _))| (*slot, *process)).collect();
        let Some((slot, process)) = pick(&mut self.rng, &free) else {
            return;
        };
        if self.processes[process].is_leaving {
            return;
        }
        let key = SlotKey {
            host: self.local.clone(),
            node: "a".to_owned(),
            epoch: self.epoch.into(),
            slot,
        };
        let lease = self.processes[process].slots.lease(key);
        let mut lease = Box::pin(lease);
        let mut leased = lease.as_mut().now_or_never();
        if leased.is_none() {
            // The former connection of the slot ends when its hand-over is done.
            for connection in self.connections.values_mut() {
                let is_former = connection.slot == slot
                    && connection.process == process
                    && connection.near == Near::Closed;
                let lease = connection.lease.as_ref().filter(|_| is_former);
                if lease.is_some_and(|lease| lease.replaced().now_or_never().is_some()) {
                    connection.is_replaced = true;
                    if connection.handing_over.is_none() {
                        connection.lease = None;
                    }
                }
            }
            leased = lease.as_mut().now_or_never();
        }
        drop(lease);
        let Some(lease) = leased.map(|lease| lease.unwrap()) else {
            return;
        };
        self.note(|| {
            format!(
                "slot {slot} is dialled, resumes after {}",
                lease.resume_after
            )
        });
        let connection = Connection {
            slot,
            process,
            near: Near::Greeting(lease.resume_after),
            to_far: VecDeque::new(),
            far_sees_end: false,
            to_near: VecDeque::new(),
            near_sees_end: false,
            lease: Some(lease),
            acknowledged: 0,
            handing_over: None,
            is_replaced: false,
        };
        self.connections.insert(self.next_connection, connection);
        self.next_connection += 1;
    }

    /// Breaks a connection. Bytes on their way may be lost, all or the last; each end
    /// may notice at once or later.
    fn cut(&mut self, id: usize) {
        self.note(|| format!("connection {id} is cut"));
        let connection = self.connections.get_mut(&id).unwrap();
        connection.far_sees_end = true;
        connection.near_sees_end = true;
        self.processes[connection.process].is_cut_off = true;
        let kept = self.rng.usize(..=connection.to_far.len());
        connection.to_far.truncate(kept);
        let kept = self.rng.usize(..=connection.to_near.len());
        connection.to_near.truncate(kept);
        if self.rng.bool() {
            self.close_near(id);
        }
        if one_in(&mut self.rng, 3) {
            self.close_far(id);
        }
    }

    /// One step of the near end: reads, or writes.
    fn step_near(&mut self, id: usize) {
        let connection = self.connections.get_mut(&id).unwrap();
        let slot = connection.slot;
        match connection.near {
            Near::Closed => {}
            Near::Greeting(resume_after) if !connection.near_sees_end => {
                connection.near = Near::Up;
                self.peer.up(slot, resume_after).unwrap();
            }
            Near::Greeting(_) => self.close_near(id),
            Near::Up => match connection.to_near.pop_front() {
                Some(Frame::Ack { through }) => {
                    self.peer.acknowledge(slot, through).unwrap();
                    if self.peer.has_left(slot) {
                        self.close_near(id);
                    }
                }
                Some(Frame::Goodbye) => {
                    self.peer.leaving(slot);
                    if self.peer.has_left(slot) {
                        self.close_near(id);
                    }
                }
                Some(other) => panic!("{other:?} from the receiver"),
                None if connection.near_sees_end => self.close_near(id),
                None => self.write(id),
            },
        }
    }

    fn write(&mut self, id: usize) {
        let connection = self.connections.get_mut(&id).unwrap();
        if connection.near != Near::Up {
            return;
        }
        let mut out = BytesMut::new();
        self.peer.fill(connection.slot, &mut out, FRAME_LIMIT);
        let is_leaving = self.dialled.get(&connection.slot);
        let is_leaving = is_leaving.is_some_and(|(_, signals)| signals.leave.is_cancelled());
        if is_leaving {
            Frame::Goodbye.put(&mut out);
        }
        while let Some(frame) = wire::cut(&mut out, FRAME_LIMIT).unwrap() {
            connection.to_far.push_back(frame);
        }
        if is_leaving {
            self.dialled.remove(&connection.slot);
            self.close_near(id);
        }
    }

    // ---- the receiving gateways ----

    /// One step of the far end: reads, or acknowledges.
    fn step_far(&mut self, id: usize) {
        let connection = self.connections.get_mut(&id).unwrap();
        if connection.lease.is_none() || connection.handing_over.is_some() {
            return;
        }
        if connection.is_replaced {
            return self.close_far(id);
        }
        let Some(raw) = connection.to_far.pop_front() else {
            if connection.far_sees_end {
                self.close_far(id);
            }
            return;
        };
        let Frame::Stanza(header, body) = Frame::read(raw).unwrap() else {
            return self.close_far(id);
        };
        let lease = connection.lease.as_ref().unwrap();
        let (slot, place) = (connection.slot, header.number);
        let former = header.former.clone();
        let envelope = self.reception.unpack(&self.local, header, body, lease);
        let taken = envelope.as_ref().map(item);
        let process = &mut self.processes[connection.process];
        if let Some(envelope) = envelope {
            if process.queue.len() < QUEUE && process.waiting.is_empty() {
                process.queue.push_back(envelope);
            } else {
                connection.handing_over = Some(envelope);
                process.waiting.push_back(id);
            }
        }
        self.note(|| format!("slot {slot} number {place}, before {former:?}: {taken:?} taken"));
    }

    fn acknowledge(&mut self, id: usize) {
        let connection = self.connections.get_mut(&id).unwrap();
        let Some(lease) = &connection.lease else {
            return;
        };
        if lease.has_abandoned() {
            return self.close_far(id);
        }
        let through = lease.settled_through();
        if through > connection.acknowledged && connection.near != Near::Closed {
            connection.acknowledged = through;
            connection.to_near.push_back(Frame::Ack { through });
        }
    }

    /// Closes the far end, when its hand-over is done.
    fn close_far(&mut self, id: usize) {
        let connection = self.connections.get_mut(&id).unwrap();
        connection.is_replaced = true;
        connection.near_sees_end = true;
        if connection.handing_over.is_none() {
            connection.lease = None;
            connection.to_far.clear();
        }
    }

    /// One step of a receiving process behind its links.
    fn work(&mut self, at: usize) {
        let process = &mut self.processes[at];
        if self.rng.bool() {
            if let Some(envelope) = process.queue.pop_front() {
                let item = item(&envelope);
                let (epoch, generation) = (envelope.ttl, process.generation);
                process.written.push_back(envelope);
                self.deliver(item, epoch, generation);
                self.note(|| format!("{item:?} delivered by process {at}"));
            }
            let process = &mut self.processes[at];
            if process.queue.len() < QUEUE
                && let Some(id) = process.waiting.pop_front()
            {
                let connection = self.connections.get_mut(&id).unwrap();
                process.queue.extend(connection.handing_over.take());
                if connection.is_replaced {
                    self.close_far(id);
                }
            }
        } else {
            // A barrier is answered.
            let count = self.rng.usize(..=process.written.len());
            for mut envelope in process.written.drain(..count) {
                envelope.receipt.settle();
            }
        }
    }

    /// Checks a delivery: within a pair of processes a stanza is delivered once; a
    /// kill may double what was in flight; the first deliveries are in order.
    fn deliver(&mut self, item: Item, epoch: u32, process: usize) {
        let count = self.delivered.entry(item).or_default();
        *count += 1;
        if epoch != self.epoch {
            // The last bytes of a killed sender may come when its places are forgotten.
            *self.in_flight_at_a_kill.entry(item).or_default() += 1;
        }
        let kills = self.in_flight_at_a_kill.get(&item).copied().unwrap_or(0);
        let last = &mut self.last[item.0];
        let is_new = self.in_processes.insert((item, epoch, process));
        if !is_new && (kills == 0 || epoch == self.epoch) {
            self.broken = Some(format!("{item:?} came twice within process {process}"));
        } else if *count == 1 && item.1 < *last && !self.errors.contains(&item) {
            // After an error the sender may send it again, later.
            self.broken = Some(format!("{item:?} came after {last}"));
        } else if self.nodes == 1 && *count > 1 + kills {
            // Another node has windows of its own.
            self.broken = Some(format!("{item:?} came {count} times, with {kills} kills"));
        }
        if *count == 1 {
            *last = item.1.max(*last);
        }
    }

    fn kill_far(&mut self, at: usize) {
        let generation = self.processes[at].generation;
        self.note(|| format!("process {at} is killed"));
        let of_process = self
            .in_processes
            .iter()
            .filter(|(.., by)| *by == generation);
        let here: BTreeSet<Item> = of_process.map(|(item, ..)| *item).collect();
        self.count_in_flight(|item| here.contains(&item));
        self.end_process(at);
    }

    /// Drops the process, and starts the next one.
    fn end_process(&mut self, at: usize) {
        let next = self.processes.iter().map(|p| p.generation).max().unwrap() + 1;
        let ended = std::mem::replace(&mut self.processes[at], Process::new(next));
        let of_process = |c: &&mut Connection| c.process == at;
        for connection in self.connections.values_mut().filter(of_process) {
            connection.handing_over = None;
            connection.lease = None;
            connection.to_far.clear();
            connection.near_sees_end = true;
            let kept = self.rng.usize(..=connection.to_near.len());
            connection.to_near.truncate(kept);
        }
        drop(ended);
    }

    /// The process asks its peers to send nothing new.
    fn leave(&mut self, at: usize) {
        self.note(|| format!("process {at} stops"));
        let connections = self.connections.values();
        let whole = connections.filter(|c| c.near == Near::Up && !c.near_sees_end);
        let connected: HashSet<SlotId> = whole.map(|c| c.slot).collect();
        let mut slots = self
            .dialled
            .iter()
            .filter(|(_, (process, _))| *process == at);
        self.processes[at].is_leaving = true;
        let has_waiting = self.held.iter().any(|held| !held.is_empty());
        self.processes[at].is_cut_off =
            has_waiting || slots.any(|(slot, _)| !connected.contains(slot));
        for connection in self.connections.values_mut() {
            if connection.process == at && connection.lease.is_some() {
                connection.to_near.push_back(Frame::Goodbye);
            }
        }
    }

    /// Ends a stopping process that has nothing left to do: nothing of it may come
    /// again.
    fn end_stopped(&mut self) {
        for at in 0..self.processes.len() {
            let has_lease = |c: &Connection| c.process == at && c.lease.is_some();
            let process = &self.processes[at];
            let is_cut_off = process.is_cut_off;
            if process.is_leaving
                && process.queue.is_empty()
                && process.written.is_empty()
                && !self.connections.values().any(has_lease)
            {
                self.note(|| format!("process {at} has stopped"));
                if is_cut_off {
                    self.kill_far(at);
                } else {
                    self.end_process(at);
                }
            }
        }
    }

    // ---- the schedule ----

    async fn step(&mut self) {
        let ids: Vec<usize> = self.connections.keys().copied().collect();
        let connection = pick(&mut self.rng, &ids);
        let process = self.rng.usize(..self.processes.len());
        match (self.rng.usize(..100), connection) {
            (0..18, _) => self.send(),
            (18..26, _) => self.dial(),
            (26..44, Some(id)) => self.step_near(id),
            (44..60, Some(id)) => self.step_far(id),
            (60..68, Some(id)) => self.acknowledge(id),
            (68..72, Some(id)) => self.cut(id),
            (72..88, _) => self.work(process),
            (88..91, _) => {
                let some = self.rng.usize(..=self.endpoints.len());
                let mut endpoints = self.endpoints.clone();
                self.rng.shuffle(&mut endpoints);
                self.announce(endpoints.split_off(some));
            }
            (91..96, _) => {
                let millis = self.rng.u64(..1500);
                // A connection that acknowledges nothing for twice that time is stalled:
                // its senders move without their stanzas.
                if self.start.elapsed() < 2 * self.max_wait - Duration::from_millis(1500) {
                    tokio::time::advance(Duration::from_millis(millis)).await;
                }
                self.peer.expire(self.max_wait);
                if one_in(&mut self.rng, 3) {
                    self.peer.collect();
                }
            }
            (96, _) if one_in(&mut self.rng, 3) => self.kill_far(process),
            (97, _) if one_in(&mut self.rng, 3) => self.kill_near(),
            (98, _) if !self.processes[process].is_leaving => self.leave(process),
            _ => {}
        }
        self.tidy();
    }

    fn tidy(&mut self) {
        self.take_undelivered();
        for sender in 0..self.held.len() {
            self.place_held(sender);
        }
        self.connections
            .retain(|_, c| c.near != Near::Closed || c.lease.is_some());
        let connected: HashSet<SlotId> = self.connections.values().map(|c| c.slot).collect();
        self.dialled
            .retain(|slot, (_, signals)| connected.contains(slot) || !signals.leave.is_cancelled());
        self.end_stopped();
    }

    /// Lets everything pass until all stanzas are settled.
    fn finish(&mut self) {
        self.note(|| "all is well from now on".to_owned());
        self.announce(self.endpoints.clone());
        for at in 0..self.processes.len() {
            if self.processes[at].is_leaving {
                self.kill_far(at);
            }
        }
        let ids: Vec<usize> = self.connections.keys().copied().collect();
        ids.into_iter().for_each(|id| self.cut(id));
        for _ in 0..2000 {
            self.tidy();
            let settled = self.upstream.settled.lock().len();
            if settled == usize::try_from(self.sent.iter().sum::<u64>()).unwrap() {
                return;
            }
            self.dial();
            let ids: Vec<usize> = self.connections.keys().copied().collect();
            for id in ids {
                self.step_near(id);
                self.step_far(id);
                self.acknowledge(id);
            }
            (0..self.processes.len()).for_each(|at| self.work(at));
        }
    }

    /// Each stanza that is settled was delivered, or its sender has an error.
    fn check(&self) -> Result<(), String> {
        if let Some(broken) = &self.broken {
            return Err(broken.clone());
        }
        let settled = self.upstream.settled.lock();
        let has_end = |item| self.delivered.contains_key(item) || self.errors.contains(item);
        match settled.iter().find(|item| !has_end(item)) {
            Some(item) => Err(format!("{item:?} is settled, and was lost")),
            None => Ok(()),
        }
    }

    fn check_all_settled(&self) -> Result<(), String> {
        let settled = self.upstream.settled.lock();
        let all = self.sent.iter().enumerate();
        let mut all = all.flat_map(|(sender, sent)| (1..=*sent).map(move |n| (sender, n)));
        match all.find(|item| !settled.contains(item)) {
            Some(item) => Err(format!("{item:?} is never settled")),
            None => Ok(()),
        }
    }
}

fn item(envelope: &Envelope) -> Item {
    let from = envelope.stanza.from().and_then(|jid| jid.node());
    let sender = from.and_then(|node| node.as_str()[1..].parse().ok());
    (sender.unwrap(), number(envelope))
}

fn pick<T: Copy>(rng: &mut Rng, among: &[T]) -> Option<T> {
    (!among.is_empty()).then(|| among[rng.usize(..among.len())])
}

fn peer(
    max_wait: Duration,
    metrics: &Metrics,
    undelivered: mpsc::UnboundedSender<Undelivered>,
) -> Peer {
    let far = host("dc2.test");
    Peer::new(far, 4096, max_wait, metrics, Arc::default(), undelivered)
}

/// Runs the schedule of `seed`. Returns the broken property and, if `logs`, the steps.
async fn run(
    seed: u64,
    reception: &Arc<Reception>,
    metrics: &Arc<Metrics>,
    logs: bool,
) -> Result<(), String> {
    let mut model = Model::new(seed, reception, metrics, logs);
    let mut checked = Ok(());
    for step in 0..STEPS {
        model.step().await;
        // All settled stanzas are looked at: now and then is often enough.
        checked = match step % 16 {
            0 => model.check(),
            _ => model.broken.take().map_or(Ok(()), Err),
        };
        if checked.is_err() {
            break;
        }
    }
    if checked.is_ok() {
        model.finish();
        checked = model.check().and_then(|()| model.check_all_settled());
    }
    checked.map_err(|broken| format!("{}{broken}", model.log.take().unwrap_or_default()))
}

#[test]
fn no_schedule_loses_doubles_or_reorders() {
    let number = |name| std::env::var(name).ok().map(|text| text.parse::<u64>());
    let given = number("STRAIT_SEED").map(|seed| seed.expect("STRAIT_SEED is a number"));
    let count = number("STRAIT_SCHEDULES").map_or(SCHEDULES, |count| count.expect("a number"));
    // The same schedules each time, so that a failure belongs to the change before it.
    let first =
        given.unwrap_or(number("STRAIT_FIRST_SEED").map_or(1, |first| first.expect("a number")));
    let threads = if given.is_some() { 1 } else { 2 };
    let run_some = |thread: u64| {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .unwrap();
        let metrics = Arc::new(Metrics::new());
        let reception = Arc::new(Reception::for_tests("dc2.test", &metrics));
        let run = |seed, logs| runtime.block_on(run(seed, &reception, &metrics, logs));
        if let Some(seed) = given {
            return run(seed, true).unwrap_or_else(|log| panic!("{log}"));
        }
        for seed in (first..first + count).skip(thread as usize).step_by(2) {
            if run(seed, false).is_err() {
                let log = run(seed, true).expect_err("the same again");
                panic!("{log}\nSTRAIT_SEED={seed} runs this schedule again");
            }
        }
    };
    std::thread::scope(|scope| {
        for thread in 0..threads {
            scope.spawn(move || run_some(thread));
        }
    });
}
