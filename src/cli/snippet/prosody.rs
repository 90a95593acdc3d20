//! Prosody: a file of its own, in Lua.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use strait::config::Endpoint;

use super::{Interface, Wish, interface};

/// What Prosody takes unless told otherwise.
const STANZA_LIMIT: usize = 512 * 1024;

/// The file.
pub(super) fn snippet(wish: &Wish) -> String {
    let config = &wish.config;
    let (global, local) = (
        lua(config.global_host.as_str()),
        lua(config.local_host.as_str()),
    );
    format!(
        "-- What strait needs of the Prosody of {local}, printed by `strait snippet prosody`.\n\
         -- A file of its own that prosody.cfg.lua includes, on Debian\n\
         -- /etc/prosody/conf.d/strait.cfg.lua (root:prosody, mode 640); then restart Prosody.\n\
         -- Where another section for {local} sets one of these options too, make one of both:\n\
         -- Prosody takes the one that it reads last.\n\
         {listening}\n\
         VirtualHost {local}\n\
         {rights}\n\
         -- Never make {global} an admin or a privileged entity: remote users write under it.\n\
         {components}",
        listening = listening(wish),
        rights = rights(wish),
        components = components(wish),
    )
}

fn listening(wish: &Wish) -> String {
    let component = &wish.config.component;
    let control = wish.config.control.component.as_ref();
    let endpoints: Vec<&Endpoint> = std::iter::once(&component.server)
        .chain(control.map(|control| &control.server))
        .collect();
    let ports: BTreeSet<u16> = endpoints.iter().map(|endpoint| endpoint.port).collect();
    let ports: Vec<String> = ports.iter().map(u16::to_string).collect();
    let mut addresses: Vec<String> = Vec::new();
    let mut named = "";
    for endpoint in endpoints {
        let address = match interface(endpoint) {
            Interface::Address(address) => lua(&address.to_string()),
            Interface::Named => {
                named = "  -- better: the one address that the gateway connects to";
                lua("*")
            }
        };
        if !addresses.contains(&address) {
            addresses.push(address);
        }
    }
    let mut text = format!(
        "component_ports = {{ {} }}\ncomponent_interfaces = {{ {} }}{named}\n",
        ports.join(", "),
        addresses.join(", ")
    );
    if component.stanza_size_limit != STANZA_LIMIT {
        writeln!(
            text,
            "component_stanza_size_limit = {}",
            component.stanza_size_limit
        )
        .expect("a string grows");
    }
    text
}

/// How the gateway sees who is online: by a component that may ask, or by a
/// contact in everybody's roster.
fn rights(wish: &Wish) -> String {
    let Some(control) = &wish.config.control.component else {
        return format!(
            "  -- Everybody's presence goes to {global}, so that the gateway sees who is online.\n  \
             -- The file has these two lines:\n  \
             --   [+everybody]\n  \
             --   {global}\n  \
             modules_enabled = {{ \"groups\" }}\n  \
             groups_file = \"/etc/prosody/everybody.txt\"\n",
            global = wish.config.global_host
        );
    };
    let domain = lua(control.domain.as_str());
    format!(
        "  -- {domain} may see all presence and list who is online.\n  \
         -- \"privilege\" is one of the community's modules, in Debian's package prosody-modules.\n  \
         -- With \"strait_accounts\" too (packaging/prosody/mod_strait_accounts.lua), who never\n  \
         -- logged in has a home.\n  \
         modules_enabled = {{ \"privilege\", \"admin_adhoc\" }}\n  \
         admins = {{ {domain} }}\n  \
         privileged_entities = {{ [{domain}] = {{ presence = \"managed_entity\" }} }}\n"
    )
}

fn components(wish: &Wish) -> String {
    let mut text = String::new();
    let secret = lua(&wish.component_secret());
    let conflict = lua(wish.conflict("kick_new"));
    for domain in wish.streams() {
        write!(
            text,
            "Component {}\n  component_secret = {secret}\n  \
             component_conflict_resolve = {conflict}\n",
            lua(domain.as_str())
        )
        .expect("a string grows");
        if wish.config.component.foreign_from && *domain == wish.config.global_host {
            // component.foreign_from
            text.push_str("  validate_from_addresses = false\n");
        }
    }
    if let Some(control) = &wish.config.control.component {
        write!(
            text,
            "Component {}\n  component_secret = {}\n  component_conflict_resolve = {conflict}\n  \
             modules_enabled = {{ \"privilege\" }}\n",
            lua(control.domain.as_str()),
            lua(&wish.secret("control.secret", &control.secret))
        )
        .expect("a string grows");
    }
    text
}

/// A string as Lua reads it.
fn lua(text: &str) -> String {
    let mut quoted = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            // Three digits, so that no digit behind them is taken for one of them.
            c if c.is_ascii_control() => {
                write!(quoted, "\\{:03}", u32::from(c)).expect("a string grows");
            }
            c => quoted.push(c),
        }
    }
    quoted + "\""
}

#[cfg(test)]
mod tests {
    use super::super::tests::wish;
    use super::*;

    #[test]
    fn lua_reads_every_secret() {
        assert_eq!(lua("a\"b\\c\n1é"), "\"a\\\"b\\\\c\\0101é\"");
    }

    #[test]
    fn without_a_control_component_everybody_has_a_contact() {
        let text = snippet(&wish(""));
        assert!(
            text.contains("groups_file") && !text.contains("admins"),
            "{text}"
        );
        let text = snippet(&wish(
            "control.domain = 'c.dc1.test'\ncontrol.secret = 'x'\n",
        ));
        assert!(text.contains("admins = { \"c.dc1.test\" }"), "{text}");
        assert!(!text.contains("groups_file"), "{text}");
    }

    #[test]
    fn a_limit_of_ones_own_is_the_servers_too() {
        assert!(!snippet(&wish("")).contains("component_stanza_size_limit"));
        let text = snippet(&wish("component.stanza_size_limit = 100000\n"));
        assert!(
            text.contains("component_stanza_size_limit = 100000\n"),
            "{text}"
        );
    }
}
