//! Replication of the session table between gateways, independent of the store that keeps tables
//! and of the links that carry the messages: neither depends on the other.
//!
//! A gateway that dials another one *replicates* the listener's table: the listener sends its own
//! part of the session table, the dialler keeps a replica. A gateway with the table of a peer can
//! therefore also send stanzas there: both need the same route, in the same direction.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;

use crate::host::Host;

/// The longest message, in bytes.
pub const MESSAGE_LIMIT: usize = (1 << 20) + 64;

/// One process among those of its host.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Node {
    /// Its `local_host`.
    pub host: Host,
    /// Its `node`.
    pub name: String,
}

impl fmt::Display for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.host, self.name)
    }
}

/// The store's side: this gateway's own table, and replicas of others.
#[async_trait]
pub trait Replication: Send + Sync {
    /// Starts sending this gateway's table to `peer`, which dialled in, in the process of that
    /// `epoch`.
    fn send_to(self: Arc<Self>, peer: &Node, epoch: u64) -> Arc<dyn ReplicationSession>;

    /// Starts receiving the table of `peer`, which this gateway dialled.
    ///
    /// # Errors
    /// When the peer's table is replicated already, or can't be.
    fn receive_from(
        self: Arc<Self>,
        peer: &Node,
    ) -> Result<Arc<dyn ReplicationSession>, NotReplicated>;

    /// Completes when no connection of this gateway replicates `peer`.
    async fn until_not_replicated(&self, peer: &Node);
}

/// Messages of one connection. Dropping the session ends the replication over it.
#[async_trait]
pub trait ReplicationSession: Send + Sync {
    /// Waits for the next message to send; at most [`MESSAGE_LIMIT`] bytes.
    /// `None` when no more will follow. Dropping the pending future loses nothing.
    async fn next_message(&self) -> Option<Bytes>;

    /// Applies a message from the peer.
    ///
    /// # Errors
    /// When the message is invalid: the connection must be closed.
    fn accept(&self, message: Bytes) -> Result<(), InvalidMessage>;
}

/// Reason that a connection to a node does not replicate the node's table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotReplicated {
    /// Another connection replicates the table.
    #[error("its table is replicated over another connection")]
    Already,
    /// The limit of replicated nodes of one host is reached.
    #[error("too many nodes of its host are replicated")]
    TooManyNodes,
}

/// An invalid message; the text describes the fault.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a message about the session table {0}")]
pub struct InvalidMessage(pub String);
