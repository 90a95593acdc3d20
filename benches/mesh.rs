//! What a table of a million claims takes in memory, how long it takes to
//! reach a new peer, and what that does to the stanzas that go there meanwhile.
//!
//! `cargo bench --bench mesh [-- CLAIMS]`
//!
//! Two processes, linked over TLS on loopback: the parent has the claims and
//! sends stanzas at a steady rate; the child receives them, and after a while
//! begins to follow the parent's table.

#[path = "../tests/support/mod.rs"]
mod support;

use std::io::{BufRead, BufReader, Read};
use std::path::PathBuf;
use std::process::{Command, Stdio};

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use async_trait::async_trait;
use parking_lot::Mutex;
use strait::config::{AllowedPeers, Endpoint, Mesh};
use strait::envelope::{Arrival, Envelope, Intake};
use strait::host::Host;
use strait::link::{
    Credentials, Dialler, Identity, IncomingSlots, Links, Listener, ReplicationDialer,
};
use strait::metrics::Metrics;
use strait::replication::Node;
use strait::stanza::{Limits, Stanza};
use strait::store::{MeshStore, OwnClaim, Store};
use support::certs::{self, Authority};
use support::mesh_node::{connections, endpoint};
use support::workdir::Workdir;
use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

const PARENT: &str = "dc1.example.com";
const CHILD: &str = "dc2.example.com";
/// A stanza each.
const EVERY: Duration = Duration::from_micros(500);
/// How long stanzas are measured without a table beside them.
const QUIET: Duration = Duration::from_secs(5);
const STANZA_SIZE_LIMIT: usize = 1 << 19;

#[tokio::main]
async fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    match arguments.iter().position(|argument| argument == "child") {
        Some(at) => child(&arguments[at + 1..]).await,
        None => {
            let mut claims = arguments
                .iter()
                .filter_map(|argument| argument.parse().ok());
            parent(claims.next_back().unwrap_or(1_000_000)).await;
        }
    }
}

/// A node's store and how it shows itself to links.
struct Half {
    identity: Identity,
    certificate: certs::Identity,
    store: Arc<MeshStore>,
    metrics: Arc<Metrics>,
}

impl Half {
    fn new(host: &str, certificate: certs::Identity, peers: Vec<Endpoint>) -> Self {
        let identity = Identity {
            host: Host::new(host).expect("a host"),
            node: "gw1".to_owned(),
            epoch: uuid::Uuid::new_v4().as_u64_pair().0,
        };
        let node = Node {
            host: identity.host.clone(),
            name: identity.node.clone(),
        };
        let config = Mesh {
            peers,
            expire_after: Duration::from_secs(120),
            refresh_after: Duration::from_secs(60),
        };
        let metrics = Arc::new(Metrics::new());
        let store = MeshStore::new(node, identity.epoch, &config, Arc::clone(&metrics));
        Self {
            identity,
            certificate,
            store,
            metrics,
        }
    }

    fn credentials(&self) -> Arc<Credentials> {
        let tls = connections(&self.certificate).tls;
        Credentials::load(&tls, AllowedPeers::default(), &self.identity.host)
            .expect("good TLS files")
    }

    async fn listen(&self, intake: Arc<dyn Intake>) -> Endpoint {
        let any = endpoint(([127, 0, 0, 1], 0).into());
        let listener = Listener::bind(
            &any,
            self.identity.clone(),
            self.credentials(),
            STANZA_SIZE_LIMIT,
            Arc::clone(&self.metrics),
            Arc::new(IncomingSlots::default()),
            Some(Arc::clone(&self.store) as _),
        );
        let listener = listener.await.expect("a listener");
        let address = endpoint(listener.local_addr());
        tokio::spawn(listener.run(intake, CancellationToken::new()));
        address
    }
}

async fn parent(count: usize) {
    let workdir = Workdir::new("mesh-bench");
    let authority = Authority::new(&workdir.file("certs"), "authority");
    let half = Half::new(PARENT, authority.issue(PARENT), Vec::new());
    let before = resident();
    let started = Instant::now();
    claim(&half.store, count).await;
    let (took, after) = (started.elapsed(), resident());
    println!(
        "own table: {count} claims taken in {:.2} s; {:.1} MB",
        took.as_secs_f64(),
        after - before
    );
    let address = half.listen(Arc::new(Latencies::default())).await;

    let certificate = authority.issue(CHILD);
    let mut child = Command::new(std::env::current_exe().expect("this program"))
        .arg("child")
        .args([
            &certificate.certfile,
            &certificate.keyfile,
            &certificate.cacertfile,
        ])
        .arg(address.to_string())
        .stdout(Stdio::piped())
        .spawn()
        .expect("a child");
    let mut said = BufReader::new(child.stdout.take().expect("its words"));
    let mut line = String::new();
    said.read_line(&mut line).expect("where it listens");
    let child_at: Endpoint = line.trim().parse().expect("an endpoint");
    let sending = tokio::spawn(send(half, child_at));
    let rest = tokio::task::spawn_blocking(move || {
        let mut rest = String::new();
        said.read_to_string(&mut rest).expect("its words");
        rest
    });
    print!("{}", rest.await.expect("its words"));
    sending.abort();
    child.wait().expect("a child");
}

