//! The kinds of values, and reading them from TOML or from a text (a flag or an environment
//! variable).

use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use bytesize::ByteSize;
use serde_json::{Value, json};
use toml::Spanned;
use toml::de::{DeTable, DeValue};
use tracing_subscriber::filter::LevelFilter;

use super::endpoint::Endpoint;
use super::redis_url::FORMS;
use crate::host::Host;

/// The OpenSSL names of all cipher suites of rustls: those of TLS 1.3, then those of TLS 1.2.
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

/// The values that an option may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum OptionKind {
    Bool,
    Number(Number),
    Choice(&'static [&'static str]),
    /// Words separated by commas; an array in the file.
    Words(&'static [&'static str]),
    /// A text that is not empty.
    Text,
    Domain,
    /// Domains separated by commas; an array in the file.
    Domains,
    Path,
    /// A secret; it has no flag, because flags show in the process list.
    Secret,
    /// A URL that may hold a password.
    RedisUrl,
    Endpoint,
    /// Endpoints separated by commas; an array in the file.
    Endpoints,
    Address,
    /// Log levels, one for all or for modules.
    Filter,
    Ciphers,
    Services,
    Peers,
}

/// A number, or a time or size with its unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Number {
    unit: Unit,
    allowed: (u64, u64),
    /// Values outside of this range are accepted with a warning.
    usual: (u64, u64),
}

/// The unit of a plain number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unit {
    Count,
    Bytes,
    Seconds,
    Millis,
}

/// A year in seconds. Longer times are mistakes, and some clocks overflow on them.
pub(super) const YEAR: u64 = 365 * 24 * 60 * 60;

/// The position of a value's error in the file, in bytes from its start, and the error.
pub(super) type Misread = (usize, String);

pub(super) const fn number(unit: Unit, min: u64, max: u64) -> OptionKind {
    let (allowed, usual) = ((min, max), (min, max));
    OptionKind::Number(Number {
        unit,
        allowed,
        usual,
    })
}

impl OptionKind {
    pub(super) const fn usual(self, min: u64, max: u64) -> Self {
        match self {
            Self::Number(mut number) => {
                number.usual = (min, max);
                Self::Number(number)
            }
            other => other,
        }
    }

    /// Reads a value of the file. `line` returns the line number of a byte offset.
    pub(super) fn read_toml(
        self,
        value: &Spanned<DeValue<'_>>,
        line: &dyn Fn(usize) -> usize,
    ) -> Result<Value, Misread> {
        let here = |what| (value.span().start, what);
        let read = match (self, value.get_ref()) {
            (Self::Bool, DeValue::Boolean(yes)) => Ok(json!(yes)),
            (Self::Number(kind), DeValue::Integer(number)) => {
                let parsed = u64::from_str_radix(number.as_str(), number.radix()).ok();
                let read = parsed.and_then(|number| kind.checked(kind.in_unit(number)));
                read.ok_or_else(|| here(format!("is {number}")))
            }
            (Self::Endpoints, DeValue::Array(entries)) => entries.iter().map(endpoint).collect(),
            (Self::Domains, DeValue::Array(entries)) => entries.iter().map(domain).collect(),
            (Self::Services, DeValue::Array(entries)) => {
                entries.iter().map(|entry| service(entry, line)).collect()
            }
            (Self::Peers, DeValue::Array(entries)) => entries.iter().map(peer).collect(),
            (Self::Words(known), DeValue::Array(entries)) => {
                let words = entries.iter().map(|entry| entry.get_ref().as_str());
                let words = words.collect::<Option<Vec<_>>>();
                let words = words.ok_or_else(|| "has an entry that is not a string".to_owned());
                words
                    .and_then(|words| known_words(known, words))
                    .map_err(here)
            }
            (kind, DeValue::String(text)) if kind.is_written_as(text) => {
                kind.parse(text).map_err(here)
            }
            _ => Err(here(type_of(value))),
        };
        read.map_err(|(at, what)| (at, format!("{what}; allowed: {self}")))
    }

