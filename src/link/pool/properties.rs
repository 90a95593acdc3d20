//! All lanes at once, each with a wire and a receiver, driven in any order.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::link::ledger::{Ledger, Verdict};

const LANES: u32 = 3;
const SENDERS: u32 = 4;

#[derive(Debug, Clone)]
enum Step {
    Place { sender: u32 },
    Write(LaneId),
    Arrive(LaneId),
    Settle(LaneId, usize),
    Ack(LaneId),
    Cut(LaneId),
    Connect(LaneId, Process),
    Goodbye(LaneId),
    Announce(Vec<LaneId>),
    Tend,
}

/// Who answers on a new connection.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Process {
    /// It knows the lane.
    Same,
    /// It lost some of what it had taken and not settled, and knows the rest.
    Forgetful,
    /// It was started anew.
    New,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let lane = || 1..=LANES;
    let process = prop_oneof![
        3 => Just(Process::Same),
        1 => Just(Process::Forgetful),
        1 => Just(Process::New),
    ];
    let announced = proptest::sample::subsequence((1..=LANES).collect::<Vec<_>>(), 0..=3);
    let step = prop_oneof![
        6 => (0..SENDERS).prop_map(|sender| Step::Place { sender }),
        8 => lane().prop_map(Step::Write),
        8 => lane().prop_map(Step::Arrive),
        5 => (lane(), 0..4_usize).prop_map(|(lane, which)| Step::Settle(lane, which)),
        4 => lane().prop_map(Step::Ack),
        2 => lane().prop_map(Step::Cut),
        3 => (lane(), process).prop_map(|(lane, process)| Step::Connect(lane, process)),
        1 => lane().prop_map(Step::Goodbye),
        2 => announced.prop_map(Step::Announce),
        2 => Just(Step::Tend),
    ];
    vec(step, 0..300)
}

/// The far end of a lane.
#[derive(Default)]
struct Far {
    is_connected: bool,
    wire: VecDeque<(u64, Item)>,
    ledger: Ledger,
    /// Taken and not settled.
    open: Vec<u64>,
}

type Item = (u32, u32);

struct World {
    pool: Pool<Item>,
    far: BTreeMap<LaneId, Far>,
    placed: BTreeMap<u32, u32>,
    /// Which lanes each was written on; and those that were ever retired
    /// while they had no connection.
    written: BTreeMap<Item, BTreeSet<LaneId>>,
    retired: BTreeSet<LaneId>,
    /// What arrived for the first time anywhere, in order.
    arrived: Vec<Item>,
    done: Vec<Item>,
}

fn endpoints(lanes: &[LaneId]) -> Vec<Endpoint> {
    let endpoint = |lane: &LaneId| Endpoint {
        host: format!("gw{lane}.test"),
        port: 5555,
    };
    lanes.iter().map(endpoint).collect()
}

impl World {
    fn new(patience: Duration) -> Self {
        let mut pool = Pool::new(1 << 20, patience);
        let mut ids = 1..;
        let all: Vec<_> = (1..=LANES).collect();
        pool.follow(&endpoints(&all), 1, || ids.next().unwrap());
        Self {
            pool,
            far: all.into_iter().map(|lane| (lane, Far::default())).collect(),
            placed: BTreeMap::new(),
            written: BTreeMap::new(),
            retired: BTreeSet::new(),
            arrived: Vec::new(),
            done: Vec::new(),
        }
    }

    fn step(&mut self, step: &Step) {
        match step {
            Step::Place { sender } => self.place(*sender),
            Step::Write(lane) => {
                let next = self.pool.next(*lane);
                if let Some((number, item)) = next.map(|next| (next.number, *next.item)) {
                    self.written.entry(item).or_default().insert(*lane);
                    self.far(*lane).wire.push_back((number, item));
                }
            }
            Step::Arrive(lane) => self.arrive(*lane),
            Step::Settle(lane, which) => {
                let far = self.far(*lane);
                if *which < far.open.len() {
                    let number = far.open.remove(*which);
                    far.ledger.settle(number);
                }
            }
            Step::Ack(lane) => self.acknowledge(*lane),
            Step::Cut(lane) => {
                let far = self.far(*lane);
                far.wire.clear();
                if std::mem::take(&mut far.is_connected) {
                    self.pool.down(*lane);
                }
                self.pool.relocate();
            }
            Step::Connect(lane, process) => self.connect(*lane, *process),
            Step::Goodbye(lane) if self.far[lane].is_connected => {
                self.pool.leaving(*lane);
                self.pool.relocate();
            }
            Step::Goodbye(_) => (),
            Step::Announce(lanes) => {
                let added = self
                    .pool
                    .follow(&endpoints(lanes), 1, || panic!("all are there"));
                assert!(added.is_empty());
                self.pool.relocate();
            }
            Step::Tend => {
                self.pool.relocate();
            }
        }
        let dead = |lane: &&LaneId| !self.far[lane].is_connected && !self.pool.lanes[lane].enabled;
        self.retired.extend(self.far.keys().filter(dead));
    }

