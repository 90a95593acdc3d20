//! The keys in Redis: the layout of mod_global_distrib, with its lifetimes. Specific to Redis.

use crate::support::cluster::Cluster;

#[tokio::test(flavor = "multi_thread")]
async fn redis_holds_exactly_the_documented_keys() {
    let cluster = Cluster::builder()
        .datacenter("dc1.test")
        .its_config(
            "services = [{ domain = 'muc.example.test', local = 'rooms.dc1.test' }, \
             { domain = 'bot.example.test', hidden = true }]",
        )
        .datacenter("dc2.test")
        .config("[redis]\nexpire_after = 30\nrefresh_after = 10\n")
        .start()
        .await;
    let redis = &cluster.redis;
    let _alice = cluster.login("alice", "dc1.test", "phone").await;
    let _bob = cluster.login("bob", "dc2.test", "b1").await;
    redis
        .until_value("alice@example.test/phone", Some("dc1.test"))
        .await;
    redis
        .until_value("alice@example.test", Some("dc1.test"))
        .await;
    redis
        .until_value("bob@example.test/b1", Some("dc2.test"))
        .await;
    redis
        .until_value("bob@example.test", Some("dc2.test"))
        .await;

    let mut keys = redis.keys().await;
    keys.sort();
    let mut expected = [
        "hosts",
        "muc.example.test",
        "bot.example.test",
        "dc1.test#n1#{domains}",
        "dc1.test#n1#{public_domains}",
    ]
    .map(str::to_owned)
    .to_vec();
    for (user, resource, host) in [("alice", "phone", "dc1.test"), ("bob", "b1", "dc2.test")] {
        let bare = format!("{user}@example.test");
        let full = format!("{bare}/{resource}");
        expected.extend([
            format!("{{{bare}}}#claims"),
            format!("{{{bare}}}#home"),
            format!("{{{full}}}#claims"),
            format!("{host}#n1#{{endpoints}}"),
            format!("{host}#{{nodes}}"),
            format!("{host}#{{gateways}}"),
            bare,
            full,
        ]);
    }
    expected.sort();
    assert_eq!(keys, expected);

    for key in keys {
        let (kind, lives) = match key.as_str() {
            "hosts" => ("set", false),
            key if key.ends_with("#{nodes}") => ("hash", false),
            key if key.ends_with("#{gateways}") => ("hash", true),
            key if key.ends_with("#{endpoints}") => ("set", true),
            key if key.ends_with("domains}") => ("set", true),
            key if key.ends_with("#claims") => ("hash", true),
            _ => ("string", true),
        };
        assert_eq!(redis.kind(&key).await, kind, "{key}");
        let ttl = redis.ttl(&key).await;
        let right = if key.ends_with("#home") {
            ttl > 29 * 24 * 3600
        } else if lives {
            (1..=30).contains(&ttl)
        } else {
            ttl == -1
        };
        assert!(right, "{key} lives {ttl} s");
    }

    let link = cluster.dc("dc1.test").gateway.link();
    let endpoints = redis.members("dc1.test#n1#{endpoints}").await;
    assert_eq!(endpoints, [format!("{}#{}", link.ip(), link.port())]);
    let mut domains = redis.members("dc1.test#n1#{domains}").await;
    domains.sort();
    assert_eq!(domains, ["bot.example.test", "muc.example.test"]);
    let public = redis.members("dc1.test#n1#{public_domains}").await;
    assert_eq!(public, ["muc.example.test"]);
    for domain in domains {
        assert_eq!(redis.get(&domain).await.as_deref(), Some("dc1.test"));
    }
    let mut hosts = redis.members("hosts").await;
    hosts.sort();
    assert_eq!(hosts, ["dc1.test", "dc2.test"]);
    let claims = redis.hash("{alice@example.test/phone}#claims").await;
    let [(host, since)] = claims.as_slice() else {
        panic!("{claims:?}")
    };
    assert_eq!(host, "dc1.test");
    assert!(
        since.parse::<u64>().is_ok_and(|ms| ms > 1_700_000_000_000),
        "{since}"
    );
    assert_eq!(
        redis.get("{alice@example.test}#home").await.as_deref(),
        Some("dc1.test")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_gateway_lets_its_entries_expire() {
    let mut cluster = Cluster::builder()
        .datacenter("dc1.test")
        .datacenter("dc2.test")
        .config("[redis]\nexpire_after = 4\nrefresh_after = 1\n")
        .start()
        .await;
    let _bob = cluster.login("bob", "dc2.test", "b1").await;
    cluster
        .redis
        .until_value("bob@example.test/b1", Some("dc2.test"))
        .await;

    cluster.dc_mut("dc2.test").gateway.process.kill9().await;
    cluster.redis.until_value("bob@example.test/b1", None).await;
    cluster.redis.until_value("bob@example.test", None).await;
    let left: Vec<_> = cluster.redis.keys().await;
    for gone in [
        "{bob@example.test/b1}#claims",
        "{bob@example.test}#claims",
        "dc2.test#n1#{endpoints}",
    ] {
        assert!(
            !left.iter().any(|key| key == gone),
            "{gone} is left in {left:?}"
        );
    }
    // Its entry among the peers is removed too.
    let dc1 = &cluster.dc("dc1.test").gateway;
    dc1.until_logged("peer is gone from the registry").await;
}
