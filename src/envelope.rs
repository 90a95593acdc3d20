//! A stanza on its way, with what the gateways need to know about it.

use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::{Instant, SystemTime};

use async_trait::async_trait;

use crate::host::Host;
use crate::stanza::Stanza;

/// A stanza (under global addresses) plus our own header.
#[derive(Debug)]
pub struct Envelope {
    /// The same in every log line of every gateway that the stanza passes; an
    /// answer or an error reply has an id of its own.
    pub id: EnvelopeId,
    /// The host whose gateway took the stanza from its server.
    pub origin: Host,
    /// How it came to this gateway.
    pub arrival: Arrival,
    /// How many more times it may be forwarded.
    pub ttl: u32,
    /// How often each host has bounced it, in the order of their first bounce.
    pub retries: Vec<(Host, u32)>,
    /// Set on one of several copies of a stanza: the host that it was made for
    /// (for us, if it came over a link). It is never copied again.
    pub copy_for: Option<Host>,
    /// When this gateway took it in.
    pub taken_at: Instant,
    /// When the gateway before this one wrote it to the link; when it was
    /// taken in, if it came over no link.
    pub sent_at: SystemTime,
    /// The stanza, `from` and `to` under global addresses.
    pub stanza: Stanza,
    /// Whom to tell when its fate is settled.
    pub receipt: Receipt,
}

impl Envelope {
    /// An envelope for a stanza that starts its way at this gateway.
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
            receipt: Receipt::none(),
        }
    }

    /// Another copy of it, for one more of several hosts; nobody upstream waits for this one.
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
            receipt: Receipt::none(),
        }
    }

    /// How often `host` has bounced this envelope.
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

/// How an envelope came to this gateway.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Arrival {
    /// From the local server, on the component stream.
    Component,
    /// From a peer's gateway, over a link.
    Link(Host),
    /// Made by this gateway: an answer or an error reply.
    Own,
}

/// Identifies one stanza through all gateways; written as 16 hex digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct EnvelopeId(pub u64);

impl EnvelopeId {
    /// A new id: a keyed hash of a counter, under a key that each process draws
    /// at random. An id does not tell the next one, and two gateways
    /// practically never give the same.
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

/// Somebody upstream who keeps a copy of a stanza until its fate is settled:
/// the incoming half of a link, which then acknowledges it.
pub trait Settle: Send + Sync {
    /// The stanza with this sequence number needs no copy upstream any more.
    fn settled(&self, sequence: u64);
}

/// The duty to tell upstream, at most once, that a stanza is settled: the
/// local server or the next hop has it for good, or its sender was told.
/// Dropped untold, the sending gateway keeps its copy and sends it again
/// over the next connection.
#[derive(Default)]
pub struct Receipt(Option<(Arc<dyn Settle>, u64)>);

impl Receipt {
    /// For a stanza of which nobody upstream keeps a copy.
    #[must_use]
    pub fn none() -> Self {
        Self(None)
    }

    /// Will tell `upstream` about `sequence`.
    #[must_use]
    pub fn new(upstream: Arc<dyn Settle>, sequence: u64) -> Self {
        Self(Some((upstream, sequence)))
    }

    /// Tells upstream.
    pub fn settle(&mut self) {
        if let Some((upstream, sequence)) = self.0.take() {
            upstream.settled(sequence);
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

/// Where envelopes enter: the workers. Component streams and incoming links
/// hand over here, and wait when the workers are behind.
#[async_trait]
pub trait Intake: Send + Sync {
    /// Queues `envelope` behind all that its sender sent before.
    async fn take(&self, envelope: Envelope);
}

/// An envelope that a link or the component could not take or keep.
#[derive(Debug)]
pub struct Undelivered {
    /// The envelope, as it was handed over.
    pub envelope: Envelope,
    /// Why.
    pub reason: Obstacle,
}

/// Why a way out is closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Obstacle {
    /// There is no connection (yet).
    Absent,
    /// Its queue is full.
    Full,
    /// The envelope waited longer than `connections.max_wait`.
    TooLate,
    /// Its stanza is larger than the next hop takes.
    TooLarge,
}
