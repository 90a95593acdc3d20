//! A thousand sessions on each server; clients, gateways and servers are killed in any order. In
//! the end, the claims equal the servers' own lists.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::Duration;

use fastrand::Rng;
use futures::stream::{self, StreamExt};
use reqwest::Response;
use serde_json::Value;

use crate::support::backend::Backend;
use crate::support::client::Client;
use crate::support::cluster::{Cluster, PASSWORD};
use crate::support::control;
use crate::support::patience::Deadline;
use crate::support::server::Kind;

crate::on_each_backend!(claims_are_what_the_servers_say_whatever_was_killed);

const SERVERS: [(&str, Kind); 2] = [("dc1.test", Kind::Prosody), ("dc2.test", Kind::Ejabberd)];
/// Accounts at each server.
const ACCOUNTS: usize = 100;
/// Upper bound for the sessions of each account.
const DEVICES: usize = 10;
/// Number of clients in one step.
const MANY: usize = 120;
/// Number of clients that log in at the same time.
const AT_ONCE: usize = 20;
/// The servers' lists are read every few seconds, and a busy machine is slow.
const PATIENCE: Duration = Duration::from_secs(120);

/// An event at a datacenter; the test does not wait for its consequences.
#[derive(Debug, Clone, Copy)]
enum Step {
    CutClients,
    CloseClients,
    LogIn,
    KillGateway,
    StopGateway,
    KillServer,
    StopServer,
}

/// All steps, so that each occurs; the seed determines their order.
const STEPS: [Step; 7] = [
    Step::CutClients,
    Step::CloseClients,
    Step::LogIn,
    Step::KillGateway,
    Step::StopGateway,
    Step::KillServer,
    Step::StopServer,
];

/// The users of a datacenter.
struct People {
    host: &'static str,
    /// Online sessions, by the full JID in the shared domain.
    online: BTreeMap<String, Client>,
    /// All sessions that were ever online.
    known: BTreeSet<String>,
}

impl People {
    fn of(host: &'static str) -> Self {
        Self {
            host,
            online: BTreeMap::new(),
            known: BTreeSet::new(),
        }
    }

    /// Logs in missing sessions of all accounts, at most `count`.
    async fn log_in(&mut self, cluster: &Cluster, count: usize) {
        let all = (0..DEVICES).flat_map(|device| (0..ACCOUNTS).map(move |user| (user, device)));
        let names = all.map(|(user, device)| (format!("user{user}"), format!("device{device}")));
        let global = |(user, device): &(String, String)| format!("{user}@example.test/{device}");
        let missing = names.filter(|name| !self.online.contains_key(&global(name)));
        let missing: Vec<_> = missing.take(count).collect();
        self.known.extend(missing.iter().map(global));
        let host = self.host;
        let logged_in = stream::iter(missing).map(async |name| {
            let (user, device) = &name;
            // Every third session sends no presence: only the server's list has it.
            let client = if device.ends_with(['2', '5', '8']) {
                cluster.login_without_presence(user, host, device).await
            } else {
                cluster.login(user, host, device).await
            };
            (global(&name), client)
        });
        let logged_in: Vec<_> = logged_in.buffer_unordered(AT_ONCE).collect().await;
        self.online.extend(logged_in);
    }

    /// Removes some online sessions from `online` and returns them.
    fn take(&mut self, count: usize, rng: &mut Rng) -> Vec<Client> {
        let all: Vec<_> = self.online.keys().cloned().collect();
        let some = rng.choose_multiple(all.iter(), count);
        some.into_iter()
            .filter_map(|jid| self.online.remove(jid))
            .collect()
    }

    async fn suffer(&mut self, step: Step, cluster: &mut Cluster, rng: &mut Rng) {
        let host = self.host;
        match step {
            Step::CutClients => {
                for client in self.take(MANY, rng) {
                    client.kill().await;
                }
            }
            Step::CloseClients => {
                for client in self.take(MANY, rng) {
                    client.close().await;
                }
            }
            Step::LogIn => self.log_in(cluster, MANY).await,
            Step::KillGateway => {
                cluster.dc_mut(host).gateway.process.kill9().await;
                cluster.dc_mut(host).gateway.process.launch();
            }
            Step::StopGateway => {
                cluster.dc_mut(host).gateway.process.terminate().await;
                cluster.dc_mut(host).gateway.process.launch();
            }
            Step::KillServer => {
                cluster.dc_mut(host).server.kill9().await;
                self.return_to(cluster).await;
            }
            Step::StopServer => {
                cluster.dc_mut(host).server.stop().await;
                self.return_to(cluster).await;
            }
        }
    }

    /// Reconnects to a server that was offline: some sessions do, the others stay where they are.
    async fn return_to(&mut self, cluster: &mut Cluster) {
        self.online.clear();
        cluster.dc_mut(self.host).server.start().await;
        self.log_in(cluster, MANY).await;
    }

