use std::collections::VecDeque;

use parking_lot::Mutex;
use serde_json::json;
use xmpp_parsers::ns;

use super::snippet::quoted;
use super::*;
use crate::config::{Config, Inputs};

const BASIC: &str = "global_host = 'example.test'\nlocal_host = 'dc1.test'\n\
                     component.secret = 'se\"cret'\nconnections.tls.enabled = false\n";

/// A request for a gateway with this TOML over the basic configuration.
pub(super) fn request(toml: &str) -> SnippetRequest {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("component.toml");
    std::fs::write(&file, format!("{BASIC}{toml}")).unwrap();
    let loaded = Config::load(&Inputs::of_process(Some(file), Default::default()));
    SnippetRequest {
        config: loaded
            .unwrap_or_else(|problems| panic!("{problems}"))
            .config,
        remote_services: Vec::new(),
        standby: false,
        with_secrets: true,
    }
}

pub(super) fn sessions(list: &SessionList) -> Vec<&str> {
    list.sessions.iter().map(|jid| jid.as_str()).collect()
}

fn all(request: &SnippetRequest) -> [String; 3] {
    let snippet = |it: &&dyn ServerSoftware| it.snippet(request).unwrap();
    let all: Vec<String> = ALL.iter().map(snippet).collect();
    all.try_into().unwrap()
}

/// Answers each request of a list with the next of `answers`.
struct Scripted {
    answers: Mutex<VecDeque<Value>>,
    asked: Mutex<Vec<String>>,
    local: Host,
}

impl Scripted {
    fn new<const N: usize>(answers: [Value; N]) -> Self {
        Self {
            answers: Mutex::new(answers.into()),
            asked: Mutex::default(),
            local: Host::new("dc1.test").unwrap(),
        }
    }

    fn next(&self, asked: String) -> Result<Value, NoAnswer> {
        self.asked.lock().push(asked);
        let answer = self.answers.lock().pop_front();
        answer.ok_or(NoAnswer::Detached)
    }
}

#[async_trait]
impl AskServer for Scripted {
    async fn iq(&self, _kind: &str, payload: Element) -> Result<Element, NoAnswer> {
        let answer = self.next(String::from(&payload))?;
        let answer = format!("<iq xmlns='x'>{}</iq>", answer.as_str().unwrap());
        Ok(answer.parse().unwrap())
    }

    async fn post(&self, body: &Value) -> Result<Value, NoAnswer> {
        self.next(body["query"].as_str().unwrap().to_owned())
    }

    fn local(&self) -> &Host {
        &self.local
    }
}

fn software(word: &str) -> &'static dyn ServerSoftware {
    let found = ALL.iter().find(|it| it.word() == word);
    *found.unwrap()
}

#[tokio::test]
async fn graphql_lists_sessions_and_accounts() {
    let server = Scripted::new([
        json!({ "data": { "session": { "listSessions": [
            { "user": "Alice@DC1.test/r1" }, { "user": "carol@dc1.test" }, { "user": "@" }
        ] } } }),
        json!({ "data": { "account": { "listUsers": ["frank", "erin@dc1.test"] } } }),
        json!({ "errors": [{ "message": "no\nsuch field" }] }),
        json!({ "data": {} }),
    ]);
    let mongooseim = software("mongooseim");
    let list = mongooseim.sessions(&server).await.unwrap();
    assert_eq!(sessions(&list), ["alice@dc1.test/r1"]);
    assert_eq!(list.unclear, [BareJid::new("carol@dc1.test").unwrap()]);
    let accounts = mongooseim.accounts(&server).await.unwrap();
    assert_eq!(accounts.len(), 2);
    assert_eq!(accounts[0].as_str(), "frank@dc1.test");
    let refused = mongooseim.sessions(&server).await.unwrap_err().to_string();
    assert!(refused.contains("no\\nsuch field"), "{refused}");
    assert!(mongooseim.sessions(&server).await.is_err());
    assert_eq!(
        server.asked.lock()[0],
        "{ session { listSessions(domain: \"dc1.test\") { user } } }"
    );
}

