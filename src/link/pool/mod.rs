//! The lanes to one peer, and which sender uses which. Pure: no sockets here.
//! What waits in a lane that does not deliver moves on: see [`moving`].

mod moving;
#[cfg(test)]
mod properties;
#[cfg(test)]
mod tests;

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

    /// Which of `lanes` it uses.
    fn prefers(self, lanes: impl Iterator<Item = LaneId>) -> Option<LaneId> {
        lanes.max_by_key(|id| Self::of((self, id)))
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

impl<T> Lane<T> {
    /// New stanzas may come here, and get on at once.
    fn takes_new(&self) -> bool {
        self.enabled && self.standing == Standing::Up
    }

    fn down_since(&self) -> Option<Instant> {
        match self.standing {
            Standing::Down(since) => Some(since),
            Standing::Fresh | Standing::Up | Standing::Leaving => None,
        }
    }
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
    /// So long a lane may be without a connection before all that waits in it
    /// moves to others.
    patience: Duration,
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
    /// No lanes. Each will take up to `queue_bytes`, but always one stanza.
    /// What waits in a lane that is without a connection for `patience` moves
    /// to others, written or not.
    pub(super) fn new(queue_bytes: usize, patience: Duration) -> Self {
        Self {
            lanes: BTreeMap::new(),
            placements: HashMap::new(),
            queue_bytes,
            patience,
        }
    }

    /// Queues `item` of `sender` on its lane.
    ///
    /// # Errors
    /// Gives it back when there is no lane for it, or that one is full. For
    /// a sender of whom something is in flight on a disabled lane there is
    /// none: it moves to another when that has come to its end.
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
        let Some(lane) = self.lanes.get_mut(&id).filter(|lane| lane.enabled) else {
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
        let best = |wanted: fn(&Lane<T>) -> bool| {
            let lanes = self.lanes.iter().filter(|(_, lane)| wanted(lane));
            sender.prefers(lanes.map(|(id, _)| *id))
        };
        best(Lane::takes_new)
            .or_else(|| best(|lane| lane.enabled && lane.standing != Standing::Fresh))
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
            let down_since = lane.down_since();
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

    /// Removes the disabled lanes that hold nothing; returns them.
    pub(super) fn collect(&mut self) -> Vec<LaneId> {
        let mut gone = Vec::new();
        self.lanes.retain(|id, lane| {
            let stays = lane.enabled || !lane.book.is_empty();
            gone.extend((!stays).then_some(*id));
            stays
        });
        gone
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

    /// Whether `lane` has one.
    pub(super) fn is_up(&self, lane: LaneId) -> bool {
        let lane = self.lanes.get(&lane);
        lane.is_some_and(|lane| lane.standing == Standing::Up)
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
