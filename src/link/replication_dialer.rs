//! Dials other gateways to replicate their session tables.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBuilder};
use tokio::sync::watch;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::connect_error::{ConnectError, LinkEnd, RefusalKind};
use super::dial::{Dialler, TableLink};
use super::outgoing::backoff;
use super::replication_link;
use crate::config::{Connections, Endpoint};
use crate::host::Host;
use crate::log_limiter::LogLimiter;
use crate::metrics::Metrics;
use crate::replication::Replication;

/// A link that lasted this long was useful: the next one is dialled without delay.
const STABLE: Duration = Duration::from_secs(10);

/// Longest pause between two attempts at an endpoint where no link was ever useful.
const LONGEST_PAUSE: Duration = Duration::from_secs(300);

/// Dials gateways to replicate their session tables, each node's over one connection.
pub struct ReplicationDialer {
    dialler: Arc<Dialler>,
    replication: Arc<dyn Replication>,
    /// Interval at which an endpoint is dialled again that leads to a node which is
    /// replicated already: the endpoint's name may lead to another node by now.
    look_again: Duration,
    metrics: Arc<Metrics>,
}

impl ReplicationDialer {
    /// Creates a dialler that has dialled nothing yet.
    pub fn new(
        dialler: Arc<Dialler>,
        config: &Connections,
        replication: Arc<dyn Replication>,
        metrics: Arc<Metrics>,
    ) -> Self {
        Self {
            dialler,
            replication,
            look_again: config.endpoint_refresh_interval,
            metrics,
        }
    }

    /// Dials all `contacts`, as they change, until `shutdown`. Each endpoint comes
    /// with the hosts that may answer there; no hosts means any.
    pub async fn run(
        self,
        mut contacts: watch::Receiver<Arc<BTreeMap<Endpoint, BTreeSet<Host>>>>,
        shutdown: CancellationToken,
    ) {
        let this = Arc::new(self);
        let tasks = TaskTracker::new();
        let mut dialled: BTreeMap<Endpoint, CancellationToken> = BTreeMap::new();
        loop {
            let now = Arc::clone(&contacts.borrow_and_update());
            dialled.retain(|endpoint, end| {
                let stays = now.contains_key(endpoint);
                if !stays {
                    tracing::info!(%endpoint, "no gateway is known there any more");
                    end.cancel();
                }
                stays
            });
            for endpoint in now.keys() {
                dialled.entry(endpoint.clone()).or_insert_with(|| {
                    let end = shutdown.child_token();
                    let (this, endpoint) = (Arc::clone(&this), endpoint.clone());
                    tasks.spawn(this.replicate(endpoint, contacts.clone(), end.clone()));
                    end
                });
            }
            let changed = shutdown.run_until_cancelled(contacts.changed()).await;
            if !matches!(changed, Some(Ok(()))) {
                break;
            }
        }
        shutdown.cancelled().await;
        tasks.close();
        tasks.wait().await;
    }

    /// Replicates the node at `endpoint`, until `end`.
    async fn replicate(
        self: Arc<Self>,
        endpoint: Endpoint,
        contacts: watch::Receiver<Arc<BTreeMap<Endpoint, BTreeSet<Host>>>>,
        end: CancellationToken,
    ) {
        let log_limiter = LogLimiter::default();
        let mut was_linked = false;
        let mut pauses = patient_backoff();
        while !end.is_cancelled() {
            let expected = contacts
                .borrow()
                .get(&endpoint)
                .cloned()
                .unwrap_or_default();
            if expected.is_empty() && !was_linked {
                was_linked = true;
                pauses = Box::new(backoff());
            }
            let dialled = self.dialler.dial_table(&endpoint);
            let mut pause = None;
            match end.run_until_cancelled(dialled).await {
                None => return,
                Some(Ok(link)) if expected.is_empty() || expected.contains(&link.node.host) => {
                    let begun = Instant::now();
                    self.use_link(link, &endpoint, &log_limiter, &end).await;
                    if !was_linked || begun.elapsed() > STABLE {
                        was_linked = true;
                        pauses = Box::new(backoff());
                    }
                }
                Some(Ok(link)) => {
                    let host = &link.node.host;
                    let text = format!("it is of {host}, not of the host that was named for it");
                    let failure = ConnectError::refused(RefusalKind::WrongHost, text);
                    self.failed(&endpoint, &log_limiter, &failure);
                    replication_link::leave(link.writer).await;
                }
                Some(Err(ConnectError::Refused {
                    kind: RefusalKind::Ourselves,
                    text,
                })) => {
                    tracing::debug!(%endpoint, "not replicated: {text}");
                    pause = Some(self.look_again);
                }
                Some(Err(failure)) => self.failed(&endpoint, &log_limiter, &failure),
            }
            let pause = pause.or_else(|| pauses.next());
            let pause = sleep(pause.unwrap_or(LONGEST_PAUSE));
            end.run_until_cancelled(pause).await;
        }
    }

    /// Replicates the node at the other end. If another connection replicates the
    /// node already, waits until that one has ended, or it is time to dial the
    /// endpoint again.
    async fn use_link(
        &self,
        link: TableLink,
        endpoint: &Endpoint,
        log_limiter: &LogLimiter,
        end: &CancellationToken,
    ) {
        let TableLink {
            node,
            reader,
            writer,
            certificate,
        } = link;
        let session = match Arc::clone(&self.replication).receive_from(&node) {
            Ok(session) => session,
            Err(refused) => {
                replication_link::leave(writer).await;
                drop(reader);
                tracing::debug!(peer = %node, %endpoint, "not used: {refused}");
                tokio::select! {
                    () = self.replication.until_not_replicated(&node) => {}
                    () = sleep(self.look_again) => {}
                    () = end.cancelled() => {}
                }
                return;
            }
        };
        tracing::info!(peer = %node, %endpoint, "table link up");
        let ending = tokio::select! {
            ending = replication_link::converse(session, reader, writer, end) => ending,
            ending = self.dialler.credentials.invalidated(&node.host, certificate.as_ref()) => ending,
        };
        match ending {
            LinkEnd::Broken(text) => {
                if let Some(left_out) = log_limiter.allows(&format!("lost {text}")) {
                    tracing::warn!(
                        peer = %node, %endpoint,
                        "table link lost: {text}; trying again{left_out}"
                    );
                }
            }
            ending => tracing::info!(peer = %node, %endpoint, ?ending, "table link down"),
        }
    }

    fn failed(&self, endpoint: &Endpoint, log_limiter: &LogLimiter, failure: &ConnectError) {
        if let Some(label) = failure.label() {
            self.metrics.links_refused.with_label_values(&[label]).inc();
        }
        let text = failure.to_string();
        if let Some(left_out) = log_limiter.allows(&text) {
            tracing::warn!(%endpoint, "no table link: {text}; trying again{left_out}");
        } else {
            tracing::debug!(%endpoint, "no table link: {text}; trying again");
        }
    }
}

/// Pauses for an endpoint that only others have named: 1 s to [`LONGEST_PAUSE`].
fn patient_backoff() -> Box<dyn Iterator<Item = Duration> + Send> {
    let backoff = ExponentialBuilder::new()
        .with_min_delay(Duration::from_secs(1))
        .with_max_delay(LONGEST_PAUSE)
        .without_max_times()
        .with_jitter();
    Box::new(backoff.build())
}
