//! What a datacenter of a cluster is to be.

use super::cluster::{GLOBAL, PASSWORD, USERS};
use super::machine::Machine;
use super::server::{Builder, Kind};

type Change = Box<dyn FnOnce(Builder) -> Builder + Send>;

/// A datacenter to be.
pub struct Plan {
    /// Its local host.
    pub host: String,
    /// Which server it has.
    pub kind: Kind,
    /// TOML over its gateway's configuration.
    pub config: Vec<String>,
    /// Where both run, if not here.
    pub machine: Option<Machine>,
    /// What is different about its server.
    pub changes: Vec<Change>,
    /// Whether a second gateway is to wait for the first one's end.
    pub standby: bool,
}

impl Plan {
    /// Like any other, until it is changed.
    pub fn new(host: &str) -> Self {
        Self {
            host: host.to_owned(),
            kind: Kind::Prosody,
            config: Vec::new(),
            machine: None,
            changes: Vec::new(),
            standby: false,
        }
    }

    /// Its server, to be started.
    pub fn server(self) -> Builder {
        let server = self.kind.builder(&self.host).watched_by(GLOBAL);
        let server = USERS
            .iter()
            .fold(server, |server, user| server.user(user, PASSWORD));
        self.changes
            .into_iter()
            .fold(server, |server, change| change(server))
    }
}
