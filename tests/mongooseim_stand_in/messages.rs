//! Messages both ways.

use crate::{GLOBAL, attach, heard, login, server, sync};

/// What clients send, as it comes to a component.
pub async fn outgoing() -> Vec<String> {
    let server = server().start().await;
    let component = attach(&server, GLOBAL).await;
    let rooms = attach(&server, "muc.example.test").await;
    let alice = login(&server, "alice", "r1").await;
    for stanza in OUTGOING {
        alice.send(stanza).await;
    }
    alice.sync().await;
    sync(&component).await;
    sync(&rooms).await;
    heard(&component).into_iter().chain(heard(&rooms)).collect()
}

const OUTGOING: [&str; 27] = [
    "<message type='groupchat' id='g1' to='room@muc.example.test'><body>hi</body></message>",
    "<iq type='get' id='dinf' to='example.test'>\
     <query xmlns='http://jabber.org/protocol/disco#info'/></iq>",
    "<iq type='get' id='di' to='muc.example.test'>\
     <query xmlns='http://jabber.org/protocol/disco#items'/></iq>",
    "<message type='chat' id='rich' to='carol@example.test/home' xml:lang='de' xmlns:z='urn:z' \
     z:q=\"1\" foo='bar'><body>hé &lt;&amp;> \"q\" 'a' 😀</body><body xml:lang='en'>x</body>\
     <p:x xmlns:p='urn:pfx' p:a='v'><p:y/><y xmlns=''/></p:x>\
     <active xmlns='http://jabber.org/protocol/chatstates'/></message>",
    "<message to='u@example.test'><body>no type</body></message>",
    "<message type='normal' id='n' to='u@example.test'><subject>s</subject><body>b</body>\
     <thread>t</thread></message>",
    "<message type='headline' to='u@example.test'><body>h</body></message>",
    "<message type='chat' id='cdata' to='u@example.test'><body><![CDATA[a<b]]></body></message>",
    "<message id='norm' to='U@Example.TEST/Res é'><body/></message>",
    "<message type='error' id='e' to='u@example.test'><error type='cancel'>\
     <item-not-found xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error></message>",
    "<iq type='set' id='is' to='u@example.test/r'><query xmlns='urn:x'><item/></query></iq>",
    "<iq type='result' id='ir' to='u@example.test'/>",
    "<iq type='error' id='ie' to='u@example.test'><error type='cancel'/></iq>",
    "<message id='ff' from='alice@dc1.test' to='u@example.test'><body>bare from</body></message>",
    "<iq type='result' id='full1' to='bob@example.test/x'>\
     <query xmlns='http://jabber.org/protocol/disco#info'/></iq>",
    "<message type='chat' id='s1' to='bob@example.test'><body>out</body></message>",
    "<message type='chat' id='cs' to='carol@example.test/z'>\
     <composing xmlns='http://jabber.org/protocol/chatstates'/></message>",
    "<message type='chat' id='mk' to='carol@example.test'>\
     <displayed xmlns='urn:xmpp:chat-markers:0' id='x'/></message>",
    "<message type='chat' id='co' to='carol@example.test'><body>fix</body>\
     <replace xmlns='urn:xmpp:message-correct:0' id='y'/><private xmlns='urn:xmpp:carbons:2'/>\
     <no-copy xmlns='urn:xmpp:hints'/></message>",
    "<iq type='get' id='lst' to='carol@example.test/z'><query xmlns='jabber:iq:last'/></iq>",
    "<iq type='set' id='jg' to='carol@example.test/z'><jingle xmlns='urn:xmpp:jingle:1' \
     action='session-initiate' initiator='alice@dc1.test/r1' sid='s'/></iq>",
    "<iq type='get' id='vq' to='carol@example.test'><vCard xmlns='vcard-temp'/></iq>",
    "<message type='chat' id='fg' to='carol@example.test'><body>f</body>\
     <stanza-id xmlns='urn:xmpp:sid:0' by='alice@dc1.test' id='forged'/>\
     <delay xmlns='urn:xmpp:delay' from='dc1.test' stamp='2020-01-01T00:00:00Z'/></message>",
    "<iq type='get' id='a1' to='dc1.test'><ping xmlns='urn:xmpp:ping'/></iq>",
    "<presence type='probe' to='u@example.test'/>",
    "<message to='nobody@nowhere.test'><body>no way there</body></message>",
    "<message to='alice@dc1.test'><body>to herself</body></message>",
];

