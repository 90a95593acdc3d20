use std::time::Duration;

use jid::Jid;
use tokio::time::Instant;

use super::{Listing, SessionChange, SessionEvent, Tracker};
use crate::stanza::Kind;

const LEASE: Duration = Duration::from_secs(120);
const PHONE: &str = "alice@example.test/phone";
const ALICE: &str = "alice@example.test";
const BOB: &str = "bob@example.test";
const ROOM: &str = "room@muc.example.test/ally";

fn jid(text: &str) -> Jid {
    Jid::new(text).unwrap()
}

/// A tracker and its clock.
struct World {
    tracker: Tracker,
    start: Instant,
    now: Instant,
}

impl World {
    fn new() -> Self {
        let now = Instant::now();
        Self {
            tracker: Tracker::new(LEASE),
            start: now,
            now,
        }
    }

    fn wait(&mut self, seconds: u64) -> Vec<String> {
        self.now += Duration::from_secs(seconds);
        told(self.tracker.expire(self.now))
    }

    fn see(&mut self, kind: Kind, stanza_type: &str, from: &str, to: &str) -> Vec<String> {
        let (from, to) = (jid(from), jid(to));
        let stanza_type = (!stanza_type.is_empty()).then_some(stanza_type);
        let event = SessionEvent::read(kind, stanza_type, &from, Some(&to));
        let wall = (self.now - self.start).as_millis() as u64;
        told(self.tracker.observe(&event, self.now, wall))
    }

    fn presence(&mut self, stanza_type: &str, from: &str, to: &str) -> Vec<String> {
        self.see(Kind::Presence, stanza_type, from, to)
    }

    fn message(&mut self, from: &str) -> Vec<String> {
        self.see(Kind::Message, "chat", from, BOB)
    }

    /// The server's answer to a list that was asked for `ago` seconds ago.
    fn list(&mut self, ago: u64, sessions: &[&str]) -> Vec<String> {
        let listing = Listing {
            sessions: sessions.iter().map(|jid| jid.parse().unwrap()).collect(),
            ..Listing::default()
        };
        self.take(ago, &listing)
    }

    fn take(&mut self, ago: u64, listing: &Listing) -> Vec<String> {
        let asked_at = self.now - Duration::from_secs(ago);
        let wall = (self.now - self.start).as_millis() as u64;
        told(self.tracker.listed(listing, asked_at, self.now, wall))
    }

    fn detach(&mut self) {
        self.tracker.detached(self.now);
    }

    /// The probes, as `from→to`.
    fn attach(&mut self) -> Vec<String> {
        let probes = self.tracker.attached(true, self.now);
        probes
            .iter()
            .map(|probe| format!("{}→{}", probe.from, probe.to))
            .collect()
    }

    fn is_here(&self, text: &str) -> bool {
        self.tracker.since(&jid(text)).is_some()
    }
}

fn told(changes: Vec<SessionChange>) -> Vec<String> {
    let mut told: Vec<String> = changes
        .into_iter()
        .map(|change| match change {
            SessionChange::Online { jid, since } => format!("+{jid} {since}"),
            SessionChange::Offline { jid } => format!("-{jid}"),
        })
        .collect();
    told.sort();
    told
}

const NOTHING: [&str; 0] = [];

#[test]
fn presence_brings_the_full_and_the_bare_jid_online_and_offline() {
    let mut world = World::new();
    assert_eq!(
        world.presence("", PHONE, BOB),
        [format!("+{ALICE} 0"), format!("+{PHONE} 0")]
    );
    assert_eq!(world.presence("", PHONE, BOB), NOTHING);
    assert_eq!(world.tracker.len(), 1);
    assert_eq!(
        world.presence("unavailable", PHONE, BOB),
        [format!("-{ALICE}"), format!("-{PHONE}")]
    );
    assert!(world.tracker.is_empty());
}

#[test]
fn the_bare_jid_is_online_from_the_first_session_to_the_last() {
    let mut world = World::new();
    world.presence("", PHONE, BOB);
    world.wait(1);
    let desk = format!("{ALICE}/desk");
    assert_eq!(world.presence("", &desk, BOB), [format!("+{desk} 1000")]);
    assert_eq!(
        world.presence("unavailable", PHONE, BOB),
        [format!("-{PHONE}")]
    );
    assert_eq!(world.tracker.since(&jid(ALICE)), Some(0));
    assert!(!world.is_here(PHONE));
    world.presence("unavailable", &desk, BOB);
    assert!(!world.is_here(ALICE));
}