#[tokio::test]
async fn items_list_sessions_and_ranges_of_accounts() {
    let items = |items: &str| {
        json!(format!(
            "<query xmlns='http://jabber.org/protocol/disco#items'>{items}</query>"
        ))
    };
    let server = Scripted::new([
        items("<item jid='a@dc1.test/x &amp; y'/><item jid='not a/@jid'/><item jid='b@dc1.test'/>"),
        items("<item jid='dc1.test' node='all users/1-2'/><item jid='c@dc1.test'/>"),
        items("<item jid='d@dc1.test'/>"),
    ]);
    let ejabberd = software("ejabberd");
    let list = ejabberd.sessions(&server).await.unwrap();
    assert_eq!(sessions(&list), ["a@dc1.test/x & y"]);
    assert_eq!(ejabberd.accounts(&server).await.unwrap().len(), 2);
    let asked = server.asked.lock();
    assert!(asked[2].contains("all users/1-2"), "{asked:?}");
}

#[tokio::test]
async fn commands_list_sessions_and_accounts() {
    let command = |status: &str, fields: &str| {
        json!(format!(
            "<command xmlns='http://jabber.org/protocol/commands' sessionid='s' \
             status='{status}'><x xmlns='jabber:x:data' type='form'>{fields}</x></command>"
        ))
    };
    let form = || command("executing", "<field var='details' type='boolean'/>");
    let list = |values: &str| {
        let values = values.lines();
        let values: String = values.map(|it| format!("<value>{it}</value>")).collect();
        command(
            "completed",
            &format!("<field var='onlineuserjids' type='jid-multi'>{values}</field>"),
        )
    };
    let server = Scripted::new([
        form(),
        list("a@dc1.test"),
        form(),
        list("a@dc1.test\n - r: away(0), IP: [::1]"),
        // A server that lists users only.
        list("a@dc1.test"),
        command(
            "completed",
            "<field var='registereduserjids' type='jid-multi'><value>e@dc1.test</value></field>",
        ),
    ]);
    let prosody = software("prosody");
    let list = prosody.sessions(&server).await.unwrap();
    assert_eq!(sessions(&list), ["a@dc1.test/r"]);
    let error = prosody.sessions(&server).await.unwrap_err().to_string();
    assert!(error.contains("a choice of details"), "{error}");
    assert_eq!(prosody.accounts(&server).await.unwrap().len(), 1);
    let asked = server.asked.lock();
    assert!(
        asked[1].contains("sessionid=\"s\"") || asked[1].contains("sessionid='s'"),
        "{asked:?}"
    );
}

/// The server as it answers disco#info.
fn known(name: &str) -> KnownServer {
    let info = format!(
        "<query xmlns='{}'><identity category='server' type='im' name='{name}'/>\
         <feature var='vcard-temp'/></query>",
        ns::DISCO_INFO
    );
    KnownServer::of_info(&info.parse().unwrap())
}

#[test]
fn a_software_is_recognised_by_the_name_in_its_disco_info() {
    for software in ALL {
        for name in [
            software.name().to_owned(),
            format!("Our {} 1", software.name()),
        ] {
            let found = known(&name).software().unwrap();
            assert_eq!(found.word(), software.word(), "{name}");
        }
    }
    let other = known("Openfire");
    assert_eq!(other.name.as_deref(), Some("Openfire"));
    assert!(other.software().is_none() && other.quirks == ServerQuirks::default());
}

/// MongooseIM 6.8.0 sent these features.
#[test]
fn quirks_are_those_of_the_captured_answer() {
    let capture = include_str!("../../tests/captures/mongooseim-to-component.txt");
    let line = capture.lines().find(|line| line.contains("id='d1'"));
    let (_, rest) = line.unwrap().split_once('>').unwrap();
    let info = rest.strip_suffix("</iq>").unwrap().parse().unwrap();
    let quirks = KnownServer::of_info(&info).quirks;
    assert!(quirks.doubles_messages_to_the_gone);
    let features = quirks.account_features.unwrap();
    for feature in [ns::PING, "vcard-temp", "jabber:iq:last", ns::PUBSUB] {
        assert!(features.iter().any(|f| f == feature), "{feature}");
    }
    for feature in ["msgoffline", "jabber:iq:version", "urn:xmpp:carbons:2"] {
        assert!(features.iter().all(|f| f != feature), "{feature}");
    }
}

#[test]
fn a_configured_admin_interface_names_the_software() {
    let config =
        request("[control.mongooseim]\nurl = 'http://h/api'\nusername = 'u'\npassword = 'p'\n");
    let known = KnownServer::configured(&config.config.control);
    assert_eq!(known.name.as_deref(), Some("MongooseIM"));
    assert!(known.quirks.account_features.is_some());
    let known = KnownServer::configured(&request("").config.control);
    assert_eq!(known, KnownServer::default());
}

