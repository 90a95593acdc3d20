//! What waits in a lane that does not deliver moves to lanes that do.
//!
//! A sender moves as a whole and in order, or not at all. If nothing of it
//! was written, that costs nothing, and is done as soon as its lane has no
//! connection that takes stanzas. What was written may have been taken there:
//! sent again elsewhere, it can come twice. So it waits for its lane, but only
//! for a while, and not at all when nobody announces the lane's endpoint any more.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::time::Duration;

use super::{Held, Lane, LaneId, Pool, SenderKey};
use crate::link::book::Entry;

impl<T> Pool<T> {
    /// Moves what can be moved; returns the lanes that have more to write now.
    /// They may hold more than `queue_bytes` then: what was admitted stays.
    pub(in crate::link) fn relocate(&mut self) -> BTreeSet<LaneId> {
        let takes_new = self.lanes.iter().filter(|(_, lane)| lane.takes_new());
        let targets: Vec<LaneId> = takes_new.map(|(id, _)| *id).collect();
        let Some(any) = targets.first() else {
            return BTreeSet::new();
        };
        let idle = |lane: &&mut Lane<T>| !lane.takes_new();
        let mut moving = Vec::new();
        for lane in self.lanes.values_mut().filter(idle) {
            let down_since = lane.down_since();
            let given_up = down_since.is_some()
                && (!lane.enabled || lane.book.longest_wait(down_since) >= Some(self.patience));
            moving.extend(if given_up {
                lane.book.take_all(down_since)
            } else {
                take_unwritten(lane)
            });
        }
        let mut chosen = HashMap::new();
        for entry in moving {
            let sender = entry.item.sender;
            let choose = || sender.prefers(targets.iter().copied()).unwrap_or(*any);
            let target = *chosen.entry(sender).or_insert_with(choose);
            if let Some(place) = self.placements.get_mut(&sender) {
                place.lane = target;
            }
            if let Some(lane) = self.lanes.get_mut(&target) {
                lane.book.requeue(entry);
            }
        }
        chosen.into_values().collect()
    }

    /// Takes out what waits in disabled lanes without a connection, for as
    /// long as `patience`, with no other lane to move to: in order within each lane.
    pub(in crate::link) fn strand(&mut self, patience: Duration) -> Vec<T> {
        let mut stranded = Vec::new();
        for lane in self.lanes.values_mut().filter(|lane| !lane.enabled) {
            let down_since = lane.down_since();
            if down_since.is_some() && lane.book.longest_wait(down_since) >= Some(patience) {
                stranded.extend(lane.book.take_all(down_since));
            }
        }
        self.release(stranded)
    }
}

/// The stanzas of all senders of whom nothing was written in `lane`.
fn take_unwritten<T>(lane: &mut Lane<T>) -> Vec<Entry<Held<T>>> {
    let written: HashSet<SenderKey> = lane.book.written().map(|held| held.sender).collect();
    lane.book.take(|held| !written.contains(&held.sender))
}
