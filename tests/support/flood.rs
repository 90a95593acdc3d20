//! Two datacenters with fake servers: many messages at a high rate, and the exact list of
//! messages that arrived.

use std::collections::BTreeMap;

use minidom::Element;
use tokio::process::Command;

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

/// Messages are sent from `dc1.test` and arrive at `dc2.test`.
pub struct Flood {
    pub near: Side,
    pub far: Side,
    pub cluster: Cluster,
}

impl Side {
    /// Starts a datacenter of `cluster`, attached.
    pub async fn start(cluster: &Cluster, host: &str, config: &str) -> Self {
        let (server, gateway) = cluster.join_with_fake_server(host, config).await;
        let stream = server.attach(SECRET).await;
        Self {
            gateway,
            stream,
            server,
        }
    }

    /// Starts one more node of a host of `cluster`, with its own server.
    pub async fn start_node(cluster: &Cluster, host: &str, node: &str, config: &str) -> Self {
        let server = FakeServer::start().await;
        let mut settings = cluster.settings(host);
        settings.node = node.to_owned();
        settings.server = server.address();
        settings.overrides = vec![config.to_owned()];
        let mut gateway = Gateway::prepare(cluster.workdir(), &settings);
        gateway.process.launch();
        let stream = server.attach(SECRET).await;
        Self {
            gateway,
            stream,
            server,
        }
    }

    /// Announces the presence of a user of this side.
    pub async fn online(&self, cluster: &Cluster, user: &str) {
        let host = self.gateway.host();
        self.stream.send(&format!(
            "<presence from='{user}@{host}/r' to='example.test'/>"
        ));
        let bare = format!("{user}@example.test");
        cluster.until_claimed(&bare, Some(host)).await;
    }

    /// Sends a message with `text` from a user of this side to a user of the shared domain.
    pub fn say(&self, from: &str, to: &str, text: &str) {
        let host = self.gateway.host();
        let id = text.split(' ').next().unwrap_or_default();
        self.stream.send(&format!(
            "<message type='chat' from='{from}@{host}/r' to='{to}@example.test' id='{from}-{id}'>\
             <body>{text}</body></message>"
        ));
    }

    /// Returns the next message that the server receives.
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
    /// Starts both sides, with links in both directions and bob online at the far side; `backend`
    /// keeps the session table.
    pub async fn start_on(backend: Backend, config: &str) -> Self {
        Self::start_with(backend, config, config).await
    }

    /// Like `start_on`, with a configuration for each side.
    pub async fn start_with(backend: Backend, near: &str, far: &str) -> Self {
        let cluster = Cluster::on(backend).prepare().await;
        let (near, far) = tokio::join!(
            Side::start(&cluster, "dc1.test", near),
            Side::start(&cluster, "dc2.test", far)
        );
        near.gateway.until_linked("dc2.test").await;
        far.gateway.until_linked("dc1.test").await;
        far.online(&cluster, "bob").await;
        Self { near, far, cluster }
    }

    /// Checks that no further message arrives, and that both gateways account for all messages.
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

/// Resets every link to `port`: both ends get a RST. Returns the number of links.
pub async fn cut(port: u16) -> usize {
    ss("-K", &format!("( dport = :{port} )")).await.len()
}

/// Resets every fifth link to `port`, starting with the one at `first`.
pub async fn cut_some(port: u16, first: usize) {
    let links = ss("-n", &format!("( dport = :{port} )")).await;
    // The columns: receive queue, send queue, local address, peer's address.
    let own_port = |line: &String| {
        let own = line.split_whitespace().nth(2)?;
        own.rsplit(':')
            .next()
            .map(|port| format!("sport = :{port}"))
    };
    let some = links.iter().skip(first % 5).step_by(5);
    let some: Vec<_> = some.filter_map(own_port).collect();
    if !some.is_empty() {
        ss(
            "-K",
            &format!("( dport = :{port} ) and ( {} )", some.join(" or ")),
        )
        .await;
    }
}

/// The established connections that match `filter`, one per line.
async fn ss(option: &str, filter: &str) -> Vec<String> {
    let done = Command::new("ss")
        .args(["-H", "-t", option, "state", "established", filter])
        .output()
        .await
        .expect("ss of iproute2");
    assert!(
        done.status.success(),
        "sockets can't be looked at or killed here: {}",
        String::from_utf8_lossy(&done.stderr)
    );
    let text = String::from_utf8_lossy(&done.stdout);
    text.lines().map(str::to_owned).collect()
}
