//! The setup of one datacenter of a cluster.

use super::cluster::{GLOBAL, PASSWORD, USERS};
use super::machine::Machine;
use super::server::{Builder, Kind};

type Change = Box<dyn FnOnce(Builder) -> Builder + Send>;

/// A planned datacenter.
pub struct Plan {
    /// Its local host.
    pub host: String,
    /// The kind of its server.
    pub kind: Kind,
    /// TOML that is merged over its gateway's configuration.
    pub config: Vec<String>,
    /// The machine on which both run; `None` for this one.
    pub machine: Option<Machine>,
    /// Changes to the setup of its server.
    pub changes: Vec<Change>,
    /// Whether a second gateway waits for the end of the first.
    pub standby: bool,
}

impl Plan {
    /// Creates a plan with the defaults.
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

    /// The setup of its server.
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
