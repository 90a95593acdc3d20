//! What is said of whom, without servers and links.

use jid::{BareJid, FullJid, Jid};
use tokio::time::Instant;

use super::probes::PATIENCE;
use super::table::PresenceTable;
use super::{
    Direction, Occupant, PresenceEvent, ProbeRequest, Sweep, SweepAction, SweepCause,
    UnavailableCause, UnavailableNotice,
};
use crate::host::Host;

const ALICE: &str = "alice@x.test/r1";
const BOB: &str = "bob@x.test";
const ROOM: &str = "lobby@muc.x.test";

fn host(name: &str) -> Host {
    Host::new(name).unwrap()
}

fn bare(text: &str) -> BareJid {
    BareJid::new(text).unwrap()
}

fn available_as(session: &str, viewer: &str, occupant: Occupant) -> PresenceEvent {
    PresenceEvent::Available {
        session: FullJid::new(session).unwrap(),
        viewer: Jid::new(viewer).unwrap(),
        occupant,
    }
}

fn available(session: &str, viewer: &str) -> PresenceEvent {
    available_as(session, viewer, Occupant::No)
}

fn unavailable(session: &str, viewer: &str) -> PresenceEvent {
    PresenceEvent::Unavailable {
        session: FullJid::new(session).unwrap(),
        viewer: Jid::new(viewer).unwrap(),
    }
}

/// The gateway of dc2; alice is at dc1.
struct World {
    table: PresenceTable,
    now: Instant,
}

impl World {
    fn new() -> Self {
        Self {
            table: PresenceTable::new(host("x.test")),
            now: Instant::now(),
        }
    }

    fn comes_in(&mut self, event: &PresenceEvent) {
        self.table.came_in(&host("dc1.test"), event);
    }

    fn goes_out(&mut self, event: &PresenceEvent) {
        self.table.went_out(&host("dc1.test"), false, event);
    }

    /// Goes through all records, in parts of one action.
    fn sweep(&mut self, cause: SweepCause) -> Vec<SweepAction> {
        let (mut sweep, mut actions) = (Sweep::new(cause), Vec::new());
        loop {
            actions.extend(self.table.advance(&mut sweep, 1, &|_| false));
            if sweep.is_over() {
                return actions;
            }
        }
    }

    fn lost(&mut self) -> Vec<SweepAction> {
        self.sweep(SweepCause::PeerLost(host("dc1.test")))
    }

    fn back(&mut self, fresh: bool, lost: bool) -> Vec<SweepAction> {
        let host = host("dc1.test");
        self.sweep(SweepCause::PeerBack { host, fresh, lost })
    }

    /// What the worker makes of `actions`.
    fn told(&mut self, actions: Vec<SweepAction>) -> Vec<UnavailableNotice> {
        let notices = actions.into_iter().filter_map(|action| match action {
            SweepAction::SendUnavailable(notice) => Some(notice),
            _ => None,
        });
        let mut told: Vec<_> = notices.collect();
        told.retain(|notice| self.table.confirm(notice));
        told
    }

    /// Dooms nobody: only says what was asked.
    fn asked(&mut self, user: &str, viewer: &str) {
        self.table.asked(bare(user), bare(viewer), None, self.now);
    }
}

fn notice(
    session: &str,
    viewer: &str,
    direction: Direction,
    why: UnavailableCause,
) -> UnavailableNotice {
    UnavailableNotice {
        session: FullJid::new(session).unwrap(),
        viewer: Jid::new(viewer).unwrap(),
        direction,
        host: Some(host("dc1.test")),
        occupant: Occupant::No,
        why,
    }
}

fn request(viewer: &str, user: &str) -> ProbeRequest {
    ProbeRequest {
        viewer: bare(viewer),
        user: bare(user),
        host: Some(host("dc1.test")),
    }
}

#[test]
fn who_was_shown_a_session_is_told_once_when_its_datacenter_is_lost() {
    let mut world = World::new();
    world.comes_in(&available(ALICE, BOB));
    world.comes_in(&available(ALICE, BOB));
    world.comes_in(&available("carol@x.test/c", BOB));
    world.comes_in(&unavailable("carol@x.test/c", BOB));
    world
        .table
        .came_in(&host("dc3.test"), &available("dave@x.test/d", BOB));
    let actions = world.lost();
    let expected = notice(ALICE, BOB, Direction::In, UnavailableCause::Peer);
    assert_eq!(world.told(actions), [expected]);
    assert_eq!(world.lost(), []);
    // Its own gateway says so later: that is known here.
    assert!(world.table.is_repeated(&unavailable(ALICE, BOB)));
    assert!(!world.table.is_repeated(&unavailable(ALICE, BOB)));
}

