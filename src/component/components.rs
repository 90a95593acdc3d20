//! The streams to the local server: one for the shared domain, and one for each
//! service domain that the server does not have itself.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use parking_lot::RwLock;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::{Attachment, Component, ComponentTask, Role, Settings};
use crate::envelope::{Envelope, Intake, Obstacle, Undelivered};
use crate::host::Host;
use crate::metrics::Metrics;
use crate::servers::KnownServer;
use crate::stanza::Stanza;

type Services = Arc<RwLock<BTreeMap<Host, Component>>>;

/// A handle to all streams; the task behind it keeps them up.
#[derive(Debug, Clone)]
pub struct Components {
    shared: Component,
    global: Host,
    services: Services,
    /// `component.foreign_from`
    foreign_from: bool,
}

/// Keeps all streams up; behind a [`Components`].
#[derive(Debug)]
pub struct ComponentsTask {
    /// Settings of the shared domain's stream; the other streams differ only in
    /// their domain.
    settings: Settings,
    metrics: Arc<Metrics>,
    undelivered: mpsc::UnboundedSender<Undelivered>,
    shared: ComponentTask,
    services: Services,
}

impl Components {
    /// Returns a handle, and the task to spawn. `settings` is for the stream of
    /// the shared domain. Stanzas that a stream can't deliver come back through
    /// `undelivered`.
    #[must_use]
    pub fn new(
        settings: Settings,
        metrics: Arc<Metrics>,
        undelivered: mpsc::UnboundedSender<Undelivered>,
    ) -> (Self, ComponentsTask) {
        let global = settings.domain.clone();
        let (component, shared) =
            Component::new(settings.clone(), metrics.clone(), undelivered.clone());
        let components = Self {
            shared: component,
            global,
            services: Services::default(),
            foreign_from: settings.config.foreign_from,
        };
        let services = Arc::clone(&components.services);
        let task = ComponentsTask {
            settings,
            metrics,
            undelivered,
            shared,
            services,
        };
        (components, task)
    }

    /// Queues a stanza for the server, as [`Component::try_reinject`] does, on
    /// the stream of the domain that `local` is from: a server accepts no other
    /// sender on a stream.
    ///
    /// # Errors
    /// Returns the envelope when there is no such stream (yet), or the stream's
    /// queue is full.
    pub fn try_reinject(&self, envelope: Envelope, local: Stanza) -> Result<(), Box<Undelivered>> {
        let domain = local.from().map(|sender| sender.domain().as_str());
        // The shared domain's stream refuses a stanza without a sender.
        if domain.is_none_or(|domain| self.is_for_shared(domain)) {
            return self.shared.try_reinject(envelope, local);
        }
        let services = self.services.read();
        match domain.and_then(|domain| services.get(domain)) {
            Some(stream) => stream.try_reinject(envelope, local),
            None => Err(Box::new(Undelivered {
                envelope,
                reason: Obstacle::Absent,
            })),
        }
    }

    /// Senders of `domain` use the stream of the shared domain: the shared domain
    /// itself, and domains that are not below it and so have no stream of their
    /// own.
    fn is_for_shared(&self, domain: &str) -> bool {
        self.global == *domain || (self.foreign_from && !self.global.is_above(domain))
    }

    /// Writes a stanza of the gateway's own, from the shared domain, as
    /// [`Component::send_own`] does.
    pub fn send_own(&self, stanza: Stanza) {
        self.shared.send_own(stanza);
    }

    /// Follows the software and features of the attached server.
    #[must_use]
    pub fn server(&self) -> &watch::Receiver<KnownServer> {
        &self.shared.server
    }

    /// Follows whether the stream of the shared domain is up.
    #[must_use]
    pub fn attachment(&self) -> watch::Receiver<Attachment> {
        self.shared.attachment()
    }

    /// The stream of the shared domain is up, and no other component has the domain.
    ///
    /// # Errors
    /// An explanation for people, with the configuration to change.
    pub fn fitness(&self) -> Result<(), String> {
        self.shared.fitness()
    }

    /// The fitness of the streams of the service domains, by domain.
    #[must_use]
    pub fn service_fitness(&self) -> Vec<(Host, Result<(), String>)> {
        let services = self.services.read();
        services
            .iter()
            .map(|(domain, stream)| (domain.clone(), stream.fitness()))
            .collect()
    }

