//! Personal eventing and vCards, as contacts at a component see them.

use crate::{GLOBAL, attach, heard, login, server, sync, watched};

/// A contact may fetch and subscribe, anybody else may not.
pub async fn flow() -> Vec<String> {
    let server = server().start().await;
    let component = attach(&server, GLOBAL).await;
    let alice = login(&server, "alice", "r1").await;
    watched(&component, "carol@example.test", &alice).await;
    for payload in [
        "<pubsub xmlns='http://jabber.org/protocol/pubsub'>\
         <publish node='urn:xmpp:avatar:metadata'><item id='h1'>\
         <metadata xmlns='urn:xmpp:avatar:metadata'><info bytes='1' id='h1' type='image/png'/>\
         </metadata></item></publish></pubsub>",
        "<vCard xmlns='vcard-temp'><FN>Al</FN><JABBERID>alice@dc1.test</JABBERID></vCard>",
    ] {
        let answer = alice.iq(None, "set", payload).await;
        assert_eq!(answer.attr("type"), Some("result"), "{answer:?}");
    }
    for who in ["carol", "zed"] {
        for (n, payload) in [
            "<pubsub xmlns='http://jabber.org/protocol/pubsub'>\
             <items node='urn:xmpp:avatar:metadata'/></pubsub>",
            "<vCard xmlns='vcard-temp'/>",
            "<query xmlns='http://jabber.org/protocol/disco#items'/>",
        ]
        .iter()
        .enumerate()
        {
            component
                .send(&format!(
                    "<iq type='get' id='{who}{n}' from='{who}@example.test/z' to='alice@dc1.test'>\
                     {payload}</iq>"
                ))
                .await;
        }
    }
    for jid in ["carol@example.test", "carol@dc2.test"] {
        component
            .send(&format!(
                "<iq type='set' id='ps-{jid}' from='carol@example.test/z' to='alice@dc1.test'>\
                 <pubsub xmlns='http://jabber.org/protocol/pubsub'>\
                 <subscribe jid='{jid}' node='urn:xmpp:avatar:metadata'/></pubsub></iq>"
            ))
            .await;
    }
    sync(&component).await;
    heard(&component)
}
