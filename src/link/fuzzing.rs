//! The readers of a link, for `fuzz/`.

use bytes::BytesMut;

use super::Identity;
use super::frame::Frame;
use super::hello::{Hello, HelloReply};
use super::wire::{self, RawFrame};
use crate::host::Host;

const LIMIT: usize = 1024;

/// Frames of an established link: each is written as it was read.
pub fn frames(bytes: &[u8]) {
    for raw in cut(bytes) {
        let (kind, body) = (raw.kind, raw.body.clone());
        if let Ok(frame) = Frame::read(raw) {
            let mut out = BytesMut::new();
            frame.put(&mut out);
            let [again] = &cut(&out)[..] else {
                panic!("not one frame: {frame:?}")
            };
            assert_eq!(again.kind, kind);
            let again = RawFrame {
                kind,
                body: again.body.clone(),
            };
            assert_eq!(Frame::read(again).as_ref(), Ok(&frame), "{body:?}");
        }
    }
}

/// The frames that both sides of a link send first.
pub fn greetings(bytes: &[u8]) {
    let Ok(host) = Host::new("dc1.test") else {
        return;
    };
    let us = Identity {
        host,
        node: "n1".to_owned(),
        epoch: 1,
    };
    for raw in cut(bytes) {
        let copy = |raw: &RawFrame| RawFrame {
            kind: raw.kind,
            body: raw.body.clone(),
        };
        let mut out = BytesMut::new();
        if let Ok(hello) = Hello::read(copy(&raw), &us) {
            hello.put(&mut out);
            let again = cut(&out).into_iter().map(|raw| Hello::read(raw, &us).ok());
            assert!(again.eq([Some(hello)]));
        } else if let Ok(reply) = HelloReply::read(raw) {
            reply.put(&mut out);
            let again = cut(&out).into_iter().map(HelloReply::read);
            assert!(again.eq([Ok(reply.clone())]));
            let _ = reply.welcome_of("dc2.test");
        }
    }
}

fn cut(bytes: &[u8]) -> Vec<RawFrame> {
    let mut buffer = BytesMut::from(bytes);
    std::iter::from_fn(|| wire::cut(&mut buffer, 2 * LIMIT).ok().flatten()).collect()
}
