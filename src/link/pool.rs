//! The lanes to one peer, and which sender uses which. Pure: no sockets here.

use std::collections::{BTreeMap, HashMap};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;

use tokio::time::Instant;

use super::book::{Book, Entry, Next};
use super::wire::WireError;
use crate::config::Endpoint;
use crate::envelope::Obstacle;

/// One connection of ours to an endpoint, across all its reconnects.
pub(super) type LaneId = u32;

/// A sender, as far as order is concerned. Two that collide share a lane,
/// which does no harm.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct SenderKey(u64);

impl SenderKey {
    /// For whatever names the sender.
    pub(super) fn of(sender: impl Hash) -> Self {
        let mut hasher = DefaultHasher::new();
        sender.hash(&mut hasher);
        Self(hasher.finish())
    }
}

/// Whether a lane has a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Standing {
    /// Never had one yet.
    Fresh,
    /// Has one.
    Up,
    /// Has one, over which the peer wants nothing new.
    Leaving,
    /// Lost it at that time.
    Down(Instant),
}

#[derive(Debug)]
struct Lane<T> {
    endpoint: Endpoint,
    /// Its endpoint is still announced.
    enabled: bool,
    standing: Standing,
    /// Why it has no connection.
    trouble: Option<String>,
    book: Book<Held<T>>,
}

#[derive(Debug)]
struct Held<T> {
    sender: SenderKey,
    item: T,
}

/// Where the stanzas of a sender go while some are not acknowledged.
#[derive(Debug, Clone, Copy)]
struct Placement {
    lane: LaneId,
    in_flight: usize,
}

/// The lanes to one peer.
#[derive(Debug)]
pub(super) struct Pool<T> {
    lanes: BTreeMap<LaneId, Lane<T>>,
    placements: HashMap<SenderKey, Placement>,
    queue_bytes: usize,
}

/// How one lane does, for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct LaneView {
    pub(super) id: LaneId,
    pub(super) endpoint: Endpoint,
    pub(super) enabled: bool,
    pub(super) up: bool,
    pub(super) trouble: Option<String>,
    pub(super) stanzas: usize,
    pub(super) bytes: usize,
}

impl<T> Pool<T> {
    /// No lanes. Each will hold up to `queue_bytes`, but always one stanza.
    pub(super) fn new(queue_bytes: usize) -> Self {
        Self {
            lanes: BTreeMap::new(),
            placements: HashMap::new(),
            queue_bytes,
        }
    }

    /// Queues `item` of `sender` on its lane.
    ///
    /// # Errors
    /// Gives it back when there is no lane for it, or that one is full.
    pub(super) fn place(
        &mut self,
        sender: SenderKey,
        item: T,
        size: usize,
    ) -> Result<LaneId, (T, Obstacle)> {
        let placed = self.placements.get(&sender).map(|place| place.lane);
        let Some(id) = placed.or_else(|| self.choose(sender)) else {
            return Err((item, Obstacle::Absent));
        };
        let Some(lane) = self.lanes.get_mut(&id) else {
            return Err((item, Obstacle::Absent));
        };
        if !lane.book.is_empty() && lane.book.bytes() + size > self.queue_bytes {
            return Err((item, Obstacle::Full));
        }
        lane.book.push(Held { sender, item }, size);
        let place = self.placements.entry(sender).or_insert(Placement {
            lane: id,
            in_flight: 0,
        });
        place.in_flight += 1;
        Ok(id)
    }

    /// The lane for a sender that has nothing in flight: by rendezvous
    /// hashing, so that few senders move when lanes come and go, over the
    /// enabled ones that are up; when none is, over those that were, for they
    /// will be back before long, or their stanzas expire.
    fn choose(&self, sender: SenderKey) -> Option<LaneId> {
        let enabled = || self.lanes.iter().filter(|(_, lane)| lane.enabled);
        let weight = |id: &LaneId| SenderKey::of((sender, id));
        let up = enabled().filter(|(_, lane)| lane.standing == Standing::Up);
        let was_up = enabled().filter(|(_, lane)| lane.standing != Standing::Fresh);
        up.map(|(id, _)| *id)
            .max_by_key(weight)
            .or_else(|| was_up.map(|(id, _)| *id).max_by_key(weight))
    }