#[test]
fn leaving_a_room_or_a_contact_is_not_going_offline() {
    let mut world = World::new();
    world.presence("", PHONE, BOB);
    world.presence("", PHONE, "carol@example.test");
    world.presence("", PHONE, ROOM);
    assert_eq!(world.presence("unavailable", PHONE, ROOM), NOTHING);
    assert_eq!(world.presence("unavailable", PHONE, BOB), NOTHING);
    assert!(world.is_here(PHONE));
    world.presence("unavailable", PHONE, "carol@example.test");
    assert!(!world.is_here(PHONE));
}

#[test]
fn who_is_only_in_a_room_goes_offline_with_leaving_it() {
    let mut world = World::new();
    world.presence("", PHONE, ROOM);
    world.message(PHONE);
    world.presence("unavailable", PHONE, ROOM);
    assert!(!world.is_here(PHONE));
}

#[test]
fn telling_a_contact_tells_its_resources() {
    let mut world = World::new();
    world.presence("", PHONE, BOB);
    world.presence("", PHONE, "bob@example.test/home");
    world.presence("unavailable", PHONE, BOB);
    assert!(!world.is_here(PHONE));
}

#[test]
fn traffic_is_a_lease() {
    let mut world = World::new();
    assert_eq!(world.message(PHONE).len(), 2);
    world.wait(119);
    assert_eq!(world.see(Kind::Iq, "result", PHONE, BOB), NOTHING);
    assert_eq!(world.wait(119), NOTHING);
    assert_eq!(world.wait(1), [format!("-{ALICE}"), format!("-{PHONE}")]);
}

#[test]
fn presence_makes_a_lease_last() {
    let mut world = World::new();
    world.message(PHONE);
    world.presence("", PHONE, BOB);
    assert_eq!(world.wait(100_000), NOTHING);
    assert!(world.is_here(PHONE));
    assert_eq!(world.tracker.next_deadline(), None);
}

#[test]
fn a_lease_ends_when_a_contact_is_told_but_not_when_a_room_is() {
    let mut world = World::new();
    world.message(PHONE);
    world.presence("unavailable", PHONE, ROOM);
    assert!(world.is_here(PHONE));
    world.presence("unavailable", PHONE, BOB);
    assert!(!world.is_here(PHONE));
}

#[test]
fn what_is_no_sign() {
    let mut world = World::new();
    for (kind, stanza_type, from) in [
        (Kind::Presence, "error", PHONE),
        (Kind::Message, "error", PHONE),
        (Kind::Iq, "error", PHONE),
        (Kind::Presence, "unavailable", PHONE),
        (Kind::Presence, "", ALICE),
        (Kind::Presence, "subscribe", ALICE),
        (Kind::Message, "headline", ALICE),
        (Kind::Iq, "get", "example.test/server"),
    ] {
        assert_eq!(world.see(kind, stanza_type, from, BOB), NOTHING);
        assert!(world.tracker.is_empty(), "{kind:?} {stanza_type} {from}");
    }
}

#[test]
fn a_probe_is_traffic_and_makes_no_recipient() {
    let mut world = World::new();
    world.presence("probe", PHONE, BOB);
    assert!(world.is_here(PHONE));
    world.wait(120);
    assert!(!world.is_here(PHONE));
}

#[test]
fn after_a_break_each_user_is_probed_by_a_recipient() {
    let mut world = World::new();
    for (from, to) in [
        (PHONE, BOB),
        (PHONE, ROOM),
        ("alice@example.test/desk", "bob@example.test/home"),
        ("dave@example.test/x", ROOM),
        ("erin@example.test/x", "gw.example.test"),
    ] {
        world.presence("", from, to);
    }
    world.message("fred@example.test/x");
    world.detach();
    assert_eq!(world.attach(), [format!("{BOB}→{ALICE}")]);
}

