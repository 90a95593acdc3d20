//! The receive windows of each peer's slots, across their connections.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Mutex, MutexGuard};
use tokio::sync::{Mutex as Turn, Notify, OwnedMutexGuard, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::peer_connections::{ConnectedProcesses, ConnectionGuard, PeerConnections};
use super::unauthenticated::Unauthenticated;
use crate::delivery::{FormerFate, ReceiveWindow};
use crate::envelope::{FormerPlace, Receipt, Settle};
use crate::host::Host;

/// Time for which a slot without a connection is remembered. A sender that
/// reconnects later sends all unacknowledged stanzas again, and some of them may
/// arrive twice.
const FORGET_AFTER: Duration = Duration::from_secs(600);

/// Slots remembered per host: far more than its nodes have connections. Without a
/// limit, a host that numbers new slots for ever would fill the memory.
const SLOTS_PER_HOST: usize = 16_384;

/// The slots of all peers. All [`Listener`]s of a node share one instance, so that
/// a slot that reconnects to another listener is known.
///
/// [`Listener`]: super::Listener
#[derive(Debug, Default)]
pub struct IncomingSlots {
    known: KnownSlots,
    peer_connections: PeerConnections,
    unauthenticated: Unauthenticated,
}

type KnownSlots = Arc<Mutex<HashMap<SlotKey, Arc<IncomingSlot>>>>;

/// Identifies a slot and the process that numbered it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct SlotKey {
    pub(super) host: Host,
    pub(super) node: String,
    pub(super) epoch: u64,
    pub(super) slot: u32,
}

/// A host has more slots than are remembered per host.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "its host has {SLOTS_PER_HOST} connections here already, or had them until a few minutes ago"
)]
pub(super) struct TooMany;

impl IncomingSlots {
    /// Returns a receiver that follows which processes have connections.
    #[must_use]
    pub fn connected(&self) -> watch::Receiver<ConnectedProcesses> {
        self.peer_connections.connected()
    }

    /// The connections that have not come to a slot yet.
    pub(super) fn unauthenticated(&self) -> &Unauthenticated {
        &self.unauthenticated
    }

    /// Takes a connection's lease on its slot: the former connection is asked to
    /// leave, and has finished its last stanza when this returns.
    ///
    /// # Errors
    /// When the slot is new, and its host has too many already.
    pub(super) async fn lease(&self, key: SlotKey) -> Result<ConnectionLease, TooMany> {
        let slot = self.find(key.clone())?;
        let guard = self
            .peer_connections
            .enter(key.host.clone(), key.node.clone(), key.epoch);
        let replaced = CancellationToken::new();
        let before = std::mem::replace(&mut slot.lock().occupant, replaced.clone());
        before.cancel();
        let turn = Arc::clone(&slot.turn).lock_owned().await;
        let mut state = slot.lock();
        state.vacant_since = None;
        let resume_after = state.window.resume();
        drop(state);
        Ok(ConnectionLease {
            key,
            known: Arc::clone(&self.known),
            slot,
            replaced,
            resume_after,
            _turn: turn,
            _guard: guard,
        })
    }

    /// Completes when no connection has a lease: all peers have left, and their
    /// stanzas are settled or were dropped.
    pub async fn vacated(&self) {
        let mut heard = self.connected();
        // `self` owns the sender, so this cannot fail.
        let _ = heard.wait_for(ConnectedProcesses::is_empty).await;
    }

    /// Returns the slot, old or new, and removes expired ones.
    fn find(&self, key: SlotKey) -> Result<Arc<IncomingSlot>, TooMany> {
        let mut known = self.known.lock();
        known.retain(|other, slot| {
            let restarted =
                other.host == key.host && other.node == key.node && other.epoch != key.epoch;
            slot.lock()
                .vacant_since
                .is_none_or(|since| !restarted && since.elapsed() < FORGET_AFTER)
        });
        if let Some(slot) = known.get(&key) {
            return Ok(Arc::clone(slot));
        }
        if known.keys().filter(|other| other.host == key.host).count() >= SLOTS_PER_HOST {
            return Err(TooMany);
        }
        Ok(Arc::clone(known.entry(key).or_default()))
    }
}

