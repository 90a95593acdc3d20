//! Faults of every kind against four datacenters, while numbered messages flow.
//!
//! Started by `scripts/chaos`. Two datacenters have real servers (Prosody, ejabberd) and real
//! clients, two have fake servers, which send at a rate. A seeded schedule resets links, cuts
//! datacenters off, pauses and kills gateways, restarts servers, stops and flushes Redis. At the
//! end everything is whole again, and the program counts lost, doubled and reordered messages.
//!
//! XEP-0114 acknowledges nothing: a killed gateway takes with it what its own server had written
//! to it and no peer had acknowledged. Such losses are counted apart, and must have been under
//! way at the kill. So must what comes twice.

#[path = "../tests/support/mod.rs"]
mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::{Parser, ValueEnum};
use fastrand::Rng;
use minidom::Element;
use parking_lot::Mutex;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};

use support::backend::Backend;
use support::cable::Cable;
use support::client::Client;
use support::cluster::{Cluster, SECRET};
use support::fake_server::{Connection, FakeServer};
use support::flood::cut;
use support::gateway::{Gateway, binary};
use support::server::Kind;

const REAL: [&str; 2] = ["dc1.test", "dc2.test"];
const FAKE: [&str; 2] = ["dc3.test", "dc4.test"];
/// Senders, and recipients, of each datacenter with a fake server.
const FAKE_USERS: usize = 8;
/// Nothing waits so long here that its sender would get an error.
const CONFIG: &str = "hosts_refresh_interval = 1000\n\
    bounce.resend_after_ms = 200\nbounce.max_retries = 30\n\
    connections.max_wait = 120\nconnections.connections_per_endpoint = 2\n";
/// The time in which everything arrives after the last fault.
const SETTLING: Duration = Duration::from_secs(90);

/// Faults of every kind against four datacenters, while numbered messages flow.
#[derive(Parser)]
#[command(name = "chaos")]
struct Options {
    /// The time during which faults occur.
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    /// The seed of the schedule; without one, a new one.
    #[arg(long)]
    seed: Option<u64>,
    /// Messages a second from each datacenter with a fake server.
    #[arg(long, default_value_t = 300)]
    rate: u64,
    /// Where the gateways keep the session table.
    #[arg(long, value_enum, default_value_t = Table::Redis)]
    backend: Table,
}

/// Where the gateways keep the session table.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Table {
    /// By themselves.
    Mesh,
    /// In Redis.
    Redis,
}

/// A sender and a recipient, each a localpart and a host.
#[derive(Clone, PartialEq, Eq)]
struct Pair {
    from: (String, String),
    to: (String, String),
}

/// The messages of one pair; a message is known by its number.
#[derive(Default)]
struct Flow {
    sent: u64,
    /// Arrivals in their order, each with the stream of the recipient's side.
    arrived: Vec<(u64, usize)>,
    /// Delivered late by a server that had stored them.
    stored: BTreeSet<u64>,
    /// Each with its condition.
    errors: BTreeMap<u64, String>,
    /// Under way when the sender's own gateway was killed.
    excused: BTreeSet<u64>,
}

impl Flow {
    fn ended(&self) -> BTreeSet<u64> {
        let arrived = self.arrived.iter().map(|(n, _)| *n);
        arrived.chain(self.errors.keys().copied()).collect()
    }

    fn missing(&self) -> BTreeSet<u64> {
        let ended = self.ended();
        (1..=self.sent).filter(|n| !ended.contains(n)).collect()
    }
}

/// All pairs and their messages.
struct Book {
    pairs: Vec<Pair>,
    flows: Mutex<Vec<Flow>>,
}

impl Book {
    fn new() -> Self {
        let user = |name: String, host: &str| (name, host.to_owned());
        let mut pairs = Vec::new();
        for (from, to) in [(FAKE[0], FAKE[1]), (FAKE[1], FAKE[0])] {
            for n in 0..FAKE_USERS {
                pairs.push(Pair {
                    from: user(format!("{}s{n}", &from[..3]), from),
                    to: user(format!("{}r{n}", &to[..3]), to),
                });
            }
        }
        let real = [
            ("alice", REAL[0], "bob", REAL[1]),
            ("bob", REAL[1], "alice", REAL[0]),
            ("carol", REAL[0], "dc3r0", FAKE[0]),
            ("dc4s0", FAKE[1], "dave", REAL[1]),
        ];
        for (from, at, to, there) in real {
            pairs.push(Pair {
                from: user(from.to_owned(), at),
                to: user(to.to_owned(), there),
            });
        }
        let flows = pairs.iter().map(|_| Flow::default()).collect();
        Self {
            pairs,
            flows: Mutex::new(flows),
        }
    }

