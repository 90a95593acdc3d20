//! Stores that replicate without a network: the test carries the messages, and may drop some.

mod entries;
mod tables;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use proptest::prelude::*;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::entry::Standing;
use super::message::Message;
use super::*;

const EXPIRE_AFTER: Duration = Duration::from_secs(120);
const REFRESH_AFTER: Duration = Duration::from_secs(60);

/// A store with its maintenance.
struct Member {
    store: Arc<MeshStore>,
    metrics: Arc<Metrics>,
    stop: CancellationToken,
}

impl Member {
    fn new(host: &str, epoch: u64) -> Self {
        Self::refreshing(host, epoch, REFRESH_AFTER)
    }

    fn refreshing(host: &str, epoch: u64, refresh_after: Duration) -> Self {
        let node = Node {
            host: Host::new(host).unwrap(),
            name: "n1".to_owned(),
        };
        let config = Mesh {
            peers: Vec::new(),
            expire_after: EXPIRE_AFTER,
            refresh_after,
        };
        let metrics = Arc::new(Metrics::new());
        let store = MeshStore::new(node, epoch, &config, Arc::clone(&metrics));
        let stop = CancellationToken::new();
        tokio::spawn(Arc::clone(&store).run(stop.clone()));
        Self {
            store,
            metrics,
            stop,
        }
    }

    async fn announced(host: &str, epoch: u64) -> Self {
        let member = Self::new(host, epoch);
        member.announce(5555).await;
        member
    }

    async fn announce(&self, port: u16) {
        let host = self.store.node.host.to_string();
        let announcement = Announcement {
            endpoints: vec![Endpoint { host, port }],
            offers: Vec::new(),
        };
        self.store.announce(&announcement).await.unwrap();
    }

    async fn claim(&self, jid: &str, since: u64) {
        let claim = OwnClaim {
            jid: jid.to_owned(),
            since,
            fresh: true,
        };
        self.store.claim(&[claim]).await.unwrap();
    }

    /// Standing of the JID in this member's own table.
    fn knows(&self, jid: &str) -> Standing {
        self.store
            .local
            .standing(self.store.hasher.hash(jid.as_bytes()))
    }

    async fn withdraw(&self, jid: &str) {
        self.store.withdraw(&[jid.to_owned()]).await.unwrap();
    }

    /// Hosts with a claim on `jid`, and the time of each claim.
    async fn seen(&self, jid: &str) -> BTreeMap<String, u64> {
        let claims = self.store.claims(jid).await.unwrap();
        let seen = claims.into_iter();
        seen.map(|claim| (claim.host.to_string(), claim.since.unwrap()))
            .collect()
    }

    async fn hosts(&self) -> Vec<String> {
        let hosts = self.store.hosts().await.unwrap();
        hosts.iter().map(ToString::to_string).collect()
    }

    fn repairs(&self, host: &str, found: &str) -> u64 {
        let repairs = &self.metrics.mesh_repairs;
        repairs.with_label_values(&[host, found]).get()
    }

    fn fingerprint_of(&self, member: &Self) -> Option<u32> {
        let mut parts = self.store.replicas().into_iter();
        parts
            .find(|part| part.node == member.store.node)
            .map(|part| part.fingerprint)
    }

