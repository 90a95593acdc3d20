//! A host can only act for itself: a wrong certificate or plain TCP delivers nothing, and is
//! logged and counted.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::backend::Backend;
use crate::support::certs::Authority;
use crate::support::cluster::{Cluster, SECRET};
use crate::support::fake_server::{Connection, FakeServer};
use crate::support::gateway::{Gateway, Settings};

crate::on_mesh!(
    a_certificate_of_another_authority_is_refused,
    plain_tcp_is_refused,
    garbage_on_the_link_port_is_refused,
);

/// A gateway of `dc2.test` from which nothing may reach `dc1.test`.
struct Impostor {
    gateway: Gateway,
    stream: Connection,
    _server: FakeServer,
}

impl Impostor {
    async fn start(cluster: &Cluster, change: impl FnOnce(&mut Settings)) -> Self {
        let server = FakeServer::start().await;
        let mut settings = cluster.settings("dc2.test");
        settings.server = server.address();
        change(&mut settings);
        let mut gateway = Gateway::prepare(cluster.workdir(), &settings);
        gateway.process.launch();
        let stream = server.attach(SECRET).await;
        Self {
            gateway,
            stream,
            _server: server,
        }
    }

    async fn gets_nothing_through(
        self,
        cluster: &Cluster,
        backend: Backend,
        reason: &str,
        logged: &str,
    ) {
        let bob = cluster.login("bob", "dc1.test", "b1").await;
        cluster
            .until_claimed("bob@example.test", Some("dc1.test"))
            .await;
        self.stream.send(
            "<message from='mallory@dc2.test/m' to='bob@example.test' id='m'><body>psst</body></message>",
        );
        let back = self
            .stream
            .until("an answer", |s| s.attr("id") == Some("m"))
            .await;
        match backend {
            // The table has bob's host, and there is no link to it.
            Backend::Redis => assert_eq!(back.attr("type"), Some("error"), "{back:?}"),
            // An impostor receives no session table, so it treats bob as its own.
            Backend::Mesh => assert_eq!(back.attr("to"), Some("bob@dc2.test"), "{back:?}"),
        }
        let dc1 = &cluster.dc("dc1.test").gateway;
        dc1.until_metric("strait_links_refused_total", &[("reason", reason)], |n| {
            n >= 1.0
        })
        .await;
        dc1.until_logged(logged).await;
        bob.sync().await;
        assert!(!bob.inbox().raw().iter().any(|raw| raw.contains("psst")));
        assert_eq!(
            dc1.metrics()
                .await
                .expect("metrics")
                .sum("mod_global_distrib_incoming_messages_count"),
            0.0
        );
        self.gateway.assert_balanced().await;
    }
}

const IMPATIENT: &str = "[connections]\nmax_wait = 2\n";

async fn a_certificate_of_another_authority_is_refused(backend: Backend) {
    let cluster = Cluster::on(backend).datacenter("dc1.test").start().await;
    let other = Authority::new(&cluster.workdir().file("others"), "other");
    let impostor = Impostor::start(&cluster, |settings| {
        settings.identity = other.issue("dc2.test").trusting(&cluster.authority);
        settings.overrides.push(IMPATIENT.to_owned());
    })
    .await;
    impostor
        .gets_nothing_through(&cluster, backend, "untrusted", "certificate")
        .await;
}

async fn plain_tcp_is_refused(backend: Backend) {
    let cluster = Cluster::on(backend).datacenter("dc1.test").start().await;
    let impostor = Impostor::start(&cluster, |settings| {
        settings
            .overrides
            .push("[connections.tls]\nenabled = false\n".to_owned());
        settings.overrides.push(IMPATIENT.to_owned());
    })
    .await;
    impostor
        .gets_nothing_through(&cluster, backend, "plaintext", "TLS")
        .await;
}

async fn garbage_on_the_link_port_is_refused(backend: Backend) {
    let cluster = Cluster::on(backend).datacenter("dc1.test").start().await;
    let dc1 = &cluster.dc("dc1.test").gateway;
    let mut stream = TcpStream::connect(dc1.link()).await.expect("a listener");
    stream
        .write_all(b"GET / HTTP/1.1\r\n\r\n")
        .await
        .expect("connected");
    let mut answer = Vec::new();
    // The connection is closed, cleanly or not.
    let _ = stream.read_to_end(&mut answer).await;
    dc1.until_metric(
        "strait_links_refused_total",
        &[("reason", "plaintext")],
        |n| n >= 1.0,
    )
    .await;
}