    /// The next message of a pair; its sender is left out for clients.
    fn next(&self, pair: usize, with_sender: bool) -> String {
        let Pair { from, to } = &self.pairs[pair];
        let n = {
            let flow = &mut self.flows.lock()[pair];
            flow.sent += 1;
            flow.sent
        };
        let sender = if with_sender {
            format!(" from='{}@{}/r'", from.0, from.1)
        } else {
            String::new()
        };
        format!(
            "<message type='chat'{sender} to='{}@example.test' id='chaos-{pair}-{n}'>\
             <body>{n}</body></message>",
            to.0
        )
    }

    /// Records a stanza that a server or client has received.
    fn record(&self, stanza: &Element, stream: usize) {
        let id = stanza.attr("id").unwrap_or_default();
        let mut words = id.strip_prefix("chaos-").unwrap_or_default().split('-');
        let mut number = || words.next().and_then(|word| word.parse::<u64>().ok());
        let (Some(pair), Some(n)) = (number(), number()) else {
            return;
        };
        let flow = &mut self.flows.lock()[usize::try_from(pair).expect("a pair")];
        if stanza.attr("type") == Some("error") {
            let error = support::xml::child(stanza, "error");
            let condition = error.and_then(|error| error.children().next());
            let condition = condition.map_or("", |child| child.name());
            flow.errors.insert(n, condition.to_owned());
        } else {
            flow.arrived.push((n, stream));
            if support::xml::child(stanza, "delay").is_some() {
                flow.stored.insert(n);
            }
        }
    }

    /// Excuses the losses of what is under way from `host`.
    fn excuse(&self, host: &str) {
        let mut flows = self.flows.lock();
        for (pair, flow) in self.pairs.iter().zip(flows.iter_mut()) {
            if pair.from.1 == host {
                let missing = flow.missing();
                flow.excused.extend(missing);
            }
        }
    }

    fn unaccounted(&self) -> usize {
        let flows = self.flows.lock();
        let lost = |flow: &Flow| flow.missing().difference(&flow.excused).count();
        flows.iter().map(lost).sum()
    }
}

/// A datacenter with a fake server: its gateway, and the task that sends for its users.
struct FakeSide {
    gateway: Gateway,
    sending: JoinHandle<()>,
}

impl FakeSide {
    async fn start(cluster: &Cluster, host: &str, book: &Arc<Book>, rate: u64) -> (Self, Cable) {
        let server = FakeServer::start().await;
        let mut settings = cluster.settings(host);
        settings.server = server.address();
        settings.overrides = vec![CONFIG.to_owned()];
        let mut gateway = Gateway::prepare(cluster.workdir(), &settings);
        let cable = behind_cable(&gateway).await;
        gateway.process.launch();
        let stream = Arc::new(Mutex::new(None));
        let reading = serve(
            server,
            host.to_owned(),
            Arc::clone(book),
            Arc::clone(&stream),
        );
        let sending = send(host.to_owned(), Arc::clone(book), Arc::clone(&stream), rate);
        tokio::spawn(reading);
        let side = Self {
            gateway,
            sending: tokio::spawn(sending),
        };
        (side, cable)
    }
}

