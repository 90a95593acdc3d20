//! The slots to one peer, and the assignment of senders to slots. Pure: no sockets
//! here. Stanzas in a slot that does not deliver move to others: see
//! [`relocation`].

#[cfg(test)]
mod properties;
mod relocation;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;

use tokio::time::Instant;

use super::wire::WireError;
use crate::config::Endpoint;
use crate::delivery::{SendWindow, Unacknowledged};
use crate::envelope::{Envelope, FormerPlace, Obstacle};

/// One connection of ours to an endpoint, across all its reconnects.
pub(super) type SlotId = u32;

/// A sender, as far as order is concerned. Two that collide share a slot,
/// which does no harm.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct SenderKey(u64);

impl SenderKey {
    /// Returns the key of the sender that `sender` names.
    pub(super) fn of(sender: impl Hash) -> Self {
        let mut hasher = DefaultHasher::new();
        sender.hash(&mut hasher);
        Self(hasher.finish())
    }

    /// Returns the one of `slots` that the sender uses.
    fn prefers(self, slots: impl Iterator<Item = SlotId>) -> Option<SlotId> {
        slots.max_by_key(|id| Self::of((self, id)))
    }
}

/// The state of a slot's connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ConnectionState {
    /// The slot never had a connection yet.
    Fresh,
    /// The slot has a connection.
    Up,
    /// The slot has a connection, over which the peer takes nothing new.
    Leaving,
    /// The slot lost its connection at that time.
    Down(Instant),
}

#[derive(Debug)]
struct ConnectionSlot<T> {
    endpoint: Endpoint,
    /// The slot's endpoint is still announced.
    enabled: bool,
    state: ConnectionState,
    /// The reason for which the slot has no connection.
    connect_error: Option<String>,
    window: SendWindow<QueuedItem<T>>,
}

impl<T> ConnectionSlot<T> {
    /// Returns whether new stanzas may be queued on the slot, and are written at once.
    fn takes_new(&self) -> bool {
        self.enabled && self.state == ConnectionState::Up
    }

    /// Returns whether the peer has left a stanza unacknowledged for `limit` since it
    /// was queued here: nothing new is given to such a connection if there is
    /// another one.
    fn is_stalled(&self, limit: Duration) -> bool {
        let oldest = self.window.iter().next();
        self.state == ConnectionState::Up
            && oldest.is_some_and(|entry| {
                entry.number.is_some() && entry.item.queued_at.elapsed() >= limit
            })
    }

    /// Returns whether the slot has no connection, and some of its stanzas have
    /// waited `patience` for one.
    fn has_waited(&self, patience: Duration) -> bool {
        let down_since = self.down_since();
        let mut waits = self
            .window
            .iter()
            .filter_map(|e| waits_since(e, down_since));
        down_since.is_some() && waits.any(|since| since.elapsed() >= patience)
    }

    fn down_since(&self) -> Option<Instant> {
        match self.state {
            ConnectionState::Down(since) => Some(since),
            ConnectionState::Fresh | ConnectionState::Up | ConnectionState::Leaving => None,
        }
    }
}

impl<T: Movable> ConnectionSlot<T> {
    /// Takes out all stanzas, to be queued on other slots.
    fn take_all(&mut self, id: SlotId) -> Vec<Unacknowledged<QueuedItem<T>>> {
        let down_since = self.down_since();
        let mut entries = self.window.extract(|_| true);
        for entry in &mut entries {
            if let Some(number) = entry.number {
                entry.item.moves_from(id, number, down_since);
            }
        }
        entries
    }
}

/// An item that keeps the places where it was written before it moved.
pub(super) trait Movable {
    /// Returns these places, oldest first.
    fn former(&self) -> &[FormerPlace];

    /// Adds a place.
    fn moves_from(&mut self, place: FormerPlace);
}

impl Movable for Envelope {
    fn former(&self) -> &[FormerPlace] {
        &self.former
    }

    fn moves_from(&mut self, place: FormerPlace) {
        if self.former.len() >= FORMER_LIMIT {
            self.former.remove(0);
        }
        self.former.push(place);
    }
}

