//! Prosody: XEP-0133 for lists, a file in Lua for its configuration.

use std::collections::{BTreeSet, HashSet};
use std::fmt::Write as _;

use async_trait::async_trait;
use jid::BareJid;

use super::lists::{accounts, execute, submit};
use super::snippet::{SnippetRequest, listen_on};
use super::{AskServer, NoAnswer, ServerProblem, ServerSoftware, SessionList};
use crate::config::Source;
use crate::host::Host;

/// The commands of XEP-0133.
const ONLINE: &str = "get-online-users-list";
const REGISTERED: &str = "get-registered-users-list";
/// The values that a session's line may show (RFC 6121 §4.7.2.1, and two of
/// Prosody's own).
const SHOWN: [&str; 7] = [
    "available",
    "unavailable",
    "away",
    "chat",
    "dnd",
    "xa",
    "[invalid!]",
];
/// Prosody's own `component_stanza_size_limit`, in bytes.
const STANZA_LIMIT: usize = 512 * 1024;

pub(super) struct Prosody;

#[async_trait]
impl ServerSoftware for Prosody {
    fn name(&self) -> &'static str {
        "Prosody"
    }

    fn word(&self) -> &'static str {
        "prosody"
    }

    fn list_source(&self) -> Source {
        Source::Admin
    }

    async fn sessions(&self, server: &dyn AskServer) -> Result<SessionList, NoAnswer> {
        let users = online(server, "0").await?;
        let details = online(server, "1").await?;
        Ok(with_details(&details, &users, server.local()))
    }

    /// The list needs mod_strait_accounts (packaging/prosody).
    async fn accounts(&self, server: &dyn AskServer) -> Result<Vec<BareJid>, NoAnswer> {
        let mut command = execute(server, REGISTERED).await?;
        if !command.completed {
            command = submit(server, REGISTERED, &command, &[("max_items", "none")]).await?;
        }
        let jids = command.values("registereduserjids")?;
        Ok(accounts(jids.iter().map(String::as_str)))
    }

    fn advice(&self, problem: ServerProblem, domain: &Host) -> Option<String> {
        use ServerProblem as Problem;
        Some(match problem {
            Problem::NotListening(port) => format!(
                "`component_ports = {{ {port} }}` and `component_interfaces` in the global section"
            ),
            Problem::NotTheComponentPort => "`component_ports`".to_owned(),
            Problem::WrongSecret(_) => format!("`component_secret` under `Component \"{domain}\"`"),
            Problem::UnknownDomain(_) => format!(
                "add `Component \"{domain}\"` with a `component_secret` (and no module name behind \
                 it; not `VirtualHost`), then reload and activate it"
            ),
            Problem::StaleConnection => format!(
                "`component_conflict_resolve = \"kick_old\"` under `Component \"{domain}\"`"
            ),
            Problem::SenderCheck => {
                format!("`validate_from_addresses = false` under `Component \"{domain}\"`")
            }
            Problem::StanzaTooLarge(_) => {
                "`component_stanza_size_limit` (512 KiB unless set)".to_owned()
            }
            Problem::Privileged => format!("remove {domain} from privileged_entities"),
            Problem::NoSessionList => format!(
                "`admins = {{ \"{domain}\" }}` and \"admin_adhoc\" in modules_enabled of the \
                 VirtualHost"
            ),
            Problem::NoAccountList => "mod_strait_accounts (packaging/prosody)".to_owned(),
            Problem::RoutesOtherDomains(_) | Problem::TwoGateways | Problem::LostStanzas => {
                return None;
            }
        })
    }

    fn snippet(&self, request: &SnippetRequest) -> Result<String, &'static str> {
        let config = &request.config;
        let (global, local) = (
            lua(config.global_host.as_str()),
            lua(config.local_host.as_str()),
        );
        Ok(format!(
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
            listening = listening(request),
            rights = rights(request),
            components = components(request),
        ))
    }
}