    /// `lane` has a connection; what is behind `resume_after` must be written.
    ///
    /// # Errors
    /// When nothing with that number was ever written.
    pub(super) fn up(&mut self, lane: LaneId, resume_after: u64) -> Result<(), WireError> {
        if let Some(lane) = self.lanes.get_mut(&lane) {
            lane.book.rewind(resume_after)?;
            lane.standing = Standing::Up;
            lane.trouble = None;
        }
        Ok(())
    }

    /// The peer wants nothing new over `lane`'s connection.
    pub(super) fn leaving(&mut self, lane: LaneId) {
        if let Some(lane) = self.lanes.get_mut(&lane) {
            lane.standing = Standing::Leaving;
        }
    }

    /// Whether all that was written over a connection that the peer is
    /// leaving has been acknowledged.
    pub(super) fn has_left(&self, lane: LaneId) -> bool {
        self.lanes
            .get(&lane)
            .is_some_and(|lane| lane.standing == Standing::Leaving && lane.book.awaiting_ack() == 0)
    }

    /// `lane` has lost its connection.
    pub(super) fn down(&mut self, lane: LaneId) {
        if let Some(lane) = self.lanes.get_mut(&lane) {
            lane.standing = Standing::Down(Instant::now());
        }
    }

    /// Why `lane` has no connection, for [`Self::view`].
    pub(super) fn note_trouble(&mut self, lane: LaneId, text: &str) {
        if let Some(lane) = self.lanes.get_mut(&lane) {
            lane.trouble = Some(text.to_owned());
        }
    }

