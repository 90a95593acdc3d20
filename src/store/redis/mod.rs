//! The table in Redis, in mod_global_distrib's layout.

mod connection;
mod layout;
mod liveness;
mod lookup_cache;
mod registry;
mod script;
mod site;
mod wire;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use parking_lot::{Mutex, MutexGuard};
use redis::{Cmd, FromRedisValue, Pipeline, RedisError, RedisResult, Value};
use tokio::time::Instant;

use self::connection::RedisConnection;
use self::liveness::NodeLiveness;
use self::lookup_cache::LookupCache;
use self::script::{CachedScript, ScriptCall};
use self::site::RedisSite;
use super::{
    Announcement, Claim, Located, Offer, OwnClaim, RefusedClaim, Store, StoreError, bare_of,
    is_full, newest_first,
};
use crate::config::{self, Endpoint, RedisUrl};
use crate::host::Host;
use crate::metrics::Metrics;

const TAKE_KEY: &str = include_str!("take_key.lua");
const RELEASE_KEY: &str = include_str!("release_key.lua");

/// Upper bound of the JIDs in one write.
const BATCH: usize = 500;
/// Age of the last read of the registry above which a host that it doesn't list may just have
/// joined.
const RECENTLY: Duration = Duration::from_secs(1);
/// Age of the last read of the registry above which it no longer counts.
const LONG_AGO: Duration = Duration::from_secs(10);

/// Lifetime of a home since its host's last claim or the last look-up that needed it: anonymous
/// log-ins leave a home each.
const HOME_LIFETIME: Duration = Duration::from_secs(30 * 24 * 3600);

/// The session table and the registry in Redis, seen by one node of one host.
///
/// Connects at its first use, and again whenever that is needed: while Redis is unreachable, every
/// operation fails within about a second, and the first one after its return succeeds.
pub struct RedisStore {
    local: Host,
    node: String,
    expire_after: Duration,
    address: String,
    connection: RedisConnection,
    claim: CachedScript,
    withdraw: CachedScript,
    take: CachedScript,
    release: CachedScript,
    cache: LookupCache,
    liveness: Mutex<NodeLiveness>,
    /// Whether a name belongs to its home alone, which then does not expire.
    homes_own: bool,
}

impl RedisStore {
    /// Creates the store of the node `node` of the host `local`. Doesn't connect yet.
    ///
    /// # Errors
    /// When `redis.url` is not one of Redis, or a file of `[redis]` can't be read.
    pub fn new(
        local: Host,
        node: String,
        config: &config::Redis,
        cache: &config::Cache,
        metrics: Arc<Metrics>,
    ) -> Result<Self, StoreError> {
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
            take: CachedScript::new(TAKE_KEY, config.compat),
            release: CachedScript::new(RELEASE_KEY, config.compat),
            cache: LookupCache::new(cache, metrics),
            liveness: Mutex::new(NodeLiveness::new(config.expire_after)),
            homes_own: false,
        })
    }

    /// With `accounts = "unique"`: claims by other hosts than the home of a JID do not count.
    #[must_use]
    pub fn with_unique_accounts(self) -> Self {
        Self {
            homes_own: true,
            ..self
        }
    }

    /// In seconds, as the scripts take it; 0 for a home that does not expire.
    fn home_lifetime(&self) -> u64 {
        if self.homes_own {
            0
        } else {
            HOME_LIFETIME.as_secs()
        }
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

    /// Runs one command and reads its answer.
    async fn ask<T: FromRedisValue>(&self, purpose: &str, command: Cmd) -> Result<T, StoreError> {
        let mut commands = redis::pipe();
        commands.add_command(command);
        let (answer,) = self.query(purpose, &commands).await?;
        Ok(answer)
    }

    /// Runs `script` once for each of `calls`; returns those that were refused.
    async fn run(
        &self,
        purpose: &str,
        script: &CachedScript,
        calls: Vec<ScriptCall>,
    ) -> Result<Vec<RefusedClaim>, StoreError> {
        let (mut unknown, mut refused) = (calls, Vec::new());
        for commands in [CachedScript::by_hash, CachedScript::whole] {
            let Some(commands) = commands(script, &unknown) else {
                continue;
            };
            let results: Vec<RedisResult<()>> = self.query(purpose, &commands).await?;
            let results = std::mem::take(&mut unknown).into_iter().zip(results);
            for (call, result) in results {
                match result {
                    Ok(()) => {}
                    Err(error) if script::is_unknown(&error) => unknown.push(call),
                    Err(error) => refused.push(RefusedClaim {
                        jid: call.jid,
                        reason: self.explain(purpose, &error).0,
                    }),
                }
            }
            if unknown.is_empty() {
                break;
            }
        }
        Ok(refused)
    }

    fn explain(&self, purpose: &str, error: &RedisError) -> StoreError {
        StoreError(format!(
            "Redis at {} could not be used to {purpose}: {error}",
            self.address
        ))
    }

    fn liveness(&self) -> MutexGuard<'_, NodeLiveness> {
        self.liveness.lock()
    }

    /// Removes the claims of other hosts without a live node.
    async fn only_live(&self, mut claims: [Vec<Claim>; 2]) -> [Vec<Claim>; 2] {
        let theirs = || claims.iter().flatten().filter(|it| it.host != self.local);
        if theirs().next().is_none() {
            return claims;
        }
        let age = {
            let (now, liveness) = (Instant::now(), self.liveness());
            let is_known = theirs().all(|claim| liveness.is_live(&claim.host, now));
            let age = liveness
                .read_at()
                .map(|at| now.saturating_duration_since(at));
            age.filter(|age| is_known || *age <= RECENTLY)
        };
        if age.is_none_or(|age| age > LONG_AGO)
            && let Err(error) = self.read_registry().await
        {
            tracing::debug!(%error, "the registry is not readable; all hosts count as live");
            return claims;
        }
        let (now, liveness) = (Instant::now(), self.liveness());
        for claims in &mut claims {
            claims.retain(|claim| claim.host == self.local || liveness.is_live(&claim.host, now));
        }
        claims
    }
}

