//! Two datacenters whose servers are in the test's hands: many messages, fast,
//! and exactly what arrived.

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

    /// One more node of a host of `cluster`, behind a server of its own.
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
    /// Both run and are linked both ways, and bob is online at the far side; the
    /// session table is kept there.
    pub async fn start_on(backend: Backend, config: &str) -> Self {
        Self::start_with(backend, config, config).await
    }

    /// The same, with a configuration for each side.
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

/// Cuts every link to `port`: both ends get a RST. Returns how many there were.
pub async fn cut(port: u16) -> usize {
    ss("-K", &format!("( dport = :{port} )")).await.len()
}

/// Cuts every fifth link to `port`, from the one at `first` on.
pub async fn cut_some(port: u16, first: usize) {
    let links = ss("-n", &format!("( dport = :{port} )")).await;
    // Receive queue, send queue, local address, peer's address.
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

/// The established connections that pass `filter`, one a line.
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
