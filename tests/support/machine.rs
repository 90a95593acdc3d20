//! Several machines on this one: each has its own network with one address, and the network
//! between any two of them can be cut.
//!
//! All of it is in network namespaces without names, including the bridge between the machines.
//! The kernel removes them when no process is in them any more, also after a test that was
//! killed, and they are invisible outside.

use std::ffi::OsString;
use std::fs::File;
use std::future::Future;
use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::AsRawFd;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;

use nix::sched::{CloneFlags, setns, unshare};

/// The first three bytes of the machines' addresses; the bridge has 254 as the last byte.
const NETWORK: [u8; 3] = [10, 77, 0];

/// The machines, and the bridge in the namespace of the test itself, which can reach all of them.
#[derive(Debug)]
pub struct Network {
    machines: Vec<Machine>,
}

/// A machine; programs run on it when started with [`Machine::behind`].
#[derive(Debug, Clone)]
pub struct Machine {
    number: u8,
    /// Held open, so that the namespace exists while no process runs in it.
    namespace: Arc<File>,
}

/// Runs `test` in its own namespace, with that many machines.
///
/// # Panics
/// Without root, which is required to create a network.
pub fn with_machines<T: Future<Output = ()>>(count: u8, test: impl FnOnce(Network) -> T) {
    unshare(CloneFlags::CLONE_NEWNET)
        .unwrap_or_else(|error| panic!("a network namespace takes root: {error}"));
    let hub = own_namespace();
    ip("link set lo up");
    ip("link add bridge type bridge");
    ip(&format!("addr add {}/24 dev bridge", address(254)));
    ip("link set bridge up");
    let machines = (1..=count).map(|number| Machine::new(number, &hub));
    let network = Network {
        machines: machines.collect(),
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        // A thread starts in the namespace of its process, unless it moves.
        .on_thread_start(move || enter(&hub))
        .build();
    runtime.expect("a runtime").block_on(test(network));
}

impl Network {
    /// Each machine, in the order of their addresses.
    pub fn machines(&self) -> &[Machine] {
        &self.machines
    }

    /// Drops all packets between the two, without notifying either. Both still reach all other
    /// machines. One pair at a time.
    pub fn cut(&self, one: &Machine, other: &Machine) {
        for machine in [one, other] {
            machine.isolate(true);
        }
    }

    /// Lets packets pass again between the two.
    pub fn heal(&self, one: &Machine, other: &Machine) {
        for machine in [one, other] {
            machine.isolate(false);
        }
    }
}

impl Machine {
    /// Creates a machine from a thread in the hub, and connects it to the hub's bridge.
    fn new(number: u8, hub: &File) -> Self {
        unshare(CloneFlags::CLONE_NEWNET).expect("root");
        let machine = Self {
            number,
            namespace: Arc::new(own_namespace()),
        };
        ip("link set lo up");
        enter(hub);
        let (port, there) = (machine.port(), machine.namespace());
        let there = there.display();
        ip(&format!(
            "link add {port} type veth peer name eth0 netns {there}"
        ));
        ip(&format!("link set {port} master bridge up"));
        enter(&machine.namespace);
        let address = address(number);
        ip(&format!("addr add {address}/24 dev eth0"));
        ip("link set eth0 up");
        enter(hub);
        machine
    }

    /// Its address.
    pub fn address(&self) -> IpAddr {
        address(self.number).into()
    }

    /// The program and its arguments, to be run on this machine.
    pub fn behind(
        &self,
        program: impl Into<OsString>,
        arguments: impl IntoIterator<Item = OsString>,
    ) -> (OsString, Vec<OsString>) {
        let mut all = vec![self.entrance(), "--".into(), program.into()];
        all.extend(arguments);
        ("nsenter".into(), all)
    }

    /// Resets every connection with `other`: both ends get a RST.
    pub fn reset_connections_with(&self, other: &Machine) {
        for (at, far) in [(self, other), (other, self)] {
            let far = far.address().to_string();
            let ss = ["ss", "-K", "-t", "dst", &far].map(OsString::from);
            let done = Command::new("nsenter").arg(at.entrance()).args(ss).output();
            succeeded("ss -K", done);
        }
    }

    fn isolate(&self, is_isolated: bool) {
        let state = if is_isolated { "on" } else { "off" };
        let port = self.port();
        // Isolated ports reach all ports but each other.
        ip(&format!(
            "link set dev {port} type bridge_slave isolated {state}"
        ));
    }

    fn port(&self) -> String {
        format!("machine{}", self.number)
    }

    /// A path that another process can open too.
    fn namespace(&self) -> PathBuf {
        let (process, file) = (std::process::id(), self.namespace.as_raw_fd());
        format!("/proc/{process}/fd/{file}").into()
    }

    fn entrance(&self) -> OsString {
        format!("--net={}", self.namespace().display()).into()
    }
}

fn address(number: u8) -> Ipv4Addr {
    let [a, b, c] = NETWORK;
    Ipv4Addr::new(a, b, c, number)
}

fn own_namespace() -> File {
    File::open("/proc/thread-self/ns/net").expect("the namespace of this thread")
}

/// Moves this thread, and the processes it starts later, into the namespace.
fn enter(namespace: &File) {
    setns(namespace, CloneFlags::CLONE_NEWNET).expect("root");
}

/// Runs `ip` in the namespace of this thread.
fn ip(arguments: &str) {
    let done = Command::new("ip").args(arguments.split(' ')).output();
    succeeded(&format!("ip {arguments}"), done);
}

fn succeeded(what: &str, done: std::io::Result<std::process::Output>) {
    let done = done.unwrap_or_else(|error| {
        panic!("{what}: {error}; scripts/setup installs what tests need");
    });
    let said = String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success(), "{what}: {said}");
}
