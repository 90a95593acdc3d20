//! What an option's value may be, and reading it from TOML or from a text
//! (a flag or an environment variable).

use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use toml::Spanned;
use toml::de::DeValue;
use tracing_subscriber::filter::LevelFilter;

use super::problem::Origin;
use super::redis::FORMS;
use super::value::Value;
use super::{CIPHERS, Endpoint, Secret, services};
use crate::host::Host;

/// What a value may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OptionKind {
    /// `true` or `false`.
    Bool,
    /// A whole number.
    Number {
        /// What it counts.
        unit: Unit,
        /// The smallest that makes sense.
        min: u64,
        /// The largest that makes sense.
        max: u64,
    },
    /// One of these words.
    Choice(&'static [&'static str]),
    /// Some of these words, separated by commas; an array in the file.
    Words(&'static [&'static str]),
    /// Any text but an empty one.
    Text,
    /// An XMPP domain.
    Domain,
    /// A file's path.
    Path,
    /// A text that must not show; never a flag.
    Secret,
    /// A Redis URL, which may hold a password.
    Url,
    /// `host:port`.
    Endpoint,
    /// Some of them, separated by commas; an array in the file.
    Endpoints,
    /// `IP:port`.
    Address,
    /// Log levels, one for all or for modules.
    Filter,
    /// OpenSSL names of cipher suites, separated by colons.
    Ciphers,
    /// The file's `[[services]]`.
    Services,
}

/// What a number counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// Things.
    Count,
    /// Bytes.
    Bytes,
    /// Seconds.
    Seconds,
    /// Milliseconds.
    Millis,
}

/// A year in seconds. Longer times are mistakes, and some clocks overflow on them.
pub(super) const YEAR: u64 = 365 * 24 * 60 * 60;

pub(super) const fn count(min: u64, max: u64) -> OptionKind {
    let unit = Unit::Count;
    OptionKind::Number { unit, min, max }
}

pub(super) const fn bytes(min: u64, max: u64) -> OptionKind {
    let unit = Unit::Bytes;
    OptionKind::Number { unit, min, max }
}

pub(super) const fn seconds(min: u64, max: u64) -> OptionKind {
    let unit = Unit::Seconds;
    OptionKind::Number { unit, min, max }
}

pub(super) const fn millis() -> OptionKind {
    let (unit, min, max) = (Unit::Millis, 1, YEAR * 1000);
    OptionKind::Number { unit, min, max }
}

/// Why a value in the file cannot be read.
#[derive(Debug)]
pub(super) struct Misread {
    /// Where, in bytes from the start of the file.
    pub(super) at: usize,
    /// What is wrong, and what is allowed.
    pub(super) what: String,
}

impl OptionKind {
    /// Reads what the file says. `origin` tells where in the file a byte is.
    pub(super) fn read_toml(
        self,
        value: &Spanned<DeValue<'_>>,
        origin: &dyn Fn(usize) -> Origin,
    ) -> Result<Value, Misread> {
        let at = value.span().start;
        let read = match (self, value.get_ref()) {
            (Self::Services, _) => return services::read_toml(value, origin).map(Value::Services),
            (Self::Bool, DeValue::Boolean(yes)) => Ok(Value::Bool(*yes)),
            (Self::Number { unit, min, max }, DeValue::Integer(number)) => {
                let parsed = u64::from_str_radix(number.as_str(), number.radix());
                in_range(parsed.ok(), unit, min, max).ok_or_else(|| format!("is {number}"))
            }
            (Self::Endpoints, DeValue::Array(entries)) => {
                return entries
                    .iter()
                    .map(endpoint)
                    .collect::<Result<_, _>>()
                    .map(Value::Endpoints);
            }
            (Self::Words(known), DeValue::Array(entries)) => entries
                .iter()
                .map(|entry| entry.get_ref().as_str())
                .collect::<Option<Vec<_>>>()
                .ok_or_else(|| "has an entry that is not a string".to_owned())
                .and_then(|words| known_words(known, words)),
            (Self::Bool | Self::Number { .. }, other) => Err(kind_of(other)),
            (_, DeValue::String(text)) => {
                return self.read_text(text).map_err(|what| Misread { at, what });
            }
            (_, other) => Err(kind_of(other)),
        };
        read.map_err(|what| Misread {
            at,
            what: format!("{what}; allowed: {self}"),
        })
    }