    /// Whether the streams of the service domains are up, by domain.
    #[must_use]
    pub fn service_attachments(&self) -> Vec<(Host, Attachment)> {
        let services = self.services.read();
        services
            .iter()
            .map(|(domain, stream)| (domain.clone(), stream.attachment.borrow().clone()))
            .collect()
    }
}

impl ComponentsTask {
    /// Keeps the stream of the shared domain up, and one for each domain of
    /// `wanted`, until `shutdown`; then ends each as [`ComponentTask::run`] does.
    /// When a domain is no longer wanted, the stanzas left in its stream are
    /// returned as undelivered.
    pub async fn run(
        self,
        mut wanted: watch::Receiver<BTreeSet<Host>>,
        intake: Arc<dyn Intake>,
        shutdown: CancellationToken,
    ) {
        let mut streams = Streams {
            settings: self.settings,
            metrics: self.metrics,
            undelivered: self.undelivered,
            services: self.services,
            intake,
            shutdown: shutdown.clone(),
            running: JoinSet::new(),
            stops: BTreeMap::new(),
        };
        streams.start(self.shared, shutdown.clone());
        let follow = async {
            loop {
                let domains = wanted.borrow_and_update().clone();
                streams.be_for(&domains);
                if wanted.changed().await.is_err() {
                    return std::future::pending().await;
                }
            }
        };
        shutdown.run_until_cancelled(follow).await;
        while let Some(ended) = streams.running.join_next().await {
            if let Err(error) = ended {
                tracing::error!(%error, "a component stream broke down; please report this");
            }
        }
    }
}

/// The running streams, and what a new stream needs.
struct Streams {
    settings: Settings,
    metrics: Arc<Metrics>,
    undelivered: mpsc::UnboundedSender<Undelivered>,
    services: Services,
    intake: Arc<dyn Intake>,
    shutdown: CancellationToken,
    running: JoinSet<()>,
    /// The tokens that end the streams of the service domains.
    stops: BTreeMap<Host, CancellationToken>,
}

impl Streams {
    /// Ends the streams of domains that are not in `wanted`, and starts the missing ones.
    fn be_for(&mut self, wanted: &BTreeSet<Host>) {
        let unwanted: Vec<Host> = self
            .stops
            .keys()
            .filter(|domain| !wanted.contains(*domain))
            .cloned()
            .collect();
        for domain in unwanted {
            self.end(&domain);
        }
        for domain in wanted {
            if !self.stops.contains_key(domain) {
                self.begin(domain);
            }
        }
    }

    fn begin(&mut self, domain: &Host) {
        tracing::info!(%domain, "this service gets a stream to the local server");
        let settings = Settings {
            role: Role::Service,
            domain: domain.clone(),
            ..self.settings.clone()
        };
        let (component, task) =
            Component::new(settings, self.metrics.clone(), self.undelivered.clone());
        let stop = self.shutdown.child_token();
        self.stops.insert(domain.clone(), stop.clone());
        self.services.write().insert(domain.clone(), component);
        self.start(task, stop);
    }

    fn end(&mut self, domain: &Host) {
        tracing::info!(%domain, "nobody offers this service any more: its stream is to be closed");
        self.services.write().remove(domain.as_str());
        if let Some(stop) = self.stops.remove(domain) {
            stop.cancel();
        }
        for gauge in [
            &self.metrics.component_attached,
            &self.metrics.component_unsettled,
            &self.metrics.component_misrouted,
        ] {
            // An error means that the gauge has no such label already.
            gauge.remove_label_values(&[domain.as_str()]).ok();
        }
    }

    /// Keeps a stream up until `stop`, and then returns the stanzas left in the
    /// stream as undelivered unless the whole gateway stops.
    fn start(&mut self, task: ComponentTask, stop: CancellationToken) {
        let (intake, shutdown) = (Arc::clone(&self.intake), self.shutdown.clone());
        let undelivered = self.undelivered.clone();
        self.running.spawn(async move {
            let domain = task.domain().clone();
            let left = task.run(intake, stop).await;
            tracing::info!(%domain, "detached from the local server for good");
            if shutdown.is_cancelled() {
                return note_left(&left);
            }
            for envelope in left {
                let reason = Obstacle::Absent;
                // The receiver closes only when the gateway stops.
                let _ = undelivered.send(Undelivered { envelope, reason });
            }
        });
    }
}

fn note_left(left: &[Envelope]) {
    if !left.is_empty() {
        tracing::warn!(
            stanzas = left.len(),
            "stopped before the local server confirmed everything; what came from peers is sent \
             again by them"
        );
    }
}