#[test]
fn a_presence_that_passes_meanwhile_counts_more() {
    let mut world = World::new();
    world.comes_in(&available(ALICE, BOB));
    let actions = world.lost();
    world.comes_in(&available(ALICE, BOB));
    assert_eq!(world.told(actions), []);
    let actions = world.lost();
    world.comes_in(&unavailable(ALICE, BOB));
    assert_eq!(world.told(actions), []);
}

#[test]
fn a_session_that_has_moved_here_is_not_taken_for_lost() {
    let mut world = World::new();
    world.comes_in(&available(ALICE, BOB));
    world.table.stayed(&available(ALICE, BOB));
    assert_eq!(world.lost(), []);
}

#[test]
fn a_returned_datacenter_is_asked_in_the_names_of_those_who_knew_somebody_there() {
    let mut world = World::new();
    world.comes_in(&available(ALICE, BOB));
    world.comes_in(&available("alice@x.test/r2", BOB));
    // Not as a contact, so not to be asked for.
    world.comes_in(&available("carol@x.test/c", "bob@x.test/b1"));
    // His server has asked, and got no answer.
    world.goes_out(&PresenceEvent::Probe {
        user: bare("dave@x.test"),
        viewer: bare(BOB),
    });
    let actions = world.lost();
    world.told(actions);
    let asked = [
        SweepAction::Probe(request(BOB, "alice@x.test")),
        SweepAction::Probe(request(BOB, "dave@x.test")),
    ];
    assert_eq!(world.back(false, true), asked);
    assert_eq!(world.back(false, false), []);
}

#[test]
fn who_is_not_named_by_a_fresh_gateway_in_time_is_gone() {
    let mut world = World::new();
    world.comes_in(&available(ALICE, BOB));
    world.comes_in(&available("alice@x.test/r2", BOB));
    assert_eq!(
        world.back(true, false),
        [SweepAction::Probe(request(BOB, "alice@x.test"))]
    );
    world.asked("alice@x.test", BOB);
    world.comes_in(&available(ALICE, BOB));
    assert_eq!(world.table.answered(world.now), []);
    let gone = notice(
        "alice@x.test/r2",
        BOB,
        Direction::In,
        UnavailableCause::Unanswered,
    );
    let answered = world.table.answered(world.now + PATIENCE);
    assert_eq!(answered, std::slice::from_ref(&gone));
    assert!(world.table.confirm(&gone));
}

#[test]
fn nobody_home_is_an_answer_that_only_we_wait_for() {
    let mut world = World::new();
    let (alice, bob) = (bare("alice@x.test"), bare(BOB));
    world.comes_in(&available(ALICE, BOB));
    assert_eq!(world.table.nobody_home(&alice, &bob, world.now), None);
    world.back(true, false);
    world.asked("alice@x.test", BOB);
    let gone = notice(ALICE, BOB, Direction::In, UnavailableCause::Unanswered);
    let answer = world.table.nobody_home(&alice, &bob, world.now);
    assert_eq!(answer, Some(vec![gone.clone()]));
    assert!(world.table.confirm(&gone));
    assert_eq!(world.table.nobody_home(&alice, &bob, world.now), None);
}

#[test]
fn who_is_shown_anything_may_see_it_and_what_is_said_after_is_news() {
    let (alice, bob) = (bare("alice@x.test"), bare(BOB));
    for seen in [available(ALICE, BOB), unavailable(ALICE, BOB)] {
        let mut world = World::new();
        world.asked("alice@x.test", BOB);
        world.comes_in(&seen);
        assert_eq!(world.table.nobody_home(&alice, &bob, world.now), None);
    }
}

#[test]
fn a_server_is_only_asked_for_those_whom_it_has_shown() {
    let mut world = World::new();
    // Their server asks both datacenters that have alice.
    for name in ["dc1.test", "dc3.test"] {
        let probe = PresenceEvent::Probe {
            user: bare("alice@x.test"),
            viewer: bare(BOB),
        };
        world.table.went_out(&host(name), true, &probe);
    }
    let back = |name| SweepCause::PeerBack {
        host: host(name),
        fresh: true,
        lost: true,
    };
    let asked = SweepAction::Probe(request(BOB, "alice@x.test"));
    assert_eq!(world.sweep(back("dc1.test")), [asked], "one of them");
    assert_eq!(world.sweep(back("dc4.test")), []);
    let three = host("dc3.test");
    world.table.came_in(&three, &available(ALICE, BOB));
    let asked = SweepAction::Probe(ProbeRequest {
        host: Some(three),
        ..request(BOB, "alice@x.test")
    });
    assert_eq!(world.sweep(back("dc3.test")), [asked]);
    assert_eq!(world.sweep(back("dc4.test")), []);
}

