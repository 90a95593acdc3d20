//! Links over real TCP, with real certificates.

mod credentials;
mod documented;
mod gateways;
mod hostile;
mod nodes;
mod schedules;
mod setup;
mod tables;

use std::time::Duration;

use gateways::{Ca, Inbox, Receiver, Sender, on_its_way, until};

use crate::envelope::Obstacle;

/// Longer than any step here takes.
const LONG: Duration = Duration::from_secs(60);

#[tokio::test]
async fn stanzas_arrive_in_order_and_are_settled_when_the_peer_has_settled_them() {
    let ca = Ca::new();
    let receiver = Receiver::start(&ca, "dc2.test").await;
    let sender = Sender::start(&ca, "dc1.test", LONG, 1 << 20);
    sender.follow("dc2.test", &[receiver.address()]);
    sender.until_up("dc2.test").await;
    for n in 0..500 {
        sender.send("dc2.test", n).unwrap();
    }
    until("all have arrived", || receiver.inbox.len() == 500).await;
    assert_eq!(receiver.inbox.numbers(), (0..500).collect::<Vec<_>>());
    assert_eq!(
        sender.settled(),
        [0; 0],
        "nothing is settled before the peer says so"
    );
    receiver.inbox.settle(..10);
    until("ten are settled", || sender.settled().len() == 10).await;
    // Acks are cumulative: a number settled out of order counts when the gap is closed.
    receiver.inbox.settle(100..);
    receiver.inbox.settle(10..100);
    until("all are settled", || sender.settled().len() == 500).await;
    assert_eq!(sender.settled(), (0..500).collect::<Vec<_>>());
    let text = receiver.metrics.render();
    for line in [
        "mod_global_distrib_incoming_messages_count{host=\"dc1.test\"} 500",
        "mod_global_distrib_incoming_transfer_time_us_count{host=\"dc1.test\"} 500",
        "mod_global_distrib_incoming_first_packet_count{host=\"dc1.test\"} 1",
    ] {
        assert!(text.contains(line), "{line} missing in {text}");
    }
    let text = sender.metrics.render();
    for line in [
        "mod_global_distrib_outgoing_messages_count{host=\"dc2.test\"} 500",
        "mod_global_distrib_outgoing_queue_time_us_count{host=\"dc2.test\"} 500",
        "strait_link_unsettled_stanzas{host=\"dc2.test\"} 0",
        "strait_links_up{host=\"dc2.test\"} 1",
    ] {
        assert!(text.contains(line), "{line} missing in {text}");
    }
}

