//! Table links: which gateways are replicated, and the ways that a link ends.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::{BufMut, Bytes, BytesMut};
use parking_lot::Mutex;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::super::connect_error::{ConnectError, RefusalKind};
use super::super::dial::Dialler;
use super::super::hello::{self, Hello, HelloReply, Purpose, Welcome};
use super::super::reader::FrameReader;
use super::super::resolver::Resolver;
use super::super::tls::{Credentials, Security};
use super::super::{Identity, IncomingSlots, Listener, ReplicationDialer, wire};
use super::LONG;
use super::gateways::{Ca, STANZA_SIZE_LIMIT, connections, endpoint, host, identity, until};
use super::hostile::RawPeer;
use crate::config::{AllowedPeers, Endpoint, Tls};
use crate::envelope::{Envelope, Intake};
use crate::host::Host;
use crate::metrics::Metrics;
use crate::replication::{InvalidMessage, Node, NotReplicated, Replication, ReplicationSession};

/// Sends one greeting message, and records the messages that it receives.
#[derive(Default)]
struct Talker {
    heard: Mutex<Vec<(Node, Bytes)>>,
    ended: Mutex<Vec<Node>>,
}

struct Session {
    talker: Arc<Talker>,
    peer: Node,
    said: AtomicBool,
}

impl Talker {
    fn session(self: Arc<Self>, peer: &Node) -> Arc<dyn ReplicationSession> {
        Arc::new(Session {
            talker: self,
            peer: peer.clone(),
            said: AtomicBool::new(false),
        })
    }

    fn heard(&self) -> Vec<(String, Bytes)> {
        let heard = self.heard.lock();
        let heard = heard.iter();
        heard
            .map(|(node, bytes)| (node.to_string(), bytes.clone()))
            .collect()
    }
}

#[async_trait]
impl Replication for Talker {
    fn send_to(self: Arc<Self>, peer: &Node, _: u64) -> Arc<dyn ReplicationSession> {
        self.session(peer)
    }

    fn receive_from(
        self: Arc<Self>,
        peer: &Node,
    ) -> Result<Arc<dyn ReplicationSession>, NotReplicated> {
        Ok(self.session(peer))
    }

    async fn until_not_replicated(&self, _: &Node) {}
}

#[async_trait]
impl ReplicationSession for Session {
    async fn next_message(&self) -> Option<Bytes> {
        if self.said.swap(true, Ordering::SeqCst) {
            std::future::pending().await
        }
        Some(Bytes::from_static(b"hello"))
    }

    fn accept(&self, message: Bytes) -> Result<(), InvalidMessage> {
        if &message[..] == b"nonsense" {
            return Err(InvalidMessage("is nonsense".to_owned()));
        }
        let mut heard = self.talker.heard.lock();
        heard.push((self.peer.clone(), message));
        Ok(())
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.talker.ended.lock().push(self.peer.clone());
    }
}

struct NoStanzas;

#[async_trait]
impl Intake for NoStanzas {
    async fn take(&self, envelope: Envelope) {
        panic!("a stanza came: {envelope:?}");
    }
}

/// A gateway that replicates its table to peers, and replicates the peers that the test names.
struct Gateway {
    talker: Arc<Talker>,
    metrics: Arc<Metrics>,
    address: SocketAddr,
    contacts: watch::Sender<Arc<BTreeMap<Endpoint, BTreeSet<Host>>>>,
    stop: CancellationToken,
    following: JoinHandle<()>,
}

impl Gateway {
    async fn start(tls: Tls, name: &str, backend_is_mesh: bool) -> Self {
        let talker = Arc::new(Talker::default());
        let metrics = Arc::new(Metrics::new());
        let identity = identity(name);
        let credentials = Credentials::load(&tls, AllowedPeers::default(), &identity.host).unwrap();
        let config = connections(tls, LONG, 1 << 20);
        let replication = Arc::clone(&talker) as Arc<dyn Replication>;
        let any = endpoint(([127, 0, 0, 1], 0).into());
        let listener = Listener::bind(
            &any,
            identity.clone(),
            Arc::clone(&credentials),
            STANZA_SIZE_LIMIT,
            Arc::clone(&metrics),
            Arc::new(IncomingSlots::default()),
            backend_is_mesh.then(|| Arc::clone(&replication)),
        );
        let listener = listener.await.unwrap();
        let address = listener.local_addr();
        let stop = CancellationToken::new();
        tokio::spawn(listener.run(Arc::new(NoStanzas), CancellationToken::new()));
        let (contacts, follows) = watch::channel(Arc::default());
        let tables = ReplicationDialer::new(
            Dialler::new(identity, credentials),
            &config,
            replication,
            Arc::clone(&metrics),
        );
        let following = tokio::spawn(tables.run(follows, stop.clone()));
        Self {
            talker,
            metrics,
            address,
            contacts,
            stop,
            following,
        }
    }

