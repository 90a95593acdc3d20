//! What has come over each lane of each peer, across its connections.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Mutex as Turn, Notify, OwnedMutexGuard, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::callers::{Callers, Heard, Stay};
use super::ledger::{Ledger, Verdict};
use super::sightings::{Sightings, Sign};
use crate::envelope::{Receipt, Settle};
use crate::host::Host;

/// How long a lane without a connection is remembered. A sender that is back
/// later sends again what it has no ack for, and some of it may come twice.
const FORGET_AFTER: Duration = Duration::from_secs(600);

/// So many lanes of one host are remembered: far more than its nodes have
/// connections. Without a limit its numbering new ones would fill the memory.
const LANES_PER_HOST: usize = 16_384;

/// What has been taken from each lane of each peer. All [`Listener`]s of a
/// node share one, so that a lane that reconnects to another of them is known.
///
/// [`Listener`]: super::Listener
#[derive(Debug, Default)]
pub struct Lanes {
    known: Mutex<HashMap<LaneKey, Arc<IncomingLane>>>,
    sightings: Arc<Sightings>,
    callers: Callers,
}

/// Which lane, of which process.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct LaneKey {
    pub(super) host: Host,
    pub(super) node: String,
    pub(super) epoch: u64,
    pub(super) lane: u32,
}

/// A host has more lanes than are remembered of one.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "its host has {LANES_PER_HOST} connections here already, or had them until a few minutes ago"
)]
pub(super) struct TooMany;

impl Lanes {
    /// Follows whose connections there are.
    #[must_use]
    pub fn heard(&self) -> watch::Receiver<Heard> {
        self.callers.heard()
    }

    /// Takes a connection's seat on its lane: the one before it is told to
    /// leave, and has finished with its last stanza when this returns.
    ///
    /// # Errors
    /// When it is a new lane, and its host has too many already.
    pub(super) async fn take_seat(&self, key: LaneKey) -> Result<Seat, TooMany> {
        let lane = self.find(key.clone())?;
        let stay = self.callers.enter(key.host, key.node, key.epoch);
        let replaced = CancellationToken::new();
        let before = std::mem::replace(&mut lane.lock().occupant, replaced.clone());
        before.cancel();
        let turn = Arc::clone(&lane.turn).lock_owned().await;
        let mut state = lane.lock();
        state.vacant_since = None;
        let resume_after = state.ledger.resume();
        drop(state);
        Ok(Seat {
            lane,
            sightings: Arc::clone(&self.sightings),
            replaced,
            resume_after,
            _turn: turn,
            _stay: stay,
        })
    }

    /// Completes when no connection has a seat: all peers have left, and what
    /// they sent is settled or was dropped.
    pub async fn vacated(&self) {
        let mut heard = self.heard();
        // The sender is our own.
        let _ = heard.wait_for(Heard::is_empty).await;
    }

    /// The lane, old or new. Forgets those that nobody will ask for again.
    fn find(&self, key: LaneKey) -> Result<Arc<IncomingLane>, TooMany> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.retain(|other, lane| {
            let restarted =
                other.host == key.host && other.node == key.node && other.epoch != key.epoch;
            lane.lock()
                .vacant_since
                .is_none_or(|since| !restarted && since.elapsed() < FORGET_AFTER)
        });
        if let Some(lane) = known.get(&key) {
            return Ok(Arc::clone(lane));
        }
        if known.keys().filter(|other| other.host == key.host).count() >= LANES_PER_HOST {
            return Err(TooMany);
        }
        Ok(Arc::clone(known.entry(key).or_default()))
    }
}

/// A lane, seen by the receiver.
#[derive(Debug, Default)]
pub(super) struct IncomingLane {
    state: Mutex<State>,
    /// Who holds it takes stanzas from the lane: one connection at a time,
    /// or they would get out of order.
    turn: Arc<Turn<()>>,
    changed: Notify,
}

#[derive(Debug)]
struct State {
    ledger: Ledger,
    /// Cancelled when another connection of the lane takes over.
    occupant: CancellationToken,
    vacant_since: Option<Instant>,
}

impl Default for State {
    fn default() -> Self {
        Self {
            ledger: Ledger::default(),
            occupant: CancellationToken::new(),
            vacant_since: Some(Instant::now()),
        }
    }
}

