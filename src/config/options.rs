//! The one table of every option. The file's keys, the flags, the environment
//! variables, the help and the defaults all follow from it.

use super::kind::{OptionKind, YEAR, bytes, count, millis, seconds};
use super::sources::SOURCES;

/// One option.
#[derive(Debug)]
pub struct OptionSpec {
    /// Where it stands in the file: `connections.tls.certfile`.
    pub key: &'static str,
    /// What its value may be.
    pub kind: OptionKind,
    /// What holds when nobody sets it.
    pub default: Fallback,
    /// One or two sentences for `--help`, with the unit.
    pub help: &'static str,
    /// Why it is refused when set: it is mod_global_distrib's, and has no
    /// meaning here.
    pub never: Option<&'static str>,
}

/// What holds when nobody sets an option.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fallback {
    /// It must be set.
    Required,
    /// This value, written as on the command line.
    Value(&'static str),
    /// Something that depends on the rest, told in words.
    Told(&'static str),
}

impl OptionSpec {
    const fn never(mut self, why: &'static str) -> Self {
        self.never = Some(why);
        self
    }

    /// The option at `key`.
    #[must_use]
    pub fn find(key: &str) -> Option<&'static Self> {
        OPTIONS.iter().find(|option| option.key == key)
    }

    /// `connections.tls` of `connections.tls.certfile`; empty at the top level.
    #[must_use]
    pub fn section(&self) -> &'static str {
        self.key.rsplit_once('.').map_or("", |(section, _)| section)
    }

    /// Its flag without the dashes, `connections-tls-certfile`. A secret has
    /// none: flags show in the process list.
    #[must_use]
    pub fn flag(&self) -> Option<String> {
        (self.kind != OptionKind::Secret).then(|| self.key.replace(['.', '_'], "-"))
    }

    /// Its environment variable, `STRAIT_CONNECTIONS_TLS_CERTFILE`.
    #[must_use]
    pub fn variable(&self) -> String {
        let name = self.key.replace('.', "_").to_ascii_uppercase();
        format!("STRAIT_{name}")
    }
}

/// Whether some option stands in `path` or in a section below it.
pub(super) fn is_section(path: &str) -> bool {
    OPTIONS.iter().any(|option| {
        let rest = option.key.strip_prefix(path);
        rest.is_some_and(|rest| rest.starts_with('.'))
    })
}

const fn option(
    key: &'static str,
    kind: OptionKind,
    default: Fallback,
    help: &'static str,
) -> OptionSpec {
    OptionSpec {
        key,
        kind,
        default,
        help,
        never: None,
    }
}

use Fallback::{Required, Told, Value};

