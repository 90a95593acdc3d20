//! Hosts, nodes and endpoints in Redis.

use std::collections::{BTreeSet, HashMap};
use std::time::{SystemTime, UNIX_EPOCH};

use redis::Cmd;
use tokio::time::Instant;

use super::liveness::{DeadNodes, Stamps};
use super::{RedisStore, layout, offers, read_host, script};
use crate::config::Endpoint;
use crate::host::Host;
use crate::store::{Announcement, StoreError};

impl RedisStore {
    /// Writes what this node tells about itself, and clears away what long
    /// dead ones have left.
    pub(super) async fn write_node(&self, announcement: &Announcement) -> Result<(), StoreError> {
        let endpoints: Vec<String> = announcement
            .endpoints
            .iter()
            .map(layout::write_endpoint)
            .collect();
        let (host, node) = (&self.local, self.node.as_str());
        let mut commands = redis::pipe();
        let (domains, public) = offers::written(&announcement.offers);
        for (key, members) in [
            (layout::endpoints(host, node), &endpoints),
            (layout::domains(host, node), &domains),
            (layout::public_domains(host, node), &public),
        ] {
            commands
                .add_command(self.replace_set(key, members))
                .ignore();
        }
        self.take_domains(&domains, &mut commands);
        commands
            .cmd("HSET")
            .arg(layout::nodes(host))
            .arg(node)
            .arg(wall_clock())
            .ignore();
        let purpose = "announce this node";
        self.query::<()>(purpose, &commands).await?;
        // The host comes last, and not in the same pipeline, which keeps no
        // order between shards: a MongooseIM that finds a host without a node crashes.
        let mut commands = redis::pipe();
        commands
            .cmd("SADD")
            .arg(layout::HOSTS)
            .arg(host.as_str())
            .ignore();
        self.query::<()>(purpose, &commands).await?;

        let mut dead_nodes = self.liveness().dead_nodes(wall_clock(), Instant::now());
        dead_nodes
            .nodes
            .retain(|(of, name, _)| (of, name.as_str()) != (host, node));
        self.clear_away(&dead_nodes).await
    }

    /// Takes this node out, and its host too if it was the last one there.
    pub(super) async fn remove_node(&self) -> Result<(), StoreError> {
        let (host, node) = (&self.local, self.node.as_str());
        let domains = self.own_domains().await?;
        let mut commands = redis::pipe();
        commands
            .cmd("HDEL")
            .arg(layout::nodes(host))
            .arg(node)
            .ignore();
        for key in [
            layout::endpoints(host, node),
            layout::domains(host, node),
            layout::public_domains(host, node),
        ] {
            commands.cmd("DEL").arg(key).ignore();
        }
        commands.cmd("HGETALL").arg(layout::nodes(host));
        let (others,): (HashMap<String, String>,) = self
            .query("take this node out of the registry", &commands)
            .await?;
        self.release_domains(domains, others.keys()).await?;
        if others.is_empty() {
            self.remove_hosts(std::slice::from_ref(host)).await?;
        }
        Ok(())
    }

    /// Reads all hosts and the age of their nodes.
    pub(super) async fn read_registry(&self) -> Result<(), StoreError> {
        let purpose = "read the list of hosts";
        let mut commands = redis::pipe();
        commands.cmd("SMEMBERS").arg(layout::HOSTS);
        let (names,): (Vec<String>,) = self.query(purpose, &commands).await?;
        let hosts: Vec<Host> = names.iter().filter_map(|name| read_host(name)).collect();
        let stamps = self.read_stamps(purpose, &hosts).await?;
        let hosts = hosts.into_iter().zip(stamps).collect();
        self.liveness()
            .read_all(hosts, wall_clock(), Instant::now());
        Ok(())
    }

