//! Writes this host's claims to the store, and keeps them alive there.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

use super::Sessions;
use super::claims::{ClaimBatch, REFRESH_PARTS};
use crate::store::{RefusedClaim, StoreError, within};

/// Time limit for one write.
const PATIENCE: Duration = Duration::from_secs(3);
/// Pause before an unreachable store is tried again.
const RETRY_AFTER: Duration = Duration::from_secs(1);
/// Time limit for the last writes before the process ends.
const FAREWELL: Duration = Duration::from_secs(2);
/// Sessions that expire within this time are ended together.
const TOGETHER: Duration = Duration::from_millis(100);

/// The state of [`Sessions::run`].
pub(super) struct ClaimWriter {
    sessions: Arc<Sessions>,
    health: StoreHealth,
    next_part: usize,
    refresh_at: Instant,
}

enum StoreHealth {
    Unknown,
    Up,
    Down { retry_at: Instant },
}

impl ClaimWriter {
    pub(super) fn new(sessions: Arc<Sessions>) -> Self {
        Self {
            sessions,
            health: StoreHealth::Unknown,
            next_part: 0,
            refresh_at: Instant::now(),
        }
    }

    /// Runs until `shutdown`; then writes the changes, if the store answers.
    pub(super) async fn run(mut self, shutdown: CancellationToken) {
        while !shutdown.is_cancelled() {
            self.sessions.expire();
            match self.health {
                StoreHealth::Unknown => self.start_over().await,
                StoreHealth::Down { retry_at } if retry_at <= Instant::now() => {
                    self.start_over().await;
                }
                StoreHealth::Down { retry_at } => self.wait(retry_at, &shutdown).await,
                StoreHealth::Up => self.write_or_wait(&shutdown).await,
            }
        }
        if timeout(FAREWELL, self.write_news()).await.is_err() {
            tracing::warn!("the last claims could not be written in time; they will expire");
        }
    }

    async fn write_or_wait(&mut self, shutdown: &CancellationToken) {
        let batch = self.sessions.state().claims.next_batch();
        if let Some(batch) = batch {
            self.write(batch).await;
        } else if self.refresh_at <= Instant::now() {
            self.refresh().await;
        } else {
            self.wait(self.refresh_at, shutdown).await;
        }
    }

    /// Waits until `at`, or until something changes or is due.
    async fn wait(&self, at: Instant, shutdown: &CancellationToken) {
        let next_end = self.sessions.state().tracker.next_deadline();
        let at = match next_end {
            Some(next_end) => at.min(next_end.max(Instant::now() + TOGETHER)),
            None => at,
        };
        tokio::select! {
            () = shutdown.cancelled() => {}
            () = self.sessions.news.notified() => {}
            () = sleep_until(at) => {}
        }
    }

    /// Lines the next part up if claims expire; when there is nothing to write, pings, so that
    /// an idle gateway also notices when the store is unreachable.
    async fn refresh(&mut self) {
        let now = Instant::now();
        {
            let mut state = self.sessions.state();
            state.claims.forget_withdrawn(now);
            if self.sessions.store.claims_expire() {
                state.claims.refresh_part(self.next_part);
            }
        }
        self.next_part = (self.next_part + 1) % REFRESH_PARTS;
        // A little early and never the same, so that many gateways started at
        // once don't refresh in step.
        let jitter = 0.8 + 0.2 * fastrand::f64();
        self.refresh_at =
            now + (self.sessions.refresh_after / REFRESH_PARTS as u32).mul_f64(jitter);

        self.write_or_ping().await;
    }

    /// Lines everything up to be written. Only a write shows that the store is
    /// back: it may answer a ping and still refuse writes.
    async fn start_over(&mut self) {
        self.sessions.state().claims.refresh_all();
        if self.write_or_ping().await {
            self.succeeded();
        }
    }

    async fn write_or_ping(&mut self) -> bool {
        let batch = self.sessions.state().claims.next_batch();
        match batch {
            Some(batch) => self.write(batch).await,
            None => self.ping().await,
        }
    }

    /// Returns whether it was written.
    async fn write(&mut self, batch: ClaimBatch) -> bool {
        let written = self.sessions.write(&batch).await;
        if let Err((operation, error)) = &written {
            self.sessions.state().claims.requeue(batch);
            self.failed(operation, error);
        }
        written.is_ok()
    }

    async fn write_news(&mut self) {
        loop {
            let batch = self.sessions.state().claims.next_news();
            let Some(batch) = batch else {
                return;
            };
            if !self.write(batch).await {
                return;
            }
        }
    }

    async fn ping(&mut self) -> bool {
        let answer = within(PATIENCE, self.sessions.store.ping()).await;
        if let Err(error) = &answer {
            self.failed("ping", error);
        }
        answer.is_ok()
    }

    fn succeeded(&mut self) {
        if matches!(self.health, StoreHealth::Down { .. }) {
            tracing::info!("the session table is reachable again; all claims are written anew");
        }
        self.health = StoreHealth::Up;
        self.sessions.metrics.store_up.set(1);
    }

    fn failed(&mut self, operation: &str, error: &StoreError) {
        let metrics = &self.sessions.metrics;
        metrics.store_errors.with_label_values(&[operation]).inc();
        metrics.store_up.set(0);
        if !matches!(self.health, StoreHealth::Down { .. }) {
            tracing::warn!(
                operation, %error,
                "the session table is not reachable; routing goes on from what is known, and \
                 claims are written when it is back"
            );
        }
        self.health = StoreHealth::Down {
            retry_at: Instant::now() + RETRY_AFTER.mul_f64(0.8 + 0.4 * fastrand::f64()),
        };
    }
}

impl Sessions {
    /// Writes all changes while peers are still connected: a store that the gateways replicate
    /// themselves can notify no peer after that. [`Self::run`] writes later changes.
    pub async fn write_news(&self) {
        loop {
            let batch = self.state().claims.next_news();
            let Some(batch) = batch else {
                return;
            };
            // The writer reports an unreachable store.
            if self.write(&batch).await.is_err() {
                return self.state().claims.requeue(batch);
            }
        }
    }

    /// # Errors
    /// When the store does not answer, with the operation. A refusal of one claim alone is no
    /// error.
    async fn write(&self, batch: &ClaimBatch) -> Result<(), (&'static str, StoreError)> {
        let mut refused = Vec::new();
        if !batch.withdrawals.is_empty() {
            let withdrawn = within(PATIENCE, self.store.withdraw(&batch.withdrawals)).await;
            refused = withdrawn.map_err(|error| ("withdraw", error))?;
        }
        let claims = self.permitted(&batch.claims).await;
        let claims = claims.map_err(|error| ("settle", error))?;
        if !claims.is_empty() {
            let claimed = within(PATIENCE, self.store.claim(&claims)).await;
            refused.extend(claimed.map_err(|error| ("claim", error))?);
        }
        self.report(refused);
        Ok(())
    }

    /// Counts refused claims, and logs those refused for the first time.
    fn report(&self, refused: Vec<RefusedClaim>) {
        if refused.is_empty() {
            return;
        }
        let errors = &self.metrics.store_errors;
        let count = errors.with_label_values(&["claim_refused"]);
        count.inc_by(refused.len() as u64);
        let mut state = self.state();
        let new: Vec<_> = refused
            .iter()
            .filter(|refused| state.claims.set_aside(&refused.jid))
            .collect();
        drop(state);
        if let Some(RefusedClaim { jid, reason }) = new.first() {
            tracing::warn!(
                %jid, %reason, others = new.len() - 1,
                "the session table refuses a claim; the session is not found from other datacenters"
            );
        }
    }
}
