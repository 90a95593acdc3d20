//! `strait snippet`: what the local server needs for this configuration, ready
//! to be pasted into the server's own.
//!
//! The tests start their servers from what this prints.

mod ejabberd;
mod mongooseim;
mod prosody;

use std::net::{IpAddr, Ipv4Addr};

use clap::{Arg, ArgAction, ArgMatches};
use strait::config::{Config, Endpoint, Loaded, Secret, ServiceConfig};
use strait::host::Host;

const SERVERS: [&str; 3] = ["prosody", "ejabberd", "mongooseim"];

/// What to print, and for what.
struct Wish {
    config: Config,
    /// Services of other datacenters that this server's users are to reach.
    remote_services: Vec<Host>,
    /// Whether a second gateway of this datacenter is to wait for the first
    /// one's end.
    standby: bool,
    with_secrets: bool,
}

/// Where a server is to listen.
enum Interface {
    Address(IpAddr),
    /// The option has a name, which only the server's machine can look up.
    Named,
}

/// Its arguments, besides the options of every configured command.
pub fn args() -> [Arg; 4] {
    [
        Arg::new("for")
            .value_name("SERVER")
            .value_parser(SERVERS)
            .required(true)
            .help("Which XMPP server it is for"),
        Arg::new("with-secrets")
            .long("with-secrets")
            .action(ArgAction::SetTrue)
            .help("Print the secrets too, instead of words in their place"),
        Arg::new("remote-service")
            .long("remote-service")
            .value_name("DOMAIN")
            .action(ArgAction::Append)
            .value_parser(|text: &str| Host::new(text).map_err(|error| error.to_string()))
            .help("A service of another datacenter that this server's users are to reach; can be repeated"),
        Arg::new("standby")
            .long("standby")
            .action(ArgAction::SetTrue)
            .help("For two gateways, of which the second takes over when the first is gone"),
    ]
}

/// Prints it.
///
/// # Errors
/// When the server can't do what is wished for.
pub fn run(loaded: Loaded, matches: &ArgMatches) -> anyhow::Result<()> {
    for warning in &loaded.warnings {
        eprintln!("warning: {warning}");
    }
    let remote = matches.get_many::<Host>("remote-service");
    let wish = Wish {
        config: loaded.config,
        remote_services: remote.into_iter().flatten().cloned().collect(),
        standby: matches.get_flag("standby"),
        with_secrets: matches.get_flag("with-secrets"),
    };
    let server = matches.get_one::<String>("for").map(String::as_str);
    let text = match server {
        Some("ejabberd") => ejabberd::snippet(&wish)?,
        Some("mongooseim") => mongooseim::snippet(&wish),
        _ => prosody::snippet(&wish),
    };
    print!("{text}");
    Ok(())
}

impl Wish {
    /// The domains under which the gateway attaches with `component.secret`,
    /// each once: the shared one first.
    fn streams(&self) -> Vec<&Host> {
        let own = |service: &&ServiceConfig| service.local.is_none();
        let (own, translated): (Vec<_>, Vec<_>) = self.config.services.iter().partition(own);
        let mut taken: Vec<&Host> = own.iter().map(|service| &service.domain).collect();
        let mut streams = vec![&self.config.global_host];
        let translated = translated.iter().map(|service| &service.domain);
        // A list for all datacenters may name one that is here.
        for domain in translated.chain(&self.remote_services) {
            if !taken.contains(&domain) {
                taken.push(domain);
                streams.push(domain);
            }
        }
        streams
    }

    /// `secret`, or words in its place, as which it is refused.
    fn secret(&self, option: &str, secret: &Secret) -> String {
        if self.with_secrets {
            secret.reveal().to_owned()
        } else {
            format!("the value of {option}")
        }
    }

    fn component_secret(&self) -> String {
        self.secret("component.secret", &self.config.component.secret)
    }

    /// How Prosody and MongooseIM treat a second stream of a domain: a gateway's
    /// own dead connection must not keep it out, but a standby must wait.
    fn conflict(&self, refuse_second: &'static str) -> &'static str {
        if self.standby {
            refuse_second
        } else {
            "kick_old"
        }
    }
}

/// Where to listen for what the gateway connects to as `endpoint`.
fn interface(endpoint: &Endpoint) -> Interface {
    match endpoint.host.parse() {
        Ok(address) => Interface::Address(address),
        Err(_) if endpoint.host == "localhost" => Interface::Address(Ipv4Addr::LOCALHOST.into()),
        Err(_) => Interface::Named,
    }
}

/// A string in double quotes, as JSON, YAML and TOML all read it.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

#[cfg(test)]
mod tests {
    use strait::config::Inputs;

