//! ejabberd: a file of its own, in YAML, that its own configuration includes.
//!
//! ejabberd refuses an option that is set twice, and its own file has some of
//! these already (`configure`, mod_configure). What is appended for the host is
//! merged instead.

use std::fmt::Write as _;

use anyhow::bail;
use strait::config::{ControlComponent, Endpoint};

use super::{Interface, Wish, interface, quoted};

/// The file.
///
/// # Errors
/// When a standby is wished for.
pub(super) fn snippet(wish: &Wish) -> anyhow::Result<String> {
    if wish.standby {
        bail!(
            "ejabberd cannot keep a standby out: it accepts two components of one domain and \
             spreads stanzas over both at random; run one gateway for it"
        );
    }
    let local = &wish.config.local_host;
    Ok(format!(
        "# What strait needs of the ejabberd of {local}, printed by `strait snippet ejabberd`.\n\
         # A file of its own (root:ejabberd, mode 640), and in ejabberd.yml the line\n\
         #   include_config_file: /etc/ejabberd/strait.yml\n\
         # Then restart ejabberd.\n\
         {listeners}\
         {host}",
        listeners = listeners(wish),
        host = host(wish),
    ))
}

/// One for each address: that of the control component may be another one.
fn listeners(wish: &Wish) -> String {
    let component = &wish.config.component;
    let secret = wish.component_secret();
    let mut shared: Vec<(&str, String)> = wish
        .streams()
        .into_iter()
        .map(|domain| (domain.as_str(), secret.clone()))
        .collect();
    let control = wish.config.control.component.as_ref();
    let secret_of = |control: &ControlComponent| wish.secret("control.secret", &control.secret);
    let apart = control.filter(|control| control.server != component.server);
    if let Some(control) = control.filter(|_| apart.is_none()) {
        shared.push((control.domain.as_str(), secret_of(control)));
    }
    let mut text = String::from(
        "# Each stream gets the stanzas of its own domain only (global_routes), and there is one\n\
         # for each domain: set no domain_balancing.\n\
         listen:\n",
    );
    if component.foreign_from && control.is_some() && apart.is_none() {
        text += "  # check_from is for all of a listener: with another port in control.server, the\n  \
                 # control component gets a listener of its own, where it stays on.\n";
    }
    text += &listener(&component.server, !component.foreign_from, &shared);
    if let Some(control) = apart {
        let only = [(control.domain.as_str(), secret_of(control))];
        text += &listener(&control.server, true, &only);
    }
    text
}

fn listener(endpoint: &Endpoint, check_from: bool, hosts: &[(&str, String)]) -> String {
    let (ip, remark) = match interface(endpoint) {
        Interface::Address(address) => (address.to_string(), ""),
        Interface::Named => (
            "::".to_owned(),
            "  # better: the one address that the gateway connects to",
        ),
    };
    let mut text = format!(
        "  - port: {port}\n    ip: {ip}{remark}\n    module: ejabberd_service\n    \
         check_from: {check_from}\n    global_routes: false\n    hosts:\n",
        port = endpoint.port,
        ip = quoted(&ip),
    );
    for (domain, secret) in hosts {
        writeln!(
            text,
            "      {}: {{password: {}}}",
            quoted(domain),
            quoted(secret)
        )
        .expect("a string grows");
    }
    text
}

fn host(wish: &Wish) -> String {
    let local = quoted(wish.config.local_host.as_str());
    let global = &wish.config.global_host;
    let domains: Vec<String> = wish
        .streams()
        .iter()
        .map(|domain| quoted(domain.as_str()))
        .collect();
    let (acl, rules, modules) = match &wish.config.control.component {
        Some(control) => control_of(control),
        None => Default::default(),
    };
    format!(
        "# While the gateway is away, its domains must not be looked for in the DNS.\n\
         host_config:\n  {local}:\n    s2s_access: strait_s2s\n\
         append_host_config:\n  {local}:\n    acl:\n      \
         strait_domains: {{server: [{domains}]}}\n\
         {acl}    access_rules:\n      \
         strait_s2s: [{{deny: strait_domains}}, {{allow: all}}]\n\
         {rules}{modules}\
         # Never give {global} rights or privileges: remote users write under it.\n\
         {contact}",
        domains = domains.join(", "),
        contact = contact(wish),
    )
}

/// What the control component may do: acl, access rules and modules.
fn control_of(control: &ControlComponent) -> (String, String, String) {
    let domain = control.domain.as_str();
    // Of all addresses there only the bare domain: `server` would allow everybody.
    let only = quoted(&format!("^{}$", domain.replace('.', "\\.")));
    (
        format!("      strait_control: {{node_regexp: {{\"^$\": {only}}}}}\n"),
        format!(
            "      # {domain} may list who is online, by mod_configure, which must be among the\n      \
             # modules; the admins keep what they may.\n      \
             configure: [{{allow: admin}}, {{allow: strait_control}}]\n      \
             strait_control: {{allow: strait_control}}\n"
        ),
        "    modules:\n      mod_privilege: {presence: {managed_entity: strait_control}}\n"
            .to_owned(),
    )
}

/// Without a control component the gateway sees those who have it as a contact.
fn contact(wish: &Wish) -> String {
    if wish.config.control.component.is_some() {
        return String::new();
    }
    let (local, global) = (&wish.config.local_host, &wish.config.global_host);
    format!(
        "# Everybody's presence must go to {global}, so that the gateway sees who is online:\n\
         #   for user in $(ejabberdctl registered_users {local}); do\n\
         #     ejabberdctl add_rosteritem $user {local} \"\" {global} Gateway Gateways from\n\
         #   done\n\
         # (by mod_admin_extra; the same for each new account).\n"
    )
}

#[cfg(test)]
mod tests {
    use super::super::tests::wish;
    use super::*;

    #[test]
    fn the_control_component_alone_may_list() {
        let text = snippet(&wish(
            "control.domain = 'gw.dc1.test'\ncontrol.secret = 'x'\n",
        ))
        .unwrap();
        assert!(
            text.contains(r#"strait_control: {node_regexp: {"^$": "^gw\\.dc1\\.test$"}}"#),
            "{text}"
        );
        assert!(
            text.contains("{allow: admin}, {allow: strait_control}"),
            "{text}"
        );
        assert!(!text.contains("add_rosteritem"), "{text}");
        let text = snippet(&wish("")).unwrap();
        assert!(
            !text.contains("configure") && text.contains("add_rosteritem"),
            "{text}"
        );
    }

    #[test]
    fn s2s_keeps_off_the_gateways_domains() {
        let text = snippet(&wish("")).unwrap();
        assert!(
            text.contains("strait_domains: {server: [\"example.test\"]}"),
            "{text}"
        );
        assert!(
            text.contains("{deny: strait_domains}, {allow: all}"),
            "{text}"
        );
    }

    #[test]
    fn a_control_component_on_its_own_port_is_always_checked() {
        let text = snippet(&wish(
            "component.foreign_from = true\ncontrol.domain = 'gw.dc1.test'\n\
             control.secret = 'x'\ncontrol.server = '127.0.0.1:5348'\n",
        ))
        .unwrap();
        let (shared, control) = text.split_once("- port: 5348").unwrap();
        assert!(shared.contains("check_from: false"), "{text}");
        assert!(control.contains("check_from: true"), "{text}");
        assert!(
            !shared.contains("gw.dc1.test") && !shared.contains("control.server"),
            "{text}"
        );
    }
}
