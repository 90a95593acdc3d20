//! Asking the server who is online and whose accounts it has.
//!
//! The gateway asks as a component of its own (`[control]`), never as the
//! shared domain: what a server lets that one do, every remote user could. What
//! the server tells by itself (XEP-0356) and what it answers goes to the
//! session table; a MongooseIM is asked over HTTP.

mod accounts;
mod client;
mod graphql;
mod list;
mod poll;
mod requests;
mod status;

use std::sync::Arc;

use jid::{BareJid, DomainPart, FullJid};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

pub use self::client::ControlClient;
pub use self::poll::ListPoller;
pub use self::status::{AccountsStatus, ControlStatus, SourceInUse};

use self::graphql::MongooseIm;
use crate::component::{Attachment, Component};
use crate::config::{self, Source, Sources};
use crate::host::Host;
use crate::metrics::Metrics;
use crate::sessions::Sessions;

/// What this room needs of the rest.
pub struct ControlSettings {
    /// `global_host`
    pub global: Host,
    /// `local_host`
    pub local: Host,
    /// `sessions.sources`
    pub sources: Sources,
    /// Whom what was learnt is told.
    pub sessions: Arc<Sessions>,
    /// The counters.
    pub metrics: Arc<Metrics>,
    /// The control component's stream, if there is one.
    pub component: Option<(Host, Component)>,
    /// `[control.mongooseim]`
    pub mongooseim: Option<config::MongooseImConfig>,
    /// Whether the shared domain's stream is up: when it comes up, the server
    /// is asked at once.
    pub shared: watch::Receiver<Attachment>,
}

/// A handle to the room: what it uses, and what it takes from the control
/// component's stream.
pub struct Control {
    /// Where the control component's stream hands over; `None` without one.
    pub client: Option<Arc<ControlClient>>,
    /// Follows what is used and what can't be seen.
    pub status: watch::Receiver<ControlStatus>,
    poll: ListPoller,
}

impl Control {
    /// Nothing is asked before [`Control::run`].
    ///
    /// # Errors
    /// When the client for MongooseIM can't be set up.
    pub fn new(settings: ControlSettings) -> Result<Self, graphql::Unusable> {
        let names = Names::new(&settings.global, &settings.local);
        let client = settings.component.map(|(domain, component)| {
            Arc::new(ControlClient::new(
                domain,
                settings.local.clone(),
                names.clone(),
                component,
                settings.sources.allow(Source::Privilege),
                Arc::clone(&settings.sessions),
                Arc::clone(&settings.metrics),
            ))
        });
        let mongooseim = match &settings.mongooseim {
            Some(config) if settings.sources.allow(Source::GraphQl) => {
                Some(MongooseIm::new(config, settings.local.clone(), names)?)
            }
            _ => None,
        };
        let (poll, status) = ListPoller::new(
            settings.sources,
            settings.sessions,
            settings.metrics,
            client.clone(),
            mongooseim,
            settings.shared,
        );
        Ok(Self {
            client,
            status,
            poll,
        })
    }

    /// Asks until `shutdown`.
    pub async fn run(self, shutdown: CancellationToken) {
        shutdown.run_until_cancelled(self.poll.run()).await;
    }
}

/// The two names of a user: the server's, and everybody's.
#[derive(Debug, Clone)]
struct Names {
    local: DomainPart,
    global: DomainPart,
}

impl Names {
    fn new(global: &Host, local: &Host) -> Self {
        let part = |host: &Host| {
            // A host is one by construction.
            DomainPart::new(host.as_str()).map_or_else(
                |_| unreachable!("{host} is a domain"),
                |part| part.into_owned(),
            )
        };
        Self {
            local: part(local),
            global: part(global),
        }
    }

    /// The global address of a local user's session.
    fn session(&self, jid: &FullJid) -> Option<FullJid> {
        let user = self.user(&jid.to_bare())?;
        Some(user.with_resource(jid.resource()))
    }

    /// The global address of a local user.
    fn user(&self, jid: &BareJid) -> Option<BareJid> {
        let node = jid.node()?;
        (*jid.domain() == *self.local).then(|| BareJid::from_parts(Some(node), &self.global))
    }
}