impl IncomingLane {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The right of one connection to take stanzas from a lane, until dropped.
#[derive(Debug)]
pub(super) struct Seat {
    lane: Arc<IncomingLane>,
    sightings: Arc<Sightings>,
    replaced: CancellationToken,
    /// What the sender need not send again.
    pub(super) resume_after: u64,
    _turn: OwnedMutexGuard<()>,
    /// For as long as it has a connection, its process is heard.
    _stay: Stay,
}

impl Seat {
    /// Completes when a newer connection of the lane wants the seat.
    pub(super) async fn replaced(&self) {
        self.replaced.cancelled().await;
    }

    /// Notes that a stanza has come. `None` if it had come before, over this
    /// lane or another; else the receipt that settles it.
    pub(super) fn take(&self, number: u64, sign: Sign) -> Option<Receipt> {
        let verdict = self.lane.lock().ledger.take(number);
        if verdict == Verdict::Duplicate {
            return None;
        }
        let receipt = |first| {
            let slip = Slip {
                lane: Arc::clone(&self.lane),
                number,
                first,
                settled: AtomicBool::new(false),
            };
            Receipt::new(Arc::new(slip), number)
        };
        let first = (Arc::clone(&self.sightings), sign);
        let is_first = self.sightings.is_first(sign, || receipt(None));
        is_first.then(|| receipt(Some(first)))
    }

    /// All up to this number is settled.
    pub(super) fn settled_through(&self) -> u64 {
        self.lane.lock().ledger.settled_through()
    }

    /// Whether a stanza was dropped here unsettled, so that the sender must
    /// be made to send it again: it does on a new connection.
    pub(super) fn has_abandoned(&self) -> bool {
        self.lane.lock().ledger.has_abandoned()
    }

