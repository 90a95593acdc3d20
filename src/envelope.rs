//! A stanza in transit, with the header that the gateways add to it.

use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::{Instant, SystemTime};

use async_trait::async_trait;

use crate::host::Host;
use crate::stanza::Stanza;

/// A stanza (under global addresses) plus the gateways' own header.
#[derive(Debug)]
pub struct Envelope {
    /// The id is the same in every log line of every gateway that the stanza
    /// passes; an answer or an error reply has an id of its own.
    pub id: EnvelopeId,
    /// The host whose gateway took the stanza from its server.
    pub origin: Host,
    /// The way by which the stanza came to this gateway.
    pub arrival: Arrival,
    /// The stanza may be forwarded this many more times.
    pub ttl: u32,
    /// The number of times each host has bounced it, in the order of their first bounce.
    pub retries: Vec<(Host, u32)>,
    /// Set on one of several copies of a stanza: the host that the copy is for (our
    /// host, if it came over a link). A copy is never copied again.
    pub copy_for: Option<Host>,
    /// The time at which this gateway took the stanza in.
    pub taken_at: Instant,
    /// The time at which the gateway before this one wrote the stanza to the link;
    /// the time at which it was taken in, if it came over no link.
    pub sent_at: SystemTime,
    /// The stanza, `from` and `to` under global addresses.
    pub stanza: Stanza,
    /// The places where this process wrote the stanza to connections before, oldest first.
    pub former: Vec<FormerPlace>,
    /// Notifies the sending side when the stanza is settled.
    pub receipt: Receipt,
}

impl Envelope {
    /// Creates an envelope for a stanza that starts at this gateway.
    #[must_use]
    pub fn new(origin: Host, arrival: Arrival, ttl: u32, stanza: Stanza) -> Self {
        Self {
            id: EnvelopeId::next(),
            origin,
            arrival,
            ttl,
            retries: Vec::new(),
            copy_for: None,
            taken_at: Instant::now(),
            sent_at: SystemTime::now(),
            stanza,
            former: Vec::new(),
            receipt: Receipt::none(),
        }
    }

    /// Copies the envelope for one more of several hosts; nothing upstream waits for this copy.
    #[must_use]
    pub fn copy(&self) -> Self {
        Self {
            id: self.id,
            origin: self.origin.clone(),
            arrival: self.arrival.clone(),
            ttl: self.ttl,
            retries: self.retries.clone(),
            copy_for: self.copy_for.clone(),
            taken_at: self.taken_at,
            sent_at: self.sent_at,
            stanza: self.stanza.clone(),
            former: Vec::new(),
            receipt: Receipt::none(),
        }
    }

    /// Returns how often `host` has bounced this envelope.
    #[must_use]
    pub fn retries_at(&self, host: &Host) -> u32 {
        self.retries
            .iter()
            .find(|(h, _)| h == host)
            .map_or(0, |(_, n)| *n)
    }

    /// Counts one more bounce at `host`.
    pub fn count_retry(&mut self, host: &Host) {
        match self.retries.iter_mut().find(|(h, _)| h == host) {
            Some((_, n)) => *n = n.saturating_add(1),
            None => self.retries.push((host.clone(), 1)),
        }
    }
}

/// A place on a connection slot of this process, from which a stanza was moved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FormerPlace {
    /// The slot's number within the process.
    pub slot: u32,
    /// The stanza's number on the slot.
    pub number: u64,
}

/// The way by which an envelope came to this gateway.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Arrival {
    /// From the local server, on the component stream.
    Component,
    /// From a peer's gateway, over a link.
    Link(Host),
    /// This gateway made the stanza: an answer or an error reply.
    Own,
}

/// Identifies one stanza through all gateways; written as 16 hex digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct EnvelopeId(pub u64);

impl EnvelopeId {
    /// Creates a new id: a keyed hash of a counter, under a key that each process
    /// draws at random. An id does not disclose the next one, and two gateways
    /// practically never create the same.
    pub fn next() -> Self {
        static KEY: LazyLock<RandomState> = LazyLock::new(RandomState::new);
        static COUNT: AtomicU64 = AtomicU64::new(0);
        Self(KEY.hash_one(COUNT.fetch_add(1, Ordering::Relaxed)))
    }
}

impl fmt::Display for EnvelopeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl fmt::Debug for EnvelopeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// An upstream holder that keeps a copy of a stanza until the stanza is settled:
/// the incoming half of a link, which then acknowledges it.
pub trait Settle: Send + Sync {
    /// The stanza with this sequence number needs no copy upstream any more.
    fn settled(&self, sequence: u64);

    /// The receipt of this stanza was dropped unsettled: the stanza is to be sent again.
    fn abandoned(&self, _sequence: u64) {}
}

/// The duty to notify upstream, at most once, that a stanza is settled: the local
/// server or the next hop has it for good, or its sender received an error. Dropped
/// without notification, it makes the sending gateway keep its copy and send it
/// again over the next connection.
#[derive(Default)]
pub struct Receipt(Option<(Arc<dyn Settle>, u64)>);

impl Receipt {
    /// Creates a receipt for a stanza of which nothing upstream keeps a copy.
    #[must_use]
    pub fn none() -> Self {
        Self(None)
    }

    /// Creates a receipt that notifies `upstream` of `sequence`.
    #[must_use]
    pub fn new(upstream: Arc<dyn Settle>, sequence: u64) -> Self {
        Self(Some((upstream, sequence)))
    }

    /// Notifies upstream.
    pub fn settle(&mut self) {
        if let Some((upstream, sequence)) = self.0.take() {
            upstream.settled(sequence);
        }
    }
}

impl Drop for Receipt {
    fn drop(&mut self) {
        if let Some((upstream, sequence)) = self.0.take() {
            upstream.abandoned(sequence);
        }
    }
}

impl fmt::Debug for Receipt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Receipt")
            .field(&self.0.as_ref().map(|(_, n)| n))
            .finish()
    }
}

/// The entrance for envelopes: the workers. Component streams and incoming links
/// hand envelopes over here, and wait when the workers are behind.
#[async_trait]
pub trait Intake: Send + Sync {
    /// Queues `envelope` behind all earlier ones of its sender.
    async fn take(&self, envelope: Envelope);

    /// Queues `envelope` as [`Self::take`] does if that needs no wait; returns the
    /// envelope otherwise. Nearly all envelopes pass here, without an allocation.
    fn try_take(&self, envelope: Envelope) -> Option<Envelope> {
        Some(envelope)
    }
}

/// An envelope that a link or the component could not take or keep.
#[derive(Debug)]
pub struct Undelivered {
    /// The envelope, as it was handed over.
    pub envelope: Envelope,
    /// The reason.
    pub reason: Obstacle,
}

/// A reason why a route is closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Obstacle {
    /// There is no connection (yet).
    Absent,
    /// The queue of the route is full.
    Full,
    /// The envelope waited longer than `connections.max_wait`.
    TooLate,
    /// Its stanza is larger than the next hop accepts.
    TooLarge,
}
