//! A stand-in for MongooseIM 6.8.0, which cannot be installed here.
//!
//! It behaves towards a component and clients as was measured on the real server
//! (`tests/captures/mongooseim-to-component.txt`, checked by `tests/mongooseim_stand_in.rs`), and
//! according to RFC 6121 where nothing was measured. It runs in the test's own process: data that
//! the real server has on disk are in memory here, and survive a stop or a kill.
//!
//! A stanza arrives by a [`component`] or a [`client`], each a [`stream`] of [`tree`]s, passes
//! [`state`], and is processed by [`presence`] and [`roster`], [`message`] and [`archive`],
//! [`query`], [`host`], [`pep`], [`blocking`] or [`rooms`].

mod account;
mod archive;
mod blocking;
mod client;
mod component;
mod host;
mod message;
mod pep;
mod presence;
mod query;
mod refusal;
mod rooms;
mod roster;
mod session;
mod state;
mod stream;
mod tree;

use std::net::SocketAddr;
use std::ops::Deref;
use std::sync::Arc;

use jid::Jid;
use parking_lot::Mutex;
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

use self::account::Account;
use self::client::serve_client;
use self::component::serve_component;
use self::rooms::Rooms;
use self::state::State;
use self::stream::Shared;
use super::mongooseim_admin::{self, Listed, MongooseAdmin};
use super::port::Port;
use super::site::Site;

/// The setup of a stand-in.
#[derive(Debug)]
pub struct Builder {
    site: Site,
    admin: Port,
    /// Whether its gateway requests lists by GraphQL.
    lists: bool,
    watchers: Vec<String>,
    services: Vec<String>,
    rooms: Option<String>,
    options: Options,
}

/// Settings in mongooseim.toml.
#[derive(Debug)]
struct Options {
    /// The password in `listen.component`.
    password: String,
    check_from: bool,
    kick_old: bool,
    /// `listen.http`: the address of its admin interface.
    admin: Option<SocketAddr>,
}

/// A running, stopped or killed stand-in; it keeps its data and ports through restarts.
#[derive(Debug)]
pub struct StandIn {
    site: Site,
    admin: Option<SocketAddr>,
    shared: Shared,
    running: Option<Running>,
    _admin_port: Port,
}

/// The tasks of a running stand-in; a drop has the effect of SIGKILL.
#[derive(Debug)]
struct Running {
    /// The listeners and all their connections.
    tasks: TaskTracker,
    end: DropGuard,
    admin: Option<MongooseAdmin>,
}

impl Builder {
    /// Adds an account.
    pub fn user(mut self, name: &str, password: &str) -> Self {
        self.site.add(name, password);
        self
    }

    /// Sends every user's presence to `jid` too: each account has approved its subscription.
    pub fn watched_by(mut self, jid: &str) -> Self {
        self.watchers.push(jid.to_owned());
        self
    }

    /// Removes the watcher: no presence is sent to a gateway automatically.
    pub fn unwatched(mut self) -> Self {
        self.watchers.clear();
        self
    }

    /// Sets the secret for a gateway that attaches as `domain`. The one listener accepts any
    /// domain, all with one secret, which applies only without a snippet.
    pub fn service(mut self, domain: &str, secret: &str) -> Self {
        self.services.push(domain.to_owned());
        secret.clone_into(&mut self.options.password);
        self
    }

    /// The domains that were given to [`service`](Self::service).
    pub fn services(&self) -> Vec<String> {
        self.services.clone()
    }

    /// Makes its gateway request the list of sessions.
    pub fn listed(mut self) -> Self {
        self.lists = true;
        self
    }

    /// `[control.mongooseim]` for its gateway, if the gateway requests lists.
    pub fn gateway_config(&self) -> Option<String> {
        let url = mongooseim_admin::url(self.admin.address());
        let config = mongooseim_admin::config(&url, mongooseim_admin::PASSWORD);
        self.lists.then_some(config)
    }

    /// Applies the output of `strait snippet mongooseim`.
    pub fn pasted(mut self, snippet: String) -> Self {
        self.options = Options::read(&snippet);
        self
    }

    /// The address on which it will accept gateways.
    pub fn component_address(&self) -> SocketAddr {
        self.site.component_address()
    }

    /// Sets `check_from = false`.
    pub fn unchecked(mut self) -> Self {
        self.options.check_from = false;
        self
    }

    /// Sets `conflict_behaviour = "kick_old"`.
    pub fn kick_old(mut self) -> Self {
        self.options.kick_old = true;
        self
    }

    /// Adds rooms (XEP-0045).
    pub fn rooms(mut self, domain: &str) -> Self {
        self.rooms = Some(domain.to_owned());
        self
    }

