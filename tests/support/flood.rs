//! Two datacenters whose servers are in the test's hands: many messages, fast,
//! and exactly what arrived.

use std::collections::BTreeMap;

use minidom::Element;

use super::backend::Backend;
use super::cluster::{Cluster, SECRET};
use super::fake_server::{Connection, FakeServer};
use super::gateway::Gateway;
use super::xml::body;

/// One datacenter behind a fake server.
pub struct Side {
    pub gateway: Gateway,
    pub stream: Connection,
    pub server: FakeServer,
}

/// `dc1.test`, from where messages are sent, and `dc2.test`, where they arrive.
pub struct Flood {
    pub near: Side,
    pub far: Side,
    pub cluster: Cluster,
}

impl Side {
    /// A datacenter of `cluster`, attached.
    pub async fn start(cluster: &Cluster, host: &str, config: &str) -> Self {
        let (server, gateway) = cluster.join_with_fake_server(host, config).await;
        let stream = server.attach(SECRET).await;
        Self {
            gateway,
            stream,
            server,
        }
    }

    /// A user is online here.
    pub async fn online(&self, cluster: &Cluster, user: &str) {
        let host = self.gateway.host();
        self.stream.send(&format!(
            "<presence from='{user}@{host}/r' to='example.test'/>"
        ));
        let bare = format!("{user}@example.test");
        cluster.until_claimed(&bare, Some(host)).await;
    }

    /// A user here says `text` to a user of the shared domain.
    pub fn say(&self, from: &str, to: &str, text: &str) {
        let host = self.gateway.host();
        let id = text.split(' ').next().unwrap_or_default();
        self.stream.send(&format!(
            "<message type='chat' from='{from}@{host}/r' to='{to}@example.test' id='{from}-{id}'>\
             <body>{text}</body></message>"
        ));
    }

    /// The next message that the server is handed.
    pub async fn hear(&self) -> Element {
        self.stream
            .until("a message", |stanza| stanza.name() == "message")
            .await
    }

    /// The texts of the next `count` messages, in order, by sender.
    pub async fn hear_all(&self, count: usize) -> BTreeMap<String, Vec<String>> {
        let mut heard: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for _ in 0..count {
            let message = self.hear().await;
            let from = message.attr("from").unwrap_or_default();
            let user = from.split('@').next().unwrap_or_default().to_owned();
            let text = body(&message).unwrap_or_else(|| panic!("no body: {message:?}"));
            heard.entry(user).or_default().push(text);
        }
        heard
    }
}

impl Flood {
    /// Both run and are linked both ways, and bob is online at the far side.
    pub async fn start(config: &str) -> Self {
        Self::start_on(Backend::Redis, config).await
    }

    /// The same, with the session table kept there.
    pub async fn start_on(backend: Backend, config: &str) -> Self {
        let cluster = Cluster::on(backend).prepare().await;
        let (near, far) = tokio::join!(
            Side::start(&cluster, "dc1.test", config),
            Side::start(&cluster, "dc2.test", config)
        );
        near.gateway.until_linked("dc2.test").await;
        far.gateway.until_linked("dc1.test").await;
        far.online(&cluster, "bob").await;
        Self { near, far, cluster }
    }

    /// Nothing comes any more, and both gateways account for all.
    pub async fn assert_over(&self) {
        for side in [&self.near, &self.far] {
            side.gateway.until_settled().await;
            side.gateway.assert_balanced().await;
        }
        let more = self.far.stream.inbox().pending();
        let more: Vec<_> = more.iter().filter(|s| s.name() == "message").collect();
        assert!(more.is_empty(), "came too often: {more:?}");
    }
}

/// The texts `0`, `1`, … of `count` messages.
pub fn numbers(count: usize) -> Vec<String> {
    (0..count).map(|n| n.to_string()).collect()
}
