//! All layers together, and the reference file compared with the options.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::kind::OptionKind;
use super::option::{Fallback, OptionSpec};
use super::root::options;
use super::*;
use crate::host::Host;

mod reference;

/// The mandatory options, with links over plain TCP, as flags.
fn flags() -> BTreeMap<&'static str, String> {
    [
        ("global_host", "example.com"),
        ("local_host", "dc1.example.com"),
        ("sessions.backend", "redis"),
        ("redis.url", "redis://127.0.0.1"),
        ("connections.tls.enabled", "false"),
    ]
    .map(|(key, text)| (key, text.to_owned()))
    .into()
}

/// Writes a file in a folder of its own, which must live as long as the test.
fn file(text: &str) -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("component.toml");
    std::fs::write(&path, text).unwrap();
    (folder, path)
}

fn inputs(path: &Path, variables: &[(&str, &str)], more_flags: &[(&'static str, &str)]) -> Inputs {
    let mut flags = flags();
    flags.extend(
        more_flags
            .iter()
            .map(|(key, text)| (*key, (*text).to_owned())),
    );
    Inputs {
        file: Some(path.to_owned()),
        flags,
        environment: variables
            .iter()
            .map(|(name, text)| ((*name).to_owned(), text.into()))
            .collect(),
    }
}

#[test]
fn a_flag_beats_a_variable_beats_the_file_beats_the_default() {
    let (_folder, path) = file(
        "component.secret = \"hunter2\"\n\
         [bounce]\nresend_after_ms = 1\nmax_retries = 1\nmax_bytes = 1000001\n",
    );
    let inputs = inputs(
        &path,
        &[
            ("STRAIT_BOUNCE_MAX_RETRIES", "2"),
            ("STRAIT_BOUNCE_MAX_BYTES", "1000002"),
            ("STRAIT_NODE", ""),
        ],
        &[("bounce.max_bytes", "1000003")],
    );
    let config = Config::load(&inputs).unwrap().config;
    assert_eq!(config.message_ttl, 4);
    assert_eq!(config.bounce.resend_after, Duration::from_millis(1));
    assert_eq!(config.bounce.max_retries, 2);
    assert_eq!(config.bounce.max_bytes, 1_000_003);
    assert!(
        !config.node.is_empty(),
        "an empty variable is none, and the host name holds"
    );
}

#[test]
fn a_stronger_secret_replaces_a_weaker_one() {
    let (folder, path) = file("component.secret = \"hunter2\"\ncomponent.server = \"xmpp:1\"\n");
    let secret_file = folder.path().join("secret");
    std::fs::write(&secret_file, " hunter3 \nrest\n").unwrap();
    let by_flag = [("component.secret_file", secret_file.to_str().unwrap())];
    let secret =
        |inputs: &Inputs| Config::load(inputs).map(|loaded| loaded.config.component.secret);
    for (variables, flags, expected) in [
        (&[][..], &[][..], "hunter2"),
        (&[("STRAIT_COMPONENT_SECRET", "hunter4")], &[], "hunter4"),
        (
            &[("STRAIT_COMPONENT_SECRET", "hunter4")],
            &by_flag,
            "hunter3",
        ),
        (&[], &by_flag, "hunter3"),
    ] {
        let secret = secret(&inputs(&path, variables, flags)).unwrap();
        assert_eq!(secret.reveal(), expected);
    }
}

#[test]
fn defaults_are_those_of_the_design() {
    let (_folder, path) = file("component.secret = \"hunter2\"\n");
    let config = Config::load(&inputs(&path, &[], &[])).unwrap().config;
    let seconds = Duration::from_secs;
    assert_eq!(config.message_ttl, 4);
    assert_eq!(config.hosts_refresh_interval, seconds(3));
    assert_eq!(config.component.server.to_string(), "127.0.0.1:5347");
    assert_eq!(config.component.stanza_size_limit, 524_288);
    assert_eq!(
        config.redis.unwrap().times(),
        Times {
            expire_after: seconds(120),
            refresh_after: seconds(60)
        }
    );
    assert_eq!(config.mesh.times().expire_after, seconds(120));
    assert_eq!(config.mesh.times().refresh_after, seconds(60));
    let Cache {
        cache_missed,
        domain_lifetime,
        jid_lifetime,
        max_jids,
    } = Cache::default();
    assert_eq!(
        (cache_missed, domain_lifetime, jid_lifetime, max_jids),
        (true, seconds(600), seconds(5), 10_000)
    );
    let Bounce {
        enabled,
        resend_after,
        max_retries,
        max_bytes,
    } = Bounce::default();
    assert_eq!(
        (enabled, resend_after, max_retries, max_bytes),
        (true, Duration::from_millis(200), 4, 64 << 20)
    );
    assert_eq!(config.presence.unavailable_after, seconds(30));
    let links = config.connections;
    assert_eq!(links.endpoints, ["dc1.example.com:5555".parse().unwrap()]);
    assert_eq!(links.advertised_endpoints, None);
    assert_eq!(links.connections_per_endpoint, 1);
    assert_eq!(links.endpoint_refresh_interval, seconds(60));
    assert_eq!(links.endpoint_refresh_interval_when_empty, seconds(3));
    assert_eq!(links.disabled_gc_interval, seconds(60));
    assert_eq!((links.queue_bytes, links.max_wait), (64 << 20, seconds(30)));
    assert_eq!(config.admin.listen, None);
    assert_eq!(
        (config.log.level.as_str(), config.log.format),
        ("info", LogFormat::Text)
    );
}

#[test]
fn every_key_and_every_flag_reaches_its_option() {
    for option in options() {
        let refusals = |inputs: &Inputs| Config::load(inputs).map(|_| ()).unwrap_err().to_string();
        // A value that no kind accepts shows that the layer reaches the option.
        let bad = if option.never.is_some() { "a:1" } else { "" };
        let (_folder, empty) = file("");
        if option.flag().is_some()
            && option.kind != OptionKind::Endpoints
            && !option.kind.has_entries()
        {
            let said = refusals(&inputs(&empty, &[], &[(option.key, bad)]));
            assert!(
                said.contains(&format!("--{}: ", option.flag().unwrap())),
                "{}: {said}",
                option.key
            );
        }
        let (_folder, path) = file(&format!("{} = {{ x = 1 }}\n", option.key));
        let said = refusals(&inputs(&path, &[], &[]));
        assert!(
            said.contains(&format!("component.toml:1: {}: ", option.key)),
            "{}: {said}",
            option.key
        );
    }
}

#[test]
fn a_wrong_variable_is_named() {
    let (_folder, path) = file("component.secret = \"hunter2\"\n");
    for option in
        options().filter(|option| matches!(option.kind, OptionKind::Number(_) | OptionKind::Bool))
    {
        let name = option.variable();
        let problems = Config::load(&inputs(&path, &[(&name, "x")], &[])).map(|_| ());
        // A flag of the same option is stronger but does not hide the mistake.
        let said = problems.unwrap_err().to_string();
        assert_eq!(said, format!("{name}: is `x`; allowed: {}", option.kind));
    }
}

#[test]
fn an_unknown_variable_is_a_warning() {
    let (_folder, path) = file("component.secret = \"hunter2\"\n");
    let loaded = Config::load(&inputs(
        &path,
        &[("STRAIT_PORT", "tcp://10.0.0.1:5555")],
        &[],
    ))
    .unwrap();
    let warnings: Vec<_> = loaded.warnings.iter().map(ToString::to_string).collect();
    assert!(
        warnings
            .iter()
            .any(|warning| warning.starts_with("STRAIT_PORT: is no option")),
        "{warnings:?}"
    );
}

#[test]
fn no_secret_shows_in_debug_output() {
    let (_folder, path) =
        file("component.secret = \"hunter2\"\nredis.url = \"redis://:hunter3@127.0.0.1\"\n");
    let mut inputs = inputs(
        &path,
        &[("STRAIT_REDIS_URL", "redis://:hunter4@127.0.0.1")],
        &[],
    );
    inputs.flags.remove("redis.url");
    let loaded = Config::load(&inputs).unwrap();
    assert_eq!(
        loaded.config.redis.as_ref().unwrap().url.reveal(),
        "redis://:hunter4@127.0.0.1"
    );
    let shown = format!("{loaded:?}{loaded:#?}");
    assert!(
        shown.contains("***") && !shown.contains("hunter"),
        "{shown}"
    );
}

#[test]
fn services_come_from_the_file_or_in_one_word_each() {
    let (_folder, path) = file(
        "component.secret = \"hunter2\"\n\
         [[services]]\ndomain = \"MUC.example.com\"\nlocal = \"conference.dc1.example.com\"\n\
         [[services]]\ndomain = \"upload.example.com\"\nhidden = true\n",
    );
    let host = |name: &str| Host::new(name).unwrap();
    let service = |domain: &str, local: Option<&str>, hidden| ServiceConfig {
        domain: host(domain),
        local: local.map(host),
        hidden,
    };
    let services = |inputs: &Inputs| Config::load(inputs).map(|loaded| loaded.config.services);
    let of_file = vec![
        service("muc.example.com", Some("conference.dc1.example.com"), false),
        service("upload.example.com", None, true),
    ];
    assert_eq!(services(&inputs(&path, &[], &[])), Ok(of_file));
    let text = "a.example.com=a.test:hidden, b.example.com";
    let in_words = vec![
        service("a.example.com", Some("a.test"), true),
        service("b.example.com", None, false),
    ];
    let variable = [("STRAIT_SERVICES", text)];
    assert_eq!(
        services(&inputs(&path, &variable, &[])),
        Ok(in_words.clone())
    );
    let flag = [("services", text)];
    assert_eq!(services(&inputs(&path, &[], &flag)), Ok(in_words));
    let none = [("services", "")];
    assert_eq!(services(&inputs(&path, &variable, &none)), Ok(Vec::new()));
}

#[test]
fn a_service_in_one_word_is_refused_by_the_flag_or_the_variable() {
    let (_folder, path) = file("component.secret = \"hunter2\"\n");
    let refusals = |inputs: &Inputs| Config::load(inputs).map(|_| ()).unwrap_err().to_string();
    let said = refusals(&inputs(&path, &[], &[("services", "muc.example.org")]));
    assert!(
        said.starts_with("--services: is `muc.example.org`;"),
        "{said}"
    );
    let said = refusals(&inputs(
        &path,
        &[("STRAIT_SERVICES", "a.example.com=dc1.example.com")],
        &[],
    ));
    assert!(
        said.starts_with("STRAIT_SERVICES: is `dc1.example.com`, which is local_host"),
        "{said}"
    );
    let said = refusals(&inputs(&path, &[("STRAIT_SERVICES", "a:visible")], &[]));
    assert!(
        said.starts_with("STRAIT_SERVICES: is `a:visible`"),
        "{said}"
    );
}

#[test]
fn every_option_has_its_own_flag_and_variable() {
    let flags: Vec<_> = options().filter_map(OptionSpec::flag).collect();
    let secrets = options()
        .filter(|option| option.kind == OptionKind::Secret)
        .count();
    assert_eq!(secrets, 3);
    assert_eq!(flags.len() + secrets, options().count());
    assert_eq!(
        flags.iter().collect::<BTreeSet<_>>().len(),
        flags.len(),
        "two options share a flag"
    );
    let variables: BTreeSet<_> = options().map(OptionSpec::variable).collect();
    assert_eq!(
        variables.len(),
        options().count(),
        "two options share a variable"
    );
    assert!(variables.contains("STRAIT_CONNECTIONS_TLS_CERTFILE"));
    assert!(flags.contains(&"connections-tls-certfile".to_owned()));
}

#[test]
fn defaults_are_valid_and_usual() {
    for option in options() {
        if let Fallback::Value(text) = option.default {
            let value = option.kind.read_text(text).expect(option.key);
            assert_eq!(option.kind.unusual(&value), None, "{}", option.key);
        }
    }
}

#[test]
fn a_misspelt_key_finds_its_option() {
    for (wrong, right) in [
        ("bounce.max_retrys", "bounce.max_retries"),
        ("certfile", "connections.tls.certfile"),
        ("conections", "connections"),
        ("connections.tls.certifle", "connections.tls.certfile"),
        ("global_hots", "global_host"),
        ("redis.uri", "redis.url"),
        ("colour", ""),
    ] {
        let (_folder, path) = file(&format!("{wrong} = 1\n"));
        let said = Config::load(&inputs(&path, &[], &[]))
            .map(|_| ())
            .unwrap_err()
            .to_string();
        let meant = match right {
            "" => "`strait run --help`".to_owned(),
            right => format!("did you mean `{right}`?"),
        };
        assert!(said.contains(&meant), "{wrong}: {said}");
    }
}

#[test]
fn without_a_name_the_first_file_that_exists_is_read() {
    let (_folder, path) = file("");
    let here = path.to_str().unwrap();
    let mut inputs = Inputs::default();
    assert_eq!(
        inputs.config_file(&["nowhere.toml", here]),
        Some(path.clone())
    );
    assert_eq!(inputs.config_file(&[here, "/dev/null"]), Some(path.clone()));
    assert_eq!(inputs.config_file(&["nowhere.toml"]), None);
    inputs.file = Some("named.toml".into());
    assert_eq!(inputs.config_file(&[here]), Some("named.toml".into()));
}

#[test]
fn a_folder_whose_name_is_not_utf8_takes_absolute_paths_only() {
    use std::os::unix::ffi::OsStrExt;

    let folder = tempfile::tempdir().unwrap();
    let strange = folder.path().join(std::ffi::OsStr::from_bytes(b"\xff"));
    std::fs::create_dir(&strange).unwrap();
    let path = strange.join("component.toml");
    let secret = folder.path().join("secret");
    std::fs::write(&secret, "hunter2\n").unwrap();
    let load = |secret_file: &str| {
        std::fs::write(
            &path,
            format!("component.secret_file = \"{secret_file}\"\n"),
        )
        .unwrap();
        let loaded = Config::load(&inputs(&path, &[], &[]));
        loaded.map(|_| ()).map_err(|problems| problems.to_string())
    };
    assert_eq!(load(secret.to_str().unwrap()), Ok(()));
    let said = load("secret").unwrap_err();
    assert!(
        said.contains(":1: component.secret_file: stands in a folder"),
        "{said}"
    );
}

const SECRET_ONLY: &str = "component.secret = \"hunter2\"\n";

#[test]
fn peers_come_from_the_file_or_in_one_word_each() {
    let text = "[[peers]]\nhost = \"dc2.example.com\"\n\
                [[peers]]\nhost = \"DC3.example.com\"\nservices = [\"muc.example.com\"]\n";
    let in_words = "dc2.example.com, dc3.example.com=muc.example.com+bot.example.com";
    let peers = |inputs: &Inputs| Config::load(inputs).unwrap().config.peers;
    let host = |name: &str| Host::new(name).unwrap();
    let (_folder, path) = file(&format!("{SECRET_ONLY}{text}"));
    let (dc2, dc3, muc) = (
        host("dc2.example.com"),
        host("dc3.example.com"),
        host("muc.example.com"),
    );
    for listed in [
        peers(&inputs(&path, &[], &[])),
        peers(&inputs(&path, &[("STRAIT_PEERS", in_words)], &[])),
    ] {
        let own = host("dc1.example.com");
        assert!(listed.admits(&dc2) && listed.admits(&dc3) && listed.admits(&own));
        assert!(!listed.admits(&host("dc4.example.com")));
        assert!(listed.may_offer(&dc2, &muc) && listed.may_offer(&dc3, &muc));
        assert!(!listed.may_offer(&dc3, &host("upload.example.com")));
    }
    let (_folder, path) = file(SECRET_ONLY);
    assert!(peers(&inputs(&path, &[], &[])).admits(&host("dc4.example.com")));
    for (text, said) in [
        ("[[peers]]\n", "has an entry without a host"),
        (
            "[[peers]]\nhost = \"dc2.example.com\"\nservice = []\n",
            "unknown key `service`",
        ),
        ("[[peers]]\nhost = \"a b\"\n", "peers"),
        (
            "[[peers]]\nhost = \"dc2.example.com\"\n[[peers]]\nhost = \"dc2.example.com\"\n",
            "has dc2.example.com twice",
        ),
    ] {
        let (_folder, path) = file(&format!("{SECRET_ONLY}{text}"));
        let error = Config::load(&inputs(&path, &[], &[]))
            .unwrap_err()
            .to_string();
        assert!(error.contains(said), "{error}");
    }
}