/// The list of online users, with a line for each session if `details` is "1".
async fn online(server: &dyn AskServer, details: &str) -> Result<Vec<String>, NoAnswer> {
    let form = execute(server, ONLINE).await?;
    if form.completed || !form.has("details") {
        return Err(NoAnswer::Strange(
            "a choice of details: only users, no sessions",
        ));
    }
    let fields = [("max_items", "all"), ("details", details)];
    let command = submit(server, ONLINE, &form, &fields).await?;
    command.values("onlineuserjids")
}

/// Reads the values of `onlineuserjids` as Prosody writes them with `details`:
/// a bare JID, then a line ` - resource: available(0), IP: [127.0.0.1]` for
/// each of its sessions.
///
/// A user writes the resource and the show in these lines, line breaks included.
/// `users` is the same list without details, in which no user can write: a user who
/// is missing in `users` is ignored.
fn with_details(values: &[String], users: &[String], local: &Host) -> SessionList {
    let mut list = SessionList::default();
    let known: HashSet<BareJid> = users
        .iter()
        .filter_map(|it| BareJid::new(it).ok())
        .collect();
    let mut user: Option<BareJid> = None;
    for line in values {
        if let Some(session) = line.strip_prefix(" - ") {
            let Some(user) = &user else {
                continue;
            };
            match resource(session).and_then(|it| user.with_resource_str(it).ok()) {
                Some(jid) if known.contains(user) => list.sessions.push(jid),
                Some(_) => {}
                None => list.unclear.push(user.clone()),
            }
        } else {
            let is_local = |it: &BareJid| it.node().is_some() && *local == *it.domain().as_str();
            let next = BareJid::new(line).ok().filter(is_local);
            // Any other line may be part of the user's above.
            if next.is_none() {
                list.unclear.extend(user.take());
            }
            user = next;
        }
    }
    list
}

/// The resource in ` - resource: available(0), IP: [127.0.0.1]`; Prosody writes the
/// parts behind the resource.
fn resource(line: &str) -> Option<&str> {
    let (rest, _address) = line.strip_suffix(']')?.rsplit_once("), IP: [")?;
    let (rest, priority) = rest.rsplit_once('(')?;
    let is_priority = priority == "-" || priority.parse::<i16>().is_ok();
    let (resource, shown) = rest.rsplit_once(": ")?;
    (is_priority && SHOWN.contains(&shown) && !resource.is_empty()).then_some(resource)
}

fn listening(request: &SnippetRequest) -> String {
    let component = &request.config.component;
    let control = request.config.control.component.as_ref();
    let control = control.map(|control| &control.server);
    let mut remark = String::new();
    let (mut ports, mut addresses) = (BTreeSet::new(), BTreeSet::new());
    for endpoint in std::iter::once(&component.server).chain(control) {
        ports.insert(endpoint.port.to_string());
        let (address, named) = listen_on(endpoint, "*", "--");
        addresses.insert(lua(&address));
        remark = remark.max(named);
    }
    let list = |items: BTreeSet<String>| items.into_iter().collect::<Vec<_>>().join(", ");
    let mut text = format!(
        "component_ports = {{ {} }}\ncomponent_interfaces = {{ {} }}{remark}\n",
        list(ports),
        list(addresses)
    );
    let limit = component.stanza_size_limit;
    if limit != STANZA_LIMIT {
        text += &format!("component_stanza_size_limit = {limit}\n");
    }
    text
}

