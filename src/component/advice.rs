//! Advice for an operator while the stream is not up.

use super::failure::StreamFailure;
use super::{Role, Settings};
use crate::servers::{self, ServerProblem};

impl StreamFailure {
    /// The configuration to change, and where.
    pub fn advice(&self, settings: &Settings) -> String {
        let (server, role) = (&settings.config.server, settings.role);
        let (domain, local) = (&settings.domain, &settings.local_host);
        let port = server.port;
        let (section, domain_option) = match role {
            Role::Shared | Role::Service => ("component", "global_host"),
            Role::Control => ("control", "control.domain"),
        };
        let advice = |problem| servers::advice(problem, domain);
        match self {
            // The server accepts the shared domain, so its port and secret are right.
            Self::WrongSecret(_) | Self::UnknownDomain(_) if role == Role::Service => format!(
                "{domain} is a service of the shared domain, and this server does not know it as a \
                 component with the shared domain's secret: its users can't reach the service until \
                 it does. {}. The gateway attaches by itself as soon as it can.",
                advice(ServerProblem::UnknownDomain(port))
            ),
            Self::Unresolvable(_) => {
                format!("Check `{section}.server` ({server}) and this machine's DNS.")
            }
            Self::ConnectionRefused => format!(
                "Is the server running, and does it accept components there? {}. If it listens \
                 elsewhere, change `{section}.server`.",
                advice(ServerProblem::NotListening(port))
            ),
            Self::Unreachable(_) | Self::TimedOut { .. } => format!(
                "Check `{section}.server` ({server}), the network and the firewalls between this \
                 gateway and the server, and that the server is not overloaded."
            ),
            Self::WrongSecret(_) => format!(
                "Make `{section}.secret` the same as the server's. {}.",
                advice(ServerProblem::WrongSecret(port))
            ),
            Self::UnknownDomain(_) => format!(
                "{}. Or correct `{domain_option}`, or the port: {port} must be the one for \
                 components, not the clients'.",
                advice(ServerProblem::UnknownDomain(port))
            ),
            Self::Conflict(_) => format!(
                "Another gateway of this datacenter may have it: then this one is its standby, tries \
                 every two seconds, and takes over when it is gone. Otherwise, is another component \
                 attached as {domain}, or does the server itself host it (as an account domain or a \
                 built-in service)? Stop that one, or take {domain} out of the server's hosts. A dead \
                 connection of the gateway's own is replaced at once with {}.",
                advice(ServerProblem::StaleConnection)
            ),
            Self::Displaced(_) => format!(
                "Two gateways (or another component) attach to this server as {domain}: stop one of \
                 them. Several nodes of one datacenter need a server node each."
            ),
            Self::WrongPort(_) => format!(
                "Is {port} the component port? It is neither the clients' (5222) nor the servers' \
                 (5269). {}. Correct `{section}.server`.",
                advice(ServerProblem::NotTheComponentPort)
            ),
            Self::ForeignFrom(_) => format!(
                "The server only takes senders in {domain} on this stream. To pass other senders on, \
                 turn its check off. {}.",
                advice(ServerProblem::SenderCheck)
            ),
            Self::BadStanza { .. } => format!(
                "Most likely a stanza larger than the server takes: make `component.stanza_size_limit` \
                 at most the server's own limit. {}.",
                advice(ServerProblem::StanzaTooLarge(port))
            ),
            Self::Closed(_) | Self::Vanished(_) => {
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

#[cfg(test)]
mod tests {
    use super::super::failure::Phase;
    use super::super::failure::tests::classify;
    use super::super::tests::settings;
    use super::*;
    use crate::host::Host;

    /// Advice about the stream of `domain` to port 5347, for `role`.
    fn advice(failure: &StreamFailure, domain: &str, role: Role) -> String {
        let settings = settings("127.0.0.1", 5347);
        failure.advice(&Settings {
            role,
            domain: Host::new(domain).unwrap(),
            ..settings
        })
    }

    #[test]
    fn advice_names_the_setting_of_each_server() {
        for (failure, expected) in [
            (
                StreamFailure::ConnectionRefused,
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
            let advice = advice(&failure, "example.test", Role::Shared);
            for part in expected {
                assert!(advice.contains(part), "{part} is not in: {advice}");
            }
        }
    }

    #[test]
    fn a_service_that_the_server_does_not_know_comes_with_what_to_paste() {
        // Prosody sends the one, ejabberd the other.
        for condition in ["host-unknown", "not-authorized"] {
            let failure = classify(condition, Phase::Attaching);
            let advice = advice(&failure, "muc.example.test", Role::Service);
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

    #[test]
    fn advice_about_the_control_component_names_its_own_options() {
        for (failure, part) in [
            (StreamFailure::ConnectionRefused, "`control.server`"),
            (
                classify("not-authorized", Phase::Attaching),
                "`control.secret`",
            ),
            (
                classify("host-unknown", Phase::Attaching),
                "`control.domain`",
            ),
        ] {
            let advice = advice(&failure, "gwctl.dc1.test", Role::Control);
            assert!(advice.contains(part), "{part} is not in: {advice}");
            assert!(!advice.contains("global_host"), "{advice}");
        }
    }
}
