//! Workers carry stanzas: all stanzas of one sender pass the same worker, in order.

use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use jid::{Jid, NodeRef};
use tokio::sync::{mpsc, oneshot};
use tokio_util::task::TaskTracker;

use crate::envelope::{Envelope, Intake, Undelivered};
use crate::host::Locations;
use crate::metrics::Metrics;
use crate::presence_sync::SweepAction;
use crate::routing::Relay;
use crate::routing::hold::{DueWork, HoldKey, HoldQueue, PendingLookup};
use crate::routing::relay::LookedUp;
use crate::sessions::Sessions;

/// The bound of jobs in the queue of one worker; at the bound senders wait too.
const QUEUE: usize = 1024;

/// Look-ups in the session table at the same time, at most.
const LOOKUPS: usize = 1024;

/// A worker's job, for one sender.
#[derive(Debug)]
enum WorkerJob {
    /// A stanza has come in.
    Carry(Envelope),
    /// The held stanzas of a pair are due.
    Retry(HoldKey, Option<LookedUp>),
    /// A link or the component has returned a stanza.
    Reroute(Undelivered),
    /// A presence of the gateway's own is due.
    Presence(SweepAction),
    /// A caller waits until all jobs before this one are done.
    Flush(oneshot::Sender<()>),
}

/// The workers' queues.
#[derive(Debug, Clone)]
pub struct Workers {
    queues: Arc<[mpsc::Sender<WorkerJob>]>,
}

impl Workers {
    /// Starts `count` workers. The workers end when the last clone of `Workers` is
    /// dropped and their queues are empty.
    #[must_use]
    pub fn start(
        count: usize,
        relay: &Arc<Relay>,
        metrics: &Arc<Metrics>,
        tasks: &TaskTracker,
    ) -> Self {
        let queues = (0..count.max(1))
            .map(|_| {
                let (queue, jobs) = mpsc::channel(QUEUE);
                tasks.spawn(work(jobs, Arc::clone(relay), Arc::clone(metrics)));
                queue
            })
            .collect();
        Self { queues }
    }

    /// Routes an envelope again that a link or the component could not deliver.
    pub async fn reroute(&self, undelivered: Undelivered) {
        let queue = self.queue_of(undelivered.envelope.stanza.from());
        send(queue, WorkerJob::Reroute(undelivered)).await;
    }

    /// Retries held pairs when they are due, and asks the session table for those that
    /// wait for its answer: a slow table delays the stanzas of a pair, and no worker.
    /// Runs until dropped.
    pub(crate) async fn retry(&self, hold: &HoldQueue, sessions: &Sessions) {
        let mut lookups = FuturesUnordered::new();
        loop {
            let (pair, looked_up) = tokio::select! {
                work = hold.due(), if lookups.len() < LOOKUPS => match work {
                    DueWork::Retry(pair) => (pair, None),
                    DueWork::LookUp(lookup) => {
                        lookups.push(look_up(sessions, lookup));
                        continue;
                    }
                },
                Some((lookup, locations)) = lookups.next() => {
                    if lookup.is_a_try {
                        let recipient = lookup.recipient;
                        (lookup.pair, Some(LookedUp { recipient, locations }))
                    } else if locations.is_online() {
                        (lookup.pair, None)
                    } else {
                        hold.asked(&lookup.pair);
                        continue;
                    }
                }
            };
            let queue = self.queue_of(pair.sender.as_deref());
            send(queue, WorkerJob::Retry(pair, looked_up)).await;
        }
    }

    /// Performs `action` behind all stanzas that its sender sent before.
    pub(crate) async fn perform(&self, action: SweepAction) {
        let queue = self.queue_of(Some(&action.sender()));
        send(queue, WorkerJob::Presence(action)).await;
    }

    /// Waits until all jobs handed over before are done.
    pub async fn flush(&self) {
        for queue in self.queues.iter() {
            let (done, flushed) = oneshot::channel();
            if queue.send(WorkerJob::Flush(done)).await.is_ok() {
                // An error means that the worker has ended: nothing is left then.
                flushed.await.ok();
            }
        }
    }

    fn queue_of(&self, sender: Option<&Jid>) -> &mpsc::Sender<WorkerJob> {
        let shard = shard_of(sender.and_then(Jid::node), self.queues.len());
        &self.queues[shard]
    }
}

async fn look_up(sessions: &Sessions, lookup: PendingLookup) -> (PendingLookup, Locations) {
    let locations = sessions.locate(&lookup.recipient).await;
    (lookup, locations)
}

async fn send(queue: &mpsc::Sender<WorkerJob>, job: WorkerJob) {
    // Fails only when the worker has ended, which is when the process ends.
    if queue.send(job).await.is_err() {
        tracing::error!("a worker has ended while stanzas still come in; please report this");
    }
}

#[async_trait]
impl Intake for Workers {
    async fn take(&self, envelope: Envelope) {
        let queue = self.queue_of(envelope.stanza.from());
        send(queue, WorkerJob::Carry(envelope)).await;
    }

    fn try_take(&self, envelope: Envelope) -> Option<Envelope> {
        match self.queue_of(envelope.stanza.from()).try_reserve() {
            Ok(place) => {
                place.send(WorkerJob::Carry(envelope));
                None
            }
            Err(_) => Some(envelope),
        }
    }
}

/// The worker, one of `count`, for the senders with this localpart. Only the
/// localpart counts: stanzas from the component stream still have their local domain, held
/// and returned ones have the global domain, and these must not overtake each
/// other.
fn shard_of(localpart: Option<&NodeRef>, count: usize) -> usize {
    let mut hasher = DefaultHasher::new();
    localpart.hash(&mut hasher);
    usize::try_from(hasher.finish() % count as u64).unwrap_or(0)
}

async fn work(mut jobs: mpsc::Receiver<WorkerJob>, relay: Arc<Relay>, metrics: Arc<Metrics>) {
    while let Some(job) = jobs.recv().await {
        match job {
            WorkerJob::Carry(envelope) => {
                metrics
                    .incoming_queue_time
                    .observe(micros(envelope.taken_at.elapsed()));
                relay.carry(envelope).await;
            }
            WorkerJob::Retry(pair, looked_up) => relay.retry(&pair, looked_up).await,
            WorkerJob::Reroute(undelivered) => relay.reroute(undelivered).await,
            WorkerJob::Presence(action) => relay.perform(action).await,
            // The caller may have stopped waiting.
            WorkerJob::Flush(done) => done.send(()).unwrap_or_default(),
        }
    }
}

fn micros(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sender_has_one_worker_under_its_local_and_its_global_address() {
        let shard = |jid: &str| shard_of(Jid::new(jid).unwrap().node(), 8);
        let users: Vec<String> = (0..100).map(|n| format!("user{n}")).collect();
        for user in &users {
            let local = shard(&format!("{user}@dc1.test"));
            assert_eq!(local, shard(&format!("{user}@example.test")), "{user}");
        }
        let used: std::collections::BTreeSet<_> = users
            .iter()
            .map(|user| shard(&format!("{user}@dc1.test")))
            .collect();
        assert_eq!(used.len(), 8, "the users are spread over all workers");
    }
}
