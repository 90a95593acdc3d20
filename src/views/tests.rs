//! What is said of whom, without servers and links.

use jid::{BareJid, FullJid, Jid};
use tokio::time::Instant;

use super::book::Book;
use super::pending::PATIENCE;
use super::{Cause, Occupant, Question, Round, Side, Sighting, Step, Why, Withdrawal};
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

fn available_as(session: &str, viewer: &str, occupant: Occupant) -> Sighting {
    Sighting::Available {
        session: FullJid::new(session).unwrap(),
        viewer: Jid::new(viewer).unwrap(),
        occupant,
    }
}

fn available(session: &str, viewer: &str) -> Sighting {
    available_as(session, viewer, Occupant::No)
}

fn unavailable(session: &str, viewer: &str) -> Sighting {
    Sighting::Unavailable {
        session: FullJid::new(session).unwrap(),
        viewer: Jid::new(viewer).unwrap(),
    }
}

/// The gateway of dc2; alice is at dc1.
struct World {
    book: Book,
    now: Instant,
}

impl World {
    fn new() -> Self {
        Self {
            book: Book::new(host("x.test")),
            now: Instant::now(),
        }
    }

    fn comes_in(&mut self, sighting: &Sighting) {
        self.book.came_in(&host("dc1.test"), sighting);
    }

    fn goes_out(&mut self, sighting: &Sighting) {
        self.book.went_out(&host("dc1.test"), false, sighting);
    }

    /// Goes through all views, in parts of one step.
    fn round(&mut self, cause: Cause) -> Vec<Step> {
        let (mut round, mut steps) = (Round::new(cause), Vec::new());
        loop {
            steps.extend(self.book.advance(&mut round, 1, &|_| false));
            if round.is_over() {
                return steps;
            }
        }
    }

    fn lost(&mut self) -> Vec<Step> {
        self.round(Cause::PeerLost(host("dc1.test")))
    }

    fn back(&mut self, fresh: bool, lost: bool) -> Vec<Step> {
        let host = host("dc1.test");
        self.round(Cause::PeerBack { host, fresh, lost })
    }

    /// What the worker makes of `steps`.
    fn told(&mut self, steps: Vec<Step>) -> Vec<Withdrawal> {
        let withdrawals = steps.into_iter().filter_map(|step| match step {
            Step::Withdraw(withdrawal) => Some(withdrawal),
            _ => None,
        });
        let mut told: Vec<_> = withdrawals.collect();
        told.retain(|withdrawal| self.book.confirm(withdrawal));
        told
    }

    /// Dooms nobody: only says what was asked.
    fn asked(&mut self, user: &str, viewer: &str) {
        self.book.asked(bare(user), bare(viewer), None, self.now);
    }
}

fn withdrawal(session: &str, viewer: &str, side: Side, why: Why) -> Withdrawal {
    Withdrawal {
        session: FullJid::new(session).unwrap(),
        viewer: Jid::new(viewer).unwrap(),
        side,
        host: Some(host("dc1.test")),
        occupant: Occupant::No,
        why,
    }
}

