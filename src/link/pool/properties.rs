//! Drives all slots at once, each with a wire and a receiver, in any order.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::delivery::ReceiveWindow;

const SLOTS: u32 = 3;
const SENDERS: u32 = 4;

#[derive(Debug, Clone)]
enum Step {
    Place { sender: u32 },
    Write(SlotId),
    Arrive(SlotId),
    Settle(SlotId, usize),
    Ack(SlotId),
    Cut(SlotId),
    Connect(SlotId, Process),
    Goodbye(SlotId),
    Announce(Vec<SlotId>),
    Tend,
}

/// The process that answers on a new connection.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Process {
    /// The process knows the slot.
    Same,
    /// The process lost some unsettled stanzas, and knows the others.
    Forgetful,
    /// The process was started anew.
    New,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let slot = || 1..=SLOTS;
    let process = prop_oneof![
        3 => Just(Process::Same),
        1 => Just(Process::Forgetful),
        1 => Just(Process::New),
    ];
    let announced = proptest::sample::subsequence((1..=SLOTS).collect::<Vec<_>>(), 0..=3);
    let step = prop_oneof![
        6 => (0..SENDERS).prop_map(|sender| Step::Place { sender }),
        8 => slot().prop_map(Step::Write),
        8 => slot().prop_map(Step::Arrive),
        5 => (slot(), 0..4_usize).prop_map(|(slot, which)| Step::Settle(slot, which)),
        4 => slot().prop_map(Step::Ack),
        2 => slot().prop_map(Step::Cut),
        3 => (slot(), process).prop_map(|(slot, process)| Step::Connect(slot, process)),
        1 => slot().prop_map(Step::Goodbye),
        2 => announced.prop_map(Step::Announce),
        2 => Just(Step::Tend),
    ];
    vec(step, 0..300)
}

/// The far end of a slot.
#[derive(Default)]
struct Far {
    is_connected: bool,
    wire: VecDeque<(u64, Item)>,
    window: ReceiveWindow,
    /// Taken and not settled.
    open: Vec<u64>,
}

type Item = (u32, u32);

/// An item, and the places where it was written before it moved.
#[derive(Debug)]
struct Moving(Item, Vec<FormerPlace>);

impl Movable for Moving {
    fn former(&self) -> &[FormerPlace] {
        &self.1
    }

    fn moves_from(&mut self, place: FormerPlace) {
        self.1.push(place);
    }
}

struct World {
    pool: Pool<Moving>,
    far: BTreeMap<SlotId, Far>,
    placed: BTreeMap<u32, u32>,
    /// The places at which each item was written, in order; and the slots that were
    /// ever retired while they had no connection.
    written: BTreeMap<Item, Vec<FormerPlace>>,
    retired: BTreeSet<SlotId>,
    /// The items that arrived for the first time anywhere, in order.
    arrived: Vec<Item>,
    done: Vec<Item>,
}

fn endpoints(slots: &[SlotId]) -> Vec<Endpoint> {
    let endpoint = |slot: &SlotId| Endpoint {
        host: format!("gw{slot}.test"),
        port: 5555,
    };
    slots.iter().map(endpoint).collect()
}

impl World {
    fn new(patience: Duration) -> Self {
        let mut pool = Pool::new(1 << 20, patience);
        let mut ids = 1..;
        let all: Vec<_> = (1..=SLOTS).collect();
        pool.follow(&endpoints(&all), 1, || ids.next().unwrap());
        Self {
            pool,
            far: all.into_iter().map(|slot| (slot, Far::default())).collect(),
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
            Step::Write(slot) => {
                if let Some(next) = self.pool.next(*slot) {
                    let (number, Moving(item, former)) = (next.number, next.item);
                    let places = self.written.entry(*item).or_default();
                    let place = FormerPlace {
                        slot: *slot,
                        number,
                    };
                    assert_eq!(next.first_since.is_some(), places.is_empty());
                    if !places.contains(&place) {
                        assert_eq!(former, places, "all places before this one");
                        places.push(place);
                    }
                    let item = *item;
                    self.far(*slot).wire.push_back((number, item));
                }
            }
            Step::Arrive(slot) => self.arrive(*slot),
            Step::Settle(slot, which) => {
                let far = self.far(*slot);
                if *which < far.open.len() {
                    let number = far.open.remove(*which);
                    far.window.settle(number);
                }
            }
            Step::Ack(slot) => self.acknowledge(*slot),
            Step::Cut(slot) => {
                let far = self.far(*slot);
                far.wire.clear();
                if std::mem::take(&mut far.is_connected) {
                    self.pool.down(*slot);
                }
                self.pool.relocate();
            }
            Step::Connect(slot, process) => self.connect(*slot, *process),
            Step::Goodbye(slot) if self.far[slot].is_connected => {
                self.pool.leaving(*slot);
                self.pool.relocate();
            }
            Step::Goodbye(_) => (),
            Step::Announce(slots) => {
                let added = self
                    .pool
                    .follow(&endpoints(slots), 1, || panic!("all are there"));
                assert!(added.is_empty());
                self.pool.relocate();
            }
            Step::Tend => {
                self.pool.relocate();
            }
        }
        let dead = |slot: &&SlotId| !self.far[slot].is_connected && !self.pool.slots[slot].enabled;
        self.retired.extend(self.far.keys().filter(dead));
    }

