//! `strait check` over files that are valid and files that are not, and
//! `strait run` up to the first signal.

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use rcgen::{CertificateParams, KeyPair};
use tempfile::TempDir;

/// Every secret in the fixtures begins so.
const SECRET: &str = "hunter";

/// A folder with the fixtures of `kind` and the files that they name.
fn folder(kind: &str) -> TempDir {
    let folder = TempDir::new().unwrap();
    for fixture in fixtures(kind) {
        let text = fs::read_to_string(&fixture).unwrap();
        write(
            folder.path(),
            fixture.file_name().unwrap().to_str().unwrap(),
            &text,
        );
    }
    // The last one is also the CA: nobody verifies chains here.
    for host in ["dc2", "dc1"] {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new([format!("{host}.example.com")]).unwrap();
        let cert = params.self_signed(&key).unwrap().pem();
        write(
            folder.path(),
            &format!("{host}.pem"),
            &(cert.clone() + &key.serialize_pem()),
        );
        write(folder.path(), &format!("{host}.key"), &key.serialize_pem());
        write(folder.path(), "ca.pem", &cert);
    }
    write(folder.path(), "secret", "  hunter2 \nnot this\n");
    write(folder.path(), "empty", "\nhunter2\n");
    folder
}

fn fixtures(kind: &str) -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/fixtures/config")
        .join(kind);
    let mut files: Vec<_> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    files.sort();
    files
}

fn write(folder: &Path, name: &str, text: &str) {
    let path = folder.join(name);
    fs::write(&path, text).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
}

