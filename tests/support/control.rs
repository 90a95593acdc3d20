//! The control component: the configuration of the gateway's operator. The server's part is in
//! the snippet.

use super::prosody;

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

/// A Prosody with only some of the modules that the control component needs.
pub fn with_only(prosody: prosody::Builder, modules: &[&str]) -> prosody::Builder {
    let modules = modules.iter().map(|module| format!("{module:?}"));
    let modules = modules.collect::<Vec<_>>().join(", ");
    prosody.host_options(&format!("modules_enabled = {{ {modules} }}"))
}
