//! How many messages a second pass two gateways, from component stream to component
//! stream, with everything on: TLS links, barriers, acknowledgements, the session table.
//!
//! `cargo bench --bench pair [-- MESSAGES [OTHER-PROGRAM]]`. Two fake servers in this
//! process, a gateway process at each, 64 senders, messages of 433 bytes, at most 20,000
//! under way. Prints messages a second, the CPU time that one takes at both gateways
//! together, and the median and 99th percentile of one message alone. With another
//! `strait` program, both are measured in turn in one run, five times each, and the
//! medians are printed; so a version is compared with the one before it.

#[path = "../tests/support/mod.rs"]
mod support;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use memchr::memmem;
use support::certs::Authority;
use support::workdir::Workdir;

const SECRET: &str = "secret";
const SENDERS: usize = 64;
const WINDOW: usize = 20_000;
const ROUNDS: usize = 5;
/// Messages that are sent one at a time, for their latency.
const SINGLES: usize = 2_000;

fn main() {
    let mut arguments = std::env::args().skip(1).filter(|word| word != "--bench");
    let messages = arguments.next().map_or(400_000, |count| {
        count.parse().expect("how many messages to send")
    });
    let own = PathBuf::from(env!("CARGO_BIN_EXE_strait"));
    let programs: Vec<PathBuf> = [own]
        .into_iter()
        .chain(arguments.next().map(PathBuf::from))
        .collect();
    let rounds = if programs.len() > 1 { ROUNDS } else { 1 };
    let mut figures: Vec<Vec<Figures>> = programs.iter().map(|_| Vec::new()).collect();
    for _ in 0..rounds {
        for (program, figures) in programs.iter().zip(&mut figures) {
            figures.push(measure(program, messages));
        }
    }
    for (program, figures) in programs.iter().zip(&figures) {
        let median = |of: fn(&Figures) -> f64| {
            let mut all: Vec<f64> = figures.iter().map(of).collect();
            all.sort_by(f64::total_cmp);
            all[all.len() / 2]
        };
        println!(
            "{}: {:.0} messages a second, {:.1} µs CPU each at both gateways, alone p50 {:.0} µs, p99 {:.0} µs",
            program.display(),
            median(|f| f.a_second),
            median(|f| f.cpu_micros),
            median(|f| f.p50),
            median(|f| f.p99),
        );
    }
}

struct Figures {
    a_second: f64,
    cpu_micros: f64,
    p50: f64,
    p99: f64,
}

fn measure(program: &Path, messages: usize) -> Figures {
    let workdir = Workdir::new("pair");
    let authority = Authority::new(&workdir.file("certs"), "authority");
    let mut sites: Vec<Site> = Vec::new();
    let links: Vec<SocketAddr> = (0..2).map(|_| free_address()).collect();
    for at in 0..2 {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let config = config(at, &listener, &links, &authority);
        let config = workdir.write(&format!("dc{at}.toml"), &config);
        let gateway = Command::new(program)
            .args(["run", "--config"])
            .arg(config)
            .stderr(Stdio::null())
            .spawn()
            .expect("a gateway that starts");
        sites.push(Site::attach(listener, Gateway(gateway)));
    }
    let [near, far] = &mut sites[..] else {
        unreachable!("two sites");
    };
    far.say("<presence from='bob@dc1.test/r' to='example.test'/>");
    for sender in 0..SENDERS {
        near.say(&format!(
            "<presence from='user{sender}@dc0.test/r' to='example.test'/>"
        ));
    }
    let arrived = Arc::clone(&far.arrived);
    // Until the links stand and bob is known, messages wait.
    let until = |count: usize| {
        let deadline = Instant::now() + Duration::from_secs(60);
        while arrived.load(Ordering::Acquire) < count {
            assert!(Instant::now() < deadline, "messages do not arrive");
            std::thread::yield_now();
        }
    };
    let bodies: Vec<Vec<u8>> = (0..SENDERS).map(message).collect();
    near.write(&bodies[0]);
    until(1);
    let mut sent = 1;
    let mut singles = Vec::new();
    for n in 0..SINGLES {
        let start = Instant::now();
        near.write(&bodies[n % SENDERS]);
        sent += 1;
        until(sent);
        singles.push(start.elapsed().as_secs_f64() * 1e6);
    }
    singles.sort_by(f64::total_cmp);

    let cpu = || near_and_far_cpu(near, far);
    let (cpu_before, start, before) = (cpu(), Instant::now(), sent);
    let batch: Vec<u8> = bodies.concat();
    let socket = near.socket.try_clone().expect("a socket");
    let mut socket = &socket;
    while sent - before < messages {
        while sent - arrived.load(Ordering::Acquire) > WINDOW - SENDERS {
            std::thread::sleep(Duration::from_micros(200));
        }
        socket.write_all(&batch).expect("a gateway that reads");
        sent += SENDERS;
    }
    until(sent);
    let took = start.elapsed().as_secs_f64();
    let count = (sent - before) as f64;
    Figures {
        a_second: count / took,
        cpu_micros: (cpu() - cpu_before).as_secs_f64() * 1e6 / count,
        p50: singles[singles.len() / 2],
        p99: singles[singles.len() * 99 / 100],
    }
}