/// Every option, in the order of the file and of the help.
#[rustfmt::skip]
pub static OPTIONS: &[OptionSpec] = &[
    option("global_host", OptionKind::Domain, Required,
        "The domain that all datacenters share; the component's domain."),
    option("local_host", OptionKind::Domain, Required,
        "This datacenter's own XMPP domain, where its accounts live; also its name among the datacenters."),
    option("node", OptionKind::Text, Told("the host name"),
        "The name of this gateway process among those of its local_host."),
    option("message_ttl", count(1, u32::MAX as u64), Value("4"),
        "How many times a stanza may be forwarded before it is handled where it is."),
    option("hosts_refresh_interval", millis(), Value("3000"),
        "How often the session table is asked for new datacenters, in milliseconds."),
    option("accounts", OptionKind::Choice(&["shared", "unique"]), Value("shared"),
        "Whether one localpart is one person in every datacenter, or belongs to the one that claimed it first."),

    option("component.server", OptionKind::Endpoint, Value("127.0.0.1:5347"),
        "Where the local XMPP server accepts components, host:port."),
    option("component.secret", OptionKind::Secret, Told("none; this or component.secret_file is mandatory"),
        "The secret that the XMPP server knows this component by."),
    option("component.secret_file", OptionKind::Path, Told("none"),
        "A file whose first line is the component's secret. There is no flag for the secret itself, as flags show in \
         the process list; the alternatives are STRAIT_COMPONENT_SECRET and the configuration file."),
    option("component.foreign_from", OptionKind::Bool, Value("false"),
        "Reinject senders from outside the global domain too; the server must not check them."),
    option("component.stanza_size_limit", bytes(10_000, 1 << 28), Value("524288"),
        "The largest stanza that the XMPP server accepts from a component, in bytes."),
    option("component.replay", seconds(0, 3600), Value("0"),
        "Reinject again what went in during the last seconds before the server died, in seconds; messages only. They may come twice."),

    option("control.domain", OptionKind::Domain, Told("none"),
        "The domain of a second component, by which the gateway asks the XMPP server who is online. Never the global domain."),
    option("control.server", OptionKind::Endpoint, Told("component.server"),
        "Where the local XMPP server accepts the control component, host:port."),
    option("control.secret", OptionKind::Secret, Told("none; this or control.secret_file is mandatory with control.domain"),
        "The secret that the XMPP server knows the control component by."),
    option("control.secret_file", OptionKind::Path, Told("none"),
        "A file whose first line is the control component's secret."),
    option("control.mongooseim.url", OptionKind::Text, Told("none"),
        "MongooseIM's admin GraphQL, http:// or https://; it tells who is online there."),
    option("control.mongooseim.username", OptionKind::Text, Told("none; mandatory with control.mongooseim.url"),
        "The user of MongooseIM's admin GraphQL."),
    option("control.mongooseim.password", OptionKind::Secret, Told("none; mandatory with control.mongooseim.url"),
        "The password of MongooseIM's admin GraphQL."),

    option("sessions.backend", OptionKind::Choice(&["mesh", "redis"]), Value("mesh"),
        "Where the session table is kept: by the gateways themselves, or in Redis."),
    option("sessions.sources", OptionKind::Words(&SOURCES), Value("auto"),
        "What tells who is online here: auto for all that the server offers, or only these."),

    option("redis.url", OptionKind::Url, Told("none; mandatory with sessions.backend = \"redis\""),
        "The session table's Redis: redis://host:port/db, redis+sentinel://host:port,host:port/master/db or \
         redis+cluster://host:port,host:port; rediss for redis means TLS. One with a password is refused here, as \
         flags show in the process list: use STRAIT_REDIS_URL or the configuration file."),
    option("redis.compat", OptionKind::Choice(&["redis", "dynomite"]), Value("redis"),
        "Use only what Dynomite understands."),
    option("redis.cacertfile", OptionKind::Path, Told("the public CAs"),
        "The CA that signs the certificates of the Redis servers, PEM; for a rediss URL."),
    option("redis.certfile", OptionKind::Path, Told("none"),
        "The certificate that the gateway shows to the Redis servers, PEM; for a rediss URL."),
    option("redis.keyfile", OptionKind::Path, Told("redis.certfile"),
        "The private key of redis.certfile, PEM."),
    option("redis.expire_after", seconds(1, YEAR), Value("120"),
        "How long an entry of the session table lives that nobody refreshes, in seconds."),
    option("redis.refresh_after", seconds(1, YEAR), Value("60"),
        "How often each entry is refreshed, in seconds; less than redis.expire_after."),

    option("mesh.peers", OptionKind::Endpoints, Told("none"),
        "Endpoints of other gateways to begin with, host:port,host:port; the others are learned from these."),
    option("mesh.expire_after", seconds(1, YEAR), Value("120"),
        "How long what a gateway claims counts after the last link to it is gone, in seconds."),
    option("mesh.refresh_after", seconds(1, YEAR), Value("60"),
        "How often the tables of two gateways are compared, in seconds; less than mesh.expire_after."),

    option("cache.cache_missed", OptionKind::Bool, Value("true"),
        "Remember also that a JID is nowhere."),
    option("cache.domain_lifetime_seconds", seconds(0, YEAR), Value("600"),
        "How long a service domain that nobody offers any more is remembered as one, in seconds."),
    option("cache.jid_lifetime_seconds", seconds(0, YEAR), Value("5"),
        "How long the datacenters of a JID are remembered, in seconds."),
    option("cache.max_jids", count(1, u64::MAX), Value("10000"),
        "How many JIDs are remembered at most."),

    option("bounce.enabled", OptionKind::Bool, Value("true"),
        "Set stanzas aside whose recipient is nowhere, and try them again."),
    option("bounce.resend_after_ms", millis(), Value("200"),
        "The wait before the first retry, in milliseconds; it doubles with each."),
    option("bounce.max_retries", count(0, 30), Value("4"),
        "How many times a stanza is tried again."),
    option("bounce.max_bytes", bytes(1, 1 << 40), Value("67108864"),
        "How much is set aside at most, in bytes; what comes on top is refused."),

    option("presence.unavailable_after", seconds(1, YEAR), Value("30"),
        "After how long without a link to a datacenter, or without the XMPP server, its users are shown as unavailable, in seconds."),

    option("connections.endpoints", OptionKind::Endpoints, Told("local_host:5555"),
        "Where this gateway accepts links, host:port,host:port; IPv6 addresses in brackets."),
    option("connections.advertised_endpoints", OptionKind::Endpoints, Told("connections.endpoints"),
        "What other gateways are told to dial instead, host:port,host:port."),
    option("connections.connections_per_endpoint", count(1, 1024), Value("1"),
        "How many connections are kept to each endpoint of another datacenter."),
    option("connections.endpoint_refresh_interval", seconds(1, YEAR), Value("60"),
        "How often another datacenter's endpoints are looked up, in seconds."),
    option("connections.endpoint_refresh_interval_when_empty", seconds(1, YEAR), Value("3"),
        "The same while it has none, in seconds."),
    option("connections.disabled_gc_interval", seconds(1, YEAR), Value("60"),
        "How often connections to endpoints that are gone are closed, in seconds."),
    option("connections.queue_bytes", bytes(1, 1 << 40), Value("67108864"),
        "What may wait or be unacknowledged on one connection, in bytes."),
    option("connections.max_wait", seconds(1, YEAR), Value("30"),
        "How long a stanza may wait for its next hop, in seconds; then its sender gets remote-server-timeout."),

    option("connections.tls.enabled", OptionKind::Bool, Value("true"),
        "Mutual TLS on all links. Only turn it off on a network that is private otherwise."),
    option("connections.tls.certfile", OptionKind::Path, Told("none; mandatory with TLS"),
        "This gateway's certificate, PEM, leaf first; it must carry local_host as a DNS name."),
    option("connections.tls.keyfile", OptionKind::Path, Told("connections.tls.certfile"),
        "The certificate's private key, PEM."),
    option("connections.tls.cacertfile", OptionKind::Path, Told("none; mandatory with TLS"),
        "The CA that signs the gateways' certificates, PEM."),
    option("connections.tls.ciphers", OptionKind::Ciphers, Told("all that rustls has"),
        "The cipher suites to allow, OpenSSL names separated by colons."),
    option("connections.tls.dhfile", OptionKind::Path, Told("none"),
        "Diffie-Hellman parameters, as in mod_global_distrib.")
        .never("strait's TLS (rustls) only does ephemeral ECDHE with its own groups and reads no parameters; remove it"),

    option("disco.users_can_see_hidden_services", OptionKind::Bool, Value("true"),
        "List hidden services in disco#items for users too."),

    option("services", OptionKind::Services, Told("none"),
        "Services under the shared domain that this datacenter has, domain=local,domain=local; what is not the same \
         on the local server has a local name, and what disco leaves out ends in :hidden."),

    option("admin.listen", OptionKind::Address, Told("none: no admin server"),
        "Where /metrics, /healthz and /readyz are served, IP:port. It has no password: keep it on loopback."),

    option("log.level", OptionKind::Filter, Value("info"),
        "What is logged: off, error, warn, info, debug or trace, also per module, info,strait::link=debug."),
    option("log.format", OptionKind::Choice(&["text", "json"]), Value("text"),
        "How it is logged, to standard error: lines for people, or one JSON object a line."),
];

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_option_has_its_own_flag_and_variable() {
        let flags: Vec<_> = OPTIONS.iter().filter_map(OptionSpec::flag).collect();
        let secrets = OPTIONS
            .iter()
            .filter(|o| o.kind == OptionKind::Secret)
            .count();
        assert_eq!(secrets, 3);
        assert_eq!(flags.len() + secrets, OPTIONS.len());
        assert_eq!(
            flags.iter().collect::<BTreeSet<_>>().len(),
            flags.len(),
            "two options share a flag"
        );
        let variables: BTreeSet<_> = OPTIONS.iter().map(OptionSpec::variable).collect();
        assert_eq!(
            variables.len(),
            OPTIONS.len(),
            "two options share a variable"
        );
        assert!(variables.contains("STRAIT_CONNECTIONS_TLS_CERTFILE"));
        assert!(flags.contains(&"connections-tls-certfile".to_owned()));
    }

    #[test]
    fn defaults_are_valid() {
        for option in OPTIONS {
            if let Fallback::Value(text) = option.default {
                option.kind.read_text(text).expect(option.key);
            }
        }
    }
}
