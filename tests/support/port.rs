//! Ports that are reserved for one test, also among processes.

use std::fs::{File, OpenOptions};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use nix::fcntl::{Flock, FlockArg};

use super::machine::Machine;

/// The first port. The range is below Linux's usual ephemeral range, so that no outgoing
/// connection gets the port of a server that is restarting.
const FIRST: u32 = 20_000;
const COUNT: u32 = 12_000;

/// A port reserved until this value is dropped, whether or not a server listens on it.
#[derive(Debug)]
pub struct Port {
    number: u16,
    ip: IpAddr,
    _lock: Flock<File>,
}

impl Port {
    /// Reserves a free port on 127.0.0.1.
    pub fn take() -> Self {
        let directory = lock_directory();
        // Test processes start at different ports and seldom collide.
        let start = std::process::id().wrapping_mul(37);
        (0..COUNT)
            .map(|n| FIRST + start.wrapping_add(n) % COUNT)
            .filter_map(|number| u16::try_from(number).ok())
            .find_map(|number| {
                let file = OpenOptions::new()
                    .create(true)
                    .truncate(false)
                    .write(true)
                    .open(directory.join(number.to_string()))
                    .ok()?;
                let lock = Flock::lock(file, FlockArg::LockExclusiveNonblock).ok()?;
                TcpListener::bind((Ipv4Addr::LOCALHOST, number)).ok()?;
                Some(Self {
                    number,
                    ip: Ipv4Addr::LOCALHOST.into(),
                    _lock: lock,
                })
            })
            .expect("a free loopback port")
    }

    /// Reserves a free port on that machine, or on 127.0.0.1.
    pub fn take_on(machine: Option<&Machine>) -> Self {
        let port = Self::take();
        Self {
            ip: machine.map_or(port.ip, Machine::address),
            ..port
        }
    }

    /// Its number.
    pub fn number(&self) -> u16 {
        self.number
    }

    /// With its address.
    pub fn address(&self) -> SocketAddr {
        (self.ip, self.number).into()
    }
}

/// One directory per user of this machine, because a user cannot open another's lock files.
fn lock_directory() -> PathBuf {
    let uid = std::fs::metadata("/proc/self").map_or(0, |meta| meta.uid());
    let directory = std::env::temp_dir().join(format!("strait-test-ports-{uid}"));
    std::fs::create_dir_all(&directory).expect("a directory for lock files");
    directory
}