/// The receiver's state of a slot.
#[derive(Debug, Default)]
pub(super) struct IncomingSlot {
    state: Mutex<IncomingState>,
    /// The lock's owner takes stanzas from the slot: one connection at a time, or
    /// the stanzas would get out of order.
    turn: Arc<Turn<()>>,
    changed: Notify,
}

#[derive(Debug)]
struct IncomingState {
    window: ReceiveWindow,
    /// Cancelled when another connection of the slot takes over.
    occupant: CancellationToken,
    vacant_since: Option<Instant>,
    /// Receipts of stanzas that came again over other slots, by the number that is
    /// to be settled first.
    followers: HashMap<u64, Vec<Receipt>>,
}

impl Default for IncomingState {
    fn default() -> Self {
        Self {
            window: ReceiveWindow::default(),
            occupant: CancellationToken::new(),
            vacant_since: Some(Instant::now()),
            followers: HashMap::new(),
        }
    }
}

impl IncomingState {
    fn take_followers(&mut self, number: u64) -> Vec<Receipt> {
        if self.followers.is_empty() {
            return Vec::new();
        }
        self.followers.remove(&number).unwrap_or_default()
    }
}

impl IncomingSlot {
    fn lock(&self) -> MutexGuard<'_, IncomingState> {
        self.state.lock()
    }
}

/// The right of one connection to take stanzas from a slot, until dropped.
#[derive(Debug)]
pub(super) struct ConnectionLease {
    key: SlotKey,
    known: KnownSlots,
    slot: Arc<IncomingSlot>,
    replaced: CancellationToken,
    /// The sender need not send stanzas up to this number again.
    pub(super) resume_after: u64,
    _turn: OwnedMutexGuard<()>,
    /// Counts the process as connected for as long as the lease lasts.
    _guard: ConnectionGuard,
}

impl ConnectionLease {
    /// Completes when a newer connection of the slot wants the lease.
    pub(super) async fn replaced(&self) {
        self.replaced.cancelled().await;
    }

    /// Records that a stanza has come. `None` if it was taken before, here or at
    /// one of its `former` places; else the receipt that settles it.
    pub(super) fn take(&self, number: u64, former: &[FormerPlace]) -> Option<Receipt> {
        if !self.slot.lock().window.take(number) {
            return None;
        }
        let receipt = Receipt::new(Arc::clone(&self.slot) as _, number);
        if former.is_empty() {
            return Some(receipt);
        }
        self.claim(former, receipt)
    }

    /// Claims a stanza at the slots that it was moved from. Returns the receipt if
    /// the stanza was taken at none of these places; else the receipt is settled as
    /// soon as the earlier copy is.
    fn claim(&self, former: &[FormerPlace], mut receipt: Receipt) -> Option<Receipt> {
        for place in former {
            let key = SlotKey {
                slot: place.slot,
                ..self.key.clone()
            };
            let known = self.known.lock();
            let Some(slot) = known.get(&key).map(Arc::clone) else {
                continue;
            };
            drop(known);
            let mut state = slot.lock();
            match state.window.claim(place.number) {
                FormerFate::NotTaken => {}
                FormerFate::Open => {
                    let followers = state.followers.entry(place.number).or_default();
                    followers.push(receipt);
                    return None;
                }
                FormerFate::Settled => {
                    drop(state);
                    receipt.settle();
                    return None;
                }
            }
        }
        Some(receipt)
    }

    pub(super) fn settled_through(&self) -> u64 {
        self.slot.lock().window.settled_through()
    }

    /// Returns whether a stanza was dropped here unsettled, so that the sender must
    /// send it again: it does so on a new connection.
    pub(super) fn has_abandoned(&self) -> bool {
        self.slot.lock().window.has_abandoned()
    }

