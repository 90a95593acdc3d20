//! MongooseIM: its admin GraphQL for lists, parts of a TOML file for its
//! configuration.

use async_trait::async_trait;
use jid::BareJid;
use serde_json::{Value, json};
use xmpp_parsers::ns;

use super::lists;
use super::snippet::{SnippetRequest, listen_on, quoted};
use super::{
    AdminApi, AskServer, NoAnswer, ServerProblem, ServerQuirks, ServerSoftware, SessionList,
};
use crate::config::{self, Endpoint, Source};
use crate::host::Host;

/// Features of every account.
const ALWAYS: [&str; 3] = [ns::DISCO_INFO, ns::DISCO_ITEMS, ns::PING];
/// Prefixes of the features that the server has for its accounts.
const OF_ACCOUNTS: [&str; 3] = [ns::PUBSUB, "vcard-temp", "jabber:iq:last"];

/// Warning about a host whose nodes in Redis are no gateways, after its name.
pub(crate) const HOST_WITHOUT_GATEWAY: &str = "is a MongooseIM: attach a gateway there. Until then \
     its sessions, services and endpoints in Redis are ignored";

pub(super) struct MongooseIm;

#[async_trait]
impl ServerSoftware for MongooseIm {
    fn name(&self) -> &'static str {
        "MongooseIM"
    }

    fn word(&self) -> &'static str {
        "mongooseim"
    }

    fn quirks(&self, features: &[&str]) -> ServerQuirks {
        let of_accounts = |feature: &&str| OF_ACCOUNTS.iter().any(|it| feature.starts_with(it));
        let features = features.iter().copied().filter(of_accounts);
        let features = ALWAYS.into_iter().chain(features);
        ServerQuirks {
            account_features: Some(features.map(str::to_owned).collect()),
            doubles_messages_to_the_gone: true,
            ..ServerQuirks::default()
        }
    }

    fn admin_api(&self, control: &config::ControlConfig) -> Option<AdminApi> {
        let config = control.mongooseim.as_ref()?;
        Some(AdminApi {
            url: config.url.clone(),
            username: config.username.clone(),
            password: config.password.clone(),
        })
    }

    fn list_source(&self) -> Source {
        Source::GraphQl
    }

    async fn sessions(&self, server: &dyn AskServer) -> Result<SessionList, NoAnswer> {
        let field = "listSessions(domain: $domain) { user }";
        let sessions = list(server, "session", "listSessions", field).await?;
        let jids = sessions.iter().filter_map(|it| it["user"].as_str());
        Ok(lists::sessions(jids))
    }

    async fn accounts(&self, server: &dyn AskServer) -> Result<Vec<BareJid>, NoAnswer> {
        let field = "listUsers(domain: $domain)";
        let users = list(server, "account", "listUsers", field).await?;
        let local = server.local();
        let users = users.iter().filter_map(Value::as_str);
        let jids: Vec<String> = users
            .map(|user| match user.contains('@') {
                true => user.to_owned(),
                false => format!("{user}@{local}"),
            })
            .collect();
        Ok(lists::accounts(jids.iter().map(String::as_str)))
    }

    fn advice(&self, problem: ServerProblem, _domain: &Host) -> Option<String> {
        use ServerProblem as Problem;
        Some(match problem {
            Problem::NotListening(port) => format!("`[[listen.component]]` with `port = {port}`"),
            Problem::NotTheComponentPort => "`[[listen.component]]`".to_owned(),
            Problem::WrongSecret(_) => "`password` of `[[listen.component]]`".to_owned(),
            Problem::StaleConnection => {
                "`conflict_behaviour = \"kick_old\"` in `[[listen.component]]`".to_owned()
            }
            Problem::SenderCheck => "`check_from = false` in `[[listen.component]]`".to_owned(),
            Problem::NoSessionList | Problem::NoAccountList => {
                "[control.mongooseim] in component.toml, and the listener that `strait snippet \
                 mongooseim` prints for it"
                    .to_owned()
            }
            // MongooseIM lets any domain attach, takes stanzas of any size, routes
            // each domain to its own stream, and has no XEP-0356.
            Problem::UnknownDomain(_)
            | Problem::StanzaTooLarge(_)
            | Problem::RoutesOtherDomains(_)
            | Problem::TwoGateways
            | Problem::LostStanzas
            | Problem::Privileged => return None,
        })
    }

    fn snippet(&self, request: &SnippetRequest) -> Result<String, &'static str> {
        Ok(snippet(request))
    }
}

/// The list `name` in the `category` of the admin GraphQL.
async fn list(
    server: &dyn AskServer,
    category: &str,
    name: &str,
    field: &str,
) -> Result<Vec<Value>, NoAnswer> {
    // A string of GraphQL is written like one of JSON.
    let domain = Value::from(server.local().as_str()).to_string();
    let query = format!(
        "{{ {category} {{ {} }} }}",
        field.replace("$domain", &domain)
    );
    let mut answer = server.post(&json!({ "query": query })).await?;
    if let Some(message) = answer.pointer("/errors/0/message").and_then(Value::as_str) {
        return Err(NoAnswer::Refused(message.escape_debug().to_string()));
    }
    match answer
        .pointer_mut(&format!("/data/{category}/{name}"))
        .map(Value::take)
    {
        Some(Value::Array(list)) => Ok(list),
        _ => Err(NoAnswer::Strange("a list")),
    }
}

