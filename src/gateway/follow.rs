//! Tasks that pass one module's changes on to another.

use std::collections::BTreeSet;
use std::sync::Arc;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::info;

use crate::component::Attachment;
use crate::config::{Endpoint, ServiceConfig};
use crate::host::Host;
use crate::link::Links;
use crate::registry::{Directory, Peers, Registry};
use crate::routing::Relay;
use crate::sessions::Sessions;

/// Reports the state of the server's stream to the session table. After a new
/// attachment, the gateway probes the sessions known before. While another node
/// of this host has the server's stream, this node is its standby.
pub(super) async fn follow_attachment(
    mut attachment: watch::Receiver<Attachment>,
    sessions: Arc<Sessions>,
    relay: Arc<Relay>,
    registry: Arc<Registry>,
    end: CancellationToken,
) {
    let follow = async {
        loop {
            let now = attachment.borrow_and_update().clone();
            match now {
                Attachment::Detached { taken, .. } => {
                    sessions.detached();
                    registry.set_standby(taken);
                }
                Attachment::Attached { .. } => {
                    registry.set_standby(false);
                    relay.probe_all(sessions.attached()).await;
                }
            }
            if attachment.changed().await.is_err() {
                return;
            }
        }
    };
    end.run_until_cancelled(follow).await;
}

/// Keeps the pools of links in step with the registry.
pub(super) async fn follow_peers(
    mut peers: watch::Receiver<Arc<Peers>>,
    links: Arc<Links>,
    end: CancellationToken,
) {
    let mut before = Arc::new(Peers::new());
    let follow = async {
        loop {
            let now = Arc::clone(&peers.borrow_and_update());
            for (host, endpoints) in now.iter() {
                if before.get(host) != Some(endpoints) {
                    info!(%host, endpoints = %listed(endpoints), "peer");
                    links.set_endpoints(host, endpoints);
                }
            }
            for host in before.keys().filter(|host| !now.contains_key(*host)) {
                info!(%host, "peer is gone from the registry");
                links.set_endpoints(host, &[]);
            }
            before = now;
            if peers.changed().await.is_err() {
                return;
            }
        }
    };
    end.run_until_cancelled(follow).await;
}

fn listed(endpoints: &[Endpoint]) -> String {
    endpoints
        .iter()
        .map(Endpoint::to_string)
        .collect::<Vec<_>>()
        .join(", ")
}

/// Keeps the component streams in step with the directory of services.
pub(super) async fn follow_services(
    mut directory: watch::Receiver<Arc<Directory>>,
    own: Vec<ServiceConfig>,
    streams: watch::Sender<BTreeSet<Host>>,
    end: CancellationToken,
) {
    let follow = async {
        loop {
            let wanted = domains_with_streams(&directory.borrow_and_update(), &own);
            streams.send_if_modified(|current| {
                let changed = *current != wanted;
                *current = wanted;
                changed
            });
            if directory.changed().await.is_err() {
                return;
            }
        }
    };
    end.run_until_cancelled(follow).await;
}

/// The service domains that the local server does not have itself: those of other
/// hosts, and this host's own if the server knows them under another name.
fn domains_with_streams(directory: &Directory, own: &[ServiceConfig]) -> BTreeSet<Host> {
    let has_itself = |domain: &Host| {
        own.iter()
            .any(|service| service.domain == *domain && service.local.is_none())
    };
    directory
        .iter()
        .map(|(domain, _)| domain)
        .filter(|domain| !has_itself(domain))
        .cloned()
        .collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::registry::ServiceListing;

    fn host(name: &str) -> Host {
        Host::new(name).unwrap()
    }

    #[test]
    fn streams_are_for_what_the_server_does_not_have_itself() {
        let listing = |hosts: &[&str]| ServiceListing {
            hosts: hosts.iter().copied().map(host).collect(),
            hidden: false,
        };
        let directory = Directory::new(BTreeMap::from([
            (host("muc.example.test"), listing(&["dc1.test"])),
            (host("bot.example.test"), listing(&["dc1.test"])),
            (host("chat.example.test"), listing(&["dc2.test"])),
            (host("gone.example.test"), listing(&[])),
        ]));
        let own = [
            ServiceConfig {
                domain: host("muc.example.test"),
                local: Some(host("rooms.dc1.test")),
                hidden: false,
            },
            ServiceConfig {
                domain: host("bot.example.test"),
                local: None,
                hidden: false,
            },
        ];
        let streams = domains_with_streams(&directory, &own);
        let expected = ["chat.example.test", "gone.example.test", "muc.example.test"];
        assert_eq!(streams, expected.map(host).into());
    }
}
