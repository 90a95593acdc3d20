//! ejabberd: items of XEP-0030 for lists, a file in YAML for its configuration.

use async_trait::async_trait;
use jid::BareJid;

use super::lists::{accounts, items, sessions};
use super::snippet::{SnippetRequest, listen_on, quoted};
use super::{AskServer, NoAnswer, ServerProblem, ServerQuirks, ServerSoftware, SessionList};
use crate::config::{ControlComponent, Endpoint, Source};
use crate::host::Host;

/// The nodes of all sessions and of all accounts.
const SESSIONS: &str = "online users";
const ACCOUNTS: &str = "all users";
/// The bound of nodes to query below [`ACCOUNTS`]: enough for a hundred million
/// accounts.
const NODES: usize = 10_000;

pub(super) struct Ejabberd;

#[async_trait]
impl ServerSoftware for Ejabberd {
    fn name(&self) -> &'static str {
        "ejabberd"
    }

    fn word(&self) -> &'static str {
        "ejabberd"
    }

    fn quirks(&self, _features: &[&str]) -> ServerQuirks {
        ServerQuirks {
            hides_lost_connections: true,
            ..ServerQuirks::default()
        }
    }

    fn list_source(&self) -> Source {
        Source::Disco
    }

    async fn sessions(&self, server: &dyn AskServer) -> Result<SessionList, NoAnswer> {
        let items = items(server, SESSIONS).await?;
        Ok(sessions(items.iter().map(|(jid, _)| jid.as_str())))
    }

    /// Many accounts are listed as ranges, each a node below.
    async fn accounts(&self, server: &dyn AskServer) -> Result<Vec<BareJid>, NoAnswer> {
        let mut jids = Vec::new();
        let mut nodes = vec![ACCOUNTS.to_owned()];
        let mut asked = 0;
        while let Some(node) = nodes.pop() {
            asked += 1;
            for (jid, below) in items(server, &node).await? {
                match below {
                    Some(below) if below.starts_with(ACCOUNTS) && asked + nodes.len() < NODES => {
                        nodes.push(below);
                    }
                    _ => jids.push(jid),
                }
            }
        }
        Ok(accounts(jids.iter().map(String::as_str)))
    }

    fn advice(&self, problem: ServerProblem, domain: &Host) -> Option<String> {
        use ServerProblem as Problem;
        Some(match problem {
            Problem::NotListening(port) => {
                format!("a `listen` entry with `port: {port}` and `module: ejabberd_service`")
            }
            Problem::NotTheComponentPort => {
                "the listener with `module: ejabberd_service`".to_owned()
            }
            Problem::WrongSecret(port) => format!(
                "`hosts: {{\"{domain}\": {{password: …}}}}` of the `ejabberd_service` listener on \
                 port {port} (it says not-authorized as well when {domain} is not among its `hosts`)"
            ),
            Problem::UnknownDomain(port) => format!(
                "add `\"{domain}\": {{password: …}}` to the `hosts` of the `ejabberd_service` \
                 listener on port {port}, then reload"
            ),
            Problem::SenderCheck => "`check_from: false` in the component listener".to_owned(),
            Problem::StanzaTooLarge(port) => {
                format!("`max_stanza_size` of the listener on port {port}")
            }
            Problem::RoutesOtherDomains(port) => format!(
                "set `global_routes: false` in the `ejabberd_service` listener on port {port}, and \
                 restart it"
            ),
            Problem::TwoGateways => "it does so, and it can have no standby".to_owned(),
            Problem::LostStanzas => format!(
                "it gives each to one at random where several have a domain: another component is \
                 attached as {domain}, or an earlier one whose connection is dead (stop it, or \
                 restart the server), or a module of the server's own, as mod_muc, has that name; \
                 or it has `domain_balancing` for {domain}: remove that, and restart it"
            ),
            Problem::Privileged => {
                format!("remove {domain} from mod_privilege's access rules")
            }
            Problem::NoSessionList => format!(
                "mod_configure, and an access rule `configure` that allows {domain} alone \
                 (`node_regexp`, not `server`, which allows every user there)"
            ),
            Problem::NoAccountList => "it lists them to who may `configure`".to_owned(),
            Problem::StaleConnection => return None,
        })
    }

    fn snippet(&self, request: &SnippetRequest) -> Result<String, &'static str> {
        if request.standby {
            return Err(
                "ejabberd cannot keep a standby out: it accepts two components of one domain and \
                 spreads stanzas over both at random; run one gateway for it",
            );
        }
        Ok(snippet(request))
    }
}