    /// Completes when `settled_through` or `has_abandoned` may have changed.
    pub(super) async fn changed(&self) {
        self.slot.changed.notified().await;
    }
}

impl Drop for ConnectionLease {
    fn drop(&mut self) {
        self.slot.lock().vacant_since = Some(Instant::now());
    }
}

/// A stanza's receipt becomes part of the slot's ack.
impl Settle for IncomingSlot {
    fn settled(&self, number: u64) {
        let mut state = self.lock();
        state.window.settle(number);
        let followers = state.take_followers(number);
        drop(state);
        self.changed.notify_one();
        for mut receipt in followers {
            receipt.settle();
        }
    }

    fn abandoned(&self, number: u64) {
        let mut state = self.lock();
        state.window.abandon(number);
        let followers = state.take_followers(number);
        drop(state);
        self.changed.notify_one();
        // No lock is held: the dropped receipts abandon their own numbers.
        drop(followers);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(epoch: u64, slot: u32) -> SlotKey {
        SlotKey {
            host: Host::new("dc1.test").unwrap(),
            node: "a".to_owned(),
            epoch,
            slot,
        }
    }

    #[tokio::test]
    async fn vacated_when_the_last_has_left() {
        let slots = IncomingSlots::default();
        slots.vacated().await;
        let one = slots.lease(key(1, 1)).await.unwrap();
        let other = slots.lease(key(1, 2)).await.unwrap();
        let vacated = slots.vacated();
        tokio::pin!(vacated);
        for lease in [one, other] {
            assert!(futures::poll!(&mut vacated).is_pending());
            drop(lease);
        }
        vacated.await;
    }

    const AT_ONE: FormerPlace = FormerPlace { slot: 1, number: 1 };

    #[tokio::test]
    async fn a_stanza_that_moved_is_settled_with_the_one_at_its_former_place() {
        let slots = IncomingSlots::default();
        let one = slots.lease(key(1, 1)).await.unwrap();
        let other = slots.lease(key(1, 2)).await.unwrap();
        let mut receipt = one.take(1, &[]).unwrap();
        assert!(other.take(1, &[AT_ONE]).is_none());
        assert_eq!(other.settled_through(), 0, "not before the first is");
        receipt.settle();
        assert_eq!((one.settled_through(), other.settled_through()), (1, 1));
        assert!(other.take(2, &[AT_ONE]).is_none());
        assert_eq!(other.settled_through(), 2, "at once, later");
        assert!(other.take(3, &[]).is_some(), "a place of its own");
    }

    #[tokio::test]
    async fn a_stanza_that_moved_away_and_back_is_taken_once() {
        let slots = IncomingSlots::default();
        let one = slots.lease(key(1, 1)).await.unwrap();
        let mut receipt = one.take(1, &[]).unwrap();
        let on_two = FormerPlace { slot: 2, number: 1 };
        assert!(one.take(2, &[AT_ONE, on_two]).is_none());
        receipt.settle();
        assert_eq!(one.settled_through(), 2);
    }

    #[tokio::test]
    async fn a_dropped_stanza_is_asked_for_over_every_slot_that_brought_it() {
        let slots = IncomingSlots::default();
        let one = slots.lease(key(1, 1)).await.unwrap();
        let other = slots.lease(key(1, 2)).await.unwrap();
        let receipt = one.take(1, &[]).unwrap();
        assert!(other.take(1, &[AT_ONE]).is_none());
        drop(receipt);
        assert!(one.has_abandoned() && other.has_abandoned());
        drop(other);
        let other = slots.lease(key(1, 2)).await.unwrap();
        assert!(other.take(1, &[AT_ONE]).is_some());
        assert!(!one.has_abandoned(), "it belongs to the other slot now");
    }

    #[tokio::test]
    async fn bytes_still_on_the_former_connection_bring_nothing_twice() {
        let slots = IncomingSlots::default();
        let one = slots.lease(key(1, 1)).await.unwrap();
        let other = slots.lease(key(1, 2)).await.unwrap();
        let _receipt = other.take(1, &[AT_ONE]).unwrap();
        assert!(one.take(1, &[]).is_none());
        let another = slots.lease(key(2, 2)).await.unwrap();
        assert!(
            another.take(1, &[AT_ONE]).is_some(),
            "another process has places of its own"
        );
    }

    #[tokio::test]
    async fn a_new_connection_goes_on_where_the_old_one_was() {
        let slots = IncomingSlots::default();
        let lease = slots.lease(key(1, 1)).await.unwrap();
        let mut first = lease.take(1, &[]).unwrap();
        let _second = lease.take(2, &[]).unwrap();
        assert_eq!(lease.settled_through(), 0);
        first.settle();
        assert_eq!(lease.settled_through(), 1);
        drop(lease);
        let lease = slots.lease(key(1, 1)).await.unwrap();
        assert_eq!(lease.resume_after, 2);
        assert!(lease.take(2, &[]).is_none());
        let other = slots.lease(key(1, 2)).await.unwrap();
        assert_eq!(other.resume_after, 0, "slots count on their own");
    }

    #[tokio::test]
    async fn only_one_connection_takes_from_a_slot() {
        let slots = Arc::new(IncomingSlots::default());
        let old = slots.lease(key(1, 1)).await.unwrap();
        let new = tokio::spawn({
            let slots = Arc::clone(&slots);
            async move { slots.lease(key(1, 1)).await.unwrap().resume_after }
        });
        old.replaced().await;
        assert!(!new.is_finished());
        // A stanza that the old lease is just taking counts for the new lease.
        let _receipt = old.take(1, &[]).unwrap();
        drop(old);
        assert_eq!(new.await.unwrap(), 1);
    }

    #[tokio::test]
    async fn a_dropped_receipt_asks_for_the_stanza_again() {
        let slots = IncomingSlots::default();
        let lease = slots.lease(key(1, 1)).await.unwrap();
        drop(lease.take(1, &[]).unwrap());
        lease.changed().await;
        assert!(lease.has_abandoned());
        drop(lease);
        let lease = slots.lease(key(1, 1)).await.unwrap();
        assert_eq!(lease.resume_after, 0);
        lease.take(1, &[]).unwrap().settle();
        assert_eq!(lease.settled_through(), 1);
    }

    #[tokio::test]
    async fn one_host_has_only_so_many_slot_and_takes_none_from_others() {
        let slots = IncomingSlots::default();
        let most = u32::try_from(SLOTS_PER_HOST).unwrap();
        {
            let mut known = slots.known.lock();
            known.extend((1..most).map(|slot| (key(1, slot), Arc::default())));
        }
        let last = slots.lease(key(1, most)).await.unwrap();
        assert_eq!(slots.lease(key(1, most + 1)).await.err(), Some(TooMany));
        drop(last);
        slots.lease(key(1, most)).await.expect("known before");
        let other = SlotKey {
            host: Host::new("dc3.test").unwrap(),
            ..key(1, 1)
        };
        slots.lease(other).await.expect("another host's");
    }

    #[tokio::test(start_paused = true)]
    async fn slot_are_forgotten_after_a_restart_or_a_long_time() {
        let slots = IncomingSlots::default();
        let count = || slots.known.lock().len();
        drop(slots.lease(key(1, 1)).await.unwrap());
        let live = slots.lease(key(1, 2)).await.unwrap();
        assert_eq!(count(), 2);
        drop(slots.lease(key(2, 1)).await.unwrap());
        assert_eq!(
            count(),
            2,
            "the vacant slot of the old epoch is gone, the live one not"
        );
        drop(live);
        tokio::time::advance(FORGET_AFTER).await;
        drop(slots.lease(key(3, 1)).await.unwrap());
        assert_eq!(count(), 1);
    }
}
