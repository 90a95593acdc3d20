//! What the hot path costs for one chat message of 480 bytes, and what a full
//! parse of it would.

use std::hint::black_box;

use bytes::{Bytes, BytesMut};
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use minidom::Element;
use strait::stanza::{Cut, Limits, Scanner, Stanza};

const MESSAGE: &str = "<message xml:lang='en' from='juliet@dc1.example.com/balcony' \
to='romeo@example.com' type='chat' id='0f6a6e8e-4c1c-4b57-9d2d-6a5c4f0d5f3a'>\
<body>O Romeo, Romeo! wherefore art thou Romeo? Deny thy father &amp; refuse thy name; or if thou wilt not, be sw!</body>\
<active xmlns='http://jabber.org/protocol/chatstates'/>\
<request xmlns='urn:xmpp:receipts'/><markable xmlns='urn:xmpp:chat-markers:0'/>\
<origin-id xmlns='urn:xmpp:sid:0' id='0f6a6e8e-4c1c-4b57-9d2d-6a5c4f0d5f3a'/></message>";

/// As many as one read may bring.
const MESSAGES: usize = 32;

fn scan(scanner: &mut Scanner, stream: &[u8]) -> usize {
    scanner.buffer().extend_from_slice(stream);
    let mut stanzas = 0;
    while let Ok(Some(cut)) = scanner.next() {
        assert!(matches!(black_box(cut), Cut::Stanza(_)));
        stanzas += 1;
    }
    stanzas
}

fn benches(criterion: &mut Criterion) {
    let bytes = Bytes::from_static(MESSAGE.as_bytes());
    assert_eq!(bytes.len(), 480);
    let stream = MESSAGE.repeat(MESSAGES);
    let mut group = criterion.benchmark_group("message");

    group.throughput(Throughput::Elements(MESSAGES as u64));
    group.bench_function("scan", |bencher| {
        let mut scanner = Scanner::new(Limits::default());
        bencher.iter(|| assert_eq!(scan(&mut scanner, stream.as_bytes()), MESSAGES));
    });
    group.bench_function("scan, in pieces of 64 bytes", |bencher| {
        let mut scanner = Scanner::new(Limits::default());
        bencher.iter(|| {
            let pieces = stream.as_bytes().chunks(64);
            let stanzas: usize = pieces.map(|piece| scan(&mut scanner, piece)).sum();
            assert_eq!(stanzas, MESSAGES);
        });
    });

    group.throughput(Throughput::Elements(1));
    group.bench_function("parse", |bencher| {
        let limits = Limits::default();
        bencher.iter(|| Stanza::parse(black_box(bytes.clone()), &limits));
    });
    group.bench_function("write", |bencher| {
        let stanza = Stanza::parse(bytes.clone(), &Limits::default()).expect("a good stanza");
        bencher.iter_batched_ref(
            || BytesMut::with_capacity(1024),
            |out| stanza.write_to(out),
            BatchSize::SmallInput,
        );
    });
    group.bench_function("jids", |bencher| {
        bencher.iter(|| {
            let from = jid::Jid::new(black_box("juliet@dc1.example.com/balcony"));
            (from, jid::Jid::new(black_box("romeo@example.com")))
        });
    });
    group.bench_function("minidom", |bencher| {
        let prefixed = MESSAGE.replacen("<message", "<message xmlns='jabber:component:accept'", 1);
        bencher.iter(|| black_box(&prefixed).parse::<Element>());
    });
    group.finish();
}

criterion_group!(scanner, benches);
criterion_main!(scanner);
