//! The table in Redis, in mod_global_distrib's layout.

mod connection;
mod layout;
mod liveness;
mod offers;
mod registry;
mod script;
mod site;
mod wire;

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use redis::{Cmd, FromRedisValue, Pipeline, RedisError};
use tokio::time::Instant;

use self::connection::RedisConnection;
use self::liveness::NodeLiveness;
use self::script::{CachedScript, ScriptCall};
use self::site::RedisSite;
use super::{Announcement, Claim, Offer, OwnClaim, Store, StoreError, newest_first};
use crate::config::{self, Endpoint, RedisUrl};
use crate::host::Host;

/// So many JIDs are written in one go.
const BATCH: usize = 500;
/// A host that the registry doesn't list may just have joined, if the
/// registry was read longer ago than this.
const RECENTLY: Duration = Duration::from_secs(1);
/// What was read of the registry longer ago than this says nothing any more.
const LONG_AGO: Duration = Duration::from_secs(10);

/// The session table and the registry in Redis, seen by one node of one host.
///
/// Connects when it is first used, and again whenever that is needed: while
/// Redis is away, every operation fails within about a second, and the first
/// one after its return succeeds.
pub struct RedisStore {
    local: Host,
    node: String,
    expire_after: Duration,
    address: String,
    connection: RedisConnection,
    claim: CachedScript,
    withdraw: CachedScript,
    liveness: Mutex<NodeLiveness>,
}

impl RedisStore {
    /// For the node `node` of the host `local`. Doesn't connect yet.
    ///
    /// # Errors
    /// When `redis.url` is not one of Redis, or a file of `[redis]` can't be read.
    pub fn new(local: Host, node: String, config: &config::Redis) -> Result<Self, StoreError> {
        let url = RedisUrl::parse(config.url.reveal())
            .map_err(|what| StoreError(format!("`redis.url` {what}")))?;
        Ok(Self {
            local,
            node,
            expire_after: config.expire_after,
            // The URL may hold a password; this does not show it.
            address: url.to_string(),
            connection: RedisConnection::new(RedisSite::plan(url, config)?),
            claim: CachedScript::new(include_str!("claim.lua"), config.compat),
            withdraw: CachedScript::new(include_str!("withdraw.lua"), config.compat),
            liveness: Mutex::new(NodeLiveness::new(config.expire_after)),
        })
    }

    /// `expire_after` in whole seconds, as mod_global_distrib writes it.
    fn lifetime(&self) -> u64 {
        let round_up = u64::from(self.expire_after.subsec_nanos() > 0);
        (self.expire_after.as_secs() + round_up).max(1)
    }

    async fn query<T: FromRedisValue>(
        &self,
        purpose: &str,
        commands: &Pipeline,
    ) -> Result<T, StoreError> {
        self.connection
            .query(commands)
            .await
            .map_err(|error| self.explain(purpose, &error))
    }

    /// Runs `script` once for each of `calls`.
    async fn run(
        &self,
        purpose: &str,
        script: &CachedScript,
        calls: &[ScriptCall],
    ) -> Result<(), StoreError> {
        if let Some(commands) = script.by_hash(calls) {
            match self.connection.query(&commands).await {
                Err(error) if script::is_unknown(&error) => {}
                result => return result.map_err(|error| self.explain(purpose, &error)),
            }
        }
        self.query(purpose, &script.whole(calls)).await
    }

    fn explain(&self, purpose: &str, error: &RedisError) -> StoreError {
        StoreError(format!(
            "Redis at {} could not be used to {purpose}: {error}",
            self.address
        ))
    }

    fn liveness(&self) -> MutexGuard<'_, NodeLiveness> {
        self.liveness.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Leaves out the claims of other hosts without a live node.
    async fn only_live(&self, mut claims: Vec<Claim>) -> Vec<Claim> {
        if claims.iter().all(|claim| claim.host == self.local) {
            return claims;
        }
        if self.should_read_registry(&claims)
            && let Err(error) = self.read_registry().await
        {
            tracing::debug!(%error, "cannot tell which hosts are alive; taking all for it");
            return claims;
        }
        let liveness = self.liveness();
        let now = Instant::now();
        claims.retain(|claim| claim.host == self.local || liveness.is_live(&claim.host, now));
        claims
    }

