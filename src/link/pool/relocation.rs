//! Moves stanzas from slots that do not deliver to slots that do.
//!
//! A sender moves as a whole and in order, or not at all. If none of its stanzas
//! was written, the move costs nothing, and is done as soon as the sender's slot
//! has no connection that takes stanzas. A written stanza may have been taken by
//! the peer: sent again over another slot, it can arrive twice. So a written stanza
//! waits for its slot, but only for a limited time, and not at all when the slot's
//! endpoint is no longer announced.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::time::Duration;

use super::{ConnectionSlot, Movable, Pool, QueuedItem, SenderKey, SlotId, release};
use crate::delivery::Unacknowledged;

impl<T: Movable> Pool<T> {
    /// Moves all stanzas that can move; returns the slots that have more to write
    /// now. These slots may hold more than `queue_bytes` then: a stanza that was
    /// admitted stays.
    pub(in crate::link) fn relocate(&mut self) -> BTreeSet<SlotId> {
        let takes_new = self.slots.iter().filter(|(_, slot)| slot.takes_new());
        let targets: Vec<SlotId> = takes_new.map(|(id, _)| *id).collect();
        let Some(any) = targets.first() else {
            return BTreeSet::new();
        };
        let mut moving = Vec::new();
        for (id, slot) in self.slots.iter_mut().filter(|(_, slot)| !slot.takes_new()) {
            let given_up =
                slot.down_since().is_some() && (!slot.enabled || slot.has_waited(self.patience));
            moving.extend(if given_up {
                slot.take_all(*id)
            } else {
                take_unwritten(slot)
            });
        }
        let mut chosen = HashMap::new();
        for entry in moving {
            let sender = entry.item.sender;
            let choose = || sender.prefers(targets.iter().copied()).unwrap_or(*any);
            let target = *chosen.entry(sender).or_insert_with(choose);
            if let Some(place) = self.placements.get_mut(&sender) {
                place.slot = target;
            }
            if let Some(slot) = self.slots.get_mut(&target) {
                slot.window.push(entry.item, entry.size);
            }
        }
        chosen.into_values().collect()
    }

    /// Takes out the stanzas of disabled slots without a connection, once they have
    /// waited for `patience` and can move to no other slot: in order within each
    /// slot.
    pub(in crate::link) fn strand(&mut self, patience: Duration) -> Vec<T> {
        let mut stranded = Vec::new();
        for (id, slot) in self.slots.iter_mut().filter(|(_, slot)| !slot.enabled) {
            if slot.has_waited(patience) {
                stranded.extend(slot.take_all(*id));
            }
        }
        release(&mut self.placements, stranded)
    }
}

/// Takes out the stanzas of all senders that have no written stanza in `slot`.
fn take_unwritten<T>(slot: &mut ConnectionSlot<T>) -> Vec<Unacknowledged<QueuedItem<T>>> {
    let window = &mut slot.window;
    let written = window.iter().filter(|entry| entry.number.is_some());
    let written: HashSet<SenderKey> = written.map(|entry| entry.item.sender).collect();
    window.extract(|entry| !written.contains(&entry.item.sender))
}
