//! Builds, starts and stops the gateway; the only module that spawns long-lived tasks.

mod controlling;
mod follow;
mod readiness;
mod reload;
mod session_store;
mod status;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use tokio::sync::{Notify, mpsc, watch};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{info, warn};

use self::controlling::Controlling;
use self::follow::{follow_attachment, follow_peers, follow_services};
use self::readiness::readiness;
pub use self::reload::ReadConfig;
use self::reload::Reloader;
use self::session_store::SessionStore;
use self::status::status;
use crate::addresses::{Senders, Translator};
use crate::admin::{Admin, Commands, Statuses};
use crate::component::{self, Components, ComponentsTask, Role};
use crate::config::{self, Config, Endpoint};
use crate::envelope::{Intake, Undelivered};
use crate::link::{
    ConnectedProcesses, Credentials, Dialler, Identity, IncomingSlots, Links, Listener,
};
use crate::metrics::{Metrics, RoutingCounters};
use crate::presence_sync::{PresenceInputs, PresenceSync, PresenceTask};
use crate::registry::{self, Registry};
use crate::routing::{FanOut, HoldQueue, NextHops, Relay, RoutingRules, SharedDomain, Workers};
use crate::servers::KnownServer;
use crate::services::Services;
use crate::sessions::Sessions;

/// The drain limit: stanzas that peers have not acknowledged by then return to
/// their senders.
const DRAIN: Duration = Duration::from_secs(5);
/// The longest wait for the workers to empty their queues.
const FLUSH: Duration = Duration::from_secs(2);

/// Requests of the operator to a running gateway.
pub struct Requests {
    /// Cancelled to drain and stop the gateway.
    pub shutdown: CancellationToken,
    /// Notified to reload the configuration.
    pub reload: Arc<Notify>,
    /// Reads the configuration again.
    pub read: Box<ReadConfig>,
}

/// Runs a gateway until a shutdown is requested, then drains it.
///
/// # Errors
/// A resource that the configuration names can't be used: an address can't be
/// bound, certificates do not fit. An unreachable server or store is no error:
/// the gateway waits for both.
pub async fn run(config: Config, metrics: Arc<Metrics>, requests: Requests) -> anyhow::Result<()> {
    Gateway::build(&config, metrics)
        .await?
        .serve(requests)
        .await;
    Ok(())
}

/// A gateway, built and not started: every address bound, no connection open.
struct Gateway {
    metrics: Arc<Metrics>,
    credentials: Arc<Credentials>,
    table: SessionStore,
    sessions: Arc<Sessions>,
    registry: Arc<Registry>,
    links: Arc<Links>,
    slots: Arc<IncomingSlots>,
    listeners: Vec<Listener>,
    components: Components,
    components_task: ComponentsTask,
    controlling: Controlling,
    presence_task: PresenceTask,
    own_services: Vec<config::ServiceConfig>,
    relay: Arc<Relay>,
    undelivered: Undeliverable,
    admin: Option<(Admin, Arc<Statuses>)>,
    tasks: TaskTracker,
    ends: Ends,
}

