//! Which stanzas have come lately, over whichever slot: one that its sender
//! moved to another slot may have come over the first one already.

use std::collections::{HashMap, HashSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::mem;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::envelope::Receipt;

/// A settled stanza is remembered for this long, and up to twice as long.
const REMEMBER: Duration = Duration::from_secs(60);

/// Or, at high rates, until so many others are settled: some 10 MB.
const MOST: usize = 1 << 18;

/// What is the same when a stanza is sent again over another slot, and
/// differs when it comes back on a longer way, or is another with the same id:
/// several answers to one stanza have its id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Sign {
    id: u64,
    rest: u64,
}

impl Sign {
    /// Of the stanza with that envelope id, ttl and bytes.
    pub(super) fn of(id: u64, ttl: u32, stanza: &[u8]) -> Self {
        let mut hasher = DefaultHasher::new();
        (ttl, stanza).hash(&mut hasher);
        Self {
            id,
            rest: hasher.finish(),
        }
    }
}

/// The stanzas that came lately to this node.
#[derive(Debug, Default)]
pub(super) struct Sightings(Mutex<State>);

#[derive(Debug)]
struct State {
    /// Not settled yet; and the duties to tell those who sent it again.
    open: HashMap<Sign, Vec<Receipt>>,
    settled: HashSet<Sign>,
    settled_before: HashSet<Sign>,
    turned_at: Instant,
}

impl Default for State {
    fn default() -> Self {
        Self {
            open: HashMap::new(),
            settled: HashSet::new(),
            settled_before: HashSet::new(),
            turned_at: Instant::now(),
        }
    }
}

impl Sightings {
    /// Notes that a stanza has come. Whether it is the first time; if not,
    /// `receipt` is settled when that one is.
    pub(super) fn is_first(&self, sign: Sign, receipt: impl FnOnce() -> Receipt) -> bool {
        let mut state = self.lock();
        if state.settled.contains(&sign) || state.settled_before.contains(&sign) {
            drop(state);
            receipt().settle();
            return false;
        }
        if let Some(waiting) = state.open.get_mut(&sign) {
            waiting.push(receipt());
            return false;
        }
        state.open.insert(sign, Vec::new());
        true
    }

    /// The one that came first is settled.
    pub(super) fn settle(&self, sign: Sign) {
        let mut state = self.lock();
        let waiting = state.open.remove(&sign).unwrap_or_default();
        if state.settled.len() >= MOST || state.turned_at.elapsed() >= REMEMBER {
            state.settled_before = mem::take(&mut state.settled);
            state.turned_at = Instant::now();
        }
        state.settled.insert(sign);
        drop(state);
        for mut receipt in waiting {
            receipt.settle();
        }
    }

    /// The one that came first was dropped before it had its fate: the next
    /// to come is the first again, and those that came meanwhile are asked for.
    pub(super) fn forget(&self, sign: Sign) {
        let waiting = self.lock().open.remove(&sign);
        drop(waiting);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sign(id: u64) -> Sign {
        Sign::of(id, 3, b"<message/>")
    }

    fn come(sightings: &Sightings, sign: Sign) -> bool {
        sightings.is_first(sign, Receipt::none)
    }

    #[test]
    fn another_way_or_another_answer_is_another_stanza() {
        let sightings = Sightings::default();
        for other in [
            sign(1),
            sign(2),
            Sign::of(1, 2, b"<message/>"),
            Sign::of(1, 3, b"<iq/>"),
        ] {
            assert!(come(&sightings, other));
        }
        assert!(!come(&sightings, sign(1)));
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_settled_is_remembered_for_a_minute_at_least_and_two_at_most() {
        let sightings = Sightings::default();
        tokio::time::advance(REMEMBER / 2).await;
        assert!(come(&sightings, sign(1)));
        sightings.settle(sign(1));
        for _ in 0..2 {
            tokio::time::advance(REMEMBER / 2).await;
            sightings.settle(sign(9));
            assert!(!come(&sightings, sign(1)));
        }
        tokio::time::advance(REMEMBER).await;
        sightings.settle(sign(9));
        assert!(come(&sightings, sign(1)));
    }

    #[test]
    fn only_so_many_are_remembered() {
        let sightings = Sightings::default();
        let most = u64::try_from(MOST).unwrap();
        (0..3 * most).for_each(|id| sightings.settle(sign(id)));
        assert!(come(&sightings, sign(0)));
        let state = sightings.lock();
        assert!(state.settled.len() + state.settled_before.len() <= 2 * MOST);
    }

    #[test]
    fn what_was_dropped_may_come_again() {
        let sightings = Sightings::default();
        assert!(come(&sightings, sign(1)));
        sightings.forget(sign(1));
        assert!(come(&sightings, sign(1)));
    }
}
