//! Service domains in Redis.

use std::collections::BTreeSet;

use redis::Pipeline;

use super::{RELEASE_KEY, RedisStore, TAKE_KEY, layout, read_host, script};
use crate::host::Host;
use crate::store::{Offer, StoreError};

/// The members of a node's two sets: all of `offers`, and those not hidden.
pub(super) fn written(offers: &[Offer]) -> (Vec<String>, Vec<String>) {
    let name = |offer: &Offer| offer.domain.to_string();
    let public = offers.iter().filter(|offer| !offer.hidden);
    (
        offers.iter().map(name).collect(),
        public.map(name).collect(),
    )
}

impl RedisStore {
    /// What all live nodes of `host` offer, sorted.
    pub(super) async fn read_offers(&self, host: &Host) -> Result<Vec<Offer>, StoreError> {
        let purpose = "read the services of a host";
        let nodes = self.read_live_nodes(purpose, host).await?;
        if nodes.is_empty() {
            return Ok(Vec::new());
        }
        let mut commands = redis::pipe();
        for layout in [layout::domains, layout::public_domains] {
            let keys: Vec<String> = nodes.iter().map(|node| layout(host, node)).collect();
            commands.cmd("SUNION").arg(keys);
        }
        let (all, public): (BTreeSet<String>, BTreeSet<String>) =
            self.query(purpose, &commands).await?;
        let mut offers: Vec<Offer> = all
            .iter()
            .filter_map(|name| {
                Some(Offer {
                    domain: read_host(name)?,
                    hidden: !public.contains(name),
                })
            })
            .collect();
        offers.sort();
        Ok(offers)
    }

    /// Under the domains' own keys, where a MongooseIM looks them up.
    pub(super) fn take_domains(&self, domains: &[String], commands: &mut Pipeline) {
        for domain in domains {
            let mut command = script(TAKE_KEY, std::slice::from_ref(domain));
            command.arg(self.local.as_str()).arg(self.lifetime()).arg(0);
            commands.add_command(command).ignore();
        }
    }

    /// What this node has announced last.
    pub(super) async fn own_domains(&self) -> Result<BTreeSet<String>, StoreError> {
        let mut commands = redis::pipe();
        commands
            .cmd("SMEMBERS")
            .arg(layout::domains(&self.local, &self.node));
        let purpose = "read the services of this node";
        let (domains,) = self.query(purpose, &commands).await?;
        Ok(domains)
    }

    /// Takes `domains` away, but for those that one of `others`, the nodes of
    /// this host, offers too. If that one begins to offer it at this moment, it
    /// writes it again the next time that it announces itself.
    pub(super) async fn release_domains(
        &self,
        mut domains: BTreeSet<String>,
        others: impl Iterator<Item = &String>,
    ) -> Result<(), StoreError> {
        let purpose = "take this node's services out of the registry";
        let keys: Vec<String> = others
            .map(|node| layout::domains(&self.local, node))
            .collect();
        if !keys.is_empty() && !domains.is_empty() {
            let mut commands = redis::pipe();
            commands.cmd("SUNION").arg(keys);
            let (theirs,): (BTreeSet<String>,) = self.query(purpose, &commands).await?;
            domains.retain(|domain| !theirs.contains(domain));
        }
        let mut commands = redis::pipe();
        for domain in domains {
            let mut command = script(RELEASE_KEY, &[domain]);
            command.arg(self.local.as_str());
            commands.add_command(command).ignore();
        }
        if commands.is_empty() {
            return Ok(());
        }
        self.query(purpose, &commands).await
    }
}
