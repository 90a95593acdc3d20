//! The name of a datacenter, which is its own XMPP domain, and the datacenters of a user.

use std::borrow::Borrow;
use std::fmt;
use std::sync::Arc;

use jid::BareJid;

/// A datacenter's own XMPP domain (`local_host`), which is also its name in
/// every table. Normalised (IDNA, lower case), cheap to clone.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Deserialize)]
#[serde(try_from = "String")]
pub struct Host(Arc<str>);

impl Host {
    /// Normalises `domain`.
    ///
    /// # Errors
    /// When it is not a domain as of RFC 7622 §3.2, or is a JID with a
    /// localpart or resource.
    pub fn new(domain: &str) -> Result<Self, InvalidHost> {
        let invalid = |reason: String| InvalidHost {
            domain: domain.to_owned(),
            reason,
        };
        let jid = BareJid::new(domain).map_err(|e| invalid(e.to_string()))?;
        if jid.node().is_some() {
            return Err(invalid(
                "it has a localpart; give the domain alone".to_owned(),
            ));
        }
        Ok(Self(jid.domain().as_str().into()))
    }

    /// Returns whether `domain`, normalised, is a subdomain of this one.
    #[must_use]
    pub fn is_above(&self, domain: &str) -> bool {
        domain
            .strip_suffix(&*self.0)
            .is_some_and(|below| below.len() > 1 && below.ends_with('.'))
    }

    /// Returns the domain.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// The hosts of a user, as far as this gateway knows.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Locations {
    /// The hosts that claim the full JID, newest claim first; empty for a bare JID.
    pub full: Vec<Host>,
    /// The hosts that claim the bare JID, newest claim first. Empty if a host
    /// claims the full one.
    pub bare: Vec<Host>,
    /// The last host that claimed the bare JID, ever. `None` if a host claims it now.
    pub home: Option<Host>,
}

impl Locations {
    /// Returns whether a host has the user online.
    #[must_use]
    pub fn is_online(&self) -> bool {
        !self.full.is_empty() || !self.bare.is_empty()
    }
}

impl TryFrom<String> for Host {
    type Error = InvalidHost;

    fn try_from(domain: String) -> Result<Self, InvalidHost> {
        Self::new(&domain)
    }
}

/// The reason why a text is not a [`Host`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{domain}` is not a domain: {reason}")]
pub struct InvalidHost {
    /// The text as given.
    pub domain: String,
    /// The error in the text.
    pub reason: String,
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Host({})", self.0)
    }
}

impl Borrow<str> for Host {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl PartialEq<str> for Host {
    fn eq(&self, other: &str) -> bool {
        &*self.0 == other
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_normalised() {
        assert_eq!(
            Host::new("DC1.Example.Test").unwrap().as_str(),
            "dc1.example.test"
        );
    }

    #[test]
    fn is_above_its_subdomains_only() {
        let host = Host::new("example.test").unwrap();
        for below in ["muc.example.test", "a.b.example.test"] {
            assert!(host.is_above(below), "{below}");
        }
        for not in [
            "example.test",
            "myexample.test",
            ".example.test",
            "test",
            "muc.example.test.org",
        ] {
            assert!(!host.is_above(not), "{not}");
        }
    }

    #[test]
    fn refuses_what_is_not_a_bare_domain() {
        for bad in ["", "alice@dc1.test", "dc1.test/x", "a b"] {
            assert!(Host::new(bad).is_err(), "{bad:?} was taken for a domain");
        }
    }
}
