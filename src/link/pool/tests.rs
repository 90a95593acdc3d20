//! One slot at a time: assignment of senders, draining, removal.

use super::*;

/// An item that forgets its former places; `properties` has one that keeps them.
impl Movable for u32 {
    fn former(&self) -> &[FormerPlace] {
        &[]
    }

    fn moves_from(&mut self, _place: FormerPlace) {}
}

/// The patience of the pools here.
const LONG: Duration = Duration::from_secs(15);
const FIRST: &str = "a.test";
const SECOND: &str = "b.test";

fn endpoint(host: &str) -> Endpoint {
    Endpoint {
        host: host.to_owned(),
        port: 5555,
    }
}

/// A pool with one slot to each of `hosts`, numbered from 1, all up.
fn pool(hosts: &[&str], queue_bytes: usize) -> Pool<u32> {
    let mut pool = Pool::new(queue_bytes, LONG);
    let mut ids = 1..;
    let endpoints: Vec<_> = hosts.iter().map(|host| endpoint(host)).collect();
    for (id, _) in pool.follow(&endpoints, 1, || ids.next().unwrap()) {
        pool.up(id, 0).unwrap();
    }
    pool
}

/// Announces only the endpoint of the other of two slots; returns that other slot.
fn disable(pool: &mut Pool<u32>, slot: SlotId) -> SlotId {
    let other = if slot == 1 { SECOND } else { FIRST };
    assert!(pool.follow(&[endpoint(other)], 1, || 9).is_empty());
    3 - slot
}

fn write_all(pool: &mut Pool<u32>, slot: SlotId) -> Vec<u32> {
    std::iter::from_fn(|| pool.next(slot).map(|next| *next.item)).collect()
}

#[test]
fn senders_spread_and_each_keeps_its_slot() {
    let mut pool = pool(&[FIRST, SECOND], 1 << 20);
    let first = (0..100).map(|n| pool.place(SenderKey::of(n), n, 1, Instant::now()).unwrap());
    let first: Vec<_> = first.collect();
    let again: Vec<_> = (0..100)
        .map(|n| pool.place(SenderKey::of(n), n, 1, Instant::now()).unwrap())
        .collect();
    assert_eq!(first, again);
    let on_one = first.iter().filter(|slot| **slot == 1).count();
    assert!((20..=80).contains(&on_one), "{on_one} of 100 on one slot");
}

