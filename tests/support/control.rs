//! The control component: what the operators of the server and of the gateway
//! write.

use super::prosody;
use super::server;

/// The secret of every control component; secrets must not show in any log.
pub const SECRET: &str = "control-secret-of-the-tests";

/// The domain of the control component of `host`.
pub fn domain(host: &str) -> String {
    format!("gwctl.{host}")
}

/// `[control]` for the gateway of `host`.
pub fn config(host: &str) -> String {
    format!(
        "[control]\ndomain = '{}'\nsecret = '{SECRET}'\n",
        domain(host)
    )
}

/// The server lets the control component see all presence (XEP-0356) and list
/// who is online (XEP-0133 on Prosody, a node of disco on ejabberd).
pub fn at(server: server::Builder, host: &str) -> server::Builder {
    server.control(&domain(host), SECRET)
}

/// The same at a Prosody with only some of the modules that this takes.
pub fn at_with(prosody: prosody::Builder, host: &str, modules: &[&str]) -> prosody::Builder {
    prosody.control(&domain(host), SECRET, modules)
}
