//! Tests of the module's parts together.

mod elements;
mod properties;
mod replies;
mod scanning;
mod strictness;
mod trees;
mod writing;

use bytes::{Bytes, BytesMut};

use super::{Cut, Fault, Limits, ScanError, Scanner, Stanza};

/// A cut in a form that can be compared and printed.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Seen {
    Stanza(String),
    Refused(Option<String>, Fault),
    Other(String),
    End,
    Broken(ScanError),
}

fn written(stanza: &Stanza) -> String {
    let mut out = BytesMut::new();
    stanza.write_to(&mut out);
    assert_eq!(stanza.len(), out.len(), "len() of {out:?}");
    String::from_utf8(out.to_vec()).unwrap()
}

/// Returns all items that a scanner cuts when `pieces` are read one after the other.
fn scan_pieces<'a>(limits: &Limits, pieces: impl IntoIterator<Item = &'a [u8]>) -> Vec<Seen> {
    let mut scanner = Scanner::new(limits.clone());
    let mut seen = Vec::new();
    for piece in pieces {
        scanner.buffer().extend_from_slice(piece);
        loop {
            seen.push(match scanner.next() {
                Ok(None) => break,
                Ok(Some(Cut::Stanza(stanza))) => Seen::Stanza(written(&stanza)),
                Ok(Some(Cut::Refused { head, fault })) => {
                    Seen::Refused(head.as_ref().map(written), fault)
                }
                Ok(Some(Cut::Other(bytes))) => {
                    Seen::Other(String::from_utf8(bytes.to_vec()).unwrap())
                }
                Ok(Some(Cut::End)) => Seen::End,
                Err(error) => {
                    seen.push(Seen::Broken(error));
                    return seen;
                }
            });
        }
    }
    seen
}

fn scan(stream: &str) -> Vec<Seen> {
    scan_pieces(&Limits::default(), [stream.as_bytes()])
}

fn parse(stanza: &str) -> Result<Stanza, Fault> {
    Stanza::parse(
        Bytes::copy_from_slice(stanza.as_bytes()),
        &Limits::default(),
    )
}
