//! This node's announcement, the connected peers and the nodes to dial.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;

use super::contacts::Contacts;
use crate::replication::Node;
use crate::store::Announcement;

/// Upper bound of the nodes of one host that are replicated, and of those that are sent the table.
pub(super) const NODES_PER_HOST: usize = 16;

/// State under one lock, which also guards writes of the list of replicas.
pub(super) struct Membership {
    announcement: Option<(Announcement, Instant)>,
    pub(super) has_retired: bool,
    /// Whether a node was ever linked.
    pub(super) ever_linked: bool,
    /// Counts changes of the node list that peers are sent.
    pub(super) version: u64,
    /// The newest connection of each peer that is sent our table.
    pub(super) senders: BTreeMap<Node, u64>,
    last_sender: u64,
    pub(super) contacts: Contacts,
}

impl Membership {
    pub(super) fn new(contacts: Contacts) -> Self {
        Self {
            announcement: None,
            has_retired: false,
            ever_linked: false,
            version: 0,
            senders: BTreeMap::new(),
            last_sender: 0,
            contacts,
        }
    }

    /// This node's announcement, unless it has expired.
    pub(super) fn announcement(&self) -> Option<&Announcement> {
        self.announcement.as_ref().map(|(announced, _)| announced)
    }

    /// Sets the announcement; returns whether it changed.
    pub(super) fn announce(&mut self, announcement: Option<&Announcement>, now: Instant) -> bool {
        let changed = self.announcement() != announcement;
        self.announcement = announcement.cloned().map(|announced| (announced, now));
        self.has_retired = announcement.is_none();
        changed
    }

    /// Whether the announcement ended because it was not renewed for `lifetime`.
    pub(super) fn expire_announcement(&mut self, lifetime: Duration, now: Instant) -> bool {
        let is_due = |(_, at): &mut (Announcement, Instant)| now > *at + lifetime;
        self.announcement.take_if(is_due).is_some()
    }

    /// Registers a connection over which the table is sent; it replaces the one of the same node.
    /// `None` if too many nodes of the host have one.
    pub(super) fn register_sender(&mut self, peer: &Node) -> Option<u64> {
        let others = self.senders.keys().filter(|node| *node != peer);
        if others.filter(|node| node.host == peer.host).count() >= NODES_PER_HOST {
            return None;
        }
        self.last_sender += 1;
        self.senders.insert(peer.clone(), self.last_sender);
        Some(self.last_sender)
    }
}