    /// The differences between the server's list and the session table of the gateway with that
    /// admin server.
    async fn differences(&self, cluster: &Cluster, admin: SocketAddr) -> Result<usize, String> {
        let local = cluster.dc(self.host).server.sessions().await?;
        let at_host = format!("@{}/", self.host);
        let online: BTreeSet<String> = local
            .iter()
            .map(|jid| jid.replace(&at_host, "@example.test/"))
            .collect();
        let unknown: Vec<_> = online.difference(&self.known).collect();
        assert!(unknown.is_empty(), "the server has {unknown:?}");
        // One connection carries many queries.
        let http = reqwest::Client::new();
        let claimed = stream::iter(&self.known).map(async |jid| {
            let claimed = is_claimed(&http, admin, jid, self.host).await?;
            Ok((jid, claimed))
        });
        let claimed: Vec<Result<_, String>> = claimed.buffer_unordered(AT_ONCE).collect().await;
        let mut different = Vec::new();
        for answer in claimed {
            let (jid, claimed) = answer?;
            if claimed != online.contains(jid) {
                different.push((jid, claimed));
            }
        }
        if different.is_empty() {
            return Ok(online.len());
        }
        different.truncate(5);
        let host = self.host;
        Err(format!(
            "{host}, claimed or not, against its list: {different:?}"
        ))
    }
}

async fn is_claimed(
    http: &reqwest::Client,
    admin: SocketAddr,
    jid: &str,
    host: &str,
) -> Result<bool, String> {
    let question = http.get(format!("http://{admin}/api/lookup/{jid}"));
    let answer = question.send().await.and_then(Response::error_for_status);
    let found = answer.map_err(|error| error.to_string())?;
    let found: Value = found.json().await.map_err(|error| error.to_string())?;
    let claims = found["claims"].as_array().ok_or("no claims")?;
    Ok(claims.iter().any(|claim| claim["host"] == host))
}

/// Waits until every gateway has exactly the sessions of each server.
async fn until_right(cluster: &Cluster, people: &[People]) {
    let mut deadline = Deadline::after(PATIENCE);
    for admin in cluster.datacenters().iter().map(|dc| dc.gateway.admin()) {
        for these in people {
            loop {
                match these.differences(cluster, admin).await {
                    Ok(online) => {
                        assert_eq!(online, these.online.len(), "clients at {}", these.host);
                        break;
                    }
                    Err(instead) if deadline.is_past() => panic!("{instead}"),
                    Err(_) => tokio::time::sleep(Duration::from_millis(200)).await,
                }
            }
        }
    }
}

/// Waits until each gateway has a session for each device at its server.
async fn until_all_are_known(cluster: &Cluster) {
    let mut deadline = Deadline::after(PATIENCE);
    for dc in cluster.datacenters() {
        loop {
            let sessions = dc.gateway.metric("strait_sessions", &[]).await;
            if sessions >= (ACCOUNTS * DEVICES) as f64 {
                break;
            }
            let host = dc.gateway.host();
            assert!(!deadline.is_past(), "{sessions} at {host}");
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }
}

async fn start(backend: Backend) -> Cluster {
    let mut builder = Cluster::on(backend).named(&format!("sessions-{backend:?}"));
    for (host, kind) in SERVERS {
        builder = builder
            .datacenter(host)
            .its_server(kind)
            .its(|server| {
                let server = server.unwatched().listed();
                (0..ACCOUNTS).fold(server, |server, user| {
                    server.user(&format!("user{user}"), PASSWORD)
                })
            })
            .its_config(&control::config(host));
    }
    builder.start().await
}

async fn claims_are_what_the_servers_say_whatever_was_killed(backend: Backend) {
    let mut cluster = start(backend).await;
    let mut people = SERVERS.map(|(host, _)| People::of(host));
    let [first, second] = &mut people;
    tokio::join!(
        first.log_in(&cluster, ACCOUNTS * DEVICES),
        second.log_in(&cluster, ACCOUNTS * DEVICES)
    );
    until_all_are_known(&cluster).await;
    let seed = fastrand::u64(..);
    eprintln!("the order of the steps is that of the seed {seed}");
    let mut rng = Rng::with_seed(seed);
    let mut steps: Vec<_> = (0..people.len())
        .flat_map(|whose| STEPS.map(|step| (whose, step)))
        .collect();
    rng.shuffle(&mut steps);
    for (whose, step) in steps {
        eprintln!("{step:?} at {}", people[whose].host);
        people[whose].suffer(step, &mut cluster, &mut rng).await;
    }
    for these in &mut people {
        these.log_in(&cluster, ACCOUNTS * DEVICES).await;
    }
    cluster.until_ready().await;
    until_right(&cluster, &people).await;
    cluster.assert_balanced().await;
}