    /// Reads what a flag or an environment variable says.
    ///
    /// # Errors
    /// What is wrong and what is allowed; a secret is never part of it.
    pub fn read_text(self, text: &str) -> Result<Value, String> {
        if text.is_empty() && !matches!(self, Self::Endpoints | Self::Services) {
            return Err(format!("is empty; allowed: {self}"));
        }
        let read = match self {
            Self::Bool => text.parse().ok().map(Value::Bool),
            Self::Number { unit, min, max } => in_range(text.parse().ok(), unit, min, max),
            Self::Choice(words) => words.contains(&text).then(|| Value::Text(text.to_owned())),
            Self::Words(known) => {
                return known_words(known, split(text, ','))
                    .map_err(|what| format!("{what}; allowed: {self}"));
            }
            Self::Text => Some(Value::Text(text.to_owned())),
            Self::Domain => {
                return Host::new(text)
                    .map(Value::Domain)
                    .map_err(|error| format!("{error}; allowed: {self}"));
            }
            Self::Path => Some(Value::Path(PathBuf::from(text))),
            Self::Secret | Self::Url => Some(Value::Secret(Secret::new(text.to_owned()))),
            Self::Endpoint => text.parse().ok().map(Value::Endpoint),
            Self::Endpoints => split(text, ',')
                .map(|one| one.parse().ok())
                .collect::<Option<_>>()
                .map(Value::Endpoints),
            Self::Address => address(text).map(Value::Address),
            Self::Filter => is_filter(text).then(|| Value::Text(text.to_owned())),
            Self::Ciphers => {
                return ciphers(text).map_err(|what| format!("{what}; allowed: {self}"));
            }
            Self::Services => split(text, ',')
                .map(services::read_text)
                .collect::<Option<_>>()
                .map(Value::Services),
        };
        read.ok_or_else(|| format!("is `{text}`; allowed: {self}"))
    }

    /// What `--help` shows after the flag.
    pub(super) fn placeholder(self) -> String {
        match self {
            Self::Bool => "true|false".to_owned(),
            Self::Number { unit, .. } => match unit {
                Unit::Count => "NUMBER",
                Unit::Bytes => "BYTES",
                Unit::Seconds => "SECONDS",
                Unit::Millis => "MILLISECONDS",
            }
            .to_owned(),
            Self::Choice(words) => words.join("|"),
            Self::Words(_) => "WORD,…".to_owned(),
            Self::Text | Self::Secret => "TEXT".to_owned(),
            Self::Domain => "DOMAIN".to_owned(),
            Self::Path => "FILE".to_owned(),
            Self::Url => "URL".to_owned(),
            Self::Endpoint => "HOST:PORT".to_owned(),
            Self::Endpoints => "HOST:PORT,…".to_owned(),
            Self::Address => "IP:PORT".to_owned(),
            Self::Filter => "LEVEL".to_owned(),
            Self::Ciphers => "NAME:…".to_owned(),
            Self::Services => "DOMAIN=LOCAL:hidden,…".to_owned(),
        }
    }
}

