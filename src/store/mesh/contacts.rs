//! Gateways that may be dialled for their tables.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use crate::config::Endpoint;
use crate::host::Host;
use crate::replication::Node;

/// Upper bound of the nodes that are learned from one host, itself included.
const NODES_PER_SOURCE: usize = 256;

/// Upper bound of the endpoints of a node that are tried.
const ENDPOINTS_PER_NODE: usize = 8;

/// Endpoints to dial, and the hosts that may answer there; any host if empty.
pub type ContactMap = BTreeMap<Endpoint, BTreeSet<Host>>;

/// The endpoints that the operator named, and the nodes learned from peers. Each host is believed
/// about its own nodes. Its entries about others are hints, which are dialled, but only used when
/// the certificate there is that host's.
#[derive(Debug)]
pub(super) struct Contacts {
    own: Node,
    lifetime: Duration,
    named: BTreeSet<Endpoint>,
    learned: BTreeMap<Node, Learned>,
    published: watch::Sender<Arc<ContactMap>>,
}

#[derive(Debug)]
struct Learned {
    endpoints: Vec<Endpoint>,
    source: Host,
    mentioned_at: Instant,
}

impl Contacts {
    /// Creates contacts with only `named`; nodes that no peer mentions for `lifetime` expire.
    pub(super) fn new(own: Node, named: &[Endpoint], lifetime: Duration) -> Self {
        let contacts = Self {
            own,
            lifetime,
            named: named.iter().cloned().collect(),
            learned: BTreeMap::new(),
            published: watch::Sender::default(),
        };
        contacts.publish();
        contacts
    }

    pub(super) fn subscribe(&self) -> watch::Receiver<Arc<ContactMap>> {
        self.published.subscribe()
    }

    /// Notes endpoints of nodes, its own or others, that a node of `source` sent.
    pub(super) fn mention<'a>(
        &mut self,
        source: &Host,
        nodes: impl IntoIterator<Item = (&'a Node, &'a [Endpoint])>,
        now: Instant,
    ) {
        let of_source = self.learned.values().filter(|it| it.source == *source);
        let mut count = of_source.count();
        for (node, endpoints) in nodes {
            if *node == self.own || endpoints.is_empty() {
                continue;
            }
            let endpoints = &endpoints[..endpoints.len().min(ENDPOINTS_PER_NODE)];
            if let Some(learned) = self.learned.get_mut(node) {
                learned.mentioned_at = now;
                if *source == node.host || learned.source != node.host {
                    learned.source = source.clone();
                    learned.endpoints = endpoints.to_vec();
                }
            } else if count < NODES_PER_SOURCE {
                count += 1;
                let learned = Learned {
                    endpoints: endpoints.to_vec(),
                    source: source.clone(),
                    mentioned_at: now,
                };
                self.learned.insert(node.clone(), learned);
            } else {
                tracing::debug!(%source, %node, "not learned: {NODES_PER_SOURCE} nodes are known from there");
            }
        }
        self.publish();
    }

    /// Removes nodes last mentioned too long ago.
    pub(super) fn expire(&mut self, now: Instant) {
        let lifetime = self.lifetime;
        self.learned
            .retain(|_, it| now.saturating_duration_since(it.mentioned_at) <= lifetime);
        self.publish();
    }

    fn publish(&self) {
        let mut all = ContactMap::new();
        for (node, learned) in &self.learned {
            for endpoint in &learned.endpoints {
                let hosts = all.entry(endpoint.clone()).or_default();
                hosts.insert(node.host.clone());
            }
        }
        let named = self.named.iter().cloned();
        all.extend(named.map(|endpoint| (endpoint, BTreeSet::new())));
        self.published.send_if_modified(|published| {
            let changed = **published != all;
            if changed {
                *published = Arc::new(all);
            }
            changed
        });
    }
}
