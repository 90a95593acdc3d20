//! The rules of docs/presence.md, without servers and links.

use std::sync::Arc;
use std::time::Duration;

use jid::Jid;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use super::action::{ActionKind, Direction, SweepAction, UnavailableCause};
use super::event::{EventKind, Occupant, PresenceEvent};
use super::hooks::PresenceSync;
use super::key::RecordKey;
use super::probes::PROBE_TIMEOUT;
use super::quota::RecordBounds;
use super::sweep::{Sweep, SweepCause};
use super::table::PresenceTable;
use super::task::{PresenceInputs, PresenceTask};
use crate::component::Attachment;
use crate::envelope::{Arrival, Envelope};
use crate::host::Host;
use crate::link::ConnectedProcesses;
use crate::metrics::Metrics;
use crate::stanza::{Kind, Stanza};

const ALICE: &str = "alice@x.test/r1";
const BOB: &str = "bob@x.test";
const ROOM: &str = "lobby@muc.x.test";

fn host(name: &str) -> Host {
    Host::new(name).unwrap()
}

fn jid(text: &str) -> Jid {
    Jid::new(text).unwrap()
}

fn pair(user: &str, viewer: &str) -> RecordKey {
    RecordKey::of(&jid(user), &jid(viewer))
}

fn event(kind: EventKind, user: &str, viewer: &str) -> PresenceEvent {
    PresenceEvent {
        kind,
        user: jid(user),
        viewer: jid(viewer),
        direction: Direction::Out,
        host: Some(host("dc1.test")),
        is_copy: false,
        arrival: Arrival::Component,
    }
}

fn available_as(session: &str, viewer: &str, occupant: Occupant) -> PresenceEvent {
    event(EventKind::Available(occupant), session, viewer)
}

fn available(session: &str, viewer: &str) -> PresenceEvent {
    available_as(session, viewer, Occupant::No)
}

fn unavailable(session: &str, viewer: &str) -> PresenceEvent {
    event(EventKind::Unavailable, session, viewer)
}

/// The gateway of dc2; alice is at dc1.
struct World {
    table: PresenceTable,
    now: Instant,
}

impl World {
    fn new() -> Self {
        let mut table = PresenceTable::new(host("x.test"));
        table.repaired.insert(host("dc1.test"));
        let now = Instant::now();
        Self { table, now }
    }

    fn comes_in(&mut self, event: &PresenceEvent) {
        self.comes_in_from("dc1.test", event);
    }

    fn comes_in_from(&mut self, peer: &str, event: &PresenceEvent) {
        let event = with_route(event, Direction::In, Some(peer));
        self.table.delivered(&event);
    }

    fn goes_out(&mut self, event: &PresenceEvent) {
        self.table.delivered(event);
    }

    fn copy_goes_out(&mut self, peer: &str, event: &PresenceEvent) {
        let mut event = with_route(event, Direction::Out, Some(peer));
        event.is_copy = true;
        self.table.delivered(&event);
    }

    fn is_undelivered(&mut self, direction: Direction, peer: Option<&str>, event: &PresenceEvent) {
        let event = with_route(event, direction, peer);
        self.table.undelivered(&event);
    }

