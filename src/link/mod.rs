//! Links: dedicated one-way connections between gateways, over mutual TLS.
//!
//! A peer is dialled by a *pool* of *lanes*: each lane is one connection to
//! one endpoint, across all its reconnects, and numbers its stanzas. The
//! receiver acknowledges what is settled; what it has not acknowledged is sent
//! again on the lane's next connection, and dropped there if it had come
//! already. `docs/link-protocol.md` shows what goes over the wire.
//!
//! Sending: `links` (the door) → `peer` (a pool under a lock) → `pool` (which
//! sender uses which lane, and what moves to another; pure) → `book` (a lane's numbers; pure); each lane
//! has a task in `outgoing`, which uses `dial` and its `resolver`.
//! Receiving: `incoming` (accept, take, acknowledge) → `gate` (who is let in)
//! → `lanes` (who may take from a lane; `callers`: who is heard at all) → `ledger` (what has come over it and
//! what is settled; pure) and `sightings` (what has come over any).
//! Session tables: a connection of its own replicates a peer's session table,
//! so that a long table delays no stanza: `replication_dialer` dials,
//! `replication_link` carries the messages, on both sides.
//! Below all: `hello`, `frame`, `wire`, `reader`, `tls`, `certificate`,
//! `any_name`, `trouble`, `complaints`.

use std::time::Duration;

use crate::host::Host;

mod any_name;
mod book;
mod callers;
mod certificate;
mod complaints;
mod dial;
mod frame;
mod gate;
mod hello;
mod incoming;
mod lanes;
mod ledger;
mod links;
mod outgoing;
mod peer;
mod pool;
mod reader;
mod replication_dialer;
mod replication_link;
mod resolver;
mod sightings;
mod tls;
mod trouble;
mod wire;

#[cfg(test)]
mod tests;

pub use callers::Heard;
pub use incoming::Listener;
pub use lanes::Lanes;
pub use links::{LinkStatus, Links};
pub use replication_dialer::ReplicationDialer;

/// From TCP to the end of the greeting: who takes longer is dropped, so that
/// silent connections can't pile up.
const HANDSHAKE_LIMIT: Duration = Duration::from_secs(10);

/// For one look-up, and for one TCP connection: less than the handshake's, so
/// that a dead address does not keep the next one from being tried.
const CONNECT_LIMIT: Duration = Duration::from_secs(5);

/// Each side says something at least this often: three pings may be late
/// before [`SILENCE_LIMIT`].
const PING_AFTER: Duration = Duration::from_secs(4);

/// A side that hears nothing for this long takes the connection for dead.
const SILENCE_LIMIT: Duration = Duration::from_secs(15);

/// For the last words on a connection to be written, or read.
const LINGER: Duration = Duration::from_secs(1);

/// Who this gateway is, to its peers.
#[derive(Debug, Clone)]
pub struct Identity {
    /// `local_host`
    pub host: Host,
    /// `node`
    pub node: String,
    /// Random, new at each start: sequence numbers count within it.
    pub epoch: u64,
}

/// Why links can't be set up at all; stops the start.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct SetupError(pub String);