#[test]
fn secrets_are_printed_on_demand_only() {
    let mut request = request("control.domain = 'gwctl.dc1.test'\ncontrol.secret = 'hidden'\n");
    for text in all(&request) {
        assert!(text.contains(r#""se\"cret""#), "{text}");
    }
    request.with_secrets = false;
    for text in all(&request) {
        assert!(
            !text.contains("cret\"\"") && !text.contains("hidden"),
            "{text}"
        );
        assert!(text.contains("the value of component.secret"), "{text}");
    }
}

#[test]
fn the_shared_domain_gets_no_rights() {
    let request = request("control.domain = 'gwctl.dc1.test'\ncontrol.secret = 'x'\n");
    for text in all(&request).into_iter().take(2) {
        let granting = text.lines().filter(|line| {
            ["admins", "privileged_entities", "strait_control:"]
                .iter()
                .any(|word| line.contains(word))
        });
        let granting: Vec<&str> = granting.collect();
        assert!(!granting.is_empty(), "{text}");
        for line in granting {
            assert!(!line.contains("example.test"), "{line}");
        }
    }
}

#[test]
fn every_stream_of_the_gateway_is_declared() {
    let mut request = request(
        "services = [{ domain = 'muc.example.test', local = 'rooms.dc1.test' }, \
         { domain = 'own.example.test' }]\n",
    );
    let remote = ["bot.example.test", "muc.example.test", "own.example.test"];
    request.remote_services = remote.map(|name| Host::new(name).unwrap()).into();
    let streams = ["example.test", "muc.example.test", "bot.example.test"];
    assert_eq!(
        request.streams(),
        streams.map(|name| Host::new(name).unwrap()).each_ref()
    );
    for text in all(&request).into_iter().take(2) {
        for domain in streams {
            assert!(text.contains(&quoted(domain)), "{domain} is not in {text}");
        }
        // That domain is the server's own.
        assert!(!text.contains("\"own.example.test\""), "{text}");
    }
}

#[test]
fn ports_and_addresses_are_those_that_the_gateway_connects_to() {
    let request = request(
        "component.server = '10.1.2.3:6000'\ncontrol.domain = 'gwctl.dc1.test'\n\
         control.secret = 'x'\ncontrol.server = 'localhost:6001'\n",
    );
    let [prosody, ejabberd, mongooseim] = all(&request);
    assert!(
        prosody.contains("component_ports = { 6000, 6001 }"),
        "{prosody}"
    );
    assert!(
        prosody.contains(r#"component_interfaces = { "10.1.2.3", "127.0.0.1" }"#),
        "{prosody}"
    );
    for (port, address) in [(6000, "10.1.2.3"), (6001, "127.0.0.1")] {
        let listener = format!("- port: {port}\n    ip: \"{address}\"\n");
        assert!(ejabberd.contains(&listener), "{ejabberd}");
    }
    assert!(
        mongooseim.contains("port = 6000\n  ip_address = \"10.1.2.3\""),
        "{mongooseim}"
    );
}

#[test]
fn foreign_senders_need_the_check_to_be_off() {
    for (foreign, expected) in [(false, "true"), (true, "false")] {
        let request = request(&format!("component.foreign_from = {foreign}\n"));
        let [prosody, ejabberd, mongooseim] = all(&request);
        assert_eq!(prosody.contains("validate_from_addresses = false"), foreign);
        assert!(
            ejabberd.contains(&format!("check_from: {expected}")),
            "{ejabberd}"
        );
        assert!(
            mongooseim.contains(&format!("check_from = {expected}")),
            "{mongooseim}"
        );
    }
}

#[test]
fn a_standby_waits_where_the_server_can_make_it() {
    let mut request = request("");
    let [prosody, _, mongooseim] = all(&request);
    assert!(
        prosody.contains("component_conflict_resolve = \"kick_old\""),
        "{prosody}"
    );
    assert!(
        mongooseim.contains("conflict_behaviour = \"kick_old\""),
        "{mongooseim}"
    );
    request.standby = true;
    let prosody = software("prosody").snippet(&request).unwrap();
    assert!(
        prosody.contains("component_conflict_resolve = \"kick_new\""),
        "{prosody}"
    );
    let mongooseim = software("mongooseim").snippet(&request).unwrap();
    assert!(
        mongooseim.contains("conflict_behaviour = \"disconnect\""),
        "{mongooseim}"
    );
    let error = software("ejabberd").snippet(&request).unwrap_err();
    assert!(error.contains("ejabberd"), "{error}");
}
