//! Questions to accounts, to sessions and to the domain.

use minidom::Element;
use xmpp_parsers::ns;

use super::limit::Verdict;
use super::meeting::{Meeting, Person};
use super::messages::condition;
use crate::support::cluster::GLOBAL;
use crate::support::interests::Interests;
use crate::support::xml::{child, children};

const INFO: &str = "<query xmlns='http://jabber.org/protocol/disco#info'/>";
const ITEMS: &str = "<query xmlns='http://jabber.org/protocol/disco#items'/>";
const PING: &str = "<ping xmlns='urn:xmpp:ping'/>";

fn is_result(answer: &Element) {
    assert_eq!(answer.attr("type"), Some("result"), "{answer:?}");
}

/// Takes the request of `asker` that `wanted` describes, and answers it with `payload`.
async fn answer(client: &Person, asker: &str, wanted: &str, payload: &str) -> Element {
    let request = client
        .until(wanted, |s| {
            s.name() == "iq"
                && s.attr("from") == Some(asker)
                && matches!(s.attr("type"), Some("get" | "set"))
                && s.children().any(|child| child.name() == wanted)
        })
        .await;
    let id = request.attr("id").expect("id");
    client
        .send(&format!(
            "<iq type='result' to='{asker}' id='{id}'>{payload}</iq>"
        ))
        .await;
    request
}

pub async fn vcard(meeting: &Meeting) -> Verdict {
    let (alice, bob) = meeting.strangers().await;
    let get = "<vCard xmlns='vcard-temp'/>";
    let local = bob.jid().split('/').next().expect("a bare JID");
    let vcard = format!(
        "<vCard xmlns='vcard-temp'><FN>Bob</FN><JABBERID>{local}</JABBERID>\
         <PHOTO><TYPE>image/png</TYPE><BINVAL>AAECAwQFBgc=</BINVAL></PHOTO></vCard>"
    );
    is_result(&bob.iq(None, "set", &vcard).await);
    let got = alice.iq(Some(&bob.name), "get", get).await;
    is_result(&got);
    let field = |path: &[&str]| {
        let mut at = child(&got, "vCard")?;
        for name in path {
            at = child(at, name)?;
        }
        Some(at.text())
    };
    assert_eq!(field(&["FN"]).as_deref(), Some("Bob"), "{got:?}");
    assert_eq!(field(&["JABBERID"]).as_deref(), Some(&*bob.name), "{got:?}");
    assert_eq!(
        field(&["PHOTO", "BINVAL"]).as_deref(),
        Some("AAECAwQFBgc="),
        "{got:?}"
    );
    Verdict::Given
}

pub async fn disco(meeting: &Meeting) -> Verdict {
    let (alice, bob) = meeting.friends().await;
    for (asker, other) in [(&alice, &bob), (&bob, &alice)] {
        let account = asker.iq(Some(&other.name), "get", INFO).await;
        is_result(&account);
        let query = child(&account, "query").expect("a query");
        let is_account = |i: &Element| i.attr("category") == Some("account");
        assert!(children(query, "identity").any(is_account), "{account:?}");

        let interests = Interests::new(&other.name, &[]);
        let session = interests
            .while_answering(other, asker.iq(Some(&other.full), "get", INFO))
            .await;
        is_result(&session);
        let query = child(&session, "query").expect("a query");
        let is_client = |i: &Element| i.attr("category") == Some("client");
        assert!(children(query, "identity").any(is_client), "{session:?}");

        let domain = asker.iq(Some(GLOBAL), "get", INFO).await;
        is_result(&domain);
        let services = asker.iq(Some(GLOBAL), "get", ITEMS).await;
        let query = child(&services, "query").unwrap_or_else(|| panic!("{services:?}"));
        let (own, others) = meeting.all_rooms();
        for rooms in [&own, &others] {
            let listed = |item: &Element| item.attr("jid") == Some(rooms);
            assert!(children(query, "item").any(listed), "{rooms}: {services:?}");
        }
    }
    Verdict::Given
}

pub async fn ping(meeting: &Meeting) -> Verdict {
    let (alice, bob) = meeting.strangers().await;
    for (asker, other) in [(&alice, &bob), (&bob, &alice)] {
        is_result(&asker.iq(Some(GLOBAL), "get", PING).await);
        let (pong, _) = tokio::join!(
            asker.iq(Some(&other.full), "get", PING),
            answer(other, &asker.full, "ping", "")
        );
        is_result(&pong);
        let gone = asker
            .iq(Some(&format!("{}/gone", other.name)), "get", PING)
            .await;
        assert_eq!(condition(&gone), "service-unavailable", "{gone:?}");
    }
    Verdict::Given
}

pub async fn jingle(meeting: &Meeting) -> Verdict {
    const PROPOSALS: &str = "urn:xmpp:jingle-message:0";
    let (alice, bob) = meeting.strangers().await;
    // It rings everywhere, and one session takes it.
    alice
        .send(&format!(
            "<message type='chat' to='{}'><propose xmlns='{PROPOSALS}' id='call'>\
             <description xmlns='urn:xmpp:jingle:apps:rtp:1' media='audio'/></propose></message>",
            bob.name
        ))
        .await;
    let proposal = bob
        .until("the proposal", |s| {
            s.get_child("propose", PROPOSALS).is_some()
        })
        .await;
    assert_eq!(proposal.attr("from"), Some(&*alice.full));
    bob.send(&format!(
        "<message type='chat' to='{}'><proceed xmlns='{PROPOSALS}' id='call'/></message>",
        alice.full
    ))
    .await;
    alice
        .until("the go-ahead", |s| {
            s.get_child("proceed", PROPOSALS).is_some()
        })
        .await;

    // A client names itself by the address that it knows: its local one.
    let content = "<content creator='initiator' name='voice'>\
                   <description xmlns='urn:xmpp:jingle:apps:rtp:1' media='audio'>\
                   <payload-type id='96' name='opus' clockrate='48000'/></description>\
                   <transport xmlns='urn:xmpp:jingle:transports:ice-udp:1' pwd='p' ufrag='u'/>\
                   </content>";
    let offer = jingle_element("session-initiate", "initiator", alice.jid(), content);
    let (acknowledged, offered) = tokio::join!(
        alice.iq(Some(&bob.full), "set", &offer),
        answer(&bob, &alice.full, "jingle", "")
    );
    is_result(&acknowledged);
    assert_eq!(
        named(&offered, "initiator"),
        Some(&*alice.full),
        "{offered:?}"
    );
    assert!(String::from(&offered).contains("opus"), "{offered:?}");

    let accept = jingle_element("session-accept", "responder", bob.jid(), content);
    let (acknowledged, accepted) = tokio::join!(
        bob.iq(Some(&alice.full), "set", &accept),
        answer(&alice, &bob.full, "jingle", "")
    );
    is_result(&acknowledged);
    assert_eq!(
        named(&accepted, "responder"),
        Some(&*bob.full),
        "{accepted:?}"
    );
    Verdict::Given
}

fn jingle_element(action: &str, role: &str, who: &str, content: &str) -> String {
    format!(
        "<jingle xmlns='{}' action='{action}' {role}='{who}' sid='call'>{content}</jingle>",
        ns::JINGLE
    )
}

fn named<'a>(request: &'a Element, role: &'a str) -> Option<&'a str> {
    request.get_child("jingle", ns::JINGLE)?.attr(role)
}