    /// Returns whether the option is an array of tables, `[[services]]`.
    pub(super) fn has_entries(self) -> bool {
        matches!(self, Self::Services | Self::Peers)
    }

    /// Returns whether the value is a string in the file. A number without a digit is not a
    /// string, but may be a secret under the wrong key.
    fn is_written_as(self, text: &str) -> bool {
        match self {
            Self::Bool | Self::Services | Self::Peers => false,
            Self::Number(number) => {
                number.unit != Unit::Count && text.starts_with(|c: char| c.is_ascii_digit())
            }
            _ => true,
        }
    }

    /// Reads a flag or an environment variable. The error names the mistake and the allowed
    /// values, and no secret.
    pub(super) fn read_text(self, text: &str) -> Result<Value, String> {
        self.parse(text)
            .map_err(|what| format!("{what}; allowed: {self}"))
    }

    fn parse(self, text: &str) -> Result<Value, String> {
        if text.is_empty() && !(self == Self::Endpoints || self.has_entries()) {
            return Err("is empty".to_owned());
        }
        let parts = |by| {
            let parts = (!text.is_empty()).then(|| text.split(by).map(str::trim));
            parts.into_iter().flatten()
        };
        let read = match self {
            Self::Bool => text.parse().ok().map(Value::Bool),
            Self::Number(number) => number.parse(text).and_then(|parsed| number.checked(parsed)),
            Self::Choice(words) => words.contains(&text).then(|| json!(text)),
            Self::Words(known) => return known_words(known, parts(',').collect()),
            Self::Text | Self::Path | Self::Secret | Self::RedisUrl => Some(json!(text)),
            Self::Domain => {
                let host = Host::new(text).map_err(|error| error.to_string())?;
                Some(json!(host.as_str()))
            }
            Self::Domains => {
                let hosts = parts(',').map(Host::new);
                let hosts = hosts.collect::<Result<Vec<_>, _>>();
                let hosts = hosts.map_err(|error| error.to_string())?;
                Some(hosts.iter().map(|host| json!(host.as_str())).collect())
            }
            Self::Endpoint => text.parse().ok().map(|endpoint: Endpoint| json!(endpoint)),
            Self::Endpoints => parts(',')
                .map(|one| one.parse().ok())
                .collect::<Option<Vec<Endpoint>>>()
                .map(|all| json!(all)),
            Self::Address => address(text).map(|address| json!(address)),
            Self::Filter => is_filter(text).then(|| json!(text)),
            Self::Ciphers => return ciphers(parts(':').collect()),
            Self::Services => parts(',').map(service_word).collect(),
            Self::Peers => parts(',').map(peer_word).collect(),
        };
        read.ok_or_else(|| format!("is `{text}`"))
    }

