//! Keys and values in Redis: mod_global_distrib's layout, and this gateway's additions to it.
//!
//! Text in braces is a hash tag: it alone selects the shard of a cluster for a key. All keys of one
//! JID are on the shard of the JID's own.
//!
//! A JID may have braces of its own, which would make a tag of the user's choice, or the name of
//! another user's key. Then the gateway's keys have an escaped form of the JID in their tag, and
//! the JID's own key stays apart from them.

use std::borrow::Cow;

use crate::config::Endpoint;
use crate::host::Host;

/// The set of all hosts.
pub(super) const HOSTS: &str = "hosts";

/// The hash of a host's nodes: node → Unix seconds of its last announcement.
pub(super) fn nodes(host: &Host) -> String {
    format!("{host}#{{nodes}}")
}

/// Addition. The hash of those nodes of a host that are gateways, and no MongooseIM.
pub(super) fn gateways(host: &Host) -> String {
    format!("{host}#{{gateways}}")
}

/// The set of the addresses on which a node accepts links.
pub(super) fn endpoints(host: &Host, node: &str) -> String {
    format!("{host}#{node}#{{endpoints}}")
}

/// The set of a node's service domains.
pub(super) fn domains(host: &Host, node: &str) -> String {
    format!("{host}#{node}#{{domains}}")
}

/// The set of a node's service domains that every user may see.
pub(super) fn public_domains(host: &Host, node: &str) -> String {
    format!("{host}#{node}#{{public_domains}}")
}

/// Addition. The hash of a JID's claims: host → since, in ms since the Unix epoch.
pub(super) fn claims(jid: &str) -> String {
    format!("{{{}}}#claims", tag(jid))
}

/// Addition. While several hosts claim a JID, the hash of host → Unix seconds (by Redis's clock)
/// when its claim expires.
fn deadlines(jid: &str) -> String {
    format!("{{{}}}#deadlines", tag(jid))
}

/// Addition. The last host that claimed a bare JID.
pub(super) fn home(bare: &str) -> String {
    format!("{{{}}}#home", tag(bare))
}

/// Key for the name of the host with the newest claim on a JID: the JID itself, or if that has
/// braces, a key of this gateway.
fn owner(jid: &str) -> String {
    if has_braces(jid) {
        format!("{{{}}}#owner", tag(jid))
    } else {
        jid.to_owned()
    }
}

/// The keys of the scripts that claim and withdraw `jid`.
pub(super) fn script_keys(jid: &str) -> Vec<String> {
    vec![owner(jid), claims(jid), deadlines(jid)]
}

/// The key of a JID with braces for MongooseIMs. Never the same as a key of this gateway, all of
/// which begin with a brace.
pub(super) fn apart(jid: &str) -> Option<&str> {
    (has_braces(jid) && !jid.starts_with('{')).then_some(jid)
}

/// All keys with the name of a host that has a claim on `jid`.
pub(super) fn owners(jid: &str) -> Vec<String> {
    let apart = apart(jid).map(str::to_owned);
    [owner(jid)].into_iter().chain(apart).collect()
}

fn has_braces(jid: &str) -> bool {
    jid.contains(['{', '}'])
}

/// `jid`, or if it has braces a text without any that no JID can be: none begins with a slash.
fn tag(jid: &str) -> Cow<'_, str> {
    if has_braces(jid) {
        let escaped = jid.replace('%', "%25");
        let escaped = escaped.replace('{', "%7B").replace('}', "%7D");
        format!("/{escaped}").into()
    } else {
        jid.into()
    }
}

/// `addr#port`
pub(super) fn write_endpoint(endpoint: &Endpoint) -> String {
    format!("{}#{}", endpoint.host, endpoint.port)
}

/// Reads `addr#port`.
pub(super) fn read_endpoint(text: &str) -> Option<Endpoint> {
    let (host, port) = text.rsplit_once('#')?;
    if host.is_empty() {
        return None;
    }
    Some(Endpoint {
        host: host.to_owned(),
        port: port.parse().ok()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_those_of_mod_global_distrib() {
        let host = Host::new("dc1.example.com").unwrap();
        assert_eq!(nodes(&host), "dc1.example.com#{nodes}");
        assert_eq!(gateways(&host), "dc1.example.com#{gateways}");
        assert_eq!(endpoints(&host, "gw@a"), "dc1.example.com#gw@a#{endpoints}");
        assert_eq!(domains(&host, "gw@a"), "dc1.example.com#gw@a#{domains}");
        assert_eq!(
            public_domains(&host, "gw@a"),
            "dc1.example.com#gw@a#{public_domains}"
        );
        assert_eq!(
            claims("alice@example.com/phone"),
            "{alice@example.com/phone}#claims"
        );
        assert_eq!(home("alice@example.com"), "{alice@example.com}#home");
    }

    #[test]
    fn a_name_with_braces_is_escaped_in_our_keys_and_stays_apart() {
        let jid = "{bob@example.com/x%}#claims";
        let ours = "{/%7Bbob@example.com/x%25%7D#claims}";
        assert_eq!(claims(jid), format!("{ours}#claims"));
        let keys = ["owner", "claims", "deadlines"].map(|key| format!("{ours}#{key}"));
        assert_eq!(script_keys(jid), keys);
        assert_eq!(apart(jid), None, "it could be bob's");
        assert_eq!(apart("bob@example.com/{1}"), Some("bob@example.com/{1}"));
        assert_eq!(apart("bob@example.com/1%7B"), None);
        assert_eq!(
            claims("bob@example.com/1%7B"),
            "{bob@example.com/1%7B}#claims"
        );
    }

    #[test]
    fn endpoints_survive_writing_and_reading() {
        for (host, port, text) in [
            ("10.0.0.1", 5555, "10.0.0.1#5555"),
            ("2001:db8::1", 5555, "2001:db8::1#5555"),
            ("gw.example.com", 1, "gw.example.com#1"),
        ] {
            let endpoint = Endpoint {
                host: host.to_owned(),
                port,
            };
            assert_eq!(write_endpoint(&endpoint), text);
            assert_eq!(read_endpoint(text), Some(endpoint));
        }
    }

    #[test]
    fn what_is_no_endpoint_is_not_read() {
        for text in ["", "10.0.0.1", "#5555", "10.0.0.1#", "10.0.0.1#70000"] {
            assert_eq!(read_endpoint(text), None, "{text:?}");
        }
    }
}
