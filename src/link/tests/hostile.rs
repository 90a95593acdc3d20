//! Peers that break the protocol or the trust, on either side.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::super::connect_error::RefusalKind;
use super::super::frame::{Frame, Header};
use super::super::hello::{self, Hello, HelloReply, Purpose};
use super::super::reader::FrameReader;
use super::super::tls::{Security, Socket};
use super::LONG;
use super::gateways::{Ca, Receiver, STANZA_SIZE_LIMIT, Sender, host, until};
use crate::config::Tls;
use crate::envelope::{FormerPlace, Obstacle};

/// A peer whose frames the test writes itself.
pub(super) struct RawPeer {
    socket: FrameReader<Socket>,
}

impl RawPeer {
    pub(super) async fn connect(tls: &Tls, own: &str, to: &str, address: SocketAddr) -> Self {
        let tcp = TcpStream::connect(address).await.unwrap();
        let security = Security::load(tls, &host(own)).unwrap();
        let socket = security.connect(tcp, &host(to)).await.unwrap().socket;
        Self {
            socket: FrameReader::new(socket, 1 << 20),
        }
    }

    pub(super) async fn send(&mut self, bytes: &[u8]) {
        let socket = self.socket.socket();
        socket.write_all(bytes).await.unwrap();
        socket.flush().await.unwrap();
    }

    pub(super) async fn greet(&mut self, hello: &Hello) -> HelloReply {
        let mut out = BytesMut::new();
        hello.put(&mut out);
        self.send(&out).await;
        HelloReply::read(self.socket.next().await.unwrap()).unwrap()
    }

    pub(super) async fn send_stanza(&mut self, number: u64, origin: &str, stanza: &'static [u8]) {
        self.send_moved(number, origin, stanza, Vec::new()).await;
    }

    /// Sends a stanza that claims to come from other places.
    async fn send_moved(
        &mut self,
        number: u64,
        origin: &str,
        stanza: &'static [u8],
        former: Vec<FormerPlace>,
    ) {
        let header = Header {
            number,
            id: number,
            ttl: 4,
            sent_at: 0,
            origin: origin.to_owned(),
            retries: Vec::new(),
            is_copy: false,
            former,
        };
        let mut out = BytesMut::new();
        Frame::Stanza(header, Bytes::from_static(stanza)).put(&mut out);
        self.send(&out).await;
    }

    pub(super) async fn until_acknowledged(&mut self, number: u64) {
        loop {
            let frame = Frame::read(self.socket.next().await.unwrap()).unwrap();
            if frame == (Frame::Ack { through: number }) {
                return;
            }
        }
    }

    pub(super) async fn until_closed(&mut self) {
        while self.socket.next().await.is_ok() {}
    }
}

fn hello(from: &str, to: &str) -> Hello {
    Hello {
        versions: hello::VERSIONS,
        to: to.to_owned(),
        from: from.to_owned(),
        node: "a".to_owned(),
        epoch: 1,
        slot: 1,
        purpose: Purpose::Stanzas,
    }
}

/// Creates a raw peer `from` that `to` has welcomed.
pub(super) async fn greeted(ca: &Ca, from: &str, to: &str, address: SocketAddr) -> RawPeer {
    let mut peer = RawPeer::connect(&ca.tls(from), from, to, address).await;
    let answer = peer.greet(&hello(from, to)).await;
    assert!(matches!(answer, HelloReply::Welcome(_)), "{answer:?}");
    peer
}

fn refusal(answer: HelloReply) -> (RefusalKind, String) {
    match answer {
        HelloReply::Refused { kind, text, .. } => (kind, text),
        HelloReply::Welcome(welcome) => panic!("let in: {welcome:?}"),
    }
}

/// Dials with a sender that is refused, and checks the reason that both sides count.
async fn refused(sender: &Sender, to: &str, address: SocketAddr, reason: &str) {
    sender.follow(to, &[address]);
    until(&format!("the dialler has counted {reason}"), || {
        sender.refused(reason) > 0
    })
    .await;
    assert!(!sender.links.is_up(&host(to)));
    let errors = sender.metrics.outgoing_errored.with_label_values(&[to]);
    assert!(errors.get() > 0);
}

async fn counted(receiver: &Receiver, reason: &str) {
    until(&format!("the listener has counted {reason}"), || {
        receiver.refused(reason) > 0
    })
    .await;
    let errors = receiver
        .metrics
        .incoming_errored
        .with_label_values(&["unknown"]);
    assert!(errors.get() > 0);
    assert_eq!(receiver.inbox.len(), 0);
}

