//! One address at another domain.

use jid::{DomainPart, Jid};

use crate::host::Host;

const SCHEME: &str = "xmpp:";

/// Moves addresses from one domain to another; all others, also those at
/// subdomains, are none of its business. Domains are compared normalised.
#[derive(Debug, Clone)]
pub(super) struct Rename {
    from: DomainPart,
    to: DomainPart,
}

impl Rename {
    pub(super) fn new(from: &Host, to: &Host) -> Self {
        Self {
            from: domain(from),
            to: domain(to),
        }
    }

    /// The new address, if `jid` is at the old domain.
    pub(super) fn jid(&self, jid: &Jid) -> Option<Jid> {
        (*jid.domain() == *self.from).then(|| Jid::from_parts(jid.node(), &self.to, jid.resource()))
    }

    /// The same for an address in text, a JID or an `xmpp:` URI; `None` also
    /// if it is neither.
    pub(super) fn address(&self, text: &str) -> Option<String> {
        let text = text.trim();
        // No JID begins like that: a localpart has no colon.
        if text
            .get(..SCHEME.len())
            .is_some_and(|s| s.eq_ignore_ascii_case(SCHEME))
        {
            return self.uri(text);
        }
        let jid = Jid::new(text).ok()?;
        self.jid(&jid).map(Jid::into_inner)
    }

    /// The same for an `xmpp:` URI (RFC 5122), of which the rest stays as it is.
    fn uri(&self, uri: &str) -> Option<String> {
        let end = uri.find(['?', '#']).unwrap_or(uri.len());
        // `xmpp://authority/path`: the authority is the reader's own account.
        let start = match uri[SCHEME.len()..end].strip_prefix("//") {
            Some(rest) => end - rest.len() + rest.find('/')? + 1,
            None => SCHEME.len(),
        };
        let path = &uri[start..end];
        let bare = path.split('/').next().unwrap_or(path);
        // Only the domain is replaced: what is percent-encoded stays so.
        let at = start + bare.find('@').map_or(0, |at| at + 1);
        let domain = &uri[at..start + bare.len()];
        if *DomainPart::new(domain).ok()? != *self.from {
            return None;
        }
        let (before, after) = (&uri[..at], &uri[at + domain.len()..]);
        Some(format!("{before}{}{after}", self.to))
    }
}

fn domain(host: &Host) -> DomainPart {
    DomainPart::new(host.as_str())
        .expect("a Host is a normalised domain")
        .into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outward() -> Rename {
        Rename::new(
            &Host::new("dc1.test").unwrap(),
            &Host::new("example.test").unwrap(),
        )
    }

    #[test]
    fn addresses_at_the_domain_move() {
        for (before, after) in [
            ("alice@dc1.test/phone", "alice@example.test/phone"),
            ("alice@dc1.test", "alice@example.test"),
            ("dc1.test", "example.test"),
            ("dc1.test/x", "example.test/x"),
            ("Alice@DC1.Test./Phone", "alice@example.test/Phone"),
            (
                "alice@dc1.test/a@dc1.test/b",
                "alice@example.test/a@dc1.test/b",
            ),
            (" alice@dc1.test\n", "alice@example.test"),
        ] {
            assert_eq!(
                outward().address(before).as_deref(),
                Some(after),
                "{before}"
            );
        }
    }

    #[test]
    fn others_stay() {
        for other in [
            "room@conference.dc1.test",
            "alice@dc1.test.org",
            "dc1.test@elsewhere.test",
            "alice@elsewhere.test/dc1.test",
            "a b@dc1.test",
            "",
        ] {
            assert_eq!(outward().address(other), None, "{other}");
        }
    }

    #[test]
    fn uris_move() {
        for (before, after) in [
            ("xmpp:alice@dc1.test", "xmpp:alice@example.test"),
            (
                "xmpp:alice@dc1.test/r?message;body=hi#x",
                "xmpp:alice@example.test/r?message;body=hi#x",
            ),
            ("XMPP:a%20b@DC1.test?join", "XMPP:a%20b@example.test?join"),
            ("xmpp:dc1.test", "xmpp:example.test"),
            (
                "xmpp://me@elsewhere.test/alice@dc1.test",
                "xmpp://me@elsewhere.test/alice@example.test",
            ),
        ] {
            assert_eq!(
                outward().address(before).as_deref(),
                Some(after),
                "{before}"
            );
        }
    }

    #[test]
    fn other_uris_stay() {
        for other in [
            "mailto:alice@dc1.test",
            "xmpp:alice@conference.dc1.test",
            "xmpp:bob@elsewhere.test?body=dc1.test",
            "xmpp://dc1.test",
            "xmpp:",
            "xmpp:@",
            "xmp",
            "größe",
        ] {
            assert_eq!(outward().address(other), None, "{other}");
        }
    }
}