    fn should_read_registry(&self, claims: &[Claim]) -> bool {
        let liveness = self.liveness();
        let now = Instant::now();
        let Some(read_at) = liveness.read_at() else {
            return true;
        };
        let age = now.saturating_duration_since(read_at);
        age > LONG_AGO
            || age > RECENTLY
                && claims
                    .iter()
                    .any(|claim| claim.host != self.local && !liveness.is_live(&claim.host, now))
    }
}

#[async_trait]
impl Store for RedisStore {
    async fn claims(&self, jid: &str) -> Result<Vec<Claim>, StoreError> {
        let mut commands = redis::pipe();
        commands.cmd("GET").arg(jid);
        commands.cmd("HGETALL").arg(layout::claims(jid));
        let (plain, ours): (Option<String>, HashMap<String, String>) =
            self.query("look a JID up", &commands).await?;
        Ok(self.only_live(read_claims(plain.as_deref(), &ours)).await)
    }

    async fn home(&self, bare: &str) -> Result<Option<Host>, StoreError> {
        let mut commands = redis::pipe();
        commands.cmd("GET").arg(layout::home(bare));
        let (home,): (Option<String>,) = self.query("look a JID's home up", &commands).await?;
        Ok(home.as_deref().and_then(read_host))
    }

    async fn settle(&self, bares: &[String]) -> Result<Vec<Host>, StoreError> {
        let mut homes = Vec::with_capacity(bares.len());
        for batch in bares.chunks(BATCH) {
            let mut commands = redis::pipe();
            for bare in batch {
                let key = layout::home(bare);
                let set = commands.cmd("SET").arg(&key).arg(self.local.as_str());
                set.arg("NX").ignore();
                commands.cmd("GET").arg(&key);
            }
            let found: Vec<String> = self.query("settle homes", &commands).await?;
            // What can't be read is nobody's we know; whoever wrote it has it.
            homes.extend(found.iter().map(|home| read_host(home)));
        }
        homes
            .into_iter()
            .collect::<Option<_>>()
            .ok_or_else(|| StoreError("a home in Redis is no host; remove that key".to_owned()))
    }

    async fn claim(&self, claims: &[OwnClaim]) -> Result<(), StoreError> {
        for batch in claims.chunks(BATCH) {
            let calls: Vec<ScriptCall> = batch.iter().map(|claim| self.call_claim(claim)).collect();
            self.run("claim JIDs", &self.claim, &calls).await?;
        }
        Ok(())
    }

    async fn withdraw(&self, jids: &[String]) -> Result<(), StoreError> {
        for batch in jids.chunks(BATCH) {
            let call = |jid: &String| ScriptCall {
                keys: vec![jid.clone(), layout::claims(jid), layout::deadlines(jid)],
                arguments: vec![self.local.to_string()],
            };
            let calls: Vec<ScriptCall> = batch.iter().map(call).collect();
            self.run("withdraw claims", &self.withdraw, &calls).await?;
        }
        Ok(())
    }

    async fn announce(&self, announcement: &Announcement) -> Result<(), StoreError> {
        self.write_node(announcement).await
    }

    async fn retire(&self) -> Result<(), StoreError> {
        self.remove_node().await
    }

    async fn hosts(&self) -> Result<Vec<Host>, StoreError> {
        self.read_registry().await?;
        Ok(self.liveness().live_hosts(Instant::now()))
    }

    async fn endpoints(&self, host: &Host) -> Result<Vec<Endpoint>, StoreError> {
        self.read_endpoints(host).await
    }

    async fn offers(&self, host: &Host) -> Result<Vec<Offer>, StoreError> {
        self.read_offers(host).await
    }

