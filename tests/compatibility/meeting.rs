//! Two datacenters, and the two who meet across them: alice at the near one,
//! bob at the far one.

use std::ops::Deref;
use std::sync::Arc;

use crate::support::backend::Backend;
use crate::support::client::{Client, befriend};
use crate::support::cluster::{Cluster, GLOBAL, PASSWORD, SECRET};
use crate::support::inbox::Inbox;
use crate::support::server::{self, Kind};
use parking_lot::Mutex;

/// The datacenters of every meeting.
pub const HOSTS: [&str; 2] = ["dc1.test", "dc2.test"];

/// Which way round: alice's datacenter and bob's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Direction {
    pub near: &'static str,
    pub far: &'static str,
}

impl Direction {
    /// Those that differ between servers of these kinds.
    pub fn of(first: Kind, second: Kind) -> Vec<Self> {
        let [one, two] = HOSTS;
        let there = Self {
            near: one,
            far: two,
        };
        let back = Self {
            near: two,
            far: one,
        };
        if first == second {
            vec![there]
        } else {
            vec![there, back]
        }
    }

    /// Between servers of these kinds, as the table calls it.
    pub fn title(self, first: Kind, second: Kind) -> String {
        let (near, far) = if self.near == HOSTS[0] {
            (first, second)
        } else {
            (second, first)
        };
        format!("{} → {}", name(near), name(far))
    }
}

/// As the table calls it; what is only a stand-in has a mark.
fn name(kind: Kind) -> String {
    match kind {
        Kind::Prosody | Kind::Ejabberd => kind.name().to_owned(),
        Kind::MongooseIm => format!("{}†", kind.name()),
    }
}

/// One row's part of a cluster: nobody else uses its two accounts.
#[derive(Clone)]
pub struct Meeting {
    cluster: Arc<Cluster>,
    direction: Direction,
    row: &'static str,
    inboxes: Arc<Mutex<Vec<Arc<Inbox>>>>,
}

/// Somebody who is logged in.
pub struct Person {
    client: Client,
    /// The bare JID by which everybody knows them.
    pub name: String,
    /// One's full JID.
    pub full: String,
}

impl Deref for Person {
    type Target = Client;

    fn deref(&self) -> &Client {
        &self.client
    }
}

impl Person {
    /// Ends the stream as RFC 6120 wants it.
    pub async fn close(self) {
        self.client.close().await;
    }

    /// Cuts the connection: the server gets a RST, and no word before it.
    pub async fn kill(self) {
        self.client.kill().await;
    }
}

/// The account that `who` has for `row`.
fn account(who: &str, row: &str, direction: Direction) -> String {
    let (near, _) = direction.near.split_once('.').expect("a name with a dot");
    format!("{who}-{row}-{near}")
}

/// The shared domain's name for the rooms of `host`.
fn rooms_of(host: &str) -> String {
    format!("rooms-{}.{GLOBAL}", &host[..3])
}

/// What the server of `host` calls its rooms.
fn local_rooms_of(host: &str) -> String {
    format!("conference.{host}")
}

/// A cluster with a server of each kind, rooms at both, and an account for
/// each of `rows` and direction.
pub async fn start(first: Kind, second: Kind, rows: &[&'static str]) -> Arc<Cluster> {
    let mut builder = Cluster::on(Backend::Mesh);
    for (host, kind) in HOSTS.into_iter().zip([first, second]) {
        let mut accounts = Vec::new();
        for direction in Direction::of(first, second) {
            let who = if direction.near == host {
                "alice"
            } else {
                "bob"
            };
            accounts.extend(rows.iter().map(|row| account(who, row, direction)));
        }
        let (local, global) = (local_rooms_of(host), rooms_of(host));
        builder = builder
            .datacenter(host)
            .its_server(kind)
            .its_config(&format!(
                "services = [{{ domain = '{global}', local = '{local}' }}]"
            ))
            .its(move |server| with_rooms(server, &accounts, &local));
    }
    let cluster = builder.start().await;
    for host in HOSTS {
        for offered in HOSTS {
            let gateway = &cluster.dc(host).gateway;
            gateway.until_attached(&rooms_of(offered)).await;
        }
    }
    Arc::new(cluster)
}

fn with_rooms(mut server: server::Builder, accounts: &[String], local: &str) -> server::Builder {
    for account in accounts {
        server = server.user(account, PASSWORD);
    }
    for host in HOSTS {
        server = server.service(&rooms_of(host), SECRET);
    }
    server.rooms(local)
}

impl Meeting {
    /// For the row of that name.
    pub fn new(cluster: &Arc<Cluster>, direction: Direction, row: &'static str) -> Self {
        Self {
            cluster: Arc::clone(cluster),
            direction,
            row,
            inboxes: Arc::default(),
        }
    }

    /// Both, strangers to each other.
    pub async fn strangers(&self) -> (Person, Person) {
        tokio::join!(self.alice("a1"), self.bob("b1"))
    }

    /// Both, subscribed to each other's presence.
    pub async fn friends(&self) -> (Person, Person) {
        let (alice, bob) = self.strangers().await;
        befriend(&alice, &alice.name, &bob, &bob.name).await;
        (alice, bob)
    }

    /// Alice logs in at the near datacenter.
    pub async fn alice(&self, resource: &str) -> Person {
        self.login("alice", self.direction.near, resource).await
    }

    /// Bob logs in at the far datacenter.
    pub async fn bob(&self, resource: &str) -> Person {
        self.login("bob", self.direction.far, resource).await
    }

    async fn login(&self, who: &str, host: &str, resource: &str) -> Person {
        let account = account(who, self.row, self.direction);
        let client = self.cluster.login(&account, host, resource).await;
        let mut inboxes = self.inboxes.lock();
        inboxes.push(Arc::clone(client.inbox()));
        Person {
            client,
            name: format!("{account}@{GLOBAL}"),
            full: format!("{account}@{GLOBAL}/{resource}"),
        }
    }

    /// Waits until no session of `person` is known anywhere.
    pub async fn until_gone(&self, person: &str) {
        self.cluster.until_claimed(person, None).await;
    }

    /// What bob's server is.
    pub fn far(&self) -> Kind {
        self.cluster.dc(self.direction.far).server.kind()
    }

    /// The local host of bob's datacenter.
    pub fn far_host(&self) -> &'static str {
        self.direction.far
    }

    /// A room of the far datacenter that only this row uses.
    pub fn room(&self) -> String {
        let far = self.direction.far;
        format!("{}@{}", self.row, rooms_of(far))
    }

    /// The rooms of the near datacenter and of the far one.
    pub fn all_rooms(&self) -> (String, String) {
        let Direction { near, far } = self.direction;
        (rooms_of(near), rooms_of(far))
    }

    /// Nobody of this row was told an address of the other datacenter's own,
    /// but in texts for people.
    pub fn assert_no_leaks(&self) {
        for inbox in self.inboxes.lock().iter() {
            let own = inbox.owner().split(['@', '/']).nth(1);
            for other in HOSTS.into_iter().filter(|host| Some(*host) != own) {
                for raw in inbox.raw() {
                    let leaks = without_bodies(&raw).contains(other);
                    assert!(!leaks, "{} saw {raw}", inbox.owner());
                }
            }
        }
    }
}

fn without_bodies(raw: &str) -> String {
    let (first, rest) = raw.split_once("<body").unwrap_or((raw, ""));
    let behind = rest.split("<body").map(|part| part.split_once("</body>"));
    let behind = behind.filter_map(|part| Some(part?.1));
    behind.fold(first.to_owned(), |text, part| text + part)
}
