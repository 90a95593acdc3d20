use super::*;
use crate::stanza::{Kind, Stanza};

fn queue(max_bytes: usize) -> HoldQueue {
    let config = config::Bounce {
        enabled: true,
        resend_after: Duration::from_millis(20),
        max_retries: 4,
        max_bytes,
    };
    HoldQueue::new(&config, Arc::new(Metrics::new()))
}

fn held(id: &str, to: &str) -> HeldEnvelope {
    let jid = |text: &str| Some(Jid::new(text).unwrap());
    let stanza = Stanza::new(
        Kind::Message,
        None,
        Some(id),
        jid("alice@x.test/a"),
        jid(to),
        &[],
    );
    let envelope = Envelope::new(
        Host::new("dc1.test").unwrap(),
        Arrival::Component,
        4,
        stanza,
    );
    HeldEnvelope {
        envelope,
        reason: HoldReason::NoRecipient,
    }
}

fn ids(held: &VecDeque<HeldEnvelope>) -> Vec<String> {
    held.iter()
        .map(|h| h.envelope.stanza.id().unwrap().into_owned())
        .collect()
}

#[tokio::test]
async fn a_pair_comes_back_whole_and_in_order_when_due() {
    let queue = queue(1 << 20);
    for (id, to) in [
        ("1", "bob@x.test/b"),
        ("2", "bob@x.test"),
        ("x", "carol@x.test"),
        ("3", "bob@x.test/c"),
    ] {
        queue.hold(held(id, to), 0).unwrap();
    }
    assert_eq!(queue.metrics.held.get(), 4);
    let mut seen = Vec::new();
    for _ in 0..2 {
        let pair = queue.due().await;
        seen.push(ids(&queue.release(&pair)));
    }
    seen.sort();
    assert_eq!(seen, [vec!["1", "2", "3"], vec!["x"]]);
    assert_eq!(
        (queue.metrics.held.get(), queue.metrics.held_bytes.get()),
        (0, 0)
    );
}

#[test]
fn what_is_given_back_late_goes_before_what_came_after_it() {
    let queue = queue(1 << 20);
    let [first, second, third] = ["1", "2", "3"].map(|id| held(id, "bob@x.test"));
    for held in [third, first, second] {
        queue.hold(held, 0).unwrap();
    }
    let pair = HoldKey::of(&held("4", "bob@x.test").envelope);
    assert_eq!(ids(&queue.release(&pair)), ["1", "2", "3"]);
}

#[tokio::test]
async fn who_turns_up_gets_what_is_held_at_once() {
    let config = config::Bounce {
        resend_after: Duration::from_secs(3600),
        ..config::Bounce::default()
    };
    let queue = HoldQueue::new(&config, Arc::new(Metrics::new()));
    queue.hold(held("1", "bob@x.test/b"), 0).unwrap();
    queue.hold(held("2", "carol@x.test"), 0).unwrap();
    queue.wake(&BareJid::new("dave@x.test").unwrap());
    queue.wake(&BareJid::new("bob@x.test").unwrap());
    assert_eq!(ids(&queue.release(&queue.due().await)), ["1"]);
    assert_eq!(queue.metrics.held.get(), 1);
}

#[tokio::test]
async fn the_rest_of_a_line_waits_behind_for_the_same() {
    let queue = queue(1 << 20);
    for id in ["1", "2", "3"] {
        queue.hold(held(id, "bob@x.test"), 0).unwrap();
    }
    let pair = queue.due().await;
    let mut line = queue.release(&pair);
    let bytes = line[0].size();
    let mut first = line.pop_front().unwrap();
    // Nothing to wait behind.
    line = queue.hold_behind(&pair, line).unwrap_err();
    first.reason = HoldReason::NoRoute;
    queue.hold(first, 0).unwrap();
    queue.hold_behind(&pair, line).unwrap();
    assert_eq!(queue.metrics.held.get(), 3);
    let held_bytes = usize::try_from(queue.metrics.held_bytes.get());
    assert_eq!(held_bytes, Ok(3 * bytes));

    let line = queue.release(&queue.due().await);
    assert_eq!(ids(&line), ["1", "2", "3"]);
    assert!(line.iter().all(|held| held.reason == HoldReason::NoRoute));
    assert_eq!(queue.metrics.held_bytes.get(), 0);
}

#[test]
fn more_than_max_bytes_is_given_back() {
    let one = held("1", "bob@x.test").envelope.stanza.len();
    let queue = queue(2 * one);
    queue.hold(held("1", "bob@x.test"), 0).unwrap();
    queue.hold(held("2", "bob@x.test"), 0).unwrap();
    let back = queue.hold(held("3", "bob@x.test"), 0).unwrap_err();
    assert_eq!(back.envelope.stanza.id().as_deref(), Some("3"));
    assert_eq!(queue.release_all().len(), 2);
    queue.hold(*back, 0).unwrap();
}

#[test]
fn the_wait_doubles_and_stays_bounded() {
    let queue = queue(0);
    for (tries, least, most) in [(0, 15, 25), (1, 30, 50), (3, 120, 200), (99, 3_750, 6_250)] {
        let delay = queue.delay(tries);
        let range = Duration::from_millis(least)..=Duration::from_millis(most);
        assert!(range.contains(&delay), "try {tries}: {delay:?}");
    }
}