/// Accepts one stream after the other; each is read to its end.
async fn serve(
    server: FakeServer,
    host: String,
    book: Arc<Book>,
    present: Arc<Mutex<Option<Arc<Connection>>>>,
) {
    for number in 0.. {
        let connection = loop {
            // A killed gateway is away for as long as it likes.
            let attaching = std::panic::AssertUnwindSafe(server.attach(SECRET));
            if let Ok(connection) = futures::FutureExt::catch_unwind(attaching).await {
                break Arc::new(connection);
            }
        };
        for pair in &book.pairs {
            for (name, at) in [&pair.from, &pair.to] {
                if *at == host {
                    connection.send(&format!(
                        "<presence from='{name}@{host}/r' to='example.test'/>"
                    ));
                }
            }
        }
        present.lock().replace(Arc::clone(&connection));
        loop {
            let next = connection
                .inbox()
                .whenever(|stanza| stanza.name() == "message");
            match timeout(Duration::from_millis(100), next).await {
                Ok(stanza) => book.record(&stanza, number),
                Err(_) if connection.inbox().is_closed() => break,
                Err(_) => {}
            }
        }
        present.lock().take();
    }
}

/// Sends for the users of `host`, whenever there is a stream.
async fn send(
    host: String,
    book: Arc<Book>,
    present: Arc<Mutex<Option<Arc<Connection>>>>,
    rate: u64,
) {
    let own: Vec<usize> = (0..book.pairs.len())
        .filter(|pair| book.pairs[*pair].from.1 == host)
        .collect();
    let every = Duration::from_secs(1) / u32::try_from((rate / own.len() as u64).max(1)).unwrap();
    loop {
        sleep(every).await;
        let connection = present.lock().clone();
        if let Some(connection) = connection.filter(|c| !c.inbox().is_closed()) {
            for pair in &own {
                connection.send(&book.next(*pair, true));
            }
        }
    }
}

/// A user of a real server, with the client while there is one.
struct User {
    name: &'static str,
    host: &'static str,
    client: Arc<tokio::sync::Mutex<Option<Client>>>,
    reading: Option<JoinHandle<()>>,
    logins: usize,
}

impl User {
    async fn log_in(&mut self, cluster: &Cluster, book: &Arc<Book>) {
        let client = cluster.login(self.name, self.host, "r").await;
        let (inbox, book) = (Arc::clone(client.inbox()), Arc::clone(book));
        self.logins += 1;
        let number = self.logins;
        self.reading = Some(tokio::spawn(async move {
            loop {
                let next = inbox.whenever(|stanza| stanza.name() == "message");
                match timeout(Duration::from_millis(100), next).await {
                    Ok(stanza) => book.record(&stanza, number),
                    Err(_) if inbox.is_closed() => return,
                    Err(_) => {}
                }
            }
        }));
        self.client.lock().await.replace(client);
    }

    /// Takes the client out, when its server has all that it has sent.
    async fn stop(&mut self) -> Option<Client> {
        let client = self.client.lock().await.take();
        if let Some(client) = &client {
            client.sync().await;
        }
        client
    }

    /// Waits until everything that has come was recorded.
    async fn read_out(&mut self) {
        if let Some(reading) = self.reading.take() {
            let _ = reading.await;
        }
    }
}

async fn chat(book: Arc<Book>, pair: usize, client: Arc<tokio::sync::Mutex<Option<Client>>>) {
    loop {
        sleep(Duration::from_millis(50)).await;
        if let Some(client) = &*client.lock().await {
            client.send(&book.next(pair, false)).await;
        }
    }
}

/// Puts a cable before the gateway's links: its peers reach it through the cable.
async fn behind_cable(gateway: &Gateway) -> Cable {
    let cable = Cable::to(gateway.link()).await;
    gateway.reconfigure(&format!(
        "connections.advertised_endpoints = ['{}']",
        cable.address()
    ));
    cable
}

/// A fault. Some end later: see [`Chaos::end`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Fault {
    Resets(usize),
    Pause(usize),
    Silence(usize),
    Rejection(usize),
    Kill(usize),
    ServerRestart(usize),
    RedisStop,
    RedisFlush,
}

struct Chaos {
    rng: Rng,
    start: Instant,
    cluster: Cluster,
    fakes: Vec<FakeSide>,
    cables: Vec<Cable>,
    users: Vec<User>,
    book: Arc<Book>,
    has_redis: bool,
    under_way: BTreeMap<Fault, Instant>,
    counts: BTreeMap<&'static str, usize>,
    /// The number of messages that may come twice: unsettled at a kill or a restart.
    may_double: f64,
}

