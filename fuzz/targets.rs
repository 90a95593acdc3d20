//! The readers of bytes that others wrote, for `scripts/fuzz` and for the test below, which replays
//! the corpora with mutations.

use std::sync::{Arc, LazyLock};
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use futures::FutureExt;
use minidom::Element;
use strait::addresses::{Senders, Translator};
use strait::config::{Config, Inputs, Mesh, ServiceConfig};
use strait::host::Host;
use strait::metrics::Metrics;
use strait::replication::{Node, Replication, ReplicationSession};
use strait::stanza::{Cut, Limits, Scanner, Stanza};
use strait::store::{MeshStore, Store};

const LIMITS: Limits = Limits {
    bytes: 2000,
    depth: 16,
};

/// A component stream: the cuts do not depend on the reads, and a stanza that passes means the same
/// to another parser.
pub fn scanner(bytes: &[u8]) {
    let Some((&size, stream)) = bytes.split_first() else {
        return;
    };
    let whole = cuts([stream]);
    let pieces = cuts(stream.chunks(usize::from(size) + 1));
    assert_eq!(whole.1, pieces.1);
    for stanza in whole.0 {
        check(&stanza);
    }
}

/// The stanzas of a stream, and all that the scanner returned, printed.
fn cuts<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> (Vec<Stanza>, Vec<String>) {
    let mut scanner = Scanner::new(LIMITS);
    let (mut stanzas, mut printed) = (Vec::new(), Vec::new());
    for piece in pieces {
        scanner.buffer().extend_from_slice(piece);
        loop {
            let cut = scanner.next();
            match &cut {
                Ok(None) => break,
                Ok(Some(Cut::Stanza(stanza))) => {
                    printed.push(String::from_utf8(write(stanza).into()).unwrap());
                    stanzas.push(stanza.clone());
                }
                Ok(Some(Cut::Refused { head, fault })) => {
                    printed.push(format!("{:?} {fault}", head.as_ref().map(write)));
                }
                Ok(Some(other)) => printed.push(format!("{other:?}")),
                Err(error) => {
                    printed.push(error.to_string());
                    return (stanzas, printed);
                }
            }
        }
    }
    (stanzas, printed)
}

fn write(stanza: &Stanza) -> Bytes {
    let mut out = BytesMut::new();
    stanza.write_to(&mut out);
    assert_eq!(out.len(), stanza.len());
    out.freeze()
}

/// Checks that another gateway can read the stanza, and that the elements are those of its tree.
fn check(stanza: &Stanza) {
    fn collect(parent: &Element, found: &mut Vec<(String, String)>) {
        for child in parent.children() {
            found.push((child.name().to_owned(), child.ns()));
            collect(child, found);
        }
    }
    let limits = Limits {
        bytes: usize::MAX,
        ..LIMITS
    };
    let again = Stanza::parse(write(stanza), &limits).unwrap();
    assert_eq!(write(&again), write(stanza));
    let mut elements = stanza.elements();
    let mut seen = Vec::new();
    while elements.advance() {
        let namespace = elements.namespace().into_owned();
        seen.push((elements.name().to_owned(), namespace));
    }
    let mut expected = Vec::new();
    collect(&stanza.to_element(), &mut expected);
    assert_eq!(seen, expected);
}

/// The payload of a stanza that is translated out and in.
pub fn splicer(payload: &[u8]) {
    static TRANSLATOR: LazyLock<Translator> = LazyLock::new(|| {
        let rooms = ServiceConfig {
            domain: host("muc.example.test"),
            local: Some(host("rooms.dc1.test")),
            hidden: false,
        };
        let (global, local) = (host("example.test"), host("dc1.test"));
        Translator::new(global, local, &[rooms], Senders::default())
    });
    for (from, to) in [
        ("alice@dc1.test/r", "bob@example.test"),
        ("room@rooms.dc1.test/n", "bob@example.test"),
        ("bob@example.test/r", "alice@example.test"),
    ] {
        let start = format!("<message xmlns:p='vcard-temp' from='{from}' to='{to}'>");
        let text = [start.as_bytes(), payload, b"</message>"].concat();
        let Ok(before) = Stanza::parse(text.into(), &LIMITS) else {
            return;
        };
        let mut after = before.clone();
        let is_outbound = !from.contains("example");
        let translated = match is_outbound {
            true => TRANSLATOR.outbound(&mut after),
            false => TRANSLATOR.inbound(&mut after),
        };
        translated.unwrap();
        check(&after);
        // The names put in are longer by 8 bytes at most, and each is for one of 8 bytes.
        let longest = before.payload().len() * 2;
        assert!(after.payload().len() <= longest, "{after:?}");
    }
}

/// The frames of an established link.
pub fn frame(bytes: &[u8]) {
    strait::link::fuzzing::frames(bytes);
}

