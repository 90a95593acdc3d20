//! Two datacenters on this machine, and two people who talk across them.
//!
//! Started by `scripts/demo`. Real servers, real gateways, real connections;
//! what is printed is what came over the wire.

#[path = "../tests/support/mod.rs"]
mod support;

use std::fmt::Display;
use std::process::ExitCode;
use std::time::Instant;

use clap::{Parser, ValueEnum};
use futures::FutureExt;
use futures::future::join_all;
use minidom::Element;
use tokio::signal::unix::{SignalKind, signal};

use support::backend::Backend;
use support::client::Client;
use support::cluster::{Cluster, GLOBAL, PASSWORD, USERS};
use support::gateway::binary;
use support::xml::parse;

const DC1: &str = "dc1.test";
const DC2: &str = "dc2.test";
const ALICE: &str = "alice@example.test";
const BOB: &str = "bob@example.test";

/// Two datacenters that share one XMPP domain, on this machine.
#[derive(Parser)]
#[command(name = "demo")]
struct Options {
    /// Stop when the story has been told, instead of waiting for you to log in.
    #[arg(long)]
    once: bool,
    /// Where the gateways keep the session table.
    #[arg(long, value_enum, default_value_t = Table::Mesh)]
    backend: Table,
}

/// Where the gateways keep the session table.
#[derive(Clone, Copy, ValueEnum)]
enum Table {
    /// By themselves.
    Mesh,
    /// In Redis.
    Redis,
}

impl From<Table> for Backend {
    fn from(table: Table) -> Self {
        match table {
            Table::Mesh => Self::Mesh,
            Table::Redis => Self::Redis,
        }
    }
}

// One thread: servers die with the thread that started them.
#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let options = Options::parse();
    if !binary().is_file() {
        eprintln!("{} is missing; run scripts/demo", binary().display());
        return ExitCode::FAILURE;
    }
    report_failures_plainly();
    let story = std::panic::AssertUnwindSafe(tell(options.backend.into())).catch_unwind();
    let cluster = tokio::select! {
        told = story => match told {
            Ok(cluster) => cluster,
            Err(_) => return ExitCode::FAILURE,
        },
        () = interrupt() => return ExitCode::from(130),
    };
    if !options.once {
        invite(&cluster);
        interrupt().await;
        println!("\nstopping …");
    }
    cluster.stop().await;
    ExitCode::SUCCESS
}

/// A step that fails panics; people want the message, not the backtrace.
fn report_failures_plainly() {
    std::panic::set_hook(Box::new(|info| {
        let payload = info.payload();
        let message = match payload.downcast_ref::<String>() {
            Some(message) => message,
            None => payload.downcast_ref().copied().unwrap_or("a step failed"),
        };
        eprintln!("\nFAILED: {message}\n");
    }));
}

/// Ctrl-C or SIGTERM.
async fn interrupt() {
    let mut interrupt = signal(SignalKind::interrupt()).expect("a signal handler");
    let mut terminate = signal(SignalKind::terminate()).expect("a signal handler");
    tokio::select! {
        _ = interrupt.recv() => (),
        _ = terminate.recv() => (),
    }
}

/// The story; panics at the first step that fails.
async fn tell(backend: Backend) -> Cluster {
    println!("    since     step\n    start     took\n");
    let story = Story::begin();
    let cluster = open(&story, backend).await;

    let alice = log_in(&story, &cluster, "alice", DC1).await;
    let bob = log_in(&story, &cluster, "bob", DC2).await;
    subscribe(&story, &alice, ALICE, &bob, BOB).await;
    subscribe(&story, &bob, BOB, &alice, ALICE).await;
    see_presence(&story, &alice, &bob).await;
    talk(&story, &alice, ALICE, &bob, BOB, "Hello Bob, from dc1!").await;
    talk(&story, &bob, BOB, &alice, ALICE, "Hello Alice, from dc2!").await;

    let leave = async {
        bob.close().await;
        let session = format!("{BOB}/demo");
        alice.expect_presence(&session, Some("unavailable")).await
    };
    let gone = story.step("bob logs out at dc2.test", leave).await;
    story.wire("alice", &alice, &gone);
    let bob = log_in(&story, &cluster, "bob", DC1).await;
    talk(&story, &alice, ALICE, &bob, BOB, "You are here now?").await;

    let check = async {
        cluster.assert_no_leaks();
        cluster.assert_balanced().await;
    };
    let what = "nobody saw another datacenter's name, and every stanza is accounted for";
    story.step(what, check).await;
    println!("\n  All of it worked.");
    cluster
}