/// Former places that a stanza keeps: a stanza with more moves than these may be
/// delivered twice.
const FORMER_LIMIT: usize = 16;

#[derive(Debug)]
struct QueuedItem<T> {
    sender: SenderKey,
    queued_at: Instant,
    /// The time at which the gateway took the stanza in; later, if the stanza moved
    /// after it had been written.
    waits_since: Instant,
    item: T,
}

impl<T: Movable> QueuedItem<T> {
    /// Records that the stanza leaves its place in `slot`.
    fn moves_from(&mut self, slot: SlotId, number: u64, down_since: Option<Instant>) {
        self.waits_since = down_since.map_or(self.waits_since, |at| at.max(self.waits_since));
        self.item.moves_from(FormerPlace { slot, number });
    }
}

/// Returns since when a stanza waits for a connection. A written stanza waits from
/// the loss of the connection: over a live connection the peer has it.
fn waits_since<T>(
    entry: &Unacknowledged<QueuedItem<T>>,
    down_since: Option<Instant>,
) -> Option<Instant> {
    let since = entry.item.waits_since;
    match entry.number {
        None => Some(since),
        Some(_) => down_since.map(|down_since| down_since.max(since)),
    }
}

/// A stanza to write now.
#[derive(Debug)]
pub(super) struct NextStanza<'a, T> {
    pub(super) number: u64,
    /// The time at which the stanza was queued, if it has never been written before.
    pub(super) first_since: Option<Instant>,
    pub(super) item: &'a T,
}

/// The slot of a sender, while some of its stanzas are not acknowledged.
#[derive(Debug, Clone, Copy)]
struct Placement {
    slot: SlotId,
    in_flight: usize,
}

/// The slots to one peer.
#[derive(Debug)]
pub(super) struct Pool<T> {
    slots: BTreeMap<SlotId, ConnectionSlot<T>>,
    placements: HashMap<SenderKey, Placement>,
    queue_bytes: usize,
    /// Time for which a slot may be without a connection before all its waiting
    /// stanzas move to others.
    patience: Duration,
    /// Age of an unacknowledged stanza at which a connection is stalled. A peer that
    /// waits for a route itself acknowledges within half of it.
    stalled_after: Duration,
}

/// The state of one slot, for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct SlotStatus {
    pub(super) id: SlotId,
    pub(super) endpoint: Endpoint,
    pub(super) enabled: bool,
    pub(super) up: bool,
    pub(super) connect_error: Option<String>,
    pub(super) stanzas: usize,
    pub(super) bytes: usize,
}

impl<T: Movable> Pool<T> {
    /// Creates a pool without slots. Each slot will take up to `queue_bytes`, but
    /// always one stanza. The stanzas in a slot that is without a connection for
    /// `patience` move to others, written or not.
    pub(super) fn new(queue_bytes: usize, patience: Duration) -> Self {
        Self {
            slots: BTreeMap::new(),
            placements: HashMap::new(),
            queue_bytes,
            patience,
            stalled_after: patience.saturating_mul(4).max(Duration::from_secs(1)),
        }
    }

    /// Queues `item` of `sender` on its slot.
    ///
    /// # Errors
    /// Returns `item` when no slot takes it, or its slot is full. No slot takes it
    /// while a disabled slot has stanzas of `sender` in flight: the sender moves to
    /// another slot when none of these is in flight any more.
    pub(super) fn place(
        &mut self,
        sender: SenderKey,
        item: T,
        size: usize,
        taken_at: Instant,
    ) -> Result<SlotId, (T, Obstacle)> {
        let placed = self.placements.get(&sender).map(|place| place.slot);
        // Stanzas in flight on a stalled connection were written long ago: later ones of
        // the sender need not wait for their acks.
        let moved = placed.filter(|slot| self.is_stalled(*slot));
        let moved = moved.and_then(|_| self.choose(sender));
        let Some(id) = moved.or(placed).or_else(|| self.choose(sender)) else {
            return Err((item, Obstacle::Absent));
        };
        let Some(slot) = self.slots.get_mut(&id).filter(|slot| slot.enabled) else {
            return Err((item, Obstacle::Absent));
        };
        if !slot.window.is_empty() && slot.window.bytes() + size > self.queue_bytes {
            return Err((item, Obstacle::Full));
        }
        let queued = QueuedItem {
            sender,
            queued_at: Instant::now(),
            waits_since: taken_at,
            item,
        };
        slot.window.push(queued, size);
        let place = self.placements.entry(sender).or_insert(Placement {
            slot: id,
            in_flight: 0,
        });
        place.slot = id;
        place.in_flight += 1;
        Ok(id)
    }

