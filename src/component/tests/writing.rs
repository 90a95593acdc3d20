//! Stanzas for the server, and when they are settled.

use tokio::sync::mpsc::error::TryRecvError;

use super::server::{Server, numbers};
use super::*;
use crate::envelope::Obstacle;

#[tokio::test]
async fn an_answered_barrier_settles_what_was_written_before_it() {
    let server = Server::start().await;
    let mut gateway = Gateway::to(&server);
    let mut connection = server.attach().await;
    gateway.until_attached(1).await;
    gateway.reinject(1);
    let (text, first) = connection.until_barrier().await;
    assert_eq!(numbers(&text), [1]);
    (2..=4).for_each(|n| gateway.reinject(n));
    connection.until("<body>4</body></message>").await;
    assert_eq!(gateway.settled.try_recv(), Err(TryRecvError::Empty));
    assert_eq!(
        gateway
            .metrics
            .component_unsettled
            .with_label_values(&[DOMAIN])
            .get(),
        4
    );

    connection.answer(&first).await;
    assert_eq!(gateway.next_settled(1).await, [1]);
    let (text, second) = connection.until_barrier().await;
    assert_eq!(text, "");
    connection
        .send(&format!(
            "<iq type='error' id='{second}' from='dc1.test' to='example.test'>\
             <error type='cancel'/></iq>"
        ))
        .await;
    assert_eq!(gateway.next_settled(3).await, [2, 3, 4]);
    assert_eq!(
        gateway
            .metrics
            .component_unsettled
            .with_label_values(&[DOMAIN])
            .get(),
        0
    );
    assert_eq!(gateway.taken.try_recv().unwrap_err(), TryRecvError::Empty);
}

#[tokio::test]
async fn what_is_not_settled_is_written_again_in_order_before_what_is_newer() {
    let server = Server::start().await;
    let mut gateway = Gateway::to(&server);
    let mut connection = server.attach().await;
    (1..=2).for_each(|n| gateway.reinject(n));
    let (_, id) = connection.until_barrier().await;
    connection.answer(&id).await;
    gateway.next_settled(1).await;
    (3..=5).for_each(|n| gateway.reinject(n));
    connection.until("<body>5</body></message>").await;
    drop(connection);
    gateway.until_detached("closed").await;
    gateway.reinject(6);

    let mut connection = server.attach().await;
    let (text, id) = connection.until_barrier().await;
    let written = numbers(&text);
    assert!(written.ends_with(&[3, 4, 5, 6]), "{written:?}");
    assert!(written.is_sorted(), "{written:?}");
    connection.answer(&id).await;
    let settled = gateway.next_settled(5).await;
    assert_eq!(settled, [2, 3, 4, 5, 6]);
    assert!(gateway.undelivered.is_empty());
}

#[tokio::test]
async fn what_comes_before_the_first_attach_is_kept_for_it() {
    let server = Server::start().await;
    let gateway = Gateway::to(&server);
    (1..=3).for_each(|n| gateway.reinject(n));
    let mut connection = server.attach().await;
    let (text, _) = connection.until_barrier().await;
    assert_eq!(numbers(&text), [1, 2, 3]);
}

#[tokio::test]
async fn what_waits_too_long_is_given_back() {
    let port = Server::start().await.port();
    let mut gateway = Gateway::with(settings("127.0.0.1", port));
    tokio::time::pause();
    let start = tokio::time::Instant::now();
    gateway.reinject(1);
    tokio::time::advance(Duration::from_secs(20)).await;
    gateway.reinject(2);
    let first = gateway.undelivered.recv().await.unwrap();
    assert!(
        (30..=32).contains(&start.elapsed().as_secs()),
        "{:?}",
        start.elapsed()
    );
    assert_eq!(first.reason, Obstacle::TooLate);
    assert_eq!(first.envelope.stanza.id().unwrap(), "m1");
    let second = gateway.undelivered.recv().await.unwrap();
    assert!(
        (50..=52).contains(&start.elapsed().as_secs()),
        "{:?}",
        start.elapsed()
    );
    assert_eq!(second.envelope.stanza.id().unwrap(), "m2");
    assert_eq!(
        gateway
            .metrics
            .component_unsettled
            .with_label_values(&[DOMAIN])
            .get(),
        0
    );
}

