//! `strait certs`: a CA and certificates that links accept.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output};

use tempfile::TempDir;

fn certs(directory: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_strait"))
        .arg("certs")
        .arg(directory)
        .args(arguments)
        .output()
        .unwrap()
}

fn succeeds(directory: &Path, arguments: &[&str]) -> String {
    let output = certs(directory, arguments);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    String::from_utf8(output.stdout).unwrap()
}

fn fails(directory: &Path, arguments: &[&str]) -> String {
    let output = certs(directory, arguments);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    String::from_utf8(output.stderr).unwrap()
}

/// Every file's name and content.
fn files(directory: &Path) -> BTreeMap<String, String> {
    let entries = fs::read_dir(directory).unwrap();
    let files = entries.map(|entry| {
        let entry = entry.unwrap();
        let name = entry.file_name().into_string().unwrap();
        (name, fs::read_to_string(entry.path()).unwrap())
    });
    files.collect()
}

#[test]
fn makes_files_for_their_owner_only_and_says_what_to_do_with_them() {
    let folder = TempDir::new().unwrap();
    let directory = folder.path().join("new/certs");
    let said = succeeds(&directory, &["dc1.example.com", "DC2.example.com"]);
    let made = files(&directory);
    let names: Vec<&str> = made.keys().map(String::as_str).collect();
    let expected = [
        "ca.key",
        "ca.pem",
        "dc1.example.com.key",
        "dc1.example.com.pem",
        "dc2.example.com.key",
        "dc2.example.com.pem",
    ];
    assert_eq!(names, expected);
    for name in expected {
        let mode = fs::metadata(directory.join(name)).unwrap().permissions();
        assert_eq!(mode.mode() & 0o777, 0o600, "{name}");
    }
    let mode = fs::metadata(&directory).unwrap().permissions();
    assert_eq!(mode.mode() & 0o777, 0o700);
    assert!(
        said.contains("certfile = \"dc1.example.com.pem\""),
        "{said}"
    );
    assert!(said.contains("ca.key is the CA's private key"), "{said}");
    assert!(!said.contains("PRIVATE KEY"), "{said}");
}

#[test]
fn adds_a_datacenter_and_overwrites_nothing() {
    let folder = TempDir::new().unwrap();
    let directory = folder.path();
    succeeds(directory, &["dc1.example.com"]);
    let before = files(directory);
    let said = fails(directory, &["dc2.example.com", "dc1.example.com"]);
    assert!(
        said.contains("dc1.example.com.pem is there already"),
        "{said}"
    );
    assert_eq!(files(directory), before, "nothing was written");

    succeeds(directory, &["dc2.example.com", "--days", "30"]);
    let mut after = files(directory);
    assert!(after.remove("dc2.example.com.pem").is_some());
    assert!(after.remove("dc2.example.com.key").is_some());
    assert_eq!(after, before);
}

#[test]
fn what_can_not_be_done_is_said() {
    let folder = TempDir::new().unwrap();
    let said = fails(folder.path(), &["alice@dc1.example.com"]);
    assert!(
        said.contains("`alice@dc1.example.com` is not a domain"),
        "{said}"
    );
    let said = fails(folder.path(), &["dc1.example.com", "dc1.example.com"]);
    assert!(said.contains("dc1.example.com is named twice"), "{said}");
    assert_eq!(files(folder.path()).len(), 0);
    fs::write(folder.path().join("ca.pem"), "x").unwrap();
    let said = fails(folder.path(), &["dc1.example.com"]);
    assert!(said.contains("ca.key, its key"), "{said}");
    fs::write(folder.path().join("ca.key"), "x").unwrap();
    let said = fails(folder.path(), &["dc1.example.com"]);
    assert!(
        said.contains("ca.key holds no key that can be used"),
        "{said}"
    );
}