impl Gateway {
    async fn build(config: &Config, metrics: Arc<Metrics>) -> anyhow::Result<Self> {
        let tasks = TaskTracker::new();
        let ends = Ends::default();
        let identity = Identity {
            host: config.local_host.clone(),
            node: config.node.clone(),
            epoch: uuid::Uuid::new_v4().as_u64_pair().0,
        };
        let limit = config.component.stanza_size_limit;

        let credentials = Credentials::load(
            &config.connections.tls,
            config.peers.clone(),
            &config.local_host,
        )?;
        let dialler = Dialler::new(identity.clone(), Arc::clone(&credentials));
        let table = SessionStore::new(config, &identity, &dialler, &metrics)?;
        let store = Arc::clone(&table.store);
        let (from_links, links_gave_back) = mpsc::unbounded_channel();
        let (from_component, component_gave_back) = mpsc::unbounded_channel();
        let links = Arc::new(Links::new(
            dialler,
            &config.connections,
            limit,
            Arc::clone(&metrics),
            from_links,
            tasks.clone(),
            ends.intake.clone(),
        ));
        let slots = Arc::new(IncomingSlots::default());
        let mut listeners = Vec::new();
        for endpoint in &config.connections.endpoints {
            listeners.push(
                Listener::bind(
                    endpoint,
                    identity.clone(),
                    Arc::clone(&credentials),
                    limit,
                    Arc::clone(&metrics),
                    Arc::clone(&slots),
                    table.replication(),
                )
                .await?,
            );
        }
        let admin = match config.admin.listen {
            Some(address) => Some(
                Admin::bind(
                    address,
                    config.admin.allowed_hosts.clone().unwrap_or_default(),
                )
                .await
                .with_context(|| format!("admin.listen: {address} can't be bound"))?,
            ),
            None => None,
        };
        let sessions = Sessions::new(
            config.local_host.clone(),
            Arc::clone(&store),
            &config.cache,
            config.times(),
            config.sessions.sources.clone(),
            config.accounts,
            Arc::clone(&metrics),
        );
        let registry = Arc::new(Registry::new(
            registry_settings(config, &listeners, &credentials),
            store,
        ));
        let (components, components_task) = Components::new(
            component_settings(config),
            Arc::clone(&metrics),
            from_component,
        );
        let controlling = Controlling::new(config, &sessions, &components, &metrics)?;
        let services = Services::new(
            config.global_host.clone(),
            config.disco.users_can_see_hidden_services,
        );
        let local = || config.local_host.clone();
        let relay = Arc::new(Relay {
            rules: RoutingRules {
                global: config.global_host.clone(),
                local: local(),
                bounce_enabled: config.bounce.enabled,
                max_retries: config.bounce.max_retries,
                message_ttl: config.message_ttl,
            },
            sessions: Arc::clone(&sessions),
            shared_domain: SharedDomain::new(
                config.global_host.clone(),
                local(),
                services,
                registry.directory(),
            ),
            next_hops: NextHops {
                translator: Translator::new(
                    config.global_host.clone(),
                    local(),
                    &config.services,
                    senders(config),
                ),
                components: components.clone(),
                links: Arc::clone(&links),
            },
            hold: Arc::new(HoldQueue::new(
                &config.bounce,
                config.connections.max_wait,
                local(),
                Arc::clone(&metrics),
            )),
            fan_out: FanOut::new(config.connections.max_wait),
            presence: Arc::new(PresenceSync::new(
                config.global_host.clone(),
                config.local_host.clone(),
                Arc::clone(&metrics),
            )),
            counters: RoutingCounters::new(&metrics),
        });
        let presence_task = presence_task(config, &relay, slots.connected());
        let status = status(
            config,
            &components,
            &controlling,
            &registry,
            &links,
            &metrics,
        );
        Ok(Self {
            metrics,
            credentials,
            table,
            sessions,
            registry,
            links,
            slots,
            listeners,
            components,
            components_task,
            controlling,
            presence_task,
            own_services: config.services.clone(),
            relay,
            undelivered: Undeliverable {
                links: links_gave_back,
                component: component_gave_back,
            },
            admin: admin.map(|admin| (admin, status)),
            tasks,
            ends,
        })
    }
}

fn presence_task(
    config: &Config,
    relay: &Relay,
    connected: watch::Receiver<ConnectedProcesses>,
) -> PresenceTask {
    let (notify, ended) = mpsc::unbounded_channel();
    relay.sessions.notify_ends(notify);
    let (sessions, links) = (
        Arc::clone(&relay.sessions),
        Arc::clone(&relay.next_hops.links),
    );
    let inputs = PresenceInputs {
        unavailable_after: config.presence.unavailable_after,
        connected,
        attachment: relay.next_hops.components.attachment(),
        ended,
        is_here: Box::new(move |jid| sessions.is_here(jid)),
        is_up: Box::new(move |host| links.is_up(host)),
    };
    PresenceTask::new(Arc::clone(&relay.presence), inputs)
}

