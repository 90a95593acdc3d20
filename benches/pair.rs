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

use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use support::certs::Authority;
use support::message_pair::{SENDERS, Site, config, flood, free_address, greet, message, until};
use support::workdir::Workdir;

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
    let (mut sites, mut gateways) = (Vec::new(), Vec::new());
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
        gateways.push(Gateway(gateway));
        sites.push(Site::attach(&listener));
    }
    let [near, far] = &sites[..] else {
        unreachable!("two sites");
    };
    greet(near, far);
    let bodies: Vec<Vec<u8>> = (0..SENDERS).map(message).collect();
    near.write(&bodies[0]);
    // Until the links stand and bob is known, messages wait.
    until(far, 1);
    let mut sent = 1;
    let mut singles = Vec::new();
    for n in 0..SINGLES {
        let start = Instant::now();
        near.write(&bodies[n % SENDERS]);
        sent += 1;
        until(far, sent);
        singles.push(start.elapsed().as_secs_f64() * 1e6);
    }
    singles.sort_by(f64::total_cmp);

    let cpu = || {
        gateways
            .iter()
            .map(|gateway| cpu_time(gateway.0.id()))
            .sum::<Duration>()
    };
    let (cpu_before, start) = (cpu(), Instant::now());
    let count = flood(near, far, sent, messages) as f64;
    let took = start.elapsed().as_secs_f64();
    Figures {
        a_second: count / took,
        cpu_micros: (cpu() - cpu_before).as_secs_f64() * 1e6 / count,
        p50: singles[singles.len() / 2],
        p99: singles[singles.len() * 99 / 100],
    }
}

/// Killed when it is no longer needed.
struct Gateway(Child);

impl Drop for Gateway {
    fn drop(&mut self) {
        self.0.kill().expect("a process of ours");
        self.0.wait().expect("its end");
    }
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