/// The gateway's access to the list of online users: by a component that may query,
/// or by a contact in every user's roster.
fn rights(request: &SnippetRequest) -> String {
    let Some(control) = &request.config.control.component else {
        return format!(
            "  -- Everybody's presence goes to {global}, so that the gateway sees who is online.\n  \
             -- The file has these two lines:\n  \
             --   [+everybody]\n  \
             --   {global}\n  \
             modules_enabled = {{ \"groups\" }}\n  \
             groups_file = \"/etc/prosody/everybody.txt\"\n",
            global = request.config.global_host
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

fn components(request: &SnippetRequest) -> String {
    let conflict = lua(request.conflict("kick_new"));
    let component = |domain: &Host, secret: &str, more: &str| {
        format!(
            "Component {}\n  component_secret = {}\n  component_conflict_resolve = {conflict}\n{more}",
            lua(domain.as_str()),
            lua(secret),
        )
    };
    let config = &request.config;
    let secret = request.component_secret();
    let mut text = String::new();
    for domain in request.streams() {
        let foreign = config.component.foreign_from && *domain == config.global_host;
        let unchecked = if foreign {
            "  validate_from_addresses = false\n"
        } else {
            ""
        };
        text += &component(domain, &secret, unchecked);
    }
    if let Some(control) = &config.control.component {
        let secret = request.secret("control.secret", &control.secret);
        let privilege = "  modules_enabled = { \"privilege\" }\n";
        text += &component(&control.domain, &secret, privilege);
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
    use super::super::tests::{request, sessions};
    use super::*;

    fn read(values: &str, users: &str) -> SessionList {
        let local = Host::new("dc1.test").unwrap();
        let lines = |text: &str| text.lines().map(str::to_owned).collect::<Vec<_>>();
        with_details(&lines(values), &lines(users), &local)
    }

    #[test]
    fn the_list_is_read() {
        let list = read(
            "bob@dc1.test\n - r2: unavailable(-), IP: [127.0.0.1]\n - sm: available(0), IP: [127.0.0.1]\n\
             alice@dc1.test\n - at: home: dnd(-1), IP: [::1]",
            "alice@dc1.test\nbob@dc1.test",
        );
        assert_eq!(
            sessions(&list),
            [
                "bob@dc1.test/r2",
                "bob@dc1.test/sm",
                "alice@dc1.test/at: home",
            ]
        );
        assert!(list.unclear.is_empty());
    }

    #[test]
    fn nobody_can_write_somebody_else_into_the_list() {
        // Mallory's show is "away(0), IP: [1]\nalice@dc1.test\n - x: away".
        let list = read(
            "mallory@dc1.test\n - m: away(0), IP: [1]\nalice@dc1.test\n - x: away(0), IP: [127.0.0.1]",
            "mallory@dc1.test",
        );
        assert_eq!(sessions(&list), ["mallory@dc1.test/m"]);
    }

    #[test]
    fn a_user_whose_lines_cannot_be_read_is_unclear() {
        for strange in [
            "bob@dc1.test\n - r: lunch(0), IP: [127.0.0.1]",
            "bob@dc1.test\n - r: away",
            "bob@dc1.test\nanything",
        ] {
            let list = read(strange, "bob@dc1.test");
            assert!(list.sessions.is_empty(), "{strange}");
            assert_eq!(
                list.unclear,
                [BareJid::new("bob@dc1.test").unwrap()],
                "{strange}"
            );
        }
    }

    #[test]
    fn lua_reads_every_secret() {
        assert_eq!(lua("a\"b\\c\n1é"), "\"a\\\"b\\\\c\\0101é\"");
    }

    #[test]
    fn without_a_control_component_everybody_has_a_contact() {
        let text = Prosody.snippet(&request("")).unwrap();
        assert!(
            text.contains("groups_file") && !text.contains("admins"),
            "{text}"
        );
        let text = Prosody
            .snippet(&request(
                "control.domain = 'c.dc1.test'\ncontrol.secret = 'x'\n",
            ))
            .unwrap();
        assert!(text.contains("admins = { \"c.dc1.test\" }"), "{text}");
        assert!(!text.contains("groups_file"), "{text}");
    }

    #[test]
    fn a_limit_of_ones_own_is_the_servers_too() {
        let text = Prosody.snippet(&request("")).unwrap();
        assert!(!text.contains("component_stanza_size_limit"));
        let text = Prosody
            .snippet(&request("component.stanza_size_limit = 100000\n"))
            .unwrap();
        assert!(
            text.contains("component_stanza_size_limit = 100000\n"),
            "{text}"
        );
    }
}
