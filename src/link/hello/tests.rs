use proptest::prelude::*;

use super::*;
use crate::host::Host;

fn us() -> Identity {
    Identity {
        host: Host::new("dc2.test").unwrap(),
        node: "b".to_owned(),
        epoch: 7,
    }
}

fn hello() -> Hello {
    Hello {
        versions: VERSIONS,
        to: "dc2.test".to_owned(),
        from: "dc1.test".to_owned(),
        node: "a".to_owned(),
        epoch: 1 << 60,
        slot: 3,
        purpose: Purpose::Stanzas,
    }
}

fn raw(put: impl FnOnce(&mut BytesMut)) -> RawFrame {
    let mut out = BytesMut::new();
    put(&mut out);
    wire::cut(&mut out, LIMIT).unwrap().unwrap()
}

fn text_of(failure: ConnectError) -> (RefusalKind, String) {
    match failure {
        ConnectError::Refused { kind, text } => (kind, text),
        ConnectError::Unreachable(text) => panic!("unreachable: {text}"),
    }
}

#[test]
fn hello_and_answers_come_back_as_they_were() {
    let back = Hello::read(raw(|out| hello().put(out)), &us()).unwrap();
    assert_eq!(back, hello());
    assert_eq!(back.is_for(&us()), Ok(()));
    let welcome = Welcome {
        version: 3,
        host: "dc2.test".to_owned(),
        node: "b".to_owned(),
        frame_limit: 600_000,
        resume_after: 12,
    };
    let answer = HelloReply::Welcome(welcome.clone());
    let back = HelloReply::read(raw(|out| answer.put(out))).unwrap();
    assert_eq!(back.welcome_of("dc2.test"), Ok(welcome));
}

#[test]
fn older_and_newer_gateways_are_refused_with_both_versions_named() {
    for versions in [1..=2, 4..=5] {
        let theirs = spell(&versions);
        let hello = Hello {
            versions,
            ..hello()
        };
        let failure = Hello::read(raw(|out| hello.put(out)), &us()).unwrap_err();
        let (kind, text) = text_of(failure);
        assert_eq!(kind, RefusalKind::Version);
        assert!(
            text.contains("speaks version 3,") && text.contains(&theirs),
            "{text}"
        );
    }
}

#[test]
fn a_newer_hello_that_still_speaks_our_version_is_understood() {
    let newer = Hello {
        versions: 3..=4,
        ..hello()
    };
    let mut raw = raw(|out| newer.put(out));
    raw.body = [&raw.body[..], b"what version 4 adds"].concat().into();
    assert_eq!(Hello::read(raw, &us()), Ok(newer.clone()));
    assert_eq!(common_version(&newer.versions), Some(3));
}

#[test]
fn a_table_is_followed_by_other_nodes_only() {
    let table = |from: &str, node: &str, epoch| Hello {
        to: String::new(),
        from: from.to_owned(),
        node: node.to_owned(),
        epoch,
        purpose: Purpose::Table,
        ..hello()
    };
    let other = table("dc1.test", "b", 7);
    let back = Hello::read(raw(|out| other.put(out)), &us()).unwrap();
    assert_eq!(back, other);
    assert_eq!(back.is_for(&us()), Ok(()));
    assert_eq!(table("dc2.test", "a", 7).is_for(&us()), Ok(()));
    let (kind, _) = text_of(table("dc2.test", "b", 7).is_for(&us()).unwrap_err());
    assert_eq!(kind, RefusalKind::Ourselves);
    let (kind, text) = text_of(table("dc2.test", "b", 8).is_for(&us()).unwrap_err());
    assert_eq!(kind, RefusalKind::WrongHost);
    assert!(text.contains("call themselves `b`"), "{text}");
    let unknown = {
        let mut raw = raw(|out| other.put(out));
        let end = raw.body.len() - 1;
        raw.body = [&raw.body[..end], &[9]].concat().into();
        raw
    };
    assert!(Hello::read(unknown, &us()).is_err());
}

#[test]
fn the_dialler_tells_the_two_versions_too() {
    let answer = HelloReply::Refused {
        versions: 1..=2,
        kind: RefusalKind::Version,
        text: "too old".to_owned(),
    };
    let (kind, text) = text_of(answer.welcome_of("dc2.test").unwrap_err());
    assert_eq!(kind, RefusalKind::Version);
    assert!(
        text.contains("we speak version 3 ") && text.contains("versions 1 to 2"),
        "{text}"
    );
}

#[test]
fn a_hello_for_another_host_or_from_ourselves_is_refused() {
    let astray = Hello {
        to: "dc3.test".to_owned(),
        ..hello()
    };
    let (kind, text) = text_of(astray.is_for(&us()).unwrap_err());
    assert_eq!(kind, RefusalKind::WrongHost);
    assert!(
        text.contains("dialled dc3.test, but this is dc2.test"),
        "{text}"
    );
    let twin = Hello {
        from: "dc2.test".to_owned(),
        ..hello()
    };
    assert_eq!(
        text_of(twin.is_for(&us()).unwrap_err()).0,
        RefusalKind::WrongHost
    );
}

proptest! {
    #[test]
    fn any_bytes_are_read_without_panic(kind in 0..5_u8, body: Vec<u8>) {
        let body = Bytes::from(body);
        let _ = HelloReply::read(RawFrame { kind, body: body.clone() });
        let _ = Hello::read(RawFrame { kind, body: body.clone() }, &us());
        let body = [&MAGIC[..], &[0, 3, 0, 3], &body].concat().into();
        let _ = Hello::read(RawFrame { kind: HELLO, body }, &us());
    }
}
