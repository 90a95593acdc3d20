//! Hosts with several nodes or endpoints; one is retired, dies or moves.

use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use super::super::dial::Dialler;
use super::super::resolver::Resolver;
use super::super::tls::Credentials;
use super::LONG;
use super::gateways::{Ca, Receiver, Sender, Wire, host, identity, on_its_way, until};
use crate::config::{AllowedPeers, Endpoint};
use crate::envelope::Obstacle;
use parking_lot::Mutex;

/// A sender with a slot to each of two nodes, and the wires there.
struct Two {
    sender: Sender,
    wires: Vec<Wire>,
    nodes: Vec<Receiver>,
}

impl Two {
    async fn start(max_wait: Duration) -> Self {
        let ca = Ca::new();
        let (mut nodes, mut wires) = (Vec::new(), Vec::new());
        for _ in 0..2 {
            let node = Receiver::start(&ca, "dc2.test").await;
            wires.push(on_its_way(node.address()).await);
            nodes.push(node);
        }
        let sender = Sender::start(&ca, "dc1.test", max_wait, 1 << 20);
        let two = Self {
            sender,
            wires,
            nodes,
        };
        two.announce(&[0, 1]);
        two.until_up(2).await;
        two
    }

    fn announce(&self, which: &[usize]) {
        let addresses = which.iter().map(|n| self.wires[*n].address());
        self.sender
            .follow("dc2.test", &addresses.collect::<Vec<_>>());
    }

    async fn until_up(&self, count: usize) {
        let peers = || self.sender.links.peers();
        until("so many links are up", || {
            peers() == [(host("dc2.test"), count)]
        })
        .await;
    }

    /// Sends the first stanza. Returns the index of the node that gets it, and of the other.
    async fn send_first(&self) -> (usize, usize) {
        self.sender.send("dc2.test", 0).unwrap();
        let has = |n: usize| self.nodes[n].inbox.len() == 1;
        until("it has arrived", || has(0) || has(1)).await;
        if has(0) { (0, 1) } else { (1, 0) }
    }
}

#[tokio::test]
async fn what_a_dead_node_had_not_settled_arrives_in_order_at_another() {
    let two = Two::start(Duration::from_secs(4)).await;
    let (dead, other) = two.send_first().await;
    two.wires[dead].close();
    two.until_up(1).await;
    for n in 1..50 {
        // Queued behind the first, which may be settled yet.
        two.sender.send("dc2.test", n).unwrap();
    }
    let inbox = &two.nodes[other].inbox;
    inbox.settle_at_once();
    until("all are settled", || two.sender.settled().len() == 50).await;
    assert_eq!(inbox.numbers(), (0..50).collect::<Vec<_>>());
    let sent = &two.sender.metrics.outgoing_messages;
    assert_eq!(sent.with_label_values(&["dc2.test"]).get(), 50);
}

#[tokio::test]
async fn nothing_waits_for_a_dead_node_that_is_retired() {
    let two = Two::start(LONG).await;
    let (dead, other) = two.send_first().await;
    two.wires[dead].close();
    two.until_up(1).await;
    two.announce(&[other]);
    let inbox = &two.nodes[other].inbox;
    inbox.settle_at_once();
    two.sender.send("dc2.test", 1).unwrap();
    until("both are settled", || two.sender.settled().len() == 2).await;
    assert_eq!(inbox.numbers(), [0, 1]);
    let slots = || two.sender.links.status().len();
    until("its slot is gone", || slots() == 1).await;
}

#[tokio::test]
async fn a_retired_node_settles_what_it_has_before_its_senders_move() {
    let two = Two::start(LONG).await;
    let (retired, other) = two.send_first().await;
    two.announce(&[other]);
    assert_eq!(two.sender.send("dc2.test", 1), Err(Obstacle::Absent));
    let slots = || two.sender.links.status().len();
    assert_eq!(slots(), 2, "it drains");
    two.nodes[retired].inbox.settle(..);
    until("it is settled and closed", || slots() == 1).await;
    assert_eq!(two.sender.settled(), [0]);
    two.nodes[other].inbox.settle_at_once();
    two.sender.send("dc2.test", 1).unwrap();
    until("the next one too", || two.sender.settled() == [0, 1]).await;
    assert_eq!(two.nodes[other].inbox.numbers(), [1]);
}