#[tokio::test]
async fn a_gateway_of_another_ca_is_refused_by_both_sides() {
    let (ca, other) = (Ca::new(), Ca::new());
    let receiver = Receiver::start(&ca, "dc2.test").await;
    // The dialler does not trust the listener.
    let sender = Sender::start(&other, "dc1.test", LONG, 1 << 20);
    refused(&sender, "dc2.test", receiver.address(), "untrusted").await;
    counted(&receiver, "untrusted").await;
    // The dialler trusts the listener, but the listener does not trust the dialler.
    let receiver = Receiver::start(&ca, "dc2.test").await;
    let mut tls = other.tls("dc1.test");
    if let Tls::Enabled { cacertfile, .. } = &mut tls {
        *cacertfile = ca.folder.path().join("ca.pem");
    }
    let sender = Sender::start_with(tls, "dc1.test", LONG, 1 << 20);
    refused(&sender, "dc2.test", receiver.address(), "untrusted").await;
    counted(&receiver, "untrusted").await;
}

#[tokio::test]
async fn a_listener_whose_certificate_names_another_host_gets_no_stanza() {
    let ca = Ca::new();
    let receiver = Receiver::start(&ca, "dc3.test").await;
    let sender = Sender::start(&ca, "dc1.test", LONG, 1 << 20);
    refused(&sender, "dc2.test", receiver.address(), "wrong_host").await;
}

#[tokio::test]
async fn a_host_can_only_speak_for_itself() {
    let ca = Ca::new();
    let receiver = Receiver::start(&ca, "dc2.test").await;
    let tls = ca.tls("dc1.test");
    let mut peer = RawPeer::connect(&tls, "dc1.test", "dc2.test", receiver.address()).await;
    let (kind, text) = refusal(peer.greet(&hello("dc3.test", "dc2.test")).await);
    assert_eq!(kind, RefusalKind::WrongHost);
    assert!(
        text.contains("dc3.test") && text.contains("carries dc1.test"),
        "{text}"
    );
    counted(&receiver, "wrong_host").await;
    peer.until_closed().await;
}

#[tokio::test]
async fn the_wrong_endpoint_is_told_so_without_tls_too() {
    let receiver = Receiver::start_plain("dc3.test").await;
    let sender = Sender::start_plain("dc1.test");
    refused(&sender, "dc2.test", receiver.address(), "wrong_host").await;
    counted(&receiver, "wrong_host").await;
}

#[tokio::test]
async fn an_old_gateway_is_told_both_versions() {
    let ca = Ca::new();
    let receiver = Receiver::start(&ca, "dc2.test").await;
    let tls = ca.tls("dc1.test");
    let mut peer = RawPeer::connect(&tls, "dc1.test", "dc2.test", receiver.address()).await;
    let old = Hello {
        versions: 1..=2,
        ..hello("dc1.test", "dc2.test")
    };
    let (kind, text) = refusal(peer.greet(&old).await);
    assert_eq!(kind, RefusalKind::Version);
    assert!(
        text.contains("versions 1 to 2") && text.contains("speaks version 3,"),
        "{text}"
    );
    counted(&receiver, "version").await;
}

#[tokio::test]
async fn plain_tcp_does_not_get_through_to_tls_nor_the_other_way() {
    let ca = Ca::new();
    let secure = Receiver::start(&ca, "dc2.test").await;
    let plain_sender = Sender::start_plain("dc1.test");
    refused(&plain_sender, "dc2.test", secure.address(), "protocol").await;
    counted(&secure, "plaintext").await;

    let plain = Receiver::start_plain("dc2.test").await;
    let secure_sender = Sender::start(&ca, "dc1.test", LONG, 1 << 20);
    refused(&secure_sender, "dc2.test", plain.address(), "plaintext").await;
    counted(&plain, "protocol").await;
}

#[tokio::test]
async fn garbage_is_refused_before_and_after_the_handshake() {
    let ca = Ca::new();
    let receiver = Receiver::start(&ca, "dc2.test").await;
    let mut tcp = TcpStream::connect(receiver.address()).await.unwrap();
    tcp.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
    counted(&receiver, "plaintext").await;

    let tls = ca.tls("dc1.test");
    let mut peer = RawPeer::connect(&tls, "dc1.test", "dc2.test", receiver.address()).await;
    peer.send(b"\x00\x00\x00\x05hello").await;
    counted(&receiver, "protocol").await;
    peer.until_closed().await;
}

