use super::*;
use crate::stanza::Kind;

const MAX_WAIT: Duration = Duration::from_secs(30);

fn queue(max_bytes: usize) -> HoldQueue {
    let config = config::Bounce {
        enabled: true,
        resend_after: Duration::from_millis(20),
        max_retries: 4,
        max_bytes,
    };
    HoldQueue::new(
        &config,
        MAX_WAIT,
        Host::new("dc1.test").unwrap(),
        Arc::new(Metrics::new()),
    )
}

fn envelope(id: &str, to: &str) -> Envelope {
    let jid = |text: &str| Some(Jid::new(text).unwrap());
    let (from, to) = (jid("alice@x.test/a"), jid(to));
    let stanza = Stanza::new(Kind::Message, None, Some(id), from, to, &[]);
    let host = Host::new("dc1.test").unwrap();
    Envelope::new(host, Arrival::Component, 4, stanza)
}

fn hold(queue: &HoldQueue, id: &str, to: &str) {
    let held = queue.hold(envelope(id, to), HoldReason::NoRecipient);
    assert!(held.is_ok(), "{held:?}");
}

async fn due(queue: &HoldQueue) -> HoldKey {
    match queue.due().await {
        DueWork::Retry(pair) => pair,
        DueWork::LookUp(lookup) => panic!("{lookup:?}"),
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
        hold(&queue, id, to);
    }
    assert_eq!(queue.metrics.held.get(), 4);
    let mut seen = Vec::new();
    for _ in 0..2 {
        let pair = due(&queue).await;
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
fn an_envelope_that_is_returned_late_goes_before_those_taken_in_after_it() {
    let queue = queue(1 << 20);
    let [first, second, third] = ["1", "2", "3"].map(|id| envelope(id, "bob@x.test"));
    for envelope in [third, first, second] {
        queue.hold(envelope, HoldReason::NoRecipient).unwrap();
    }
    let key = queue.key_of(&envelope("4", "bob@x.test"));
    assert_eq!(ids(&queue.release(&key)), ["1", "2", "3"]);
}

#[tokio::test]
async fn max_wait_is_measured_from_when_the_stanza_was_taken_in() {
    let queue = queue(1 << 20);
    let taken_ago = |id, ago| {
        let mut envelope = envelope(id, "bob@x.test");
        envelope.taken_at = Instant::now().checked_sub(ago).unwrap();
        envelope
    };
    // The bound includes earlier waits for any reason, in this queue or in another.
    let late = taken_ago("1", MAX_WAIT);
    let refused = queue.hold(late, HoldReason::NoRoute).unwrap_err();
    assert_eq!(refused.refusal.reason, Reason::Timeout);
    assert!(queue.is_empty());
    // Bounces have a bound of their own.
    let late = taken_ago("2", MAX_WAIT);
    queue.hold(late, HoldReason::NoRecipient).unwrap();
    let _ = queue.close();

    // The last try is at the end of the time, not behind it.
    let queue = self::queue(1 << 20);
    let nearly = taken_ago("3", MAX_WAIT - Duration::from_millis(20));
    queue.hold(nearly, HoldReason::NoRoute).unwrap();
    let started = Instant::now();
    let line = queue.release(&due(&queue).await);
    assert!(started.elapsed() < ROUTE_DELAY / 2);
    let last = line.into_iter().next().unwrap().envelope;
    let refused = queue.hold(last, HoldReason::NoRoute).unwrap_err();
    assert_eq!(refused.refusal.reason, Reason::Timeout);
}

#[test]
fn nothing_is_held_while_the_gateway_stops() {
    let queue = queue(1 << 20);
    hold(&queue, "1", "bob@x.test");
    assert_eq!(queue.close().len(), 1);
    for reason in [HoldReason::NoRecipient, HoldReason::NoRoute] {
        assert!(queue.hold(envelope("2", "bob@x.test"), reason).is_err());
    }
}

#[test]
fn copies_wait_by_host_and_own_stanzas_for_the_server_with_their_pair() {
    let queue = queue(1 << 20);
    let made_for = |arrival: Arrival, host: &str| {
        let mut envelope = envelope("1", "bob@x.test");
        envelope.arrival = arrival;
        envelope.copy_for = Some(Host::new(host).unwrap());
        envelope
    };
    let copy = made_for(Arrival::Component, "dc2.test");
    queue.hold(copy, HoldReason::NoRoute).unwrap();
    let next = envelope("2", "bob@x.test");
    assert_eq!(queue.reason_to_wait(&next), None);
    let held_for = queue.copies_held_for(&next);
    assert_eq!(held_for, [Host::new("dc2.test").unwrap()]);
    assert!(
        queue
            .copies_held_for(&envelope("3", "carol@x.test"))
            .is_empty()
    );
    let copy = made_for(Arrival::Own, "dc2.test");
    assert_eq!(queue.reason_to_wait(&copy), Some(HoldReason::NoRoute));
    let own = made_for(Arrival::Own, "dc1.test");
    assert_eq!(queue.key_of(&own), queue.key_of(&next));
}

#[tokio::test]
async fn who_turns_up_gets_what_is_held_at_once() {
    let config = config::Bounce {
        resend_after: Duration::from_secs(3600),
        ..config::Bounce::default()
    };
    let queue = HoldQueue::new(
        &config,
        MAX_WAIT,
        Host::new("dc1.test").unwrap(),
        Arc::new(Metrics::new()),
    );
    hold(&queue, "1", "bob@x.test/b");
    hold(&queue, "2", "carol@x.test");
    queue.wake(&Jid::new("dave@x.test").unwrap());
    queue.wake(&Jid::new("bob@x.test/b").unwrap());
    assert_eq!(ids(&queue.release(&due(&queue).await)), ["1"]);
    assert_eq!(queue.metrics.held.get(), 1);
}

#[tokio::test]
async fn the_rest_of_a_line_waits_behind_for_the_same() {
    let queue = queue(1 << 20);
    for id in ["1", "2", "3"] {
        hold(&queue, id, "bob@x.test");
    }
    let pair = due(&queue).await;
    let mut line = queue.release(&pair);
    let bytes = line[0].size();
    let first = line.pop_front().unwrap();
    // Nothing to wait behind.
    line = queue.hold_behind(&pair, line).unwrap_err();
    queue.hold(first.envelope, HoldReason::NoRoute).unwrap();
    queue.hold_behind(&pair, line).unwrap();
    assert_eq!(queue.metrics.held.get(), 3);
    let held_bytes = usize::try_from(queue.metrics.held_bytes.get());
    assert_eq!(held_bytes, Ok(3 * bytes));

    let line = queue.release(&due(&queue).await);
    assert_eq!(ids(&line), ["1", "2", "3"]);
    assert!(line.iter().all(|held| held.reason == HoldReason::NoRoute));
    assert_eq!(queue.metrics.held_bytes.get(), 0);
}

#[test]
fn more_than_max_bytes_is_given_back() {
    let one = envelope("1", "bob@x.test").stanza.len();
    let queue = queue(2 * one);
    hold(&queue, "1", "bob@x.test");
    hold(&queue, "2", "bob@x.test");
    let third = envelope("3", "bob@x.test");
    let refused = queue.hold(third, HoldReason::NoRecipient).unwrap_err();
    assert_eq!(refused.refusal.reason, Reason::Overflow);
    assert_eq!(refused.envelope.stanza.id().as_deref(), Some("3"));
    let key = queue.key_of(&refused.envelope);
    assert_eq!(queue.release(&key).len(), 2);
    queue
        .hold(refused.envelope, HoldReason::NoRecipient)
        .unwrap();
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

#[tokio::test]
async fn a_line_without_an_answer_is_asked_for_once_and_not_tried_before() {
    let queue = queue(1 << 20);
    for (id, to) in [("1", "bob@x.test/b"), ("2", "bob@x.test/c")] {
        queue
            .hold(envelope(id, to), HoldReason::Unanswered)
            .unwrap();
    }
    let DueWork::LookUp(lookup) = queue.due().await else {
        panic!("the line is tried before the answer");
    };
    assert_eq!(lookup.recipient.as_str(), "bob@x.test/b");
    assert!(lookup.is_a_try);
    assert!(matches!(queue.take_due(Instant::now()), Err(None)));
    assert_eq!(ids(&queue.release(&lookup.pair)), ["1", "2"]);
}

#[tokio::test]
async fn a_bounced_line_is_asked_for_without_a_try() {
    let queue = queue(1 << 20);
    hold(&queue, "1", "bob@x.test");
    let next = envelope("2", "bob@x.test");
    queue.ask_for(&next);
    queue.ask_for(&next);
    let DueWork::LookUp(lookup) = queue.due().await else {
        panic!("the look-up comes first");
    };
    assert!(!lookup.is_a_try);
    queue.asked(&lookup.pair);
    assert_eq!(ids(&queue.release(&due(&queue).await)), ["1"]);
}