#[test]
fn who_answers_stays_and_who_does_not_is_gone() {
    let mut world = World::new();
    world.presence("", PHONE, BOB);
    world.presence("", "carol@example.test/x", BOB);
    world.presence("", "dave@example.test/x", BOB);
    world.detach();
    world.attach();
    world.wait(9);
    world.presence("", PHONE, BOB);
    world.message("carol@example.test/x");
    assert_eq!(
        world.wait(1),
        ["-dave@example.test", "-dave@example.test/x"]
    );
    assert_eq!(world.wait(100_000), NOTHING);
    // Recipients from before the break still count: Bob was sent the presence, and is sent its end.
    world.presence("unavailable", PHONE, BOB);
    assert!(!world.is_here(PHONE));
}

#[test]
fn who_was_seen_before_the_probes_needs_none() {
    let mut world = World::new();
    world.presence("", PHONE, BOB);
    world.detach();
    world.presence("", PHONE, BOB);
    assert_eq!(world.attach(), NOTHING);
    assert_eq!(world.wait(100_000), NOTHING);
}

#[test]
fn who_cannot_be_asked_for_and_who_is_known_by_traffic_have_a_lease() {
    let mut world = World::new();
    world.presence("", PHONE, ROOM);
    world.message("fred@example.test/x");
    world.detach();
    world.attach();
    assert_eq!(world.wait(119), NOTHING);
    assert_eq!(world.wait(1).len(), 4);
}

#[test]
fn unavailable_from_the_bare_jid_ends_what_is_unconfirmed() {
    let mut world = World::new();
    world.presence("", PHONE, BOB);
    assert_eq!(world.presence("unavailable", ALICE, BOB), NOTHING);
    world.presence("", "alice@example.test/desk", BOB);
    world.detach();
    world.attach();
    world.presence("", "alice@example.test/desk", BOB);
    assert_eq!(
        world.presence("unavailable", ALICE, BOB),
        [format!("-{PHONE}")]
    );
}

#[test]
fn a_second_break_starts_the_wait_anew() {
    let mut world = World::new();
    world.presence("", PHONE, BOB);
    world.detach();
    world.attach();
    world.wait(5);
    world.detach();
    assert_eq!(world.wait(20), NOTHING);
    assert_eq!(world.attach().len(), 1);
    assert_eq!(world.wait(9), NOTHING);
    assert_eq!(world.wait(1).len(), 2);
}

#[test]
fn a_long_break_ends_sessions_but_they_are_asked_for() {
    let mut world = World::new();
    world.presence("", PHONE, BOB);
    world.detach();
    assert_eq!(world.wait(120).len(), 2);
    assert_eq!(world.attach(), [format!("{BOB}→{ALICE}")]);
    world.presence("", PHONE, BOB);
    assert!(world.is_here(PHONE));
    world.detach();
    assert_eq!(world.attach().len(), 1);
    assert_eq!(world.attach().len(), 1);
}

#[test]
fn who_is_missing_is_asked_for_now_and_then_while_there_is_a_server() {
    let mut world = World::new();
    let alice = jid(ALICE).to_bare();
    let ask = |world: &mut World| {
        let probe = world.tracker.missing(&alice, world.now);
        probe.map(|probe| format!("{}→{}", probe.from, probe.to))
    };
    let asked = Some(format!("example.test→{ALICE}"));
    assert_eq!(ask(&mut world), asked);
    world.wait(9);
    assert_eq!(ask(&mut world), None);
    world.wait(1);
    world.detach();
    assert_eq!(ask(&mut world), None);
    world.attach();
    assert_eq!(ask(&mut world), asked);
    world.wait(10);
    world.presence("", PHONE, "example.test");
    assert_eq!(ask(&mut world), None, "she is not missing");
    let now = world.now;
    assert!(world.tracker.unconfirmed(&alice, now).is_some());
}

#[test]
fn who_went_just_before_the_break_is_asked_for() {
    let mut world = World::new();
    for (user, seconds) in [("alice", 2), ("carol", 60), ("dave", 0)] {
        let phone = format!("{user}@example.test/phone");
        world.presence("", &phone, BOB);
        world.presence("unavailable", &phone, BOB);
        world.wait(seconds);
    }
    // Dave logs in again before the break.
    world.presence("", "dave@example.test/desk", BOB);
    world.detach();
    world.wait(30);
    assert_eq!(
        world.attach(),
        [
            format!("{BOB}→carol@example.test"),
            format!("{BOB}→dave@example.test")
        ]
    );
    assert_eq!(world.attach().len(), 1, "only Dave is still unconfirmed");
}