    /// The value's name in `--help`, and the allowed values.
    fn describe(self) -> (String, String) {
        let (name, allowed) = match self {
            Self::Number(number) => return number.describe(),
            Self::Choice(words) => {
                let quoted: Vec<_> = words.iter().map(|word| format!("\"{word}\"")).collect();
                return (words.join("|"), quoted.join(" or "));
            }
            Self::Words(known) => {
                return (
                    "WORD,…".to_owned(),
                    format!("words out of {}", known.join(" ")),
                );
            }
            Self::Ciphers => {
                let allowed = format!("names separated by colons out of {}", CIPHERS.join(" "));
                return ("NAME:…".to_owned(), allowed);
            }
            Self::Bool => ("true|false", "true or false"),
            Self::Text | Self::Secret => ("TEXT", "a text that is not empty"),
            Self::Domain => ("DOMAIN", "a domain, as dc1.example.com"),
            Self::Domains => (
                "DOMAIN,…",
                "in the file [\"gw1.dc1.example.com\"], otherwise domains separated by commas",
            ),
            Self::Path => ("FILE", "the path of a file"),
            Self::RedisUrl => ("URL", FORMS),
            Self::Endpoint => ("HOST:PORT", "host:port, IPv6 addresses in brackets"),
            Self::Endpoints => (
                "HOST:PORT,…",
                "in the file [{ host = \"…\", port = 5555 }], otherwise host:port,host:port, IPv6 addresses in brackets",
            ),
            Self::Address => ("IP:PORT", "IP:port, as 127.0.0.1:9090"),
            Self::Filter => (
                "LEVEL",
                "off, error, warn, info, debug or trace, also per module, as info,strait::link=debug",
            ),
            Self::Services => (
                "DOMAIN=LOCAL:hidden,…",
                "in the file [[services]], each with domain, local and hidden (true or false), of which only domain must be; otherwise domain,domain=local,domain=local:hidden",
            ),
            Self::Peers => (
                "HOST=DOMAIN+DOMAIN,…",
                "in the file [[peers]], each with host and, if not all are allowed, services, an array of domains; otherwise host,host=domain+domain",
            ),
        };
        (name.to_owned(), allowed.to_owned())
    }

    pub(super) fn unusual(self, value: &Value) -> Option<String> {
        match self {
            Self::Number(number) => number.unusual(value),
            _ => None,
        }
    }

    pub(super) fn placeholder(self) -> String {
        self.describe().0
    }
}

/// The allowed values.
impl fmt::Display for OptionKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.describe().1)
    }
}

impl Number {
    /// Converts a plain number; a time becomes milliseconds.
    fn in_unit(self, plain: u64) -> u64 {
        match self.unit {
            Unit::Seconds => plain.saturating_mul(1000),
            _ => plain,
        }
    }

    fn is_time(self) -> bool {
        matches!(self.unit, Unit::Seconds | Unit::Millis)
    }

    fn parse(self, text: &str) -> Option<u64> {
        match (text.parse(), self.unit) {
            (Ok(plain), _) => Some(self.in_unit(plain)),
            (_, Unit::Count) => None,
            (_, Unit::Bytes) => text.parse::<ByteSize>().ok().map(|size| size.0),
            _ => humantime::parse_duration(text)
                .ok()?
                .as_millis()
                .try_into()
                .ok(),
        }
    }

    fn checked(self, number: u64) -> Option<Value> {
        let (min, max) = self.allowed;
        let good = (self.in_unit(min)..=self.in_unit(max)).contains(&number);
        good.then(|| match self.is_time() {
            true => json!(Duration::from_millis(number)),
            false => json!(number),
        })
    }

    /// Returns a warning for a value that is allowed but rarely intended, for example 3
    /// milliseconds instead of 3 seconds.
    fn unusual(self, value: &Value) -> Option<String> {
        let time = serde_json::from_value(value.clone()).ok();
        let number = match time.map(|time: Duration| time.as_millis()) {
            Some(millis) => millis.try_into().ok()?,
            None => value.as_u64()?,
        };
        let (min, max) = (self.in_unit(self.usual.0), self.in_unit(self.usual.1));
        if (min..=max).contains(&number) {
            return None;
        }
        let show = |number: u64| match self.unit {
            Unit::Count => number.to_string(),
            Unit::Bytes => ByteSize(number).to_string(),
            _ => humantime::format_duration(Duration::from_millis(number)).to_string(),
        };
        let plain = match self.unit {
            Unit::Count => "",
            Unit::Bytes => "; a plain number counts bytes, others have a unit, as 64MB",
            Unit::Seconds => "; a plain number counts seconds, others have a unit, as 500ms",
            Unit::Millis => "; a plain number counts milliseconds, others have a unit, as 3s",
        };
        let [number, min, max] = [number, min, max].map(show);
        Some(format!(
            "is {number}, far outside the usual {min} to {max}{plain}"
        ))
    }

