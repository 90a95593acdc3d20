//! From single values to the sections that the gateway works with, and the
//! checks that need more than one value.

use std::collections::BTreeSet;

use super::options::OptionSpec;
use super::reading::{Reading, mandatory};
use super::{
    Accounts, AdminConfig, Backend, Bounce, Cache, ComponentConfig, Config, Connections, Disco,
    Endpoint, Log, LogFormat, PresenceConfig, SessionsConfig, control, mesh, redis, secrets,
    services, sources, tls,
};
use crate::host::Host;

/// The whole configuration; `None` when something of it was refused.
pub(super) fn config(reading: &mut Reading) -> Option<Config> {
    // Each section first and the question marks after, so that one section's
    // problem does not hide the next one's.
    let (global_host, local_host) = hosts(reading);
    let node = node(reading);
    let accounts = accounts(reading);
    let component = component(reading);
    let control = control::read(reading, global_host.as_ref(), local_host.as_ref());
    let sessions = sessions(reading);
    let backend = sessions.as_ref().map(|sessions| sessions.backend);
    let redis = match backend {
        Some(Backend::Redis) => redis::read(reading).map(Some),
        Some(Backend::Mesh) => {
            redis::is_unused(reading);
            Some(None)
        }
        None => None,
    };
    let mesh = mesh::read(reading, backend);
    let cache = cache(reading);
    let bounce = bounce(reading);
    let connections = connections(reading, local_host.as_ref());
    let services = services::read(reading, (global_host.as_ref(), local_host.as_ref()));
    let admin = admin(reading);
    let log = log(reading);
    oversized(reading);
    Some(Config {
        global_host: global_host?,
        local_host: local_host?,
        node: node?,
        accounts: accounts?,
        message_ttl: reading.get("message_ttl")?,
        hosts_refresh_interval: reading.get("hosts_refresh_interval")?,
        component: component?,
        control,
        sessions: sessions?,
        redis: redis?,
        mesh: mesh?,
        cache: cache?,
        bounce: bounce?,
        presence: PresenceConfig {
            unavailable_after: reading.get("presence.unavailable_after")?,
        },
        connections: connections?,
        disco: Disco {
            users_can_see_hidden_services: reading.get("disco.users_can_see_hidden_services")?,
        },
        services,
        admin,
        log: log?,
    })
}