#[test]
fn a_fresh_gateway_is_shown_our_sessions_again() {
    let mut world = World::new();
    world.goes_out(&available("bob@x.test/b1", "alice@x.test"));
    world.goes_out(&available("bob@x.test/b2", "alice@x.test"));
    world.goes_out(&available("bob@x.test/b1", "carol@x.test/directed"));
    assert_eq!(world.back(false, true), [], "it remembers, and asks");
    let asked = [SweepAction::ProbeLocal(request("alice@x.test", BOB))];
    assert_eq!(world.back(true, false), asked);
}

#[test]
fn a_viewer_in_several_datacenters_is_shown_our_sessions_in_each() {
    let mut world = World::new();
    for name in ["dc1.test", "dc3.test"] {
        let to_alice = available("bob@x.test/b1", "alice@x.test");
        world.table.went_out(&host(name), true, &to_alice);
    }
    for name in ["dc1.test", "dc3.test"] {
        let cause = SweepCause::PeerBack {
            host: host(name),
            fresh: true,
            lost: false,
        };
        let asked = SweepAction::ProbeLocal(ProbeRequest {
            host: Some(host(name)),
            ..request("alice@x.test", BOB)
        });
        assert_eq!(world.sweep(cause), [asked]);
    }
}

#[test]
fn when_the_server_is_lost_everybody_elsewhere_is_told_and_then_asked_for() {
    let mut world = World::new();
    world.goes_out(&available("bob@x.test/b1", "alice@x.test"));
    world.goes_out(&available("bob@x.test/b1", "lobby@muc.x.test/bobby"));
    let actions = world.sweep(SweepCause::ServerLost);
    let told = ["alice@x.test", "lobby@muc.x.test/bobby"].map(|viewer| {
        notice(
            "bob@x.test/b1",
            viewer,
            Direction::Out,
            UnavailableCause::Server,
        )
    });
    assert_eq!(world.told(actions), told);
    let asked = [SweepAction::ProbeLocal(request("alice@x.test", BOB))];
    assert_eq!(world.sweep(SweepCause::ServerBack), asked);
    assert_eq!(world.table.len(), 1, "alice may ask for bob");
}

#[test]
fn a_server_that_is_back_is_asked_also_for_those_who_were_offline_and_tells_them_of_others() {
    let mut world = World::new();
    world.goes_out(&available("bob@x.test/b1", "alice@x.test"));
    world.goes_out(&unavailable("bob@x.test/b1", "alice@x.test"));
    world.comes_in(&available(ALICE, BOB));
    let expected = [
        // He may be there already, and not know of her.
        SweepAction::Probe(request(BOB, "alice@x.test")),
        SweepAction::ProbeLocal(request("alice@x.test", BOB)),
    ];
    assert_eq!(
        world.sweep(SweepCause::ServerLost),
        [],
        "he was told to be gone"
    );
    assert_eq!(world.sweep(SweepCause::ServerBack), expected);
}

#[test]
fn a_session_that_ends_without_a_word_is_told_to_those_who_were_not() {
    let mut world = World::new();
    for viewer in ["alice@x.test", "carol@x.test"] {
        world.goes_out(&available("bob@x.test/b1", viewer));
        world.goes_out(&available("bob@x.test/b2", viewer));
    }
    world.goes_out(&unavailable("bob@x.test/b1", "alice@x.test"));
    let session = FullJid::new("bob@x.test/b1").unwrap();
    let gone = notice(
        "bob@x.test/b1",
        "carol@x.test",
        Direction::Out,
        UnavailableCause::Session,
    );
    assert_eq!(world.table.over(&session), [gone]);
}