    fn describe(self) -> (String, String) {
        let (name, of, or) = match self.unit {
            Unit::Count => ("NUMBER", "", ""),
            Unit::Bytes => ("BYTES", " of bytes", ", or a size with its unit, as 64MB"),
            Unit::Seconds => (
                "SECONDS",
                " of seconds",
                ", or a time with its unit, as 500ms or 2m",
            ),
            Unit::Millis => (
                "MILLISECONDS",
                " of milliseconds",
                ", or a time with its unit, as 500ms or 2m",
            ),
        };
        let (min, max) = self.allowed;
        (
            name.to_owned(),
            format!("a whole number{of} from {min} to {max}{or}"),
        )
    }
}

fn known_words(known: &[&str], words: Vec<&str>) -> Result<Value, String> {
    match words.iter().find(|word| !known.contains(word)) {
        Some(strange) => Err(format!("has `{strange}`")),
        None if words.is_empty() => Err("is empty".to_owned()),
        None => Ok(json!(words)),
    }
}

fn ciphers(names: Vec<&str>) -> Result<Value, String> {
    let unknown = names.iter().filter(|name| !CIPHERS.contains(name));
    let unknown: Vec<_> = unknown.map(|name| format!("`{name}`")).collect();
    if unknown.is_empty() {
        return Ok(json!(names));
    }
    let unknown = unknown.join(", ");
    Err(format!(
        "has {unknown}, which strait's TLS (rustls) does not have"
    ))
}

/// Names the type and never the value, because the value may be a secret under the wrong type.
fn type_of(value: &Spanned<DeValue<'_>>) -> String {
    match value.get_ref() {
        DeValue::Array(_) => "is an array".to_owned(),
        DeValue::Integer(_) => "is an integer".to_owned(),
        other => format!("is a {}", other.type_str()),
    }
}

/// Reads a table with no other keys than `known`.
fn table<'a, 'b>(
    entry: &'a Spanned<DeValue<'b>>,
    known: &[&str],
    has: &str,
) -> Result<&'a DeTable<'b>, Misread> {
    let DeValue::Table(table) = entry.get_ref() else {
        let what = format!("has an entry that {}", type_of(entry));
        return Err((entry.span().start, what));
    };
    let strange = table
        .keys()
        .find(|key| !known.contains(&key.get_ref().as_ref()));
    strange.map_or(Ok(table), |key| {
        let what = format!("{has} the unknown key `{}`", key.get_ref());
        Err((key.span().start, what))
    })
}

fn domain(entry: &Spanned<DeValue<'_>>) -> Result<Value, Misread> {
    let at = entry.span().start;
    let text = entry.get_ref().as_str();
    let text = text.ok_or_else(|| (at, format!("has an entry that {}", type_of(entry))))?;
    let host = Host::new(text).map_err(|error| (at, format!("has an entry, and {error}")))?;
    Ok(json!(host.as_str()))
}

/// Reads `"host:port"` or `{ host = "…", port = 5555 }`.
fn endpoint(entry: &Spanned<DeValue<'_>>) -> Result<Value, Misread> {
    let at = entry.span().start;
    if let DeValue::String(text) = entry.get_ref() {
        let parsed = text.parse().map(|endpoint: Endpoint| json!(endpoint));
        return parsed.map_err(|_| (at, format!("has `{text}`")));
    }
    let table = table(entry, &["host", "port"], "has an entry with")?;
    let host = table.get("host").and_then(|host| host.get_ref().as_str());
    let port = table
        .get("port")
        .and_then(|port| port.get_ref().as_integer());
    let port = port.and_then(|port| u16::from_str_radix(port.as_str(), port.radix()).ok());
    let endpoint = host
        .zip(port)
        .and_then(|(host, port)| Endpoint::new(host, port));
    let endpoint =
        endpoint.ok_or_else(|| (at, "has an entry without a good host and port".to_owned()))?;
    Ok(json!(endpoint))
}

