//! Hosts, nodes, endpoints and service domains in Redis.

use std::collections::{BTreeSet, HashMap, HashSet};

use redis::{Cmd, FromRedisValue, Value};
use tokio::time::Instant;

use super::liveness::{DeadNodes, NodeStamp, Stamps};
use super::{RELEASE_KEY, RedisStore, TAKE_KEY, layout, read_host, script};
use crate::config::Endpoint;
use crate::host::Host;
use crate::servers::HOST_WITHOUT_GATEWAY;
use crate::store::{self, Announcement, Offer, StoreError};

impl RedisStore {
    /// Writes this node's announcement, and removes the entries of long dead nodes.
    pub(super) async fn write_node(&self, announcement: &Announcement) -> Result<(), StoreError> {
        let purpose = "announce this node";
        let (host, node) = (&self.local, self.node.as_str());
        let endpoints = announcement.endpoints.iter().map(layout::write_endpoint);
        let offers = &announcement.offers;
        let domains: Vec<String> = offers.iter().map(|it| it.domain.to_string()).collect();
        let public = offers.iter().filter(|offer| !offer.hidden);
        let public = public.map(|offer| offer.domain.to_string());
        let mut commands = redis::pipe();
        let gateways = layout::gateways(host);
        commands.hset(&gateways, node, wall_clock()).ignore();
        commands.expire(&gateways, self.lifetime() as i64).ignore();
        for (key, members) in [
            (layout::endpoints(host, node), endpoints.collect()),
            (layout::domains(host, node), domains.clone()),
            (layout::public_domains(host, node), public.collect()),
        ] {
            let mut command = script(include_str!("replace_set.lua"), &[key]);
            command.arg(self.lifetime()).arg(members);
            commands.add_command(command).ignore();
        }
        // Keys where a MongooseIM looks the domains up.
        for domain in domains {
            let mut command = script(TAKE_KEY, &[domain]);
            command.arg(host.as_str()).arg(self.lifetime()).arg(0);
            commands.add_command(command).ignore();
        }
        commands
            .hset(layout::nodes(host), node, wall_clock())
            .ignore();
        self.query::<()>(purpose, &commands).await?;
        // The host comes last, and not in the same pipeline, which keeps no
        // order between shards: a MongooseIM that finds a host without a node crashes.
        let () = self
            .ask(purpose, Cmd::sadd(layout::HOSTS, host.as_str()))
            .await?;

        let mut dead = self.liveness().dead_nodes(wall_clock(), Instant::now());
        dead.nodes
            .retain(|(of, name, _)| (of, name.as_str()) != (host, node));
        self.remove_dead(&dead).await
    }

    /// Removes this node, and its host too if it was the host's last node.
    pub(super) async fn remove_node(&self) -> Result<(), StoreError> {
        let purpose = "remove this node from the registry";
        let (host, node) = (&self.local, self.node.as_str());
        let domains = layout::domains(host, node);
        let mut commands = redis::pipe();
        commands.smembers(&domains);
        commands.hdel(layout::nodes(host), node).ignore();
        commands.hdel(layout::gateways(host), node).ignore();
        commands.del(&domains).ignore();
        commands.del(layout::endpoints(host, node)).ignore();
        commands.del(layout::public_domains(host, node)).ignore();
        commands.hgetall(layout::nodes(host));
        let (domains, others): (BTreeSet<String>, HashMap<String, String>) =
            self.query(purpose, &commands).await?;
        self.release_domains(domains, others.keys()).await?;
        if others.is_empty() {
            self.remove_hosts(std::slice::from_ref(host)).await?;
        }
        Ok(())
    }

    /// Deletes the keys of `domains`, but for those that one of `others`, the nodes of
    /// this host, offers too. A node that begins to offer a domain at this moment
    /// writes it again with its next announcement.
    async fn release_domains(
        &self,
        mut domains: BTreeSet<String>,
        others: impl Iterator<Item = &String>,
    ) -> Result<(), StoreError> {
        let purpose = "remove this node's services from the registry";
        let keys: Vec<String> = others
            .map(|node| layout::domains(&self.local, node))
            .collect();
        if !keys.is_empty() && !domains.is_empty() {
            let theirs: BTreeSet<String> = self.ask(purpose, Cmd::sunion(keys)).await?;
            domains.retain(|domain| !theirs.contains(domain));
        }
        for domain in domains {
            let mut command = script(RELEASE_KEY, &[domain]);
            command.arg(self.local.as_str());
            let () = self.ask(purpose, command).await?;
        }
        Ok(())
    }

