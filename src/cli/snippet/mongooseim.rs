//! MongooseIM: parts of its mongooseim.toml.

use strait::config::{Endpoint, MongooseImConfig};

use super::{Interface, Wish, interface, quoted};

/// The parts.
pub(super) fn snippet(wish: &Wish) -> String {
    let local = &wish.config.local_host;
    format!(
        "# What strait needs of the MongooseIM of {local}, printed by `strait snippet mongooseim`:\n\
         # parts of mongooseim.toml. Each goes where that section is; then restart MongooseIM.\n\
         \n\
         # In general.routing_modules, which has both unless it was changed:\n\
         #   \"mongoose_router_external_localnode\", \"mongoose_router_external\"\n\
         \n\
         {component}\
         {sessions}",
        component = component(wish),
        sessions = match &wish.config.control.mongooseim {
            Some(mongooseim) => graphql(wish, mongooseim),
            None => without_graphql(wish),
        },
    )
}

/// One listener serves the shared domain and all services: any domain may attach.
fn component(wish: &Wish) -> String {
    let component = &wish.config.component;
    format!(
        "[[listen.component]]\n  port = {port}\n  ip_address = {ip}\n  password = {secret}\n  \
         check_from = {check}\n  conflict_behaviour = {conflict}\n  shaper = \"strait\"\n\
         \n\
         # A shaper as small as that of the shipped configuration lets 120 messages through a second.\n\
         [shaper.strait]\n  max_rate = 100_000_000\n",
        port = component.server.port,
        ip = address(&component.server),
        secret = quoted(&wish.component_secret()),
        check = !component.foreign_from,
        conflict = quoted(wish.conflict("disconnect")),
    )
}

fn address(endpoint: &Endpoint) -> String {
    match interface(endpoint) {
        Interface::Address(address) => quoted(&address.to_string()),
        Interface::Named => {
            "\"0.0.0.0\"  # better: the one address that the gateway connects to".to_owned()
        }
    }
}

/// The admin interface that `[control.mongooseim]` asks.
fn graphql(wish: &Wish, mongooseim: &MongooseImConfig) -> String {
    // Whatever can't be read from the URL, which was checked, is the listener's default.
    let url = reqwest::Url::parse(&mongooseim.url).ok();
    let url = url.as_ref();
    let port = url.and_then(reqwest::Url::port_or_known_default);
    let host = url.and_then(reqwest::Url::host_str).unwrap_or_default();
    let path = url.map_or("/api/graphql", reqwest::Url::path);
    let endpoint = Endpoint {
        host: host.to_owned(),
        port: port.unwrap_or(5551),
    };
    let tls = match url.map(reqwest::Url::scheme) {
        Some("https") => "  # And [listen.http.tls], for the URL begins with https.\n",
        _ => "",
    };
    format!(
        "\n# It tells who is online, and must be reachable for the gateway alone.\n\
         [[listen.http]]\n  port = {port}\n  ip_address = {ip}\n{tls}\n  \
         [[listen.http.handlers.mongoose_graphql_handler]]\n    host = {host}\n    path = {path}\n    \
         schema_endpoint = \"admin\"\n    username = {username}\n    password = {password}\n",
        port = endpoint.port,
        ip = address(&endpoint),
        host = quoted(host),
        path = quoted(path),
        username = quoted(&mongooseim.username),
        password = quoted(&wish.secret("control.mongooseim.password", &mongooseim.password)),
    )
}

fn without_graphql(wish: &Wish) -> String {
    format!(
        "\n# MongooseIM tells who is online by its admin GraphQL: set [control.mongooseim] in\n\
         # component.toml, and this prints the listener for it. Without, the gateway only sees\n\
         # who has a contact under {}.\n",
        wish.config.global_host
    )
}

#[cfg(test)]
mod tests {
    use super::super::tests::wish;
    use super::*;

    const GRAPHQL: &str = "[control.mongooseim]\nurl = 'http://127.0.0.1:5552/admin/graphql'\n\
                           username = 'gw'\npassword = 'x\"y'\n";

    #[test]
    fn it_is_toml() {
        let table: toml::Table = snippet(&wish(GRAPHQL)).parse().unwrap();
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
        let text = snippet(&wish(""));
        assert!(text.contains("[control.mongooseim]"), "{text}");
        assert!(!text.contains("listen.http]]"), "{text}");
    }
}
