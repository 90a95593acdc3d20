use super::*;
use jid::Jid;

const REMEMBER: Duration = Duration::from_secs(120);

fn online(jid: &str, since: u64) -> SessionChange {
    SessionChange::Online {
        jid: Jid::new(jid).unwrap(),
        since,
    }
}

fn offline(jid: &str) -> SessionChange {
    SessionChange::Offline {
        jid: Jid::new(jid).unwrap(),
    }
}

fn claim(jid: &str, since: u64, fresh: bool) -> OwnClaim {
    OwnClaim {
        jid: jid.to_owned(),
        since,
        fresh,
    }
}

fn claims(changes: &[SessionChange]) -> ClaimQueue {
    let mut claims = ClaimQueue::new(REMEMBER);
    for change in changes {
        claims.record(change, Instant::now());
    }
    claims
}

#[test]
fn only_the_latest_state_is_written() {
    let mut claims = claims(&[online("a@x", 1), offline("a@x"), online("a@x", 2)]);
    let batch = claims.next_batch().unwrap();
    assert_eq!(batch.claims, [claim("a@x", 2, true)]);
    assert_eq!(batch.withdrawals, [""; 0]);
    assert_eq!(claims.next_batch(), None);

    claims.record(&online("a@x", 3), Instant::now());
    claims.record(&offline("a@x"), Instant::now());
    let batch = claims.next_batch().unwrap();
    assert_eq!(batch.claims, []);
    assert_eq!(batch.withdrawals, ["a@x"]);
}

#[test]
fn what_could_not_be_written_is_written_later_unless_there_is_newer() {
    let mut claims = claims(&[online("a@x", 1), online("b@x", 1)]);
    let batch = claims.next_batch().unwrap();
    claims.record(&offline("a@x"), Instant::now());
    claims.requeue(batch);
    let batch = claims.next_batch().unwrap();
    assert_eq!(batch.claims, [claim("b@x", 1, true)]);
    assert_eq!(batch.withdrawals, ["a@x"]);
}

#[test]
fn all_parts_together_refresh_everything_once() {
    let jids: Vec<String> = (0..1000).map(|n| format!("u{n}@x")).collect();
    let changes: Vec<SessionChange> = jids.iter().map(|jid| online(jid, 7)).collect();
    let mut claims = claims(&changes);
    while claims.next_batch().is_some() {}

    for part in 0..REFRESH_PARTS {
        claims.refresh_part(part);
    }
    let mut refreshed = Vec::new();
    while let Some(batch) = claims.next_batch() {
        assert!(batch.claims.len() <= BATCH);
        assert!(batch.claims.iter().all(|claim| !claim.fresh));
        refreshed.extend(batch.claims.into_iter().map(|claim| claim.jid));
    }
    refreshed.sort();
    let mut expected = jids;
    expected.sort();
    assert_eq!(refreshed, expected);
}

#[test]
fn a_withdrawn_claim_is_not_refreshed() {
    let mut claims = claims(&[online("a@x", 1), online("b@x", 1)]);
    claims.next_batch();
    claims.refresh_all();
    claims.record(&offline("a@x"), Instant::now());
    let batch = claims.next_batch().unwrap();
    assert_eq!(batch.withdrawals, ["a@x"]);
    assert_eq!(batch.claims, [claim("b@x", 1, false)]);
}

#[test]
fn changes_and_refreshes_share_a_batch() {
    let known: Vec<_> = (0..1000).map(|n| online(&format!("u{n}@x"), 7)).collect();
    let mut claims = claims(&known);
    while claims.next_batch().is_some() {}
    claims.refresh_all();
    for n in 0..1000 {
        claims.record(&online(&format!("new{n}@x"), 8), Instant::now());
    }
    for _ in 0..4 {
        let batch = claims.next_batch().unwrap();
        let fresh = batch.claims.iter().filter(|claim| claim.fresh).count();
        assert_eq!((fresh, batch.claims.len()), (BATCH / 2, BATCH));
    }
    assert_eq!(claims.next_batch(), None);
}

#[test]
fn a_refused_claim_is_new_once_for_each_session() {
    let mut claims = claims(&[online("a@x", 1)]);
    assert!(claims.set_aside("a@x"));
    assert!(!claims.set_aside("a@x"));
    claims.record(&offline("a@x"), Instant::now());
    assert!(!claims.set_aside("a@x"), "it is a withdrawal");
    claims.record(&online("a@x", 2), Instant::now());
    assert!(claims.set_aside("a@x"));
}

#[test]
fn withdrawals_are_remembered_for_as_long_as_the_store_may_tell_otherwise() {
    let now = Instant::now();
    let mut claims = ClaimQueue::new(REMEMBER);
    claims.record(&offline("a@x"), now);
    claims.record(&offline("b@x"), now);
    claims.record(&online("b@x", 1), now);
    assert!(claims.has_withdrawn("a@x"));
    assert!(!claims.has_withdrawn("b@x"));
    claims.forget_withdrawn(now + REMEMBER);
    assert!(!claims.has_withdrawn("a@x"));
}
