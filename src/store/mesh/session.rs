//! Common part of the two ends of a connection.

use async_trait::async_trait;
use bytes::Bytes;
use tokio::time::{Instant, sleep_until};

use super::MeshStore;
use super::membership::Membership;
use super::message::Message;
use crate::replication::{InvalidMessage, ReplicationSession};

/// One end of a connection.
pub(super) trait Session: Send + Sync {
    fn store(&self) -> &MeshStore;

    /// Returns the next message, `None` after the last, or the time until which there is none
    /// unless the store notifies its replicas.
    fn compose(&self) -> Result<Option<Message>, Instant>;

    fn apply(&self, message: Message) -> Result<(), InvalidMessage>;
}

#[async_trait]
impl<S: Session> ReplicationSession for S {
    async fn next_message(&self) -> Option<Bytes> {
        let mut changes = self.store().changes.subscribe();
        loop {
            changes.mark_unchanged();
            match self.compose() {
                Ok(message) => return message.map(|message| message.write()),
                Err(at) => tokio::select! {
                    // The store holds the sender, so this cannot fail.
                    _ = changes.changed() => {}
                    () = sleep_until(at) => {}
                },
            }
        }
    }

    fn accept(&self, message: Bytes) -> Result<(), InvalidMessage> {
        self.apply(Message::read(message)?)
    }
}

/// Version and time of the last node list sent.
#[derive(Default)]
pub(super) struct NodesSent(Option<(u64, Instant)>);

impl NodesSent {
    /// Returns a list of nodes if it changed, and from time to time, because nodes that no peer
    /// mentions expire.
    pub(super) fn due(
        &mut self,
        store: &MeshStore,
        membership: &Membership,
        now: Instant,
    ) -> Option<Message> {
        let is_current = |(version, sent_at): (u64, Instant)| {
            version == membership.version && now < sent_at + store.refresh_after
        };
        if self.0.is_some_and(is_current) {
            return None;
        }
        self.0 = Some((membership.version, now));
        Some(Message::Nodes(store.nodes(membership)))
    }

    pub(super) fn again_at(&self, store: &MeshStore) -> Instant {
        self.0
            .map_or_else(Instant::now, |(_, sent_at)| sent_at + store.refresh_after)
    }
}
