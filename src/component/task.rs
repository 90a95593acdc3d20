//! The task that keeps the stream up.

use std::sync::Arc;
use std::time::Duration;

use prometheus::IntGauge;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use super::attach::{Attached, attach};
use super::failure::{StreamFailure, shown};
use super::outbox::Outbox;
use super::queue::{Ending, Rejected};
use super::reader::Reader;
use super::retry::{LogDetail, Outage};
use super::routing_probe::Misrouted;
use super::stream::live;
use super::{Attachment, Settings};
use crate::envelope::{Arrival, Envelope, Intake, Obstacle, Undelivered};
use crate::host::Host;
use crate::metrics::Metrics;

/// The task behind a [`super::Component`]: attaches, reads and writes.
#[derive(Debug)]
pub struct ComponentTask {
    settings: Settings,
    metrics: Arc<Metrics>,
    outbox: Arc<Outbox>,
    attachment: watch::Sender<Attachment>,
    undelivered: mpsc::UnboundedSender<Undelivered>,
    attached: IntGauge,
    attached_times: u64,
}

impl ComponentTask {
    pub(super) fn new(
        settings: Settings,
        metrics: Arc<Metrics>,
        outbox: Arc<Outbox>,
        attachment: watch::Sender<Attachment>,
        undelivered: mpsc::UnboundedSender<Undelivered>,
    ) -> Self {
        let attached = &metrics.component_attached;
        let attached = attached.with_label_values(&[settings.domain.as_str()]);
        Self {
            settings,
            metrics,
            outbox,
            attachment,
            undelivered,
            attached,
            attached_times: 0,
        }
    }

    /// The component attaches under this name.
    pub(super) fn domain(&self) -> &Host {
        &self.settings.domain
    }

    /// Keeps the stream up and hands the server's stanzas to `intake`, until
    /// `shutdown`; then writes the waiting stanzas, waits for the server to
    /// confirm them (2 s at most), closes the stream, and returns the unconfirmed
    /// stanzas. `intake` must go on accepting until this returns.
    pub async fn run(
        mut self,
        intake: Arc<dyn Intake>,
        shutdown: CancellationToken,
    ) -> Vec<Envelope> {
        let giving_back = Returner {
            settings: self.settings.clone(),
            metrics: self.metrics.clone(),
            outbox: self.outbox.clone(),
            undelivered: self.undelivered.clone(),
        };
        tokio::select! {
            () = self.keep_up(&*intake, &shutdown) => {}
            () = giving_back.run(&*intake) => {}
        }
        let (left, rejected) = self.outbox.close();
        for rejected in rejected {
            giving_back.refuse(rejected, &*intake).await;
        }
        left
    }

    async fn keep_up(&mut self, intake: &dyn Intake, shutdown: &CancellationToken) {
        let mut outage = Outage::new();
        loop {
            let attempt = tokio::select! {
                biased;
                () = shutdown.cancelled() => return,
                attempt = attach(&self.settings.config, &self.settings.domain) => attempt,
            };
            let failure = match attempt {
                Ok(attached) => {
                    let since = Instant::now();
                    let Some(failure) = self.live(attached, intake, shutdown).await else {
                        return;
                    };
                    outage.interrupted(since.elapsed());
                    failure
                }
                Err(failure) => {
                    let failures = &self.metrics.component_attach_failures;
                    let domain = self.settings.domain.as_str();
                    failures
                        .with_label_values(&[domain, failure.reason()])
                        .inc();
                    failure
                }
            };
            self.tell(&failure, &mut outage);
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = sleep(outage.delay(&failure)) => {}
            }
        }
    }

    async fn live(
        &mut self,
        attached: Attached,
        intake: &dyn Intake,
        shutdown: &CancellationToken,
    ) -> Option<StreamFailure> {
        self.attached_times += 1;
        let domain = self.settings.domain.as_str();
        self.metrics
            .component_attaches
            .with_label_values(&[domain])
            .inc();
        self.attached.set(1);
        self.outbox.attached();
        tracing::info!(
            server = %self.settings.config.server,
            %domain,
            "attached to the local server"
        );
        self.attachment.send_replace(Attachment::Attached {
            times: self.attached_times,
        });
        let reader = Reader {
            settings: &self.settings,
            metrics: &self.metrics,
            outbox: &self.outbox,
            intake,
        };
        let failure = live(reader, attached, shutdown).await;
        self.attached.set(0);
        let ending = failure
            .as_ref()
            .map_or(Ending::Orderly, StreamFailure::ending);
        self.count_replayed(self.outbox.detached(ending));
        match &failure {
            Some(failure) => {
                let losses = &self.metrics.component_losses;
                let domain = self.settings.domain.as_str();
                losses.with_label_values(&[domain, failure.reason()]).inc();
            }
            None => self.announce(false, "the stream is not needed any more".to_owned()),
        }
        failure
    }

    fn count_replayed(&self, count: usize) {
        if count > 0 {
            let (domain, count) = (self.settings.domain.as_str(), count as u64);
            let replayed = &self.metrics.component_replayed;
            replayed.with_label_values(&[domain]).inc_by(count);
            tracing::warn!(
                %domain, messages = count,
                "the server died; what it accepted at last is written again, and may come twice"
            );
        }
    }

    fn tell(&self, failure: &StreamFailure, outage: &mut Outage) {
        let Settings { domain, config, .. } = &self.settings;
        let advice = failure.advice(&self.settings);
        let (server, reason) = (&config.server, failure.reason());
        match outage.tell(failure, Instant::now()) {
            LogDetail::Everything => tracing::warn!(
                %server, %domain, reason,
                "not attached to the local server: {failure}. {advice}"
            ),
            LogDetail::Briefly => tracing::warn!(
                %server, %domain, reason,
                "still not attached to the local server: {failure}"
            ),
            LogDetail::Nothing => tracing::debug!(
                %server, %domain, reason,
                "not attached to the local server: {failure}"
            ),
        }
        self.announce(failure.is_taken(), format!("{failure}. {advice}"));
    }

    fn announce(&self, taken: bool, why: String) {
        self.attachment
            .send_replace(Attachment::Detached { taken, why });
    }
}