/// A chat message of 433 bytes.
fn message(sender: usize) -> Vec<u8> {
    let start = format!(
        "<message from='user{sender}@dc0.test/r' to='bob@example.test' type='chat' \
         id='b8f0c6de-31a5-4b8e-8f5e-8a6d9a4a9d11'><body>"
    );
    let end = "</body><request xmlns='urn:xmpp:receipts'/></message>";
    let body = "x".repeat(433 - start.len() - end.len());
    [start.as_bytes(), body.as_bytes(), end.as_bytes()].concat()
}

fn free_address() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.local_addr().expect("an address")
}

fn config(at: usize, server: &TcpListener, links: &[SocketAddr], authority: &Authority) -> String {
    let host = format!("dc{at}.test");
    let identity = authority.issue(&host);
    format!(
        "global_host = 'example.test'\nlocal_host = '{host}'\nnode = 'n'\n\
         mesh.peers = ['{peer}']\nhosts_refresh_interval = 300\n\
         [component]\nserver = '{server}'\nsecret = '{SECRET}'\n\
         [connections]\nendpoints = ['{own}']\nadvertised_endpoints = ['{own}']\n\
         [connections.tls]\ncertfile = '{cert}'\nkeyfile = '{key}'\ncacertfile = '{ca}'\n\
         [log]\nlevel = 'warn'\n",
        peer = links[1 - at],
        own = links[at],
        server = server.local_addr().expect("an address"),
        cert = identity.certfile.display(),
        key = identity.keyfile.display(),
        ca = identity.cacertfile.display(),
    )
}

/// Killed when it is no longer needed.
struct Gateway(Child);

impl Drop for Gateway {
    fn drop(&mut self) {
        self.0.kill().expect("a process of ours");
        self.0.wait().expect("its end");
    }
}

/// A fake server, and the gateway attached to it.
struct Site {
    gateway: Gateway,
    socket: TcpStream,
    /// Messages that the gateway has written.
    arrived: Arc<AtomicUsize>,
}

impl Site {
    fn attach(listener: TcpListener, gateway: Gateway) -> Self {
        let (mut socket, _) = listener.accept().expect("a gateway that connects");
        socket.set_nodelay(true).expect("a TCP socket");
        read_tag(&mut socket, "<stream:stream");
        let header = "<?xml version='1.0'?><stream:stream from='example.test' id='1' \
             xmlns='jabber:component:accept' xmlns:stream='http://etherx.jabber.org/streams'>";
        socket.write_all(header.as_bytes()).expect("a gateway");
        read_tag(&mut socket, "</handshake");
        socket.write_all(b"<handshake/>").expect("a gateway");
        let arrived = Arc::new(AtomicUsize::new(0));
        let (reader, count) = (socket.try_clone().expect("a socket"), Arc::clone(&arrived));
        std::thread::spawn(move || serve(reader, &count));
        Self {
            gateway,
            socket,
            arrived,
        }
    }