    fn far(&mut self, slot: SlotId) -> &mut Far {
        self.far.get_mut(&slot).unwrap()
    }

    /// An item that is not placed is tried again with the next one, as its holder would do.
    fn place(&mut self, sender: u32) {
        let number = self.placed.entry(sender).or_default();
        if self
            .pool
            .place(
                SenderKey::of(sender),
                Moving((sender, *number), Vec::new()),
                1,
                Instant::now(),
            )
            .is_ok()
        {
            *number += 1;
        }
    }

    fn arrive(&mut self, slot: SlotId) {
        let far = self.far(slot);
        if let Some((number, item)) = far.wire.pop_front()
            && far.window.take(number)
        {
            far.open.push(number);
            if !self.arrived.contains(&item) {
                self.arrived.push(item);
            }
        }
    }

    fn acknowledge(&mut self, slot: SlotId) {
        let far = &self.far[&slot];
        if far.is_connected {
            let through = far.window.settled_through();
            let settled = self.pool.acknowledge(slot, through).unwrap();
            self.done.extend(settled.into_iter().map(|item| item.0));
            self.pool.relocate();
        }
    }

    fn connect(&mut self, slot: SlotId, process: Process) {
        let far = self.far(slot);
        if far.is_connected {
            return;
        }
        match process {
            Process::Same => (),
            Process::Forgetful => {
                let lost: Vec<u64> = far.open.iter().copied().step_by(2).collect();
                lost.iter().for_each(|number| far.window.abandon(*number));
                far.open.retain(|number| !lost.contains(number));
            }
            Process::New => {
                far.window = ReceiveWindow::default();
                far.open.clear();
            }
        }
        far.is_connected = true;
        let resume_after = far.window.resume();
        self.pool.up(slot, resume_after).unwrap();
        self.pool.relocate();
    }

    /// Announces and connects all slots, writes and settles all items.
    fn finish(&mut self) {
        self.step(&Step::Announce((1..=SLOTS).collect()));
        for slot in 1..=SLOTS {
            self.step(&Step::Cut(slot));
        }
        for slot in 1..=SLOTS {
            self.step(&Step::Connect(slot, Process::Same));
        }
        for slot in 1..=SLOTS {
            while self.pool.slots[&slot].window.awaiting_ack() < self.pool.slots[&slot].window.len()
            {
                self.step(&Step::Write(slot));
            }
            while !self.far[&slot].wire.is_empty() {
                self.step(&Step::Arrive(slot));
            }
            while !self.far[&slot].open.is_empty() {
                self.step(&Step::Settle(slot, 0));
            }
            self.step(&Step::Ack(slot));
        }
    }

    /// Returns whether items written on a slot that may come back were left to that slot.
    fn is_patient(&self) -> bool {
        let stayed = |place: &&FormerPlace| !self.retired.contains(&place.slot);
        let mut written = self.written.values();
        written.all(|places| places.iter().filter(stayed).count() <= 1)
    }

    fn in_order(&self) -> bool {
        (0..SENDERS).all(|sender| {
            let numbers = self.arrived.iter().filter(|item| item.0 == sender);
            numbers.map(|item| item.1).is_sorted_by(|a, b| a < b)
        })
    }
}

proptest! {
    /// Under any breaks, retirements and outages, a sender's stanzas arrive in
    /// order and name all their former places, each gets exactly one end, and no slot
    /// waits for an ack that will not come.
    #[test]
    fn slot_drain_and_senders_keep_their_order(steps in steps(), is_patient in any::<bool>()) {
        let patience = if is_patient { Duration::from_secs(3600) } else { Duration::ZERO };
        let mut world = World::new(patience);
        for step in &steps {
            world.step(step);
            prop_assert!(world.in_order(), "{step:?}: {:?}", world.arrived);
            prop_assert!(!is_patient || world.is_patient(), "{step:?}: {:?}", world.written);
            let held: usize = world.pool.slots.values().map(|slot| slot.window.len()).sum();
            let in_flight = world.pool.placements.values().map(|place| place.in_flight);
            prop_assert_eq!(held, in_flight.sum::<usize>());
        }
        world.finish();
        prop_assert!(world.in_order());
        for (slot, held) in &world.pool.slots {
            prop_assert!(held.window.is_empty(), "slot {} waits: {:?}", slot, held.window);
        }
        prop_assert!(world.pool.placements.is_empty());
        let placed = world.placed.iter();
        let all: Vec<Item> = placed.flat_map(|(s, count)| (0..*count).map(|n| (*s, n))).collect();
        let done: BTreeSet<Item> = world.done.iter().copied().collect();
        prop_assert_eq!(world.done.len(), done.len(), "one was given back twice");
        prop_assert_eq!(done.into_iter().collect::<Vec<_>>(), all);
    }
}
