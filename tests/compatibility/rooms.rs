//! Rooms of the far datacenter: bob is where they are, alice is not.

use minidom::Element;
use xmpp_parsers::ns;

use super::archives::archived;
use super::limit::{Limit, Verdict};
use super::meeting::{Meeting, Person};
use super::messages::condition;
use crate::support::room::{Occupant, has_status};
use crate::support::server::Kind;
use crate::support::xml::{body, child};

pub async fn talk(meeting: &Meeting) -> Verdict {
    let (alice, bob) = meeting.strangers().await;
    let bobby = Occupant::join(&bob, &meeting.room(), "bobby").await;
    conversation(meeting, &alice, &bobby).await;
    // And who is cut off is gone too.
    Occupant::join(&alice, &meeting.room(), "ally").await;
    bobby.see("ally").await;
    alice.kill().await;
    bobby.see_leave("ally").await;
    Verdict::Given
}

async fn conversation(meeting: &Meeting, alice: &Person, bobby: &Occupant<'_>) {
    let room = meeting.room();
    let ally = Occupant::join(alice, &room, "ally").await;
    // The owner is shown who they are: users of the shared domain.
    assert_eq!(bobby.see("ally").await.as_deref(), Some(&*alice.full));
    ally.see("bobby").await;
    for n in 0..10 {
        ally.say(&format!("from afar {n}")).await;
        bobby.say(&format!("from next door {n}")).await;
    }
    for occupant in [&ally, bobby] {
        for n in 0..10 {
            occupant.hear("ally", &format!("from afar {n}")).await;
            occupant.hear("bobby", &format!("from next door {n}")).await;
        }
    }
    // Words in private, between occupants.
    let bob = bobby.client;
    alice.chat(&format!("{room}/bobby"), "psst").await;
    bob.expect_chat(&format!("{room}/ally"), "psst").await;
    bob.chat(&format!("{room}/ally"), "what?").await;
    alice.expect_chat(&format!("{room}/bobby"), "what?").await;

    ally.leave().await;
    bobby.see_leave("ally").await;
}

pub async fn history(meeting: &Meeting) -> Verdict {
    let (alice, bob) = meeting.strangers().await;
    let room = meeting.room();
    let bobby = Occupant::join(&bob, &room, "bobby").await;
    for text in ["first", "second", "third"] {
        bobby.say(text).await;
        bobby.hear("bobby", text).await;
    }
    let ally = Occupant::join(&alice, &room, "ally").await;
    for text in ["first", "second"] {
        let (nick, said) = ally.hear_next().await;
        assert_eq!((&*nick, &*said), ("bobby", text));
    }
    let third = ally.hear("bobby", "third").await;
    assert!(child(&third, "delay").is_some(), "{third:?}");

    if meeting.far() == Kind::MongooseIm {
        let question = format!("<query xmlns='{}'/>", ns::MAM);
        let answer = alice.iq(Some(&room), "set", &question).await;
        assert_eq!(condition(&answer), "internal-server-error", "{answer:?}");
        return Verdict::But(Limit::NoRoomArchive);
    }
    let archived = archived(&alice, Some(&room), None).await;
    let archived: Vec<_> = archived.iter().filter(|m| body(m).is_some()).collect();
    let said: Vec<_> = archived.iter().filter_map(|m| body(m)).collect();
    assert_eq!(said, ["first", "second", "third"], "{archived:?}");
    // Under the room's global name.
    let from = format!("{room}/bobby");
    let is_bobby = |m: &&Element| m.attr("from") == Some(&from);
    assert!(archived.iter().all(is_bobby), "{archived:?}");
    Verdict::Given
}

pub async fn invite_and_kick(meeting: &Meeting) -> Verdict {
    let (alice, bob) = meeting.strangers().await;
    let room = meeting.room();
    let bobby = Occupant::join(&bob, &room, "bobby").await;
    bob.send(&format!(
        "<message to='{room}'><x xmlns='http://jabber.org/protocol/muc#user'>\
         <invite to='{}'><reason>come</reason></invite></x></message>",
        alice.name
    ))
    .await;
    let invitation = alice
        .until("the invitation", |s| {
            s.attr("from") == Some(&room) && child(s, "x").is_some()
        })
        .await;
    let user = invitation.get_child("x", "http://jabber.org/protocol/muc#user");
    let invite = user.and_then(|x| child(x, "invite"));
    let invite = invite.unwrap_or_else(|| panic!("{invitation:?}"));
    // XEP-0045 leaves it to the room whether that is the nick or the real address.
    let from = invite.attr("from").unwrap_or_default();
    let known = [format!("{room}/bobby"), bob.name.clone(), bob.full.clone()];
    assert!(known.iter().any(|known| known == from), "{invitation:?}");

    let ally = Occupant::join(&alice, &room, "ally").await;
    bobby.see("ally").await;
    let kick = "<query xmlns='http://jabber.org/protocol/muc#admin'>\
                <item nick='ally' role='none'><reason>enough</reason></item></query>";
    let answer = bob.iq(Some(&room), "set", kick).await;
    assert_eq!(answer.attr("type"), Some("result"), "{answer:?}");
    let kicked = ally.see_leave("ally").await;
    assert!(has_status(&kicked, "307"), "{kicked:?}");
    bobby.see_leave("ally").await;
    let text = body(&invitation).unwrap_or_default();
    if text.contains(meeting.far_host()) {
        return Verdict::But(Limit::InvitationText);
    }
    Verdict::Given
}
