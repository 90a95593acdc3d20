//! The slots to one peer, and which sender uses which. Pure: no sockets here.
//! What waits in a slot that does not deliver moves on: see [`relocation`].

#[cfg(test)]
mod properties;
mod relocation;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;

use tokio::time::Instant;

use super::frame::FormerPlace;
use super::wire::WireError;
use crate::config::Endpoint;
use crate::delivery::{SendWindow, Unacknowledged};
use crate::envelope::Obstacle;

/// One connection of ours to an endpoint, across all its reconnects.
pub(super) type SlotId = u32;

/// A sender, as far as order is concerned. Two that collide share a slot,
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

    /// Which of `slots` it uses.
    fn prefers(self, slots: impl Iterator<Item = SlotId>) -> Option<SlotId> {
        slots.max_by_key(|id| Self::of((self, id)))
    }
}

/// Whether a slot has a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ConnectionState {
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
struct ConnectionSlot<T> {
    endpoint: Endpoint,
    /// Its endpoint is still announced.
    enabled: bool,
    state: ConnectionState,
    /// Why it has no connection.
    connect_error: Option<String>,
    window: SendWindow<QueuedItem<T>>,
}

impl<T> ConnectionSlot<T> {
    /// New stanzas may come here, and get on at once.
    fn takes_new(&self) -> bool {
        self.enabled && self.state == ConnectionState::Up
    }

    /// It has no connection, and what it holds waits for one since `patience`.
    fn has_waited(&self, patience: Duration) -> bool {
        let down_since = self.down_since();
        let mut waits = self
            .window
            .iter()
            .filter_map(|e| waits_since(e, down_since));
        down_since.is_some() && waits.any(|since| since.elapsed() >= patience)
    }

    /// Takes out everything, to be queued elsewhere.
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

    fn down_since(&self) -> Option<Instant> {
        match self.state {
            ConnectionState::Down(since) => Some(since),
            ConnectionState::Fresh | ConnectionState::Up | ConnectionState::Leaving => None,
        }
    }
}

/// Former places that a stanza keeps: with more moves than these it may be
/// delivered twice.
const FORMER_LIMIT: usize = 16;

#[derive(Debug)]
struct QueuedItem<T> {
    sender: SenderKey,
    queued_at: Instant,
    /// When the gateway took the stanza in; later, when it moved after it had
    /// been written.
    waits_since: Instant,
    /// Where it was written before it moved here, oldest first.
    former: Vec<FormerPlace>,
    item: T,
}

impl<T> QueuedItem<T> {
    /// Notes that it leaves its place in `slot`.
    fn moves_from(&mut self, slot: SlotId, number: u64, down_since: Option<Instant>) {
        self.waits_since = down_since.map_or(self.waits_since, |at| at.max(self.waits_since));
        if self.former.len() >= FORMER_LIMIT {
            self.former.remove(0);
        }
        self.former.push(FormerPlace { slot, number });
    }
}

/// Since when a stanza waits for a connection. A stanza that was written waits
/// from when the connection was lost: over a live one the peer has it.
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
    /// When it was queued, if it has never been written before.
    pub(super) first_since: Option<Instant>,
    pub(super) former: &'a [FormerPlace],
    pub(super) item: &'a T,
}

/// Where the stanzas of a sender go while some are not acknowledged.
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
    /// So long a slot may be without a connection before all that waits in it
    /// moves to others.
    patience: Duration,
}

/// How one slot does, for people.
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

impl<T> Pool<T> {
    /// No slots. Each will take up to `queue_bytes`, but always one stanza.
    /// What waits in a slot that is without a connection for `patience` moves
    /// to others, written or not.
    pub(super) fn new(queue_bytes: usize, patience: Duration) -> Self {
        Self {
            slots: BTreeMap::new(),
            placements: HashMap::new(),
            queue_bytes,
            patience,
        }
    }

    /// Queues `item` of `sender` on its slot.
    ///
    /// # Errors
    /// Gives it back when there is no slot for it, or that one is full. For
    /// a sender of whom something is in flight on a disabled slot there is
    /// none: it moves to another when that has come to its end.
    pub(super) fn place(
        &mut self,
        sender: SenderKey,
        item: T,
        size: usize,
        taken_at: Instant,
    ) -> Result<SlotId, (T, Obstacle)> {
        let placed = self.placements.get(&sender).map(|place| place.slot);
        let Some(id) = placed.or_else(|| self.choose(sender)) else {
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
            former: Vec::new(),
            item,
        };
        slot.window.push(queued, size);
        let place = self.placements.entry(sender).or_insert(Placement {
            slot: id,
            in_flight: 0,
        });
        place.in_flight += 1;
        Ok(id)
    }

