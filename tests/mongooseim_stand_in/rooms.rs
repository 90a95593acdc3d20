//! A room, as somebody at a component sees it.

use crate::support::room::Occupant;
use crate::{GLOBAL, attach, heard, login, server, sync, watched};

const ROOM: &str = "room@conference.dc1.test";

/// Invited, in, heard what was said, said something, thrown out.
pub async fn flow() -> Vec<String> {
    let server = server().rooms("conference.dc1.test").start().await;
    let component = attach(&server, GLOBAL).await;
    let alice = login(&server, "alice", "a1").await;
    watched(&component, GLOBAL, &alice).await;
    let room = Occupant::join(&alice, ROOM, "Alice").await;
    alice
        .send("<message type='groupchat' id='gm' to='room@conference.dc1.test'><body>hello room</body></message>")
        .await;
    room.hear("Alice", "hello room").await;
    alice
        .send(
            "<message to='room@conference.dc1.test'><x xmlns='http://jabber.org/protocol/muc#user'>\
             <invite to='bob@example.test'><reason>come</reason></invite></x></message>",
        )
        .await;
    alice.sync().await;
    let enter = |payload: &str, from: &str, to: &str| {
        format!("<presence from='{from}' to='{to}'>{payload}</presence>")
    };
    let muc = "<x xmlns='http://jabber.org/protocol/muc'/>";
    let bob = "bob@example.test/b1";
    component
        .send(&enter(muc, bob, &format!("{ROOM}/Bob")))
        .await;
    component
        .send(&format!(
            "<message type='groupchat' id='gb' from='{bob}' to='{ROOM}'><body>from bob</body></message>\
             <iq type='get' id='af' from='{bob}' to='{ROOM}'>\
             <query xmlns='http://jabber.org/protocol/disco#items'/></iq>"
        ))
        .await;
    room.hear("Bob", "from bob").await;
    let kick = "<query xmlns='http://jabber.org/protocol/muc#admin'>\
                <item nick='Bob' role='none'><reason>x</reason></item></query>";
    let kicked = alice.iq(Some(ROOM), "set", kick).await;
    assert_eq!(kicked.attr("type"), Some("result"), "{kicked:?}");

    // A room whose owner has not accepted its configuration yet.
    let locked = "<presence to='r2@conference.dc1.test/A'>\
                  <x xmlns='http://jabber.org/protocol/muc'/></presence>";
    alice.send(locked).await;
    alice.sync().await;
    for payload in [muc, ""] {
        let to = "r2@conference.dc1.test/C";
        component
            .send(&enter(payload, "carol@example.test/z", to))
            .await;
    }
    sync(&component).await;
    heard(&component)
}