/// Everything starts; the gateways attach and link.
async fn open(story: &Story, backend: Backend) -> Cluster {
    let servers = Cluster::on(backend)
        .named("demo")
        .datacenter(DC1)
        .datacenter(DC2)
        .prepare();
    let what = match backend {
        Backend::Redis => "Redis and two Prosodys answer",
        Backend::Mesh => "two Prosodys answer",
    };
    let mut cluster = story.step(what, servers).await;
    cluster.launch_gateways();
    let attach = cluster.datacenters().iter().map(|dc| {
        let attached = dc
            .gateway
            .until_metric("strait_component_attached", &[], |up| up >= 1.0);
        let what = format!("{} attached to its Prosody as {GLOBAL}", dc.gateway.host());
        story.step(what, attached)
    });
    join_all(attach).await;
    for (from, to) in [(DC1, DC2), (DC2, DC1)] {
        let linked = cluster.until_linked(from, to);
        story
            .step(format!("link {from} → {to} is up"), linked)
            .await;
    }
    let what = "both gateways are ready";
    story.step(what, cluster.until_ready()).await;
    cluster
}

async fn log_in(story: &Story, cluster: &Cluster, user: &str, host: &str) -> Client {
    let what = format!("{user} logs in at {host}");
    let client = story.step(what, cluster.login(user, host, "demo")).await;
    let key = format!("{user}@{GLOBAL}/demo");
    let what = format!("session table: {key} is at {host}");
    let known = cluster.until_claimed(&key, Some(host));
    story.step(what, known).await;
    client
}

async fn subscribe(story: &Story, who: &Client, name: &str, whom: &Client, whose: &str) {
    let what = format!("{name} subscribes to {whose}, is approved, sees presence");
    story.step(what, who.befriend(name, whom, whose)).await;
}

async fn see_presence(story: &Story, alice: &Client, bob: &Client) {
    let change = async {
        alice
            .send("<presence><show>dnd</show><status>moving a datacenter</status></presence>")
            .await;
        bob.until("alice's new presence", |stanza| {
            stanza.name() == "presence" && stanza.children().any(|child| child.name() == "show")
        })
        .await
    };
    let seen = story
        .step("alice does not want to be disturbed", change)
        .await;
    story.wire("bob", bob, &seen);
}

/// A message, and its receipt (XEP-0184).
async fn talk(story: &Story, from: &Client, name: &str, to: &Client, whom: &str, text: &str) {
    let mut id = String::new();
    let arrive = async {
        id = from.chat(whom, text).await;
        to.expect_chat(name, text).await
    };
    let what = format!("{name} → {whom}: {text}");
    let message = story.step(what, arrive).await;
    story.wire(whom, to, &message);
    let confirm = async {
        to.acknowledge(&message).await;
        from.expect_receipt(whom, &id).await
    };
    let receipt = story.step("the receipt comes back", confirm).await;
    story.wire(name, from, &receipt);
}

/// Prints what happens, and how long it takes.
struct Story {
    begun: Instant,
}

impl Story {
    fn begin() -> Self {
        Self {
            begun: Instant::now(),
        }
    }

    async fn step<T>(&self, what: impl Display, work: impl Future<Output = T>) -> T {
        let begun = Instant::now();
        let done = work.await;
        let took = begun.elapsed().as_secs_f64() * 1000.0;
        let since = self.begun.elapsed().as_secs_f64();
        println!("  {since:7.3} s {took:8.1} ms   {what}");
        done
    }

    /// What came over the wire, as it came.
    fn wire(&self, who: &str, client: &Client, stanza: &Element) {
        let received = client.inbox().raw();
        let raw = received.iter().rev().find(|raw| {
            raw.starts_with('<') && is_stanza(raw) && parse(raw, "jabber:client") == *stanza
        });
        if let Some(raw) = raw {
            println!("                            {who} got {raw}");
        }
    }
}

/// Stream headers are no elements by themselves.
fn is_stanza(raw: &str) -> bool {
    !raw.starts_with("<stream:stream")
}

/// How to join in.
fn invite(cluster: &Cluster) {
    println!("\n  Log in with a client of your own (plain connection, no TLS):\n");
    for dc in cluster.datacenters() {
        let host = dc.server.domain();
        let c2s = dc.server.c2s();
        let admin = dc.gateway.admin();
        println!("  {host}: server {}, port {}", c2s.ip(), c2s.port());
        for user in USERS {
            println!("      {user}@{host}  password {PASSWORD}");
        }
        println!("      gateway: http://{admin}/metrics");
    }
    println!("\n  The same name in both datacenters is the same person. Write to");
    println!("  carol@{GLOBAL}, dave@{GLOBAL}, …, wherever they are.");
    println!("\n  Logs: {}", cluster.workdir().path().display());
    println!("  Ctrl-C stops everything.");
}
