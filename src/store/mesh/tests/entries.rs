//! Entries and messages on the wire.

use bytes::Bytes;
use proptest::collection::vec;
use proptest::prelude::*;

use super::super::entry::{Digest, Entry, JID_LIMIT, PREFIX, Standing};
use super::super::message::{HandoverOf, Message};
use crate::config::Endpoint;
use crate::host::Host;
use crate::replication::Node;
use crate::store::{Announcement, Offer};

const SINCE_MAX: u64 = 1 << 47;

fn standing() -> impl Strategy<Value = Standing> {
    prop_oneof![
        Just(Standing::Nowhere),
        (1..SINCE_MAX).prop_map(Standing::Online),
        (0..SINCE_MAX).prop_map(Standing::Former),
    ]
}

fn entry(jid: &str, standing: Standing) -> Entry<'_> {
    Entry::new(jid.as_bytes(), standing)
}

fn endpoints() -> impl Strategy<Value = Vec<Endpoint>> {
    let host = "[a-z]{1,9}\\.test|10\\.0\\.0\\.[1-9]|2001:db8::[1-9]";
    let endpoint = (host, 1..9999_u16);
    let endpoint = endpoint.prop_map(|(host, port)| Endpoint { host, port });
    vec(endpoint, 0..4)
}

fn messages() -> impl Strategy<Value = Message> {
    let offer = ("[a-z]{1,9}\\.test", any::<bool>()).prop_map(|(domain, hidden)| Offer {
        domain: Host::new(&domain).unwrap(),
        hidden,
    });
    let announcement = (endpoints(), vec(offer, 0..4))
        .prop_map(|(endpoints, offers)| Announcement { endpoints, offers });
    let node = ("[a-z]{1,9}\\.test", "[a-z]{1,9}").prop_map(|(host, name)| Node {
        host: Host::new(&host).unwrap(),
        name,
    });
    let of = prop_oneof![Just(HandoverOf::Receiver), Just(HandoverOf::Sender)];
    let bytes = || any::<Vec<u8>>().prop_map(Bytes::from);
    prop_oneof![
        (any::<u64>(), proptest::option::of(announcement)).prop_map(|(epoch, announcement)| {
            Message::Process {
                epoch,
                announcement,
            }
        }),
        vec((node, endpoints()), 0..4).prop_map(Message::Nodes),
        any::<Option<(u64, u64)>>().prop_map(Message::Resume),
        any::<u64>().prop_map(|sequence| Message::Snapshot { sequence }),
        (any::<bool>(), bytes())
            .prop_map(|(is_last, entries)| Message::Entries { is_last, entries }),
        bytes().prop_map(Message::Changes),
        (any::<u64>(), any::<u128>()).prop_map(|(sequence, digest)| Message::Digest {
            sequence,
            digest: Digest(digest),
        }),
        (of, any::<u32>(), bytes()).prop_map(|(of, ms, entries)| Message::Handover {
            of,
            ms,
            entries
        }),
    ]
}

proptest! {
    #[test]
    fn messages_come_back_as_they_were(message in messages()) {
        prop_assert_eq!(Message::read(message.write()), Ok(message));
    }

    #[test]
    fn a_truncated_message_is_an_error_or_another_one_but_no_panic(
        message in messages(),
        cut_at in any::<prop::sample::Index>(),
    ) {
        let bytes = message.write();
        let cut = bytes.slice(..cut_at.index(bytes.len()));
        prop_assert_ne!(Message::read(cut), Ok(message));
    }

    #[test]
    fn any_bytes_are_read_without_panic(kind in 0..10_u8, body: Vec<u8>) {
        let _ = Entry::read_all(&body);
        let bytes = [&[kind][..], &body].concat();
        let _ = Message::read(bytes.into());
    }

    #[test]
    fn entries_come_back_as_they_were(entries in vec(("[a-zäß@./]{1,30}", standing()), 0..20)) {
        let mut bytes = Vec::new();
        let written: Vec<Entry> = entries
            .iter()
            .map(|(jid, standing)| entry(jid, *standing))
            .collect();
        written.iter().for_each(|entry| entry.put(&mut bytes));
        prop_assert_eq!(Entry::read_all(&bytes), Ok(written));
    }
}

#[test]
fn long_lists_are_refused_before_anything_is_read() {
    let error = Message::read(Bytes::from_static(&[2, 0xff, 0xff])).unwrap_err();
    assert!(error.0.contains("65535 members"), "{error}");
}

#[test]
fn a_message_never_exceeds_what_a_link_carries() {
    let long = |n: usize| Endpoint {
        host: format!("{n:0>1000}.test"),
        port: 1,
    };
    let announcement = Announcement {
        endpoints: (0..2000).map(long).collect(),
        offers: Vec::new(),
    };
    let message = Message::Process {
        epoch: 1,
        announcement: Some(announcement),
    };
    assert!(message.write().len() < 70_000);
}

#[test]
fn what_is_no_entry_is_refused() {
    let mut bytes = Vec::new();
    entry("a@example.com", Standing::Online(7)).put(&mut bytes);
    for end in 1..bytes.len() {
        assert!(Entry::read_all(&bytes[..end]).is_err(), "{end} bytes");
    }
    assert!(Entry::read_all(&[0; PREFIX]).is_err(), "no JID");
    let mut long = ((JID_LIMIT + 1) as u16).to_be_bytes().to_vec();
    long.resize(PREFIX + JID_LIMIT + 1, b'a');
    assert!(Entry::read_all(&long).is_err(), "a long JID");
    let not_text = [0, 1, 0, 0, 0, 0, 0, 0, 0, 1, 0xff];
    assert!(Entry::read_all(&not_text).is_err(), "no text");
    let late = [0, 1, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, b'a'];
    assert!(Entry::read_all(&late).is_err(), "a time that is none");
}

#[test]
fn a_message_has_a_bounded_number_of_entries() {
    let mut bytes = Vec::new();
    for n in 0..9000 {
        entry(&format!("u{n}"), Standing::Online(1)).put(&mut bytes);
    }
    assert!(Entry::read_all(&bytes).is_err());
}

#[test]
fn a_digest_depends_on_standing_time_and_process() {
    let all = [
        (Standing::Online(1), 1),
        (Standing::Online(2), 1),
        (Standing::Former(1), 1),
        (Standing::Former(2), 1),
        (Standing::Online(1), 9),
    ];
    let digest = |(standing, epoch)| entry("a@b", standing).digest(epoch);
    for (n, one) in all.iter().enumerate() {
        for other in &all[n + 1..] {
            assert_ne!(digest(*one), digest(*other));
        }
    }
}
