//! TLS files and options that can't work are reported before anything starts.

use std::path::Path;

use rcgen::{CertificateParams, ExtendedKeyUsagePurpose, date_time_ymd};

use super::super::tls::Security;
use super::LONG;
use super::gateways::{Ca, Receiver, Sender, host, until};
use crate::config::Tls;

/// Returns the error that a gateway of dc1.test reports for `tls`.
fn error_of(tls: &Tls) -> String {
    match Security::load(tls, &host("dc1.test")) {
        Ok(_) => panic!("{tls:?} was accepted"),
        Err(error) => error.to_string(),
    }
}

fn says(tls: &Tls, parts: &[&str]) {
    let error = error_of(tls);
    for part in parts {
        assert!(error.contains(part), "no `{part}` in: {error}");
    }
}

/// Returns `tls` with one file replaced.
fn with_key(mut tls: Tls, path: &Path) -> Tls {
    if let Tls::Enabled { keyfile, .. } = &mut tls {
        path.clone_into(keyfile);
    }
    tls
}

fn with_ciphers(mut tls: Tls, names: &[&str]) -> Tls {
    if let Tls::Enabled { ciphers, .. } = &mut tls {
        *ciphers = names.iter().map(ToString::to_string).collect();
    }
    tls
}

#[test]
fn a_good_certificate_is_accepted() {
    let ca = Ca::new();
    Security::load(&ca.tls("dc1.test"), &host("dc1.test")).unwrap();
}

#[test]
fn a_missing_file_is_named() {
    let ca = Ca::new();
    let missing = ca.folder.path().join("nowhere.pem");
    let tls = with_key(ca.tls("dc1.test"), &missing);
    says(
        &tls,
        &["nowhere.pem", "connections.tls.keyfile", "No such file"],
    );
}

#[test]
fn a_file_without_a_key_is_named() {
    let ca = Ca::new();
    let tls = with_key(ca.tls("dc1.test"), &ca.folder.path().join("ca.pem"));
    says(
        &tls,
        &[
            "no unencrypted private key",
            "ca.pem",
            "connections.tls.keyfile",
        ],
    );
}

#[test]
fn a_key_of_another_certificate_is_found_out() {
    let ca = Ca::new();
    ca.tls("other");
    let tls = with_key(ca.tls("dc1.test"), &ca.folder.path().join("other.pem"));
    says(
        &tls,
        &[
            "other.pem",
            "does not belong to the certificate",
            "dc1.test.pem",
        ],
    );
}

#[test]
fn a_certificate_for_another_host_is_found_out() {
    let ca = Ca::new();
    says(
        &ca.tls("dc9.test"),
        &["dc9.test.pem", "not valid for dc1.test", "carries dc9.test"],
    );
}

#[test]
fn an_expired_certificate_is_found_out() {
    let ca = Ca::new();
    let mut params = CertificateParams::new(vec!["dc1.test".to_owned()]).unwrap();
    params.not_after = date_time_ymd(2020, 1, 1);
    says(
        &ca.tls_with("old", params),
        &["old.pem", "expired", "days ago"],
    );
}

#[test]
fn a_certificate_for_servers_only_is_found_out() {
    let ca = Ca::new();
    let mut params = CertificateParams::new(vec!["dc1.test".to_owned()]).unwrap();
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    says(
        &ca.tls_with("server", params),
        &["server.pem", "extended key usage"],
    );
}

#[test]
fn an_unknown_cipher_is_named_with_the_known_ones() {
    let ca = Ca::new();
    let tls = with_ciphers(ca.tls("dc1.test"), &["AES256-SHA"]);
    says(
        &tls,
        &[
            "`AES256-SHA` is not supported",
            "ECDHE-RSA-AES128-GCM-SHA256",
        ],
    );
}

#[tokio::test]
async fn tls_1_2_is_spoken_when_the_ciphers_ask_for_it() {
    let ca = Ca::new();
    let suites = ["ECDHE-ECDSA-AES128-GCM-SHA256"];
    let old = with_ciphers(ca.tls("dc1.test"), &suites);
    let receiver = Receiver::start(&ca, "dc2.test").await;
    receiver.inbox.settle_at_once();
    let sender = Sender::start_with(old, "dc1.test", LONG, 1 << 20);
    sender.follow("dc2.test", &[receiver.address()]);
    sender.until_up("dc2.test").await;
    sender.send("dc2.test", 1).unwrap();
    until("it is settled", || sender.settled() == [1]).await;
}

#[tokio::test]
async fn without_a_cipher_in_common_there_is_no_link() {
    let ca = Ca::new();
    let tls = |name, suite| with_ciphers(ca.tls(name), &[suite]);
    let receiver = Receiver::start_with(tls("dc2.test", "TLS_AES_256_GCM_SHA384"), "dc2.test");
    let receiver = receiver.await;
    let sender = tls("dc1.test", "TLS_AES_128_GCM_SHA256");
    let sender = Sender::start_with(sender, "dc1.test", LONG, 1 << 20);
    sender.follow("dc2.test", &[receiver.address()]);
    until("it is refused", || receiver.refused("protocol") > 0).await;
    until("the reason is kept for people", || {
        sender.links.status()[0]
            .connect_error
            .as_deref()
            .is_some_and(|text| text.contains("`connections.tls.ciphers` of both sides"))
    })
    .await;
}

#[test]
fn a_file_without_a_revocation_list_is_named() {
    let ca = Ca::new();
    let mut tls = ca.tls("dc1.test");
    if let Tls::Enabled {
        crlfile,
        cacertfile,
        ..
    } = &mut tls
    {
        *crlfile = Some(cacertfile.clone());
    }
    says(
        &tls,
        &["ca.pem", "connections.tls.crlfile", "revocation list"],
    );
}