    fn far(&mut self, lane: LaneId) -> &mut Far {
        self.far.get_mut(&lane).unwrap()
    }

    /// What is not taken is tried again with the next, as by the one who holds it.
    fn place(&mut self, sender: u32) {
        let number = self.placed.entry(sender).or_default();
        if self
            .pool
            .place(SenderKey::of(sender), (sender, *number), 1)
            .is_ok()
        {
            *number += 1;
        }
    }

    fn arrive(&mut self, lane: LaneId) {
        let far = self.far(lane);
        if let Some((number, item)) = far.wire.pop_front()
            && far.ledger.take(number) == Verdict::New
        {
            far.open.push(number);
            if !self.arrived.contains(&item) {
                self.arrived.push(item);
            }
        }
    }

    fn acknowledge(&mut self, lane: LaneId) {
        let far = &self.far[&lane];
        if far.is_connected {
            let through = far.ledger.settled_through();
            self.done
                .extend(self.pool.acknowledge(lane, through).unwrap());
            self.pool.relocate();
        }
    }

    fn connect(&mut self, lane: LaneId, process: Process) {
        let far = self.far(lane);
        if far.is_connected {
            return;
        }
        match process {
            Process::Same => (),
            Process::Forgetful => {
                let lost: Vec<u64> = far.open.iter().copied().step_by(2).collect();
                lost.iter().for_each(|number| far.ledger.abandon(*number));
                far.open.retain(|number| !lost.contains(number));
            }
            Process::New => {
                far.ledger = Ledger::default();
                far.open.clear();
            }
        }
        far.is_connected = true;
        let resume_after = far.ledger.resume();
        self.pool.up(lane, resume_after).unwrap();
        self.pool.relocate();
    }

    /// Everything is announced and connected, written and settled.
    fn finish(&mut self) {
        self.step(&Step::Announce((1..=LANES).collect()));
        for lane in 1..=LANES {
            self.step(&Step::Cut(lane));
        }
        for lane in 1..=LANES {
            self.step(&Step::Connect(lane, Process::Same));
        }
        for lane in 1..=LANES {
            while self.pool.lanes[&lane].book.awaiting_ack() < self.pool.lanes[&lane].book.len() {
                self.step(&Step::Write(lane));
            }
            while !self.far[&lane].wire.is_empty() {
                self.step(&Step::Arrive(lane));
            }
            while !self.far[&lane].open.is_empty() {
                self.step(&Step::Settle(lane, 0));
            }
            self.step(&Step::Ack(lane));
        }
    }

    /// Whether what was written on a lane that may come back was left to it.
    fn is_patient(&self) -> bool {
        let mut lanes = self.written.values();
        lanes.all(|lanes| lanes.difference(&self.retired).count() <= 1)
    }

    fn in_order(&self) -> bool {
        (0..SENDERS).all(|sender| {
            let numbers = self.arrived.iter().filter(|item| item.0 == sender);
            numbers.map(|item| item.1).is_sorted_by(|a, b| a < b)
        })
    }
}

proptest! {
    /// Whatever breaks, is retired or stays away: a sender's stanzas arrive in
    /// order, each gets exactly one end, and no lane waits for an ack that
    /// will not come.
    #[test]
    fn lanes_drain_and_senders_keep_their_order(steps in steps(), is_patient in any::<bool>()) {
        let patience = if is_patient { Duration::from_secs(3600) } else { Duration::ZERO };
        let mut world = World::new(patience);
        for step in &steps {
            world.step(step);
            prop_assert!(world.in_order(), "{step:?}: {:?}", world.arrived);
            prop_assert!(!is_patient || world.is_patient(), "{step:?}: {:?}", world.written);
            let held: usize = world.pool.lanes.values().map(|lane| lane.book.len()).sum();
            let in_flight = world.pool.placements.values().map(|place| place.in_flight);
            prop_assert_eq!(held, in_flight.sum::<usize>());
        }
        world.finish();
        prop_assert!(world.in_order());
        for (lane, held) in &world.pool.lanes {
            prop_assert!(held.book.is_empty(), "lane {} waits: {:?}", lane, held.book);
        }
        prop_assert!(world.pool.placements.is_empty());
        let placed = world.placed.iter();
        let all: Vec<Item> = placed.flat_map(|(s, count)| (0..*count).map(|n| (*s, n))).collect();
        let done: BTreeSet<Item> = world.done.iter().copied().collect();
        prop_assert_eq!(world.done.len(), done.len(), "one was given back twice");
        prop_assert_eq!(done.into_iter().collect::<Vec<_>>(), all);
    }
}