    fn is_stalled(&self, slot: SlotId) -> bool {
        let slot = self.slots.get(&slot);
        slot.is_some_and(|slot| slot.is_stalled(self.stalled_after))
    }

    /// Chooses the slot for a sender that has nothing in flight: by rendezvous
    /// hashing, so that few senders move when slots are added or removed, over the
    /// enabled slots that are up and not stalled, then over those that are up; when
    /// none is, over those that were, for they will reconnect before long, or their
    /// stanzas expire.
    fn choose(&self, sender: SenderKey) -> Option<SlotId> {
        let best = |wanted: &dyn Fn(&ConnectionSlot<T>) -> bool| {
            let slots = self.slots.iter().filter(|(_, slot)| wanted(slot));
            sender.prefers(slots.map(|(id, _)| *id))
        };
        best(&|slot| slot.takes_new() && !slot.is_stalled(self.stalled_after))
            .or_else(|| best(&ConnectionSlot::takes_new))
            .or_else(|| best(&|slot| slot.enabled && slot.state != ConnectionState::Fresh))
    }

    /// Marks `slot` as connected; stanzas after `resume_after` must be written.
    ///
    /// # Errors
    /// When no stanza with that number was ever written.
    pub(super) fn up(&mut self, slot: SlotId, resume_after: u64) -> Result<(), WireError> {
        if let Some(slot) = self.slots.get_mut(&slot) {
            slot.window.reconnect(resume_after)?;
            slot.state = ConnectionState::Up;
            slot.connect_error = None;
        }
        Ok(())
    }

    /// Marks `slot`'s connection as one over which the peer takes nothing new.
    pub(super) fn leaving(&mut self, slot: SlotId) {
        if let Some(slot) = self.slots.get_mut(&slot) {
            slot.state = ConnectionState::Leaving;
        }
    }

    /// Returns whether all stanzas written over a connection that the peer is
    /// leaving have been acknowledged.
    pub(super) fn has_left(&self, slot: SlotId) -> bool {
        self.slots.get(&slot).is_some_and(|slot| {
            slot.state == ConnectionState::Leaving && slot.window.awaiting_ack() == 0
        })
    }

    pub(super) fn down(&mut self, slot: SlotId) {
        if let Some(slot) = self.slots.get_mut(&slot) {
            slot.state = ConnectionState::Down(Instant::now());
        }
    }

    /// Records why `slot` has no connection, for [`Self::view`].
    pub(super) fn note_trouble(&mut self, slot: SlotId, text: &str) {
        if let Some(slot) = self.slots.get_mut(&slot) {
            slot.connect_error = Some(text.to_owned());
        }
    }