/// The global host, and the local one if it is another one.
fn hosts(reading: &mut Reading) -> (Option<Host>, Option<Host>) {
    let global: Option<Host> = reading.get("global_host");
    let local: Option<Host> = reading.get("local_host");
    if global.is_some() && global == local {
        let what = "is the same as global_host; it must be this datacenter's own domain, as \
                    dc1.example.com next to example.com";
        reading.refuse("local_host", what);
        return (global, None);
    }
    // `#` separates the parts of the session table's keys.
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

fn node(reading: &mut Reading) -> Option<String> {
    let given = reading.get("node");
    let by_whom = if given.is_some() {
        ""
    } else {
        " (the host name)"
    };
    let node = given.unwrap_or_else(|| gethostname::gethostname().to_string_lossy().into_owned());
    let strange = |c: char| c == '#' || c.is_whitespace() || c.is_control();
    if node.is_empty() || node.contains(strange) {
        let what = format!("is `{node}`{by_whom}; allowed: a name without `#` and spaces");
        reading.refuse("node", what);
        return None;
    }
    Some(node)
}

/// Who was first can only be told where all datacenters write to one place.
fn accounts(reading: &mut Reading) -> Option<Accounts> {
    if reading.get::<String>("accounts")? == "shared" {
        return Some(Accounts::Shared);
    }
    if reading.get::<String>("sessions.backend")? == "mesh" {
        let what = "is \"unique\", which the mesh cannot keep: two datacenters that are cut off \
                    from each other could both be the first; use one Redis for all \
                    (sessions.backend = \"redis\")";
        reading.refuse("accounts", what);
    } else if reading.get::<String>("redis.compat")? == "dynomite" {
        let what = "is \"unique\", which Dynomite cannot keep: each datacenter writes to its own \
                    side first, so two could both be the first; use one Redis for all";
        reading.refuse("accounts", what);
    }
    Some(Accounts::Unique)
}

fn component(reading: &mut Reading) -> Option<ComponentConfig> {
    let secret = secrets::read(reading, secrets::COMPONENT);
    let server: Option<Endpoint> = reading.get("component.server");
    if server.as_ref().is_some_and(|server| server.port == 0) {
        reading.refuse(
            "component.server",
            "has port 0; give the server's component port, often 5347",
        );
    }
    Some(ComponentConfig {
        server: server?,
        secret: secret?,
        foreign_from: reading.get("component.foreign_from")?,
        replay: reading.get("component.replay")?,
        stanza_size_limit: reading.get("component.stanza_size_limit")?,
    })
}

fn sessions(reading: &mut Reading) -> Option<SessionsConfig> {
    let backend: String = reading.get("sessions.backend")?;
    let sources = sources::read(reading);
    Some(SessionsConfig {
        backend: match backend.as_str() {
            "redis" => Backend::Redis,
            _ => Backend::Mesh,
        },
        sources,
    })
}

pub(super) fn cache(reading: &mut Reading) -> Option<Cache> {
    Some(Cache {
        cache_missed: reading.get("cache.cache_missed")?,
        domain_lifetime: reading.get("cache.domain_lifetime_seconds")?,
        jid_lifetime: reading.get("cache.jid_lifetime_seconds")?,
        max_jids: reading.get("cache.max_jids")?,
    })
}

pub(super) fn bounce(reading: &mut Reading) -> Option<Bounce> {
    Some(Bounce {
        enabled: reading.get("bounce.enabled")?,
        resend_after: reading.get("bounce.resend_after_ms")?,
        max_retries: reading.get("bounce.max_retries")?,
        max_bytes: reading.get("bounce.max_bytes")?,
    })
}

fn connections(reading: &mut Reading, local_host: Option<&Host>) -> Option<Connections> {
    let tls = tls::read(reading, local_host);
    let endpoints = endpoints(reading, local_host);
    let advertised: Option<Vec<Endpoint>> = reading.get("connections.advertised_endpoints");
    unreachable(reading, endpoints.as_deref(), advertised.as_deref());
    for endpoint in advertised
        .iter()
        .flatten()
        .filter(|endpoint| endpoint.port == 0)
    {
        let what = format!(
            "has `{endpoint}`, which nobody can dial; give the port on which it accepts links"
        );
        reading.refuse("connections.advertised_endpoints", what);
    }
    for key in ["connections.endpoints", "connections.advertised_endpoints"] {
        duplicates(reading, key);
    }
    Some(Connections {
        endpoints: endpoints?,
        advertised_endpoints: advertised,
        connections_per_endpoint: reading.get("connections.connections_per_endpoint")?,
        endpoint_refresh_interval: reading.get("connections.endpoint_refresh_interval")?,
        endpoint_refresh_interval_when_empty: reading
            .get("connections.endpoint_refresh_interval_when_empty")?,
        disabled_gc_interval: reading.get("connections.disabled_gc_interval")?,
        queue_bytes: reading.get("connections.queue_bytes")?,
        max_wait: reading.get("connections.max_wait")?,
        tls: tls?,
    })
}

/// mod_global_distrib's default is the local host's name and port 5555.
fn endpoints(reading: &mut Reading, local_host: Option<&Host>) -> Option<Vec<Endpoint>> {
    if reading.is_misread("connections.endpoints") {
        return None;
    }
    reading.get("connections.endpoints").or_else(|| {
        let host = local_host?.as_str().to_owned();
        Some(vec![Endpoint { host, port: 5555 }])
    })
}

/// A gateway that nobody can dial may be meant, to send only; but it is rare.
fn unreachable(
    reading: &mut Reading,
    endpoints: Option<&[Endpoint]>,
    advertised: Option<&[Endpoint]>,
) {
    let (key, what) = match (endpoints, advertised) {
        (Some([]), _) => (
            "connections.endpoints",
            "has none: this gateway can send to other datacenters, but none of them can send to it",
        ),
        (_, Some([])) => (
            "connections.advertised_endpoints",
            "has none: other datacenters are not told where to send to this one",
        ),
        _ => return,
    };
    reading.warn(key, what);
}

fn duplicates(reading: &mut Reading, key: &'static str) {
    let mut seen = BTreeSet::new();
    for endpoint in reading.get::<Vec<Endpoint>>(key).unwrap_or_default() {
        // Port 0 is another free port each time.
        if endpoint.port != 0 && !seen.insert(endpoint.clone()) {
            reading.refuse(key, format!("has `{endpoint}` twice; remove one"));
        }
    }
}

fn admin(reading: &mut Reading) -> AdminConfig {
    let listen: Option<std::net::SocketAddr> = reading.get("admin.listen");
    if let Some(address) = listen.filter(|address| !address.ip().is_loopback()) {
        let what = format!(
            "{address} is not a loopback address, and the admin server has no password: whoever reaches it can read it"
        );
        reading.warn("admin.listen", what);
    }
    AdminConfig { listen }
}

fn log(reading: &mut Reading) -> Option<Log> {
    let format: String = reading.get("log.format")?;
    Some(Log {
        level: reading.get("log.level")?,
        format: if format == "json" {
            LogFormat::Json
        } else {
            LogFormat::Text
        },
    })
}

/// A store smaller than one stanza can never hold the largest one.
fn oversized(reading: &mut Reading) {
    let Some(limit) = reading.get::<usize>("component.stanza_size_limit") else {
        return;
    };
    for key in ["connections.queue_bytes", "bounce.max_bytes"] {
        if reading.get::<usize>(key).is_some_and(|bytes| bytes < limit) {
            let what = format!(
                "is less than component.stanza_size_limit ({limit}): the largest stanzas will be refused"
            );
            reading.warn(key, what);
        }
    }
}

/// Refuses the absence of an option that another one makes mandatory.
pub(super) fn require(reading: &mut Reading, key: &'static str, because: &str) {
    if let Some(option) = OptionSpec::find(key)
        && !reading.is_misread(key)
    {
        reading.refuse(key, format!("{}; {because}", mandatory(option)));
    }
}
