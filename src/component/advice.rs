//! What a person can do when the stream is not up.

use super::failure::Failure;
use crate::config::Endpoint;
use crate::host::Host;

/// What advice needs to name.
#[derive(Debug, Clone, Copy)]
pub(super) struct Subject<'a> {
    /// `component.server`
    pub server: &'a Endpoint,
    /// The name under which the component attaches.
    pub domain: &'a Host,
    /// Whether that is a service domain, not `global_host`.
    pub is_service: bool,
    /// `local_host`
    pub local: &'a Host,
}

impl Failure {
    /// What to change, and where.
    pub fn advice(
        &self,
        Subject {
            server,
            domain,
            is_service,
            local,
        }: Subject<'_>,
    ) -> String {
        let port = server.port;
        match self {
            Self::WrongSecret(_) | Self::UnknownDomain(_) if is_service => service_advice(domain, port),
            Self::Unresolvable(_) => format!(
                "Check `component.server` ({server}) and this machine's DNS."
            ),
            Self::ConnectionRefused => format!(
                "Is the server running, and does it accept components there? Prosody: \
                 `component_ports = {{ {port} }}` and `component_interfaces` in the global section; \
                 ejabberd: a `listen` entry with `port: {port}` and `module: ejabberd_service`; \
                 MongooseIM: `[[listen.component]]` with `port = {port}`. \
                 If it listens elsewhere, change `component.server`."
            ),
            Self::Unreachable(_) | Self::TimedOut { .. } => format!(
                "Check `component.server` ({server}), the network and the firewalls between this \
                 gateway and the server, and that the server is not overloaded."
            ),
            Self::WrongSecret(_) => format!(
                "Make `component.secret` the same as the server's. Prosody: `component_secret` under \
                 `Component \"{domain}\"`; ejabberd: `hosts: {{\"{domain}\": {{password: …}}}}` of the \
                 `ejabberd_service` listener on port {port} (it says not-authorized as well when \
                 {domain} is not among its `hosts`); MongooseIM: `password` of `[[listen.component]]`."
            ),
            Self::UnknownDomain(_) => format!(
                "Prosody: add `Component \"{domain}\"` with a `component_secret` (and no module name \
                 behind it; not `VirtualHost`), then reload and activate it; ejabberd: add \
                 `\"{domain}\": {{password: …}}` to the listener's `hosts`. Or correct \
                 `global_host`, or the port: {port} must be the one for components, not the clients'."
            ),
            Self::Conflict(_) => format!(
                "Is a second gateway or another component attached as {domain}, or does the server \
                 itself host it (as an account domain or a built-in service)? Stop that one, or take \
                 {domain} out of the server's hosts. If it is only a dead connection of ours: Prosody \
                 `component_conflict_resolve = \"kick_old\"` under `Component \"{domain}\"`, MongooseIM \
                 `conflict_behaviour = \"kick_old\"` replace it at once."
            ),
            Self::Displaced(_) => format!(
                "Two gateways (or another component) attach to this server as {domain}: stop one of \
                 them. Several nodes of one datacenter need a server node each."
            ),
            Self::WrongPort(_) => format!(
                "Is {port} the component port? It is neither the clients' (5222) nor the servers' (5269). \
                 Prosody: `component_ports`; ejabberd: the listener with `module: ejabberd_service`; \
                 MongooseIM: `[[listen.component]]`. Correct `component.server`."
            ),
            Self::ForeignFrom(_) => format!(
                "The server only takes senders in {domain} on this stream. To pass other senders on, \
                 turn its check off: Prosody `validate_from_addresses = false` under \
                 `Component \"{domain}\"`; ejabberd and MongooseIM `check_from: false` in the \
                 component listener."
            ),
            Self::BadStanza { .. } => format!(
                "Most likely a stanza larger than the server takes: make `component.stanza_size_limit` \
                 at most the server's own limit. Prosody: `component_stanza_size_limit` (512 KiB unless \
                 set); ejabberd: `max_stanza_size` of the listener on port {port}."
            ),
            Self::Closed(_) => {
                "If the server is not being restarted, its log says why. The gateway attaches again \
                 as soon as it can."
                    .to_owned()
            }
            Self::Silent(_) | Self::Broken(_) => format!(
                "The connection to {server} is dead, or the server hangs. The gateway attaches again."
            ),
            Self::Unanswered(_) => format!(
                "Stanzas are confirmed by pings to {local}: is that, `local_host`, a domain that this \
                 server hosts?"
            ),
            Self::Unreadable(_) => {
                "The gateway closed the stream and attaches again. This is a fault of the server, or \
                 of the gateway: please report it."
                    .to_owned()
            }
            Self::Ended { .. } => "The server's log may say more.".to_owned(),
        }
    }
}

