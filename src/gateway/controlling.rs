//! Builds the control component's stream together with the module behind it.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::component_settings;
use crate::component::{Attachment, Component, ComponentTask, Components, Role, Settings};
use crate::config::{self, Config, ControlComponent};
use crate::control::{Control, ControlSettings, ControlStatus};
use crate::envelope::Intake;
use crate::host::Host;
use crate::metrics::Metrics;
use crate::servers;
use crate::sessions::Sessions;

/// The longest list that the gateway reads, in bytes: one of a million sessions.
const LONGEST_LIST: usize = 64 * 1024 * 1024;

/// The control component, built and not started.
pub(super) struct Controlling {
    control: Control,
    stream: Option<Stream>,
}

struct Stream {
    domain: Host,
    component: Component,
    task: ComponentTask,
}

impl Controlling {
    /// Reads `[control]` in `config`. If that is empty, there is no server to
    /// ask, and the status reports it.
    pub(super) fn new(
        config: &Config,
        sessions: &Arc<Sessions>,
        components: &Components,
        metrics: &Arc<Metrics>,
    ) -> anyhow::Result<Self> {
        let control = config.control.component.as_ref();
        let stream = control.map(|control| stream(config, control, metrics));
        let control = Control::new(ControlSettings {
            global: config.global_host.clone(),
            local: config.local_host.clone(),
            sources: config.sessions.sources.clone(),
            sessions: Arc::clone(sessions),
            metrics: Arc::clone(metrics),
            component: stream
                .as_ref()
                .map(|stream| (stream.domain.clone(), stream.component.clone())),
            admin_api: servers::admin_api(&config.control),
            shared: components.attachment(),
            server: components.server().clone(),
        })?;
        Ok(Self { control, stream })
    }

    /// Follows the sources in use.
    pub(super) fn status(&self) -> watch::Receiver<ControlStatus> {
        self.control.status.clone()
    }

    /// The control component's domain, with the state of its stream.
    pub(super) fn attachment(&self) -> Option<(Host, watch::Receiver<Attachment>)> {
        let stream = self.stream.as_ref()?;
        Some((stream.domain.clone(), stream.component.attachment()))
    }

    /// Starts the stream and the poller; `end` stops both.
    pub(super) fn start(self, tasks: &TaskTracker, end: &CancellationToken) {
        if let (Some(stream), Some(client)) = (self.stream, &self.control.client) {
            let client: Arc<dyn Intake> = Arc::clone(client) as Arc<dyn Intake>;
            let end = end.clone();
            // The stream keeps none of the gateway's own stanzas, so none is left.
            tasks.spawn(async move { drop(stream.task.run(client, end).await) });
        }
        tasks.spawn(self.control.run(end.clone()));
    }
}

fn stream(config: &Config, control: &ControlComponent, metrics: &Arc<Metrics>) -> Stream {
    let settings = Settings {
        role: Role::Control,
        domain: control.domain.clone(),
        config: config::ComponentConfig {
            server: control.server.clone(),
            secret: control.secret.clone(),
            foreign_from: false,
            replay: Duration::ZERO,
            stanza_size_limit: LONGEST_LIST,
        },
        ..component_settings(config)
    };
    // Only the gateway's own requests use this stream, and they are never returned.
    let (undelivered, _) = mpsc::unbounded_channel();
    let (component, task) = Component::new(settings, Arc::clone(metrics), undelivered);
    Stream {
        domain: control.domain.clone(),
        component,
        task,
    }
}