fn senders(config: &Config) -> Senders {
    let control = config.control.component.as_ref();
    let control = control.map(|control| control.domain.clone());
    Senders {
        foreign: config.component.foreign_from,
        own: [config.local_host.clone()]
            .into_iter()
            .chain(control)
            .collect(),
    }
}

fn component_settings(config: &Config) -> component::Settings {
    component::Settings {
        role: Role::Shared,
        domain: config.global_host.clone(),
        global_host: config.global_host.clone(),
        local_host: config.local_host.clone(),
        config: config.component.clone(),
        message_ttl: config.message_ttl,
        max_wait: config.connections.max_wait,
        queue_bytes: config.connections.queue_bytes,
        probes_routing: true,
        presumed: KnownServer::configured(&config.control),
    }
}

fn registry_settings(
    config: &Config,
    listeners: &[Listener],
    credentials: &Credentials,
) -> registry::RegistryConfig {
    let connections = &config.connections;
    registry::RegistryConfig {
        global_host: config.global_host.clone(),
        local_host: config.local_host.clone(),
        endpoints: advertised(config, listeners),
        services: config.services.clone(),
        allowed: credentials.allowed(),
        intervals: registry::RegistryIntervals {
            announce: config.times().refresh_after,
            hosts: config.hosts_refresh_interval,
            endpoints: connections.endpoint_refresh_interval,
            endpoints_when_empty: connections.endpoint_refresh_interval_when_empty,
        },
        domain_lifetime: config.cache.domain_lifetime,
    }
}

/// Stanzas that the links and the component streams could not deliver.
struct Undeliverable {
    links: mpsc::UnboundedReceiver<Undelivered>,
    component: mpsc::UnboundedReceiver<Undelivered>,
}

/// The endpoints for peers to dial: as configured, or the listeners' addresses.
fn advertised(config: &Config, listeners: &[Listener]) -> Vec<Endpoint> {
    config
        .connections
        .advertised_endpoints
        .clone()
        .unwrap_or_else(|| {
            listeners
                .iter()
                .map(|listener| {
                    let address = listener.local_addr();
                    Endpoint {
                        host: address.ip().to_string(),
                        port: address.port(),
                    }
                })
                .collect()
        })
}

/// The tokens that end the tasks, in this order.
#[derive(Debug, Default)]
struct Ends {
    /// Ends new links, stanzas from peers, and the entry in the registry.
    intake: CancellationToken,
    /// Ends the component streams.
    component: CancellationToken,
    /// Ends all other tasks.
    rest: CancellationToken,
}

