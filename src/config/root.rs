//! The options at the top of the file, and the whole configuration.

use std::time::Duration;

use serde_json::json;

use super::admin::AdminConfig;
use super::bounce::Bounce;
use super::cache::Cache;
use super::component::ComponentConfig;
use super::connections::Connections;
use super::control::{ControlComponent, ControlConfig, MongooseImConfig};
use super::disco::Disco;
use super::kind::OptionKind::{Choice, Domain, Text};
use super::kind::{
    Unit::{Count, Millis},
    YEAR, number,
};
use super::log::Log;
use super::mesh::Mesh;
use super::option::{OptionSpec, Section};
use super::peers::{self, AllowedPeers};
use super::presence::PresenceConfig;
use super::reading::Reading;
use super::redis::{Compat, Redis};
use super::section::{choice, section};
use super::services::{self, ServiceConfig};
use super::sessions::{Backend, SessionsConfig};
use super::times::Times;
use super::tls::TlsOptions;
use crate::host::Host;

/// The sections in the order of the reference file and of the help.
pub(super) static SECTIONS: &[Section] = &[
    Config::SECTION,
    ComponentConfig::SECTION,
    ControlComponent::SECTION,
    MongooseImConfig::SECTION,
    SessionsConfig::SECTION,
    Redis::SECTION,
    Mesh::SECTION,
    Cache::SECTION,
    Bounce::SECTION,
    PresenceConfig::SECTION,
    Connections::SECTION,
    TlsOptions::SECTION,
    Disco::SECTION,
    AdminConfig::SECTION,
    Log::SECTION,
    services::SECTION,
    peers::SECTION,
];

pub(super) fn options() -> impl Iterator<Item = &'static OptionSpec> {
    SECTIONS.iter().flat_map(|section| section.options)
}

section! {
    /// A whole, valid configuration.
    pub struct Config {
        /// The domain that all datacenters share; the component's domain.
        "global_host" global_host: Host = Domain.required("example.com");

        /// This datacenter's own XMPP domain, where its accounts live; also its name
        /// among the datacenters.
        "local_host" local_host: Host = Domain.required("dc1.example.com");

        /// The name of this gateway process among those of its local_host.
        "node" node: String = Text.described("the host name", "gw1");

        /// How many times a stanza may be forwarded before it is handled where it is.
        "message_ttl" message_ttl: u32 = number(Count, 1, u32::MAX as u64).usual(1, 100).default("4");

        /// How often the session table is asked for new datacenters, in milliseconds.
        "hosts_refresh_interval" hosts_refresh_interval: Duration =
            number(Millis, 1, YEAR * 1000).usual(100, 600_000).default("3000");

        /// Whether one localpart is one person in every datacenter, or belongs to the
        /// one that claimed it first.
        ///
        /// "shared": alice in one datacenter is the same person as alice in another one,
        /// as with one user database behind all. "unique": a name belongs to the
        /// datacenter that claimed it first; the others' accounts of that name can't write
        /// under the shared domain and are not reached there. See docs/accounts.md.
        "accounts" accounts: Accounts = Choice(Accounts::WORDS).default("shared");
    }
    with {
        component: ComponentConfig,
        control: ControlConfig,
        sessions: SessionsConfig,
        redis: Option<Redis>,
        mesh: Mesh,
        cache: Cache,
        bounce: Bounce,
        presence: PresenceConfig,
        connections: Connections,
        disco: Disco,
        services: Vec<ServiceConfig>,
        peers: AllowedPeers,
        admin: AdminConfig,
        log: Log,
    }
}

choice! {
    /// Whether one localpart is one person in every datacenter.
    pub enum Accounts {
        /// It is, as with one user database behind all datacenters.
        Shared = "shared",
        /// It belongs to the datacenter that claimed it first.
        Unique = "unique",
    }
}

impl Config {
    /// How long entries of the session table live, wherever it is kept.
    #[must_use]
    pub fn times(&self) -> Times {
        let redis = self.redis.as_ref().map(Redis::times);
        redis.unwrap_or_else(|| self.mesh.times())
    }

