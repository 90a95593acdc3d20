//! How many messages a second two gateways exchange over their links.
//!
//! `cargo bench --bench links [-- MESSAGES]`. Both ends run in this process,
//! over loopback: one gives messages to its pool of links, the other settles
//! them as they come. Prints, for plain TCP and for TLS, messages a second
//! from the first given to the last acknowledged, and the CPU time that one
//! message takes at both ends together.

#[path = "../tests/support/mod.rs"]
mod support;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use strait::config::{AllowedPeers, Connections, Endpoint, Tls};
use strait::envelope::{Arrival, Envelope, Intake, Receipt, Settle};
use strait::host::Host;
use strait::link::{Credentials, Dialler, Identity, IncomingSlots, Links, Listener};
use strait::metrics::Metrics;
use strait::stanza::{Limits, Stanza};
use support::certs::Authority;
use support::workdir::Workdir;
use tokio::sync::{Notify, mpsc};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

const STANZA_SIZE_LIMIT: usize = 512 * 1024;
const SENDERS: usize = 1000;

#[tokio::main]
async fn main() {
    let messages = std::env::args()
        .filter_map(|argument| argument.parse().ok())
        .next_back()
        .unwrap_or(500_000);
    let workdir = Workdir::new("links");
    let authority = Authority::new(&workdir.file("certs"), "authority");
    for (name, secured, connections) in [
        ("plain TCP, 1 connection", false, 1),
        ("TLS, 1 connection", true, 1),
        ("TLS, 8 connections", true, 8),
    ] {
        let tls = |host: &str| {
            if secured {
                enabled(&authority, host)
            } else {
                Tls::Disabled
            }
        };
        let pair = Pair::link(tls("dc1.test"), tls("dc2.test"), connections).await;
        let (cpu, started) = (cpu_time(), Instant::now());
        pair.exchange(messages).await;
        let (cpu, took) = (cpu_time() - cpu, started.elapsed());
        let each = |time: Duration| time.as_secs_f64() * 1e6 / messages as f64;
        println!(
            "{name}: {messages} messages in {took:.2?}, {:.0} a second, {:.1} µs CPU each",
            1e6 / each(took),
            each(cpu)
        );
    }
}

fn enabled(authority: &Authority, host: &str) -> Tls {
    let identity = authority.issue(host);
    Tls::Enabled {
        certfile: identity.certfile,
        keyfile: identity.keyfile,
        cacertfile: identity.cacertfile,
        crlfile: None,
        allow_wildcards: false,
        ciphers: Vec::new(),
    }
}

fn host(name: &str) -> Host {
    Host::new(name).expect("a host")
}

fn identity(name: &str) -> Identity {
    Identity {
        host: host(name),
        node: "gw1".to_owned(),
        epoch: 1,
    }
}

fn connections(tls: Tls, connections_per_endpoint: usize) -> Connections {
    Connections {
        endpoints: Vec::new(),
        advertised_endpoints: None,
        connections_per_endpoint,
        endpoint_refresh_interval: Duration::from_secs(60),
        endpoint_refresh_interval_when_empty: Duration::from_secs(3),
        disabled_gc_interval: Duration::from_secs(60),
        queue_bytes: 64 << 20,
        max_wait: Duration::from_secs(30),
        tls,
    }
}

/// The far end: settles what comes.
struct Sink;

#[async_trait]
impl Intake for Sink {
    async fn take(&self, mut envelope: Envelope) {
        envelope.receipt.settle();
    }
}

/// Counts what is acknowledged.
#[derive(Default)]
struct Tally {
    count: AtomicUsize,
    grown: Notify,
}

impl Settle for Tally {
    fn settled(&self, _: u64) {
        self.count.fetch_add(1, Ordering::Relaxed);
        self.grown.notify_one();
    }
}

/// Both ends, linked.
struct Pair {
    links: Links,
    tally: Arc<Tally>,
    end: CancellationToken,
}