/// The frames that both sides of a link send first.
pub fn hello(bytes: &[u8]) {
    strait::link::fuzzing::greetings(bytes);
}

/// The messages that a peer sends over a table link, each after its length in two bytes.
pub fn mesh_message(bytes: &[u8]) {
    static METRICS: LazyLock<Arc<Metrics>> = LazyLock::new(|| Arc::new(Metrics::new()));
    let runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = { runtime }.enable_time().build().unwrap();
    let _context = runtime.enter();
    let node = |host_name: &str| Node {
        host: host(host_name),
        name: "n1".to_owned(),
    };
    let config = Mesh {
        peers: Vec::new(),
        expire_after: Duration::from_secs(120),
        refresh_after: Duration::from_secs(60),
    };
    let store = MeshStore::new(node("dc1.test"), 1, &config, METRICS.clone());
    let peer = node("dc2.test");
    let mut sessions: Vec<Arc<dyn ReplicationSession>> = vec![
        Arc::clone(&store).receive_from(&peer).unwrap(),
        Arc::clone(&store).send_to(&peer, 2),
    ];
    let mut bytes = Bytes::copy_from_slice(bytes);
    while let Ok(length) = bytes.try_get_u16() {
        // The first bit names the side.
        let side = usize::from(length >> 15);
        let length = usize::from(length & 0x7fff).min(bytes.len());
        if sessions[side].accept(bytes.split_to(length)).is_err() {
            return;
        }
        for session in &mut sessions {
            while session.next_message().now_or_never().flatten().is_some() {}
        }
    }
    let located = runtime.block_on(store.read("alice@example.test/phone"));
    assert!(located.is_ok());
}

/// A configuration file.
pub fn config(bytes: &[u8]) {
    // Options may name files.
    let names = |text: &[u8]| bytes.windows(text.len()).any(|window| window == text);
    if names(b"/dev") || names(b"/proc") {
        return;
    }
    let thread = std::thread::current().id();
    let name = format!("strait-fuzz-{}-{thread:?}.toml", std::process::id());
    let file = std::env::temp_dir().join(name);
    std::fs::write(&file, bytes).unwrap();
    let inputs = Inputs {
        file: Some(file.clone()),
        ..Inputs::default()
    };
    let loaded = Config::load(&inputs);
    std::fs::remove_file(file).unwrap();
    if let Err(problems) = loaded {
        assert!(!problems.to_string().is_empty());
    }
}

/// The answers of a Redis.
pub fn redis_answer(bytes: &[u8]) {
    strait::store::fuzz_redis_answer(bytes);
}

fn host(name: &str) -> Host {
    Host::new(name).unwrap()
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::LazyLock;

    use proptest::prelude::*;
    use proptest::sample::Index;

    type Target = fn(&[u8]);

    const TARGETS: [(&str, Target); 7] = [
        ("scanner", super::scanner),
        ("splicer", super::splicer),
        ("frame", super::frame),
        ("hello", super::hello),
        ("mesh_message", super::mesh_message),
        ("config", super::config),
        ("redis_answer", super::redis_answer),
    ];

    /// The inputs that a fuzzer found worth keeping, sorted.
    fn corpus(target: &str) -> Vec<Vec<u8>> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let files = std::fs::read_dir(root.join("fuzz/corpus").join(target)).unwrap();
        let mut paths: Vec<_> = files.map(|file| file.unwrap().path()).collect();
        paths.sort();
        paths
            .iter()
            .map(|path| std::fs::read(path).unwrap())
            .collect()
    }

    #[test]
    fn the_corpora_bring_no_target_down() {
        for (name, target) in TARGETS {
            let corpus = corpus(name);
            assert!(corpus.len() > 10, "{name} has {} inputs", corpus.len());
            corpus.iter().for_each(|input| target(input));
        }
    }

    /// A part of one input in the place of a part of another.
    fn mutated(corpus: &[Vec<u8>], of: [Index; 6], byte: u8) -> Vec<u8> {
        let [first, second, from, to, at, changed] = of;
        let (first, second) = (first.get(corpus), second.get(corpus));
        let ends = [from, to].map(|end| end.index(second.len() + 1));
        let part = &second[ends[0].min(ends[1])..ends[0].max(ends[1])];
        let at = at.index(first.len() + 1);
        let mut input = [&first[..at], part, &first[at..]].concat();
        if !input.is_empty() {
            let changed = changed.index(input.len());
            input[changed] = byte;
        }
        input
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(100) })]

        #[test]
        fn nor_do_mutations(of in any::<[Index; 6]>(), byte in any::<u8>()) {
            static CORPORA: LazyLock<[Vec<Vec<u8>>; 7]> =
                LazyLock::new(|| TARGETS.map(|(name, _)| corpus(name)));
            for ((_, target), corpus) in TARGETS.iter().zip(&*CORPORA) {
                target(&mutated(corpus, of, byte));
            }
        }
    }
}
