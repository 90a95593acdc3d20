//! A datacenter is cut off from Redis and from the other datacenter, and reconnected. Without a
//! database: `partitions`.

use std::time::{Duration, Instant};

use crate::support::cable::Cable;
use crate::support::cluster::Cluster;

const REFRESH_AFTER: Duration = Duration::from_secs(3);

/// All connections between one datacenter and the rest.
struct Cables(Vec<Cable>);

impl Cables {
    /// Lays the cables of `dc2.test`, before its gateway starts: to Redis, to the other gateway,
    /// and from there.
    async fn lay(cluster: &Cluster) -> Self {
        let (one, two) = (
            &cluster.dc("dc1.test").gateway,
            &cluster.dc("dc2.test").gateway,
        );
        let redis = Cable::to(cluster.redis.address()).await;
        two.reconfigure(&format!("redis.url = 'redis://{}/'", redis.address()));
        let mut cables = vec![redis];
        for gateway in [one, two] {
            let link = Cable::to(gateway.link()).await;
            let port = link.address().port();
            gateway.reconfigure(&format!(
                "connections.advertised_endpoints = [{{ host = '127.0.0.1', port = {port} }}]"
            ));
            cables.push(link);
        }
        Self(cables)
    }

    fn cut(&self) {
        self.0.iter().for_each(Cable::cut);
    }

    fn mend(&self) {
        self.0.iter().for_each(Cable::mend);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_is_back_within_one_refresh_after_a_split() {
    let mut cluster = Cluster::builder()
        .datacenter("dc1.test")
        .datacenter("dc2.test")
        .config("[redis]\nexpire_after = 6\nrefresh_after = 3\n")
        .prepare()
        .await;
    let cables = Cables::lay(&cluster).await;
    cluster.launch_gateways();
    cluster.until_ready().await;
    let alice = cluster.login("alice", "dc1.test", "r1").await;
    let bob = cluster.login("bob", "dc2.test", "b1").await;
    alice.chat("bob@example.test", "before").await;
    bob.expect_chat("alice@example.test", "before").await;

    cables.cut();
    // Each side continues with its own claims; the other side's claims expire.
    let dave = cluster.login("dave", "dc2.test", "d1").await;
    dave.chat("bob@example.test", "on this side").await;
    bob.expect_chat("dave@example.test", "on this side").await;
    let redis = &cluster.redis;
    redis.until_value("bob@example.test", None).await;
    redis.until_value("bob@example.test/b1", None).await;
    let carol = cluster.login("carol", "dc1.test", "c1").await;

    cables.mend();
    let mended = Instant::now();
    for (jid, host) in [
        ("bob@example.test", "dc2.test"),
        ("bob@example.test/b1", "dc2.test"),
        ("dave@example.test/d1", "dc2.test"),
        ("alice@example.test/r1", "dc1.test"),
        ("carol@example.test/c1", "dc1.test"),
    ] {
        redis.until_value(jid, Some(host)).await;
    }
    let endpoints = "dc2.test#n1#{endpoints}";
    while redis.members(endpoints).await.is_empty() {
        assert!(mended.elapsed() < 2 * REFRESH_AFTER, "no endpoints");
        tokio::task::yield_now().await;
    }
    // A busy machine may need longer.
    let took = mended.elapsed();
    assert!(took < REFRESH_AFTER + Duration::from_secs(1), "{took:?}");
    alice.chat("dave@example.test", "across again").await;
    dave.expect_chat("alice@example.test", "across again").await;
    bob.chat("carol@example.test", "both ways").await;
    carol.expect_chat("bob@example.test", "both ways").await;
    cluster.assert_no_leaks();
    cluster.assert_balanced().await;
}