/// What is allowed.
impl fmt::Display for OptionKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bool => f.write_str("true or false"),
            Self::Number { unit, min, max } => {
                let of = match unit {
                    Unit::Count => "",
                    Unit::Bytes => " of bytes",
                    Unit::Seconds => " of seconds",
                    Unit::Millis => " of milliseconds",
                };
                write!(f, "a whole number{of} from {min} to {max}")
            }
            Self::Choice(words) => {
                let quoted: Vec<_> = words.iter().map(|word| format!("\"{word}\"")).collect();
                f.write_str(&quoted.join(" or "))
            }
            Self::Words(known) => write!(f, "words out of {}", known.join(" ")),
            Self::Text | Self::Secret => f.write_str("a text that is not empty"),
            Self::Domain => f.write_str("a domain, as dc1.example.com"),
            Self::Path => f.write_str("the path of a file"),
            Self::Url => f.write_str(FORMS),
            Self::Endpoint => f.write_str("host:port, IPv6 addresses in brackets"),
            Self::Endpoints => {
                f.write_str("in the file [{ host = \"…\", port = 5555 }], otherwise host:port,host:port, IPv6 addresses in brackets")
            }
            Self::Address => f.write_str("IP:port, as 127.0.0.1:9090"),
            Self::Filter => f.write_str("off, error, warn, info, debug or trace, also per module, as info,strait::link=debug"),
            Self::Ciphers => write!(f, "names separated by colons out of {}", CIPHERS.join(" ")),
            Self::Services => f.write_str("in the file [[services]], each with domain, local and hidden (true or false), of which only domain must be; otherwise domain,domain=local,domain=local:hidden"),
        }
    }
}

fn in_range(number: Option<u64>, unit: Unit, min: u64, max: u64) -> Option<Value> {
    let number = number.filter(|number| (min..=max).contains(number))?;
    Some(match unit {
        Unit::Count | Unit::Bytes => Value::Number(number),
        Unit::Seconds => Value::Duration(Duration::from_secs(number)),
        Unit::Millis => Value::Duration(Duration::from_millis(number)),
    })
}

/// The parts without the spaces around them; none of an empty text.
fn split(text: &str, by: char) -> impl Iterator<Item = &str> {
    let parts = (!text.is_empty()).then(|| text.split(by).map(str::trim));
    parts.into_iter().flatten()
}

fn known_words<'a>(
    known: &[&str],
    words: impl IntoIterator<Item = &'a str>,
) -> Result<Value, String> {
    let words: Vec<&str> = words.into_iter().collect();
    match words.iter().find(|word| !known.contains(word)) {
        Some(strange) => Err(format!("has `{strange}`")),
        None if words.is_empty() => Err("is empty".to_owned()),
        None => Ok(Value::Words(words.into_iter().map(str::to_owned).collect())),
    }
}

/// Never the value: it may be a secret under the wrong type.
pub(super) fn kind_of(value: &DeValue<'_>) -> String {
    match value {
        DeValue::Array(_) | DeValue::Integer(_) => format!("is an {}", value.type_str()),
        other => format!("is a {}", other.type_str()),
    }
}

/// `"host:port"` or `{ host = "…", port = 5555 }`.
fn endpoint(entry: &Spanned<DeValue<'_>>) -> Result<Endpoint, Misread> {
    let misread = |at: usize, what: String| {
        let what = format!("{what}; allowed: {}", OptionKind::Endpoints);
        Misread { at, what }
    };
    let at = entry.span().start;
    let table = match entry.get_ref() {
        DeValue::Table(table) => table,
        DeValue::String(text) => {
            return text
                .parse()
                .map_err(|_| misread(at, format!("has `{text}`")));
        }
        other => return Err(misread(at, format!("has an entry that {}", kind_of(other)))),
    };
    let strange = table
        .keys()
        .find(|key| !matches!(key.get_ref().as_ref(), "host" | "port"));
    if let Some(key) = strange {
        return Err(misread(
            key.span().start,
            format!("has an entry with the unknown key `{}`", key.get_ref()),
        ));
    }
    let host = table.get("host").and_then(|host| host.get_ref().as_str());
    let port = table
        .get("port")
        .and_then(|port| port.get_ref().as_integer());
    let port = port.and_then(|port| u16::from_str_radix(port.as_str(), port.radix()).ok());
    host.zip(port)
        .and_then(|(host, port)| Endpoint::new(host, port))
        .ok_or_else(|| misread(at, "has an entry without a good host and port".to_owned()))
}

