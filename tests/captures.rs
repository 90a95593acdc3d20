//! What real servers sent to components, byte for byte (`tests/captures/`), goes
//! through the scanner: every line is understood, and comes out as it went in.

use bytes::{Bytes, BytesMut};
use minidom::Element;
use strait::stanza::{Cut, Limits, Reason, Scanner, Stanza};

/// What the lines of one file come to.
#[derive(Debug, Default, PartialEq, Eq)]
struct Count {
    lines: usize,
    headers: usize,
    stanzas: usize,
    /// For an address like `@@bad`, which came back from a test.
    refused: usize,
    others: usize,
    ends: usize,
}

#[test]
fn what_prosody_sends_is_understood() {
    let expected = Count {
        lines: 96,
        headers: 4,
        stanzas: 85,
        refused: 1,
        others: 9,
        ends: 1,
    };
    let capture = include_str!("captures/prosody-to-component.txt");
    assert_eq!(count(capture), expected);
}

#[test]
fn what_ejabberd_sends_is_understood() {
    let expected = Count {
        lines: 83,
        headers: 5,
        stanzas: 72,
        refused: 1,
        others: 6,
        ends: 0,
    };
    let capture = include_str!("captures/ejabberd-to-component.txt");
    assert_eq!(count(capture), expected);
}

#[test]
fn what_mongooseim_sends_is_understood() {
    let expected = Count {
        lines: 218,
        headers: 12,
        stanzas: 198,
        refused: 2,
        others: 5,
        ends: 1,
    };
    let capture = include_str!("captures/mongooseim-to-component.txt");
    assert_eq!(count(capture), expected);
}

fn count(capture: &str) -> Count {
    let mut count = Count::default();
    for line in capture.lines() {
        count.lines += 1;
        if line.starts_with("<stream:stream ") {
            check_header(line);
            count.headers += 1;
            continue;
        }
        for xml in without_annotation(line) {
            count_cuts(xml, &mut count);
        }
    }
    count
}

/// A stream's header is a start tag and nothing else.
fn check_header(line: &str) {
    let empty = line.strip_suffix('>').expect("a start tag").to_owned() + "/>";
    let header: Element = empty.parse().expect("a stream header");
    assert!(
        header.is("stream", "http://etherx.jabber.org/streams"),
        "{line}"
    );
}

/// The XML on the line: some have what a client got at the same moment behind
/// it, as `…</presence>  2.755 bob/b1         <- <presence …`.
fn without_annotation(line: &str) -> Vec<&str> {
    let Some((component, client)) = line.split_once(" <- ") else {
        return vec![line];
    };
    let end = component.rfind('>').expect("an end tag") + 1;
    let (xml, annotation) = component.split_at(end);
    let mut words = annotation.split_whitespace();
    let seconds: Option<f64> = words.next().and_then(|word| word.parse().ok());
    assert!(seconds.is_some(), "{line}");
    assert!(
        words.next().is_some_and(|user| user.starts_with("bob/")),
        "{line}"
    );
    assert_eq!(words.next(), None, "{line}");
    vec![xml, client]
}

fn count_cuts(xml: &str, count: &mut Count) {
    let whole = scan([xml.as_bytes()]);
    let bytewise = scan(xml.as_bytes().chunks(1));
    assert!(!whole.is_empty(), "{xml}");
    assert_eq!(format!("{whole:?}"), format!("{bytewise:?}"), "{xml}");
    for cut in whole {
        match cut {
            Cut::Stanza(stanza) => {
                check_stanza(xml, &stanza);
                count.stanzas += 1;
            }
            Cut::Refused { head, fault } => {
                assert_eq!(fault.reason(), Reason::BadAddress, "{xml}: {fault}");
                let head = head.expect("the rest of the start tag is sound");
                assert!(head.from().is_some() != head.to().is_some(), "{xml}");
                count.refused += 1;
            }
            Cut::Other(bytes) => {
                assert_eq!(bytes, xml, "the whole line");
                count.others += 1;
            }
            Cut::End => count.ends += 1,
        }
    }
}

fn scan<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Vec<Cut> {
    let mut scanner = Scanner::new(Limits::default());
    let mut cuts = Vec::new();
    for piece in pieces {
        scanner.buffer().extend_from_slice(piece);
        while let Some(cut) = scanner.next().expect("the stream goes on") {
            cuts.push(cut);
        }
    }
    assert!(scanner.buffer().is_empty(), "something is left over");
    cuts
}

/// All of these servers write start tags as we do, so nothing changes at all.
fn check_stanza(xml: &str, stanza: &Stanza) {
    let mut out = BytesMut::new();
    stanza.write_to(&mut out);
    assert_eq!(out, xml, "written anew");
    assert_eq!(out.len(), stanza.len());
    assert!(
        stanza.payload().is_empty()
            || memchr::memmem::find(xml.as_bytes(), stanza.payload()).is_some()
    );
    let again = Stanza::parse(Bytes::copy_from_slice(xml.as_bytes()), &Limits::default());
    assert_eq!(again.expect("the same").payload(), stanza.payload());

    let unchanged = stanza.edited_payload(|_| {});
    assert_eq!(unchanged.as_ptr(), stanza.payload().as_ptr(), "{xml}");
    let mut seen = Vec::new();
    let mut elements = stanza.elements();
    while elements.advance() {
        seen.push((
            elements.name().to_owned(),
            elements.namespace().into_owned(),
        ));
    }
    let mut expected = Vec::new();
    collect(&stanza.to_element(), &mut expected);
    assert_eq!(seen, expected, "{xml}");
}

fn collect(parent: &Element, found: &mut Vec<(String, String)>) {
    for child in parent.children() {
        found.push((child.name().to_owned(), child.ns()));
        collect(child, found);
    }
}
