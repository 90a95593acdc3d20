//! Tests both windows against models.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

fn items<T>(entries: impl IntoIterator<Item = Unacknowledged<T>>) -> Vec<T> {
    entries.into_iter().map(|entry| entry.item).collect()
}

fn write_all(window: &mut SendWindow<u32>) -> Vec<(u64, u32)> {
    let next = || window.next_to_write().map(|next| (next.number, *next.item));
    std::iter::from_fn(next).collect()
}

#[test]
fn resends_in_order_with_the_same_numbers_before_newer_ones() {
    let mut window = SendWindow::default();
    (1..=3).for_each(|n| window.push(n, 10));
    assert_eq!(write_all(&mut window), [(1, 1), (2, 2), (3, 3)]);
    window.push(4, 10);
    assert_eq!(items(window.acknowledge(1).unwrap()), [1]);
    window.reconnect(0).unwrap();
    assert_eq!(write_all(&mut window), [(2, 2), (3, 3), (4, 4)]);
    window.reconnect(3).unwrap();
    assert_eq!(write_all(&mut window), [(4, 4)]);
    assert_eq!(items(window.acknowledge(4).unwrap()), [2, 3, 4]);
    assert_eq!((window.len(), window.bytes()), (0, 0));
}

#[test]
fn an_ack_for_what_was_never_written_is_an_error() {
    let mut window = SendWindow::default();
    window.push(1, 10);
    assert!(window.acknowledge(1).is_err());
    assert!(window.reconnect(1).is_err());
    write_all(&mut window);
    assert!(window.acknowledge(2).is_err());
    assert_eq!(items(window.acknowledge(1).unwrap()), [1]);
    assert_eq!(items(window.acknowledge(1).unwrap()), [0; 0], "a late one");
}

#[test]
fn settles_cumulatively_over_gaps() {
    let mut window = ReceiveWindow::default();
    for number in [3, 4, 9] {
        assert!(window.take(number));
    }
    assert_eq!(window.settled_through(), 2);
    window.settle(4);
    assert_eq!(window.settled_through(), 2);
    window.settle(3);
    assert_eq!(window.settled_through(), 8);
    window.settle(9);
    assert_eq!(window.settled_through(), 9);
    assert!(!window.take(4));
}

/// 1 and 3 settled, 2 abandoned.
fn with_a_hole() -> ReceiveWindow {
    let mut window = ReceiveWindow::default();
    for number in 1..=3 {
        window.take(number);
    }
    window.settle(1);
    window.settle(3);
    window.abandon(2);
    window
}

#[test]
fn an_abandoned_item_is_asked_for_and_taken_again() {
    let mut window = with_a_hole();
    assert!(window.has_abandoned());
    assert_eq!(window.resume(), 1);
    assert!(!window.has_abandoned());
    assert_eq!(window.settled_through(), 1);
    assert!(window.take(2));
    assert!(!window.take(3));
    window.settle(2);
    assert_eq!(window.settled_through(), 3);
    assert_eq!(window.resume(), 3);
}

#[test]
fn an_item_that_the_sender_gave_up_is_waited_for_no_longer() {
    let mut window = with_a_hole();
    assert!(!window.take(3), "still on the old connection");
    assert_eq!(window.settled_through(), 1);
    window.resume();
    assert!(!window.take(3));
    assert_eq!(window.settled_through(), 3);
    assert_eq!(window.claim(2), FormerFate::NotTaken);
}

#[test]
fn a_former_place_says_what_became_of_the_item() {
    let mut window = with_a_hole();
    window.take(6);
    for (number, fate) in [
        (1, FormerFate::Settled),
        (2, FormerFate::NotTaken),
        (4, FormerFate::NotTaken),
        (6, FormerFate::Open),
        (8, FormerFate::NotTaken),
    ] {
        assert_eq!(window.claim(number), fate, "{number}");
    }
    // Bytes that were in transit when the sender moved its items.
    assert!(window.take(7));
    assert!(!window.take(8), "it has come over the other connection");
    assert!(window.take(9));
    assert_eq!(window.claim(8), FormerFate::NotTaken);
    assert!(!window.has_abandoned());
}