    use super::*;

    const BASIC: &str = "global_host = 'example.test'\nlocal_host = 'dc1.test'\n\
                         component.secret = 'se\"cret'\nconnections.tls.enabled = false\n";

    /// A wish for a gateway with this over the basic configuration.
    pub fn wish(toml: &str) -> Wish {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("component.toml");
        std::fs::write(&file, format!("{BASIC}{toml}")).unwrap();
        let loaded = Config::load(&Inputs::of_process(Some(file), Default::default()));
        Wish {
            config: loaded
                .unwrap_or_else(|problems| panic!("{problems}"))
                .config,
            remote_services: Vec::new(),
            standby: false,
            with_secrets: true,
        }
    }

    fn all(wish: &Wish) -> [String; 3] {
        [
            prosody::snippet(wish),
            ejabberd::snippet(wish).unwrap(),
            mongooseim::snippet(wish),
        ]
    }

    #[test]
    fn secrets_are_printed_on_demand_only() {
        let mut wish = wish("control.domain = 'gwctl.dc1.test'\ncontrol.secret = 'hidden'\n");
        for text in all(&wish) {
            assert!(text.contains(r#""se\"cret""#), "{text}");
        }
        wish.with_secrets = false;
        for text in all(&wish) {
            assert!(
                !text.contains("cret\"\"") && !text.contains("hidden"),
                "{text}"
            );
            assert!(text.contains("the value of component.secret"), "{text}");
        }
    }

    #[test]
    fn the_shared_domain_gets_no_rights() {
        let wish = wish("control.domain = 'gwctl.dc1.test'\ncontrol.secret = 'x'\n");
        for text in [prosody::snippet(&wish), ejabberd::snippet(&wish).unwrap()] {
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
        let mut wish = wish(
            "services = [{ domain = 'muc.example.test', local = 'rooms.dc1.test' }, \
             { domain = 'own.example.test' }]\n",
        );
        let remote = ["bot.example.test", "muc.example.test", "own.example.test"];
        wish.remote_services = remote.map(|name| Host::new(name).unwrap()).into();
        let streams = ["example.test", "muc.example.test", "bot.example.test"];
        assert_eq!(
            wish.streams(),
            streams.map(|name| Host::new(name).unwrap()).each_ref()
        );
        for text in [prosody::snippet(&wish), ejabberd::snippet(&wish).unwrap()] {
            for domain in streams {
                assert!(text.contains(&quoted(domain)), "{domain} is not in {text}");
            }
            // That one is the server's own.
            assert!(!text.contains("\"own.example.test\""), "{text}");
        }
    }

    #[test]
    fn ports_and_addresses_are_those_that_the_gateway_connects_to() {
        let wish = wish(
            "component.server = '10.1.2.3:6000'\ncontrol.domain = 'gwctl.dc1.test'\n\
             control.secret = 'x'\ncontrol.server = 'localhost:6001'\n",
        );
        let [prosody, ejabberd, mongooseim] = all(&wish);
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
            let wish = wish(&format!("component.foreign_from = {foreign}\n"));
            let [prosody, ejabberd, mongooseim] = all(&wish);
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
        let mut wish = wish("");
        let [prosody, _, mongooseim] = all(&wish);
        assert!(
            prosody.contains("component_conflict_resolve = \"kick_old\""),
            "{prosody}"
        );
        assert!(
            mongooseim.contains("conflict_behaviour = \"kick_old\""),
            "{mongooseim}"
        );
        wish.standby = true;
        let prosody = prosody::snippet(&wish);
        assert!(
            prosody.contains("component_conflict_resolve = \"kick_new\""),
            "{prosody}"
        );
        let mongooseim = mongooseim::snippet(&wish);
        assert!(
            mongooseim.contains("conflict_behaviour = \"disconnect\""),
            "{mongooseim}"
        );
        let error = ejabberd::snippet(&wish).unwrap_err().to_string();
        assert!(error.contains("ejabberd"), "{error}");
    }
}