    fn dials(&self, addresses: &[SocketAddr]) {
        self.expects(addresses, &[]);
    }

    /// Dials addresses that were named for `hosts`.
    fn expects(&self, addresses: &[SocketAddr], hosts: &[&str]) {
        let hosts: BTreeSet<Host> = hosts.iter().map(|it| host(it)).collect();
        let endpoints = addresses
            .iter()
            .map(|address| (endpoint(*address), hosts.clone()));
        self.contacts.send_replace(Arc::new(endpoints.collect()));
    }

    fn refused(&self, reason: &str) -> u64 {
        let refused = &self.metrics.links_refused;
        refused.with_label_values(&[reason]).get()
    }
}

#[tokio::test]
async fn whoever_is_at_an_endpoint_is_followed_by_its_certificates_name() {
    let ca = Ca::new();
    let followed = Gateway::start(ca.tls("dc2.test"), "dc2.test", true).await;
    let follower = Gateway::start(ca.tls("dc1.test"), "dc1.test", true).await;
    follower.dials(&[followed.address]);
    let hello = Bytes::from_static(b"hello");
    until("both hear each other", || {
        follower.talker.heard() == [("dc2.test/a".to_owned(), hello.clone())]
            && followed.talker.heard() == [("dc1.test/a".to_owned(), hello.clone())]
    })
    .await;
    // A follower that is stopped sends a goodbye.
    follower.stop.cancel();
    follower.following.await.unwrap();
    until("the followed knows", || {
        followed.talker.ended.lock().len() == 1
    })
    .await;
    let errored = &followed.metrics.incoming_errored;
    assert_eq!(errored.with_label_values(&["dc1.test"]).get(), 0);
}

#[tokio::test]
async fn an_endpoint_that_is_not_to_be_dialled_any_more_is_left() {
    let ca = Ca::new();
    let followed = Gateway::start(ca.tls("dc2.test"), "dc2.test", true).await;
    let follower = Gateway::start(ca.tls("dc1.test"), "dc1.test", true).await;
    follower.dials(&[followed.address]);
    until("it is followed", || !followed.talker.heard().is_empty()).await;
    follower.dials(&[]);
    until("it is left", || followed.talker.ended.lock().len() == 1).await;
}

#[tokio::test]
async fn who_dials_itself_is_told() {
    let ca = Ca::new();
    let alone = Gateway::start(ca.tls("dc1.test"), "dc1.test", true).await;
    alone.dials(&[alone.address]);
    until("it is refused", || alone.refused("ourselves") == 1).await;
    assert_eq!(alone.talker.heard(), []);
}

#[tokio::test]
async fn a_gateway_with_its_table_elsewhere_is_not_followed() {
    let ca = Ca::new();
    let followed = Gateway::start(ca.tls("dc2.test"), "dc2.test", false).await;
    let follower = Gateway::start(ca.tls("dc1.test"), "dc1.test", true).await;
    follower.dials(&[followed.address]);
    until("both count it", || {
        followed.refused("backend") >= 1 && follower.refused("backend") >= 1
    })
    .await;
    assert_eq!(follower.talker.heard(), []);
}

/// Opens a table link to a listener; the test writes its frames.
async fn raw(ca: &Ca, listener: &Gateway) -> RawPeer {
    let tls = ca.tls("dc1.test");
    let mut peer = RawPeer::connect(&tls, "dc1.test", "dc2.test", listener.address).await;
    let hello = Hello {
        versions: hello::VERSIONS,
        to: String::new(),
        from: "dc1.test".to_owned(),
        node: "a".to_owned(),
        epoch: 1,
        slot: 0,
        purpose: Purpose::Table,
    };
    let welcome = peer.greet(&hello).await.welcome().unwrap();
    assert_eq!((welcome.version, welcome.host.as_str()), (3, "dc2.test"));
    peer
}