    /// The slot for a sender that has nothing in flight: by rendezvous
    /// hashing, so that few senders move when slots come and go, over the
    /// enabled ones that are up; when none is, over those that were, for they
    /// will be back before long, or their stanzas expire.
    fn choose(&self, sender: SenderKey) -> Option<SlotId> {
        let best = |wanted: fn(&ConnectionSlot<T>) -> bool| {
            let slots = self.slots.iter().filter(|(_, slot)| wanted(slot));
            sender.prefers(slots.map(|(id, _)| *id))
        };
        best(ConnectionSlot::takes_new)
            .or_else(|| best(|slot| slot.enabled && slot.state != ConnectionState::Fresh))
    }

    /// `slot` has a connection; what is behind `resume_after` must be written.
    ///
    /// # Errors
    /// When nothing with that number was ever written.
    pub(super) fn up(&mut self, slot: SlotId, resume_after: u64) -> Result<(), WireError> {
        if let Some(slot) = self.slots.get_mut(&slot) {
            slot.window.reconnect(resume_after)?;
            slot.state = ConnectionState::Up;
            slot.connect_error = None;
        }
        Ok(())
    }

    /// The peer wants nothing new over `slot`'s connection.
    pub(super) fn leaving(&mut self, slot: SlotId) {
        if let Some(slot) = self.slots.get_mut(&slot) {
            slot.state = ConnectionState::Leaving;
        }
    }

    /// Whether all that was written over a connection that the peer is
    /// leaving has been acknowledged.
    pub(super) fn has_left(&self, slot: SlotId) -> bool {
        self.slots.get(&slot).is_some_and(|slot| {
            slot.state == ConnectionState::Leaving && slot.window.awaiting_ack() == 0
        })
    }

    /// `slot` has lost its connection.
    pub(super) fn down(&mut self, slot: SlotId) {
        if let Some(slot) = self.slots.get_mut(&slot) {
            slot.state = ConnectionState::Down(Instant::now());
        }
    }

    /// Why `slot` has no connection, for [`Self::view`].
    pub(super) fn note_trouble(&mut self, slot: SlotId, text: &str) {
        if let Some(slot) = self.slots.get_mut(&slot) {
            slot.connect_error = Some(text.to_owned());
        }
    }

    /// The next item to write over `slot`'s connection.
    pub(super) fn next(&mut self, slot: SlotId) -> Option<NextStanza<'_, T>> {
        let slot = self.slots.get_mut(&slot)?;
        if slot.state != ConnectionState::Up {
            return None;
        }
        let next = slot.window.next_to_write()?;
        let queued = next.item;
        Some(NextStanza {
            number: next.number,
            first_since: (next.is_first && queued.former.is_empty()).then_some(queued.queued_at),
            former: &queued.former,
            item: &queued.item,
        })
    }

    /// Takes out what the peer has settled.
    ///
    /// # Errors
    /// When nothing with that number was ever written.
    pub(super) fn acknowledge(&mut self, slot: SlotId, through: u64) -> Result<Vec<T>, WireError> {
        let Some(slot) = self.slots.get_mut(&slot) else {
            return Ok(Vec::new());
        };
        let entries = slot.window.acknowledge(through)?;
        Ok(release(&mut self.placements, entries))
    }

    /// Takes out the one with this number.
    pub(super) fn remove(&mut self, slot: SlotId, number: u64) -> Option<T> {
        let window = &mut self.slots.get_mut(&slot)?.window;
        let entries = window.extract(|entry| entry.number == Some(number));
        release(&mut self.placements, entries).pop()
    }

    /// Takes out what has waited for `max_wait`, in order within each slot.
    pub(super) fn expire(&mut self, max_wait: Duration) -> Vec<T> {
        let expired = self.slots.values_mut().flat_map(|slot| {
            let down_since = slot.down_since();
            slot.window.extract(|entry| {
                waits_since(entry, down_since).is_some_and(|since| since.elapsed() >= max_wait)
            })
        });
        release(&mut self.placements, expired)
    }

    /// Makes the slots follow `endpoints`, `per_endpoint` each; returns the
    /// new ones, to be dialled. `new_id` gives ids that were never used.
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

    /// How many slots have a connection that takes stanzas.
    pub(super) fn up_count(&self) -> usize {
        let up = |slot: &&ConnectionSlot<T>| slot.state == ConnectionState::Up;
        self.slots.values().filter(up).count()
    }

    /// Whether `slot` has one.
    pub(super) fn is_up(&self, slot: SlotId) -> bool {
        let slot = self.slots.get(&slot);
        slot.is_some_and(|slot| slot.state == ConnectionState::Up)
    }

    /// Whether no slot is left.
    pub(super) fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    /// How each slot does.
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

/// Ends the count of these as in flight.
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