#[test]
fn a_sender_moves_only_when_nothing_of_it_is_in_flight() {
    let mut pool = pool(&[FIRST, SECOND], 1 << 20);
    let sender = SenderKey::of("alice@example.test");
    let slot = pool.place(sender, 1, 1, Instant::now()).unwrap();
    write_all(&mut pool, slot);
    pool.down(slot);
    assert_eq!(
        pool.place(sender, 2, 1, Instant::now()).unwrap(),
        slot,
        "must wait its turn"
    );
    pool.up(slot, 0).unwrap();
    assert_eq!(write_all(&mut pool, slot), [1, 2]);
    assert_eq!(pool.acknowledge(slot, 2).unwrap(), [1, 2]);
    pool.down(slot);
    assert_ne!(
        pool.place(sender, 3, 1, Instant::now()).unwrap(),
        slot,
        "may move now"
    );
    assert_eq!(pool.placements.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_acknowledges_nothing_keeps_no_sender() {
    let mut pool = pool(&[FIRST, SECOND], 1 << 20);
    let sender = SenderKey::of("alice@example.test");
    let slot = pool.place(sender, 1, 1, Instant::now()).unwrap();
    write_all(&mut pool, slot);
    tokio::time::advance(4 * LONG - Duration::from_secs(1)).await;
    assert_eq!(pool.place(sender, 2, 1, Instant::now()), Ok(slot));
    write_all(&mut pool, slot);
    tokio::time::advance(Duration::from_secs(1)).await;
    let other = 3 - slot;
    assert_eq!(pool.place(sender, 3, 1, Instant::now()), Ok(other));
    assert_eq!(pool.place(sender, 4, 1, Instant::now()), Ok(other));
    // An ack frees what it names, and the sender's place ends with its last stanza.
    pool.acknowledge(slot, 2).unwrap();
    write_all(&mut pool, other);
    pool.acknowledge(other, 2).unwrap();
    assert!(pool.placements.is_empty());
}

#[test]
fn a_slot_that_never_was_up_is_absent_and_one_that_was_is_waited_for() {
    let mut pool = Pool::new(100, LONG);
    let sender = SenderKey::of("alice");
    assert_eq!(
        pool.place(sender, 1, 1, Instant::now()),
        Err((1, Obstacle::Absent))
    );
    pool.follow(&[endpoint(FIRST)], 1, || 1);
    assert_eq!(
        pool.place(sender, 1, 1, Instant::now()),
        Err((1, Obstacle::Absent))
    );
    pool.up(1, 0).unwrap();
    pool.down(1);
    assert_eq!(pool.place(sender, 1, 1, Instant::now()), Ok(1));
    assert_eq!(pool.up_count(), 0);
}

#[test]
fn a_full_slot_gives_back_but_always_takes_one() {
    let mut pool = pool(&[FIRST], 100);
    let sender = SenderKey::of("alice");
    assert_eq!(pool.place(sender, 1, 500, Instant::now()), Ok(1));
    assert_eq!(
        pool.place(sender, 2, 1, Instant::now()),
        Err((2, Obstacle::Full))
    );
    write_all(&mut pool, 1);
    assert_eq!(
        pool.place(sender, 2, 1, Instant::now()),
        Err((2, Obstacle::Full))
    );
    pool.acknowledge(1, 1).unwrap();
    assert_eq!(pool.place(sender, 2, 1, Instant::now()), Ok(1));
}

#[test]
fn a_disabled_slot_takes_nothing_new_drains_and_is_then_collected() {
    let mut pool = pool(&[FIRST], 100);
    let alice = SenderKey::of("alice");
    pool.place(alice, 1, 1, Instant::now()).unwrap();
    assert!(pool.follow(&[], 1, || 2).is_empty());
    for sender in [alice, SenderKey::of("bob")] {
        assert_eq!(
            pool.place(sender, 2, 1, Instant::now()),
            Err((2, Obstacle::Absent))
        );
    }
    assert!(pool.relocate().is_empty() && pool.collect().is_empty());
    assert_eq!(pool.strand(Duration::ZERO), [0; 0], "it has a connection");
    assert_eq!(write_all(&mut pool, 1), [1]);
    pool.acknowledge(1, 1).unwrap();
    assert_eq!(pool.collect(), [1]);
    assert!(pool.is_empty());
}

#[test]
fn a_sender_leaves_a_disabled_slot_when_the_last_of_it_is_acknowledged() {
    let mut pool = pool(&[FIRST, SECOND], 100);
    let alice = SenderKey::of("alice");
    let slot = pool.place(alice, 1, 1, Instant::now()).unwrap();
    write_all(&mut pool, slot);
    disable(&mut pool, slot);
    assert_eq!(
        pool.place(alice, 2, 1, Instant::now()),
        Err((2, Obstacle::Absent))
    );
    pool.acknowledge(slot, 1).unwrap();
    assert_ne!(pool.place(alice, 2, 1, Instant::now()).unwrap(), slot);
}

#[test]
fn a_dead_disabled_slot_hands_what_it_held_to_the_others() {
    let mut pool = pool(&[FIRST, SECOND], 100);
    let sender = SenderKey::of("alice");
    let slot = pool.place(sender, 1, 1, Instant::now()).unwrap();
    write_all(&mut pool, slot);
    pool.place(sender, 2, 1, Instant::now()).unwrap();
    pool.down(slot);
    assert!(pool.relocate().is_empty(), "it may be back any moment");
    let other = disable(&mut pool, slot);
    assert_eq!(pool.relocate(), [other].into());
    assert_eq!(pool.place(sender, 3, 1, Instant::now()), Ok(other));
    assert_eq!(write_all(&mut pool, other), [1, 2, 3]);
    assert_eq!(pool.collect(), [slot]);
}

#[test]
fn a_dead_disabled_slot_without_others_gives_back() {
    let mut pool = pool(&[FIRST], 100);
    let sender = SenderKey::of("alice");
    pool.place(sender, 1, 1, Instant::now()).unwrap();
    write_all(&mut pool, 1);
    pool.place(sender, 2, 1, Instant::now()).unwrap();
    pool.follow(&[], 1, || 2);
    pool.down(1);
    assert!(pool.relocate().is_empty() && pool.collect().is_empty());
    assert_eq!(pool.strand(LONG), [0; 0]);
    assert_eq!(pool.strand(Duration::ZERO), [1, 2]);
    assert_eq!(pool.collect(), [1]);
    assert!(pool.is_empty() && pool.placements.is_empty());
}

#[test]
fn what_was_never_written_moves_at_once_and_the_rest_of_a_sender_keeps_it() {
    let mut pool = pool(&[FIRST, SECOND], 1000);
    let on_first = |n: &u32| SenderKey::of(n).prefers([1, 2].into_iter()) == Some(1);
    let senders: Vec<_> = (0..).filter(on_first).take(2).map(SenderKey::of).collect();
    pool.place(senders[0], 1, 1, Instant::now()).unwrap();
    write_all(&mut pool, 1);
    pool.place(senders[0], 2, 1, Instant::now()).unwrap();
    pool.place(senders[1], 3, 1, Instant::now()).unwrap();
    pool.down(1);
    assert_eq!(pool.relocate(), [2].into());
    assert_eq!(write_all(&mut pool, 2), [3]);
    pool.up(1, 1).unwrap();
    assert_eq!(write_all(&mut pool, 1), [2]);
}

#[tokio::test(start_paused = true)]
async fn a_slot_that_stays_down_is_waited_for_half_the_time() {
    let mut pool = pool(&[FIRST, SECOND], 1000);
    let sender = SenderKey::of("alice");
    let slot = pool.place(sender, 1, 1, Instant::now()).unwrap();
    write_all(&mut pool, slot);
    tokio::time::advance(LONG).await;
    pool.down(slot);
    tokio::time::advance(LONG / 2).await;
    pool.place(sender, 2, 1, Instant::now()).unwrap();
    assert!(pool.relocate().is_empty());
    tokio::time::advance(LONG / 2).await;
    assert_eq!(pool.relocate(), [3 - slot].into());
    // The stanza keeps its age: in all, it waits no longer than without the move.
    assert_eq!(pool.expire(LONG + LONG), [0; 0]);
    tokio::time::advance(LONG).await;
    assert_eq!(pool.expire(LONG + LONG), [1]);
    assert_eq!(write_all(&mut pool, 3 - slot), [2]);
}

#[test]
fn an_endpoint_that_returns_keeps_its_slot() {
    let mut pool = pool(&[FIRST], 100);
    pool.follow(&[], 2, || 2);
    assert!(pool.follow(&[endpoint(FIRST)], 2, || 3).is_empty());
    assert_eq!(
        pool.place(SenderKey::of("alice"), 1, 1, Instant::now()),
        Ok(1)
    );
}

#[test]
fn a_peer_that_leaves_is_written_nothing_new_but_may_acknowledge() {
    let mut pool = pool(&[FIRST], 100);
    let sender = SenderKey::of("alice");
    pool.place(sender, 1, 1, Instant::now()).unwrap();
    write_all(&mut pool, 1);
    pool.leaving(1);
    assert_eq!(pool.place(sender, 2, 1, Instant::now()), Ok(1));
    assert!(pool.next(1).is_none() && !pool.has_left(1));
    assert_eq!(pool.acknowledge(1, 1).unwrap(), [1]);
    assert!(pool.has_left(1));
    pool.down(1);
    pool.up(1, 0).unwrap();
    assert_eq!(write_all(&mut pool, 1), [2]);
}