/// The server has the shared domain, so its port and secret are right: this
/// domain is what it lacks.
fn service_advice(domain: &Host, port: u16) -> String {
    format!(
        "{domain} is a service of the shared domain, and this server does not know it as a \
         component: its users can't reach the service until it does. Prosody: add `Component \
         \"{domain}\"` with `component_secret = \"…\"` (the secret of the shared domain's \
         component), then reload and activate it; ejabberd: add `\"{domain}\": {{password: …}}` \
         to the `hosts` of the `ejabberd_service` listener on port {port}, then reload. The gateway \
         attaches by itself as soon as it can."
    )
}

#[cfg(test)]
mod tests {
    use super::super::failure::Phase;
    use super::super::failure::tests::classify;
    use super::*;

    #[test]
    fn advice_names_the_setting_of_each_server() {
        let server = Endpoint {
            host: "127.0.0.1".to_owned(),
            port: 5347,
        };
        let (domain, local) = (
            Host::new("example.test").unwrap(),
            Host::new("dc1.test").unwrap(),
        );
        let subject = Subject {
            server: &server,
            domain: &domain,
            is_service: false,
            local: &local,
        };
        for (failure, expected) in [
            (
                Failure::ConnectionRefused,
                ["component_ports = { 5347 }", "ejabberd_service"],
            ),
            (
                classify("not-authorized", Phase::Attaching),
                ["component_secret", "hosts: {\"example.test\""],
            ),
            (
                classify("host-unknown", Phase::Attaching),
                ["Component \"example.test\"", "hosts"],
            ),
            (
                classify("conflict", Phase::Attaching),
                ["component_conflict_resolve", "conflict_behaviour"],
            ),
            (
                classify("invalid-from", Phase::Attached),
                ["validate_from_addresses", "check_from"],
            ),
            (
                classify("not-well-formed", Phase::Attached),
                ["component_stanza_size_limit", "max_stanza_size"],
            ),
        ] {
            let advice = failure.advice(subject);
            for part in expected {
                assert!(advice.contains(part), "{part} is not in: {advice}");
            }
        }
    }

    #[test]
    fn a_service_that_the_server_does_not_know_comes_with_what_to_paste() {
        let server = Endpoint {
            host: "127.0.0.1".to_owned(),
            port: 5347,
        };
        let (domain, local) = (
            Host::new("muc.example.test").unwrap(),
            Host::new("dc1.test").unwrap(),
        );
        // Prosody says the one, ejabberd the other.
        for condition in ["host-unknown", "not-authorized"] {
            let advice = classify(condition, Phase::Attaching).advice(Subject {
                server: &server,
                domain: &domain,
                is_service: true,
                local: &local,
            });
            for part in [
                "Component \"muc.example.test\"",
                "component_secret",
                "\"muc.example.test\": {password: …}",
                "port 5347",
            ] {
                assert!(advice.contains(part), "{part} is not in: {advice}");
            }
            assert!(!advice.contains("global_host"), "{advice}");
        }
    }
}
