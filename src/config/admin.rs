//! `[admin]`

use std::net::SocketAddr;

use super::kind::OptionKind::Address;
use super::reading::Reading;
use super::section::section;

section! {
    /// The gateway's own HTTP server, for operators and monitoring.
    pub struct AdminConfig {
        /// Where /metrics, /healthz and /readyz are served, IP:port. It has no password:
        /// keep it on loopback.
        "admin.listen" listen: Option<SocketAddr> =
            Address.described("nowhere", "127.0.0.1:9090");
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
