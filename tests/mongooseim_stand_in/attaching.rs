//! The stream headers, the handshake, and the ways in which it fails.

use crate::support::xml::attribute;
use crate::wire::Wire;
use crate::{SECRET, attach, heard, login, server, sync};

/// Every end of an attempt to attach that was captured.
pub async fn flow() -> Vec<String> {
    let mut kicking = server()
        .kick_old()
        .rooms("conference.dc1.test")
        .start()
        .await;
    let mut said = Vec::new();
    let mut wire = Wire::connect(&kicking).await;
    said.push(wire.open("example.test").await);
    let header = said[0].clone();
    wire.prove(&header, "wrong").await;
    said.push(wire.rest().await);

    let mut old = Wire::connect(&kicking).await;
    old.attach("muc.example.test", SECRET).await;
    let mut new = Wire::connect(&kicking).await;
    let attached = new.attach("muc.example.test", SECRET).await;
    said.push(attached.replace("<handshake/>", ""));
    said.push("<handshake/>".to_owned());
    said.push(old.rest().await);
    new.send("</stream:stream>").await;
    said.push(new.rest().await);

    for taken in ["dc1.test", "conference.dc1.test"] {
        let mut wire = Wire::connect(&kicking).await;
        let header = wire.open(taken).await;
        wire.prove(&header, SECRET).await;
        assert!(wire.rest().await.contains("<conflict "), "{taken}");
        said.push(header);
    }
    kicking.stop().await;

    let first_comes = server().start().await;
    let _first = attach(&first_comes, "example.test").await;
    let mut second = Wire::connect(&first_comes).await;
    let header = second.open("example.test").await;
    second.prove(&header, SECRET).await;
    said.push(second.rest().await);
    said
}

#[tokio::test(flavor = "multi_thread")]
async fn the_header_has_no_declaration_and_an_id_of_sixteen_digits() {
    let server = server().start().await;
    let header = Wire::connect(&server).await.open("example.test").await;
    assert!(header.starts_with("<stream:stream "), "{header}");
    let id = attribute(&header, "id").expect("an id");
    assert_eq!(id.len(), 16, "{id}");
    assert!(id.bytes().all(|digit| digit.is_ascii_hexdigit()), "{id}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_empty_domain_is_unknown_and_silence_ends_after_five_seconds() {
    let server = server().start().await;
    let mut wire = Wire::connect(&server).await;
    wire.open("").await;
    assert!(wire.rest().await.contains("<host-unknown "));
    let mut wire = Wire::connect(&server).await;
    wire.open("example.test").await;
    assert!(wire.rest().await.contains("<connection-timeout "));
}

#[tokio::test(flavor = "multi_thread")]
async fn after_malformed_xml_nothing_is_read_and_the_domain_stays_taken() {
    let mut server = server().start().await;
    let mut wire = Wire::connect(&server).await;
    wire.attach("example.test", SECRET).await;
    wire.send("<message></presence>").await;
    let conflict = async || {
        let mut wire = Wire::connect(&server).await;
        let header = wire.open("example.test").await;
        wire.prove(&header, SECRET).await;
        wire.rest().await
    };
    assert!(conflict().await.contains("<conflict "));
    drop(wire);
    assert!(conflict().await.contains("<conflict "));
    server.restart().await;
    attach(&server, "example.test").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_check_any_sender_passes() {
    let server = server().unchecked().start().await;
    let component = attach(&server, "example.test").await;
    let alice = login(&server, "alice", "r1").await;
    component
        .send("<message from='x@other.test' to='alice@dc1.test'><body>hello</body></message>")
        .await;
    sync(&component).await;
    alice.expect_chat("x@other.test", "hello").await;
    assert!(
        !heard(&component)
            .iter()
            .any(|raw| raw.contains("bad-request"))
    );
}
