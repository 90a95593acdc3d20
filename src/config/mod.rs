//! What the operator wrote: one file, flags, environment; validated whole
//! before anything starts.

mod control;
mod endpoint;
mod file;
pub mod flags;
mod kind;
mod load;
mod mesh;
pub mod options;
mod problem;
mod reading;
mod redis;
mod secrets;
mod sections;
mod services;
mod sources;
#[cfg(test)]
mod tests;
mod times;
mod tls;
mod value;

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

pub use control::{ControlComponent, ControlConfig, MongooseImConfig};
pub use endpoint::{Endpoint, InvalidEndpoint};
pub use kind::{OptionKind, Unit};
pub use load::{Inputs, Loaded};
pub use mesh::Mesh;
pub use problem::{Origin, Problem, Problems};
pub use redis::{Compat, Redis, RedisTls, RedisUrl, Site};
pub use sources::{Source, Sources};
pub use times::Times;
pub use value::Value;

use crate::host::Host;

/// The OpenSSL names of all cipher suites that rustls has: those of TLS 1.3,
/// then those of TLS 1.2.
pub const CIPHERS: [&str; 9] = [
    "TLS_AES_256_GCM_SHA384",
    "TLS_AES_128_GCM_SHA256",
    "TLS_CHACHA20_POLY1305_SHA256",
    "ECDHE-ECDSA-AES256-GCM-SHA384",
    "ECDHE-ECDSA-AES128-GCM-SHA256",
    "ECDHE-ECDSA-CHACHA20-POLY1305",
    "ECDHE-RSA-AES256-GCM-SHA384",
    "ECDHE-RSA-AES128-GCM-SHA256",
    "ECDHE-RSA-CHACHA20-POLY1305",
];

/// A whole, valid configuration.
#[derive(Debug, Clone)]
pub struct Config {
    /// `global_host`: the shared domain; the component's domain.
    pub global_host: Host,
    /// `local_host`: this datacenter's own domain.
    pub local_host: Host,
    /// `node`: this process among those of its host.
    pub node: String,
    /// `message_ttl`: how many times a stanza may be forwarded.
    pub message_ttl: u32,
    /// `accounts`: whether one localpart is one person everywhere.
    pub accounts: Accounts,
    /// `hosts_refresh_interval`: how often the table is asked for new hosts.
    pub hosts_refresh_interval: Duration,
    /// `[component]`
    pub component: ComponentConfig,
    /// `[control]`
    pub control: ControlConfig,
    /// `[sessions]`
    pub sessions: SessionsConfig,
    /// `[redis]`, if the session table is kept there.
    pub redis: Option<Redis>,
    /// `[mesh]`
    pub mesh: Mesh,
    /// `[cache]`
    pub cache: Cache,
    /// `[bounce]`
    pub bounce: Bounce,
    /// `[presence]`
    pub presence: PresenceConfig,
    /// `[connections]`
    pub connections: Connections,
    /// `[disco]`
    pub disco: Disco,
    /// `[[services]]`: what this datacenter offers, in the file's order.
    pub services: Vec<ServiceConfig>,
    /// `[admin]`
    pub admin: AdminConfig,
    /// `[log]`
    pub log: Log,
}

impl Config {
    /// How long entries of the session table live, wherever it is kept.
    #[must_use]
    pub fn times(&self) -> Times {
        self.redis
            .as_ref()
            .map_or_else(|| self.mesh.times(), Redis::times)
    }
}

/// `[component]`: the attachment to the local server.
#[derive(Debug, Clone)]
pub struct ComponentConfig {
    /// `server`: where the server accepts components, `host:port`.
    pub server: Endpoint,
    /// `secret`, or the first line of `secret_file`.
    pub secret: Secret,
    /// `foreign_from`: reinject senders from outside the global domain too.
    pub foreign_from: bool,
    /// `replay`: of this time before a server died, messages are reinjected again.
    pub replay: Duration,
    /// `stanza_size_limit`: the largest stanza, in bytes, that the server accepts.
    pub stanza_size_limit: usize,
}

/// `[sessions]`
#[derive(Debug, Clone)]
pub struct SessionsConfig {
    /// `backend`: where the session table is kept.
    pub backend: Backend,
    /// `sources`: what tells who is online here.
    pub sources: Sources,
}

/// Whether one localpart is one person everywhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Accounts {
    /// It is, as with one user database behind all datacenters.
    Shared,
    /// It belongs to the host that claimed it first.
    Unique,
}

