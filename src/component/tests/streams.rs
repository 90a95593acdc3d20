//! The streams of the service domains beside that of the shared domain.

use std::collections::BTreeSet;

use tokio::sync::watch;

use super::server::{Connection, Server};
use super::*;
use crate::component::Components;
use crate::envelope::Obstacle;

const MUC: &str = "muc.example.test";

/// All streams of a gateway, the counterpart of [`Gateway`].
struct Streams {
    components: Components,
    metrics: Arc<Metrics>,
    wanted: watch::Sender<BTreeSet<Host>>,
    undelivered: mpsc::UnboundedReceiver<Undelivered>,
    shutdown: CancellationToken,
    task: JoinHandle<()>,
}

impl Streams {
    fn to(server: &Server, wanted: &[&str]) -> Self {
        let metrics = Arc::new(Metrics::new());
        let (give_back, undelivered) = mpsc::unbounded_channel();
        let settings = settings("127.0.0.1", server.port());
        let (components, task) = Components::new(settings, metrics.clone(), give_back);
        let (wanted, follow) = watch::channel(domains(wanted));
        let (take, _) = mpsc::unbounded_channel();
        let shutdown = CancellationToken::new();
        let task = tokio::spawn(task.run(follow, Arc::new(Taken(take)), shutdown.clone()));
        Self {
            components,
            metrics,
            wanted,
            undelivered,
            shutdown,
            task,
        }
    }

    fn reinject(&self, from: &str, id: &str) -> Result<(), Box<Undelivered>> {
        let stanza = stanza(&format!(
            "<message from='{from}' to='alice@dc1.test' id='{id}'><body>1</body></message>"
        ));
        let peer = Host::new("dc2.test").unwrap();
        let envelope = Envelope::new(peer.clone(), Arrival::Link(peer), 4, stanza.clone());
        self.components.try_reinject(envelope, stanza)
    }
}

fn domains(names: &[&str]) -> BTreeSet<Host> {
    names.iter().map(|name| Host::new(name).unwrap()).collect()
}

/// The connections of the shared domain and of [`MUC`], accepted in either order.
async fn both(server: &Server) -> (Connection, Connection) {
    let (one, other) = (server.attach().await, server.attach().await);
    let (shared, muc) = if one.domain == DOMAIN {
        (one, other)
    } else {
        (other, one)
    };
    assert_eq!((&*shared.domain, &*muc.domain), (DOMAIN, MUC));
    (shared, muc)
}

#[tokio::test]
async fn each_sender_goes_on_the_stream_of_its_domain() {
    let server = Server::start().await;
    let streams = Streams::to(&server, &[MUC]);
    let (mut shared, mut muc) = both(&server).await;
    streams
        .reinject("room@muc.example.test/nick", "by-room")
        .unwrap();
    streams.reinject("bob@example.test/x", "by-bob").unwrap();
    let (text, _) = muc.until_barrier().await;
    assert!(
        text.contains("by-room") && !text.contains("by-bob"),
        "{text}"
    );
    let (text, _) = shared.until_barrier().await;
    assert!(
        text.contains("by-bob") && !text.contains("by-room"),
        "{text}"
    );
    for domain in [DOMAIN, MUC] {
        let attached = streams
            .metrics
            .component_attached
            .with_label_values(&[domain]);
        assert_eq!(attached.get(), 1, "{domain}");
    }
}

#[tokio::test]
async fn a_sender_without_a_stream_has_to_wait() {
    let server = Server::start().await;
    let streams = Streams::to(&server, &[]);
    let _shared = server.attach().await;
    let back = streams
        .reinject("room@muc.example.test/nick", "early")
        .unwrap_err();
    assert_eq!(back.reason, Obstacle::Absent);
    streams.wanted.send_replace(domains(&[MUC]));
    let mut muc = server.attach().await;
    assert_eq!(muc.domain, MUC);
    streams
        .reinject("room@muc.example.test/nick", "late")
        .unwrap();
    let (text, _) = muc.until_barrier().await;
    assert!(text.contains("late"), "{text}");
}

#[tokio::test]
async fn what_is_left_in_a_stream_that_is_not_wanted_any_more_comes_back() {
    let server = Server::start().await;
    let mut streams = Streams::to(&server, &[MUC]);
    let (_shared, mut muc) = both(&server).await;
    streams
        .reinject("room@muc.example.test/nick", "settled")
        .unwrap();
    let (_, id) = muc.until_barrier().await;
    muc.answer(&id).await;
    streams
        .reinject("room@muc.example.test/nick", "left")
        .unwrap();
    muc.until_barrier().await;
    streams.wanted.send_replace(domains(&[]));
    let back = streams.undelivered.recv().await.unwrap();
    assert_eq!(back.reason, Obstacle::Absent);
    assert_eq!(back.envelope.stanza.id().unwrap(), "left");
    assert!(muc.until_closed().await.contains("</stream:stream>"));
    assert!(streams.components.service_attachments().is_empty());
    assert!(
        !streams
            .metrics
            .render()
            .contains("strait_component_attached{domain=\"muc")
    );
}

#[tokio::test]
async fn all_streams_end_with_the_gateway() {
    let server = Server::start().await;
    let streams = Streams::to(&server, &[MUC]);
    let (shared, muc) = both(&server).await;
    let attached = |domain| {
        streams
            .metrics
            .component_attached
            .with_label_values(&[domain])
    };
    while attached(DOMAIN).get() + attached(MUC).get() < 2 {
        tokio::task::yield_now().await;
    }
    let services = streams.components.service_attachments();
    let up = Attachment::Attached { times: 1 };
    assert_eq!(services, [(Host::new(MUC).unwrap(), up)]);
    streams.shutdown.cancel();
    for connection in [shared, muc] {
        connection.until_closed().await;
    }
    streams.task.await.unwrap();
}