impl Gateway {
    async fn serve(self, requests: Requests) {
        let workers = Workers::start(worker_count(), &self.relay, &self.metrics, &self.tasks);
        let Self {
            metrics,
            credentials,
            table,
            sessions,
            registry,
            links,
            slots,
            listeners,
            components,
            components_task,
            controlling,
            presence_task,
            own_services,
            relay,
            undelivered,
            admin,
            tasks,
            ends,
        } = self;
        let intake: Arc<dyn Intake> = Arc::new(workers.clone());

        let Requests {
            shutdown,
            reload,
            read,
        } = requests;
        let reloader = Arc::new(Reloader {
            read,
            credentials: Arc::clone(&credentials),
            metrics: Arc::clone(&metrics),
        });
        reloader.show_expiry();
        if let Some((admin, status)) = admin {
            let control = controlling.attachment();
            let ready = readiness(
                &components,
                control,
                &registry,
                &links,
                credentials,
                table.health(&metrics),
            );
            let (shutdown, reloader) = (shutdown.clone(), Arc::clone(&reloader));
            let commands = Commands {
                reload: Box::new(move || reloader.reload()),
                shutdown,
            };
            let store = Arc::clone(&table.store);
            tasks.spawn(admin.run(
                Arc::clone(&metrics),
                ready,
                status,
                store,
                commands,
                ends.rest.clone(),
            ));
        }
        tasks.spawn(ends.rest.clone().run_until_cancelled_owned(async move {
            loop {
                reload.notified().await;
                let reloader = Arc::clone(&reloader);
                // The outcome is in the log; a panic is too.
                let _ = tokio::task::spawn_blocking(move || reloader.reload()).await;
            }
        }));
        controlling.start(&tasks, &ends.component);
        // The node is a standby until it knows that no other node has the
        // server's stream.
        registry.set_standby(true);
        table.start(&tasks, &ends.rest);
        tasks.spawn(Arc::clone(&sessions).run(ends.rest.clone()));
        tasks.spawn(follow_attachment(
            components.attachment(),
            Arc::clone(&sessions),
            Arc::clone(&relay),
            Arc::clone(&registry),
            ends.rest.clone(),
        ));
        tasks.spawn(follow_peers(
            registry.peers(),
            Arc::clone(&links),
            ends.rest.clone(),
        ));
        let announcing = {
            let (registry, links, end) = (
                Arc::clone(&registry),
                Arc::clone(&links),
                ends.intake.clone(),
            );
            tasks.spawn(async move { registry.run(move |host| links.is_up(host), end).await })
        };
        for (from, given_back) in [
            ("link", undelivered.links),
            ("component", undelivered.component),
        ] {
            tasks.spawn(reroute(
                from,
                given_back,
                workers.clone(),
                Arc::clone(&metrics),
                ends.rest.clone(),
            ));
        }
        let presence_actions = workers.clone();
        let perform = move |action| {
            let workers = presence_actions.clone();
            async move { workers.perform(action).await }
        };
        tasks.spawn(presence_task.run(perform, ends.rest.clone()));
        {
            let (workers, relay, end) = (workers.clone(), Arc::clone(&relay), ends.rest.clone());
            tasks.spawn(async move {
                let retry = workers.retry(&relay.hold, &relay.sessions);
                end.run_until_cancelled(retry).await
            });
        }
        let (streams, wanted) = watch::channel(BTreeSet::new());
        tasks.spawn(follow_services(
            registry.directory(),
            own_services,
            streams,
            ends.component.clone(),
        ));
        let attached =
            tasks.spawn(components_task.run(wanted, Arc::clone(&intake), ends.component.clone()));
        for listener in listeners {
            info!(address = %listener.local_addr(), "accepting links");
            tasks.spawn(listener.run(Arc::clone(&intake), ends.intake.clone()));
        }
        drop(intake);

        shutdown.cancelled().await;

        info!("stopping: peers are told, what is under way is delivered first");
        within(FLUSH, "the last claims", sessions.write_news()).await;
        ends.intake.cancel();
        within(DRAIN, "the registry", announcing).await;
        // The gateway delivers and acknowledges stanzas from peers while the
        // streams to the server are up: otherwise the peers would send the
        // stanzas again through another node.
        let links_drained = async {
            slots.vacated().await;
            links.drain().await;
        };
        within(DRAIN, "the links", links_drained).await;
        links.close();
        relay.close().await;
        within(FLUSH, "the workers", workers.flush()).await;
        ends.component.cancel();
        within(DRAIN, "the component streams", attached).await;
        ends.rest.cancel();
        drop((workers, sessions));
        tasks.close();
        within(FLUSH, "the last tasks", tasks.wait()).await;
        info!("stopped");
    }
}

/// Bounds one step of the shutdown, and logs a step that took too long.
async fn within<T>(time: Duration, what: &str, step: impl Future<Output = T>) {
    if timeout(time, step).await.is_err() {
        warn!("{what} took longer than {time:?} to stop; going on without");
    }
}

/// Returns undelivered stanzas to the workers.
async fn reroute(
    from: &'static str,
    mut given_back: mpsc::UnboundedReceiver<Undelivered>,
    workers: Workers,
    metrics: Arc<Metrics>,
    end: CancellationToken,
) {
    let pump = async {
        while let Some(undelivered) = given_back.recv().await {
            metrics.returned.with_label_values(&[from]).inc();
            workers.reroute(undelivered).await;
        }
    };
    end.run_until_cancelled(pump).await;
}

/// The number exceeds the cores' because a worker may wait for the session table.
fn worker_count() -> usize {
    4 * std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
}