    /// The endpoints of all live nodes of `host`, sorted.
    pub(super) async fn read_endpoints(&self, host: &Host) -> Result<Vec<Endpoint>, StoreError> {
        let purpose = "read the endpoints of a host";
        let nodes = self.read_live_nodes(purpose, host).await?;
        if nodes.is_empty() {
            return Ok(Vec::new());
        }
        let keys: Vec<String> = nodes
            .iter()
            .map(|node| layout::endpoints(host, node))
            .collect();
        let mut commands = redis::pipe();
        commands.cmd("SUNION").arg(keys);
        let (texts,): (Vec<String>,) = self.query(purpose, &commands).await?;
        let endpoints: BTreeSet<Endpoint> = texts
            .iter()
            .filter_map(|text| {
                let endpoint = layout::read_endpoint(text);
                if endpoint.is_none() {
                    tracing::warn!(%host, endpoint = %text, "skipping an endpoint in Redis that is not `address#port`");
                }
                endpoint
            })
            .collect();
        Ok(endpoints.into_iter().collect())
    }

    /// The live nodes of `host`, as of now.
    pub(super) async fn read_live_nodes(
        &self,
        purpose: &str,
        host: &Host,
    ) -> Result<Vec<String>, StoreError> {
        let stamps = self
            .read_stamps(purpose, std::slice::from_ref(host))
            .await?;
        let (now, mut liveness) = (Instant::now(), self.liveness());
        for stamps in stamps {
            liveness.read(host, stamps, wall_clock(), now);
        }
        Ok(liveness.live_nodes(host, now))
    }

    /// The nodes of each of `hosts`, in their order.
    async fn read_stamps(&self, purpose: &str, hosts: &[Host]) -> Result<Vec<Stamps>, StoreError> {
        if hosts.is_empty() {
            return Ok(Vec::new());
        }
        let mut commands = redis::pipe();
        for host in hosts {
            commands.cmd("HGETALL").arg(layout::nodes(host));
        }
        let nodes: Vec<HashMap<String, String>> = self.query(purpose, &commands).await?;
        let read = |(node, stamp): (String, String)| Some((node, stamp.parse().ok()?));
        Ok(nodes
            .into_iter()
            .map(|nodes| nodes.into_iter().filter_map(read).collect())
            .collect())
    }

    async fn clear_away(&self, dead_nodes: &DeadNodes) -> Result<(), StoreError> {
        for (host, node, stamp) in &dead_nodes.nodes {
            tracing::info!(%host, %node, "taking a node out of the registry that has long been silent");
            let mut command = script(include_str!("remove_node.lua"), &[layout::nodes(host)]);
            command.arg(node).arg(stamp);
            let mut commands = redis::pipe();
            commands.add_command(command).ignore();
            self.query::<()>("clear the registry up", &commands).await?;
        }
        self.remove_hosts(&dead_nodes.hosts).await
    }

    /// Takes `hosts` off the list, unless they have a node by now.
    async fn remove_hosts(&self, hosts: &[Host]) -> Result<(), StoreError> {
        let purpose = "clear the registry up";
        for host in hosts {
            let mut commands = redis::pipe();
            commands
                .cmd("SREM")
                .arg(layout::HOSTS)
                .arg(host.as_str())
                .ignore();
            self.query::<()>(purpose, &commands).await?;
            // Its first node may have come in between; its keys are on
            // another shard, so that a script can't do both at once.
            let nodes = self
                .read_stamps(purpose, std::slice::from_ref(host))
                .await?;
            if nodes.iter().any(|nodes| !nodes.is_empty()) {
                let mut commands = redis::pipe();
                commands
                    .cmd("SADD")
                    .arg(layout::HOSTS)
                    .arg(host.as_str())
                    .ignore();
                self.query::<()>(purpose, &commands).await?;
            }
        }
        Ok(())
    }

    fn replace_set(&self, key: String, members: &[String]) -> Cmd {
        let mut command = script(include_str!("replace_set.lua"), &[key]);
        command.arg(self.lifetime()).arg(members);
        command
    }
}

/// Unix seconds.
fn wall_clock() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs())
}
