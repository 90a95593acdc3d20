//! Datacenters on this machine: a server and a gateway each, one Redis or none, the certificates,
//! and the clients of the test.

use std::net::SocketAddr;
use std::sync::Arc;

use futures::future::join_all;
use parking_lot::Mutex;

use super::backend::{Backend, OwnRedis};
use super::certs::Authority;
use super::client::{Client, befriend};
use super::component::Component;
use super::ejabberd;
use super::fake_server::FakeServer;
use super::gateway::{Gateway, SessionTable, Settings};
use super::inbox::Inbox;
use super::machine::Machine;
use super::mongooseim;
use super::plan::Plan;
use super::process::Process;
use super::prosody;
use super::redis_server::Redis;
use super::server::{self, Kind, Server};
use super::workdir::Workdir;

/// The shared domain.
pub const GLOBAL: &str = "example.test";
/// The password of all accounts.
pub const PASSWORD: &str = "letmein";
/// Localparts that have an account in every datacenter; each stands for one person.
pub const USERS: [&str; 4] = ["alice", "bob", "carol", "dave"];
/// The component secret; secrets must not show in any log.
pub const SECRET: &str = "component-secret-of-the-tests";

/// The setup of a cluster.
pub struct Builder {
    name: String,
    backend: Backend,
    plans: Vec<Plan>,
}

/// One datacenter.
#[derive(Debug)]
pub struct Datacenter {
    pub gateway: Gateway,
    pub server: Server,
}

/// Fields are dropped in their order: gateways, servers, Redis, directory.
pub struct Cluster {
    datacenters: Vec<Datacenter>,
    pub redis: OwnRedis,
    /// Addresses of every gateway: its admin server and its links.
    gateways: Mutex<Vec<(SocketAddr, SocketAddr)>>,
    pub authority: Authority,
    clients: Mutex<Vec<Arc<Inbox>>>,
    workdir: Workdir,
}

impl Builder {
    /// Sets the name of the directory; the default is the name of the test.
    pub fn named(mut self, name: &str) -> Self {
        self.name = name.to_owned();
        self
    }

    /// Adds a datacenter; its local host is its name.
    pub fn datacenter(mut self, host: &str) -> Self {
        self.plans.push(Plan::new(host));
        self
    }

    /// Merges TOML into the gateway configuration of every datacenter named so far.
    pub fn config(mut self, toml: &str) -> Self {
        for plan in &mut self.plans {
            plan.config.push(toml.to_owned());
        }
        self
    }

    /// Merges TOML into the gateway configuration of the datacenter named last.
    pub fn its_config(mut self, toml: &str) -> Self {
        self.last().config.push(toml.to_owned());
        self
    }

    /// Sets the kind of server of the datacenter named last; the default is Prosody.
    pub fn its_server(mut self, kind: Kind) -> Self {
        self.last().kind = kind;
        self
    }

    /// Changes the server of the datacenter named last.
    pub fn its(
        mut self,
        change: impl FnOnce(server::Builder) -> server::Builder + Send + 'static,
    ) -> Self {
        self.last().changes.push(Box::new(change));
        self
    }

    /// Changes the Prosody of the datacenter named last.
    pub fn its_prosody(
        self,
        change: impl FnOnce(prosody::Builder) -> prosody::Builder + Send + 'static,
    ) -> Self {
        self.its(|server| match server {
            server::Builder::Prosody(prosody) => server::Builder::Prosody(change(prosody)),
            other => panic!("not a Prosody: {other:?}"),
        })
    }

    /// Puts the datacenter named last, which must have a Prosody, on that machine.
    pub fn its_machine(mut self, machine: &Machine) -> Self {
        self.last().machine = Some(machine.clone());
        let machine = machine.clone();
        self.its_prosody(move |prosody| prosody.on(&machine))
    }

    /// Changes the ejabberd of the datacenter named last.
    pub fn its_ejabberd(
        self,
        change: impl FnOnce(ejabberd::Builder) -> ejabberd::Builder + Send + 'static,
    ) -> Self {
        self.its(|server| match server {
            server::Builder::Ejabberd(ejabberd) => server::Builder::Ejabberd(change(ejabberd)),
            other => panic!("not an ejabberd: {other:?}"),
        })
    }

    /// Changes the MongooseIM of the datacenter named last.
    pub fn its_mongooseim(
        self,
        change: impl FnOnce(mongooseim::Builder) -> mongooseim::Builder + Send + 'static,
    ) -> Self {
        self.its(|server| match server {
            server::Builder::MongooseIm(server) => server::Builder::MongooseIm(change(server)),
            other => panic!("not a MongooseIM: {other:?}"),
        })
    }

    /// Makes a second gateway of the datacenter named last wait for the end of the first.
    pub fn its_standby(mut self) -> Self {
        self.last().standby = true;
        self
    }

    fn last(&mut self) -> &mut Plan {
        self.plans.last_mut().expect("a datacenter named before")
    }