/// Returns stanzas that can't be written, whether the stream is up or not.
struct Returner {
    settings: Settings,
    metrics: Arc<Metrics>,
    outbox: Arc<Outbox>,
    undelivered: mpsc::UnboundedSender<Undelivered>,
}

impl Returner {
    async fn run(&self, intake: &dyn Intake) {
        let tick =
            (self.settings.max_wait / 10).clamp(Duration::from_millis(10), Duration::from_secs(1));
        loop {
            for envelope in self.outbox.take_late(Instant::now()) {
                let reason = Obstacle::TooLate;
                // The receiver closes only when the gateway stops.
                let _ = self.undelivered.send(Undelivered { envelope, reason });
            }
            for rejected in self.outbox.take_rejected() {
                self.refuse(rejected, intake).await;
            }
            if let Some(misrouted) = self.outbox.tend(Instant::now()) {
                self.report_misrouted(misrouted.as_ref());
            }
            tokio::select! {
                () = sleep(tick) => {}
                () = self.outbox.rejection() => {}
            }
        }
    }

    fn report_misrouted(&self, misrouted: Option<&Misrouted>) {
        let (domain, server) = (&self.settings.domain, &self.settings.config.server);
        let gauge = &self.metrics.component_misrouted;
        let gauge = gauge.with_label_values(&[domain.as_str()]);
        gauge.set(i64::from(misrouted.is_some()));
        match misrouted {
            Some(misrouted) => tracing::error!(
                %server, %domain,
                "stanzas are misrouted: {}", misrouted.advice(domain, server)
            ),
            None => tracing::info!(%server, %domain, "no stanzas are misrouted any more"),
        }
    }

    /// The counters count the stanza as returned, too, because the relay counted
    /// it as reinjected.
    async fn refuse(&self, rejected: Rejected, intake: &dyn Intake) {
        let Rejected {
            mut envelope,
            refusal,
        } = rejected;
        let reason = refusal.reason.label();
        self.metrics
            .returned
            .with_label_values(&["component"])
            .inc();
        self.metrics.refused.with_label_values(&[reason]).inc();
        if let Some(left_out) = self.outbox.log_limiter.allows(&format!("written {reason}")) {
            tracing::error!(
                id = %envelope.id,
                origin = %envelope.origin,
                from = shown(envelope.stanza.from()),
                to = shown(envelope.stanza.to()),
                reason,
                "a stanza was refused because writing it ends the stream to the local server: \
                 {}{left_out}",
                refusal.text
            );
        }
        if let Some(reply) = envelope.stanza.error_reply(&refusal) {
            // A foreign sender receives the error through the host whose server
            // it wrote to.
            let origin = envelope.origin.clone();
            let ttl = self.settings.message_ttl;
            intake
                .take(Envelope::new(origin, Arrival::Own, ttl, reply))
                .await;
        }
        envelope.receipt.settle();
    }
}