/// JIDs as people have them, in the batches of a gateway.
async fn claim(store: &MeshStore, count: usize) {
    for start in (0..count).step_by(500) {
        let claims: Vec<OwnClaim> = (start..count.min(start + 500))
            .map(|number| OwnClaim {
                jid: format!("user{number:07}@example.com/phone-{number:08x}"),
                since: 1_700_000_000_000,
                fresh: true,
            })
            .collect();
        store.claim(&claims).await.expect("the mesh takes claims");
    }
}

/// Stanzas that say when they were sent.
async fn send(half: Half, to: Endpoint) {
    let (undelivered, _given_back) = mpsc::unbounded_channel();
    let links = Links::new(
        Dialler::new(half.identity.clone(), half.credentials()),
        &connections(&half.certificate),
        STANZA_SIZE_LIMIT,
        Arc::clone(&half.metrics),
        undelivered,
        TaskTracker::new(),
        CancellationToken::new(),
    );
    let host = Host::new(CHILD).expect("a host");
    links.set_endpoints(&host, &[to]);
    let mut tick = interval(EVERY);
    tick.set_missed_tick_behavior(MissedTickBehavior::Burst);
    loop {
        tick.tick().await;
        let stanza = format!(
            "<message type='chat' from='alice@example.com/a' to='bob@example.com/b'>\
             <body>{:0400}</body></message>",
            nanos()
        );
        let stanza = Stanza::parse(stanza.into(), &Limits::default()).expect("a stanza");
        let envelope = Envelope::new(half.identity.host.clone(), Arrival::Own, 4, stanza);
        // Before the link stands there is nobody to take it.
        let _ = links.try_forward(&host, envelope);
    }
}

async fn child(arguments: &[String]) {
    let [certfile, keyfile, cacertfile, peer] = arguments else {
        panic!("what the parent gives: {arguments:?}");
    };
    let certificate = certs::Identity {
        certfile: PathBuf::from(certfile),
        keyfile: PathBuf::from(keyfile),
        cacertfile: PathBuf::from(cacertfile),
    };
    let half = Half::new(CHILD, certificate, vec![peer.parse().expect("an endpoint")]);
    let latencies = Arc::new(Latencies::default());
    println!("{}", half.listen(Arc::clone(&latencies) as _).await);
    while latencies.count() < 1000 {
        sleep(Duration::from_millis(10)).await;
    }
    latencies.begin();
    sleep(QUIET).await;
    println!("stanzas alone: {}", latencies.summary());

    let before = resident();
    latencies.begin();
    let started = Instant::now();
    let tables = ReplicationDialer::new(
        Dialler::new(half.identity.clone(), half.credentials()),
        &connections(&half.certificate),
        Arc::clone(&half.store) as _,
        Arc::clone(&half.metrics),
    );
    tokio::spawn(tables.run(half.store.contacts(), CancellationToken::new()));
    loop {
        let status = half.store.status();
        if !status.linked.is_empty() && status.behind.is_empty() {
            break;
        }
        sleep(Duration::from_millis(1)).await;
    }
    let took = started.elapsed();
    println!("stanzas beside the table: {}", latencies.summary());
    let after = resident();
    let known: usize = half.store.replicas().iter().map(|part| part.claims).sum();
    println!(
        "copy of a peer's table: {known} claims in step after {:.2} s; {:.1} MB",
        took.as_secs_f64(),
        after - before
    );
    latencies.begin();
    let started = Instant::now();
    let mut found = 0;
    while started.elapsed() < Duration::from_secs(1) {
        let number = fastrand::usize(0..known);
        let jid = format!("user{number:07}@example.com/phone-{number:08x}");
        half.store.claims(&jid).await.expect("an answer");
        found += 1;
    }
    println!("look-ups: {:.2} µs each", 1e6 / f64::from(found));
}

/// How long stanzas were under way, in ns.
#[derive(Default)]
struct Latencies {
    all: Mutex<Vec<u64>>,
}

impl Latencies {
    fn count(&self) -> usize {
        self.all.lock().len()
    }

    fn begin(&self) {
        self.all.lock().clear();
    }

    fn summary(&self) -> String {
        let mut all = self.all.lock().clone();
        all.sort_unstable();
        let at = |part: f64| {
            let index = (all.len() as f64 * part) as usize;
            all.get(index.min(all.len().saturating_sub(1)))
                .map_or(f64::NAN, |nanos| *nanos as f64 / 1e6)
        };
        format!(
            "{} of them, median {:.2} ms, p99 {:.2} ms, longest {:.2} ms",
            all.len(),
            at(0.5),
            at(0.99),
            at(1.0)
        )
    }
}

#[async_trait]
impl Intake for Latencies {
    async fn take(&self, mut envelope: Envelope) {
        let payload = String::from_utf8_lossy(envelope.stanza.payload()).into_owned();
        let digits = payload.trim_matches(|c: char| !c.is_ascii_digit());
        let sent: u128 = digits.parse().expect("when it was sent");
        let took = nanos().saturating_sub(sent);
        let mut all = self.all.lock();
        all.push(u64::try_from(took).unwrap_or(u64::MAX));
        drop(all);
        envelope.receipt.settle();
    }
}

fn nanos() -> u128 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .expect("a clock after 1970")
        .as_nanos()
}

/// MB (10⁶ bytes) in memory.
fn resident() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("a process");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.split_whitespace().next());
    let kib: f64 = kib.and_then(|kib| kib.parse().ok()).expect("VmRSS");
    kib * 1024.0 / 1e6
}