#[tokio::test]
async fn what_is_written_waits_for_its_confirmation_as_long_as_that_takes() {
    let server = Server::start().await;
    let mut gateway = Gateway::to(&server);
    let mut connection = server.attach().await;
    gateway.reinject(1);
    let (_, id) = connection.until_barrier().await;
    let clock = StoppedClock::new();
    for _ in 0..6 {
        connection
            .send("<presence from='alice@dc1.test/r1' to='bob@example.test' id='sign'/>")
            .await;
        assert_eq!(gateway.next_taken().await, "sign");
        tokio::task::yield_now().await;
        clock.advance(10).await;
    }
    connection.answer(&id).await;
    assert_eq!(gateway.next_settled(1).await, [1]);
    assert!(gateway.undelivered.is_empty());
}

#[tokio::test]
async fn a_full_queue_gives_back_at_once() {
    let port = Server::start().await.port();
    let gateway = Gateway::with(Settings {
        queue_bytes: 5_000,
        ..settings("127.0.0.1", port)
    });
    let full = (1..100).find_map(|n| gateway.try_reinject(n, &message(n)).err());
    let full = full.expect("some do not fit");
    assert_eq!(full.reason, Obstacle::Full);
}

#[tokio::test]
async fn a_slow_server_is_not_sent_more_than_it_confirms() {
    let server = Server::start().await;
    let mut gateway = Gateway::with(Settings {
        queue_bytes: 100 * 1024 * 1024,
        ..settings("127.0.0.1", server.port())
    });
    let mut connection = server.attach().await;
    gateway.until_attached(1).await;
    (0..4_000).for_each(|n| gateway.reinject(n));
    let mut written = Vec::new();
    while written.len() < 4_000 {
        let (text, id) = connection.until_barrier().await;
        assert!(text.len() <= 256 * 1024, "{} bytes at once", text.len());
        written.extend(numbers(&text));
        connection.answer(&id).await;
    }
    assert!(written.iter().copied().eq(0..4_000), "out of order");
    let settled = gateway.next_settled(4_000).await;
    assert!(settled.iter().copied().eq(0..4_000), "out of order");
}

#[tokio::test]
async fn what_would_end_the_stream_is_not_written() {
    let server = Server::start().await;
    let mut gateway = Gateway::to(&server);
    let mut connection = server.attach().await;
    gateway.until_attached(1).await;
    let large = "x".repeat(20_000);
    for (n, bad) in [
        "<message from='bob@elsewhere.test' to='alice@dc1.test' id='foreign'/>".to_owned(),
        "<message from='bob@example.test' id='nowhere'/>".to_owned(),
        "<message to='alice@dc1.test' id='nobody'/>".to_owned(),
        format!("<message from='bob@example.test' to='alice@dc1.test' id='big'>{large}</message>"),
    ]
    .iter()
    .enumerate()
    {
        gateway.try_reinject(n as u64, &stanza(bad)).unwrap();
    }
    gateway.reinject(9);
    let (text, _) = connection.until_barrier().await;
    assert_eq!(numbers(&text), [9]);
    assert_eq!(gateway.next_settled(4).await, [0, 1, 2, 3]);
    let reply = gateway.taken.recv().await.unwrap();
    assert_eq!(reply.arrival, Arrival::Own);
    assert_eq!(reply.stanza.id().unwrap(), "foreign");
    assert_eq!(reply.stanza.stanza_type(), Some("error"));
    let metrics = &gateway.metrics;
    assert_eq!(metrics.returned.with_label_values(&["component"]).get(), 4);
    for (reason, count) in [("foreign_sender", 1), ("bad_address", 2), ("too_large", 1)] {
        assert_eq!(
            metrics.refused.with_label_values(&[reason]).get(),
            count,
            "{reason}"
        );
    }
}

/// This server rejects only message 2.
#[tokio::test]
async fn a_stanza_that_ends_streams_is_found_and_refused_and_nothing_else_is_lost() {
    let server = Server::start().await;
    let mut gateway = Gateway::to(&server);
    (1..=3).for_each(|n| gateway.reinject(n));
    let mut connection = server.attach().await;
    connection.until_barrier().await;
    connection.end("not-well-formed").await;

    let mut connection = server.attach().await;
    let (text, id) = connection.until_barrier().await;
    assert_eq!(numbers(&text), [1]);
    connection.answer(&id).await;
    let (text, _) = connection.until_barrier().await;
    assert_eq!(numbers(&text), [2]);
    connection.end("not-well-formed").await;

    let mut connection = server.attach().await;
    let (text, id) = connection.until_barrier().await;
    assert_eq!(numbers(&text), [3]);
    connection.answer(&id).await;
    let mut settled = gateway.next_settled(3).await;
    settled.sort_unstable();
    assert_eq!(settled, [1, 2, 3]);
    let reply = gateway.taken.recv().await.unwrap();
    assert_eq!(reply.stanza.id().unwrap(), "m2");
    assert_eq!(reply.stanza.stanza_type(), Some("error"));
    let refused = &gateway.metrics.refused;
    assert_eq!(refused.with_label_values(&["malformed"]).get(), 1);
}