    async fn ping(&self) -> Result<(), StoreError> {
        // Not PING: a server of a cluster that has lost a shard answers that
        // as if nothing were wrong, and refuses what is about a key.
        let mut commands = redis::pipe();
        commands.cmd("EXISTS").arg(layout::HOSTS).ignore();
        self.query("see whether it answers", &commands).await
    }
}

impl RedisStore {
    fn call_claim(&self, claim: &OwnClaim) -> ScriptCall {
        let jid = &claim.jid;
        let mut keys = vec![jid.clone(), layout::claims(jid), layout::deadlines(jid)];
        if !jid.contains('/') {
            keys.push(layout::home(jid));
        }
        ScriptCall {
            keys,
            arguments: vec![
                self.local.to_string(),
                claim.since.to_string(),
                self.lifetime().to_string(),
                u8::from(claim.fresh).to_string(),
            ],
        }
    }
}

/// The call of a script that is seldom run.
fn script(code: &str, keys: &[String]) -> Cmd {
    let mut command = redis::cmd("EVAL");
    command.arg(code).arg(keys.len()).arg(keys);
    command
}

/// What is under a JID's own key, and what is in its hash of claims.
fn read_claims(plain: Option<&str>, ours: &HashMap<String, String>) -> Vec<Claim> {
    let mut claims: Vec<Claim> = ours
        .iter()
        .filter_map(|(host, since)| {
            Some(Claim {
                host: read_host(host)?,
                since: since.parse().ok(),
            })
        })
        .collect();
    if let Some(host) = plain.and_then(read_host)
        && claims.iter().all(|claim| claim.host != host)
    {
        claims.push(Claim { host, since: None });
    }
    newest_first(&mut claims);
    claims
}

fn read_host(text: &str) -> Option<Host> {
    Host::new(text)
        .inspect_err(|error| tracing::warn!(%error, "skipping a host in Redis"))
        .ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Secret;

    fn config(url: &str) -> config::Redis {
        config::Redis {
            url: Secret::new(url.to_owned()),
            compat: config::Compat::Redis,
            tls: config::RedisTls::default(),
            expire_after: Duration::from_millis(1500),
            refresh_after: Duration::from_secs(1),
        }
    }

    fn store(url: &str) -> Result<RedisStore, StoreError> {
        RedisStore::new(
            Host::new("dc1.test").unwrap(),
            "gw1".to_owned(),
            &config(url),
        )
    }

    #[test]
    fn expiry_is_written_in_whole_seconds() {
        assert_eq!(store("redis://127.0.0.1:1").unwrap().lifetime(), 2);
    }

    #[tokio::test]
    async fn errors_name_the_server_and_never_the_password() {
        let error = store("redis://gateway:hunter2@127.0.0.1:1/0")
            .unwrap()
            .ping()
            .await
            .unwrap_err()
            .to_string();
        assert!(error.contains("127.0.0.1:1"), "{error}");
        assert!(!error.contains("hunter2"), "{error}");

        let error = store("http://gateway:hunter2@redis.test")
            .err()
            .unwrap()
            .to_string();
        assert!(error.contains("redis://"), "{error}");
        assert!(!error.contains("hunter2"), "{error}");
    }

    #[test]
    fn a_claim_that_says_no_time_comes_last() {
        let ours = HashMap::from([
            ("dc1.test".to_owned(), "1000".to_owned()),
            ("dc2.test".to_owned(), "2000".to_owned()),
            ("not a host".to_owned(), "3000".to_owned()),
        ]);
        let claims = read_claims(Some("dc3.test"), &ours);
        let hosts: Vec<_> = claims.iter().map(|claim| claim.host.as_str()).collect();
        assert_eq!(hosts, ["dc2.test", "dc1.test", "dc3.test"]);
        assert_eq!(claims[2].since, None);
        assert_eq!(read_claims(Some("dc2.test"), &ours).len(), 2);
    }
}