    /// Reads all hosts and the age of their nodes.
    pub(super) async fn read_registry(&self) -> Result<(), StoreError> {
        let purpose = "read the list of hosts";
        let names: Vec<String> = self.ask(purpose, Cmd::smembers(layout::HOSTS)).await?;
        let hosts: Vec<Host> = names.iter().filter_map(|name| read_host(name)).collect();
        let stamps = self.read_stamps(purpose, &hosts).await?;
        let hosts = hosts.into_iter().zip(stamps).collect();
        let foreign = {
            let (now, mut liveness) = (Instant::now(), self.liveness());
            liveness.read_all(hosts, wall_clock(), now);
            liveness.new_foreign_hosts(now)
        };
        for host in foreign {
            tracing::warn!(%host, "{host} {HOST_WITHOUT_GATEWAY}");
        }
        Ok(())
    }

    /// The endpoints of all live nodes of `host`, sorted.
    pub(super) async fn read_endpoints(&self, host: &Host) -> Result<Vec<Endpoint>, StoreError> {
        let purpose = "read the endpoints of a host";
        let nodes = self.read_live_nodes(purpose, host).await?;
        let keys: Vec<String> = nodes
            .iter()
            .map(|node| layout::endpoints(host, node))
            .collect();
        if keys.is_empty() {
            return Ok(Vec::new());
        }
        let texts: Vec<String> = self.ask(purpose, Cmd::sunion(keys)).await?;
        let mut endpoints = BTreeSet::new();
        for text in texts {
            match layout::read_endpoint(&text) {
                Some(endpoint) => {
                    endpoints.insert(endpoint);
                }
                None => {
                    tracing::warn!(%host, endpoint = %text, "skipping an endpoint in Redis that is not `address#port`");
                }
            }
        }
        Ok(endpoints.into_iter().collect())
    }

    /// The service domains of all live nodes of `host`, sorted.
    pub(super) async fn read_offers(&self, host: &Host) -> Result<Vec<Offer>, StoreError> {
        let purpose = "read the services of a host";
        let nodes = self.read_live_nodes(purpose, host).await?;
        if nodes.is_empty() {
            return Ok(Vec::new());
        }
        let mut commands = redis::pipe();
        for layout in [layout::domains, layout::public_domains] {
            let keys: Vec<String> = nodes.iter().map(|node| layout(host, node)).collect();
            commands.sunion(keys);
        }
        let (all, public): (BTreeSet<String>, BTreeSet<String>) =
            self.query(purpose, &commands).await?;
        let offer = |name: &String| {
            Some(Offer {
                domain: read_host(name)?,
                hidden: !public.contains(name),
            })
        };
        let mut offers: Vec<Offer> = all.iter().filter_map(offer).collect();
        offers.sort();
        Ok(offers)
    }

    /// The live nodes of `host`, as of now.
    async fn read_live_nodes(&self, purpose: &str, host: &Host) -> Result<Vec<String>, StoreError> {
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
            commands.hgetall(layout::nodes(host));
            commands.hkeys(layout::gateways(host));
        }
        let answers: Vec<Value> = self.query(purpose, &commands).await?;
        let mut stamps = Vec::with_capacity(hosts.len());
        for answers in answers.chunks_exact(2) {
            // A value of another type lists no nodes.
            let nodes: HashMap<String, String> = read_or_default(&answers[0]);
            let gateways: HashSet<String> = read_or_default(&answers[1]);
            let read = |(node, seconds): (String, String)| {
                let stamp = NodeStamp {
                    seconds: seconds.parse().ok()?,
                    is_gateway: gateways.contains(&node),
                };
                Some((node, stamp))
            };
            stamps.push(nodes.into_iter().filter_map(read).collect());
        }
        Ok(stamps)
    }

    async fn remove_dead(&self, dead: &DeadNodes) -> Result<(), StoreError> {
        for (host, node, stamp) in &dead.nodes {
            tracing::info!(%host, %node, "removing a node from the registry that has long been silent");
            let mut command = script(include_str!("remove_node.lua"), &[layout::nodes(host)]);
            command.arg(node).arg(stamp);
            let () = self.ask("clear the registry up", command).await?;
        }
        self.remove_hosts(&dead.hosts).await
    }

    /// Removes `hosts` from the list, unless they have a node by now.
    async fn remove_hosts(&self, hosts: &[Host]) -> Result<(), StoreError> {
        let purpose = "clear the registry up";
        for host in hosts {
            let () = self
                .ask(purpose, Cmd::srem(layout::HOSTS, host.as_str()))
                .await?;
            // Its first node may have come in between; its keys are on
            // another shard, so that a script can't do both at once.
            let nodes = self
                .read_stamps(purpose, std::slice::from_ref(host))
                .await?;
            if nodes.iter().any(|nodes| !nodes.is_empty()) {
                let () = self
                    .ask(purpose, Cmd::sadd(layout::HOSTS, host.as_str()))
                    .await?;
            }
        }
        Ok(())
    }
}

fn read_or_default<T: FromRedisValue + Default>(answer: &Value) -> T {
    redis::from_redis_value(answer.clone()).unwrap_or_default()
}

/// Unix seconds.
fn wall_clock() -> u64 {
    store::wall_clock() / 1000
}