#[async_trait]
impl Store for RedisStore {
    async fn read(&self, jid: &str) -> Result<Located, StoreError> {
        let bare = bare_of(jid);
        let mut commands = redis::pipe();
        let mut jids = vec![bare];
        if is_full(jid) {
            jids.push(jid);
        }
        let owners: Vec<Vec<String>> = jids.iter().map(|jid| layout::owners(jid)).collect();
        for (jid, owners) in jids.iter().zip(&owners) {
            commands.cmd("HGETALL").arg(layout::claims(jid));
            for key in owners {
                commands.cmd("GET").arg(key);
            }
        }
        commands.cmd("GET").arg(layout::home(bare));
        // A value of another type is no claim.
        commands.ignore_errors();
        let answers: Vec<RedisResult<Value>> = self.query("look a JID up", &commands).await?;
        let mut answers = answers.into_iter().map(|it| it.unwrap_or(Value::Nil));
        let mut claims = owners
            .iter()
            .map(|keys| read_claims(&mut answers, keys.len()));
        let claims = [claims.next(), claims.next()].map(Option::unwrap_or_default);
        let home = answers.next().and_then(read_host_value);
        let [mut bares, mut full] = self.only_live(claims).await;
        if let Some(home) = home.as_ref().filter(|_| self.homes_own) {
            for claims in [&mut bares, &mut full] {
                claims.retain(|claim| claim.host == *home);
            }
        }
        if bares.is_empty() && home.is_some() && !self.homes_own {
            let expire = Cmd::expire(layout::home(bare), HOME_LIFETIME.as_secs() as i64);
            // A failure shortens the home's lifetime, and a look-up must not fail for that.
            let _ = self.ask::<()>("keep a home", expire).await;
        }
        Ok(Located {
            full,
            bare: bares,
            home,
            outdated: None,
        })
    }

    fn lookup_now(&self, jid: &str) -> Option<Located> {
        self.cache.fresh(jid)
    }

    async fn lookup(&self, jid: &str) -> Located {
        self.cache.lookup(jid, self.read(jid)).await
    }

    fn invalidate(&self, jid: &str, age: Duration) {
        self.cache.invalidate(jid, age);
    }

    async fn settle(&self, bares: &[String]) -> Result<Vec<Option<Host>>, StoreError> {
        let mut homes = Vec::with_capacity(bares.len());
        for batch in bares.chunks(BATCH) {
            let mut commands = redis::pipe();
            for bare in batch {
                let key = layout::home(bare);
                let set = commands.cmd("SET").arg(&key).arg(self.local.as_str());
                set.arg("NX").ignore();
                if !self.homes_own {
                    commands
                        .expire(&key, HOME_LIFETIME.as_secs() as i64)
                        .ignore();
                }
                commands.cmd("GET").arg(&key);
            }
            // A value of another type belongs to its writer, and to no host known here.
            commands.ignore_errors();
            let found: Vec<RedisResult<String>> = self.query("settle homes", &commands).await?;
            homes.extend(found.iter().map(|home| read_host(home.as_ref().ok()?)));
        }
        Ok(homes)
    }