    /// The next item to write over `lane`'s connection.
    pub(super) fn next(&mut self, lane: LaneId) -> Option<Next<'_, T>> {
        let lane = self.lanes.get_mut(&lane)?;
        if lane.standing != Standing::Up {
            return None;
        }
        let next = lane.book.next()?;
        Some(Next {
            number: next.number,
            first_since: next.first_since,
            item: &next.item.item,
        })
    }

    /// Takes out what the peer has settled.
    ///
    /// # Errors
    /// When nothing with that number was ever written.
    pub(super) fn acknowledge(&mut self, lane: LaneId, through: u64) -> Result<Vec<T>, WireError> {
        let Some(lane) = self.lanes.get_mut(&lane) else {
            return Ok(Vec::new());
        };
        let entries = lane.book.acknowledge(through)?;
        Ok(self.release(entries))
    }

    /// Takes out the one with this number.
    pub(super) fn remove(&mut self, lane: LaneId, number: u64) -> Option<T> {
        let entry = self.lanes.get_mut(&lane)?.book.remove(number)?;
        self.release(vec![entry]).pop()
    }

    /// Takes out what has waited for `max_wait`, in order within each lane.
    pub(super) fn expire(&mut self, max_wait: Duration) -> Vec<T> {
        let expired = self.lanes.values_mut().flat_map(|lane| {
            let down_since = match lane.standing {
                Standing::Down(since) => Some(since),
                Standing::Fresh | Standing::Up | Standing::Leaving => None,
            };
            lane.book.expire(down_since, max_wait)
        });
        let expired = expired.collect();
        self.release(expired)
    }

    /// Makes the lanes follow `endpoints`, `per_endpoint` each; returns the
    /// new ones, to be dialled. `new_id` gives ids that were never used.
    pub(super) fn follow(
        &mut self,
        endpoints: &[Endpoint],
        per_endpoint: usize,
        mut new_id: impl FnMut() -> LaneId,
    ) -> Vec<(LaneId, Endpoint)> {
        for lane in self.lanes.values_mut() {
            lane.enabled = endpoints.contains(&lane.endpoint);
        }
        let mut added = Vec::new();
        for (position, endpoint) in endpoints.iter().enumerate() {
            let twice = endpoints[..position].contains(endpoint);
            if twice || self.lanes.values().any(|lane| lane.endpoint == *endpoint) {
                continue;
            }
            for _ in 0..per_endpoint {
                let lane = Lane {
                    endpoint: endpoint.clone(),
                    enabled: true,
                    standing: Standing::Fresh,
                    trouble: None,
                    book: Book::default(),
                };
                let id = new_id();
                self.lanes.insert(id, lane);
                added.push((id, endpoint.clone()));
            }
        }
        added
    }

    /// Removes the disabled lanes that have drained or have no connection;
    /// returns them and what they still held, in order.
    pub(super) fn collect(&mut self) -> (Vec<LaneId>, Vec<T>) {
        let has_connection =
            |lane: &Lane<T>| matches!(lane.standing, Standing::Up | Standing::Leaving);
        let done: Vec<LaneId> = self
            .lanes
            .iter()
            .filter(|(_, lane)| !lane.enabled && (lane.book.is_empty() || !has_connection(lane)))
            .map(|(id, _)| *id)
            .collect();
        let mut left = Vec::new();
        for id in &done {
            if let Some(mut lane) = self.lanes.remove(id) {
                let entries = lane.book.take_all();
                left.extend(self.release(entries));
            }
        }
        (done, left)
    }

    /// Ends the count of these as in flight.
    fn release(&mut self, entries: Vec<Entry<Held<T>>>) -> Vec<T> {
        let mut items = Vec::with_capacity(entries.len());
        for Entry { item: held, .. } in entries {
            if let Some(place) = self.placements.get_mut(&held.sender) {
                place.in_flight -= 1;
                if place.in_flight == 0 {
                    self.placements.remove(&held.sender);
                }
            }
            items.push(held.item);
        }
        items
    }

    /// How many lanes have a connection that takes stanzas.
    pub(super) fn up_count(&self) -> usize {
        let up = |lane: &&Lane<T>| lane.standing == Standing::Up;
        self.lanes.values().filter(up).count()
    }

    /// Whether no lane is left.
    pub(super) fn is_empty(&self) -> bool {
        self.lanes.is_empty()
    }

    /// How each lane does.
    pub(super) fn view(&self) -> Vec<LaneView> {
        let view = |(id, lane): (&LaneId, &Lane<T>)| LaneView {
            id: *id,
            endpoint: lane.endpoint.clone(),
            enabled: lane.enabled,
            up: lane.standing == Standing::Up,
            trouble: lane.trouble.clone(),
            stanzas: lane.book.len(),
            bytes: lane.book.bytes(),
        };
        self.lanes.iter().map(view).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIRST: &str = "a.test";
    const SECOND: &str = "b.test";

    fn endpoint(host: &str) -> Endpoint {
        Endpoint {
            host: host.to_owned(),
            port: 5555,
        }
    }

    /// A pool with one lane to each of `hosts`, numbered from 1, all up.
    fn pool(hosts: &[&str], queue_bytes: usize) -> Pool<u32> {
        let mut pool = Pool::new(queue_bytes);
        let mut ids = 1..;
        let endpoints: Vec<_> = hosts.iter().map(|host| endpoint(host)).collect();
        for (id, _) in pool.follow(&endpoints, 1, || ids.next().unwrap()) {
            pool.up(id, 0).unwrap();
        }
        pool
    }

    fn write_all(pool: &mut Pool<u32>, lane: LaneId) -> Vec<u32> {
        std::iter::from_fn(|| pool.next(lane).map(|next| *next.item)).collect()
    }

    #[test]
    fn senders_spread_and_each_keeps_its_lane() {
        let mut pool = pool(&[FIRST, SECOND], 1 << 20);
        let first = (0..100).map(|n| pool.place(SenderKey::of(n), n, 1).unwrap());
        let first: Vec<_> = first.collect();
        let again: Vec<_> = (0..100)
            .map(|n| pool.place(SenderKey::of(n), n, 1).unwrap())
            .collect();
        assert_eq!(first, again);
        let on_one = first.iter().filter(|lane| **lane == 1).count();
        assert!((20..=80).contains(&on_one), "{on_one} of 100 on one lane");
    }

    #[test]
    fn a_sender_moves_only_when_nothing_of_it_is_in_flight() {
        let mut pool = pool(&[FIRST, SECOND], 1 << 20);
        let sender = SenderKey::of("alice@example.test");
        let lane = pool.place(sender, 1, 1).unwrap();
        write_all(&mut pool, lane);
        pool.down(lane);
        assert_eq!(
            pool.place(sender, 2, 1).unwrap(),
            lane,
            "must wait its turn"
        );
        pool.up(lane, 0).unwrap();
        assert_eq!(write_all(&mut pool, lane), [1, 2]);
        assert_eq!(pool.acknowledge(lane, 2).unwrap(), [1, 2]);
        pool.down(lane);
        assert_ne!(pool.place(sender, 3, 1).unwrap(), lane, "may move now");
        assert_eq!(pool.placements.len(), 1);
    }

    #[test]
    fn a_lane_that_never_was_up_is_absent_and_one_that_was_is_waited_for() {
        let mut pool = Pool::new(100);
        let sender = SenderKey::of("alice");
        assert_eq!(pool.place(sender, 1, 1), Err((1, Obstacle::Absent)));
        pool.follow(&[endpoint(FIRST)], 1, || 1);
        assert_eq!(pool.place(sender, 1, 1), Err((1, Obstacle::Absent)));
        pool.up(1, 0).unwrap();
        pool.down(1);
        assert_eq!(pool.place(sender, 1, 1), Ok(1));
        assert_eq!(pool.up_count(), 0);
    }

    #[test]
    fn a_full_lane_gives_back_but_always_takes_one() {
        let mut pool = pool(&[FIRST], 100);
        let sender = SenderKey::of("alice");
        assert_eq!(pool.place(sender, 1, 500), Ok(1));
        assert_eq!(pool.place(sender, 2, 1), Err((2, Obstacle::Full)));
        write_all(&mut pool, 1);
        assert_eq!(pool.place(sender, 2, 1), Err((2, Obstacle::Full)));
        pool.acknowledge(1, 1).unwrap();
        assert_eq!(pool.place(sender, 2, 1), Ok(1));
    }

    #[test]
    fn a_disabled_lane_drains_and_is_then_collected() {
        let mut pool = pool(&[FIRST], 100);
        let alice = SenderKey::of("alice");
        pool.place(alice, 1, 1).unwrap();
        assert!(pool.follow(&[], 1, || 2).is_empty());
        assert_eq!(
            pool.place(SenderKey::of("bob"), 2, 1),
            Err((2, Obstacle::Absent)),
            "takes nobody new"
        );
        assert_eq!(pool.place(alice, 3, 1), Ok(1), "keeps a sender's order");
        assert_eq!(pool.collect(), (vec![], vec![]));
        assert_eq!(write_all(&mut pool, 1), [1, 3]);
        pool.acknowledge(1, 2).unwrap();
        assert_eq!(pool.collect(), (vec![1], vec![]));
        assert!(pool.is_empty());
    }

    #[test]
    fn a_dead_disabled_lane_gives_back_what_it_held() {
        let mut pool = pool(&[FIRST, SECOND], 100);
        let sender = SenderKey::of("alice");
        let lane = pool.place(sender, 1, 1).unwrap();
        pool.place(sender, 2, 1).unwrap();
        write_all(&mut pool, lane);
        pool.down(lane);
        let other = if lane == 1 { SECOND } else { FIRST };
        pool.follow(&[endpoint(other)], 1, || 9);
        assert_eq!(pool.collect(), (vec![lane], vec![1, 2]));
        assert_ne!(pool.place(sender, 1, 1).unwrap(), lane);
    }

    #[test]
    fn an_endpoint_that_returns_keeps_its_lanes() {
        let mut pool = pool(&[FIRST], 100);
        pool.follow(&[], 2, || 2);
        assert!(pool.follow(&[endpoint(FIRST)], 2, || 3).is_empty());
        assert_eq!(pool.place(SenderKey::of("alice"), 1, 1), Ok(1));
    }

    #[test]
    fn a_peer_that_leaves_is_written_nothing_new_but_may_acknowledge() {
        let mut pool = pool(&[FIRST], 100);
        let sender = SenderKey::of("alice");
        pool.place(sender, 1, 1).unwrap();
        write_all(&mut pool, 1);
        pool.leaving(1);
        assert_eq!(pool.place(sender, 2, 1), Ok(1));
        assert!(pool.next(1).is_none() && !pool.has_left(1));
        assert_eq!(pool.acknowledge(1, 1).unwrap(), [1]);
        assert!(pool.has_left(1));
        pool.down(1);
        pool.up(1, 0).unwrap();
        assert_eq!(write_all(&mut pool, 1), [2]);
    }
}
