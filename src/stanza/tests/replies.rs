//! Replies to a stanza.

use super::*;
use crate::stanza::{Reason, Refusal};

fn error_to(stanza: &str) -> Option<String> {
    let refusal = Refusal::new(Reason::Timeout, "dc2 <is> away");
    parse(stanza)
        .unwrap()
        .error_reply(&refusal)
        .as_ref()
        .map(written)
}

#[test]
fn an_error_goes_back_with_id_and_language_but_without_the_payload() {
    assert_eq!(
        error_to(
            "<message to='b@c.d/r' xml:lang='de' foo='bar' id='a&#39;1' type='chat' \
             from='a@b.c/r'><body>x</body></message>"
        )
        .unwrap(),
        "<message type='error' id='a&apos;1' xml:lang='de' from='b@c.d/r' to='a@b.c/r'>\
         <error type='wait'>\
         <remote-server-timeout xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/>\
         <text xmlns='urn:ietf:params:xml:ns:xmpp-stanzas' xml:lang='en'>\
         dc2 &lt;is&gt; away</text></error></message>"
    );
}

#[test]
fn every_reason_makes_an_error_that_a_stream_can_carry() {
    for reason in Reason::ALL {
        let stanza = parse("<iq type='get' id='1' from='a@b.c' to='d.e'/>").unwrap();
        let reply = stanza
            .error_reply(&Refusal::new(reason, "\u{1b}\0"))
            .unwrap();
        assert!(parse(&written(&reply)).is_ok(), "{reason:?}");
        assert!(!reply.may_be_answered_with_error());
        assert!(reply.error_reply(&Refusal::new(reason, "")).is_none());
    }
}

#[test]
fn errors_results_and_unavailable_presences_are_never_answered_with_an_error() {
    for silent in [
        "<message type='error' from='a@b.c'/>",
        "<presence type='error' from='a@b.c'/>",
        "<presence type='unavailable' from='a@b.c'/>",
        "<iq type='error' from='a@b.c'/>",
        "<iq type='result' from='a@b.c'/>",
        "<message/>",
    ] {
        assert_eq!(error_to(silent), None, "{silent}");
    }
    for answered in [
        "<message from='a@b.c'/>",
        "<message type='groupchat' from='a@b.c'/>",
        "<presence from='a@b.c'/>",
        "<presence type='subscribe' from='a@b.c'/>",
        "<iq type='get' from='a@b.c'/>",
        "<iq type='set' from='a@b.c'/>",
    ] {
        assert!(error_to(answered).is_some(), "{answered}");
    }
}

#[test]
fn a_result_goes_back_with_its_payload() {
    let ping = parse("<iq type='get' id='1' from='a@b.c/r' to='d.e'><ping xmlns='u'/></iq>");
    let ping = ping.unwrap();
    let reply = ping.result_reply(None);
    assert_eq!(
        written(&reply),
        "<iq type='result' id='1' from='d.e' to='a@b.c/r'/>"
    );
    let query = "<query xmlns='jabber:iq:version'><name>strait</name></query>";
    let reply = ping.result_reply(query.parse().ok());
    assert_eq!(
        written(&reply),
        format!("<iq type='result' id='1' from='d.e' to='a@b.c/r'>{query}</iq>")
    );
}
