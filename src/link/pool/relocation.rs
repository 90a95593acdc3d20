//! What waits in a slot that does not deliver moves to slots that do.
//!
//! A sender moves as a whole and in order, or not at all. If nothing of it
//! was written, that costs nothing, and is done as soon as its slot has no
//! connection that takes stanzas. What was written may have been taken there:
//! sent again elsewhere, it can come twice. So it waits for its slot, but only
//! for a while, and not at all when nobody announces the slot's endpoint any more.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::time::Duration;

use super::{ConnectionSlot, Pool, QueuedItem, SenderKey, SlotId};
use crate::delivery::Unacknowledged;

impl<T> Pool<T> {
    /// Moves what can be moved; returns the slots that have more to write now.
    /// They may hold more than `queue_bytes` then: what was admitted stays.
    pub(in crate::link) fn relocate(&mut self) -> BTreeSet<SlotId> {
        let takes_new = self.slots.iter().filter(|(_, slot)| slot.takes_new());
        let targets: Vec<SlotId> = takes_new.map(|(id, _)| *id).collect();
        let Some(any) = targets.first() else {
            return BTreeSet::new();
        };
        let idle = |slot: &&mut ConnectionSlot<T>| !slot.takes_new();
        let mut relocation = Vec::new();
        for slot in self.slots.values_mut().filter(idle) {
            let down_since = slot.down_since();
            let given_up = down_since.is_some()
                && (!slot.enabled || slot.window.longest_wait(down_since) >= Some(self.patience));
            relocation.extend(if given_up {
                slot.window.take_all(down_since)
            } else {
                take_unwritten(slot)
            });
        }
        let mut chosen = HashMap::new();
        for entry in relocation {
            let sender = entry.item.sender;
            let choose = || sender.prefers(targets.iter().copied()).unwrap_or(*any);
            let target = *chosen.entry(sender).or_insert_with(choose);
            if let Some(place) = self.placements.get_mut(&sender) {
                place.slot = target;
            }
            if let Some(slot) = self.slots.get_mut(&target) {
                slot.window.requeue(entry);
            }
        }
        chosen.into_values().collect()
    }

    /// Takes out what waits in disabled slots without a connection, for as
    /// long as `patience`, with no other slot to move to: in order within each slot.
    pub(in crate::link) fn strand(&mut self, patience: Duration) -> Vec<T> {
        let mut stranded = Vec::new();
        for slot in self.slots.values_mut().filter(|slot| !slot.enabled) {
            let down_since = slot.down_since();
            if down_since.is_some() && slot.window.longest_wait(down_since) >= Some(patience) {
                stranded.extend(slot.window.take_all(down_since));
            }
        }
        self.release(stranded)
    }
}

/// The stanzas of all senders of whom nothing was written in `slot`.
fn take_unwritten<T>(slot: &mut ConnectionSlot<T>) -> Vec<Unacknowledged<QueuedItem<T>>> {
    let written: HashSet<SenderKey> = slot.window.written().map(|held| held.sender).collect();
    slot.window.take(|held| !written.contains(&held.sender))
}
