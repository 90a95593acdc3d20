//! The control component at a Prosody: what its operator and that of the
//! gateway write.

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

/// Prosody lets the control component see all presence (XEP-0356) and list
/// who is online (XEP-0133).
pub fn at(prosody: prosody::Builder, host: &str) -> prosody::Builder {
    at_with(prosody, host, &["privilege", "admin_adhoc"])
}

/// The same with only some of the modules that this takes.
pub fn at_with(prosody: prosody::Builder, host: &str, modules: &[&str]) -> prosody::Builder {
    let domain = domain(host);
    let modules = modules.iter().map(|module| format!("{module:?}"));
    let modules = modules.collect::<Vec<_>>().join(", ");
    prosody
        .host_options(&format!(
            "modules_enabled = {{ {modules} }}\nadmins = {{ {domain:?} }}\n\
             privileged_entities = {{ [{domain:?}] = {{ presence = \"managed_entity\" }} }}"
        ))
        .component(&domain, SECRET, "modules_enabled = { \"privilege\" }")
}
