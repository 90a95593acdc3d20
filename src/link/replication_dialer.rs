//! Following the session tables of all nodes that can be dialled.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::complaints::Complaints;
use super::dial::{Dialler, TableLink};
use super::outgoing::backoff;
use super::resolver::Resolver;
use super::tls::Security;
use super::trouble::{Ending, Failure, Mismatch};
use super::{Identity, SetupError, replication_link};
use crate::config::{Connections, Endpoint};
use crate::metrics::Metrics;
use crate::replication::Replication;

/// Dials nodes for their session tables, and follows each over one connection.
pub struct ReplicationDialer {
    dialler: Dialler,
    replication: Arc<dyn Replication>,
    /// How often an endpoint is looked at again that leads to a node which is
    /// followed already: its name may lead to another one by now.
    look_again: Duration,
    metrics: Arc<Metrics>,
}

impl ReplicationDialer {
    /// Follows nobody yet.
    ///
    /// # Errors
    /// When the TLS files can't be used; says which and why.
    pub fn new(
        identity: Identity,
        config: &Connections,
        replication: Arc<dyn Replication>,
        metrics: Arc<Metrics>,
    ) -> Result<Self, SetupError> {
        let security = Security::load(&config.tls, &identity.host)?;
        Ok(Self {
            dialler: Dialler {
                identity,
                security,
                resolver: Resolver::system(),
            },
            replication,
            look_again: config.endpoint_refresh_interval,
            metrics,
        })
    }

    /// Dials all `contacts`, as they change, until `shutdown`.
    pub async fn run(
        self,
        mut contacts: watch::Receiver<Arc<BTreeSet<Endpoint>>>,
        shutdown: CancellationToken,
    ) {
        let this = Arc::new(self);
        let tasks = TaskTracker::new();
        let mut dialled: BTreeMap<Endpoint, CancellationToken> = BTreeMap::new();
        loop {
            let now = Arc::clone(&contacts.borrow_and_update());
            dialled.retain(|endpoint, end| {
                let stays = now.contains(endpoint);
                if !stays {
                    tracing::info!(%endpoint, "no gateway is known there any more");
                    end.cancel();
                }
                stays
            });
            for endpoint in now.iter() {
                dialled.entry(endpoint.clone()).or_insert_with(|| {
                    let end = shutdown.child_token();
                    let (this, endpoint) = (Arc::clone(&this), endpoint.clone());
                    tasks.spawn(this.follow(endpoint, end.clone()));
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

    /// Keeps following whoever is at `endpoint`, until `end`.
    async fn follow(self: Arc<Self>, endpoint: Endpoint, end: CancellationToken) {
        let mut complaints = Complaints::default();
        let mut pauses = backoff();
        while !end.is_cancelled() {
            let dialled = self.dialler.dial_table(&endpoint);
            let mut pause = None;
            match end.run_until_cancelled(dialled).await {
                None => return,
                Some(Ok(link)) => {
                    self.use_link(link, &endpoint, &end).await;
                    pauses = backoff();
                }
                Some(Err(Failure::Refused {
                    mismatch: Mismatch::Ourselves,
                    text,
                })) => {
                    tracing::debug!(%endpoint, "not followed: {text}");
                    pause = Some(self.look_again);
                }
                Some(Err(failure)) => self.failed(&endpoint, &mut complaints, &failure),
            }
            let pause = pause.or_else(|| pauses.next());
            let pause = sleep(pause.unwrap_or(Duration::from_secs(1)));
            end.run_until_cancelled(pause).await;
        }
    }

    /// Follows the node at the other end, unless another connection does:
    /// then until that one is gone, or it is time to look who is there now.
    async fn use_link(&self, link: TableLink, endpoint: &Endpoint, end: &CancellationToken) {
        let TableLink {
            node,
            reader,
            writer,
        } = link;
        let Ok(dialogue) = Arc::clone(&self.replication).receive_from(&node) else {
            replication_link::leave(writer).await;
            drop(reader);
            tracing::debug!(peer = %node, %endpoint, "followed already, over another connection");
            tokio::select! {
                () = self.replication.until_not_replicated(&node) => {}
                () = sleep(self.look_again) => {}
                () = end.cancelled() => {}
            }
            return;
        };
        tracing::info!(peer = %node, %endpoint, "table link up");
        match replication_link::converse(dialogue, reader, writer, end).await {
            Ending::Broken(text) => {
                tracing::warn!(peer = %node, %endpoint, "table link lost: {text}; trying again");
            }
            ending => tracing::info!(peer = %node, %endpoint, ?ending, "table link down"),
        }
    }

    fn failed(&self, endpoint: &Endpoint, complaints: &mut Complaints, failure: &Failure) {
        if let Some(label) = failure.label() {
            self.metrics.links_refused.with_label_values(&[label]).inc();
        }
        let text = failure.to_string();
        if complaints.is_news(&text) {
            tracing::warn!(%endpoint, "no table link: {text}; trying again");
        } else {
            tracing::debug!(%endpoint, "no table link: {text}; trying again");
        }
    }
}
