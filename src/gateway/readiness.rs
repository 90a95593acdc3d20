//! The checks behind `/readyz`.

use std::sync::Arc;

use tokio::sync::watch;

use crate::admin::{Check, Readiness};
use crate::component::{Attachment, Components};
use crate::host::Host;
use crate::link::{Credentials, Links};
use crate::registry::Registry;

/// The gateway is ready when it is attached to the server, the session table is
/// reliable, the certificates are valid, and every known peer that can be dialled has a link.
pub(super) fn readiness(
    components: &Components,
    control: Option<(Host, watch::Receiver<Attachment>)>,
    registry: &Registry,
    links: &Arc<Links>,
    credentials: Arc<Credentials>,
    table: impl Fn() -> Result<(), String> + Send + Sync + 'static,
) -> Arc<Readiness> {
    let (components, links) = (components.clone(), Arc::clone(links));
    let peers = registry.peers();
    Arc::new(move || {
        let mut checks = vec![
            Check {
                name: "component".to_owned(),
                state: components.fitness(),
                needed: true,
            },
            Check {
                name: "session table".to_owned(),
                state: table(),
                needed: true,
            },
        ];
        checks.extend(credentials.expiry().map(|expiry| Check {
            name: "certificates".to_owned(),
            state: expiry.check(),
            needed: true,
        }));
        let peers = peers.borrow();
        // A peer that announces no endpoint is not meant to be dialled.
        let reachable = peers.iter().filter(|(_, endpoints)| !endpoints.is_empty());
        checks.extend(reachable.map(|(host, _)| Check {
            name: format!("link {host}"),
            state: if links.is_up(host) {
                Ok(())
            } else {
                Err("down".to_owned())
            },
            needed: true,
        }));
        // Another datacenter can offer a service at any time: the new service
        // must not make this gateway unready until its server knows the domain.
        let services = components.service_fitness().into_iter();
        checks.extend(services.map(|(domain, state)| Check {
            name: format!("service {domain}"),
            state,
            needed: false,
        }));
        // Routing does not need the control component: it reports sessions that
        // send nothing.
        checks.extend(control.iter().map(|(domain, attachment)| Check {
            name: format!("control {domain}"),
            state: attached(&attachment.borrow()),
            needed: false,
        }));
        checks
    })
}

fn attached(attachment: &Attachment) -> Result<(), String> {
    match attachment {
        Attachment::Attached { .. } => Ok(()),
        Attachment::Detached { why, .. } => Err(why.clone()),
    }
}