impl Chaos {
    async fn set_up(options: &Options, seed: u64) -> Self {
        let backend = match options.backend {
            Table::Mesh => Backend::Mesh,
            Table::Redis => Backend::Redis,
        };
        let cluster = Cluster::on(backend)
            .named("chaos")
            .datacenter(REAL[0])
            .datacenter(REAL[1])
            .its_server(Kind::Ejabberd)
            .config(CONFIG)
            .prepare();
        let mut cluster = cluster.await;
        let mut cables = Vec::new();
        for host in REAL {
            cables.push(behind_cable(&cluster.dc(host).gateway).await);
        }
        cluster.launch_gateways();
        let book = Arc::new(Book::new());
        let mut fakes = Vec::new();
        for host in FAKE {
            let (side, cable) = FakeSide::start(&cluster, host, &book, options.rate).await;
            fakes.push(side);
            cables.push(cable);
        }
        cluster.until_ready().await;
        let mut users: Vec<User> = [
            ("alice", REAL[0]),
            ("bob", REAL[1]),
            ("carol", REAL[0]),
            ("dave", REAL[1]),
        ]
        .map(|(name, host)| User {
            name,
            host,
            client: Arc::default(),
            reading: None,
            logins: 0,
        })
        .into();
        for user in &mut users {
            user.log_in(&cluster, &book).await;
        }
        let chaos = Self {
            rng: Rng::with_seed(seed),
            start: Instant::now(),
            cluster,
            fakes,
            cables,
            users,
            book,
            has_redis: backend == Backend::Redis,
            under_way: BTreeMap::new(),
            counts: BTreeMap::new(),
            may_double: 0.0,
        };
        for at in 0..4 {
            chaos.gateway(at).until_ready().await;
        }
        chaos
    }