    /// Returns the next item to write over `slot`'s connection.
    pub(super) fn next(&mut self, slot: SlotId) -> Option<NextStanza<'_, T>> {
        let slot = self.slots.get_mut(&slot)?;
        if slot.state != ConnectionState::Up {
            return None;
        }
        let next = slot.window.next_to_write()?;
        let queued = next.item;
        Some(NextStanza {
            number: next.number,
            first_since: (next.is_first && queued.item.former().is_empty())
                .then_some(queued.queued_at),
            item: &queued.item,
        })
    }

    /// Takes out the stanzas that the peer has settled.
    ///
    /// # Errors
    /// When no stanza with that number was ever written.
    pub(super) fn acknowledge(&mut self, slot: SlotId, through: u64) -> Result<Vec<T>, WireError> {
        let Some(slot) = self.slots.get_mut(&slot) else {
            return Ok(Vec::new());
        };
        let entries = slot.window.acknowledge(through)?;
        Ok(release(&mut self.placements, entries))
    }

    pub(super) fn remove(&mut self, slot: SlotId, number: u64) -> Option<T> {
        let window = &mut self.slots.get_mut(&slot)?.window;
        let entries = window.extract(|entry| entry.number == Some(number));
        release(&mut self.placements, entries).pop()
    }

    /// Takes out the stanzas that have waited for `max_wait`, in order within each slot.
    pub(super) fn expire(&mut self, max_wait: Duration) -> Vec<T> {
        let expired = self.slots.values_mut().flat_map(|slot| {
            let down_since = slot.down_since();
            slot.window.extract(|entry| {
                waits_since(entry, down_since).is_some_and(|since| since.elapsed() >= max_wait)
            })
        });
        release(&mut self.placements, expired)
    }

    /// Makes the slots match `endpoints`, `per_endpoint` each; returns the new
    /// slots, to be dialled. `new_id` returns ids that were never used.
    pub(super) fn follow(
        &mut self,
        endpoints: &[Endpoint],
        per_endpoint: usize,
        mut new_id: impl FnMut() -> SlotId,
    ) -> Vec<(SlotId, Endpoint)> {
        for slot in self.slots.values_mut() {
            slot.enabled = endpoints.contains(&slot.endpoint);
        }
        let mut added = Vec::new();
        for (position, endpoint) in endpoints.iter().enumerate() {
            let twice = endpoints[..position].contains(endpoint);
            if twice || self.slots.values().any(|slot| slot.endpoint == *endpoint) {
                continue;
            }
            for _ in 0..per_endpoint {
                let slot = ConnectionSlot {
                    endpoint: endpoint.clone(),
                    enabled: true,
                    state: ConnectionState::Fresh,
                    connect_error: None,
                    window: SendWindow::default(),
                };
                let id = new_id();
                self.slots.insert(id, slot);
                added.push((id, endpoint.clone()));
            }
        }
        added
    }

    /// Removes the disabled slots that hold nothing; returns them.
    pub(super) fn collect(&mut self) -> Vec<SlotId> {
        let mut gone = Vec::new();
        self.slots.retain(|id, slot| {
            let stays = slot.enabled || !slot.window.is_empty();
            gone.extend((!stays).then_some(*id));
            stays
        });
        gone
    }

    /// Counts the slots that have a connection that takes stanzas.
    pub(super) fn up_count(&self) -> usize {
        let up = |slot: &&ConnectionSlot<T>| slot.state == ConnectionState::Up;
        self.slots.values().filter(up).count()
    }

    /// Returns whether `slot` has a connection that takes stanzas.
    pub(super) fn is_up(&self, slot: SlotId) -> bool {
        let slot = self.slots.get(&slot);
        slot.is_some_and(|slot| slot.state == ConnectionState::Up)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    pub(super) fn view(&self) -> Vec<SlotStatus> {
        let view = |(id, slot): (&SlotId, &ConnectionSlot<T>)| SlotStatus {
            id: *id,
            endpoint: slot.endpoint.clone(),
            enabled: slot.enabled,
            up: slot.state == ConnectionState::Up,
            connect_error: slot.connect_error.clone(),
            stanzas: slot.window.len(),
            bytes: slot.window.bytes(),
        };
        self.slots.iter().map(view).collect()
    }
}

/// Removes these entries from their senders' counts of stanzas in flight.
fn release<T>(
    placements: &mut HashMap<SenderKey, Placement>,
    entries: impl IntoIterator<Item = Unacknowledged<QueuedItem<T>>>,
) -> Vec<T> {
    let release = |Unacknowledged { item: queued, .. }: Unacknowledged<QueuedItem<T>>| {
        if let Some(place) = placements.get_mut(&queued.sender) {
            place.in_flight -= 1;
            if place.in_flight == 0 {
                placements.remove(&queued.sender);
            }
        }
        queued.item
    };
    entries.into_iter().map(release).collect()
}