fn question(viewer: &str, user: &str) -> Question {
    Question {
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
        .book
        .came_in(&host("dc3.test"), &available("dave@x.test/d", BOB));
    let steps = world.lost();
    let expected = withdrawal(ALICE, BOB, Side::In, Why::Peer);
    assert_eq!(world.told(steps), [expected]);
    assert_eq!(world.lost(), []);
    // Its own gateway says so later: that is known here.
    assert!(world.book.is_repeated(&unavailable(ALICE, BOB)));
    assert!(!world.book.is_repeated(&unavailable(ALICE, BOB)));
}

#[test]
fn a_presence_that_passes_meanwhile_counts_more() {
    let mut world = World::new();
    world.comes_in(&available(ALICE, BOB));
    let steps = world.lost();
    world.comes_in(&available(ALICE, BOB));
    assert_eq!(world.told(steps), []);
    let steps = world.lost();
    world.comes_in(&unavailable(ALICE, BOB));
    assert_eq!(world.told(steps), []);
}

#[test]
fn a_session_that_has_moved_here_is_not_taken_for_lost() {
    let mut world = World::new();
    world.comes_in(&available(ALICE, BOB));
    world.book.stayed(&available(ALICE, BOB));
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
    world.goes_out(&Sighting::Probe {
        user: bare("dave@x.test"),
        viewer: bare(BOB),
    });
    let steps = world.lost();
    world.told(steps);
    let asked = [
        Step::Ask(question(BOB, "alice@x.test")),
        Step::Ask(question(BOB, "dave@x.test")),
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
        [Step::Ask(question(BOB, "alice@x.test"))]
    );
    world.asked("alice@x.test", BOB);
    world.comes_in(&available(ALICE, BOB));
    assert_eq!(world.book.answered(world.now), []);
    let gone = withdrawal("alice@x.test/r2", BOB, Side::In, Why::Unanswered);
    let answered = world.book.answered(world.now + PATIENCE);
    assert_eq!(answered, std::slice::from_ref(&gone));
    assert!(world.book.confirm(&gone));
}

#[test]
fn nobody_home_is_an_answer_that_only_we_wait_for() {
    let mut world = World::new();
    let (alice, bob) = (bare("alice@x.test"), bare(BOB));
    world.comes_in(&available(ALICE, BOB));
    assert_eq!(world.book.nobody_home(&alice, &bob, world.now), None);
    world.back(true, false);
    world.asked("alice@x.test", BOB);
    let gone = withdrawal(ALICE, BOB, Side::In, Why::Unanswered);
    let answer = world.book.nobody_home(&alice, &bob, world.now);
    assert_eq!(answer, Some(vec![gone.clone()]));
    assert!(world.book.confirm(&gone));
    assert_eq!(world.book.nobody_home(&alice, &bob, world.now), None);
}

#[test]
fn who_is_shown_anything_may_see_it_and_what_is_said_after_is_news() {
    let (alice, bob) = (bare("alice@x.test"), bare(BOB));
    for seen in [available(ALICE, BOB), unavailable(ALICE, BOB)] {
        let mut world = World::new();
        world.asked("alice@x.test", BOB);
        world.comes_in(&seen);
        assert_eq!(world.book.nobody_home(&alice, &bob, world.now), None);
    }
}

#[test]
fn a_server_is_only_asked_for_those_whom_it_has_shown() {
    let mut world = World::new();
    // Their server asks both datacenters that have alice.
    for name in ["dc1.test", "dc3.test"] {
        let probe = Sighting::Probe {
            user: bare("alice@x.test"),
            viewer: bare(BOB),
        };
        world.book.went_out(&host(name), true, &probe);
    }
    let back = |name| Cause::PeerBack {
        host: host(name),
        fresh: true,
        lost: true,
    };
    let asked = Step::Ask(question(BOB, "alice@x.test"));
    assert_eq!(world.round(back("dc1.test")), [asked], "one of them");
    assert_eq!(world.round(back("dc4.test")), []);
    let three = host("dc3.test");
    world.book.came_in(&three, &available(ALICE, BOB));
    let asked = Step::Ask(Question {
        host: Some(three),
        ..question(BOB, "alice@x.test")
    });
    assert_eq!(world.round(back("dc3.test")), [asked]);
    assert_eq!(world.round(back("dc4.test")), []);
}

#[test]
fn a_fresh_gateway_is_shown_our_sessions_again() {
    let mut world = World::new();
    world.goes_out(&available("bob@x.test/b1", "alice@x.test"));
    world.goes_out(&available("bob@x.test/b2", "alice@x.test"));
    world.goes_out(&available("bob@x.test/b1", "carol@x.test/directed"));
    assert_eq!(world.back(false, true), [], "it remembers, and asks");
    let asked = [Step::AskHere(question("alice@x.test", BOB))];
    assert_eq!(world.back(true, false), asked);
}

#[test]
fn a_viewer_in_several_datacenters_is_shown_our_sessions_in_each() {
    let mut world = World::new();
    for name in ["dc1.test", "dc3.test"] {
        let to_alice = available("bob@x.test/b1", "alice@x.test");
        world.book.went_out(&host(name), true, &to_alice);
    }
    for name in ["dc1.test", "dc3.test"] {
        let cause = Cause::PeerBack {
            host: host(name),
            fresh: true,
            lost: false,
        };
        let asked = Step::AskHere(Question {
            host: Some(host(name)),
            ..question("alice@x.test", BOB)
        });
        assert_eq!(world.round(cause), [asked]);
    }
}

#[test]
fn when_the_server_is_lost_everybody_elsewhere_is_told_and_then_asked_for() {
    let mut world = World::new();
    world.goes_out(&available("bob@x.test/b1", "alice@x.test"));
    world.goes_out(&available("bob@x.test/b1", "lobby@muc.x.test/bobby"));
    let steps = world.round(Cause::ServerLost);
    let told = ["alice@x.test", "lobby@muc.x.test/bobby"]
        .map(|viewer| withdrawal("bob@x.test/b1", viewer, Side::Out, Why::Server));
    assert_eq!(world.told(steps), told);
    let asked = [Step::AskHere(question("alice@x.test", BOB))];
    assert_eq!(world.round(Cause::ServerBack), asked);
    assert_eq!(world.book.len(), 1, "alice may ask for bob");
}

#[test]
fn a_server_that_is_back_is_asked_also_for_those_who_were_offline_and_tells_them_of_others() {
    let mut world = World::new();
    world.goes_out(&available("bob@x.test/b1", "alice@x.test"));
    world.goes_out(&unavailable("bob@x.test/b1", "alice@x.test"));
    world.comes_in(&available(ALICE, BOB));
    let expected = [
        // He may be there already, and not know of her.
        Step::Ask(question(BOB, "alice@x.test")),
        Step::AskHere(question("alice@x.test", BOB)),
    ];
    assert_eq!(world.round(Cause::ServerLost), [], "he was told to be gone");
    assert_eq!(world.round(Cause::ServerBack), expected);
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
    let gone = withdrawal("bob@x.test/b1", "carol@x.test", Side::Out, Why::Session);
    assert_eq!(world.book.over(&session), [gone]);
}

#[test]
fn what_did_not_get_through_is_said_when_the_way_is_open() {
    let mut world = World::new();
    world.goes_out(&available("bob@x.test/b1", "alice@x.test"));
    world.book.missed(
        Side::Out,
        None,
        &unavailable("bob@x.test/b1", "alice@x.test"),
    );
    // Of a session that nobody had heard of yet, and a question.
    world.book.missed(
        Side::Out,
        None,
        &available("carol@x.test/c1", "alice@x.test"),
    );
    world.book.missed(
        Side::Out,
        None,
        &Sighting::Probe {
            user: bare("dave@x.test"),
            viewer: bare(BOB),
        },
    );
    let steps = world.back(false, false);
    let expected = [
        Step::Withdraw(Withdrawal {
            host: None,
            ..withdrawal("bob@x.test/b1", "alice@x.test", Side::Out, Why::Missed)
        }),
        Step::AskHere(question("alice@x.test", "carol@x.test")),
        Step::Ask(Question {
            host: None,
            ..question(BOB, "dave@x.test")
        }),
    ];
    assert_eq!(steps, expected);
    assert_eq!(world.told(steps).len(), 1);
    assert_eq!(world.back(false, false), []);
}

#[test]
fn what_the_local_server_was_not_told_while_it_was_away_it_is_told_then() {
    let mut world = World::new();
    world.comes_in(&available(ALICE, BOB));
    let peer = host("dc1.test");
    world
        .book
        .missed(Side::In, Some(&peer), &unavailable(ALICE, BOB));
    world
        .book
        .missed(Side::In, Some(&peer), &available("carol@x.test/c", BOB));
    let steps = world.round(Cause::ServerBack);
    let expected = [
        Step::Ask(question(BOB, "alice@x.test")),
        Step::Withdraw(withdrawal(ALICE, BOB, Side::In, Why::Missed)),
        Step::Ask(question(BOB, "carol@x.test")),
    ];
    assert_eq!(steps, expected);
}

#[test]
fn who_is_in_a_room_of_a_lost_datacenter_leaves_it_on_both_sides() {
    let mut world = World::new();
    let (me, ally) = (format!("{ROOM}/bobby"), format!("{ROOM}/ally"));
    world.goes_out(&available("bob@x.test/b1", &me));
    world.comes_in(&available_as(&ally, "bob@x.test/b1", Occupant::Other));
    world.comes_in(&available_as(&me, "bob@x.test/b1", Occupant::Oneself));
    let steps = world.lost();
    let told = world.told(steps);
    assert_eq!(told.len(), 2);
    let own = String::from(&told[1].stanza().to_element());
    assert!(own.contains("332") && own.contains("110"), "{own}");
    let other = String::from(&told[0].stanza().to_element());
    assert!(!other.contains("110") && other.contains("role"), "{other}");
    // The room does not know yet.
    let steps = world.back(true, true);
    let room = withdrawal("bob@x.test/b1", &me, Side::Out, Why::Missed);
    assert_eq!(world.told(steps), [room]);
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
    assert_eq!(world.book.len(), 1);
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
    assert_eq!(world.round(Cause::Sweep), []);
    let steps = world.lost();
    assert_eq!(world.told(steps).len(), 1, "the contact");
}
