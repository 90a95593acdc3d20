//! Where other gateways may be dialled for their tables.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use crate::config::Endpoint;

/// As many endpoints are learned; whoever tells more is not believed.
const LIMIT: usize = 4096;

/// The endpoints that the operator named, and those learned from peers.
#[derive(Debug)]
pub(super) struct Contacts {
    lifetime: Duration,
    named: BTreeSet<Endpoint>,
    own: BTreeSet<Endpoint>,
    /// When each was mentioned last.
    learned: BTreeMap<Endpoint, Instant>,
    published: watch::Sender<Arc<BTreeSet<Endpoint>>>,
}

impl Contacts {
    /// Only `named`; what nobody mentions for `lifetime` is forgotten.
    pub(super) fn new(named: &[Endpoint], lifetime: Duration) -> Self {
        let named: BTreeSet<Endpoint> = named.iter().cloned().collect();
        Self {
            lifetime,
            own: BTreeSet::new(),
            learned: BTreeMap::new(),
            published: watch::Sender::new(Arc::new(named.clone())),
            named,
        }
    }

    /// Follows them.
    pub(super) fn subscribe(&self) -> watch::Receiver<Arc<BTreeSet<Endpoint>>> {
        self.published.subscribe()
    }

    /// What leads to ourselves; never dialled because somebody mentions it.
    pub(super) fn set_own(&mut self, own: &[Endpoint]) {
        self.own = own.iter().cloned().collect();
        self.publish();
    }

    /// A live node says that another one, or itself, is there.
    pub(super) fn mention(&mut self, endpoints: &[Endpoint], now: Instant) {
        for endpoint in endpoints {
            if let Some(at) = self.learned.get_mut(endpoint) {
                *at = now;
            } else if self.learned.len() < LIMIT {
                self.learned.insert(endpoint.clone(), now);
            } else {
                tracing::warn!(%endpoint, "more than {LIMIT} endpoints are known; this one is not learned");
            }
        }
        self.publish();
    }

    /// Forgets what was mentioned too long ago.
    pub(super) fn expire(&mut self, now: Instant) {
        let lifetime = self.lifetime;
        self.learned
            .retain(|_, at| now.saturating_duration_since(*at) <= lifetime);
        self.publish();
    }

    fn publish(&self) {
        let learned = self.learned.keys().filter(|it| !self.own.contains(it));
        let all: BTreeSet<Endpoint> = self.named.iter().chain(learned).cloned().collect();
        self.published.send_if_modified(|published| {
            let changed = **published != all;
            if changed {
                *published = Arc::new(all);
            }
            changed
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_learned_are_forgotten_and_the_named_are_not() {
        let endpoint = |text: &str| text.parse::<Endpoint>().unwrap();
        let lifetime = Duration::from_secs(120);
        let mut contacts = Contacts::new(&[endpoint("a:1")], lifetime);
        let sees = contacts.subscribe();
        let seen = || -> Vec<String> {
            let all = sees.borrow();
            all.iter().map(ToString::to_string).collect()
        };
        let now = Instant::now();
        contacts.set_own(&[endpoint("me:1")]);
        contacts.mention(&[endpoint("b:1"), endpoint("me:1")], now);
        assert_eq!(seen(), ["a:1", "b:1"]);
        contacts.expire(now + lifetime);
        assert_eq!(seen(), ["a:1", "b:1"]);
        contacts.mention(&[endpoint("c:1")], now + lifetime);
        contacts.expire(now + lifetime + Duration::from_millis(1));
        assert_eq!(seen(), ["a:1", "c:1"]);
    }
}