#[test]
fn a_list_adds_who_said_nothing_and_ends_who_is_gone_without_a_word() {
    let mut world = World::new();
    world.tracker.expect_lists();
    world.presence("", PHONE, BOB);
    world.message("carol@example.test/x");
    world.wait(5);
    let dave = "dave@example.test/quiet";
    assert_eq!(
        world.list(1, &[dave, PHONE]),
        [
            "+dave@example.test 5000",
            "+dave@example.test/quiet 5000",
            "-carol@example.test",
            "-carol@example.test/x",
        ]
    );
    assert_eq!(world.list(0, &[dave, PHONE]), NOTHING);
    assert_eq!(world.wait(100_000), NOTHING, "lists need no lease");
    assert_eq!(world.list(0, &[]).len(), 4);
}

#[test]
fn what_was_seen_since_a_list_was_asked_for_counts_more_than_the_list() {
    let mut world = World::new();
    world.tracker.expect_lists();
    world.presence("", PHONE, BOB);
    world.wait(10);
    // List requested 2 s ago; since then one session began and one ended.
    world.wait(2);
    world.presence("", "dave@example.test/x", BOB);
    world.presence("unavailable", PHONE, BOB);
    assert_eq!(world.list(2, &[PHONE]), NOTHING);
    assert!(world.is_here("dave@example.test/x") && !world.is_here(PHONE));
    // The next list was requested after both events, and overrules them.
    world.wait(1);
    assert_eq!(
        world.list(0, &[PHONE]),
        [
            format!("+{ALICE} 13000"),
            format!("+{PHONE} 13000"),
            "-dave@example.test".to_owned(),
            "-dave@example.test/x".to_owned(),
        ]
    );
}

#[test]
fn nothing_is_concluded_about_users_of_whom_the_list_is_unclear() {
    let mut world = World::new();
    world.message(PHONE);
    world.wait(1);
    let mut listing = Listing::default();
    listing.unclear.insert(ALICE.parse().unwrap());
    assert_eq!(world.take(0, &listing), NOTHING);
    assert!(world.is_here(PHONE));
}

#[test]
fn when_lists_stop_who_is_known_by_them_alone_has_a_lease() {
    let mut world = World::new();
    world.tracker.expect_lists();
    world.presence("", "carol@example.test/x", BOB);
    world.list(0, &[PHONE, "carol@example.test/x"]);
    world.tracker.lists_stopped(world.now);
    assert_eq!(world.wait(119), NOTHING);
    assert_eq!(world.wait(1), [format!("-{ALICE}"), format!("-{PHONE}")]);
    assert!(world.is_here("carol@example.test/x"));
}

#[test]
fn a_list_confirms_after_a_break() {
    let mut world = World::new();
    world.tracker.expect_lists();
    world.list(0, &[PHONE]);
    world.detach();
    world.attach();
    world.wait(60);
    world.list(0, &[PHONE]);
    assert_eq!(world.wait(100), NOTHING);
    world.detach();
    assert_eq!(world.wait(120).len(), 2, "nobody confirms it any more");
}

#[test]
fn without_its_recipient_a_session_has_a_lease() {
    let mut world = World::new();
    let control = "gwctl.dc1.test";
    world.presence("", PHONE, control);
    world.presence("", "carol@example.test/x", control);
    world.presence("", "carol@example.test/x", BOB);
    world.tracker.recipient_lost(&jid(control), world.now);
    assert_eq!(world.wait(120), [format!("-{ALICE}"), format!("-{PHONE}")]);
    assert!(world.is_here("carol@example.test/x"));
}

#[test]
fn where_nobody_may_be_asked_everybody_has_a_lease() {
    let mut world = World::new();
    world.presence("", PHONE, BOB);
    world.detach();
    assert!(world.tracker.attached(false, world.now).is_empty());
    assert_eq!(world.wait(119), NOTHING);
    assert_eq!(world.wait(1).len(), 2);
}