#[test]
fn what_did_not_get_through_is_said_when_the_way_is_open() {
    let mut world = World::new();
    world.goes_out(&available("bob@x.test/b1", "alice@x.test"));
    world.table.missed(
        Direction::Out,
        None,
        &unavailable("bob@x.test/b1", "alice@x.test"),
    );
    // Of a session that nobody had heard of yet, and a request.
    world.table.missed(
        Direction::Out,
        None,
        &available("carol@x.test/c1", "alice@x.test"),
    );
    world.table.missed(
        Direction::Out,
        None,
        &PresenceEvent::Probe {
            user: bare("dave@x.test"),
            viewer: bare(BOB),
        },
    );
    let actions = world.back(false, false);
    let expected = [
        SweepAction::SendUnavailable(UnavailableNotice {
            host: None,
            ..notice(
                "bob@x.test/b1",
                "alice@x.test",
                Direction::Out,
                UnavailableCause::Undelivered,
            )
        }),
        SweepAction::ProbeLocal(request("alice@x.test", "carol@x.test")),
        SweepAction::Probe(ProbeRequest {
            host: None,
            ..request(BOB, "dave@x.test")
        }),
    ];
    assert_eq!(actions, expected);
    assert_eq!(world.told(actions).len(), 1);
    assert_eq!(world.back(false, false), []);
}

#[test]
fn what_the_local_server_was_not_told_while_it_was_away_it_is_told_then() {
    let mut world = World::new();
    world.comes_in(&available(ALICE, BOB));
    let peer = host("dc1.test");
    world
        .table
        .missed(Direction::In, Some(&peer), &unavailable(ALICE, BOB));
    world.table.missed(
        Direction::In,
        Some(&peer),
        &available("carol@x.test/c", BOB),
    );
    let actions = world.sweep(SweepCause::ServerBack);
    let expected = [
        SweepAction::Probe(request(BOB, "alice@x.test")),
        SweepAction::SendUnavailable(notice(
            ALICE,
            BOB,
            Direction::In,
            UnavailableCause::Undelivered,
        )),
        SweepAction::Probe(request(BOB, "carol@x.test")),
    ];
    assert_eq!(actions, expected);
}

#[test]
fn who_is_in_a_room_of_a_lost_datacenter_leaves_it_on_both_sides() {
    let mut world = World::new();
    let (me, ally) = (format!("{ROOM}/bobby"), format!("{ROOM}/ally"));
    world.goes_out(&available("bob@x.test/b1", &me));
    world.comes_in(&available_as(&ally, "bob@x.test/b1", Occupant::Other));
    world.comes_in(&available_as(&me, "bob@x.test/b1", Occupant::Oneself));
    let actions = world.lost();
    let told = world.told(actions);
    assert_eq!(told.len(), 2);
    let own = String::from(&told[1].stanza().to_element());
    assert!(own.contains("332") && own.contains("110"), "{own}");
    let other = String::from(&told[0].stanza().to_element());
    assert!(!other.contains("110") && other.contains("role"), "{other}");
    // The room does not know yet.
    let actions = world.back(true, true);
    let room = notice(
        "bob@x.test/b1",
        &me,
        Direction::Out,
        UnavailableCause::Undelivered,
    );
    assert_eq!(world.told(actions), [room]);
}

#[test]
fn who_has_joined_again_does_not_leave() {
    let mut world = World::new();
    let me = format!("{ROOM}/bobby");
    world.goes_out(&available("bob@x.test/b1", &me));
    world.lost();
    world.goes_out(&available("bob@x.test/b1", &me));
    assert_eq!(world.back(true, true), []);
}

#[test]
fn who_leaves_a_room_is_not_told_of_the_others_any_more() {
    let mut world = World::new();
    let (me, ally) = (format!("{ROOM}/bobby"), format!("{ROOM}/ally"));
    world.comes_in(&available_as(&ally, "bob@x.test/b1", Occupant::Other));
    world.comes_in(&available_as(&ally, "carol@x.test/c1", Occupant::Other));
    world.comes_in(&available_as(&me, "bob@x.test/b1", Occupant::Oneself));
    world.comes_in(&unavailable(&me, "bob@x.test/b1"));
    assert_eq!(world.table.len(), 1);
}

#[test]
fn a_sweep_forgets_what_was_shown_to_sessions_that_are_gone() {
    let mut world = World::new();
    world.comes_in(&available_as(
        &format!("{ROOM}/ally"),
        "bob@x.test/b1",
        Occupant::Other,
    ));
    world.comes_in(&available(ALICE, BOB));
    world.goes_out(&available("bob@x.test/b1", "alice@x.test"));
    assert_eq!(world.sweep(SweepCause::Cleanup), []);
    let actions = world.lost();
    assert_eq!(world.told(actions).len(), 1, "the contact");
}