#[tokio::test]
async fn what_does_not_belong_on_a_table_link_ends_it() {
    let ca = Ca::new();
    let listener = Gateway::start(ca.tls("dc2.test"), "dc2.test", true).await;
    let errors = || {
        let errored = &listener.metrics.incoming_errored;
        errored.with_label_values(&["dc1.test"]).get()
    };
    let mut peer = raw(&ca, &listener).await;
    peer.send_stanza(1, "dc1.test", b"<message/>").await;
    peer.until_closed().await;
    until("a stanza is an error", || errors() == 1).await;

    let mut peer = raw(&ca, &listener).await;
    let mut out = BytesMut::new();
    wire::put(&mut out, 32, |out| out.put_slice(b"nonsense"));
    peer.send(&out).await;
    peer.until_closed().await;
    until("what the store does not understand is", || errors() == 2).await;

    let mut peer = raw(&ca, &listener).await;
    peer.send(&[0x7f, 0xff, 0xff, 0xff, 32]).await;
    peer.until_closed().await;
    until("a frame that is too long is", || errors() == 3).await;
    assert_eq!(listener.talker.heard(), []);
}

/// Dials a listener that sends `answer`, as a gateway of dc1.test. Returns the error.
async fn dial(ca: &Ca, listener_is: &str, answer: HelloReply) -> ConnectError {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let security = Security::load(&ca.tls(listener_is), &host(listener_is)).unwrap();
    let answering = tokio::spawn(async move {
        let (tcp, _) = listener.accept().await.unwrap();
        let Ok(accepted) = security.accept(tcp).await else {
            panic!("no TLS");
        };
        let mut reader = FrameReader::new(accepted.socket, hello::LIMIT);
        reader.next().await.unwrap();
        let mut out = BytesMut::new();
        answer.put(&mut out);
        reader.socket().write_all(&out).await.unwrap();
        reader.socket().flush().await.unwrap();
        tokio::time::sleep(Duration::from_secs(60)).await;
    });
    let identity: Identity = identity("dc1.test");
    let credentials =
        Credentials::load(&ca.tls("dc1.test"), AllowedPeers::default(), &identity.host).unwrap();
    let dialler = Dialler {
        identity,
        credentials,
        resolver: Resolver::system(),
    };
    let dialled = dialler.dial_table(&endpoint(address)).await;
    answering.abort();
    match dialled {
        Ok(link) => panic!("{} is followed", link.node),
        Err(failure) => failure,
    }
}

#[tokio::test]
async fn a_listener_may_not_call_itself_what_its_certificate_does_not_carry() {
    let welcome = Welcome {
        version: 3,
        host: "dc2.test".to_owned(),
        node: "a".to_owned(),
        frame_limit: 1000,
        resume_after: 0,
    };
    let failure = dial(&Ca::new(), "dc3.test", HelloReply::Welcome(welcome)).await;
    let ConnectError::Refused { kind, text } = failure else {
        panic!("{failure}");
    };
    assert_eq!(kind, RefusalKind::WrongHost);
    assert!(
        text.contains("calls itself dc2.test") && text.contains("carries dc3.test"),
        "{text}"
    );
}

#[tokio::test]
async fn an_older_listener_is_understood_and_both_versions_told() {
    let refused = HelloReply::Refused {
        versions: 1..=2,
        kind: RefusalKind::Version,
        text: "no common version".to_owned(),
    };
    let failure = dial(&Ca::new(), "dc2.test", refused).await;
    let ConnectError::Refused { kind, text } = failure else {
        panic!("{failure}");
    };
    assert_eq!(kind, RefusalKind::Version);
    assert!(
        text.contains("we speak version 3 ") && text.contains("it speaks versions 1 to 2;"),
        "{text}"
    );
}

#[tokio::test]
async fn a_listener_of_another_ca_is_not_followed() {
    let ca = Ca::new();
    let followed = Gateway::start(Ca::new().tls("dc2.test"), "dc2.test", true).await;
    let follower = Gateway::start(ca.tls("dc1.test"), "dc1.test", true).await;
    follower.dials(&[followed.address]);
    until("it is refused", || follower.refused("untrusted") >= 1).await;
    assert_eq!(followed.talker.heard(), []);
    assert_eq!(follower.talker.heard(), []);
}

#[tokio::test]
async fn an_endpoint_is_used_only_for_the_host_that_it_was_named_for() {
    let ca = Ca::new();
    let listener = Gateway::start(ca.tls("dc2.test"), "dc2.test", true).await;
    let dialler = Gateway::start(ca.tls("dc1.test"), "dc1.test", true).await;
    dialler.expects(&[listener.address], &["dc3.test"]);
    until("it is refused", || dialler.refused("wrong_host") >= 1).await;
    assert_eq!(dialler.talker.heard(), []);
    dialler.dials(&[]);
    dialler.expects(&[listener.address], &["dc2.test", "dc3.test"]);
    until("it is replicated", || !dialler.talker.heard().is_empty()).await;
}