#[tokio::test]
async fn a_node_that_stops_is_left_at_once_by_what_it_was_not_sent() {
    let two = Two::start(LONG).await;
    let (stopping, other) = two.send_first().await;
    two.nodes[other].inbox.settle_at_once();
    two.nodes[stopping].shutdown.cancel();
    two.until_up(1).await;
    two.sender.send("dc2.test", 1).unwrap();
    two.nodes[stopping].inbox.settle(..);
    until("both are settled", || two.sender.settled() == [0, 1]).await;
    assert_eq!(two.nodes[other].inbox.numbers(), [1]);
}

#[tokio::test]
async fn over_two_ways_to_one_node_a_stanza_comes_once() {
    let ca = Ca::new();
    let node = Receiver::start(&ca, "dc2.test").await;
    let wires = [
        on_its_way(node.address()).await,
        on_its_way(node.address()).await,
    ];
    let sender = Sender::start(&ca, "dc1.test", Duration::from_secs(4), 1 << 20);
    sender.follow("dc2.test", &wires.each_ref().map(Wire::address));
    let up = || sender.links.peers()[0].1;
    until("both links are up", || up() == 2).await;
    sender.send("dc2.test", 0).unwrap();
    until("it has arrived", || node.inbox.len() == 1).await;
    let slots = sender.links.status();
    let used = slots.iter().position(|slot| slot.stanzas == 1).unwrap();
    let port = slots[used].endpoint.port;
    let wire = wires.iter().find(|wire| wire.address().port() == port);
    wire.unwrap().close();
    sender.send("dc2.test", 1).unwrap();
    until("the next one has come the other way", || {
        node.inbox.len() == 2
    })
    .await;
    assert_eq!(sender.settled(), [0; 0]);
    node.inbox.settle(..);
    until("both are settled", || sender.settled() == [0, 1]).await;
    assert_eq!(node.inbox.numbers(), [0, 1]);
    let duplicates = &node.metrics.link_duplicates;
    assert_eq!(duplicates.with_label_values(&["dc1.test"]).get(), 1);
}

#[tokio::test]
async fn a_name_is_looked_up_anew_each_time_it_is_dialled() {
    let ca = Ca::new();
    let receiver = Receiver::start(&ca, "dc2.test").await;
    let addresses = Arc::new(Mutex::new(Vec::new()));
    let looked_up = Arc::clone(&addresses);
    let dialler = Dialler {
        identity: identity("dc1.test"),
        credentials: Credentials::load(
            &ca.tls("dc1.test"),
            AllowedPeers::default(),
            &host("dc1.test"),
        )
        .unwrap(),
        resolver: Resolver::asking(move |name| {
            assert_eq!(name, "gw.dc2.test");
            let addresses: Vec<IpAddr> = looked_up.lock().clone();
            if addresses.is_empty() {
                return Err(io::Error::other("unknown"));
            }
            Ok(addresses)
        }),
    };
    let endpoint = Endpoint {
        host: "gw.dc2.test".to_owned(),
        port: receiver.address().port(),
    };
    let dial = async || {
        dialler
            .dial(&host("dc2.test"), &endpoint, 1)
            .await
            .map(drop)
    };
    let error = dial().await.unwrap_err().to_string();
    assert!(error.contains("name look-up: unknown"), "{error}");
    // No listener is at the first of the two addresses.
    *addresses.lock() = vec![[127, 0, 0, 7].into(), [127, 0, 0, 1].into()];
    dial().await.unwrap();
    *addresses.lock() = vec![[127, 0, 0, 7].into()];
    let error = dial().await.unwrap_err().to_string();
    assert!(error.contains("127.0.0.7"), "{error}");
}
