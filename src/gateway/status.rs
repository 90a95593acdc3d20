//! The content of `/api/status`.

use std::sync::Arc;

use serde_json::{Value, json};
use tokio::sync::watch;

use super::controlling::Controlling;
use crate::admin::Statuses;
use crate::component::{Attachment, Components};
use crate::config::Config;
use crate::control::{self, AccountsStatus};
use crate::link::Links;
use crate::metrics::Metrics;
use crate::registry::{Peers, Registry};

/// Collects the gateway's state, anew for each request.
pub(super) fn status(
    config: &Config,
    components: &Components,
    controlling: &Controlling,
    registry: &Registry,
    links: &Arc<Links>,
    metrics: &Arc<Metrics>,
) -> Arc<Statuses> {
    let (names, control) = (names(config), controlling.attachment());
    let (components, links) = (components.clone(), Arc::clone(links));
    let (attachment, sources) = (components.attachment(), controlling.status());
    let (peers, metrics) = (registry.peers(), Arc::clone(metrics));
    Arc::new(move || {
        let mut status = names.clone();
        let services = components.service_attachments().into_iter();
        let services = services.map(|(domain, now)| with_domain(domain.as_str(), &now));
        let control = control
            .as_ref()
            .map(|(domain, now)| with_domain(domain.as_str(), &now.borrow()));
        status["component"] = shown(&attachment.borrow());
        status["services"] = services.collect();
        status["control"] = control.into();
        status["sources"] = sources_shown(&sources);
        status["session_table"] = json!({ "reachable": metrics.store_up.get() == 1 });
        status["peers"] = peers_shown(&peers, &links);
        status["sessions"] = metrics.sessions.get().into();
        status
    })
}

fn names(config: &Config) -> Value {
    json!({
        "version": env!("CARGO_PKG_VERSION"),
        "global_host": config.global_host.as_str(),
        "local_host": config.local_host.as_str(),
        "node": config.node,
    })
}

fn shown(attachment: &Attachment) -> Value {
    match attachment {
        Attachment::Attached { times } => json!({ "attached": true, "times": times }),
        Attachment::Detached { why, .. } => json!({ "attached": false, "why": why }),
    }
}

fn with_domain(domain: &str, attachment: &Attachment) -> Value {
    let mut shown = shown(attachment);
    shown["domain"] = domain.into();
    shown
}

fn sources_shown(sources: &watch::Receiver<control::ControlStatus>) -> Value {
    let sources = sources.borrow();
    let used = sources.used.iter();
    let used = used.map(|used| json!({ "source": used.source.word(), "tells": used.tells }));
    let missing = sources.missing.iter();
    let missing = missing.map(|(source, why)| json!({ "source": source.word(), "why": why }));
    json!({
        "server": sources.server,
        "used": used.collect::<Value>(),
        "unseen": sources.unseen,
        "missing": missing.collect::<Value>(),
        "accounts": match &sources.accounts {
            AccountsStatus::Unasked => Value::Null,
            AccountsStatus::Known(count) => json!({ "known": count }),
            AccountsStatus::Unknown(why) => json!({ "why": why }),
        },
    })
}

fn peers_shown(peers: &watch::Receiver<Arc<Peers>>, links: &Links) -> Value {
    let peers = peers.borrow();
    let peers = peers.iter().map(|(host, endpoints)| {
        let endpoints = endpoints.iter().map(ToString::to_string);
        json!({
            "host": host.as_str(),
            "linked": links.is_up(host),
            "endpoints": endpoints.collect::<Vec<_>>(),
        })
    });
    peers.collect()
}
