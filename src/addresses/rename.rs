//! Addresses at other domains.

use std::ops::Range;

use jid::{DomainPart, DomainRef, Jid};

use crate::host::Host;

const SCHEME: &str = "xmpp:";

/// Moves addresses from some domains to others; all other addresses, also those at
/// subdomains, stay unchanged. Domains are compared normalised.
#[derive(Debug, Clone)]
pub(super) struct Rename(Vec<DomainRename>);

#[derive(Debug, Clone)]
struct DomainRename {
    from: DomainPart,
    to: DomainPart,
}

impl Rename {
    /// Renames the first domain of each pair to the second.
    pub(super) fn new<'a>(pairs: impl IntoIterator<Item = (&'a Host, &'a Host)>) -> Self {
        let pairs = pairs.into_iter().map(|(from, to)| DomainRename {
            from: domain(from),
            to: domain(to),
        });
        Self(pairs.collect())
    }

    /// The new address, if `jid` is at one of the old domains.
    pub(super) fn jid(&self, jid: &Jid) -> Option<Jid> {
        let to = self.new_domain(jid.domain())?;
        Some(Jid::from_parts(jid.node(), to, jid.resource()))
    }

    fn new_domain(&self, domain: &DomainRef) -> Option<&DomainPart> {
        let pair = self.0.iter().find(|pair| *pair.from == *domain)?;
        Some(&pair.to)
    }

    /// The place of the domain in `text`, an address or an `xmpp:` URI (RFC 5122), and the
    /// domain's new name; `None` also if `text` is neither. The other parts stay as they are
    /// written, percent-encoded or not normalised.
    pub(super) fn domain(&self, text: &str) -> Option<(Range<usize>, &str)> {
        let address = text.trim();
        let start = text.len() - text.trim_start().len();
        // No JID begins like that: a localpart has no colon.
        let is_uri = address
            .get(..SCHEME.len())
            .is_some_and(|s| s.eq_ignore_ascii_case(SCHEME));
        let path = if is_uri {
            let end = address.find(['?', '#']).unwrap_or(address.len());
            match address[SCHEME.len()..end].strip_prefix("//") {
                // `xmpp://authority/path`: the authority is the reader's own account.
                Some(rest) => end - rest.len() + rest.find('/')? + 1..end,
                None => SCHEME.len()..end,
            }
        } else {
            0..address.len()
        };
        let bare = address[path.clone()].split('/').next()?;
        let domain = path.start + bare.find('@').map_or(0, |at| at + 1)..path.start + bare.len();
        let to = self.new_domain(&DomainPart::new(&address[domain.clone()]).ok()?)?;
        let is_address = is_uri || Jid::new(address).is_ok();
        is_address.then(|| (start + domain.start..start + domain.end, to.as_str()))
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

    fn renamed(text: &str) -> Option<String> {
        let outward = outward();
        let (domain, to) = outward.domain(text)?;
        Some([&text[..domain.start], to, &text[domain.end..]].concat())
    }

    fn outward() -> Rename {
        let host = |name: &str| Host::new(name).unwrap();
        Rename::new([
            (&host("dc1.test"), &host("example.test")),
            (&host("rooms.dc1.test"), &host("muc.example.test")),
        ])
    }

    #[test]
    fn addresses_at_the_domain_move() {
        for (before, after) in [
            ("alice@dc1.test/phone", "alice@example.test/phone"),
            ("alice@dc1.test", "alice@example.test"),
            ("dc1.test", "example.test"),
            ("dc1.test/x", "example.test/x"),
            ("room@rooms.dc1.test/nick", "room@muc.example.test/nick"),
            ("Alice@DC1.Test./Phone", "Alice@example.test/Phone"),
            (
                "alice@dc1.test/a@dc1.test/b",
                "alice@example.test/a@dc1.test/b",
            ),
            (" alice@dc1.test\n", " alice@example.test\n"),
        ] {
            assert_eq!(renamed(before).as_deref(), Some(after), "{before}");
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
            assert_eq!(renamed(other), None, "{other}");
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
                "xmpp:room@rooms.dc1.test?join",
                "xmpp:room@muc.example.test?join",
            ),
            (
                "xmpp://me@elsewhere.test/alice@dc1.test",
                "xmpp://me@elsewhere.test/alice@example.test",
            ),
        ] {
            assert_eq!(renamed(before).as_deref(), Some(after), "{before}");
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
            assert_eq!(renamed(other), None, "{other}");
        }
    }
}