    /// Starts everything except the gateways, which are only configured; the servers have the
    /// gateways' snippets.
    pub async fn prepare(self) -> Cluster {
        let workdir = Workdir::new(&self.name);
        let authority = Authority::new(&workdir.file("certs"), "authority");
        let redis = match self.backend {
            Backend::Redis => Some(Redis::start(&workdir).await),
            Backend::Mesh => None,
        };
        let mut cluster = Cluster {
            datacenters: Vec::new(),
            redis: OwnRedis(redis),
            gateways: Mutex::default(),
            authority,
            clients: Mutex::default(),
            workdir,
        };
        let planned = self.plans.into_iter().map(|plan| cluster.plan(plan));
        let (gateways, servers): (Vec<_>, Vec<_>) = planned.unzip();
        let servers = servers
            .into_iter()
            .map(|server| server.start(&cluster.workdir));
        let servers = join_all(servers).await;
        let datacenters = gateways.into_iter().zip(servers);
        cluster.datacenters = datacenters
            .map(|(gateway, server)| Datacenter { gateway, server })
            .collect();
        cluster.introduce_all();
        cluster
    }

    /// Starts everything, and waits until every gateway is linked with every other.
    pub async fn start(self) -> Cluster {
        let mut cluster = self.prepare().await;
        cluster.launch_gateways();
        cluster.until_ready().await;
        cluster
    }

    /// Starts everything and logs in alice at `dc1.test` and bob at `dc2.test`.
    pub async fn two_users(self) -> (Cluster, Client, Client) {
        let cluster = self.start().await;
        let alice = cluster.login("alice", "dc1.test", "r1").await;
        let bob = cluster.login("bob", "dc2.test", "b1").await;
        (cluster, alice, bob)
    }

    /// Like `two_users`, with mutual presence subscriptions.
    pub async fn two_friends(self) -> (Cluster, Client, Client) {
        let (cluster, alice, bob) = self.two_users().await;
        befriend(&alice, "alice@example.test", &bob, "bob@example.test").await;
        (cluster, alice, bob)
    }
}

impl Cluster {
    /// Starts the setup of a cluster without datacenters.
    pub fn builder() -> Builder {
        let test = std::thread::current();
        // A test's thread has the name of the test.
        let name = test.name().unwrap_or("cluster").replace("::", "-");
        Builder {
            name,
            backend: Backend::Redis,
            plans: Vec::new(),
        }
    }

    /// Starts the setup of a cluster without datacenters, with its session table on `backend`.
    pub fn on(backend: Backend) -> Builder {
        Builder {
            backend,
            ..Self::builder()
        }
    }

    /// Prepares a gateway with `settings`, without starting it.
    fn gateway(&self, settings: &Settings) -> Gateway {
        let gateway = Gateway::prepare(&self.workdir, settings);
        let mut gateways = self.gateways.lock();
        gateways.push((gateway.admin(), gateway.link()));
        gateway
    }

    /// Prepares the gateway of a planned datacenter, and the server for it.
    fn plan(&self, plan: Plan) -> (Gateway, server::Builder) {
        let mut settings = self.settings(&plan.host);
        settings.overrides.clone_from(&plan.config);
        settings.machine.clone_from(&plan.machine);
        let standby = plan.standby;
        let server = plan.server();
        settings.server = server.component_address();
        settings.overrides.extend(server.gateway_config());
        let gateway = self.gateway(&settings);
        let mut arguments = vec![server.word().to_owned(), "--with-secrets".to_owned()];
        arguments.extend(standby.then(|| "--standby".to_owned()));
        for service in server.services() {
            arguments.extend(["--remote-service".to_owned(), service]);
        }
        let snippet = gateway.snippet(&arguments);
        (gateway, server.pasted(snippet))
    }

    /// Configures every gateway of a mesh as a peer of every other, as operators do.
    fn introduce_all(&self) {
        if self.redis.0.is_some() {
            return;
        }
        for dc in &self.datacenters {
            let others = self.datacenters.iter().map(|dc| dc.gateway.link());
            let others = others.filter(|link| *link != dc.gateway.link());
            let others: Vec<String> = others.map(|link| format!("'{link}'")).collect();
            let peers = format!("mesh.peers = [{}]", others.join(", "));
            dc.gateway.reconfigure(&peers);
        }
    }

    /// The address of every gateway's admin server.
    pub(super) fn admins(&self) -> Vec<SocketAddr> {
        let gateways = self.gateways.lock();
        gateways.iter().map(|(admin, _)| *admin).collect()
    }

    /// The datacenter with that local host.
    pub fn dc(&self, host: &str) -> &Datacenter {
        self.datacenters
            .iter()
            .find(|dc| dc.gateway.host() == host)
            .unwrap_or_else(|| panic!("no datacenter {host}"))
    }

    /// The datacenter with that local host, to stop and start its parts.
    pub fn dc_mut(&mut self, host: &str) -> &mut Datacenter {
        self.datacenters
            .iter_mut()
            .find(|dc| dc.gateway.host() == host)
            .unwrap_or_else(|| panic!("no datacenter {host}"))
    }

    /// The directory of all files of the cluster.
    pub fn workdir(&self) -> &Workdir {
        &self.workdir
    }

    /// Every datacenter, in the order of the builder.
    pub fn datacenters(&self) -> &[Datacenter] {
        &self.datacenters
    }