/// ejabberd refuses an option that is set twice, and its own file has some of these
/// already (`configure`, mod_configure). Options appended for the host are merged
/// instead.
fn snippet(request: &SnippetRequest) -> String {
    let local = &request.config.local_host;
    format!(
        "# What strait needs of the ejabberd of {local}, printed by `strait snippet ejabberd`.\n\
         # A file of its own (root:ejabberd, mode 640), and in ejabberd.yml the line\n\
         #   include_config_file: /etc/ejabberd/strait.yml\n\
         # Then restart ejabberd.\n\
         {listeners}\
         {host}",
        listeners = listeners(request),
        host = host(request),
    )
}

/// Writes a listener for each address: the control component may have another
/// address.
fn listeners(request: &SnippetRequest) -> String {
    let component = &request.config.component;
    let secret = request.component_secret();
    let hosts = request.streams().into_iter();
    let mut shared: Vec<_> = hosts.map(|domain| (domain, secret.clone())).collect();
    let mut text = String::from(
        "# Each stream gets the stanzas of its own domain only (global_routes), and there is one\n\
         # for each domain: set no domain_balancing.\n\
         listen:\n",
    );
    let mut apart = String::new();
    if let Some(control) = &request.config.control.component {
        let secret = request.secret("control.secret", &control.secret);
        let host = (&control.domain, secret);
        if control.server != component.server {
            apart = listener(&control.server, true, &[host]);
        } else {
            if component.foreign_from {
                text += "  # check_from is for all of a listener: with another port in control.server, \
                         the\n  # control component gets a listener of its own, where it stays on.\n";
            }
            shared.push(host);
        }
    }
    text + &listener(&component.server, !component.foreign_from, &shared) + &apart
}

fn listener(endpoint: &Endpoint, check_from: bool, hosts: &[(&Host, String)]) -> String {
    let (ip, remark) = listen_on(endpoint, "::", "#");
    let mut text = format!(
        "  - port: {port}\n    ip: {ip}{remark}\n    module: ejabberd_service\n    \
         check_from: {check_from}\n    global_routes: false\n    hosts:\n",
        port = endpoint.port,
        ip = quoted(&ip),
    );
    for (domain, secret) in hosts {
        let (domain, secret) = (quoted(domain.as_str()), quoted(secret));
        text += &format!("      {domain}: {{password: {secret}}}\n");
    }
    text
}

fn host(request: &SnippetRequest) -> String {
    let local = quoted(request.config.local_host.as_str());
    let global = &request.config.global_host;
    let streams = request.streams().into_iter();
    let domains: Vec<String> = streams.map(|domain| quoted(domain.as_str())).collect();
    let (acl, rules, modules) = match &request.config.control.component {
        Some(control) => rights(control),
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
        contact = contact(request),
    )
}

/// The rights of the control component: acl, access rules and modules.
fn rights(control: &ControlComponent) -> (String, String, String) {
    let domain = control.domain.as_str();
    // Only the bare domain matches: `server` would allow every address there.
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

/// Without a control component the gateway sees the users who have it as a contact.
fn contact(request: &SnippetRequest) -> String {
    if request.config.control.component.is_some() {
        return String::new();
    }
    let (local, global) = (&request.config.local_host, &request.config.global_host);
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
    use super::super::tests::request;
    use super::*;

    #[test]
    fn the_control_component_alone_may_list() {
        let text = snippet(&request(
            "control.domain = 'gw.dc1.test'\ncontrol.secret = 'x'\n",
        ));
        assert!(
            text.contains(r#"strait_control: {node_regexp: {"^$": "^gw\\.dc1\\.test$"}}"#),
            "{text}"
        );
        assert!(
            text.contains("{allow: admin}, {allow: strait_control}"),
            "{text}"
        );
        assert!(!text.contains("add_rosteritem"), "{text}");
        let text = snippet(&request(""));
        assert!(
            !text.contains("configure") && text.contains("add_rosteritem"),
            "{text}"
        );
    }

    #[test]
    fn s2s_keeps_off_the_gateways_domains() {
        let text = snippet(&request(""));
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
        let text = snippet(&request(
            "component.foreign_from = true\ncontrol.domain = 'gw.dc1.test'\n\
             control.secret = 'x'\ncontrol.server = '127.0.0.1:5348'\n",
        ));
        let (shared, control) = text.split_once("- port: 5348").unwrap();
        assert!(shared.contains("check_from: false"), "{text}");
        assert!(control.contains("check_from: true"), "{text}");
        assert!(
            !shared.contains("gw.dc1.test") && !shared.contains("control.server"),
            "{text}"
        );
    }
}