impl Pair {
    async fn link(near: Tls, far: Tls, count: usize) -> Self {
        let end = CancellationToken::new();
        let any = Endpoint {
            host: "127.0.0.1".to_owned(),
            port: 0,
        };
        let listener = Listener::bind(
            &any,
            identity("dc2.test"),
            Credentials::load(&far, AllowedPeers::default(), &host("dc2.test"))
                .expect("good TLS files"),
            STANZA_SIZE_LIMIT,
            Arc::new(Metrics::new()),
            Arc::new(IncomingSlots::default()),
            None,
        );
        let listener = listener.await.expect("a listener");
        let endpoint = Endpoint {
            port: listener.local_addr().port(),
            ..any
        };
        tokio::spawn(listener.run(Arc::new(Sink), end.clone()));
        let (back, _) = mpsc::unbounded_channel();
        let links = Links::new(
            Dialler::new(
                identity("dc1.test"),
                Credentials::load(&near, AllowedPeers::default(), &host("dc1.test"))
                    .expect("good TLS files"),
            ),
            &connections(near, count),
            STANZA_SIZE_LIMIT,
            Arc::new(Metrics::new()),
            back,
            TaskTracker::new(),
            end.clone(),
        );
        links.set_endpoints(&host("dc2.test"), &[endpoint]);
        support::patience::until("all links to be up", async || match links.peers()[..] {
            [(_, up)] if up == count => Ok(()),
            _ => Err(format!("{:?}", links.status())),
        })
        .await;
        Self {
            links,
            tally: Arc::default(),
            end,
        }
    }

    /// Sends so many messages and waits until all are acknowledged.
    async fn exchange(&self, messages: usize) {
        let (to, origin) = (host("dc2.test"), host("dc1.test"));
        let stanzas: Vec<Stanza> = (0..SENDERS).map(message).collect();
        for n in 0..messages {
            let stanza = stanzas[n % SENDERS].clone();
            let mut envelope = Envelope::new(origin.clone(), Arrival::Component, 4, stanza);
            envelope.receipt = Receipt::new(Arc::clone(&self.tally) as _, 0);
            while let Err(full) = self.links.try_forward(&to, envelope) {
                self.tally.grown.notified().await;
                envelope = full.envelope;
            }
        }
        while self.tally.count.load(Ordering::Relaxed) < messages {
            self.tally.grown.notified().await;
        }
    }
}

impl Drop for Pair {
    fn drop(&mut self) {
        self.end.cancel();
    }
}

/// A chat message of the usual size, with what clients add to it.
fn message(sender: usize) -> Stanza {
    let xml = format!(
        "<message from='user{sender:04}@example.test/phone-5f2a' to='bob@example.test' \
         type='chat' id='b8f0c6de-31a5-4b8e-8f5e-8a6d9a4a9d11' xml:lang='en'>\
         <body>See you at the station at half past seven, I will bring the tickets.</body>\
         <active xmlns='http://jabber.org/protocol/chatstates'/>\
         <request xmlns='urn:xmpp:receipts'/><markable xmlns='urn:xmpp:chat-markers:0'/>\
         <origin-id xmlns='urn:xmpp:sid:0' id='b8f0c6de-31a5-4b8e-8f5e-8a6d9a4a9d11'/></message>"
    );
    Stanza::parse(xml.into(), &Limits::default()).expect("a message")
}

/// Of this process, user and system.
fn cpu_time() -> Duration {
    // proc_pid_stat(5): utime and stime are fields 14 and 15, in ticks of
    // 10 ms; the second, the program's name, is in parentheses.
    let stat = std::fs::read_to_string(Path::new("/proc/self/stat")).expect("procfs");
    let fields = stat.rsplit(')').next().unwrap_or_default();
    let ticks = fields.split_whitespace().skip(11).take(2);
    let ticks: u64 = ticks.filter_map(|field| field.parse::<u64>().ok()).sum();
    Duration::from_millis(10 * ticks)
}
