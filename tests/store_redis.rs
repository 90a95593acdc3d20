//! The store contract, kept by a real Redis; and what exactly is in there.

mod store_contract;

use std::collections::HashMap;
use std::net::{Ipv4Addr, TcpListener};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use redis::FromRedisValue;
use redis::aio::MultiplexedConnection;
use store_contract::{Bench, EXPIRE_AFTER, NOBODY, announcement, began, host, refresh};
use strait::config::{self, Secret};
use strait::host::Host;
use strait::store::{RedisStore, Store};
use tempfile::TempDir;

const PASSWORD: &str = "correct-horse";

/// A `redis-server` of our own, ended when this is dropped.
struct Redis {
    server: Child,
    port: u16,
    directory: TempDir,
    expire_after: Duration,
}

impl Redis {
    async fn start(expire_after: Duration) -> Self {
        // Somebody may take the port between our test for it and its use.
        for _ in 0..10 {
            let (port, directory) = (free_port(), TempDir::new().unwrap());
            let mut redis = Self {
                server: spawn(port, &directory),
                port,
                directory,
                expire_after,
            };
            if redis.until_up().await {
                return redis;
            }
        }
        panic!("redis-server does not start; is it installed?");
    }

    /// Whether it came up; not, if it ended before.
    async fn until_up(&mut self) -> bool {
        while self.server.try_wait().unwrap().is_none() {
            if let Ok(mut connection) = self.connect().await
                && redis::cmd("PING")
                    .query_async::<()>(&mut connection)
                    .await
                    .is_ok()
            {
                return true;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        false
    }

    fn stop(&mut self) {
        self.server.kill().unwrap();
        self.server.wait().unwrap();
    }

    /// Makes it silent, or lets it go on.
    fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(i32::try_from(self.server.id()).unwrap());
        kill(pid, signal).unwrap();
    }

    fn url(&self) -> String {
        format!("redis://:{PASSWORD}@127.0.0.1:{}/0", self.port)
    }

    fn store(&self, host: &Host, node: &str) -> RedisStore {
        let config = config::Redis {
            url: Secret::new(self.url()),
            compat: config::Compat::Redis,
            tls: config::RedisTls::default(),
            expire_after: self.expire_after,
            refresh_after: self.expire_after / 2,
        };
        RedisStore::new(host.clone(), node.to_owned(), &config).unwrap()
    }

    async fn connect(&self) -> redis::RedisResult<MultiplexedConnection> {
        redis::Client::open(self.url())?
            .get_multiplexed_async_connection()
            .await
    }

    async fn ask<T: FromRedisValue>(&self, command: &[&str]) -> T {
        let mut connection = self.connect().await.unwrap();
        let mut asked = redis::cmd(command[0]);
        asked.arg(&command[1..]);
        asked.query_async(&mut connection).await.unwrap()
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

fn free_port() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    listener.local_addr().unwrap().port()
}

fn spawn(port: u16, directory: &TempDir) -> Child {
    Command::new("redis-server")
        .args(["--port", &port.to_string(), "--bind", "127.0.0.1"])
        .args(["--save", "", "--appendonly", "no"])
        .args(["--requirepass", PASSWORD])
        .arg("--dir")
        .arg(directory.path())
        .stdout(Stdio::null())
        .spawn()
        .expect("redis-server is installed")
}

impl Bench for Redis {
    fn store(&self, host: &Host, node: &str) -> Arc<dyn Store> {
        Arc::new(Redis::store(self, host, node))
    }

    async fn write_as_mongooseim(&self, jid: &str, host: &Host) {
        let lifetime = self.expire_after.as_secs().to_string();
        self.ask::<()>(&["SET", jid, host.as_str(), "EX", &lifetime])
            .await;
    }

    async fn read_as_mongooseim(&self, jid: &str) -> Option<String> {
        self.ask(&["GET", jid]).await
    }
}

contract_tests!(tokio::test, Redis::start(EXPIRE_AFTER).await);

const FULL: &str = "alice@example.test/phone";
const BARE: &str = "alice@example.test";

/// A table whose entries live for the default 120 s.
async fn long_lived() -> Redis {
    Redis::start(Duration::from_secs(120)).await
}

async fn assert_expires_in_120(redis: &Redis, key: &str) {
    let ttl: i64 = redis.ask(&["TTL", key]).await;
    assert!((110..=120).contains(&ttl), "{key} expires in {ttl} s");
}

async fn keys(redis: &Redis) -> Vec<String> {
    let mut keys: Vec<String> = redis.ask(&["KEYS", "*"]).await;
    keys.sort();
    keys
}

#[tokio::test]
async fn claims_are_in_mod_global_distribs_layout() {
    let redis = long_lived().await;
    let store = redis.store(&host("dc1.test"), "gw1");
    store
        .claim(&[
            began(FULL, 1_700_000_000_123),
            began(BARE, 1_700_000_000_123),
        ])
        .await
        .unwrap();

    let expected = [
        "alice@example.test",
        "alice@example.test/phone",
        "{alice@example.test/phone}#claims",
        "{alice@example.test}#claims",
        "{alice@example.test}#home",
    ];
    assert_eq!(keys(&redis).await, expected);
    for jid in [FULL, BARE] {
        assert_eq!(redis.ask::<String>(&["GET", jid]).await, "dc1.test");
        assert_expires_in_120(&redis, jid).await;
        let claims = format!("{{{jid}}}#claims");
        assert_eq!(
            redis
                .ask::<HashMap<String, String>>(&["HGETALL", &claims])
                .await,
            HashMap::from([("dc1.test".to_owned(), "1700000000123".to_owned())])
        );
        assert_expires_in_120(&redis, &claims).await;
    }
    let home = "{alice@example.test}#home";
    assert_eq!(redis.ask::<String>(&["GET", home]).await, "dc1.test");
    assert_eq!(redis.ask::<i64>(&["TTL", home]).await, -1);

    store
        .withdraw(&[FULL.to_owned(), BARE.to_owned()])
        .await
        .unwrap();
    assert_eq!(keys(&redis).await, [home]);
}

#[tokio::test]
async fn the_registry_is_in_mod_global_distribs_layout() {
    let redis = long_lived().await;
    let store = redis.store(&host("dc1.test"), "gw1");
    let mut told = announcement(&[("10.0.0.1", 5555), ("2001:db8::1", 5556)]);
    store.announce(&told).await.unwrap();
    let endpoints = "dc1.test#gw1#{endpoints}";
    assert_eq!(keys(&redis).await, [endpoints, "dc1.test#{nodes}", "hosts"]);
    let mut members: Vec<String> = redis.ask(&["SMEMBERS", endpoints]).await;
    members.sort();
    assert_eq!(members, ["10.0.0.1#5555", "2001:db8::1#5556"]);
    assert_expires_in_120(&redis, endpoints).await;
    assert_eq!(
        redis.ask::<Vec<String>>(&["SMEMBERS", "hosts"]).await,
        ["dc1.test"]
    );
    assert_eq!(redis.ask::<i64>(&["TTL", "dc1.test#{nodes}"]).await, -1);
    let stamp: u64 = redis.ask(&["HGET", "dc1.test#{nodes}", "gw1"]).await;
    let (now, _): (u64, u64) = redis.ask(&["TIME"]).await;
    assert!(now.abs_diff(stamp) < 60, "stamped {stamp} at {now}");

    told.domains = vec!["muc.example.test".to_owned(), "x.example.test".to_owned()];
    told.public_domains = vec!["muc.example.test".to_owned()];
    store.announce(&told).await.unwrap();
    let domains = "dc1.test#gw1#{domains}";
    assert_eq!(redis.ask::<usize>(&["SCARD", domains]).await, 2);
    assert_expires_in_120(&redis, domains).await;
    let public = "dc1.test#gw1#{public_domains}";
    assert_eq!(
        redis.ask::<Vec<String>>(&["SMEMBERS", public]).await,
        ["muc.example.test"]
    );

    store.retire().await.unwrap();
    assert_eq!(keys(&redis).await, [""; 0]);
}

#[tokio::test]
async fn a_claim_left_to_another_lives_as_long_as_that_ones_did() {
    let redis = long_lived().await;
    let one = redis.store(&host("dc1.test"), "gw1");
    let two = redis.store(&host("dc2.test"), "gw1");
    one.claim(&[began(BARE, 1000)]).await.unwrap();
    two.claim(&[began(BARE, 2000)]).await.unwrap();
    two.withdraw(&[BARE.to_owned()]).await.unwrap();
    assert_eq!(redis.ask::<String>(&["GET", BARE]).await, "dc1.test");
    assert_expires_in_120(&redis, BARE).await;
}

#[tokio::test]
async fn what_long_dead_nodes_left_is_cleared_away() {
    let redis = long_lived().await;
    for (key, node, stamp) in [
        ("gone.test#{nodes}", "gw1", "1000000000"),
        ("dc1.test#{nodes}", "old", "1000000000"),
        ("dc1.test#{nodes}", "gw1", "1000000000"),
    ] {
        redis.ask::<()>(&["HSET", key, node, stamp]).await;
    }
    for name in ["gone.test", "empty.test", "dc1.test"] {
        redis.ask::<()>(&["SADD", "hosts", name]).await;
    }
    let store = redis.store(&host("dc1.test"), "gw1");
    assert_eq!(store.hosts().await.unwrap(), NOBODY);
    store.announce(&announcement(&[])).await.unwrap();
    assert_eq!(store.hosts().await.unwrap(), [host("dc1.test")]);
    store.announce(&announcement(&[])).await.unwrap();
    assert_eq!(
        redis.ask::<Vec<String>>(&["SMEMBERS", "hosts"]).await,
        ["dc1.test"]
    );
    assert_eq!(
        redis
            .ask::<Vec<String>>(&["HKEYS", "dc1.test#{nodes}"])
            .await,
        ["gw1"]
    );
}

#[tokio::test]
async fn works_again_at_once_when_redis_is_back() {
    let mut redis = long_lived().await;
    let store = redis.store(&host("dc1.test"), "gw1");
    store.claim(&[began(FULL, 1000)]).await.unwrap();

    redis.stop();
    let error = store.claims(FULL).await.unwrap_err().to_string();
    assert!(
        error.contains(&format!("127.0.0.1:{}", redis.port)),
        "{error}"
    );
    assert!(!error.contains(PASSWORD), "{error}");

    redis.server = spawn(redis.port, &redis.directory);
    assert!(redis.until_up().await);
    store.claim(&[refresh(FULL, 1000)]).await.unwrap();
    assert_eq!(store.claims(FULL).await.unwrap().len(), 1);

    // And a restart that nobody noticed costs no operation at all.
    redis.stop();
    redis.server = spawn(redis.port, &redis.directory);
    assert!(redis.until_up().await);
    assert_eq!(store.claims(FULL).await.unwrap(), []);
}

#[tokio::test]
async fn a_silent_redis_is_given_up_in_time() {
    let redis = long_lived().await;
    let store = redis.store(&host("dc1.test"), "gw1");
    store.claim(&[began(FULL, 1000)]).await.unwrap();
    redis.signal(Signal::SIGSTOP);
    for _ in 0..2 {
        let answer = tokio::time::timeout(Duration::from_secs(5), store.claims(FULL)).await;
        assert!(answer.expect("is waited for").is_err());
    }
    redis.signal(Signal::SIGCONT);
    assert_eq!(store.claims(FULL).await.unwrap().len(), 1);
}
