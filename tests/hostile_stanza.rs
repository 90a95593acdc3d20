//! A user's stanza costs memory by its length, whatever it declares. One test: the peak is that
//! of the process.

use bytes::{Bytes, BytesMut};
use strait::addresses::{Senders, Translator};
use strait::config::ServiceConfig;
use strait::host::Host;
use strait::services::Services;
use strait::stanza::{Limits, Stanza};

/// The greatest resident size of this process so far, in kB.
fn peak() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let words = line.unwrap().split_whitespace().next();
    words.unwrap().parse().unwrap()
}

/// A stanza with a long namespace on its start tag, to which 10,000 elements refer.
fn hostile(from: &str, to: &str, last: &str) -> Stanza {
    let namespace = "urn:dc1.test/".repeat(3000);
    let items = "<p:item/>".repeat(10_000);
    let text = format!(
        "<iq type='get' id='1' xmlns:p='{namespace}' from='{from}' to='{to}'>\
         <p:query>{items}{last}</p:query></iq>"
    );
    Stanza::parse(Bytes::from(text), &Limits::default()).unwrap()
}

#[test]
fn a_long_namespace_with_many_elements_costs_no_more_than_other_stanzas() {
    let host = |name: &str| Host::new(name).unwrap();
    let (global, local) = (host("example.test"), host("dc1.test"));
    let services: [ServiceConfig; 0] = [];
    let translator = Translator::new(global.clone(), local, &services, Senders::default());
    let (alice, bob) = ("alice@dc1.test/phone", "bob@example.test/desk");
    let delay = "<delay xmlns='urn:xmpp:delay' from='dc1.test'/>";
    let forged = "<stanza-id xmlns='urn:xmpp:sid:0' by='dc1.test'/>";

    let before = peak();
    let mut out = hostile(alice, bob, delay);
    let length = out.len();
    translator.outbound(&mut out).unwrap();
    assert_eq!(
        out.len(),
        length + 2 * ("example.test".len() - "dc1.test".len())
    );
    let mut incoming = hostile(bob, "alice@example.test", forged);
    translator.inbound(&mut incoming).unwrap();
    let mut written = BytesMut::new();
    incoming.write_to(&mut written);
    let query = hostile(bob, "example.test", "");
    let offered = std::iter::empty();
    let _ = Services::new(global, false).answer(&query, offered);
    let grown = peak() - before;
    assert!(grown < 16_000, "{grown} kB");
}
