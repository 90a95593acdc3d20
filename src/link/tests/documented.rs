//! Checks that the example in the protocol's page equals the bytes on the wire.

use bytes::{Bytes, BytesMut};

use super::super::frame::{Frame, Header};
use super::super::hello::{Hello, HelloReply, Purpose, VERSIONS, Welcome};

/// Parses the bytes of the page's example.
fn documented() -> Vec<u8> {
    let page = include_str!("../../../docs/link-protocol.md");
    let (_, example) = page.split_once("```text\n").unwrap();
    let (example, _) = example.split_once("```").unwrap();
    let byte = |word: &&str| word.len() == 2 && u8::from_str_radix(word, 16).is_ok();
    let bytes = example.lines().flat_map(|line| {
        let words = line.trim_start_matches(['→', '←', ' ']).split_whitespace();
        words.take_while(byte)
    });
    bytes
        .map(|word| u8::from_str_radix(word, 16).unwrap())
        .collect()
}

#[test]
fn the_example_is_what_we_write() {
    let mut out = BytesMut::new();
    let hello = Hello {
        versions: VERSIONS,
        to: "dc2.test".to_owned(),
        from: "dc1.test".to_owned(),
        node: "a".to_owned(),
        epoch: 7,
        slot: 1,
        purpose: Purpose::Stanzas,
    };
    hello.put(&mut out);
    let welcome = Welcome {
        version: 3,
        host: "dc2.test".to_owned(),
        node: "b".to_owned(),
        frame_limit: 589_824,
        resume_after: 0,
    };
    HelloReply::Welcome(welcome).put(&mut out);
    let header = Header {
        number: 1,
        id: 42,
        ttl: 3,
        sent_at: 0,
        origin: "dc1.test".to_owned(),
        retries: Vec::new(),
        is_copy: false,
        former: Vec::new(),
    };
    Frame::Stanza(header, Bytes::from_static(b"<message to=''/>")).put(&mut out);
    Frame::Ack { through: 1 }.put(&mut out);
    let documented = documented();
    assert!(!documented.is_empty());
    assert_eq!(format!("{:02x?}", &out[..]), format!("{documented:02x?}"));
}
