//! Rooms (XEP-0045) of one datacenter, with occupants from all datacenters.

use crate::support::client::Client;
use crate::support::cluster::Cluster;
use crate::support::pair::Pair;
use crate::support::room::{Occupant, has_status, start_with_rooms};
use crate::support::xml::{body, child};

crate::on_mesh!(
    muc_conversation_on_one_host,
    muc_conversation_history,
    a_room_without_a_local_name_is_shared_too,
    who_is_invited_kicked_or_dropped_hears_of_it_in_the_other_datacenter,
);

crate::on_pairs_with_mongooseim!(
    muc_conversation_on_one_host,
    a_room_without_a_local_name_is_shared_too,
);

crate::on_two_ejabberds!(
    muc_conversation_on_one_host,
    muc_conversation_history,
    a_room_without_a_local_name_is_shared_too,
    who_is_invited_kicked_or_dropped_hears_of_it_in_the_other_datacenter,
);

const ROOM: &str = "lobby@muc.example.test";
/// The rooms' name at the server of the first datacenter.
const LOCAL: &str = "conference.dc1.test";

/// Alice in the datacenter with the rooms, and bob in the other.
async fn alice_and_bob(cluster: &Cluster) -> (Client, Client) {
    let alice = cluster.login("alice", "dc1.test", "a1").await;
    let bob = cluster.login("bob", "dc2.test", "b1").await;
    (alice, bob)
}

async fn talk(alice: &Occupant<'_>, bob: &Occupant<'_>) {
    alice.say("hello from the first").await;
    bob.hear("ally", "hello from the first").await;
    alice.hear("ally", "hello from the first").await;
    bob.say("hello from the second").await;
    alice.hear("bobby", "hello from the second").await;
    bob.hear("bobby", "hello from the second").await;
}

async fn muc_conversation_on_one_host(pair: impl Into<Pair>) {
    let cluster = start_with_rooms(pair, Some(LOCAL)).await;
    let (alice, bob) = alice_and_bob(&cluster).await;
    let carol = cluster.login("carol", "dc1.test", "c1").await;
    let ally = Occupant::join(&alice, ROOM, "ally").await;
    let bobby = Occupant::join(&bob, ROOM, "bobby").await;
    let caz = Occupant::join(&carol, ROOM, "caz").await;
    // The owner sees the occupants' addresses: all are users of the shared domain.
    assert_eq!(
        ally.see("bobby").await.as_deref(),
        Some("bob@example.test/b1")
    );
    assert_eq!(
        ally.see("caz").await.as_deref(),
        Some("carol@example.test/c1")
    );
    bobby.see("ally").await;
    bobby.see("caz").await;
    talk(&ally, &bobby).await;
    caz.hear("bobby", "hello from the second").await;
    for n in 0..20 {
        ally.say(&format!("number {n}")).await;
    }
    for n in 0..20 {
        bobby.hear("ally", &format!("number {n}")).await;
    }

    // Private messages between occupants.
    bob.chat(&format!("{ROOM}/caz"), "psst").await;
    carol.expect_chat(&format!("{ROOM}/bobby"), "psst").await;

    bobby.leave().await;
    ally.see_leave("bobby").await;
    caz.leave().await;
    ally.see_leave("caz").await;
    cluster.assert_no_leaks();
    cluster.assert_balanced().await;
}

async fn muc_conversation_history(pair: impl Into<Pair>) {
    let cluster = start_with_rooms(pair, Some(LOCAL)).await;
    let (alice, bob) = alice_and_bob(&cluster).await;
    let ally = Occupant::join(&alice, ROOM, "ally").await;
    for text in ["first", "second", "third"] {
        ally.say(text).await;
        ally.hear("ally", text).await;
    }
    let bobby = Occupant::join(&bob, ROOM, "bobby").await;
    let dave = cluster.login("dave", "dc1.test", "d1").await;
    let davy = Occupant::join(&dave, ROOM, "davy").await;
    for late in [&bobby, &davy] {
        for text in ["first", "second"] {
            let (nick, said) = late.hear_next().await;
            assert_eq!((&*nick, &*said), ("ally", text));
        }
        let third = late.hear("ally", "third").await;
        let delay = child(&third, "delay").unwrap_or_else(|| panic!("{third:?}"));
        assert_eq!(delay.attr("from"), Some(ROOM));
        // The archive is the room's, under its address in the shared domain.
        let id = child(&third, "stanza-id").unwrap_or_else(|| panic!("{third:?}"));
        assert_eq!(id.attr("by"), Some(ROOM));
    }
    cluster.assert_no_leaks();
    cluster.assert_balanced().await;
}

async fn a_room_without_a_local_name_is_shared_too(pair: impl Into<Pair>) {
    let cluster = start_with_rooms(pair, None).await;
    let (alice, bob) = alice_and_bob(&cluster).await;
    let bobby = Occupant::join(&bob, ROOM, "bobby").await;
    let ally = Occupant::join(&alice, ROOM, "ally").await;
    // She is in the room under her local address, and still shown under her global one.
    assert_eq!(
        bobby.see("ally").await.as_deref(),
        Some("alice@example.test/a1")
    );
    ally.see("bobby").await;
    talk(&ally, &bobby).await;
    bobby.leave().await;
    ally.see_leave("bobby").await;
    cluster.assert_no_leaks();
    cluster.assert_balanced().await;
}

async fn who_is_invited_kicked_or_dropped_hears_of_it_in_the_other_datacenter(
    pair: impl Into<Pair>,
) {
    let cluster = start_with_rooms(pair, Some(LOCAL)).await;
    let (alice, bob) = alice_and_bob(&cluster).await;
    let ally = Occupant::join(&alice, ROOM, "ally").await;
    alice
        .send(&format!(
            "<message to='{ROOM}'><x xmlns='http://jabber.org/protocol/muc#user'>\
             <invite to='bob@example.test'><reason>come</reason></invite></x></message>"
        ))
        .await;
    let invitation = bob.expect_message_from(ROOM).await;
    let invite = child(&invitation, "x").and_then(|x| child(x, "invite"));
    let from = invite.and_then(|invite| invite.attr("from"));
    // XEP-0045 §7.8.2 lets a room name the inviter by either address.
    let names = ["lobby@muc.example.test/ally", "alice@example.test/a1"];
    assert!(
        from.is_some_and(|from| names.contains(&from)),
        "{invitation:?}"
    );
    let direct = invitation.get_child("x", "jabber:x:conference");
    assert_eq!(direct.and_then(|x| x.attr("jid")), Some(ROOM));
    // A human-readable text stays as the server wrote it.
    assert!(body(&invitation).is_some_and(|text| text.contains("invite")));

    let bobby = Occupant::join(&bob, ROOM, "bobby").await;
    ally.see("bobby").await;
    let kick = "<query xmlns='http://jabber.org/protocol/muc#admin'>\
                <item nick='bobby' role='none'><reason>enough</reason></item></query>";
    let answer = alice.iq(Some(ROOM), "set", kick).await;
    assert_eq!(answer.attr("type"), Some("result"), "{answer:?}");
    let kicked = bobby.see_leave("bobby").await;
    assert!(has_status(&kicked, "307"), "{kicked:?}");
    ally.see_leave("bobby").await;

    let _bobby = Occupant::join(&bob, ROOM, "bobby").await;
    ally.see("bobby").await;
    bob.kill().await;
    ally.see_leave("bobby").await;
    cluster.assert_balanced().await;
}