/// Reads `{ domain = "…", local = "…", hidden = true }`, each name with its line.
fn service(entry: &Spanned<DeValue<'_>>, line: &dyn Fn(usize) -> usize) -> Result<Value, Misread> {
    let table = table(entry, &["domain", "local", "hidden"], "has")?;
    let name = |key: &str| {
        let Some(value) = table.get(key) else {
            return Ok(Value::Null);
        };
        let at = value.span().start;
        let text = value.get_ref().as_str();
        let text = text.ok_or_else(|| (at, format!("has `{key}`, which {}", type_of(value))))?;
        let host = Host::new(text).map_err(|error| (at, format!("has `{key}`, and {error}")))?;
        Ok(json!({ "host": host.as_str(), "line": line(at) }))
    };
    let (domain, local) = (name("domain")?, name("local")?);
    let hidden = table.get("hidden").map_or(Ok(false), |value| {
        let what = || format!("has `hidden`, which {}", type_of(value));
        value
            .get_ref()
            .as_bool()
            .ok_or_else(|| (value.span().start, what()))
    })?;
    if domain.is_null() {
        return Err((
            entry.span().start,
            "has an entry without a domain".to_owned(),
        ));
    }
    Ok(json!({ "domain": domain, "local": local, "hidden": hidden }))
}

/// Reads `domain`, `domain=local` or either with `:hidden`.
fn service_word(text: &str) -> Option<Value> {
    let (names, hidden) = match text.split_once(':') {
        Some((names, "hidden")) => (names, true),
        Some(_) => return None,
        None => (text, false),
    };
    let named = |name: &str| {
        let name = name.trim();
        let host = Host::new(name).ok().filter(|_| !name.contains('='))?;
        Some(json!({ "host": host.as_str() }))
    };
    let (domain, local) = match names.split_once('=') {
        Some((domain, local)) => (domain, named(local)?),
        None => (names, Value::Null),
    };
    Some(json!({ "domain": named(domain)?, "local": local, "hidden": hidden }))
}

/// Reads `{ host = "…", services = ["…"] }`.
fn peer(entry: &Spanned<DeValue<'_>>) -> Result<Value, Misread> {
    let table = table(entry, &["host", "services"], "has")?;
    let host = table.get("host").map_or_else(
        || {
            let what = "has an entry without a host".to_owned();
            Err((entry.span().start, what))
        },
        domain,
    )?;
    let services = table.get("services").map(|value| match value.get_ref() {
        DeValue::Array(entries) => entries.iter().map(domain).collect::<Result<Value, _>>(),
        _ => {
            let what = format!("has `services`, which {}", type_of(value));
            Err((value.span().start, what))
        }
    });
    Ok(json!({ "host": host, "services": services.transpose()? }))
}

/// Reads `host` or `host=domain+domain`.
fn peer_word(text: &str) -> Option<Value> {
    let named = |name: &str| Some(json!(Host::new(name.trim()).ok()?.as_str()));
    let (host, services) = match text.split_once('=') {
        None => (text, None),
        Some((host, services)) => {
            let services = services.split('+').map(named);
            (host, Some(services.collect::<Option<Value>>()?))
        }
    };
    Some(json!({ "host": named(host)?, "services": services }))
}

fn address(text: &str) -> Option<SocketAddr> {
    let local = text.strip_prefix("localhost:");
    match local.and_then(|port| port.parse().ok()) {
        Some(port) => Some(SocketAddr::from((Ipv4Addr::LOCALHOST, port))),
        None => text.parse().ok(),
    }
}

/// Checks a filter more strictly than tracing's own parser, which accepts a misspelt level as the
/// name of a module.
fn is_filter(text: &str) -> bool {
    text.split(',').all(|part| {
        let (module, level) = part.rsplit_once('=').unwrap_or(("all", part));
        !module.is_empty() && !level.is_empty() && level.parse::<LevelFilter>().is_ok()
    })
}

#[cfg(test)]
mod tests;