    /// Whether this member has all claims of `other`.
    fn is_in_step_with(&self, other: &Self) -> bool {
        let status = self.store.status();
        status.linked.contains(&other.store.node)
            && !status.behind.contains(&other.store.node)
            && self.fingerprint_of(other) == other.fingerprint_of(other)
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// A connection over which `receiver` replicates `sender`, until it is cut.
struct Wire {
    tasks: Vec<JoinHandle<()>>,
    loses_changes: Arc<AtomicBool>,
}

impl Wire {
    fn between(receiver: &Member, sender: &Member) -> Self {
        let (here, there) = (&receiver.store, &sender.store);
        let receiving = Arc::clone(here).receive_from(&there.node).unwrap();
        let sending = Arc::clone(there).send_to(&here.node, here.epoch);
        let loses_changes = Arc::new(AtomicBool::new(false));
        let nothing = Arc::new(AtomicBool::new(false));
        Self {
            tasks: vec![
                tokio::spawn(carry(Arc::clone(&receiving), Arc::clone(&sending), nothing)),
                tokio::spawn(carry(sending, receiving, Arc::clone(&loses_changes))),
            ],
            loses_changes,
        }
    }

    fn lose_changes(&self, lose: bool) {
        self.loses_changes.store(lose, Ordering::SeqCst);
    }

    /// Ends the connection, and waits until both sides have noticed.
    async fn cut(self) {
        for task in self.tasks {
            task.abort();
            let _ = task.await;
        }
    }
}

async fn carry(
    from: Arc<dyn ReplicationSession>,
    to: Arc<dyn ReplicationSession>,
    loses_changes: Arc<AtomicBool>,
) {
    while let Some(message) = from.next_message().await {
        let is_change = matches!(Message::read(message.clone()), Ok(Message::Changes(_)));
        if !(is_change && loses_changes.load(Ordering::SeqCst)) {
            to.accept(message).unwrap();
        }
    }
}

/// Waits until `fact` holds; time is the test's.
async fn until(what: &str, mut fact: impl AsyncFnMut() -> bool) {
    let holds = async {
        while !fact().await {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(10 * EXPIRE_AFTER, holds)
        .await
        .unwrap_or_else(|_| panic!("waited in vain until {what}"));
}

async fn until_in_step(follower: &Member, followed: &Member) {
    until("the tables are equal", async || {
        follower.is_in_step_with(followed)
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_table_is_copied_and_then_follows_each_change_within_50_ms() {
    let dc1 = Member::announced("dc1.test", 1).await;
    let dc2 = Member::announced("dc2.test", 1).await;
    dc1.claim("a@x/1", 5).await;
    dc1.claim("a@x", 5).await;
    let _wire = Wire::between(&dc2, &dc1);
    until_in_step(&dc2, &dc1).await;
    assert_eq!(dc2.seen("a@x/1").await, [("dc1.test".to_owned(), 5)].into());
    assert_eq!(dc2.hosts().await, ["dc1.test", "dc2.test"]);
    assert_eq!(dc2.repairs("dc1.test", "connect"), 2);
    for n in 0..100 {
        let jid = format!("b@x/{n}");
        dc1.claim(&jid, n + 1).await;
        let told = tokio::time::Instant::now();
        until("it is told", async || !dc2.seen(&jid).await.is_empty()).await;
        assert!(
            told.elapsed() < Duration::from_millis(50),
            "{:?}",
            told.elapsed()
        );
    }
    dc1.withdraw("a@x").await;
    until("it is told", async || dc2.seen("a@x").await.is_empty()).await;
    let home = dc2.store.read("a@x").await.unwrap().home;
    assert_eq!(home.unwrap().as_str(), "dc1.test");
    assert_eq!(dc2.repairs("dc1.test", "digest"), 0);
}

#[tokio::test(start_paused = true)]
async fn a_digest_finds_what_was_lost_and_only_that_is_repaired() {
    for refresh_after in [REFRESH_AFTER, REFRESH_AFTER / 6] {
        finds_what_was_lost(refresh_after).await;
    }
}

async fn finds_what_was_lost(refresh_after: Duration) {
    let dc1 = Member::refreshing("dc1.test", 1, refresh_after);
    dc1.announce(5555).await;
    let dc2 = Member::announced("dc2.test", 1).await;
    for n in 0..1000 {
        dc1.claim(&format!("a@x/{n}"), 5).await;
    }
    let wire = Wire::between(&dc2, &dc1);
    until_in_step(&dc2, &dc1).await;
    wire.lose_changes(true);
    dc1.claim("lost@x", 7).await;
    dc1.withdraw("a@x/1").await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    wire.lose_changes(false);
    assert!(dc2.seen("lost@x").await.is_empty());
    let lost = tokio::time::Instant::now();
    until("it is repaired", async || {
        !dc2.seen("lost@x").await.is_empty()
    })
    .await;
    let took = lost.elapsed();
    assert!(
        took <= refresh_after && took > refresh_after / 2,
        "{took:?}"
    );
    assert!(dc2.seen("a@x/1").await.is_empty());
    until_in_step(&dc2, &dc1).await;
    assert_eq!(dc2.repairs("dc1.test", "digest"), 2);
}

#[tokio::test(start_paused = true)]
async fn after_a_broken_connection_only_what_differs_is_sent_again() {
    let dc1 = Member::announced("dc1.test", 1).await;
    let dc2 = Member::announced("dc2.test", 1).await;
    for n in 0..100 {
        dc1.claim(&format!("a@x/{n}"), 5).await;
    }
    let wire = Wire::between(&dc2, &dc1);
    until_in_step(&dc2, &dc1).await;
    let before = dc2.repairs("dc1.test", "connect");
    wire.cut().await;
    dc1.claim("new@x", 7).await;
    assert_eq!(
        dc2.seen("a@x/1").await.len(),
        1,
        "it counts while nobody is heard"
    );
    let _wire = Wire::between(&dc2, &dc1);
    until_in_step(&dc2, &dc1).await;
    assert_eq!(dc2.seen("new@x").await.len(), 1);
    assert_eq!(dc2.repairs("dc1.test", "connect"), before + 1);
}

#[tokio::test(start_paused = true)]
async fn a_lost_node_is_forgotten_after_expire_after_but_not_whose_home_it_was() {
    let dc1 = Member::announced("dc1.test", 1).await;
    let dc2 = Member::announced("dc2.test", 1).await;
    dc1.claim("a@x", 5).await;
    let wire = Wire::between(&dc2, &dc1);
    until_in_step(&dc2, &dc1).await;
    wire.cut().await;
    let cut = tokio::time::Instant::now();
    until("dc1 is forgotten", async || {
        dc2.announce(5555).await;
        dc2.hosts().await == ["dc2.test"]
    })
    .await;
    assert!(cut.elapsed() >= EXPIRE_AFTER, "{:?}", cut.elapsed());
    assert!(cut.elapsed() < EXPIRE_AFTER + Duration::from_secs(2));
    assert!(dc2.seen("a@x").await.is_empty());
    let home = dc2.store.read("a@x").await.unwrap().home;
    assert_eq!(home.unwrap().as_str(), "dc1.test");
    assert_eq!(dc2.store.replicas().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_restarted_node_is_told_what_it_was_and_loses_to_what_others_claim() {
    let dc1 = Member::announced("dc1.test", 1).await;
    let dc2 = Member::announced("dc2.test", 1).await;
    for jid in ["a@x", "a@x/1", "b@x"] {
        dc1.claim(jid, 5).await;
    }
    dc1.withdraw("b@x").await;
    let wire = Wire::between(&dc2, &dc1);
    until_in_step(&dc2, &dc1).await;
    wire.cut().await;
    drop(dc1);

    let dc1 = Member::announced("dc1.test", 2).await;
    let _there = Wire::between(&dc2, &dc1);
    let _back = Wire::between(&dc1, &dc2);
    until_in_step(&dc2, &dc1).await;
    until_in_step(&dc1, &dc2).await;
    // Both still have the claim of the former process.
    assert_eq!(dc2.seen("a@x/1").await, [("dc1.test".to_owned(), 5)].into());
    until("dc1 is told", async || dc1.seen("a@x/1").await.len() == 1).await;
    assert_eq!(
        dc1.store.read("b@x").await.unwrap().home.unwrap().as_str(),
        "dc1.test"
    );
    // The user moved while dc1 was unreachable.
    dc2.claim("a@x/1", 3).await;
    until("dc2's claim counts alone", async || {
        dc1.seen("a@x/1").await == [("dc2.test".to_owned(), 3)].into()
    })
    .await;
    // Changes of the new process take precedence over kept entries.
    dc1.claim("a@x", 9).await;
    until("dc2 knows", async || {
        dc2.seen("a@x").await == [("dc1.test".to_owned(), 9)].into()
    })
    .await;
    dc1.withdraw("a@x/1").await;
    until("dc2 knows", async || {
        dc2.seen("a@x/1").await == [("dc2.test".to_owned(), 3)].into()
    })
    .await;
}

/// Each node is restarted in turn, as when all are upgraded.
#[tokio::test(start_paused = true)]
async fn whose_home_a_node_is_outlives_restarts_of_all_nodes_in_turn() {
    let home = async |at: &Member, bare: &str| {
        let home = at.store.read(bare).await.unwrap().home;
        home.map(|home| home.to_string())
    };
    let dc1 = Member::announced("dc1.test", 1).await;
    let dc2 = Member::announced("dc2.test", 1).await;
    // One user logged out; the other is not found again after the restart.
    for bare in ["she@x", "he@x"] {
        dc1.claim(bare, 5).await;
    }
    dc1.withdraw("she@x").await;
    let wire = Wire::between(&dc2, &dc1);
    until_in_step(&dc2, &dc1).await;
    wire.cut().await;
    drop(dc1);

    let dc1 = Member::announced("dc1.test", 2).await;
    let wires = [Wire::between(&dc2, &dc1), Wire::between(&dc1, &dc2)];
    until("dc1 tells of her again", async || {
        dc1.knows("she@x") == Standing::Former(5)
    })
    .await;
    // The other may still be found, and counts as online until that time is over.
    assert_eq!(dc2.seen("he@x").await, [("dc1.test".to_owned(), 5)].into());
    until("dc1 tells of him again", async || {
        dc1.knows("he@x") == Standing::Former(5)
    })
    .await;
    assert!(dc2.seen("he@x").await.is_empty());
    for wire in wires {
        wire.cut().await;
    }
    drop(dc2);

    let dc2 = Member::announced("dc2.test", 2).await;
    let _wire = Wire::between(&dc2, &dc1);
    until_in_step(&dc2, &dc1).await;
    for bare in ["she@x", "he@x"] {
        assert_eq!(
            home(&dc2, bare).await.as_deref(),
            Some("dc1.test"),
            "{bare}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn one_restarted_right_after_another_is_told_what_that_one_was() {
    let dc1 = Member::announced("dc1.test", 1).await;
    let dc2 = Member::announced("dc2.test", 1).await;
    for jid in ["a@x", "a@x/1", "b@x/1"] {
        dc1.claim(jid, 5).await;
    }
    let wire = Wire::between(&dc2, &dc1);
    until_in_step(&dc2, &dc1).await;
    wire.cut().await;
    drop(dc1);
    let dc1 = Member::announced("dc1.test", 2).await;
    let wires = [Wire::between(&dc2, &dc1), Wire::between(&dc1, &dc2)];
    until_in_step(&dc2, &dc1).await;
    until_in_step(&dc1, &dc2).await;
    // dc1 has found one of the sessions before dc2 stops, and lost another one.
    dc1.claim("a@x", 9).await;
    dc1.withdraw("b@x/1").await;
    for wire in wires {
        wire.cut().await;
    }
    drop(dc2);

    let dc2 = Member::announced("dc2.test", 2).await;
    let _wire = Wire::between(&dc2, &dc1);
    until_in_step(&dc2, &dc1).await;
    for (jid, since) in [("a@x", 9), ("a@x/1", 5)] {
        let seen = dc2.seen(jid).await;
        assert_eq!(seen, [("dc1.test".to_owned(), since)].into(), "{jid}");
    }
    assert!(dc2.seen("b@x/1").await.is_empty());
    // Changes of the new process take precedence over kept entries.
    dc1.withdraw("a@x/1").await;
    until("dc2 knows", async || dc2.seen("a@x/1").await.is_empty()).await;
    assert!(dc2.is_in_step_with(&dc1));
}

#[tokio::test(start_paused = true)]
async fn a_peer_far_behind_is_brought_up() {
    let dc1 = Member::announced("dc1.test", 1).await;
    let dc2 = Member::announced("dc2.test", 1).await;
    let _wire = Wire::between(&dc2, &dc1);
    until_in_step(&dc2, &dc1).await;
    // More changes than are kept, without a pause in which they could be sent.
    let claims: Vec<OwnClaim> = (0..70_000)
        .map(|n| OwnClaim {
            jid: format!("u{n}@x"),
            since: 5,
            fresh: true,
        })
        .collect();
    dc1.store.claim(&claims).await.unwrap();
    until_in_step(&dc2, &dc1).await;
    until("the first one is there", async || {
        !dc2.seen("u0@x").await.is_empty()
    })
    .await;
    assert_eq!(dc2.store.replicas()[0].claims, 70_000);
}

#[tokio::test(start_paused = true)]
async fn a_retired_node_says_so_and_its_claims_wait_for_its_return() {
    let dc1 = Member::announced("dc1.test", 1).await;
    let dc2 = Member::announced("dc2.test", 1).await;
    dc1.claim("a@x", 5).await;
    let wire = Wire::between(&dc2, &dc1);
    until_in_step(&dc2, &dc1).await;
    dc1.store.retire().await.unwrap();
    until("it is gone", async || dc2.hosts().await == ["dc2.test"]).await;
    assert!(dc2.seen("a@x").await.is_empty());
    until("nothing more is said", async || wire.tasks[1].is_finished()).await;
    wire.cut().await;
    drop(dc1);
    let dc1 = Member::announced("dc1.test", 2).await;
    let _wire = Wire::between(&dc2, &dc1);
    until("it is back, and what it claimed", async || {
        dc2.seen("a@x").await.len() == 1
    })
    .await;
}

#[tokio::test]
async fn a_node_is_replicated_over_one_connection() {
    let dc1 = Member::new("dc1.test", 1);
    let dc2 = Member::new("dc2.test", 1);
    let receive = || Arc::clone(&dc2.store).receive_from(&dc1.store.node);
    let first = receive();
    assert!(receive().is_err());
    let free = tokio::spawn({
        let (store, node) = (Arc::clone(&dc2.store), dc1.store.node.clone());
        async move { store.until_not_replicated(&node).await }
    });
    tokio::task::yield_now().await;
    assert!(!free.is_finished());
    drop(first);
    free.await.unwrap();
    assert!(receive().is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_node_is_sent_the_table_over_one_connection_the_newest() {
    let dc1 = Member::announced("dc1.test", 1).await;
    let dc2 = Member::announced("dc2.test", 1).await;
    let node = &dc2.store.node;
    let old = Arc::clone(&dc1.store).send_to(node, 1);
    assert!(old.next_message().await.is_some());
    let new = Arc::clone(&dc1.store).send_to(node, 1);
    assert!(old.next_message().await.is_none());
    drop(old);
    assert!(new.next_message().await.is_some());
}

fn node_of(host: &str, name: usize) -> Node {
    Node {
        host: Host::new(host).unwrap(),
        name: format!("n{name}"),
    }
}

#[tokio::test(start_paused = true)]
async fn a_host_has_a_limited_number_of_nodes() {
    let dc1 = Member::announced("dc1.test", 1).await;
    let receive = |n| Arc::clone(&dc1.store).receive_from(&node_of("dc2.test", n));
    // New names on each connection: the ones before make room.
    for n in 0..1000 {
        let session = receive(n).unwrap();
        let process = Message::Process {
            epoch: n as u64,
            announcement: None,
        };
        session.accept(process.write()).unwrap();
    }
    assert_eq!(dc1.store.replicas.load().len(), NODES_PER_HOST);
    let held: Vec<_> = (0..NODES_PER_HOST).map(|n| receive(n).unwrap()).collect();
    assert!(receive(NODES_PER_HOST).is_err());
    drop(held);
    assert!(receive(NODES_PER_HOST).is_ok());

    let send = |n| Arc::clone(&dc1.store).send_to(&node_of("dc2.test", n), 1);
    let held: Vec<_> = (0..NODES_PER_HOST).map(send).collect();
    assert!(send(NODES_PER_HOST).next_message().await.is_none());
    drop(held);
    assert!(send(NODES_PER_HOST).next_message().await.is_some());
}

/// Claims and homes that a peer dates into the future, past any honest clock.
#[tokio::test(start_paused = true)]
async fn a_time_in_the_future_wins_no_claim_and_no_home() {
    const ALICE: &str = "alice@example.test";
    const PHONE: &str = "alice@example.test/phone";
    let (future, now) = (u64::MAX, wall_clock());
    let dc1 = Member::announced("dc1.test", 1).await;
    let hostile = Member::announced("dc2.test", 1).await;
    let dc3 = Member::announced("dc3.test", 1).await;
    for jid in [ALICE, PHONE] {
        hostile.claim(jid, future).await;
        dc1.claim(jid, now).await;
    }
    let _wires = [
        Wire::between(&dc3, &hostile),
        Wire::between(&dc3, &dc1),
        Wire::between(&dc1, &hostile),
    ];
    until_in_step(&dc3, &hostile).await;
    until_in_step(&dc3, &dc1).await;
    until_in_step(&dc1, &hostile).await;
    for reader in [&dc1, &dc3] {
        for jid in [ALICE, PHONE] {
            let claims = reader.store.claims(jid).await.unwrap();
            let hosts: Vec<_> = claims.iter().map(|claim| claim.host.as_str()).collect();
            assert_eq!(hosts, ["dc1.test", "dc2.test"], "{jid}");
        }
    }

    dc1.withdraw(ALICE).await;
    hostile.withdraw(ALICE).await;
    for reader in [&dc1, &dc3] {
        until("both have withdrawn", async || {
            reader.seen(ALICE).await.is_empty()
        })
        .await;
        let located = reader.store.read(ALICE).await.unwrap();
        assert_eq!(located.home.unwrap().as_str(), "dc1.test");
    }

    // Handed over as an own former claim: it would be announced as such from then on.
    let entry = Entry::new(b"carol@example.test", Standing::Former(future));
    dc1.store.adopt_own(&[entry], Duration::ZERO).unwrap();
    assert_eq!(dc1.knows("carol@example.test"), Standing::Nowhere);
}

#[tokio::test(start_paused = true)]
async fn a_host_is_believed_about_its_own_nodes_and_gives_few_hints() {
    let dc1 = Member::announced("dc1.test", 1).await;
    let sent_by = |host: &str, node: &Node, at: &str| {
        let endpoint: Endpoint = at.parse().unwrap();
        let nodes = vec![(node.clone(), vec![endpoint])];
        dc1.store.learn_nodes(&node_of(host, 1), &nodes);
    };
    let expected = |at: &str| -> Vec<String> {
        let contacts = dc1.store.contacts();
        let contacts = contacts.borrow();
        let hosts = contacts.get(&at.parse::<Endpoint>().unwrap());
        hosts
            .into_iter()
            .flatten()
            .map(ToString::to_string)
            .collect()
    };
    let node = node_of("dc3.test", 1);
    sent_by("dc2.test", &node, "hint:1");
    assert_eq!(
        expected("hint:1"),
        ["dc3.test"],
        "only that host may answer"
    );
    sent_by("dc3.test", &node, "itself:1");
    sent_by("dc2.test", &node, "hint:1");
    assert_eq!(expected("hint:1"), [""; 0]);
    assert_eq!(expected("itself:1"), ["dc3.test"]);
    // A node never dials itself, even when a peer lists it.
    sent_by("dc2.test", &dc1.store.node, "loop:1");
    assert_eq!(expected("loop:1"), [""; 0]);
    for n in 0..2000 {
        sent_by("dc2.test", &node_of("dc4.test", n), &format!("many{n}:1"));
    }
    assert!(dc1.store.contacts().borrow().len() < 300);
}

#[tokio::test(start_paused = true)]
async fn whom_one_knows_all_find_and_the_dead_are_forgotten() {
    let members = [
        Member::announced("dc1.test", 1).await,
        Member::announced("dc2.test", 1).await,
        Member::announced("dc3.test", 1).await,
    ];
    let [dc1, dc2, dc3] = &members;
    let knows = |member: &Member| -> Vec<String> {
        let contacts = member.store.contacts();
        let contacts = contacts.borrow();
        contacts.keys().map(|it| it.host.clone()).collect()
    };
    // dc3 dials dc1, which learns of it by that; dc2 follows dc1 already.
    let _one = Wire::between(dc2, dc1);
    let three = Wire::between(dc3, dc1);
    until("dc1 knows both", async || {
        knows(dc1) == ["dc2.test", "dc3.test"]
    })
    .await;
    let back = Wire::between(dc1, dc3);
    until("dc2 knows dc3 by dc1", async || {
        knows(dc2) == ["dc1.test", "dc3.test"]
    })
    .await;
    for _ in 0..10 {
        tokio::time::sleep(EXPIRE_AFTER / 2).await;
        for member in &members {
            member.announce(5555).await;
        }
    }
    assert_eq!(knows(dc2), ["dc1.test", "dc3.test"], "as long as it lives");
    three.cut().await;
    back.cut().await;
    until("dc3 is forgotten", async || {
        dc1.announce(5555).await;
        dc2.announce(5555).await;
        knows(dc1) == ["dc2.test"] && knows(dc2) == ["dc1.test"]
    })
    .await;
}

fn hostile(message: Bytes) -> Result<(), crate::replication::InvalidMessage> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    runtime.block_on(async {
        let dc1 = Member::new("dc1.test", 1);
        let dc2 = Member::new("dc2.test", 1);
        let receiving = Arc::clone(&dc2.store).receive_from(&dc1.store.node);
        let receiving = receiving.unwrap();
        let process = Message::Process {
            epoch: 1,
            announcement: None,
        };
        receiving.accept(process.write())?;
        receiving.accept(message.clone())?;
        let sending = Arc::clone(&dc2.store).send_to(&dc1.store.node, 1);
        sending.accept(message)
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_message_is_heard_without_panic(kind in 0..10_u8, body: Vec<u8>) {
        let _ = hostile([&[kind][..], &body].concat().into());
    }
}

#[test]
fn what_makes_no_sense_ends_the_connection() {
    let another = Message::Process {
        epoch: 2,
        announcement: None,
    };
    let late = Bytes::from_static(&[0, 1, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, b'a']);
    for message in [another, Message::Changes(late), Message::Resume(None)] {
        assert!(hostile(message.write()).is_err(), "{message:?}");
    }
    assert!(hostile(Bytes::new()).is_err());
}
