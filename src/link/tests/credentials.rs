//! Certificates that stop being valid while links stand.

use std::time::Duration;

use rcgen::{CertificateParams, SerialNumber};

use super::super::tls::Credentials;
use super::LONG;
use super::gateways::{Ca, Receiver, Sender, host, until};
use crate::config::{AllowedPeer, AllowedPeers};

/// Links dc1.test, whose certificate has serial number 7, with dc2.test, whose has 9.
async fn linked(ca: &Ca) -> (Sender, Receiver) {
    let numbered = |name: &str, serial: u64| {
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        params.serial_number = Some(SerialNumber::from(serial));
        ca.tls_with(name, params)
    };
    let receiver = Receiver::start_with(numbered("dc2.test", 9), "dc2.test").await;
    let sender = Sender::start_with(numbered("dc1.test", 7), "dc1.test", LONG, 1 << 20);
    sender.follow("dc2.test", &[receiver.address()]);
    sender.until_up("dc2.test").await;
    (sender, receiver)
}

async fn until_down(sender: &Sender) {
    until("the link is down", || {
        !sender.links.is_up(&host("dc2.test"))
    })
    .await;
}

#[tokio::test]
async fn a_reload_with_a_revocation_ends_the_link_and_refuses_the_next() {
    let ca = Ca::new();
    let (sender, receiver) = linked(&ca).await;
    receiver
        .credentials
        .reload(&ca.revoking(ca.tls("dc2.test"), 8), AllowedPeers::default())
        .unwrap();
    receiver.inbox.settle_at_once();
    sender.send("dc2.test", 1).unwrap();
    until("another's revocation changes nothing", || {
        sender.settled() == [1]
    })
    .await;
    let established = &sender.metrics.outgoing_established;
    let established = established.with_label_values(&["dc2.test"]);
    assert_eq!(established.get(), 1, "it is the same link");

    receiver
        .credentials
        .reload(&ca.revoking(ca.tls("dc2.test"), 7), AllowedPeers::default())
        .unwrap();
    until("it is refused", || receiver.refused("untrusted") > 0).await;
    until_down(&sender).await;
    sender.send("dc2.test", 2).ok();
    receiver
        .credentials
        .reload(&ca.tls("dc2.test"), AllowedPeers::default())
        .unwrap();
    sender.until_up("dc2.test").await;
}

#[tokio::test]
async fn a_revoked_listener_is_left_by_its_diallers() {
    let ca = Ca::new();
    let (sender, _receiver) = linked(&ca).await;
    let tls = ca.revoking(ca.tls("dc1.test"), 9);
    sender
        .credentials
        .reload(&tls, AllowedPeers::default())
        .unwrap();
    until_down(&sender).await;
    until("it is refused", || sender.refused("untrusted") > 0).await;
}

#[tokio::test]
async fn a_reload_with_another_ca_ends_the_links_of_the_former() {
    let (ca, other) = (Ca::new(), Ca::new());
    let (sender, receiver) = linked(&ca).await;
    receiver
        .credentials
        .reload(&other.tls("dc2.test"), AllowedPeers::default())
        .unwrap();
    until_down(&sender).await;
    // Both have moved to the new CA.
    sender
        .credentials
        .reload(&other.tls("dc1.test"), AllowedPeers::default())
        .unwrap();
    sender.until_up("dc2.test").await;
}

#[tokio::test]
async fn a_link_ends_when_its_certificate_expires() {
    let ca = Ca::new();
    let receiver = Receiver::start(&ca, "dc2.test").await;
    let mut params = CertificateParams::new(vec!["dc1.test".to_owned()]).unwrap();
    params.not_after = (std::time::SystemTime::now() + Duration::from_secs(3)).into();
    let tls = ca.tls_with("dc1.test", params);
    let sender = Sender::start_with(tls, "dc1.test", LONG, 1 << 20);
    assert_eq!(sender.credentials.expiry().unwrap().check(), Ok(()));
    sender.follow("dc2.test", &[receiver.address()]);
    sender.until_up("dc2.test").await;
    until_down(&sender).await;
    let expired = sender.credentials.expiry().unwrap().check().unwrap_err();
    assert!(
        expired.contains("connections.tls.certfile expired"),
        "{expired}"
    );
    until("it is not taken again", || {
        receiver.refused("untrusted") > 0
    })
    .await;
}

#[test]
fn a_reload_that_fails_keeps_the_former_files() {
    let ca = Ca::new();
    let credentials = Credentials::load(
        &ca.tls("dc1.test"),
        AllowedPeers::default(),
        &host("dc1.test"),
    )
    .unwrap();
    let before = credentials.expiry();
    let error = credentials
        .reload(&ca.tls("dc9.test"), AllowedPeers::default())
        .unwrap_err();
    assert!(
        error.to_string().contains("not valid for dc1.test"),
        "{error}"
    );
    assert_eq!(credentials.expiry(), before);
    let error = credentials
        .reload(&crate::config::Tls::Disabled, AllowedPeers::default())
        .unwrap_err();
    assert!(error.to_string().contains("restart"), "{error}");
}

#[tokio::test]
async fn a_host_that_is_no_longer_listed_loses_its_link() {
    let ca = Ca::new();
    let (sender, receiver) = linked(&ca).await;
    let listed = |name: &str| {
        let peer = AllowedPeer {
            host: host(name),
            services: None,
        };
        AllowedPeers::from(vec![peer])
    };
    let tls = ca.tls("dc2.test");
    receiver
        .credentials
        .reload(&tls, listed("dc3.test"))
        .unwrap();
    until_down(&sender).await;
    until("it is refused", || sender.refused("wrong_host") > 0).await;
    let error = sender.links.status()[0].connect_error.clone().unwrap();
    assert!(error.contains("[[peers]] of dc2.test"), "{error}");
    receiver
        .credentials
        .reload(&tls, listed("dc1.test"))
        .unwrap();
    sender.until_up("dc2.test").await;
    let tls = ca.tls("dc1.test");
    sender.credentials.reload(&tls, listed("dc3.test")).unwrap();
    until_down(&sender).await;
}