#[tokio::test]
async fn a_refused_frame_claims_no_former_place() {
    let ca = Ca::new();
    let receiver = Receiver::start(&ca, "dc2.test").await;
    let tls = ca.tls("dc1.test");
    let mut one = greeted(&ca, "dc1.test", "dc2.test", receiver.address()).await;
    let mut two = RawPeer::connect(&tls, "dc1.test", "dc2.test", receiver.address()).await;
    let second_slot = Hello {
        slot: 2,
        ..hello("dc1.test", "dc2.test")
    };
    let answer = two.greet(&second_slot).await;
    assert!(matches!(answer, HelloReply::Welcome(_)), "{answer:?}");
    let place = FormerPlace { slot: 1, number: 1 };
    two.send_moved(1, "dc1.test", b"<message><body>", vec![place])
        .await;
    two.until_acknowledged(1).await;
    let message = b"<message from='alice@example.test/r' to='bob@example.test'>7</message>";
    one.send_stanza(1, "dc1.test", message).await;
    until("the stanza at that place is taken", || {
        receiver.inbox.numbers() == [7]
    })
    .await;
}

#[tokio::test]
async fn an_oversized_length_ends_the_link() {
    let ca = Ca::new();
    let receiver = Receiver::start(&ca, "dc2.test").await;
    let mut peer = greeted(&ca, "dc1.test", "dc2.test", receiver.address()).await;
    peer.send(&u32::MAX.to_be_bytes()).await;
    peer.until_closed().await;
    let errors = receiver
        .metrics
        .incoming_errored
        .with_label_values(&["dc1.test"]);
    until("it is counted", || errors.get() == 1).await;
}

#[tokio::test]
async fn a_stanza_that_the_peer_would_not_take_comes_back() {
    let ca = Ca::new();
    let receiver = Receiver::start(&ca, "dc2.test").await;
    receiver.inbox.settle_at_once();
    let mut sender = Sender::start(&ca, "dc1.test", LONG, 1 << 22);
    sender.follow("dc2.test", &[receiver.address()]);
    sender.until_up("dc2.test").await;
    let xml = format!(
        "<message from='alice@example.test' to='bob@example.test'><body>{}</body></message>",
        "x".repeat(3 * STANZA_SIZE_LIMIT)
    );
    let mut envelope = sender.envelope(0);
    envelope.stanza =
        crate::stanza::Stanza::parse(xml.into(), &crate::stanza::Limits::default()).unwrap();
    sender.forward("dc2.test", envelope).unwrap();
    sender.send("dc2.test", 1).unwrap();
    let back = sender.undelivered.recv().await.unwrap();
    assert_eq!(back.reason, Obstacle::TooLarge);
    until("the next one is settled", || sender.settled() == [1]).await;
}

/// The clock is paused and runs ahead when all tasks wait.
#[tokio::test(start_paused = true)]
async fn a_silent_connection_is_dropped() {
    let ca = Ca::new();
    let receiver = Receiver::start(&ca, "dc2.test").await;
    let mut silent = TcpStream::connect(receiver.address()).await.unwrap();
    counted(&receiver, "timeout").await;
    let mut nothing = [0];
    assert_eq!(silent.read(&mut nothing).await.unwrap_or(0), 0);
}

#[tokio::test]
async fn silent_connections_do_not_keep_a_peer_from_linking() {
    let ca = Ca::new();
    let receiver = Receiver::start(&ca, "dc2.test").await;
    let mut silent = Vec::new();
    for _ in 0..700 {
        silent.push(TcpStream::connect(receiver.address()).await.unwrap());
    }
    let sender = Sender::start(&ca, "dc1.test", LONG, 1 << 20);
    sender.follow("dc2.test", &[receiver.address()]);
    let linked = tokio::time::timeout(Duration::from_secs(2), sender.until_up("dc2.test"));
    linked.await.expect("linked while the others are silent");
    assert!(receiver.refused("timeout") > 600, "they made room");
    drop(silent);
}

#[tokio::test(start_paused = true)]
async fn a_listener_that_does_not_answer_is_given_up() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let silent = tokio::spawn(async move {
        let mut kept = Vec::new();
        while let Ok(accepted) = listener.accept().await {
            kept.push(accepted);
        }
    });
    let sender = Sender::start_plain("dc1.test");
    refused(&sender, "dc2.test", address, "timeout").await;
    silent.abort();
}

#[tokio::test]
async fn a_link_that_falls_silent_is_taken_for_dead() {
    let ca = Ca::new();
    let receiver = Receiver::start(&ca, "dc2.test").await;
    let mut peer = greeted(&ca, "dc1.test", "dc2.test", receiver.address()).await;
    tokio::time::pause();
    // Sends nothing at all; receives pings, and then the end.
    tokio::time::timeout(Duration::from_secs(120), peer.until_closed())
        .await
        .unwrap();
}