#[test]
fn gaps_are_remembered_up_to_a_bound_and_then_rather_twice_than_never() {
    let mut window = ReceiveWindow::default();
    for number in (2..20_000).step_by(2) {
        window.take(number);
        window.settle(number);
    }
    assert_eq!(window.claim(1), FormerFate::NotTaken);
    assert_eq!(window.claim(2), FormerFate::NotTaken, "it may come twice");
    assert_eq!(window.claim(19_997), FormerFate::NotTaken);
    assert_eq!(window.claim(19_996), FormerFate::Settled);
}

const CONNECTIONS: usize = 3;

#[derive(Debug, Clone)]
enum Event {
    Push,
    Write(usize),
    Arrive(usize),
    Settle(usize, usize),
    Abandon(usize, usize),
    Ack(usize),
    /// The connection breaks; bytes on the wire may still be read if `late`.
    Cut(usize),
    Reconnect(usize),
    GiveUp(usize, usize),
    /// All items of one connection move to another.
    Move(usize, usize),
}

fn events() -> impl Strategy<Value = Vec<Event>> {
    let one = || 0..CONNECTIONS;
    let event = prop_oneof![
        6 => Just(Event::Push),
        6 => one().prop_map(Event::Write),
        6 => one().prop_map(Event::Arrive),
        4 => (one(), 0..4_usize).prop_map(|(c, n)| Event::Settle(c, n)),
        1 => (one(), 0..4_usize).prop_map(|(c, n)| Event::Abandon(c, n)),
        3 => one().prop_map(Event::Ack),
        1 => one().prop_map(Event::Cut),
        2 => one().prop_map(Event::Reconnect),
        1 => (one(), 0..8_usize).prop_map(|(c, n)| Event::GiveUp(c, n)),
        2 => (one(), one()).prop_map(|(from, to)| Event::Move(from, to)),
    ];
    vec(event, 0..250)
}

#[derive(Debug, Clone, Default)]
struct Item {
    id: u32,
    former: Vec<(usize, u64)>,
}

/// One sender, one receiving process, and several connections between them.
#[derive(Default)]
struct World {
    senders: [SendWindow<Item>; CONNECTIONS],
    wires: [VecDeque<(u64, Item)>; CONNECTIONS],
    is_up: [bool; CONNECTIONS],
    receivers: [ReceiveWindow; CONNECTIONS],
    /// Taken and not settled: number → item.
    open: [BTreeMap<u64, u32>; CONNECTIONS],
    /// Numbers that are settled together with an open one: its place → their places.
    followers: BTreeMap<(usize, u64), Vec<(usize, u64)>>,
    /// The number of times each item was taken, less the times it was abandoned.
    taken: BTreeMap<u32, u32>,
    settled: BTreeSet<u32>,
    acknowledged: Vec<u32>,
    given_up: Vec<u32>,
    pushed: u32,
}

impl World {
    fn apply(&mut self, event: &Event) {
        match *event {
            Event::Push => {
                self.pushed += 1;
                let item = Item {
                    id: self.pushed,
                    former: Vec::new(),
                };
                self.senders[0].push(item, 1);
            }
            Event::Write(c) if self.is_up[c] => {
                if let Some(next) = self.senders[c].next_to_write() {
                    self.wires[c].push_back((next.number, next.item.clone()));
                }
            }
            Event::Arrive(c) => self.arrive(c),
            Event::Settle(c, which) => {
                if let Some((number, item)) = self.pick(c, which) {
                    self.settled.insert(item);
                    self.end(c, number, true);
                }
            }
            Event::Abandon(c, which) => {
                if let Some((number, item)) = self.pick(c, which) {
                    *self.taken.get_mut(&item).unwrap() -= 1;
                    self.end(c, number, false);
                }
            }
            Event::Ack(c) if self.is_up[c] => {
                let through = self.receivers[c].settled_through();
                let entries = self.senders[c].acknowledge(through).unwrap();
                self.acknowledged.extend(entries.map(|entry| entry.item.id));
            }
            // The receiver may still read the bytes that have arrived at its side.
            Event::Cut(c) => self.is_up[c] = false,
            Event::Reconnect(c) if !self.is_up[c] => {
                self.wires[c].clear();
                self.is_up[c] = true;
                let resume_after = self.receivers[c].resume();
                self.senders[c].reconnect(resume_after).unwrap();
            }
            Event::GiveUp(c, which) => {
                let number = self.senders[c].iter().nth(which).and_then(|e| e.number);
                let out = self.senders[c].extract(|e| number.is_some() && e.number == number);
                self.given_up.extend(out.iter().map(|entry| entry.item.id));
            }
            Event::Move(from, to) if from != to && !self.is_up[from] => {
                for entry in self.senders[from].extract(|_| true) {
                    let mut item = entry.item;
                    item.former
                        .extend(entry.number.map(|number| (from, number)));
                    self.senders[to].push(item, entry.size);
                }
            }
            _ => (),
        }
    }