    /// Completes when one of the two above may have changed.
    pub(super) async fn changed(&self) {
        self.lane.changed.notified().await;
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.lane.lock().vacant_since = Some(Instant::now());
    }
}

/// Turns one stanza's receipt into the lane's ack; or, dropped unsettled,
/// into a demand to send it again.
struct Slip {
    lane: Arc<IncomingLane>,
    number: u64,
    /// Set if no other lane had brought it before.
    first: Option<(Arc<Sightings>, Sign)>,
    settled: AtomicBool,
}

impl Settle for Slip {
    fn settled(&self, number: u64) {
        self.settled.store(true, Ordering::Relaxed);
        self.lane.lock().ledger.settle(number);
        self.lane.changed.notify_one();
        if let Some((sightings, sign)) = &self.first {
            sightings.settle(*sign);
        }
    }
}

impl Drop for Slip {
    fn drop(&mut self) {
        if self.settled.load(Ordering::Relaxed) {
            return;
        }
        // First of all, or it would be taken for seen when it comes again.
        if let Some((sightings, sign)) = &self.first {
            sightings.forget(*sign);
        }
        self.lane.lock().ledger.abandon(self.number);
        self.lane.changed.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(epoch: u64, lane: u32) -> LaneKey {
        LaneKey {
            host: Host::new("dc1.test").unwrap(),
            node: "a".to_owned(),
            epoch,
            lane,
        }
    }

    fn sign(id: u64) -> Sign {
        Sign::of(id, 3, b"<message/>")
    }

    #[tokio::test]
    async fn vacated_when_the_last_has_left() {
        let lanes = Lanes::default();
        lanes.vacated().await;
        let one = lanes.take_seat(key(1, 1)).await.unwrap();
        let other = lanes.take_seat(key(1, 2)).await.unwrap();
        let vacated = lanes.vacated();
        tokio::pin!(vacated);
        for seat in [one, other] {
            assert!(futures::poll!(&mut vacated).is_pending());
            drop(seat);
        }
        vacated.await;
    }

    #[tokio::test]
    async fn what_another_lane_brought_is_settled_with_it() {
        let lanes = Lanes::default();
        let one = lanes.take_seat(key(1, 1)).await.unwrap();
        let other = lanes.take_seat(key(1, 2)).await.unwrap();
        let mut receipt = one.take(1, sign(7)).unwrap();
        assert!(other.take(1, sign(7)).is_none());
        assert_eq!(other.settled_through(), 0, "not before the first is");
        receipt.settle();
        assert_eq!((one.settled_through(), other.settled_through()), (1, 1));
        assert!(other.take(2, sign(7)).is_none());
        assert_eq!(other.settled_through(), 2, "at once, later");
    }

    #[tokio::test]
    async fn what_was_dropped_is_asked_for_over_every_lane_that_brought_it() {
        let lanes = Lanes::default();
        let one = lanes.take_seat(key(1, 1)).await.unwrap();
        let other = lanes.take_seat(key(1, 2)).await.unwrap();
        let receipt = one.take(1, sign(7)).unwrap();
        assert!(other.take(1, sign(7)).is_none());
        drop(receipt);
        assert!(one.has_abandoned() && other.has_abandoned());
        drop(other);
        let other = lanes.take_seat(key(1, 2)).await.unwrap();
        assert!(other.take(1, sign(7)).is_some());
    }

    #[tokio::test]
    async fn a_new_connection_goes_on_where_the_old_one_was() {
        let lanes = Lanes::default();
        let seat = lanes.take_seat(key(1, 1)).await.unwrap();
        let mut first = seat.take(1, sign(1)).unwrap();
        let _second = seat.take(2, sign(2)).unwrap();
        assert_eq!(seat.settled_through(), 0);
        first.settle();
        assert_eq!(seat.settled_through(), 1);
        drop(seat);
        let seat = lanes.take_seat(key(1, 1)).await.unwrap();
        assert_eq!(seat.resume_after, 2);
        assert!(seat.take(2, sign(2)).is_none());
        let other = lanes.take_seat(key(1, 2)).await.unwrap();
        assert_eq!(other.resume_after, 0, "lanes count on their own");
    }

    #[tokio::test]
    async fn only_one_connection_takes_from_a_lane() {
        let lanes = Arc::new(Lanes::default());
        let old = lanes.take_seat(key(1, 1)).await.unwrap();
        let new = tokio::spawn({
            let lanes = Arc::clone(&lanes);
            async move { lanes.take_seat(key(1, 1)).await.unwrap().resume_after }
        });
        old.replaced().await;
        assert!(!new.is_finished());
        // What the old one is just taking counts for the new one.
        let _receipt = old.take(1, sign(1)).unwrap();
        drop(old);
        assert_eq!(new.await.unwrap(), 1);
    }

    #[tokio::test]
    async fn a_dropped_receipt_asks_for_the_stanza_again() {
        let lanes = Lanes::default();
        let seat = lanes.take_seat(key(1, 1)).await.unwrap();
        drop(seat.take(1, sign(1)).unwrap());
        seat.changed().await;
        assert!(seat.has_abandoned());
        drop(seat);
        let seat = lanes.take_seat(key(1, 1)).await.unwrap();
        assert_eq!(seat.resume_after, 0);
        seat.take(1, sign(1)).unwrap().settle();
        assert_eq!(seat.settled_through(), 1);
    }

    #[tokio::test]
    async fn one_host_has_only_so_many_lanes_and_takes_none_from_others() {
        let lanes = Lanes::default();
        let most = u32::try_from(LANES_PER_HOST).unwrap();
        {
            let mut known = lanes.known.lock().unwrap();
            known.extend((1..most).map(|lane| (key(1, lane), Arc::default())));
        }
        let last = lanes.take_seat(key(1, most)).await.unwrap();
        assert_eq!(lanes.take_seat(key(1, most + 1)).await.err(), Some(TooMany));
        drop(last);
        lanes.take_seat(key(1, most)).await.expect("known before");
        let other = LaneKey {
            host: Host::new("dc3.test").unwrap(),
            ..key(1, 1)
        };
        lanes.take_seat(other).await.expect("another host's");
    }

    #[tokio::test(start_paused = true)]
    async fn lanes_are_forgotten_after_a_restart_or_a_long_time() {
        let lanes = Lanes::default();
        let count = || lanes.known.lock().unwrap().len();
        drop(lanes.take_seat(key(1, 1)).await.unwrap());
        let live = lanes.take_seat(key(1, 2)).await.unwrap();
        assert_eq!(count(), 2);
        drop(lanes.take_seat(key(2, 1)).await.unwrap());
        assert_eq!(
            count(),
            2,
            "the vacant lane of the old epoch is gone, the live one not"
        );
        drop(live);
        tokio::time::advance(FORGET_AFTER).await;
        drop(lanes.take_seat(key(3, 1)).await.unwrap());
        assert_eq!(count(), 1);
    }
}
