//! A Redis of the test, which loses its data when it stops.

use std::net::SocketAddr;
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{AsyncCommands, AsyncConnectionConfig, Client, ClientTlsConfig, TlsCertificates};

use super::certs::Identity;
use super::patience::until;
use super::port::Port;
use super::process::Process;
use super::workdir::Workdir;

/// Bound for one answer: a busy machine needs more than the client's own half second.
const ANSWER: Duration = Duration::from_secs(5);

/// A running or stopped Redis; it keeps its port through restarts.
#[derive(Debug)]
pub struct Redis {
    port: Port,
    access: Access,
    /// The process, for tests that kill or freeze it.
    pub process: Process,
}

/// The access control for clients.
#[derive(Debug, Clone, Default)]
pub struct Access {
    /// The password for all clients.
    pub password: Option<String>,
    /// TLS only, and only for clients with a certificate of the same authority.
    pub tls: Option<Identity>,
}

impl Redis {
    /// Starts a Redis; returns when it answers PING.
    pub async fn start(workdir: &Workdir) -> Self {
        Self::start_with(workdir, "redis", Access::default(), &[]).await
    }

    /// Starts a Redis in a directory called `name`, with more options.
    pub async fn start_with(
        workdir: &Workdir,
        name: &str,
        access: Access,
        options: &[(&str, &str)],
    ) -> Self {
        let mut redis = Self::prepare(workdir, name, access, options);
        redis.start_again().await;
        redis
    }

    fn prepare(workdir: &Workdir, name: &str, access: Access, options: &[(&str, &str)]) -> Self {
        let port = Port::take();
        let number = port.number().to_string();
        let directory = workdir.file(&format!("{name}-data"));
        std::fs::create_dir_all(&directory).expect("a writable directory");
        let directory = directory.to_string_lossy().into_owned();
        let mut settings = vec![
            ("bind", "127.0.0.1"),
            ("dir", &directory),
            ("save", ""),
            ("appendonly", "no"),
        ];
        let text = |path: &std::path::Path| path.to_string_lossy().into_owned();
        let files = access.tls.as_ref().map(|identity| {
            let Identity {
                certfile,
                keyfile,
                cacertfile,
            } = identity;
            [text(certfile), text(keyfile), text(cacertfile)]
        });
        match &files {
            None => settings.push(("port", &number)),
            Some([certfile, keyfile, cacertfile]) => settings.extend([
                ("port", "0"),
                ("tls-port", &number),
                ("tls-cert-file", certfile),
                ("tls-key-file", keyfile),
                ("tls-ca-cert-file", cacertfile),
            ]),
        }
        if let Some(password) = &access.password {
            settings.push(("requirepass", password));
        }
        settings.extend(options);
        let arguments = settings
            .into_iter()
            .flat_map(|(name, value)| [format!("--{name}"), value.to_owned()]);
        let log = workdir.file(&format!("{name}.log"));
        Self {
            process: Process::new(name, "redis-server", arguments, log),
            port,
            access,
        }
    }

    /// Starts it after a stop or a kill. It is empty then.
    pub async fn start_again(&mut self) {
        self.process.launch();
        self.process
            .until("Redis to answer PING", async || {
                self.connect().await.map_err(|error| error.to_string())
            })
            .await;
    }

    /// Sends SIGTERM.
    pub async fn stop(&mut self) {
        self.process.terminate().await;
    }

    /// Stops and starts it; all data is lost.
    pub async fn restart(&mut self) {
        self.stop().await;
        self.start_again().await;
    }

    /// For `[redis] url`.
    pub fn url(&self) -> String {
        let scheme = self.access.tls.as_ref().map_or("redis", |_| "rediss");
        let user = self.access.password.as_ref();
        let user = user.map_or_else(String::new, |password| format!(":{password}@"));
        // Certificates have names and no addresses.
        let host = self
            .access
            .tls
            .as_ref()
            .map_or("127.0.0.1", |_| "localhost");
        format!("{scheme}://{user}{host}:{}/", self.port.number())
    }

    /// The address of the server.
    pub fn address(&self) -> SocketAddr {
        self.port.address()
    }

    fn open(&self) -> redis::RedisResult<Client> {
        let Some(identity) = &self.access.tls else {
            return Client::open(self.url());
        };
        let read = |path| std::fs::read(path).expect("a readable file");
        let certificates = TlsCertificates {
            client_tls: Some(ClientTlsConfig {
                client_cert: read(&identity.certfile),
                client_key: read(&identity.keyfile),
            }),
            root_cert: Some(read(&identity.cacertfile)),
        };
        Client::build_with_tls(self.url(), certificates)
    }

    async fn connect(&self) -> redis::RedisResult<MultiplexedConnection> {
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(ANSWER))
            .set_response_timeout(Some(ANSWER));
        let client = self.open()?;
        let mut connection = client
            .get_multiplexed_async_connection_with_config(&config)
            .await?;
        let _: String = redis::cmd("PING").query_async(&mut connection).await?;
        Ok(connection)
    }

    /// Sends a command that may be sent twice: a master that hung, and is demoted when it
    /// continues, cuts its connections.
    pub async fn ask<T: redis::FromRedisValue>(&self, command: &[&str]) -> T {
        let mut asked = redis::cmd(command[0]);
        asked.arg(&command[1..]);
        until(&format!("an answer to {command:?}"), async || {
            match asked.query_async(&mut self.client().await).await {
                Err(error) if error.is_io_error() => Err(error.to_string()),
                answer => Ok(answer.unwrap_or_else(|error| panic!("{command:?}: {error}"))),
            }
        })
        .await
    }

    /// A client for any command.
    pub async fn client(&self) -> MultiplexedConnection {
        until("a running Redis", async || {
            self.connect().await.map_err(|error| error.to_string())
        })
        .await
    }

    /// Every key, sorted.
    pub async fn keys(&self) -> Vec<String> {
        let mut keys: Vec<String> = self.client().await.keys("*").await.expect("KEYS");
        keys.sort();
        keys
    }

    /// A string's value.
    pub async fn get(&self, key: &str) -> Option<String> {
        self.look_up(key).await.expect("GET")
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
        until(&what, async || match self.look_up(key).await {
            Ok(now) if now.as_deref() == value => Ok(()),
            // A Sentinel cuts the connections of a server that it promotes.
            now => Err(format!("{now:?}")),
        })
        .await;
    }

    async fn look_up(&self, key: &str) -> redis::RedisResult<Option<String>> {
        self.connect().await?.get(key).await
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