    /// Starts it.
    pub async fn start(self) -> StandIn {
        let mut state = State::new(self.site.domain(), &self.options.password);
        state.check_from = self.options.check_from;
        state.kick_old = self.options.kick_old;
        state.rooms = self.rooms.as_deref().map(Rooms::new);
        for user in self.site.users() {
            let mut account = Account {
                password: user.password.clone(),
                ..Account::default()
            };
            for watcher in &self.watchers {
                let watcher = Jid::new(watcher).expect("a watcher's address");
                account.roster.entry(&watcher).from = true;
            }
            state.accounts.insert(user.name.clone(), account);
        }
        let mut stand_in = StandIn {
            site: self.site,
            admin: self.options.admin,
            shared: Shared(Arc::new(Mutex::new(state))),
            running: None,
            _admin_port: self.admin,
        };
        stand_in.start().await;
        stand_in
    }
}

impl Options {
    /// Only `conflict_behaviour` has a default that differs from the snippet.
    fn read(snippet: &str) -> Self {
        let table: toml::Table = snippet
            .parse()
            .unwrap_or_else(|error| panic!("{error}: {snippet}"));
        let listen = &table["listen"];
        let component = &listen["component"][0];
        let text = |value: &toml::Value| value.as_str().expect("text").to_owned();
        Self {
            password: text(&component["password"]),
            check_from: component["check_from"].as_bool().expect("yes or no"),
            kick_old: text(&component["conflict_behaviour"]) == "kick_old",
            admin: listen.get("http").map(|http| {
                let (ip, port) = (text(&http[0]["ip_address"]), &http[0]["port"]);
                let address = format!("{ip}:{port}");
                address
                    .parse()
                    .unwrap_or_else(|error| panic!("{error}: {address}"))
            }),
        }
    }
}

impl StandIn {
    /// Starts the setup of a stand-in for the users of `domain`.
    pub fn builder(domain: &str) -> Builder {
        Builder {
            site: Site::new(domain),
            admin: Port::take(),
            lists: false,
            watchers: Vec::new(),
            services: Vec::new(),
            rooms: None,
            options: Options {
                password: "component-password-of-the-tests".to_owned(),
                check_from: true,
                kick_old: false,
                admin: None,
            },
        }
    }

    /// Whether it runs.
    pub fn is_running(&self) -> bool {
        self.running.is_some()
    }

    /// Starts it, also after a stop or a kill.
    pub async fn start(&mut self) {
        assert!(!self.is_running(), "{} runs already", self.domain());
        self.shared.lock().started = session::now();
        let (tasks, end) = (TaskTracker::new(), CancellationToken::new());
        let clients = listen(self.site.c2s()).await;
        let components = listen(self.site.component_address()).await;
        let (at_clients, at_components) = (self.shared.clone(), self.shared.clone());
        let serve = move |socket| serve_client(socket, at_clients.clone());
        tasks.spawn(accept(clients, tasks.clone(), end.clone(), serve));
        let serve = move |socket| serve_component(socket, at_components.clone());
        tasks.spawn(accept(components, tasks.clone(), end.clone(), serve));
        let admin = match self.admin {
            Some(address) => Some(self.serve_lists(address).await),
            None => None,
        };
        self.running = Some(Running {
            tasks,
            end: end.drop_guard(),
            admin,
        });
    }

    /// Starts its admin interface, which lists sessions and accounts.
    async fn serve_lists(&self, address: SocketAddr) -> MongooseAdmin {
        let listed = self.shared.clone();
        MongooseAdmin::start_at(address, move || {
            let state = listed.lock();
            let account = |user: &String| state.bare(user).to_string();
            Listed {
                sessions: state.all_sessions(),
                accounts: state.accounts.keys().map(account).collect(),
            }
        })
        .await
    }

    /// Acts as on SIGTERM. Clients and components are not notified: no presence, no end of a
    /// stream.
    pub async fn stop(&mut self) {
        self.kill9().await;
    }

    /// Acts as on SIGKILL; clients and components are not notified.
    pub async fn kill9(&mut self) {
        let Some(running) = self.running.take() else {
            return;
        };
        drop(running.end);
        running.tasks.close();
        running.tasks.wait().await;
        if let Some(admin) = running.admin {
            admin.stop().await;
        }
        self.shared.lock().forget_connections();
    }

    /// Stops and starts it.
    pub async fn restart(&mut self) {
        self.stop().await;
        self.start().await;
    }

    /// All full JIDs with a session.
    pub fn sessions(&self) -> Vec<String> {
        self.shared.lock().all_sessions()
    }
}

impl Deref for StandIn {
    type Target = Site;

    fn deref(&self) -> &Site {
        &self.site
    }
}

async fn listen(address: SocketAddr) -> TcpListener {
    let listener = TcpListener::bind(address).await;
    listener.unwrap_or_else(|error| panic!("{address}: {error}"))
}

/// Accepts connections and serves them, until `end`.
async fn accept<S>(
    listener: TcpListener,
    tasks: TaskTracker,
    end: CancellationToken,
    serve: impl Fn(TcpStream) -> S,
) where
    S: Future<Output = ()> + Send + 'static,
{
    while let Some(accepted) = end.run_until_cancelled(listener.accept()).await {
        let (socket, _) = accepted.expect("a working listener");
        let (served, end) = (serve(socket), end.clone());
        tasks.spawn(async move { end.run_until_cancelled(served).await });
    }
}