/// What nobody takes comes back with what was sent.
pub async fn refused() -> Vec<String> {
    let server = server().start().await;
    let component = attach(&server, GLOBAL).await;
    let alice = login(&server, "alice", "r1").await;
    let carol = login(&server, "carol", "c1").await;
    let block = "<block xmlns='urn:xmpp:blocking'><item jid='bob@example.test'/></block>";
    let blocked = carol.iq(None, "set", block).await;
    assert_eq!(blocked.attr("type"), Some("result"), "{blocked:?}");
    let to = |id: &str, kind: &str, from: &str, to: &str| {
        format!("<message type='{kind}' id='{id}' {from} {to}><body>x</body></message>")
    };
    let bob = "from='bob@example.test/x'";
    for message in [
        to("off3", "chat", bob, "to='nobody@dc1.test'"),
        to("blk1", "chat", bob, "to='carol@dc1.test'"),
        to("bad1", "chat", bob, "to='@@bad'"),
        to("bad2", "chat", bob, "to='u@nowhere.test'"),
        to("invf", "chat", "from='x@other.test'", "to='alice@dc1.test'"),
        to("invf2", "chat", "from='@@'", "to='alice@dc1.test'"),
        to("invf3", "chat", "", "to='alice@dc1.test'"),
        to("invf4", "chat", "from='a@example.test'", ""),
        "<foo from='bob@example.test/x' to='alice@dc1.test'/>".to_owned(),
    ] {
        component.send(&message).await;
    }
    sync(&component).await;
    let unblock = "<unblock xmlns='urn:xmpp:blocking'/>";
    carol.iq(None, "set", unblock).await;
    carol.close().await;

    let z = "from='carol@example.test/z'";
    component
        .send(&to("off4", "headline", bob, "to='carol@dc1.test'"))
        .await;
    for user in [
        "nobody@dc1.test",
        "nobody@dc1.test/x",
        "carol@dc1.test",
        "carol@dc1.test/x",
    ] {
        for kind in ["chat", "normal", "headline", "groupchat"] {
            let id = format!("{kind}-{user}");
            component
                .send(&to(&id, kind, z, &format!("to='{user}'")))
                .await;
        }
    }
    sync(&component).await;
    let said = heard(&component);
    // Kept without a word.
    for id in ["chat-carol@dc1.test", "normal-carol@dc1.test/x"] {
        assert!(
            !said.iter().any(|raw| raw.contains(&format!("id='{id}'"))),
            "{said:?}"
        );
    }
    assert!(
        alice
            .inbox()
            .pending()
            .iter()
            .all(|stanza| stanza.name() != "message")
    );
    said
}

/// MongooseIM sorts stored messages by their own delays, and reverses equal ones.
#[tokio::test(flavor = "multi_thread")]
async fn stored_messages_are_sorted_by_their_delays() {
    let server = server().start().await;
    let component = attach(&server, GLOBAL).await;
    for (text, second) in [("first", 2), ("second", 1), ("third", 1)] {
        component
            .send(&format!(
                "<message type='chat' from='bob@example.test/x' to='carol@dc1.test'>\
                 <body>{text}</body><delay xmlns='urn:xmpp:delay' from='example.test' \
                 stamp='2026-01-01T00:00:0{second}Z'/></message>"
            ))
            .await;
    }
    sync(&component).await;
    let carol = login(&server, "carol", "c1").await;
    carol.sync().await;
    let raw = carol.inbox().raw().concat();
    let at = ["third", "second", "first"].map(|text| raw.find(&format!("<body>{text}")));
    assert!(at.iter().all(Option::is_some) && at.is_sorted(), "{raw}");
}