fn address(text: &str) -> Option<SocketAddr> {
    let local = text
        .strip_prefix("localhost:")
        .and_then(|port| port.parse().ok());
    local
        .map(|port: u16| SocketAddr::from((Ipv4Addr::LOCALHOST, port)))
        .or_else(|| text.parse().ok())
}

/// Stricter than tracing's own parser, which takes a misspelt level for the
/// name of a module.
fn is_filter(text: &str) -> bool {
    text.split(',').all(|part| {
        let level = match part.rsplit_once('=') {
            Some(("", _)) => return false,
            Some((_, level)) => level,
            None => part,
        };
        level.parse::<LevelFilter>().is_ok() && !level.is_empty()
    })
}

fn ciphers(text: &str) -> Result<Value, String> {
    let names: Vec<_> = split(text, ':').map(str::to_owned).collect();
    let unknown: Vec<_> = names
        .iter()
        .filter(|name| !CIPHERS.contains(&name.as_str()))
        .map(|name| format!("`{name}`"))
        .collect();
    if unknown.is_empty() {
        Ok(Value::Words(names))
    } else {
        Err(format!(
            "has {}, which strait's TLS (rustls) does not have",
            unknown.join(", ")
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_outside_their_range_are_refused() {
        let kind = count(1, 10);
        assert_eq!(kind.read_text("10"), Ok(Value::Number(10)));
        for bad in ["0", "11", "-1", "1.5", "many", " 1"] {
            let what = kind.read_text(bad).unwrap_err();
            assert!(what.contains("a whole number from 1 to 10"), "{what}");
        }
    }

    #[test]
    fn a_number_has_its_unit() {
        assert_eq!(
            millis().read_text("1500"),
            Ok(Value::Duration(Duration::from_millis(1500)))
        );
        assert_eq!(
            seconds(1, YEAR).read_text("90"),
            Ok(Value::Duration(Duration::from_secs(90)))
        );
    }

    #[test]
    fn endpoints_are_split_at_commas() {
        let Ok(Value::Endpoints(endpoints)) = OptionKind::Endpoints.read_text("a.test:1, [::1]:2")
        else {
            panic!("not read")
        };
        assert_eq!(
            endpoints
                .iter()
                .map(ToString::to_string)
                .collect::<Vec<_>>(),
            ["a.test:1", "[::1]:2"]
        );
        assert_eq!(
            OptionKind::Endpoints.read_text(""),
            Ok(Value::Endpoints(vec![]))
        );
        assert!(
            OptionKind::Endpoints
                .read_text("a.test:1,,b.test:1")
                .is_err()
        );
    }

    #[test]
    fn a_misspelt_level_is_no_module() {
        for good in ["info", "WARN", "off", "info,strait::link=debug"] {
            assert!(is_filter(good), "{good}");
        }
        for bad in ["", "infoo", "strait", "strait=loud", "=debug", "info,"] {
            assert!(!is_filter(bad), "{bad}");
        }
    }

    #[test]
    fn ciphers_that_rustls_lacks_are_named() {
        let good = "TLS_AES_128_GCM_SHA256:ECDHE-RSA-AES256-GCM-SHA384";
        assert!(OptionKind::Ciphers.read_text(good).is_ok());
        let what = OptionKind::Ciphers
            .read_text("TLS_AES_128_GCM_SHA256:DHE-RSA-AES256-SHA")
            .unwrap_err();
        assert!(
            what.starts_with("has `DHE-RSA-AES256-SHA`, which"),
            "{what}"
        );
        assert!(what.contains("ECDHE-ECDSA-CHACHA20-POLY1305"), "{what}");
    }

    #[test]
    fn localhost_stands_for_its_address() {
        assert_eq!(address("localhost:9090"), "127.0.0.1:9090".parse().ok());
        assert_eq!(address("gateway.test:9090"), None);
    }
}