    /// Builds the whole configuration; `None` when any part of it was refused. All sections are
    /// checked first, so that no problem hides another.
    pub(super) fn checked(reading: &mut Reading) -> Option<Self> {
        let (global, local) = check_hosts(reading);
        let (global, local) = (global.as_ref(), local.as_ref());
        check_node(reading);
        check_accounts(reading);
        let backend: Option<Backend> = reading.get("sessions.backend");
        let component = ComponentConfig::checked(reading);
        let control = ControlConfig::checked(reading, global, local);
        let sessions = SessionsConfig::checked(reading);
        let redis = match backend {
            _ if reading.is_misread("sessions.backend") => None,
            Some(Backend::Redis) => Redis::checked(reading).map(Some),
            _ => {
                Redis::warn_if_set(reading);
                Some(None)
            }
        };
        let mesh = Mesh::checked(reading, backend);
        let connections = Connections::checked(reading, local);
        let services = ServiceConfig::checked(reading, global, local);
        let peers = AllowedPeers::checked(reading, local);
        let admin = AdminConfig::checked(reading);
        check_sizes(reading);
        Self::read(
            component,
            Some(control),
            sessions,
            redis,
            mesh,
            Cache::read(reading),
            Bounce::read(reading),
            PresenceConfig::read(reading),
            connections,
            Disco::read(reading),
            Some(services),
            peers,
            admin,
            Log::read(reading),
            reading,
        )
    }
}

/// Returns the global host, and the local one if it is a different one.
fn check_hosts(reading: &mut Reading) -> (Option<Host>, Option<Host>) {
    let global: Option<Host> = reading.get("global_host");
    let local: Option<Host> = reading.get("local_host");
    if local.is_some() && global == local {
        let what = "is the same as global_host; it must be this datacenter's own domain, as \
                    dc1.example.com next to example.com";
        reading.refuse("local_host", what);
        return (global, None);
    }
    if local
        .as_ref()
        .is_some_and(|local| local.as_str().contains('#'))
    {
        reading.refuse(
            "local_host",
            "has a `#`, which the session table uses for itself",
        );
    }
    (global, local)
}

fn check_node(reading: &mut Reading) {
    let given: Option<String> = reading.get("node");
    let origin = if given.is_some() {
        ""
    } else {
        " (the host name)"
    };
    let node = given.unwrap_or_else(|| gethostname::gethostname().to_string_lossy().into_owned());
    let strange = |c: char| c == '#' || c.is_whitespace() || c.is_control();
    if node.is_empty() || node.contains(strange) {
        let what = format!("is `{node}`{origin}; allowed: a name without `#` and spaces");
        reading.refuse("node", what);
    }
    reading.derive("node", json!(node));
}

/// Refuses `unique` unless all datacenters write to one place: only there is the first claim
/// known.
fn check_accounts(reading: &mut Reading) {
    let misread =
        ["accounts", "sessions.backend", "redis.compat"].map(|key| reading.is_misread(key));
    if reading.get("accounts") != Some(Accounts::Unique) || misread.contains(&true) {
        return;
    }
    if reading.get("sessions.backend") == Some(Backend::Mesh) {
        let what = "is \"unique\", which the mesh cannot keep: two datacenters that are cut off \
                    from each other could both be the first; use one Redis for all \
                    (sessions.backend = \"redis\")";
        reading.refuse("accounts", what);
    } else if reading.get("redis.compat") == Some(Compat::Dynomite) {
        let what = "is \"unique\", which Dynomite cannot keep: each datacenter writes to its own \
                    side first, so two could both be the first; use one Redis for all";
        reading.refuse("accounts", what);
    }
}

/// Refuses a store smaller than one stanza, which can never hold the largest one.
fn check_sizes(reading: &mut Reading) {
    let limit: usize = reading
        .get("component.stanza_size_limit")
        .unwrap_or_default();
    for key in ["connections.queue_bytes", "bounce.max_bytes"] {
        if reading.get::<usize>(key).is_some_and(|bytes| bytes < limit) {
            let what = format!(
                "is less than component.stanza_size_limit ({limit}): the largest stanzas will be refused"
            );
            reading.warn(key, what);
        }
    }
}
