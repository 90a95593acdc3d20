//! The session table between gateways, without what it is kept in and without
//! what carries it: a store keeps and compares tables, links dial and carry
//! messages, and neither knows the other.
//!
//! A gateway that dials another one for its table *follows* it: the listener
//! tells what stands in its own part of the table, the dialler keeps a copy.
//! So who has the table of a peer can also send stanzas there: both need the
//! same way, in the same direction.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;

use crate::host::Host;

/// The longest message of a dialogue, in bytes.
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

/// The store's side: keeps this gateway's own table, and copies of others.
#[async_trait]
pub trait Replication: Send + Sync {
    /// `peer`, in the process of that `epoch`, dialled us to follow our table.
    fn serve(self: Arc<Self>, peer: &Node, epoch: u64) -> Dialogue;

    /// We dialled `peer`, to follow its table.
    ///
    /// # Errors
    /// [`Taken`] when another connection of ours does already.
    fn follow(self: Arc<Self>, peer: &Node) -> Result<Dialogue, Taken>;

    /// Completes when no connection of ours follows `peer`.
    async fn until_vacant(&self, peer: &Node);
}

/// What the two sides of one connection say; it ends when either is dropped.
pub struct Dialogue {
    /// What we say.
    pub speaker: Box<dyn Speaker>,
    /// What is said to us.
    pub hearer: Box<dyn Hearer>,
}

/// One half of a [`Dialogue`].
#[async_trait]
pub trait Speaker: Send {
    /// Waits for the next thing to say; at most [`MESSAGE_LIMIT`] bytes.
    /// `None` when nothing more will ever be said. Dropping the pending
    /// future loses nothing.
    async fn next(&mut self) -> Option<Bytes>;
}

/// The other half of a [`Dialogue`].
pub trait Hearer: Send {
    /// Takes in what the other side said.
    ///
    /// # Errors
    /// When it makes no sense: the connection is of no use any more.
    fn hear(&mut self, message: Bytes) -> Result<(), Garbled>;
}

/// The peer is followed already, over another connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("its table is followed already")]
pub struct Taken;

/// A message that makes no sense; says what is wrong with it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a message about the session table {0}")]
pub struct Garbled(pub String);
