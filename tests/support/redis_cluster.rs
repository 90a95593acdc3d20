//! A Redis Cluster of three shards.

use std::process::Output;

use redis::cluster::ClusterClient;
use redis::cluster_async::ClusterConnection;
use tokio::process::Command;

use super::patience::until;
use super::port::Port;
use super::redis_server::{Access, Redis};
use super::workdir::Workdir;

/// The first three servers are the masters at the start.
#[derive(Debug)]
pub struct RedisCluster {
    pub servers: Vec<Redis>,
    access: Access,
    /// Reserved ports for the traffic among the servers.
    _buses: Vec<Port>,
}

impl RedisCluster {
    /// Starts the cluster, and returns when every server reports that it is ready. Each shard has
    /// a master and `replicas` replicas.
    pub async fn start(workdir: &Workdir, replicas: usize, access: Access) -> Self {
        let password = access.password.clone().unwrap_or_default();
        let (mut servers, mut buses) = (Vec::new(), Vec::new());
        for number in 0..3 * (1 + replicas) {
            let bus = Port::take();
            let bus_number = bus.number().to_string();
            let mut options = vec![
                ("cluster-enabled", "yes"),
                ("cluster-port", bus_number.as_str()),
                ("cluster-node-timeout", "1000"),
                ("repl-ping-replica-period", "1"),
            ];
            if !password.is_empty() {
                options.push(("masterauth", &password));
            }
            let name = format!("shard{number}");
            servers.push(Redis::start_with(workdir, &name, access.clone(), &options).await);
            buses.push(bus);
        }
        let cluster = Self {
            servers,
            access,
            _buses: buses,
        };
        cluster.create(replicas, &password).await;
        cluster.until_whole().await;
        cluster
    }

    async fn create(&self, replicas: usize, password: &str) {
        let mut command = Command::new("redis-cli");
        if !password.is_empty() {
            command.env("REDISCLI_AUTH", password);
        }
        command.args(["--cluster", "create"]);
        command.args(self.servers.iter().map(|it| it.address().to_string()));
        command.args(["--cluster-yes", "--cluster-replicas", &replicas.to_string()]);
        let Output {
            status,
            stdout,
            stderr,
        } = command.output().await.expect("redis-cli is installed");
        let said = [stdout, stderr].concat();
        assert!(status.success(), "{}", String::from_utf8_lossy(&said));
    }

    /// Waits until all running servers agree that every slot is served, and all replicas follow a
    /// master.
    pub async fn until_whole(&self) {
        until("the cluster to be whole", async || {
            for server in self.servers.iter().filter(|it| it.process.is_running()) {
                let info: String = server.ask(&["CLUSTER", "INFO"]).await;
                if !info.contains("cluster_state:ok") {
                    return Err(info);
                }
                let info: String = server.ask(&["INFO", "replication"]).await;
                if info.contains("master_link_status:down") {
                    return Err(info);
                }
            }
            Ok(())
        })
        .await;
    }

    /// The index of the server that is the master of `key`'s shard.
    pub async fn master_of(&self, key: &str) -> usize {
        until("a master for the key", async || {
            for (at, server) in self.servers.iter().enumerate() {
                if !server.process.is_running() {
                    continue;
                }
                let got = redis::cmd("GET")
                    .arg(key)
                    .query_async::<Option<String>>(&mut server.client().await)
                    .await;
                if got.is_ok() {
                    return Ok(at);
                }
            }
            Err("every server says it is another's".to_owned())
        })
        .await
    }

    /// The value for `[redis] url`. It names two of the servers; clients discover the rest.
    pub fn url(&self) -> String {
        let user = self.access.password.as_ref();
        let user = user.map_or_else(String::new, |password| format!(":{password}@"));
        let [one, two] = [0, 1].map(|at| self.servers[at].address());
        format!("redis+cluster://{user}{one},{two}")
    }

    /// A client for any command.
    pub async fn client(&self) -> ClusterConnection {
        let nodes = self.servers.iter().map(Redis::url);
        let client = ClusterClient::new(nodes).expect("URLs of Redis");
        client.get_async_connection().await.expect("a cluster")
    }
}
