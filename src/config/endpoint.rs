//! Parses `host:port`.

use std::fmt;
use std::net::Ipv6Addr;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// `host:port`; IPv6 addresses in brackets. Redis stores it as `host#port`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Endpoint {
    /// A name or an IP address (IPv6 without brackets).
    pub host: String,
    /// The TCP port.
    pub port: u16,
}

impl Endpoint {
    /// Returns `None` when `host`, with or without the brackets of an IPv6 address, is neither a
    /// name nor an address.
    #[must_use]
    pub fn new(host: &str, port: u16) -> Option<Self> {
        let bracketed = host.strip_prefix('[').and_then(|h| h.strip_suffix(']'));
        let host = bracketed.unwrap_or(host);
        // A `#` would end the host early in the session table.
        let strange = |c: char| c.is_whitespace() || c.is_control() || "#/@[],".contains(c);
        let is_ipv6 = host.parse::<Ipv6Addr>().is_ok();
        let good = !host.is_empty()
            && !host.contains(strange)
            && host.contains(':') == is_ipv6
            && (bracketed.is_none() || is_ipv6);
        good.then(|| Self {
            host: host.to_owned(),
            port,
        })
    }
}

/// The reason why a text is not an [`Endpoint`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not host:port, with an IPv6 address in brackets")]
pub struct InvalidEndpoint(pub String);

impl FromStr for Endpoint {
    type Err = InvalidEndpoint;

    fn from_str(text: &str) -> Result<Self, InvalidEndpoint> {
        text.rsplit_once(':')
            // Without brackets the end of an IPv6 address is ambiguous.
            .filter(|(host, _)| !host.contains(':') || host.starts_with('['))
            .and_then(|(host, port)| Self::new(host, port.parse().ok()?))
            .ok_or_else(|| InvalidEndpoint(text.to_owned()))
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_written_as_it_is_read() {
        for text in ["dc1.test:5555", "10.0.0.1:1", "[::1]:5555", "gw:0"] {
            assert_eq!(
                text.parse::<Endpoint>().map(|e| e.to_string()).as_deref(),
                Ok(text)
            );
        }
        assert_eq!(Endpoint::new("[::1]", 1), Endpoint::new("::1", 1));
    }

    #[test]
    fn what_is_no_endpoint_is_refused() {
        for text in [
            "",
            "dc1.test",
            ":5555",
            "dc1.test:",
            "dc1.test:70000",
            "::1:5555",
            "[dc1.test]:1",
            "[::1:1",
            "a#b:1",
            "a b:1",
            "xmpp://a:1",
        ] {
            assert!(text.parse::<Endpoint>().is_err(), "{text:?} was taken");
        }
    }
}