#[tokio::test]
async fn the_envelope_arrives_as_it_was() {
    let ca = Ca::new();
    let receiver = Receiver::start(&ca, "dc2.test").await;
    let sender = Sender::start(&ca, "dc1.test", LONG, 1 << 20);
    sender.follow("dc2.test", &[receiver.address()]);
    sender.until_up("dc2.test").await;
    let mut envelope = sender.envelope(7);
    envelope.count_retry(&gateways::host("dc3.test"));
    let (id, ttl, retries) = (envelope.id, envelope.ttl, envelope.retries.clone());
    sender.forward("dc2.test", envelope).unwrap();
    until("it has arrived", || receiver.inbox.len() == 1).await;
    let arrived = receiver.inbox.pop();
    assert_eq!(
        (arrived.id, arrived.ttl, arrived.retries),
        (id, ttl - 1, retries)
    );
    assert_eq!(arrived.origin, gateways::host("dc1.test"));
    let from_link = crate::envelope::Arrival::Link(gateways::host("dc1.test"));
    assert_eq!(arrived.arrival, from_link);
    assert_eq!(&arrived.stanza.payload()[..], b"<body>7</body>");
    assert_eq!(arrived.copy_for, None);

    let mut copy = sender.envelope(8);
    copy.copy_for = Some(gateways::host("dc2.test"));
    sender.forward("dc2.test", copy).unwrap();
    until("it has arrived", || receiver.inbox.len() == 1).await;
    let for_us = Some(gateways::host("dc2.test"));
    assert_eq!(receiver.inbox.pop().copy_for, for_us);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broken_link_neither_loses_nor_doubles_nor_reorders() {
    let ca = Ca::new();
    let receiver = Receiver::start(&ca, "dc2.test").await;
    receiver.inbox.settle_at_once();
    let wire = on_its_way(receiver.address()).await;
    let sender = Sender::start(&ca, "dc1.test", LONG, 1 << 20);
    sender.follow("dc2.test", &[wire.address()]);
    sender.until_up("dc2.test").await;
    for n in 0..2000 {
        if n % 400 == 200 {
            wire.cut();
        }
        sender.send("dc2.test", n).unwrap();
        if n % 10 == 0 {
            tokio::task::yield_now().await;
        }
    }
    until("all are settled", || sender.settled().len() == 2000).await;
    assert_eq!(receiver.inbox.numbers(), (0..2000).collect::<Vec<_>>());
    assert!(wire.connections() > 1, "the link never broke");
}

#[tokio::test]
async fn what_a_killed_peer_had_not_settled_goes_to_the_one_that_replaces_it() {
    let ca = Ca::new();
    let receiver = Receiver::start(&ca, "dc2.test").await;
    let wire = on_its_way(receiver.address()).await;
    let sender = Sender::start(&ca, "dc1.test", LONG, 1 << 20);
    sender.follow("dc2.test", &[wire.address()]);
    sender.until_up("dc2.test").await;
    for n in 0..100 {
        sender.send("dc2.test", n).unwrap();
    }
    until("all have arrived", || receiver.inbox.len() == 100).await;
    receiver.inbox.settle(..40);
    until("some are settled", || sender.settled().len() == 40).await;
    let second = Receiver::start(&ca, "dc2.test").await;
    second.inbox.settle_at_once();
    wire.lead_to(second.address());
    receiver.kill().await;
    for n in 100..120 {
        sender.send("dc2.test", n).unwrap();
    }
    until("all are settled", || sender.settled().len() == 120).await;
    assert_eq!(second.inbox.numbers(), (40..120).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_stanza_that_the_peer_dropped_is_sent_again() {
    let ca = Ca::new();
    let receiver = Receiver::start(&ca, "dc2.test").await;
    let sender = Sender::start(&ca, "dc1.test", LONG, 1 << 20);
    sender.follow("dc2.test", &[receiver.address()]);
    sender.until_up("dc2.test").await;
    for n in 0..3 {
        sender.send("dc2.test", n).unwrap();
    }
    until("all have arrived", || receiver.inbox.len() == 3).await;
    receiver.inbox.drop_unsettled(1);
    until("it came again", || receiver.inbox.len() == 3).await;
    receiver.inbox.settle(..);
    until("all are settled", || sender.settled().len() == 3).await;
    assert_eq!(receiver.inbox.numbers(), [0, 2, 1]);
    assert!(sender.settled().is_sorted());
    let duplicates = receiver
        .metrics
        .link_duplicates
        .with_label_values(&["dc1.test"]);
    assert_eq!(duplicates.get(), 1, "the one behind it had come");
}

#[tokio::test]
async fn a_peer_that_stops_is_sent_nothing_new_and_settles_what_it_has() {
    let ca = Ca::new();
    let receiver = Receiver::start(&ca, "dc2.test").await;
    let sender = Sender::start(&ca, "dc1.test", LONG, 1 << 20);
    sender.follow("dc2.test", &[receiver.address()]);
    sender.until_up("dc2.test").await;
    sender.send("dc2.test", 0).unwrap();
    until("it has arrived", || receiver.inbox.len() == 1).await;
    receiver.shutdown.cancel();
    until("the goodbye is heard", || {
        !sender.links.is_up(&gateways::host("dc2.test"))
    })
    .await;
    sender.send("dc2.test", 1).unwrap();
    receiver.inbox.settle(..);
    receiver.stopped().await;
    until("the ack came before the end", || sender.settled() == [0]).await;
    assert_eq!(receiver.inbox.numbers(), [0]);
    let errors = receiver
        .metrics
        .incoming_errored
        .with_label_values(&["dc1.test"]);
    assert_eq!(errors.get(), 0, "a goodbye is no error");
}

#[tokio::test]
async fn drain_waits_for_the_acks_and_says_goodbye() {
    let ca = Ca::new();
    let receiver = Receiver::start(&ca, "dc2.test").await;
    let sender = Sender::start(&ca, "dc1.test", LONG, 1 << 20);
    sender.follow("dc2.test", &[receiver.address()]);
    sender.until_up("dc2.test").await;
    sender.send("dc2.test", 0).unwrap();
    until("it has arrived", || receiver.inbox.len() == 1).await;
    let mut drain = Box::pin(sender.links.drain());
    assert!(futures::poll!(&mut drain).is_pending());
    receiver.inbox.settle(..);
    drain.await;
    assert_eq!(sender.settled(), [0]);
    let closed = receiver
        .metrics
        .incoming_closed
        .with_label_values(&["dc1.test"]);
    until("the link is closed", || closed.get() == 1).await;
    let errors = receiver
        .metrics
        .incoming_errored
        .with_label_values(&["dc1.test"]);
    assert_eq!(errors.get(), 0);
    assert_eq!(sender.send("dc2.test", 1), Err(Obstacle::Absent));
}

#[tokio::test]
async fn absent_full_and_too_late_give_the_stanza_back() {
    let ca = Ca::new();
    let receiver = Receiver::start(&ca, "dc2.test").await;
    let wire = on_its_way(receiver.address()).await;
    let mut sender = Sender::start(&ca, "dc1.test", Duration::from_secs(2), 4096);
    assert_eq!(sender.send("dc2.test", 0), Err(Obstacle::Absent));
    sender.follow("dc2.test", &[wire.address()]);
    sender.until_up("dc2.test").await;
    let mut sent = 0;
    let full = loop {
        if let Err(obstacle) = sender.send("dc2.test", sent) {
            break obstacle;
        }
        sent += 1;
    };
    assert_eq!(full, Obstacle::Full);
    assert!(sent > 3, "{sent}");
    until("all have arrived", || receiver.inbox.len() == sent as usize).await;
    wire.close();
    for n in 0..sent {
        let late = sender.undelivered.recv().await.unwrap();
        assert_eq!(late.reason, Obstacle::TooLate);
        assert_eq!(gateways::number(&late.envelope), n);
    }
    assert_eq!(sender.settled(), [0; 0]);
    let unsettled = sender
        .metrics
        .link_unsettled
        .with_label_values(&["dc2.test"]);
    assert_eq!(unsettled.get(), 0);
}

#[tokio::test]
async fn an_endpoint_that_is_gone_is_closed_and_a_dead_one_gives_back() {
    let ca = Ca::new();
    let receiver = Receiver::start(&ca, "dc2.test").await;
    let wire = on_its_way(receiver.address()).await;
    let mut sender = Sender::start(&ca, "dc1.test", LONG, 1 << 20);
    sender.follow("dc2.test", &[wire.address()]);
    sender.until_up("dc2.test").await;
    sender.send("dc2.test", 0).unwrap();
    until("it has arrived", || receiver.inbox.len() == 1).await;
    // The slot is disabled, but not drained, so it stays.
    sender.follow("dc2.test", &[]);
    assert!(!sender.links.status()[0].enabled);
    wire.close();
    let back = sender.undelivered.recv().await.unwrap();
    assert_eq!(back.reason, Obstacle::Absent);
    until("the pool is gone", || sender.links.peers().is_empty()).await;

    sender.follow("dc2.test", &[receiver.address()]);
    sender.until_up("dc2.test").await;
    sender.follow("dc2.test", &[]);
    until("the drained slot is closed", || {
        sender.links.peers().is_empty()
    })
    .await;
}

#[tokio::test]
async fn one_slow_peer_delays_no_other() {
    let ca = Ca::new();
    let slow = Receiver::start(&ca, "dc2.test").await;
    slow.inbox.block();
    let quick = Receiver::start(&ca, "dc3.test").await;
    quick.inbox.settle_at_once();
    let sender = Sender::start(&ca, "dc1.test", LONG, 16 << 20);
    sender.follow("dc2.test", &[slow.address()]);
    sender.follow("dc3.test", &[quick.address()]);
    sender.until_up("dc2.test").await;
    sender.until_up("dc3.test").await;
    for n in 0..20_000 {
        sender.send("dc2.test", n).unwrap();
    }
    for n in 0..100 {
        sender.send("dc3.test", n).unwrap();
    }
    until("the quick one has settled all", || {
        sender.settled().len() == 100
    })
    .await;
    assert_eq!(quick.inbox.len(), 100);
}

#[tokio::test]
async fn a_malformed_stanza_is_refused_and_not_sent_forever() {
    let ca = Ca::new();
    let receiver = Receiver::start(&ca, "dc2.test").await;
    receiver.inbox.settle_at_once();
    let mut peer = hostile::greeted(&ca, "dc1.test", "dc2.test", receiver.address()).await;
    peer.send_stanza(
        1,
        "dc1.test",
        b"<message from='a@example.test' to='b@example.test'>",
    )
    .await;
    peer.send_stanza(
        2,
        "no host at all",
        b"<message from='a@example.test' to='b@example.test'/>",
    )
    .await;
    peer.send_stanza(
        3,
        "dc1.test",
        b"<message from='a@example.test' to='b@example.test'><body>3</body></message>",
    )
    .await;
    peer.until_acknowledged(3).await;
    assert_eq!(receiver.inbox.numbers(), [3]);
    assert_eq!(
        receiver
            .metrics
            .refused
            .with_label_values(&["malformed"])
            .get(),
        2
    );
}

#[tokio::test]
async fn plain_links_work_when_both_sides_say_so() {
    let receiver = Receiver::start_plain("dc2.test").await;
    receiver.inbox.settle_at_once();
    let sender = Sender::start_plain("dc1.test");
    sender.follow("dc2.test", &[receiver.address()]);
    sender.until_up("dc2.test").await;
    sender.send("dc2.test", 1).unwrap();
    until("it is settled", || sender.settled() == [1]).await;
    let _: &Inbox = &receiver.inbox;
}
