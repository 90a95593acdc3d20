//! Links: dedicated one-way connections between gateways, over mutual TLS.
//!
//! A *pool* keeps the connections to one peer. Each of its *connection slots*
//! is one numbered connection to one endpoint, across all its reconnects. The
//! receiver acknowledges the stanzas that are settled; the others are sent
//! again on the slot's next connection, where the receiver drops those that it
//! has taken before. `docs/link-protocol.md` describes the bytes.
//!
//! Sending: `links` (the door) → `peer` (a pool under a lock) → `pool` (which
//! sender uses which slot; pure) → `delivery::SendWindow`; each slot has a task in
//! `outgoing`, which uses `dial` and its `resolver`.
//! Receiving: `incoming` (accept, take, acknowledge; `unauthenticated` bounds the
//! connections without a certificate) → `handshake` (which
//! peers are accepted) → `incoming_slots` (which connection may take from a
//! slot; `peer_connections` counts them by process) →
//! `delivery::ReceiveWindow`.
//! Session table: a connection of its own carries the replication between two
//! nodes, so that a long table delays no stanza: `replication_dialer` dials,
//! `replication_link` runs the connection on both sides.
//! Below all: `hello`, `frame`, `wire`, `reader`, `tls`, `certificate`,
//! `any_name`, `connect_error`.

use std::time::Duration;

use crate::host::Host;

mod any_name;
mod certificate;
mod connect_error;
mod dial;
mod frame;
mod handshake;
mod hello;
mod incoming;
mod incoming_slots;
mod links;
mod outgoing;
mod peer;
mod peer_connections;
mod pool;
mod reader;
mod replication_dialer;
mod replication_link;
mod resolver;
mod tls;
mod unauthenticated;
mod wire;

#[cfg(any(test, fuzzing))]
#[doc(hidden)]
pub mod fuzzing;
#[cfg(test)]
mod tests;

pub use dial::Dialler;
pub use incoming::Listener;
pub use incoming_slots::IncomingSlots;
pub use links::{LinkStatus, Links};
pub use peer_connections::ConnectedProcesses;
pub use replication_dialer::ReplicationDialer;
pub use tls::{Credentials, Expiry};

/// Time from TCP to the end of the greeting: a slower peer is dropped.
const HANDSHAKE_LIMIT: Duration = Duration::from_secs(5);

/// Limit of one look-up, and of one TCP connection: a dead address does not keep the
/// next one from being tried.
const CONNECT_LIMIT: Duration = Duration::from_secs(5);

/// Each side sends at least one frame in this time: three pings may be late before
/// [`SILENCE_LIMIT`].
const PING_AFTER: Duration = Duration::from_secs(4);

/// A side that receives nothing for this long takes the connection for dead.
const SILENCE_LIMIT: Duration = Duration::from_secs(15);

/// Time in which the last frames on a connection are written, or read.
const LINGER: Duration = Duration::from_secs(1);

/// The identity of this gateway towards its peers.
#[derive(Debug, Clone)]
pub struct Identity {
    /// `local_host`
    pub host: Host,
    /// `node`
    pub node: String,
    /// Random, new at each start: sequence numbers count within it.
    pub epoch: u64,
}

/// The reason why links can't be set up at all; stops the start.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct SetupError(pub String);
