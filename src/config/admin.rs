//! `[admin]`

use std::net::SocketAddr;

use super::kind::OptionKind::{Address, Domains};
use super::reading::Reading;
use super::section::section;
use crate::host::Host;

section! {
    /// The gateway's own HTTP server, for operators and monitoring.
    pub struct AdminConfig {
        /// Where /metrics, /healthz and /readyz are served and `strait reload` and `strait
        /// drain` are taken, IP:port. It has no password: keep it on loopback.
        "admin.listen" listen: Option<SocketAddr> =
            Address.described("nowhere", "127.0.0.1:9090");

        /// The names by which clients may address the admin server, besides localhost and IP
        /// addresses.
        ///
        /// A request for any other name is refused (421): a web page could resolve its own
        /// name to this server and read the answers in a visitor's browser (DNS rebinding).
        "admin.allowed_hosts" allowed_hosts: Option<Vec<Host>> =
            Domains.described("none", r#"["gw1.dc1.example.com"]"#);
    }
}

impl AdminConfig {
    pub(super) fn checked(reading: &mut Reading) -> Option<Self> {
        let config = Self::read(reading)?;
        if let Some(address) = config.listen.filter(|address| !address.ip().is_loopback()) {
            let what = format!(
                "{address} is not a loopback address, and the admin server has no password: whoever reaches it can read it"
            );
            reading.warn("admin.listen", what);
        }
        Some(config)
    }
}