    /// A whole pass, in pages of one record.
    fn sweep(&mut self, cause: SweepCause) -> Vec<SweepAction> {
        let mut actions = Vec::new();
        let Some(mut sweep) = Sweep::new(cause, &mut self.table) else {
            return actions;
        };
        loop {
            let (of_page, is_more) = sweep.next_page(&mut self.table, &mut 1, &|_| false);
            actions.extend(of_page);
            if !is_more {
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

    /// The `unavailable` of `actions` that the worker sends.
    fn sent(&mut self, mut actions: Vec<SweepAction>) -> Vec<SweepAction> {
        actions.retain(|action| action.kind != ActionKind::Probe && self.confirms(action));
        actions
    }

    fn confirms(&mut self, action: &SweepAction) -> bool {
        let key = RecordKey::of(&action.user, &action.viewer);
        self.table.confirm(&key)
    }

    fn probed(&mut self, user: &str, viewer: &str) {
        self.table.probed(pair(user, viewer), None, self.now);
    }

    /// The `unavailable` for the sessions that the server did not name in time.
    fn expired_at(&mut self, now: Instant) -> Vec<SweepAction> {
        let mut actions = Vec::new();
        while let Some(pair) = self.table.probes.pop_expired(now) {
            actions.extend(self.sweep(SweepCause::Unanswered(pair)));
        }
        actions
    }

    fn nobody_home(&mut self) -> bool {
        let pair = pair("alice@x.test", BOB);
        self.table.probes.nobody_home(&pair, self.now)
    }

    fn is_repeated(&mut self, event: &PresenceEvent) -> bool {
        let key = RecordKey::of(&event.user, &event.viewer);
        self.table.is_repeated(&key)
    }
}

fn with_route(event: &PresenceEvent, direction: Direction, peer: Option<&str>) -> PresenceEvent {
    PresenceEvent {
        direction,
        host: peer.map(host),
        ..event.clone()
    }
}

fn action(kind: ActionKind, user: &str, viewer: &str, direction: Direction) -> SweepAction {
    SweepAction {
        kind,
        user: jid(user),
        viewer: jid(viewer),
        direction,
        host: Some(host("dc1.test")),
    }
}

fn notice(
    session: &str,
    viewer: &str,
    direction: Direction,
    cause: UnavailableCause,
) -> SweepAction {
    let kind = ActionKind::Unavailable(cause, Occupant::No);
    action(kind, session, viewer, direction)
}

/// A probe of a user at dc1, for a viewer here.
fn probe(viewer: &str, user: &str) -> SweepAction {
    action(ActionKind::Probe, user, viewer, Direction::In)
}

/// A probe of a local user, for a viewer at dc1.
fn local_probe(viewer: &str, user: &str) -> SweepAction {
    action(ActionKind::Probe, user, viewer, Direction::Out)
}

#[test]
fn viewers_receive_unavailable_once_when_a_datacenter_is_lost() {
    let mut world = World::new();
    world.comes_in(&available(ALICE, BOB));
    world.comes_in(&available(ALICE, BOB));
    world.comes_in(&available("carol@x.test/c", BOB));
    world.comes_in(&unavailable("carol@x.test/c", BOB));
    world.comes_in_from("dc3.test", &available("dave@x.test/d", BOB));
    let actions = world.lost();
    let expected = notice(ALICE, BOB, Direction::In, UnavailableCause::Peer);
    assert_eq!(world.sent(actions), [expected]);
    assert_eq!(world.lost(), []);
    // The session's own gateway sends the same later.
    assert!(world.is_repeated(&unavailable(ALICE, BOB)));
    assert!(!world.is_repeated(&unavailable(ALICE, BOB)));
}

#[test]
fn presence_that_passes_meanwhile_wins() {
    let mut world = World::new();
    world.comes_in(&available(ALICE, BOB));
    let actions = world.lost();
    world.comes_in(&available(ALICE, BOB));
    assert_eq!(world.sent(actions), []);
    let actions = world.lost();
    world.comes_in(&unavailable(ALICE, BOB));
    assert_eq!(world.sent(actions), []);
}

#[test]
fn a_session_that_has_moved_here_is_not_lost() {
    let mut world = World::new();
    world.comes_in(&available(ALICE, BOB));
    world.table.stayed_local(&available(ALICE, BOB));
    assert_eq!(world.lost(), []);
}

#[test]
fn a_returned_datacenter_is_probed_in_the_names_of_contacts() {
    let mut world = World::new();
    world.comes_in(&available(ALICE, BOB));
    world.comes_in(&available("alice@x.test/r2", BOB));
    // Directed presence: no right to probe.
    world.comes_in(&available("carol@x.test/c", "bob@x.test/b1"));
    // Bob's server has probed, and dave was offline.
    world.goes_out(&event(EventKind::Probe, "dave@x.test", BOB));
    let actions = world.lost();
    world.sent(actions);
    let asked = [probe(BOB, "alice@x.test"), probe(BOB, "dave@x.test")];
    assert_eq!(world.back(false, true), asked);
    assert_eq!(world.back(false, false), []);
}

#[test]
fn a_session_that_no_answer_names_in_time_is_unavailable() {
    let mut world = World::new();
    world.comes_in(&available(ALICE, BOB));
    world.comes_in(&available("alice@x.test/r2", BOB));
    assert_eq!(world.back(true, false), [probe(BOB, "alice@x.test")]);
    world.probed("alice@x.test", BOB);
    world.comes_in(&available(ALICE, BOB));
    assert_eq!(world.expired_at(world.now), []);
    let gone = notice(
        "alice@x.test/r2",
        BOB,
        Direction::In,
        UnavailableCause::Unanswered,
    );
    let answered = world.expired_at(world.now + PROBE_TIMEOUT);
    assert_eq!(answered, std::slice::from_ref(&gone));
    assert!(world.confirms(&gone));
}

#[test]
fn nobody_home_answers_one_probe_of_ours() {
    let mut world = World::new();
    world.comes_in(&available(ALICE, BOB));
    assert!(!world.nobody_home());
    world.back(true, false);
    world.probed("alice@x.test", BOB);
    let gone = notice(ALICE, BOB, Direction::In, UnavailableCause::Unanswered);
    assert!(world.nobody_home());
    assert_eq!(world.expired_at(world.now), std::slice::from_ref(&gone));
    assert!(world.confirms(&gone));
    assert!(!world.nobody_home());
}

#[test]
fn unsubscribed_after_presence_is_news() {
    for seen in [available(ALICE, BOB), unavailable(ALICE, BOB)] {
        let mut world = World::new();
        world.probed("alice@x.test", BOB);
        world.comes_in(&seen);
        assert!(!world.nobody_home());
    }
}

#[test]
fn unsubscribed_after_a_new_request_is_the_users_refusal() {
    let mut world = World::new();
    world.probed("alice@x.test", BOB);
    world.goes_out(&event(EventKind::Requested, "alice@x.test", BOB));
    assert!(!world.nobody_home());
}

#[test]
fn an_ended_subscription_is_not_probed() {
    let mut world = World::new();
    world.comes_in(&available(ALICE, BOB));
    world.goes_out(&event(EventKind::Cancelled, "alice@x.test", BOB));
    let back = SweepCause::PeerBack {
        host: host("dc1.test"),
        fresh: true,
        lost: true,
    };
    assert_eq!(world.sweep(back), []);
}

#[test]
fn a_peer_is_only_probed_for_users_that_it_has_sent() {
    let mut world = World::new();
    // Bob's server probes both datacenters that have alice.
    for name in ["dc1.test", "dc3.test"] {
        let probe = event(EventKind::Probe, "alice@x.test", BOB);
        world.copy_goes_out(name, &probe);
    }
    let back = |name| SweepCause::PeerBack {
        host: host(name),
        fresh: true,
        lost: true,
    };
    let asked = probe(BOB, "alice@x.test");
    assert_eq!(world.sweep(back("dc1.test")), [asked], "one of them");
    assert_eq!(world.sweep(back("dc4.test")), []);
    world.comes_in_from("dc3.test", &available(ALICE, BOB));
    let asked = SweepAction {
        host: Some(host("dc3.test")),
        ..probe(BOB, "alice@x.test")
    };
    assert_eq!(world.sweep(back("dc3.test")), [asked]);
    assert_eq!(world.sweep(back("dc4.test")), []);
}

#[test]
fn a_fresh_gateway_is_sent_local_sessions_again() {
    let mut world = World::new();
    world.goes_out(&available("bob@x.test/b1", "alice@x.test"));
    world.goes_out(&available("bob@x.test/b2", "alice@x.test"));
    world.goes_out(&available("bob@x.test/b1", "carol@x.test/directed"));
    assert_eq!(world.back(false, true), [], "it probes by itself");
    let asked = [local_probe("alice@x.test", BOB)];
    assert_eq!(world.back(true, false), asked);
}

#[test]
fn a_viewer_in_several_datacenters_is_sent_local_sessions_in_each() {
    let mut world = World::new();
    for name in ["dc1.test", "dc3.test"] {
        let to_alice = available("bob@x.test/b1", "alice@x.test");
        world.copy_goes_out(name, &to_alice);
    }
    for name in ["dc1.test", "dc3.test"] {
        let cause = SweepCause::PeerBack {
            host: host(name),
            fresh: true,
            lost: false,
        };
        let asked = SweepAction {
            host: Some(host(name)),
            ..local_probe("alice@x.test", BOB)
        };
        assert_eq!(world.sweep(cause), [asked]);
    }
}

#[test]
fn when_the_server_is_lost_remote_viewers_receive_unavailable_and_probe_later() {
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
    assert_eq!(world.sent(actions), told);
    let asked = [local_probe("alice@x.test", BOB)];
    assert_eq!(world.sweep(SweepCause::ServerBack), asked);
    assert_eq!(world.table.records.len(), 1, "alice may probe bob");
}

#[test]
fn a_returned_server_is_probed_for_offline_users_too_and_sent_remote_presence() {
    let mut world = World::new();
    world.goes_out(&available("bob@x.test/b1", "alice@x.test"));
    world.goes_out(&unavailable("bob@x.test/b1", "alice@x.test"));
    world.comes_in(&available(ALICE, BOB));
    let expected = [
        // Bob may be online already, without alice's presence.
        probe(BOB, "alice@x.test"),
        local_probe("alice@x.test", BOB),
    ];
    assert_eq!(
        world.sweep(SweepCause::ServerLost),
        [],
        "alice has received unavailable"
    );
    assert_eq!(world.sweep(SweepCause::ServerBack), expected);
}

#[test]
fn a_session_that_ends_silently_is_unavailable_to_the_remaining_viewers() {
    let mut world = World::new();
    for viewer in ["alice@x.test", "carol@x.test"] {
        world.goes_out(&available("bob@x.test/b1", viewer));
        world.goes_out(&available("bob@x.test/b2", viewer));
    }
    world.goes_out(&unavailable("bob@x.test/b1", "alice@x.test"));
    let session = jid("bob@x.test/b1");
    let gone = notice(
        "bob@x.test/b1",
        "carol@x.test",
        Direction::Out,
        UnavailableCause::Session,
    );
    assert_eq!(world.sweep(SweepCause::SessionEnded(session)), [gone]);
}

#[test]
fn undelivered_presence_is_repaired_when_the_peer_is_back() {
    let mut world = World::new();
    world.goes_out(&available("bob@x.test/b1", "alice@x.test"));
    world.is_undelivered(
        Direction::Out,
        None,
        &unavailable("bob@x.test/b1", "alice@x.test"),
    );
    // The first presence of a session, and a probe.
    world.is_undelivered(
        Direction::Out,
        None,
        &available("carol@x.test/c1", "alice@x.test"),
    );
    world.is_undelivered(
        Direction::Out,
        None,
        &event(EventKind::Probe, "dave@x.test", BOB),
    );
    let actions = world.back(false, false);
    let expected = [
        local_probe("alice@x.test", BOB),
        SweepAction {
            host: None,
            ..notice(
                "bob@x.test/b1",
                "alice@x.test",
                Direction::Out,
                UnavailableCause::Missed,
            )
        },
        local_probe("alice@x.test", "carol@x.test"),
        SweepAction {
            host: None,
            ..probe(BOB, "dave@x.test")
        },
    ];
    assert_eq!(actions, expected);
    assert_eq!(world.sent(actions).len(), 1);
    assert_eq!(world.back(false, false), []);
}

#[test]
fn presence_missed_by_the_local_server_is_repaired_when_it_is_back() {
    let mut world = World::new();
    world.comes_in(&available(ALICE, BOB));
    world.is_undelivered(Direction::In, Some("dc1.test"), &unavailable(ALICE, BOB));
    world.is_undelivered(
        Direction::In,
        Some("dc1.test"),
        &available("carol@x.test/c", BOB),
    );
    let actions = world.sweep(SweepCause::ServerBack);
    let expected = [
        probe(BOB, "alice@x.test"),
        notice(ALICE, BOB, Direction::In, UnavailableCause::Missed),
        probe(BOB, "carol@x.test"),
    ];
    assert_eq!(actions, expected);
}

#[test]
fn occupants_leave_the_rooms_of_a_lost_datacenter_on_both_sides() {
    let mut world = World::new();
    let (me, ally) = (format!("{ROOM}/bobby"), format!("{ROOM}/ally"));
    world.goes_out(&available("bob@x.test/b1", &me));
    world.comes_in(&available_as(&ally, "bob@x.test/b1", Occupant::Other));
    world.comes_in(&available_as(&me, "bob@x.test/b1", Occupant::Oneself));
    let actions = world.lost();
    let told = world.sent(actions);
    assert_eq!(told.len(), 2);
    let own = String::from(&told[1].stanza().to_element());
    assert!(own.contains("332") && own.contains("110"), "{own}");
    let other = String::from(&told[0].stanza().to_element());
    assert!(!other.contains("110") && other.contains("role"), "{other}");
    // The room has not been notified yet.
    let actions = world.back(true, true);
    let room = notice(
        "bob@x.test/b1",
        &me,
        Direction::Out,
        UnavailableCause::Missed,
    );
    assert_eq!(world.sent(actions), [room]);
}

#[test]
fn an_occupant_that_has_joined_again_does_not_leave() {
    let mut world = World::new();
    let me = format!("{ROOM}/bobby");
    world.goes_out(&available("bob@x.test/b1", &me));
    world.lost();
    world.goes_out(&available("bob@x.test/b1", &me));
    assert_eq!(world.back(true, true), []);
}

#[test]
fn leaving_a_room_removes_the_records_of_its_other_occupants() {
    let mut world = World::new();
    let (me, ally) = (format!("{ROOM}/bobby"), format!("{ROOM}/ally"));
    world.comes_in(&available_as(&ally, "bob@x.test/b1", Occupant::Other));
    world.comes_in(&available_as(&ally, "carol@x.test/c1", Occupant::Other));
    world.comes_in(&available_as(&me, "bob@x.test/b1", Occupant::Oneself));
    world.comes_in(&unavailable(&me, "bob@x.test/b1"));
    assert_eq!(world.table.records.len(), 1);
}

#[test]
fn a_cleanup_removes_records_of_ended_sessions() {
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
    assert_eq!(world.sent(actions).len(), 1, "the contact");
}

#[test]
fn a_session_that_an_answer_names_stays_available() {
    let mut world = World::new();
    world.comes_in(&available(ALICE, BOB));
    world.back(true, true);
    world.probed("alice@x.test", BOB);
    world.comes_in(&available(ALICE, BOB));
    let expired = world.expired_at(world.now + PROBE_TIMEOUT);
    assert_eq!(expired, []);
}

#[test]
fn a_peer_that_is_lost_before_it_answers_is_lost() {
    let mut world = World::new();
    world.comes_in(&available(ALICE, BOB));
    world.back(true, false);
    let actions = world.lost();
    assert_eq!(world.sent(actions).len(), 1);
}

#[test]
fn one_user_cannot_fill_the_table() {
    let mut world = World::new();
    world.table.bounds = RecordBounds {
        per_user: 10,
        ..RecordBounds::default()
    };
    for n in 0..20 {
        world.goes_out(&available(
            "mallory@x.test/m",
            &format!("user{n}@x.test/directed"),
        ));
        // Probes for invented users are counted against the viewer that probes.
        world.goes_out(&event(
            EventKind::Probe,
            &format!("nobody{n}@x.test"),
            "trudy@x.test",
        ));
    }
    assert_eq!(world.table.records.len(), 20);
    // Long addresses count several times.
    for n in 0..20 {
        let long = format!("user{n}@x.test/{}", "r".repeat(1000));
        world.goes_out(&available("peggy@x.test/p", &long));
    }
    assert_eq!(world.table.records.len(), 22);
    world.goes_out(&available("bob@x.test/b1", "alice@x.test"));
    assert_eq!(world.table.records.len(), 24);
    // An end makes room for another.
    world.goes_out(&unavailable("mallory@x.test/m", "user0@x.test/directed"));
    world.goes_out(&available("mallory@x.test/m", "user19@x.test/directed"));
    let last = world
        .table
        .records
        .keys()
        .filter(|key| key.viewer_str() == "user19@x.test/directed");
    assert_eq!(last.count(), 1);
}

#[test]
fn one_peer_cannot_fill_the_table_and_the_table_is_bounded() {
    let mut world = World::new();
    world.table.bounds = RecordBounds {
        all: 15,
        per_peer: 10,
        ..RecordBounds::default()
    };
    for (peer, records) in [("dc1.test", 10), ("dc3.test", 15), ("dc4.test", 15)] {
        for n in 0..20 {
            let session = format!("user{n}@{peer}/r");
            world.comes_in_from(peer, &available(&session, "bob@x.test/b1"));
        }
        assert_eq!(world.table.records.len(), records);
    }
}

fn presence_sync() -> PresenceSync {
    let metrics = Arc::new(Metrics::new());
    PresenceSync::new(host("x.test"), host("dc2.test"), metrics)
}

#[test]
fn a_message_takes_no_lock() {
    let sync = presence_sync();
    let (from, to) = (Some(jid(ALICE)), Some(jid(BOB)));
    let message = Stanza::new(Kind::Message, Some("error"), None, from, to, &[]);
    let peer = host("dc1.test");
    let envelope = Envelope::new(peer.clone(), Arrival::Link(peer.clone()), 4, message);
    let locked = sync.table();
    assert!(sync.event(&envelope).is_none());
    sync.reinjected(sync.event(&envelope));
    sync.forwarded(sync.event(&envelope), &peer);
    sync.undelivered(&envelope);
    assert!(!sync.absorbs(&envelope));
    assert!(sync.wanted_at(&envelope.stanza).is_none());
    drop(locked);
}

/// A task whose table has `viewers` of each of bob's `sessions`.
fn task(sessions: usize, viewers: usize) -> PresenceTask {
    let sync = Arc::new(presence_sync());
    for (session, viewer) in (0..sessions).flat_map(|s| (0..viewers).map(move |v| (s, v))) {
        let session = format!("bob@x.test/b{session}");
        let event = available(&session, &format!("user{viewer}@x.test/directed"));
        sync.table().delivered(&event);
    }
    let attached = Attachment::Attached { times: 1 };
    let inputs = PresenceInputs {
        unavailable_after: Duration::from_secs(30),
        connected: watch::channel(ConnectedProcesses::new()).1,
        attachment: watch::channel(attached).1,
        ended: mpsc::unbounded_channel().1,
        is_here: Box::new(|_| false),
        is_up: Box::new(|_| false),
    };
    PresenceTask::new(sync, inputs)
}

#[test]
fn what_a_sweep_decides_leaves_at_a_fixed_pace() {
    let mut task = task(1, 1_200);
    task.begin(SweepCause::ServerLost);
    let ticks = [0; 4].map(|_| task.due(Instant::now()).len());
    assert_eq!(ticks, [500, 500, 200, 0]);
}

#[test]
fn the_viewers_of_many_ended_sessions_are_looked_up_in_pages() {
    const SESSIONS: usize = 100;
    const VIEWERS: usize = 120;
    let mut task = task(SESSIONS, VIEWERS);
    let now = Instant::now();
    for session in 0..SESSIONS {
        task.note_end(jid(&format!("bob@x.test/b{session}")), now);
    }
    assert_eq!(task.due(now), [], "the server may notify them itself");
    let (mut sent, later) = (0, now + Duration::from_secs(5));
    // Each session's sweep checks all of bob's records.
    for _ in 0..SESSIONS * VIEWERS / 40 {
        let actions = task.due(later);
        assert!(actions.len() <= 500);
        assert!(task.backlog.len() <= 5_000);
        sent += actions.len();
    }
    assert_eq!(sent, SESSIONS * VIEWERS);
}