/// Where the session table is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Backend {
    /// By the gateways themselves.
    Mesh,
    /// In Redis, in mod_global_distrib's layout.
    Redis,
}

/// `[cache]`: remembered look-ups.
#[derive(Debug, Clone)]
pub struct Cache {
    /// `cache_missed`: remember also that a JID is nowhere.
    pub cache_missed: bool,
    /// `domain_lifetime_seconds`
    pub domain_lifetime: Duration,
    /// `jid_lifetime_seconds`
    pub jid_lifetime: Duration,
    /// `max_jids`
    pub max_jids: u64,
}

/// `[bounce]`: stanzas whose recipient nobody is known to have.
#[derive(Debug, Clone)]
pub struct Bounce {
    /// `enabled`
    pub enabled: bool,
    /// `resend_after_ms`: before the first retry; doubles with each.
    pub resend_after: Duration,
    /// `max_retries`
    pub max_retries: u32,
    /// `max_bytes`: held at most; what comes on top is refused.
    pub max_bytes: usize,
}

/// `[presence]`: what users see of those who can't be reached.
#[derive(Debug, Clone)]
pub struct PresenceConfig {
    /// `unavailable_after`: how long nothing may be heard of a datacenter, or of
    /// the local server, until its users count as unavailable elsewhere.
    pub unavailable_after: Duration,
}

/// `[connections]`: the links.
#[derive(Debug, Clone)]
pub struct Connections {
    /// `endpoints`: where this node accepts links; may be empty.
    pub endpoints: Vec<Endpoint>,
    /// `advertised_endpoints`: what peers are told to dial instead.
    pub advertised_endpoints: Option<Vec<Endpoint>>,
    /// `connections_per_endpoint`
    pub connections_per_endpoint: usize,
    /// `endpoint_refresh_interval`
    pub endpoint_refresh_interval: Duration,
    /// `endpoint_refresh_interval_when_empty`
    pub endpoint_refresh_interval_when_empty: Duration,
    /// `disabled_gc_interval`
    pub disabled_gc_interval: Duration,
    /// `queue_bytes`: stanzas waiting or unacknowledged per connection, at most.
    pub queue_bytes: usize,
    /// `max_wait`: how long a stanza may wait for its next hop.
    pub max_wait: Duration,
    /// `[connections.tls]`
    pub tls: Tls,
}

/// `[connections.tls]`
#[derive(Debug, Clone)]
pub enum Tls {
    /// Mutual TLS.
    Enabled {
        /// `certfile`: PEM, leaf first.
        certfile: PathBuf,
        /// `keyfile`: PEM; the certfile if not given.
        keyfile: PathBuf,
        /// `cacertfile`: PEM, the CA that signs the gateways.
        cacertfile: PathBuf,
        /// `ciphers`: OpenSSL names; empty for rustls's own choice.
        ciphers: Vec<String>,
    },
    /// `enabled = false`: plain TCP, for a network that is private otherwise.
    Disabled,
}

/// `[disco]`: what the shared domain tells about itself (XEP-0030).
#[derive(Debug, Clone)]
pub struct Disco {
    /// `users_can_see_hidden_services`: whether hidden services are listed for
    /// users too, and not only for components and servers.
    pub users_can_see_hidden_services: bool,
}

/// `[[services]]`: a component or service of this datacenter that all others
/// reach too.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceConfig {
    /// `domain`: its address for everybody, `muc.example.com`.
    pub domain: Host,
    /// `local`: what the local server calls it, `conference.dc1.example.com`;
    /// `None` if that is `domain` too.
    pub local: Option<Host>,
    /// `hidden`: whether disco leaves it out for those who may not see it.
    pub hidden: bool,
}

/// `[admin]`
#[derive(Debug, Clone)]
pub struct AdminConfig {
    /// `listen`: for `/metrics`, `/healthz`, `/readyz`.
    pub listen: Option<SocketAddr>,
}

/// `[log]`
#[derive(Debug, Clone)]
pub struct Log {
    /// `level`: a tracing filter, `info` or `strait=debug` …
    pub level: String,
    /// `format`
    pub format: LogFormat,
}

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// A text that never shows: `Debug` prints `***`, and there is no `Display`.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Hides `text`.
    #[must_use]
    pub fn new(text: String) -> Self {
        Self(text)
    }

    /// The text. Never log it.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}