    fn arrive(&mut self, c: usize) {
        let Some((number, item)) = self.wires[c].pop_front() else {
            return;
        };
        if !self.receivers[c].take(number) {
            return;
        }
        for place in &item.former {
            match self.receivers[place.0].claim(place.1) {
                FormerFate::NotTaken => {}
                FormerFate::Open => {
                    self.followers.entry(*place).or_default().push((c, number));
                    return;
                }
                FormerFate::Settled => return self.end(c, number, true),
            }
        }
        *self.taken.entry(item.id).or_default() += 1;
        self.open[c].insert(number, item.id);
    }

    fn pick(&mut self, c: usize, which: usize) -> Option<(u64, u32)> {
        let number = *self.open[c].keys().nth(which)?;
        self.open[c].remove_entry(&number)
    }

    fn end(&mut self, c: usize, number: u64, is_settled: bool) {
        if is_settled {
            self.receivers[c].settle(number);
        } else {
            self.receivers[c].abandon(number);
        }
        for (c, number) in self.followers.remove(&(c, number)).unwrap_or_default() {
            self.end(c, number, is_settled);
        }
    }

    /// Connects, writes and settles everything.
    fn finish(&mut self) {
        for _ in 0..2 {
            for c in 0..CONNECTIONS {
                self.apply(&Event::Cut(c));
                self.apply(&Event::Reconnect(c));
                for _ in 0..self.senders[c].len() {
                    self.apply(&Event::Write(c));
                    self.apply(&Event::Arrive(c));
                }
            }
            for c in 0..CONNECTIONS {
                while !self.open[c].is_empty() {
                    self.apply(&Event::Settle(c, 0));
                }
            }
            for c in 0..CONNECTIONS {
                self.apply(&Event::Ack(c));
            }
        }
    }
}

proptest! {
    /// Under any drops, duplicates, cuts and moves, the process takes each item
    /// once, acknowledges only settled items, and in the end everything that was
    /// not given up is acknowledged.
    #[test]
    fn nothing_is_lost_or_doubled(events in events()) {
        let mut world = World::default();
        for event in &events {
            world.apply(event);
            prop_assert!(world.taken.values().all(|count| *count <= 1), "{event:?}");
            prop_assert!(world.acknowledged.iter().all(|item| world.settled.contains(item)));
            for sender in &world.senders {
                prop_assert_eq!(sender.bytes(), sender.len());
            }
        }
        world.finish();
        prop_assert!(world.taken.values().all(|count| *count <= 1));
        prop_assert!(world.acknowledged.iter().all(|item| world.settled.contains(item)));
        let mut all = [world.acknowledged, world.given_up].concat();
        all.sort_unstable();
        prop_assert_eq!(all, (1..=world.pushed).collect::<Vec<_>>());
    }

    /// One connection that is never moved: items also arrive in order.
    #[test]
    fn one_connection_keeps_the_order(events in events()) {
        let mut world = World::default();
        let mut last = 0;
        let is_single = |event: &&Event| !matches!(event, Event::Move(..) | Event::Abandon(..));
        for event in events.iter().filter(is_single) {
            let before = world.taken.len();
            world.apply(event);
            if world.taken.len() > before {
                let newest = *world.taken.keys().next_back().unwrap();
                prop_assert!(newest > last);
                last = newest;
            }
            prop_assert!(world.taken.keys().is_sorted());
        }
    }
}