    fn say(&self, xml: &str) {
        self.write(xml.as_bytes());
    }

    fn write(&self, bytes: &[u8]) {
        (&self.socket)
            .write_all(bytes)
            .expect("a gateway that reads");
    }
}

/// Reads to the end of the tag that begins with `start`.
fn read_tag(socket: &mut TcpStream, start: &str) {
    let mut seen = Vec::new();
    let mut byte = [0];
    while byte != *b">" || memmem::find(&seen, start.as_bytes()).is_none() {
        socket
            .read_exact(&mut byte)
            .expect("a gateway that attaches");
        seen.push(byte[0]);
    }
}

/// Counts messages and answers iqs, until the gateway has gone.
fn serve(mut socket: TcpStream, arrived: &AtomicUsize) {
    let (messages, iqs) = (
        memmem::Finder::new("</message>"),
        memmem::Finder::new("<iq "),
    );
    let (mut buffer, mut kept) = (vec![0; 1 << 18], 0);
    while let Ok(read @ 1..) = socket.read(&mut buffer[kept..]) {
        let filled = kept + read;
        let mut done = 0;
        let mut count = 0;
        for end in messages.find_iter(&buffer[..filled]) {
            count += 1;
            done = end + "</message>".len();
        }
        if count > 0 {
            arrived.fetch_add(count, Ordering::Release);
        }
        for at in iqs.find_iter(&buffer[..filled]) {
            let tag = &buffer[at..filled];
            let Some(length) = tag.iter().position(|byte| *byte == b'>') else {
                continue;
            };
            let tag = String::from_utf8_lossy(&tag[..length]).into_owned();
            if let Some(answer) = answer(&tag)
                && (&socket).write_all(answer.as_bytes()).is_err()
            {
                return;
            }
            done = done.max(at + length);
        }
        // The rest may be the start of something that is counted.
        let from = done.max(filled.saturating_sub(4096));
        buffer.copy_within(from..filled, 0);
        kept = filled - from;
    }
}

/// What a server says to the iq whose start tag this is: an iq to the component itself
/// comes back, everything else has an empty result.
fn answer(tag: &str) -> Option<String> {
    let attribute = |name: &str| {
        let value = tag.split_once(&format!(" {name}="))?.1;
        let quote = value.chars().next()?;
        value[1..].split(quote).next()
    };
    let (id, from, to) = (attribute("id")?, attribute("from")?, attribute("to")?);
    if attribute("type") != Some("get") {
        return None;
    }
    if from == to {
        return Some(format!(
            "<iq type='get' id='{id}' from='{from}' to='{to}'><ping xmlns='urn:xmpp:ping'/></iq>"
        ));
    }
    Some(format!(
        "<iq type='result' id='{id}' from='{to}' to='{from}'/>"
    ))
}

fn near_and_far_cpu(near: &Site, far: &Site) -> Duration {
    [near, far]
        .map(|site| cpu_time(site.gateway.0.id()))
        .iter()
        .sum()
}

/// User and system time of a process.
fn cpu_time(pid: u32) -> Duration {
    // proc_pid_stat(5): utime and stime are fields 14 and 15, in ticks of 10 ms; the
    // second, the program's name, is in parentheses.
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).expect("procfs");
    let fields = stat.rsplit(')').next().unwrap_or_default();
    let ticks = fields.split_whitespace().skip(11).take(2);
    let ticks: u64 = ticks.filter_map(|field| field.parse::<u64>().ok()).sum();
    Duration::from_millis(10 * ticks)
}
