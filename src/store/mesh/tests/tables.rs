//! Tables in memory: this node's own, and replicas.

use std::collections::BTreeMap;
use std::time::Duration;

use proptest::collection::vec;
use proptest::prelude::*;
use tokio::time::Instant;

use super::super::entry::{Entry, JidHasher, Standing};
use super::super::local_table::LocalTable;
use super::super::replica::Replica;
use super::super::table::{NodeTable, SHARDS, TableCursor};
use crate::host::Host;
use crate::replication::Node;

const LIFETIME: Duration = Duration::from_secs(120);

fn online(jid: &str, since: u64) -> Entry<'_> {
    Entry::new(jid.as_bytes(), Standing::Online(since))
}

fn nowhere(jid: &str) -> Entry<'_> {
    Entry::new(jid.as_bytes(), Standing::Nowhere)
}

/// All entries, read in pieces of about `limit` bytes.
fn read(table: &NodeTable, limit: usize) -> BTreeMap<String, u64> {
    let mut cursor = TableCursor::default();
    let mut all = BTreeMap::new();
    loop {
        let mut piece = Vec::new();
        let is_last = table.read_on(&mut cursor, &mut piece, limit, |entry| entry.standing);
        for entry in Entry::read_all(&piece).unwrap() {
            let jid = String::from_utf8(entry.jid.to_vec()).unwrap();
            assert_eq!(all.insert(jid, entry.standing.since()), None);
        }
        if is_last {
            return all;
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn a_table_is_a_map_and_can_be_read_in_pieces(
        steps in vec(("[abc]{1,8}", 0..4_u64), 0..3000),
        limit in 1..2000_usize,
    ) {
        let table = NodeTable::new(JidHasher::default());
        let mut map = BTreeMap::new();
        for (jid, since) in &steps {
            let standing = match since {
                0 => Standing::Nowhere,
                since => Standing::Online(*since),
            };
            let before = table.set(table.hash(jid.as_bytes()), standing, 7).unwrap();
            let expected = match since {
                0 => map.remove(jid),
                since => map.insert(jid.clone(), *since),
            };
            prop_assert_eq!(before.standing.since(), expected.unwrap_or(0));
        }
        for (jid, since) in &map {
            let found = table.get(table.hash(jid.as_bytes()));
            prop_assert_eq!(found.standing, Standing::Online(*since));
            prop_assert_eq!(found.generation, 7);
        }
        prop_assert_eq!(table.online(), map.len());
        prop_assert_eq!(read(&table, limit), map);
    }
}

/// Names that fall into one bucket of one table are spread over the buckets of another: the key of
/// the hash is random, so that nobody can choose names for a table that they do not know.
#[test]
fn names_chosen_for_one_bucket_are_spread_over_all() {
    const CHOSEN: usize = 12_000;
    let known = JidHasher::default();
    let names = (0_u64..).map(|n| format!("{n}@example.test"));
    let in_one_bucket = |name: &String| known.hash(name.as_bytes()).hash % 64 == 0;
    let table = NodeTable::new(JidHasher::default());
    for name in names.filter(in_one_bucket).take(CHOSEN) {
        let jid = table.hash(name.as_bytes());
        table.set(jid, Standing::Online(1), 0).unwrap();
    }
    // A limit of one byte reads bucket by bucket.
    let (mut cursor, mut longest) = (TableCursor::default(), 0);
    loop {
        let mut bucket = Vec::new();
        let is_last = table.read_on(&mut cursor, &mut bucket, 1, |entry| entry.standing);
        longest = longest.max(Entry::read_all(&bucket).unwrap().len());
        if is_last {
            break;
        }
    }
    assert!(longest < 200, "a reader goes over {longest} entries");
}

#[test]
fn a_reader_misses_nothing_of_a_table_that_grows() {
    let table = NodeTable::new(JidHasher::default());
    let set = |n: usize| {
        let jid = format!("user{n}@a");
        let jid = table.hash(jid.as_bytes());
        table.set(jid, Standing::Online(1), 0).unwrap();
    };
    (0..5000).for_each(set);
    let mut cursor = TableCursor::default();
    let (mut seen, mut more) = (Vec::new(), 5000);
    loop {
        let limit = seen.len() + 500;
        if table.read_on(&mut cursor, &mut seen, limit, |entry| entry.standing) {
            break;
        }
        (more..more + 50).for_each(set);
        more += 50;
    }
    let seen: Vec<&[u8]> = seen_jids(&seen);
    for n in 0..5000 {
        let jid = format!("user{n}@a");
        assert!(seen.contains(&jid.as_bytes()), "{jid}");
    }
}

fn seen_jids(mut bytes: &[u8]) -> Vec<&[u8]> {
    let mut jids = Vec::new();
    while let Some((entry, rest)) = Entry::split_first(bytes) {
        jids.push(entry.jid);
        bytes = rest;
    }
    jids
}

#[test]
fn a_table_has_a_size_limit() {
    let table = NodeTable::new(JidHasher::default());
    let long = "x".repeat(3000);
    let full = (0..40_000).find(|n| {
        let jid = format!("{n}{long}");
        let jid = table.hash(jid.as_bytes());
        table.set(jid, Standing::Online(1), 0).is_err()
    });
    // 64 MiB in tests, unequally spread over the shards.
    assert!(full.is_some_and(|full| full > 15_000), "{full:?}");
}

fn local() -> (LocalTable, JidHasher) {
    let hasher = JidHasher::default();
    (LocalTable::new(1, hasher.clone()), hasher)
}

/// The changes from `sequence` on, as sent.
fn changes(local: &LocalTable, sequence: u64) -> Option<Vec<String>> {
    let (entries, next) = local.changes(sequence, usize::MAX)?;
    assert_eq!(next, local.head());
    let jids = seen_jids(&entries).into_iter();
    Some(
        jids.map(|jid| String::from_utf8(jid.to_vec()).unwrap())
            .collect(),
    )
}

#[test]
fn a_refresh_is_no_change_and_only_bare_jids_are_remembered() {
    let (local, hasher) = local();
    let jid = |text: &'static str| hasher.hash(text.as_bytes());
    for text in ["a@b/1", "a@b", "a@b"] {
        local.claim(jid(text), 5).unwrap();
    }
    assert_eq!(changes(&local, 0), Some(vec!["a@b/1".into(), "a@b".into()]));
    local.withdraw(jid("a@b/1"), None);
    local.withdraw(jid("a@b"), None);
    assert_eq!(local.standing(jid("a@b/1")), Standing::Nowhere);
    assert_eq!(local.standing(jid("a@b")), Standing::Former(5));
    local.withdraw(jid("a@b"), None);
    assert_eq!(local.standing(jid("a@b")), Standing::Former(5));
    local.withdraw(jid("x@y"), Some(3));
    local.withdraw(jid("x@y/z"), Some(3));
    assert_eq!(local.standing(jid("x@y")), Standing::Former(3));
    assert_eq!(local.standing(jid("x@y/z")), Standing::Nowhere);
    assert_eq!(local.online(), 0);
}

#[test]
fn changes_keep_their_numbers_and_the_oldest_are_forgotten() {
    let (local, hasher) = local();
    for n in 0..70_000 {
        local
            .claim(hasher.hash(format!("{n}@b/1").as_bytes()), 1)
            .unwrap();
    }
    assert_eq!(local.head(), 70_000);
    assert!(!local.can_resume(0) && !local.can_resume(70_001));
    assert!(local.can_resume(69_999) && local.can_resume(70_000));
    assert_eq!(changes(&local, 0), None);
    assert_eq!(changes(&local, 69_999), Some(vec!["69999@b/1".to_owned()]));
}

#[test]
fn the_oldest_homes_make_room() {
    let (local, hasher) = local();
    let count = (1 << 14) + (1 << 13);
    for n in 0..count {
        local.withdraw(hasher.hash(format!("u{n}@b").as_bytes()), Some(n + 1));
    }
    let known = |range: std::ops::Range<u64>| {
        let known = range.filter(|n| {
            let jid = format!("u{n}@b");
            local.standing(hasher.hash(jid.as_bytes())) != Standing::Nowhere
        });
        known.count()
    };
    let (old, new) = (known(0..1000), known(count - 1000..count));
    assert!(old < 100 && new > 990, "{old} {new}");
}

fn replica() -> (Replica, JidHasher) {
    let node = Node {
        host: Host::new("dc1.test").unwrap(),
        name: "a".to_owned(),
    };
    let hasher = JidHasher::default();
    (Replica::new(node, hasher.clone()), hasher)
}

/// A complete replica of process `epoch` that has only `entries`.
fn snapshot(replica: &Replica, epoch: u64, entries: &[Entry<'_>], now: Instant) {
    replica.link_up(epoch, LIFETIME, now);
    replica.begin_snapshot(0);
    replica.apply(entries).unwrap();
    replica.end_snapshot();
}

/// Entries handed over to process 2 of the node, and the time for which they count.
fn read_earlier(replica: &Replica, now: Instant) -> (Vec<String>, Duration) {
    let (mut cursor, mut bytes) = (TableCursor::default(), Vec::new());
    let (is_last, left) = replica.read_earlier(2, &mut cursor, &mut bytes, 1000, LIFETIME, now);
    assert!(is_last);
    let jids = seen_jids(&bytes).into_iter();
    let jids = jids.map(|jid| String::from_utf8(jid.to_vec()).unwrap());
    (jids.collect(), left)
}

#[test]
fn a_restarted_node_keeps_its_claims_until_it_knows_better() {
    let (replica, hasher) = replica();
    let standing = |jid: &str| replica.standing(hasher.hash(jid.as_bytes()));
    let now = Instant::now();
    let claims = [online("x@y/1", 5), online("x@y/2", 6), online("x@y/3", 7)];
    snapshot(&replica, 1, &claims, now);
    replica.link_down(now);
    assert_eq!(replica.resume_at(1), Some(0));
    assert_eq!(replica.resume_at(2), None);
    snapshot(&replica, 2, &[online("x@y/1", 9)], now);
    assert_eq!(standing("x@y/1"), Standing::Online(9));
    assert_eq!(standing("x@y/2"), Standing::Online(6));
    replica.apply_changes(&[nowhere("x@y/2")]).unwrap();
    assert_eq!(standing("x@y/2"), Standing::Nowhere);
    assert_eq!(standing("x@y/3"), Standing::Online(7));
    let end = now + LIFETIME;
    assert!(!replica.expire(LIFETIME, end));
    assert!(replica.expire(LIFETIME, end + Duration::from_millis(1)));
    assert_eq!(standing("x@y/3"), Standing::Nowhere);
    assert_eq!(standing("x@y/1"), Standing::Online(9));
    (0..SHARDS).for_each(|shard| replica.sweep(shard, |_, _| false));
    assert_eq!(replica.online(), 1);
}

#[test]
fn a_snapshot_ends_what_it_does_not_repeat() {
    let (replica, hasher) = replica();
    let standing = |jid: &str| replica.standing(hasher.hash(jid.as_bytes()));
    let now = Instant::now();
    snapshot(&replica, 1, &[online("x@y", 5), online("z@y", 5)], now);
    replica.begin_snapshot(3);
    assert_eq!(
        standing("z@y"),
        Standing::Online(5),
        "until the snapshot is complete"
    );
    assert_eq!(replica.resume_at(1), None, "half of it is of no use");
    assert_eq!(
        replica.apply(&[online("x@y", 5), online("new@y", 6)]),
        Ok(1)
    );
    assert_eq!(replica.end_snapshot(), 1);
    assert_eq!(standing("z@y"), Standing::Nowhere);
    assert_eq!(replica.resume_at(1), Some(3));
    let (local, hasher) = (LocalTable::new(1, hasher.clone()), hasher);
    for jid in ["x@y", "new@y"] {
        let since = if jid == "x@y" { 5 } else { 6 };
        local.claim(hasher.hash(jid.as_bytes()), since).unwrap();
    }
    let (_, digest) = local.digest();
    assert_eq!(replica.compare(3, digest), Some(true));
    assert_eq!(replica.compare(4, digest), Some(false));
}

#[test]
fn a_lost_node_counts_for_its_lifetime_and_then_only_for_homes() {
    let (replica, hasher) = replica();
    let standing = |jid: &str| replica.standing(hasher.hash(jid.as_bytes()));
    let now = Instant::now();
    snapshot(&replica, 1, &[online("a@b", 5), online("a@b/1", 5)], now);
    let later = now + 10 * LIFETIME;
    assert!(!replica.expire(LIFETIME, later), "as long as it is linked");
    replica.link_down(later);
    let half = later + LIFETIME / 2;
    let (earlier, left) = read_earlier(&replica, half);
    assert_eq!((earlier.len(), left), (2, LIFETIME / 2));
    assert!(!replica.expire(LIFETIME, later + LIFETIME));
    assert_eq!(standing("a@b/1"), Standing::Online(5));
    assert!(replica.expire(LIFETIME, later + LIFETIME + Duration::from_millis(1)));
    assert!(!replica.counts());
    for _ in 0..2 {
        // The same before and after the sweep.
        assert_eq!(standing("a@b/1"), Standing::Nowhere);
        assert_eq!(standing("a@b"), Standing::Former(5));
        (0..SHARDS).for_each(|shard| replica.sweep(shard, |_, _| false));
    }
    assert_eq!(replica.online(), 0);
    assert_eq!(replica.forget(hasher.hash(b"a@b")), Some(5));
    assert!(replica.is_spent());
}

#[test]
fn what_is_handed_over_counts_until_its_time_and_becomes_homes() {
    let (replica, hasher) = replica();
    let standing = |jid: &str| replica.standing(hasher.hash(jid.as_bytes()));
    let now = Instant::now();
    snapshot(&replica, 2, &[online("a@b", 9)], now);
    let handed_over = [online("a@b", 5), online("c@d", 5), online("c@d/1", 5)];
    replica.adopt(&handed_over, LIFETIME / 2, now).unwrap();
    assert_eq!(
        standing("a@b"),
        Standing::Online(9),
        "the process knows better"
    );
    assert_eq!(standing("c@d/1"), Standing::Online(5));
    let (earlier, left) = read_earlier(&replica, now);
    assert_eq!(
        (earlier.len(), left),
        (2, LIFETIME / 2),
        "of other processes"
    );
    assert!(replica.expire(LIFETIME, now + LIFETIME));
    assert_eq!(standing("c@d/1"), Standing::Nowhere);
    let mut homes: Vec<(Box<[u8]>, u64)> = Vec::new();
    for shard in 0..SHARDS {
        replica.sweep(shard, |bare, since| {
            homes.push((bare.into(), since));
            true
        });
    }
    assert_eq!(homes, [(Box::from(&b"c@d"[..]), 5)]);
    assert_eq!(standing("a@b"), Standing::Online(9));
}
