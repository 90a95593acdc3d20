//! The sources that show which sessions and accounts exist on the local server.
//!
//! The gateway sends its requests as a separate component (`[control]`), never as
//! the shared domain: every remote user could do what a server permits the shared
//! domain. The presence that the server sends to the control component (XEP-0356)
//! and the lists with which the server answers go to the session table.
//! [`servers`](crate::servers) has the list format of each server software, some
//! of them over HTTP.

mod client;
mod http;
mod poll;
mod status;

use std::sync::Arc;

use async_trait::async_trait;
use jid::{BareJid, FullJid};
use minidom::Element;
use serde_json::Value;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

pub use self::client::ControlClient;
pub use self::http::Unusable;
pub use self::status::{AccountsStatus, ControlStatus, SourceInUse};

use self::http::AdminClient;
use self::poll::ListPoller;
use crate::component::{Attachment, Component};
use crate::config::{Source, Sources};
use crate::host::Host;
use crate::metrics::Metrics;
use crate::servers::{AdminApi, AskServer, KnownServer, NoAnswer, ServerSoftware, SessionList};
use crate::sessions::Sessions;
use crate::sessions::tracker::Listing;

/// The settings of a [`Control`], and its handles to other modules.
pub struct ControlSettings {
    /// `global_host`
    pub global: Host,
    /// `local_host`
    pub local: Host,
    /// `sessions.sources`
    pub sources: Sources,
    /// Receives the discovered sessions.
    pub sessions: Arc<Sessions>,
    /// The counters.
    pub metrics: Arc<Metrics>,
    /// The control component's stream, if there is one.
    pub component: Option<(Host, Component)>,
    /// The server's interface for administrators, if one is configured.
    pub admin_api: Option<AdminApi>,
    /// Follows the shared domain's stream: when the stream comes up, the gateway
    /// asks the server at once.
    pub shared: watch::Receiver<Attachment>,
    /// Follows the software and features of the server.
    pub server: watch::Receiver<KnownServer>,
}

/// A handle to the control component and the list poller.
pub struct Control {
    /// Takes the stanzas of the control component's stream; `None` without a
    /// control component.
    pub client: Option<Arc<ControlClient>>,
    /// Follows the sources in use and their blind spots.
    pub status: watch::Receiver<ControlStatus>,
    poller: ListPoller,
}

impl Control {
    /// Creates the handle; sends no request before [`Control::run`].
    ///
    /// # Errors
    /// The HTTP client can't be set up.
    pub fn new(mut settings: ControlSettings) -> Result<Self, Unusable> {
        let names = Names::new(&settings.global, &settings.local);
        let client = settings.component.take().map(|(domain, component)| {
            Arc::new(ControlClient::new(
                domain,
                component,
                names.clone(),
                &settings,
            ))
        });
        let allowed = settings.sources.allow(Source::GraphQl);
        let admin_api = settings.admin_api.take().filter(|_| allowed);
        let (publish, status) = watch::channel(ControlStatus::default());
        let poller = ListPoller {
            control: client.as_ref().map(|client| client.attachment()),
            privilege: client.as_ref().map(|client| client.privilege()),
            channels: Channels {
                client: client.clone(),
                http: admin_api.map(AdminClient::new).transpose()?,
                local: settings.local.clone(),
            },
            names,
            settings,
            status: publish,
            now: ControlStatus::default(),
            lists: None,
            accounts_at: None,
        };
        Ok(Self {
            client,
            status,
            poller,
        })
    }

    /// Sends requests until `shutdown`.
    pub async fn run(self, shutdown: CancellationToken) {
        shutdown.run_until_cancelled(self.poller.run()).await;
    }
}

/// The channels to the server that the configuration opens.
struct Channels {
    client: Option<Arc<ControlClient>>,
    http: Option<AdminClient>,
    local: Host,
}

impl Channels {
    /// The channel for the lists of `software` is open at present.
    fn are_open_for(&self, software: &dyn ServerSoftware) -> bool {
        match software.list_source() {
            Source::GraphQl => self.http.is_some(),
            _ => self.client.as_ref().is_some_and(|it| it.is_attached()),
        }
    }
}

#[async_trait]
impl AskServer for Channels {
    async fn iq(&self, kind: &str, payload: Element) -> Result<Element, NoAnswer> {
        match &self.client {
            Some(client) => client.ask(kind, payload).await,
            None => Err(NoAnswer::Detached),
        }
    }

    async fn post(&self, body: &Value) -> Result<Value, NoAnswer> {
        match &self.http {
            Some(http) => http.post(body).await,
            None => Err(NoAnswer::Detached),
        }
    }

    fn local(&self) -> &Host {
        &self.local
    }
}

/// A user has two names: the server's, and the global one.
#[derive(Debug, Clone)]
struct Names {
    local: Host,
    global: BareJid,
}

impl Names {
    fn new(global: &Host, local: &Host) -> Self {
        let bare = BareJid::new(global.as_str());
        Self {
            local: local.clone(),
            global: bare.unwrap_or_else(|_| unreachable!("{global} is a domain")),
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
        let is_local = self.local == *jid.domain().as_str();
        is_local.then(|| BareJid::from_parts(Some(node), self.global.domain()))
    }

    /// The local users of `list`, under global addresses.
    fn listing(&self, list: &SessionList) -> Listing {
        let (sessions, unclear) = (list.sessions.iter(), list.unclear.iter());
        Listing {
            sessions: sessions.filter_map(|jid| self.session(jid)).collect(),
            unclear: unclear.filter_map(|jid| self.user(jid)).collect(),
        }
    }
}