/// This server rejects every message of bob's that has an even number.
#[tokio::test]
async fn a_sender_ends_one_more_stream_at_most_by_repeating_what_ended_one() {
    let server = Server::start().await;
    let mut gateway = Gateway::to(&server);
    gateway.reinject(1);
    gateway.reinject(2);
    let mut connection = server.attach().await;
    connection.until_barrier().await;
    connection.end("not-well-formed").await;
    let mut connection = server.attach().await;
    let (_, id) = connection.until_barrier().await;
    connection.answer(&id).await;
    let (text, _) = connection.until_barrier().await;
    assert_eq!(numbers(&text), [2]);
    connection.end("not-well-formed").await;
    gateway.next_settled(2).await;

    // His next stanzas are written one by one, and others' behind them.
    let mut connection = server.attach().await;
    gateway.until_attached(3).await;
    let carol = stanza(
        "<message from='carol@example.test/r' to='alice@dc1.test' id='c'><body>100</body></message>",
    );
    gateway.reinject(4);
    gateway.try_reinject(100, &carol).unwrap();
    gateway.reinject(6);
    let (text, _) = connection.until_barrier().await;
    assert_eq!(numbers(&text), [4]);
    connection.end("not-well-formed").await;

    // Now he is refused, what waited included; others are not.
    let mut connection = server.attach().await;
    gateway.until_attached(4).await;
    gateway.reinject(8);
    let (text, id) = connection.until_barrier().await;
    assert_eq!(numbers(&text), [100]);
    connection.answer(&id).await;
    let mut settled = gateway.next_settled(4).await;
    settled.sort_unstable();
    assert_eq!(settled, [4, 6, 8, 100]);
    let refused = &gateway.metrics.refused;
    assert_eq!(refused.with_label_values(&["malformed"]).get(), 4);
}

#[tokio::test]
async fn stanzas_of_its_own_are_written_while_attached() {
    let server = Server::start().await;
    let gateway = Gateway::to(&server);
    let probe = |id| {
        stanza(&format!(
            "<presence type='probe' from='example.test' to='alice@dc1.test' id='{id}'/>"
        ))
    };
    gateway.component.send_own(probe("detached"));
    let mut connection = server.attach().await;
    gateway.until_attached(1).await;
    gateway.component.send_own(probe("attached"));
    let text = connection.until("/>").await;
    assert!(text.contains("id='attached'"), "{text}");
}

#[tokio::test]
async fn a_stop_writes_and_confirms_what_is_left_and_closes_the_stream() {
    let server = Server::start().await;
    let mut gateway = Gateway::to(&server);
    let mut connection = server.attach().await;
    gateway.until_attached(1).await;
    gateway.reinject(1);
    gateway.shutdown.cancel();
    let (text, id) = connection.until_barrier().await;
    assert_eq!(numbers(&text), [1]);
    connection
        .send("<message from='alice@dc1.test' to='bob@example.test' id='late'/>")
        .await;
    connection.answer(&id).await;
    assert_eq!(
        connection.until("</stream:stream>").await,
        "</stream:stream>"
    );
    connection.send("</stream:stream>").await;
    (&mut gateway.task).await.unwrap();
    assert_eq!(gateway.next_taken().await, "late");
    assert_eq!(gateway.settled.recv().await, Some(1));
    let envelope = Envelope::new(Host::new("dc1.test").unwrap(), Arrival::Own, 4, message(2));
    let late = gateway.component.try_reinject(envelope, message(2));
    assert_eq!(late.unwrap_err().reason, Obstacle::Absent);
}

#[tokio::test]
async fn a_stop_does_not_wait_for_a_server_that_is_stuck() {
    let server = Server::start().await;
    let gateway = Gateway::to(&server);
    let mut connection = server.attach().await;
    gateway.until_attached(1).await;
    gateway.reinject(1);
    connection.until_barrier().await;
    tokio::time::pause();
    let start = tokio::time::Instant::now();
    gateway.shutdown.cancel();
    gateway.task.await.unwrap();
    assert!(
        start.elapsed() < Duration::from_secs(5),
        "{:?}",
        start.elapsed()
    );
}

#[tokio::test]
async fn a_stop_while_detached_is_immediate() {
    let port = Server::start().await.port();
    let gateway = Gateway::with(settings("127.0.0.1", port));
    gateway.reinject(1);
    gateway.shutdown.cancel();
    gateway.task.await.unwrap();
}