    /// Stops everything as an operator would: gateways, servers, Redis.
    pub async fn stop(mut self) {
        let (gateways, servers): (Vec<_>, Vec<_>) = self
            .datacenters
            .iter_mut()
            .map(|dc| (&mut dc.gateway.process, &mut dc.server))
            .unzip();
        let terminate = async |process: &mut Process| {
            if process.is_running() {
                process.terminate().await;
            }
        };
        join_all(gateways.into_iter().map(terminate)).await;
        let running = servers.into_iter().filter(|server| server.is_running());
        join_all(running.map(Server::stop)).await;
        if let Some(redis) = &mut self.redis.0 {
            terminate(&mut redis.process).await;
        }
    }

    /// Starts every gateway, without waiting.
    pub fn launch_gateways(&mut self) {
        for dc in &mut self.datacenters {
            dc.gateway.process.launch();
        }
    }

    /// Waits until every gateway is ready and linked with every other.
    pub async fn until_ready(&self) {
        join_all(self.datacenters.iter().map(|dc| dc.gateway.until_ready())).await;
        for from in self.hosts() {
            for to in self.hosts().filter(|to| *to != from) {
                self.until_linked(from, to).await;
            }
        }
    }

    /// Waits until the gateway of `from` has a link to that of `to`.
    pub async fn until_linked(&self, from: &str, to: &str) {
        self.dc(from).gateway.until_linked(to).await;
    }

    /// Logs in and sends initial presence.
    pub async fn login(&self, user: &str, host: &str, resource: &str) -> Client {
        let client = Client::login(&self.dc(host).server, user, resource).await;
        self.remember(&client);
        client
    }

    /// Logs in and sends no presence.
    pub async fn login_without_presence(&self, user: &str, host: &str, resource: &str) -> Client {
        let server = &self.dc(host).server;
        let client = Client::login_without_presence(server, user, resource).await;
        self.remember(&client);
        client
    }

    fn remember(&self, client: &Client) {
        let mut clients = self.clients.lock();
        clients.push(Arc::clone(client.inbox()));
    }

    /// Adds a datacenter with a server under the test's control: its gateway runs and tries to
    /// attach with [`SECRET`].
    pub async fn join_with_fake_server(&self, host: &str, config: &str) -> (FakeServer, Gateway) {
        let server = FakeServer::start().await;
        let mut settings = self.settings(host);
        settings.server = server.address();
        settings.overrides = vec![config.to_owned()];
        let mut gateway = self.gateway(&settings);
        gateway.process.launch();
        (server, gateway)
    }

    /// Settings for one more gateway of `host` in this cluster; the server's address is that of
    /// the datacenter, if there is one.
    pub fn settings(&self, host: &str) -> Settings {
        let mut datacenters = self.datacenters.iter();
        let server = datacenters.find(|dc| dc.gateway.host() == host);
        Settings {
            global_host: GLOBAL.to_owned(),
            local_host: host.to_owned(),
            node: "n1".to_owned(),
            server: server.map_or_else(
                || ([127, 0, 0, 1], 0).into(),
                |dc| dc.server.component_address(),
            ),
            secret: SECRET.to_owned(),
            table: match &self.redis.0 {
                Some(redis) => SessionTable::Redis(redis.url()),
                None => {
                    let known = self.gateways.lock();
                    SessionTable::Mesh(known.iter().map(|(_, link)| *link).collect())
                }
            },
            identity: self.authority.issue(host),
            machine: None,
            mounts: Vec::new(),
            overrides: Vec::new(),
        }
    }

    /// Writes a new CA and new certificates of all datacenters over the former files.
    pub fn renew_certificates(&mut self) {
        self.authority = Authority::new(&self.workdir.file("certs"), "authority");
        for host in self.hosts() {
            self.authority.issue(host);
        }
    }

    /// Attaches a component of the tests to the server of `host`.
    pub async fn component(&self, domain: &str, host: &str) -> Component {
        Component::attach(&self.dc(host).server, domain, SECRET).await
    }

    fn hosts(&self) -> impl Iterator<Item = &str> {
        self.datacenters.iter().map(|dc| dc.gateway.host())
    }

    /// Checks that no client received the name of another datacenter's local host.
    pub fn assert_no_leaks(&self) {
        for inbox in self.clients.lock().iter() {
            let own = inbox.owner().split(['@', '/']).nth(1);
            for other in self.hosts().filter(|host| Some(*host) != own) {
                for raw in inbox.raw() {
                    assert!(!raw.contains(other), "{} saw {raw}", inbox.owner());
                }
            }
        }
    }

    /// Checks that every gateway accounts for everything it received.
    pub async fn assert_balanced(&self) {
        for dc in &self.datacenters {
            dc.gateway.assert_balanced().await;
        }
    }

    /// Checks that no gateway has written a secret to its log.
    pub fn assert_no_secrets_logged(&self) {
        for dc in &self.datacenters {
            for secret in [SECRET, PASSWORD, "PRIVATE KEY"] {
                let log = dc.gateway.log();
                assert!(!log.contains(secret), "{secret:?} in {log}");
            }
        }
    }
}