/// The command in `folder`, with nothing of our environment.
fn strait(folder: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_strait"));
    command.current_dir(folder).env_clear().args(arguments);
    command
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

fn show(output: &Output) -> String {
    format!("{}{}", text(&output.stdout), text(&output.stderr))
}

/// Checks every fixture of `kind`: the exit code, and that its `# expect: …`
/// lines are all that standard error has.
fn check_all(kind: &str, code: i32) {
    let folder = folder(kind);
    let fixtures = fixtures(kind);
    assert!(
        fixtures.len() >= 5,
        "only {} {kind} fixtures were found",
        fixtures.len()
    );
    let mut wrong = Vec::new();
    for fixture in fixtures {
        let name = fixture.file_name().unwrap().to_str().unwrap();
        let output = strait(folder.path(), &["check", "--config", name])
            .output()
            .unwrap();
        let source = fs::read_to_string(&fixture).unwrap();
        let expected: Vec<_> = source
            .lines()
            .filter_map(|line| line.strip_prefix("# expect: "))
            .collect();
        let said = text(&output.stderr);
        if output.status.code() != Some(code) || said.lines().collect::<Vec<_>>() != expected {
            wrong.push(format!("{name} ({}):\n{said}", output.status));
        }
        assert!(
            !show(&output).contains(SECRET),
            "{name} shows a secret:\n{}",
            show(&output)
        );
        if code == 0 {
            assert_eq!(text(&output.stdout), format!("{name} is valid\n"));
        } else {
            assert!(!expected.is_empty(), "{name} expects nothing");
            assert_eq!(text(&output.stdout), "", "{name}");
        }
    }
    assert!(
        wrong.is_empty(),
        "these did not say what they should:\n\n{}",
        wrong.join("\n")
    );
}

#[test]
fn valid_files_are_valid() {
    check_all("valid", 0);
}

#[test]
fn invalid_files_are_told_line_by_line() {
    check_all("invalid", 2);
}

#[test]
fn the_reference_is_valid_as_it_stands() {
    let output = strait(Path::new(env!("CARGO_MANIFEST_DIR")), &["check"])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", show(&output));
    assert_eq!(text(&output.stdout), "component.toml is valid\n");
    let warnings = text(&output.stderr);
    assert!(
        warnings.contains("plain TCP") && warnings.contains("placeholder"),
        "{warnings}"
    );
}

#[test]
fn flags_and_a_variable_alone_suffice() {
    let folder = folder("valid");
    let arguments = [
        "check",
        "--global-host=example.com",
        "--local-host=dc1.example.com",
        "--mesh-peers=dc2.example.com:5555,[::2]:5555",
        "--connections-tls-certfile=dc1.pem",
        "--connections-tls-cacertfile=ca.pem",
        "--connections-endpoints=[::1]:5555,dc1.example.com:5555",
    ];
    let output = strait(folder.path(), &arguments)
        .env("STRAIT_COMPONENT_SECRET", "hunter2")
        .output()
        .unwrap();
    assert_eq!(show(&output), "the configuration is valid\n");
    assert_eq!(output.status.code(), Some(0));
}

#[test]
fn problems_name_the_flag_or_the_variable() {
    let folder = folder("valid");
    let output = strait(
        folder.path(),
        &[
            "check",
            "--config",
            "minimal.toml",
            "--message-ttl",
            "-1",
            "--redis-url",
            "redis://:hunter2@a",
        ],
    )
    .env("STRAIT_BOUNCE_ENABLED", "maybe")
    .env("STRAIT_MESH_PEERS", "a.test")
    .env("STRAIT_COMPONENT_SECRET_FILE", "missing")
    .output()
    .unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert_eq!(
        text(&output.stderr).lines().collect::<Vec<_>>(),
        [
            "STRAIT_MESH_PEERS: is `a.test`; allowed: in the file [{ host = \"…\", port = 5555 }], otherwise host:port,host:port, IPv6 addresses in brackets",
            "STRAIT_BOUNCE_ENABLED: is `maybe`; allowed: true or false",
            "STRAIT_COMPONENT_SECRET_FILE: missing cannot be read: No such file or directory (os error 2)",
            "--message-ttl: is `-1`; allowed: a whole number from 1 to 4294967295",
            "--redis-url: has a password, which would show in the process list; set it by STRAIT_REDIS_URL or in the file",
        ]
    );
}

#[test]
fn a_file_that_others_can_read_is_warned_about() {
    let folder = folder("valid");
    for name in ["minimal.toml", "dc1.pem"] {
        fs::set_permissions(folder.path().join(name), fs::Permissions::from_mode(0o644)).unwrap();
    }
    let output = strait(folder.path(), &["check", "--config", "minimal.toml"])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(
        text(&output.stderr).lines().collect::<Vec<_>>(),
        [
            "warning: minimal.toml: connections.tls.keyfile: dc1.pem can be read by every user of this machine; chmod o-r dc1.pem",
            "warning: minimal.toml:3: component.secret: minimal.toml can be read by every user of this machine; chmod o-r minimal.toml",
        ]
    );
}

#[test]
fn the_file_is_named_by_flag_or_variable_or_is_the_one_here() {
    let folder = folder("valid");
    fs::copy(
        folder.path().join("minimal.toml"),
        folder.path().join("component.toml"),
    )
    .unwrap();
    let variable = ("STRAIT_CONFIG", "everything.toml");
    for (arguments, variable, file) in [
        (
            &["check", "-c", "minimal.toml"][..],
            variable,
            "minimal.toml",
        ),
        (&["check"], variable, "everything.toml"),
        (&["check"], ("STRAIT_CONFIG", ""), "component.toml"),
    ] {
        let output = strait(folder.path(), arguments)
            .envs([variable])
            .output()
            .unwrap();
        assert_eq!(text(&output.stdout), format!("{file} is valid\n"));
    }
}

#[test]
fn a_missing_file_is_named() {
    let folder = folder("valid");
    for command in ["check", "run"] {
        let output = strait(folder.path(), &[command, "--config", "nowhere.toml"])
            .output()
            .unwrap();
        assert_eq!(
            show(&output),
            "nowhere.toml: cannot be read: No such file or directory (os error 2)\n"
        );
        assert_eq!(output.status.code(), Some(2));
    }
}

#[test]
fn a_misspelt_flag_is_bad_usage() {
    let folder = folder("valid");
    for arguments in [&["check", "--global-hots", "x"][..], &["walk"], &[]] {
        let output = strait(folder.path(), arguments).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{}", show(&output));
    }
}

#[test]
fn help_shows_no_value_of_a_variable() {
    let folder = folder("valid");
    let output = strait(folder.path(), &["run", "--help"])
        .env("STRAIT_COMPONENT_SECRET", "hunter2")
        .env("STRAIT_REDIS_URL", "redis://:hunter3@a.test")
        .env("STRAIT_NODE", "hunter4")
        .output()
        .unwrap();
    let help = show(&output);
    assert_eq!(output.status.code(), Some(0));
    assert!(
        help.contains("STRAIT_COMPONENT_SECRET") && help.contains("[connections.tls]:"),
        "{help}"
    );
    assert!(!help.contains(SECRET), "{help}");
}

#[test]
fn the_version_is_told() {
    let output = strait(Path::new("."), &["--version"]).output().unwrap();
    assert_eq!(
        show(&output),
        format!("strait {}\n", env!("CARGO_PKG_VERSION"))
    );
}

#[test]
fn run_warns_and_ends_well_at_a_signal() {
    let folder = folder("valid");
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        let mut child = strait(
            folder.path(),
            &["run", "--config", "plain.toml", "--log-format", "json"],
        )
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let first = lines.next().unwrap().unwrap();
        let json: serde_json::Value = serde_json::from_str(&first).unwrap();
        assert_eq!(json["level"], "WARN", "{first}");
        assert!(
            json["message"].as_str().unwrap().contains("plain TCP"),
            "{first}"
        );
        kill(Pid::from_raw(child.id().try_into().unwrap()), signal).unwrap();
        let rest: Vec<_> = lines.map(Result::unwrap).collect();
        assert_eq!(child.wait().unwrap().code(), Some(0), "{rest:?}");
        assert!(!rest.concat().contains(SECRET), "{rest:?}");
    }
}
