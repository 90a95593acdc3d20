//! Same sender, same worker, in order.

use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use jid::BareJid;
use tokio::sync::{mpsc, oneshot};
use tokio_util::task::TaskTracker;

use crate::envelope::{Envelope, Intake, Undelivered};
use crate::metrics::Metrics;
use crate::presence_sync::SweepAction;
use crate::routing::Relay;
use crate::routing::hold::{HoldKey, HoldQueue};

/// Jobs that wait in front of one worker; then whoever hands over waits too.
const QUEUE: usize = 1024;

/// What a worker does, each for one sender.
#[derive(Debug)]
enum WorkerJob {
    /// A stanza has come in.
    Carry(Envelope),
    /// The held stanzas of a pair are due.
    Retry(HoldKey),
    /// A way out gave a stanza back.
    Reroute(Undelivered),
    /// Presence of the gateway's own is due.
    Presence(SweepAction),
    /// Somebody wants to know when all before this is done.
    Flush(oneshot::Sender<()>),
}

/// The workers' queues.
#[derive(Debug, Clone)]
pub struct Workers {
    queues: Arc<[mpsc::Sender<WorkerJob>]>,
}

impl Workers {
    /// Starts `count` workers. They end when the last clone of this is gone
    /// and their queues are empty.
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

    /// Hands back what a link or the component could not deliver.
    pub async fn reroute(&self, undelivered: Undelivered) {
        let sender = undelivered.envelope.stanza.from().map(jid::Jid::to_bare);
        self.queue(sender.as_ref(), WorkerJob::Reroute(undelivered))
            .await;
    }

    /// Brings held pairs back when their retry is due. Runs until dropped.
    pub async fn retry(&self, bounce: &HoldQueue) {
        loop {
            let pair = bounce.due().await;
            let sender = pair.sender.clone();
            self.queue(sender.as_ref(), WorkerJob::Retry(pair)).await;
        }
    }

    /// Performs `action` behind all that its sender sent before.
    pub(crate) async fn perform(&self, action: SweepAction) {
        self.queue(Some(&action.sender()), WorkerJob::Presence(action))
            .await;
    }

    /// Waits until all that was handed over before is carried.
    pub async fn flush(&self) {
        for queue in self.queues.iter() {
            let (done, flushed) = oneshot::channel();
            if queue.send(WorkerJob::Flush(done)).await.is_ok() {
                // An error means that the worker has ended: nothing is left then.
                flushed.await.ok();
            }
        }
    }

    async fn queue(&self, sender: Option<&BareJid>, job: WorkerJob) {
        let shard = shard_of(sender, self.queues.len());
        // Fails only when the worker is gone, which is when the process ends.
        if self.queues[shard].send(job).await.is_err() {
            tracing::error!("a worker has ended while stanzas still come in; please report this");
        }
    }
}

#[async_trait]
impl Intake for Workers {
    async fn take(&self, envelope: Envelope) {
        let sender = envelope.stanza.from().map(jid::Jid::to_bare);
        self.queue(sender.as_ref(), WorkerJob::Carry(envelope))
            .await;
    }
}

/// Which of `count` workers carries what `sender` sends. By the localpart alone:
/// what comes from the component stream still has its local domain, and what
/// is held or given back has the global one, and they must not overtake each
/// other.
fn shard_of(sender: Option<&BareJid>, count: usize) -> usize {
    let mut hasher = DefaultHasher::new();
    sender.and_then(|sender| sender.node()).hash(&mut hasher);
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
            WorkerJob::Retry(pair) => relay.retry(&pair).await,
            WorkerJob::Reroute(undelivered) => relay.reroute(undelivered).await,
            WorkerJob::Presence(action) => relay.perform(action).await,
            // Nobody waits any more: fine.
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
        let shard = |jid: &str| shard_of(Some(&BareJid::new(jid).unwrap()), 8);
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