    fn host(at: usize) -> &'static str {
        if at < 2 { REAL[at] } else { FAKE[at - 2] }
    }

    fn gateway(&self, at: usize) -> &Gateway {
        match at {
            0 | 1 => &self.cluster.dc(REAL[at]).gateway,
            _ => &self.fakes[at - 2].gateway,
        }
    }

    fn gateway_mut(&mut self, at: usize) -> &mut Gateway {
        match at {
            0 | 1 => &mut self.cluster.dc_mut(REAL[at]).gateway,
            _ => &mut self.fakes[at - 2].gateway,
        }
    }

    fn say(&mut self, what: &'static str, text: &str) {
        *self.counts.entry(what).or_default() += 1;
        println!(
            "  {:7.3} s   {what} {text}",
            self.start.elapsed().as_secs_f64()
        );
    }

    fn is_whole(&self, at: usize) -> bool {
        !self.under_way.keys().any(|fault| match fault {
            Fault::Pause(other) | Fault::Silence(other) | Fault::Rejection(other) => *other == at,
            _ => false,
        })
    }

    /// Begins one fault.
    async fn strike(&mut self) {
        let at = self.rng.usize(..4);
        let lasts = Duration::from_millis(self.rng.u64(500..5000));
        let until = Instant::now() + lasts;
        let fault = match self.rng.usize(..20) {
            0..=6 => Fault::Resets(at),
            7..=9 => Fault::Pause(at),
            10..=11 => Fault::Silence(at),
            12..=13 => Fault::Rejection(at),
            14..=15 => Fault::Kill(at),
            16..=17 => Fault::ServerRestart(at % 2),
            18 => Fault::RedisStop,
            _ => Fault::RedisFlush,
        };
        let host = Self::host(at);
        let for_a_time = format!("{host} for {lasts:?}");
        match fault {
            Fault::Resets(_) => {
                let links = cut(self.gateway(at).link().port()).await;
                self.say("links are reset:", &format!("{links} to {host}"));
            }
            Fault::Pause(_) | Fault::Silence(_) | Fault::Rejection(_) if !self.is_whole(at) => {}
            Fault::Pause(_) => {
                self.gateway(at).process.freeze();
                self.under_way.insert(fault, until);
                self.say("gateway is paused:", &for_a_time);
            }
            Fault::Silence(_) => {
                self.cables[at].cut();
                self.under_way.insert(fault, until);
                self.say("links to it are silent:", &for_a_time);
            }
            Fault::Rejection(_) => {
                self.cables[at].sever();
                self.under_way.insert(fault, until);
                self.say("links to it are rejected:", &for_a_time);
            }
            Fault::Kill(_) if self.is_whole(at) => {
                self.gateway_mut(at).process.kill9().await;
                self.book.excuse(host);
                self.count_unsettled(at).await;
                self.gateway_mut(at).process.launch();
                self.say("gateway is killed:", host);
            }
            Fault::Kill(_) => {}
            Fault::ServerRestart(at) => self.restart_server(at).await,
            Fault::RedisStop if self.has_redis && !self.under_way.contains_key(&fault) => {
                self.cluster.redis.stop().await;
                self.under_way.insert(fault, until);
                self.say("Redis is stopped:", &format!("for {lasts:?}"));
            }
            Fault::RedisFlush
                if self.has_redis && !self.under_way.contains_key(&Fault::RedisStop) =>
            {
                let _: String = self.cluster.redis.ask(&["FLUSHALL"]).await;
                self.say("Redis is flushed", "");
            }
            Fault::RedisStop | Fault::RedisFlush => {}
        }
    }

    /// Adds what is not settled on the way to `at`: it may come twice.
    async fn count_unsettled(&mut self, at: usize) {
        for other in (0..4).filter(|other| *other != at) {
            // A paused gateway does not answer.
            let label = [("host", Self::host(at))];
            let metrics = timeout(Duration::from_secs(1), self.gateway(other).metrics());
            if let Ok(Ok(metrics)) = metrics.await {
                let unsettled = metrics.get("strait_link_unsettled_stanzas", &label);
                self.may_double += unsettled.unwrap_or(0.0);
            } else {
                self.may_double += 1000.0;
            }
        }
    }

    async fn restart_server(&mut self, at: usize) {
        let host = REAL[at];
        if !self.is_whole(at) {
            return;
        }
        let mut clients = Vec::new();
        for user in self.users.iter_mut().filter(|user| user.host == host) {
            clients.extend(user.stop().await);
        }
        if let Ok(metrics) = self.gateway(at).metrics().await {
            let unsettled = metrics.get("strait_component_unsettled_stanzas", &[]);
            self.may_double += unsettled.unwrap_or(0.0);
        }
        self.cluster.dc_mut(host).server.stop().await;
        for user in self.users.iter_mut().filter(|user| user.host == host) {
            user.read_out().await;
        }
        drop(clients);
        self.cluster.dc_mut(host).server.start().await;
        for user in self.users.iter_mut().filter(|user| user.host == host) {
            user.log_in(&self.cluster, &self.book).await;
        }
        self.say("server is restarted:", host);
    }

    async fn log_in_again(&mut self) {
        for user in &mut self.users {
            if let Some(client) = user.stop().await {
                client.close().await;
            }
            user.read_out().await;
            user.log_in(&self.cluster, &self.book).await;
        }
        self.say("users log in again", "");
    }

    /// Ends the faults whose time is over; all of them, if `all`.
    async fn end(&mut self, all: bool) {
        let over = self.under_way.iter();
        let over = over.filter(|(_, until)| all || **until <= Instant::now());
        let over: Vec<Fault> = over.map(|(fault, _)| *fault).collect();
        for fault in over {
            self.under_way.remove(&fault);
            match fault {
                Fault::Pause(at) => self.gateway(at).process.thaw(),
                Fault::Silence(at) | Fault::Rejection(at) => self.cables[at].mend(),
                Fault::RedisStop => self.cluster.redis.start_again().await,
                _ => {}
            }
        }
    }

    /// Runs the faults, and waits until everything has arrived.
    async fn run(&mut self, seconds: u64) {
        let mut chats = Vec::new();
        for (pair, Pair { from, .. }) in self.book.pairs.iter().enumerate() {
            if let Some(user) = self.users.iter().find(|user| user.name == from.0) {
                let chat = chat(Arc::clone(&self.book), pair, Arc::clone(&user.client));
                chats.push(tokio::spawn(chat));
            }
        }
        // The first messages learn their way in peace.
        sleep(Duration::from_secs(2)).await;
        self.start = Instant::now();
        while self.start.elapsed() < Duration::from_secs(seconds) {
            self.strike().await;
            let pause = Duration::from_millis(self.rng.u64(100..1500));
            sleep(pause).await;
            self.end(false).await;
        }
        self.end(true).await;
        chats.iter().for_each(JoinHandle::abort);
        for side in &self.fakes {
            side.sending.abort();
        }
        self.say("everything is whole again", "");
        let deadline = Instant::now() + SETTLING;
        let mut log_in_at = Instant::now() + SETTLING / 6;
        while self.book.unaccounted() > 0 && Instant::now() < deadline {
            sleep(Duration::from_millis(200)).await;
            if Instant::now() >= log_in_at {
                // ejabberd delivers what it stores during a login at the login after that.
                log_in_at += SETTLING / 3;
                self.log_in_again().await;
            }
        }
        // A second time may still be on its way.
        sleep(Duration::from_secs(2)).await;
    }

    /// Prints the report; returns whether all bounds hold.
    fn report(&self) -> bool {
        let flows = self.book.flows.lock();
        let (mut sent, mut lost, mut excused, mut errors) = (0, 0, 0, 0);
        let (mut doubled, mut within, mut reordered, mut stored) = (0, 0, 0, 0);
        let mut details = String::new();
        for (Pair { from, to }, flow) in self.book.pairs.iter().zip(flows.iter()) {
            let name = format!("{}@{} → {}@{}", from.0, from.1, to.0, to.1);
            sent += flow.sent;
            errors += flow.errors.len();
            if let Some((n, condition)) = flow.errors.first_key_value() {
                let _ = writeln!(details, "  {name}: error for {n}: {condition}");
            }
            let missing = flow.missing();
            let unexcused: Vec<_> = missing.difference(&flow.excused).collect();
            excused += missing.len() - unexcused.len();
            lost += unexcused.len();
            if !unexcused.is_empty() {
                let _ = writeln!(details, "  {name}: lost {unexcused:?}");
            }
            let mut first: BTreeMap<u64, usize> = BTreeMap::new();
            let mut highest = 0;
            for (n, stream) in &flow.arrived {
                if let Some(before) = first.get(n) {
                    doubled += 1;
                    if before == stream {
                        within += 1;
                        let _ = writeln!(details, "  {name}: {n} twice on one stream");
                    }
                    continue;
                }
                first.insert(*n, *stream);
                if *n < highest && flow.stored.contains(n) {
                    // The server stored it during a login, and not the next one.
                    stored += 1;
                } else if *n < highest {
                    reordered += 1;
                    let _ = writeln!(details, "  {name}: {n} after {highest}, stream {stream}");
                }
                highest = highest.max(*n);
            }
        }
        println!("\n  {sent} messages");
        for (what, count) in &self.counts {
            println!("  {count:4} × {}", what.trim_end_matches(':'));
        }
        println!("  lost:      {lost}");
        println!("  lost with the sender's own gateway, under way at its kill: {excused}");
        println!("  errors:    {errors}");
        println!("  reordered: {reordered}; by a server that had stored them: {stored}");
        println!(
            "  doubled:   {doubled}, of at most {} in flight at a kill or restart",
            self.may_double
        );
        print!("{details}");
        lost == 0 && reordered == 0 && within == 0 && doubled as f64 <= self.may_double
    }
}

// One thread: servers die with the thread that started them.
#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let options = Options::parse();
    if !binary().is_file() {
        eprintln!("{} is missing; run scripts/chaos", binary().display());
        return ExitCode::FAILURE;
    }
    let seed = options.seed.unwrap_or_else(|| fastrand::u64(..1 << 32));
    println!("chaos: seed {seed}, {} s of faults", options.seconds);
    let mut chaos = Chaos::set_up(&options, seed).await;
    chaos.run(options.seconds).await;
    let holds = chaos.report();
    println!(
        "chaos: seed {seed}: {}",
        if holds { "passed" } else { "FAILED" }
    );
    if holds {
        chaos.cluster.stop().await;
        return ExitCode::SUCCESS;
    }
    let kept = chaos.cluster.workdir().path().with_extension("logs");
    match std::fs::rename(chaos.cluster.workdir().path(), &kept) {
        Ok(()) => println!("  logs: {}", kept.display()),
        Err(error) => println!("  the logs could not be kept: {error}"),
    }
    ExitCode::FAILURE
}