    async fn claim(&self, claims: &[OwnClaim]) -> Result<Vec<RefusedClaim>, StoreError> {
        let (purpose, mut refused) = ("claim JIDs", Vec::new());
        for batch in claims.chunks(BATCH) {
            let calls = batch.iter().map(|claim| self.call_claim(claim)).collect();
            refused.extend(self.run(purpose, &self.claim, calls).await?);
            let calls = batch.iter().filter_map(|claim| self.call_take(claim));
            refused.extend(self.run(purpose, &self.take, calls.collect()).await?);
        }
        Ok(refused)
    }

    async fn withdraw(&self, jids: &[String]) -> Result<Vec<RefusedClaim>, StoreError> {
        let (purpose, mut refused) = ("withdraw claims", Vec::new());
        let call = |jid: &String, keys| ScriptCall {
            jid: jid.clone(),
            keys,
            arguments: vec![self.local.to_string()],
        };
        for batch in jids.chunks(BATCH) {
            let calls = batch.iter().map(|jid| call(jid, layout::script_keys(jid)));
            refused.extend(self.run(purpose, &self.withdraw, calls.collect()).await?);
            let apart = batch.iter().filter(|jid| layout::apart(jid).is_some());
            let calls = apart.map(|jid| call(jid, vec![jid.clone()]));
            refused.extend(self.run(purpose, &self.release, calls.collect()).await?);
        }
        Ok(refused)
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
        // EXISTS replaces PING: a server of a cluster that has lost a shard answers PING as if
        // nothing were wrong, and refuses commands about a key.
        self.ask("see whether it answers", Cmd::exists(layout::HOSTS))
            .await
    }
}

impl RedisStore {
    fn call_claim(&self, claim: &OwnClaim) -> ScriptCall {
        let jid = &claim.jid;
        let mut keys = layout::script_keys(jid);
        if !is_full(jid) {
            keys.push(layout::home(jid));
        }
        ScriptCall {
            jid: jid.clone(),
            keys,
            arguments: vec![
                self.local.to_string(),
                claim.since.to_string(),
                self.lifetime().to_string(),
                u8::from(claim.fresh).to_string(),
                self.home_lifetime().to_string(),
            ],
        }
    }

    fn call_take(&self, claim: &OwnClaim) -> Option<ScriptCall> {
        let key = layout::apart(&claim.jid)?.to_owned();
        Some(ScriptCall {
            jid: claim.jid.clone(),
            keys: vec![key],
            arguments: vec![
                self.local.to_string(),
                self.lifetime().to_string(),
                u8::from(claim.fresh).to_string(),
            ],
        })
    }
}

/// The call of a script that is seldom run.
fn script(code: &str, keys: &[String]) -> Cmd {
    let mut command = redis::cmd("EVAL");
    command.arg(code).arg(keys.len()).arg(keys);
    command
}

/// Reads the next answers: the hash of claims, and `owners` names of hosts.
fn read_claims(answers: &mut impl Iterator<Item = Value>, owners: usize) -> Vec<Claim> {
    let ours = answers.next().unwrap_or(Value::Nil);
    let ours: HashMap<String, String> = redis::from_redis_value(ours).unwrap_or_default();
    let mut claims: Vec<Claim> = ours
        .iter()
        .filter_map(|(host, since)| {
            Some(Claim {
                host: read_host(host)?,
                since: since.parse().ok(),
            })
        })
        .collect();
    for host in answers.take(owners).filter_map(read_host_value) {
        if claims.iter().all(|claim| claim.host != host) {
            claims.push(Claim { host, since: None });
        }
    }
    newest_first(&mut claims);
    claims
}

fn read_host_value(value: Value) -> Option<Host> {
    let text: Option<String> = redis::from_redis_value(value).ok()?;
    read_host(&text?)
}

fn read_host(text: &str) -> Option<Host> {
    Host::new(text)
        .inspect_err(|error| tracing::warn!(%error, "skipping a host in Redis"))
        .ok()
}

/// The readers of answers, for `fuzz/`.
#[cfg(any(test, fuzzing))]
pub fn fuzz_redis_answer(bytes: &[u8]) {
    let Ok(value) = redis::parse_redis_value(bytes) else {
        return;
    };
    let answers = redis::from_redis_value::<Vec<Value>>(value.clone());
    let mut answers = answers.unwrap_or_default().into_iter();
    let _ = read_claims(&mut answers, 2);
    let _ = answers.next().and_then(read_host_value);
    if let Ok(texts) = redis::from_redis_value::<Vec<String>>(value) {
        let endpoints = texts.iter().filter_map(|text| layout::read_endpoint(text));
        endpoints.for_each(|endpoint| drop(layout::write_endpoint(&endpoint)));
    }
}

#[cfg(test)]
mod tests;