fn snippet(request: &SnippetRequest) -> String {
    let local = &request.config.local_host;
    format!(
        "# What strait needs of the MongooseIM of {local}, printed by `strait snippet mongooseim`:\n\
         # parts of mongooseim.toml. Each goes where that section is; then restart MongooseIM.\n\
         \n\
         # In general.routing_modules, which has both unless it was changed:\n\
         #   \"mongoose_router_external_localnode\", \"mongoose_router_external\"\n\
         \n\
         {component}\
         {sessions}",
        component = component(request),
        sessions = match &request.config.control.mongooseim {
            Some(mongooseim) => graphql(request, mongooseim),
            None => without_graphql(request),
        },
    )
}

/// One listener serves the shared domain and all services: any domain may attach.
fn component(request: &SnippetRequest) -> String {
    let component = &request.config.component;
    format!(
        "[[listen.component]]\n  port = {port}\n  ip_address = {ip}\n  password = {secret}\n  \
         check_from = {check}\n  conflict_behaviour = {conflict}\n  shaper = \"strait\"\n\
         \n\
         # A shaper as small as that of the shipped configuration lets 120 messages through a second.\n\
         [shaper.strait]\n  max_rate = 100_000_000\n",
        port = component.server.port,
        ip = address(&component.server),
        secret = quoted(&request.component_secret()),
        check = !component.foreign_from,
        conflict = quoted(request.conflict("disconnect")),
    )
}

fn address(endpoint: &Endpoint) -> String {
    let (ip, remark) = listen_on(endpoint, "0.0.0.0", "#");
    quoted(&ip) + &remark
}

/// The admin interface that `[control.mongooseim]` queries.
fn graphql(request: &SnippetRequest, mongooseim: &config::MongooseImConfig) -> String {
    let Ok(url) = reqwest::Url::parse(&mongooseim.url) else {
        // The configuration refuses that.
        return String::new();
    };
    let endpoint = Endpoint {
        host: url.host_str().unwrap_or_default().to_owned(),
        port: url.port_or_known_default().unwrap_or_default(),
    };
    let tls = match url.scheme() {
        "https" => "  # And [listen.http.tls], for the URL begins with https.\n",
        _ => "",
    };
    let password = request.secret("control.mongooseim.password", &mongooseim.password);
    format!(
        "\n# It tells who is online, and must be reachable for the gateway alone.\n\
         [[listen.http]]\n  port = {port}\n  ip_address = {ip}\n{tls}\n  \
         [[listen.http.handlers.mongoose_graphql_handler]]\n    host = {host}\n    path = {path}\n    \
         schema_endpoint = \"admin\"\n    username = {username}\n    password = {password}\n",
        port = endpoint.port,
        ip = address(&endpoint),
        host = quoted(&endpoint.host),
        path = quoted(url.path()),
        username = quoted(&mongooseim.username),
        password = quoted(&password),
    )
}

fn without_graphql(request: &SnippetRequest) -> String {
    format!(
        "\n# MongooseIM tells who is online by its admin GraphQL: set [control.mongooseim] in\n\
         # component.toml, and this prints the listener for it. Without, the gateway only sees\n\
         # who has a contact under {}.\n",
        request.config.global_host
    )
}

#[cfg(test)]
mod tests {
    use super::super::tests::request;
    use super::*;

    const GRAPHQL: &str = "[control.mongooseim]\nurl = 'http://127.0.0.1:5552/admin/graphql'\n\
                           username = 'gw'\npassword = 'x\"y'\n";

    #[test]
    fn it_is_toml() {
        let table: toml::Table = snippet(&request(GRAPHQL)).parse().unwrap();
        let component = &table["listen"]["component"][0];
        assert_eq!(component["port"].as_integer(), Some(5347));
        assert_eq!(component["password"].as_str(), Some("se\"cret"));
        assert!(
            table["shaper"]
                .get(component["shaper"].as_str().unwrap())
                .is_some()
        );
        let http = &table["listen"]["http"][0];
        assert_eq!(http["port"].as_integer(), Some(5552));
        let handler = &http["handlers"]["mongoose_graphql_handler"][0];
        assert_eq!(handler["host"].as_str(), Some("127.0.0.1"));
        assert_eq!(handler["path"].as_str(), Some("/admin/graphql"));
        assert_eq!(handler["password"].as_str(), Some("x\"y"));
    }

    #[test]
    fn without_the_admin_interface_it_is_said_what_is_missing() {
        let text = snippet(&request(""));
        assert!(text.contains("[control.mongooseim]"), "{text}");
        assert!(!text.contains("listen.http]]"), "{text}");
    }
}
