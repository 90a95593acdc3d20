//! A Redis master, its replica, and the Sentinels that watch both.

use futures::future::join_all;
use redis::aio::MultiplexedConnection;

use super::patience::until;
use super::port::Port;
use super::process::Process;
use super::redis_server::{Access, Redis};
use super::workdir::Workdir;

/// The master's name among the Sentinels.
const MASTER: &str = "session-table";

/// Fields are dropped in their order: the Sentinels first.
#[derive(Debug)]
pub struct Sentinels {
    sentinels: Vec<Sentinel>,
    /// The master first; after a failover the second one is master.
    pub servers: [Redis; 2],
    access: Access,
}

#[derive(Debug)]
struct Sentinel {
    port: Port,
    process: Process,
}

impl Sentinels {
    /// Starts `count` Sentinels; returns when each knows the replica and the others.
    pub async fn start(workdir: &Workdir, count: usize, access: Access) -> Self {
        let password = access.password.clone().unwrap_or_default();
        let options: &[_] = if password.is_empty() {
            &[]
        } else {
            &[("masterauth", password.as_str())]
        };
        let master = Redis::start_with(workdir, "master", access.clone(), options).await;
        let of = format!("127.0.0.1 {}", master.address().port());
        let mut its = options.to_vec();
        its.push(("replicaof", &of));
        let replica = Redis::start_with(workdir, "replica", access.clone(), &its).await;
        until("the replica to follow its master", async || {
            let info: String = replica.ask(&["INFO", "replication"]).await;
            let up = info.contains("master_link_status:up");
            up.then_some(()).ok_or(info)
        })
        .await;
        let mut sentinels = Vec::new();
        for number in 0..count {
            sentinels.push(Sentinel::launch(workdir, number, count, &of, &password));
        }
        let set = Self {
            sentinels,
            servers: [master, replica],
            access,
        };
        join_all(set.sentinels.iter().map(|it| it.until_it_knows(count))).await;
        set
    }

    /// For `[redis] url`.
    pub fn url(&self) -> String {
        let hosts: Vec<_> = self
            .sentinels
            .iter()
            .map(|sentinel| sentinel.port.address().to_string())
            .collect();
        let user = self.access.password.as_ref();
        let user = user.map_or_else(String::new, |password| format!(":{password}@"));
        format!("redis+sentinel://{user}{}/{MASTER}", hosts.join(","))
    }

    /// The current master, according to the servers' own `ROLE`.
    pub async fn master(&self) -> &Redis {
        until("a server that is master", async || {
            for server in self.servers.iter().filter(|it| it.process.is_running()) {
                let role: redis::Value = server.ask(&["ROLE"]).await;
                if format!("{role:?}").contains("master") {
                    return Ok(server);
                }
            }
            Err("none".to_owned())
        })
        .await
    }

    /// Freezes the first Sentinel, which clients still ask first.
    pub fn freeze_one(&self) {
        self.sentinels[0].process.freeze();
    }
}

impl Sentinel {
    fn launch(workdir: &Workdir, number: usize, count: usize, of: &str, password: &str) -> Self {
        let port = Port::take();
        let name = format!("sentinel{number}");
        let data = workdir.write(&format!("{name}-data/here"), "");
        let data = data.parent().expect("a directory").display();
        let auth = if password.is_empty() {
            String::new()
        } else {
            format!("sentinel auth-pass {MASTER} {password}\n")
        };
        let config = format!(
            "port {}\nbind 127.0.0.1\ndir {data}\n\
             sentinel monitor {MASTER} {of} {}\n{auth}\
             sentinel down-after-milliseconds {MASTER} 500\n\
             sentinel failover-timeout {MASTER} 3000\n",
            port.number(),
            count / 2 + 1,
        );
        let config = workdir.write(&format!("{name}.conf"), &config);
        let log = workdir.file(&format!("{name}.log"));
        let arguments = [config.into_os_string(), "--sentinel".into()];
        let mut process = Process::new(&name, "redis-server", arguments, log);
        process.launch();
        Self { port, process }
    }

    async fn until_it_knows(&self, count: usize) {
        let others = (count - 1).to_string();
        self.process
            .until("a Sentinel to know everybody", async || {
                let master = self.describe_master().await.map_err(|e| e.to_string())?;
                let is = |name: &str, value: &str| {
                    let pair = [name.to_owned(), value.to_owned()];
                    master.chunks(2).any(|it| it == pair)
                };
                let knows = is("flags", "master")
                    && is("num-slaves", "1")
                    && is("num-other-sentinels", &others);
                knows.then_some(()).ok_or_else(|| format!("{master:?}"))
            })
            .await;
    }

    async fn describe_master(&self) -> redis::RedisResult<Vec<String>> {
        let client = redis::Client::open(format!("redis://{}", self.port.address()))?;
        let mut connection: MultiplexedConnection =
            client.get_multiplexed_async_connection().await?;
        let mut command = redis::cmd("SENTINEL");
        command.arg("MASTER").arg(MASTER);
        command.query_async(&mut connection).await
    }
}
