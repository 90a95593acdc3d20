//! The request for a snippet, and the parts that the snippets share.

use std::net::{IpAddr, Ipv4Addr};

use crate::config::{Config, Endpoint, Secret, ServiceConfig};
use crate::host::Host;

/// The contents that `strait snippet` prints, and the gateway they are for.
pub struct SnippetRequest {
    /// The gateway's configuration.
    pub config: Config,
    /// Services of other datacenters that this server's users are to reach.
    pub remote_services: Vec<Host>,
    /// Whether a second gateway of this datacenter waits until the first one
    /// has detached.
    pub standby: bool,
    /// Whether secrets are printed, instead of placeholders.
    pub with_secrets: bool,
}

impl SnippetRequest {
    /// The domains under which the gateway attaches with `component.secret`,
    /// each once: the shared one first.
    pub(super) fn streams(&self) -> Vec<&Host> {
        let own = |service: &&ServiceConfig| service.local.is_none();
        let (own, translated): (Vec<_>, Vec<_>) = self.config.services.iter().partition(own);
        let mut taken: Vec<&Host> = own.iter().map(|service| &service.domain).collect();
        let mut streams = vec![&self.config.global_host];
        let translated = translated.iter().map(|service| &service.domain);
        // A list for all datacenters may name a service that is here.
        for domain in translated.chain(&self.remote_services) {
            if !taken.contains(&domain) {
                taken.push(domain);
                streams.push(domain);
            }
        }
        streams
    }

    /// `secret`, or a placeholder, which is refused as a secret.
    pub(super) fn secret(&self, option: &str, secret: &Secret) -> String {
        if self.with_secrets {
            secret.reveal().to_owned()
        } else {
            format!("the value of {option}")
        }
    }

    pub(super) fn component_secret(&self) -> String {
        self.secret("component.secret", &self.config.component.secret)
    }

    /// How the server treats a second stream of a domain: it replaces a
    /// gateway's own dead connection, but a standby must wait.
    pub(super) fn conflict(&self, refuse_second: &'static str) -> &'static str {
        if self.standby {
            refuse_second
        } else {
            "kick_old"
        }
    }
}

/// The address to listen on for the gateway's connections to `endpoint`, and a
/// remark behind the address. `any` stands for a name, which only the server's
/// machine can look up.
pub(super) fn listen_on(endpoint: &Endpoint, any: &str, comment: &str) -> (String, String) {
    let address = match &*endpoint.host {
        "localhost" => Ok(IpAddr::from(Ipv4Addr::LOCALHOST)),
        host => host.parse(),
    };
    match address {
        Ok(address) => (address.to_string(), String::new()),
        Err(_) => (
            any.to_owned(),
            format!("  {comment} better: the one address that the gateway connects to"),
        ),
    }
}

/// A string in double quotes, as JSON, YAML and TOML all read it.
pub(super) fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}
