//! A Redis of our own, which forgets everything when it stops.

use redis::AsyncCommands;
use redis::aio::MultiplexedConnection;

use super::patience::until;
use super::port::Port;
use super::process::Process;
use super::workdir::Workdir;

/// A running (or stopped) Redis; the port stays its own through restarts.
#[derive(Debug)]
pub struct Redis {
    port: Port,
    /// To kill, freeze, look at.
    pub process: Process,
}

impl Redis {
    /// Ready when it answers PING.
    pub async fn start(workdir: &Workdir) -> Self {
        let port = Port::take();
        let number = port.number().to_string();
        let directory = workdir.path().to_string_lossy().into_owned();
        let arguments = [
            ["--port", &number],
            ["--bind", "127.0.0.1"],
            ["--dir", &directory],
            ["--save", ""],
            ["--appendonly", "no"],
        ];
        let process = Process::new(
            "redis",
            "redis-server",
            arguments.as_flattened(),
            workdir.file("redis.log"),
        );
        let mut redis = Self { port, process };
        redis.start_again().await;
        redis
    }

    /// After it was stopped or killed. Empty.
    pub async fn start_again(&mut self) {
        self.process.launch();
        self.process
            .until("Redis to answer PING", async || {
                self.connect().await.map_err(|error| error.to_string())
            })
            .await;
    }

    /// SIGTERM.
    pub async fn stop(&mut self) {
        self.process.terminate().await;
    }

    /// Stop and start; everything in it is forgotten.
    pub async fn restart(&mut self) {
        self.stop().await;
        self.start_again().await;
    }

    /// For `[redis] url`.
    pub fn url(&self) -> String {
        format!("redis://{}/", self.port.address())
    }

    async fn connect(&self) -> redis::RedisResult<MultiplexedConnection> {
        let mut connection = redis::Client::open(self.url())?
            .get_multiplexed_async_connection()
            .await?;
        let _: String = redis::cmd("PING").query_async(&mut connection).await?;
        Ok(connection)
    }

    /// For any command.
    pub async fn client(&self) -> MultiplexedConnection {
        self.connect().await.expect("a running Redis")
    }

    /// Every key, sorted.
    pub async fn keys(&self) -> Vec<String> {
        let mut keys: Vec<String> = self.client().await.keys("*").await.expect("KEYS");
        keys.sort();
        keys
    }

    /// A string's value.
    pub async fn get(&self, key: &str) -> Option<String> {
        self.client().await.get(key).await.expect("GET")
    }

    /// Overwrites a string.
    pub async fn set(&self, key: &str, value: &str) {
        let () = self.client().await.set(key, value).await.expect("SET");
    }

    /// Removes a key.
    pub async fn delete(&self, key: &str) {
        let () = self.client().await.del(key).await.expect("DEL");
    }

    /// Seconds left; −1 without expiry, −2 without key.
    pub async fn ttl(&self, key: &str) -> i64 {
        self.client().await.ttl(key).await.expect("TTL")
    }

    /// `string`, `set`, `hash`, … or `none`.
    pub async fn kind(&self, key: &str) -> String {
        redis::cmd("TYPE")
            .arg(key)
            .query_async(&mut self.client().await)
            .await
            .expect("TYPE")
    }

    /// A set's members, sorted.
    pub async fn members(&self, key: &str) -> Vec<String> {
        let mut members: Vec<String> = self.client().await.smembers(key).await.expect("SMEMBERS");
        members.sort();
        members
    }

    /// A hash's fields and values, sorted by field.
    pub async fn hash(&self, key: &str) -> Vec<(String, String)> {
        let mut fields: Vec<(String, String)> =
            self.client().await.hgetall(key).await.expect("HGETALL");
        fields.sort();
        fields
    }

    /// Waits until the string `key` is `value`.
    pub async fn until_value(&self, key: &str, value: Option<&str>) {
        let what = format!("{key:?} in Redis to be {value:?}");
        until(&what, async || match self.get(key).await {
            now if now.as_deref() == value => Ok(()),
            now => Err(format!("{now:?}")),
        })
        .await;
    }

    /// Waits until the lifetime of `key` is longer than it was a moment before.
    pub async fn until_refreshed(&self, key: &str) {
        let mut before = i64::MAX;
        until(&format!("{key:?} in Redis to be refreshed"), async || {
            let left: i64 = self.client().await.pttl(key).await.expect("PTTL");
            let refreshed = left > std::mem::replace(&mut before, left);
            refreshed
                .then_some(())
                .ok_or_else(|| format!("{left} ms left"))
        })
        .await;
    }
}
