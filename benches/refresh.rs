//! What it costs to keep a million sessions alive in a Redis on this machine.
//!
//! `cargo bench --bench refresh [-- SESSIONS]`. Prints how long one refresh of
//! everything takes at full speed, and what a period of `refresh_after` costs
//! when the gateway spreads it, as it does.

#[path = "../tests/support/mod.rs"]
mod support;

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use strait::config::{Accounts, Cache, Compat, Redis, RedisTls, Secret, Sources};
use strait::host::Host;
use strait::metrics::Metrics;
use strait::sessions::Sessions;
use strait::stanza::{Limits, Stanza};
use strait::store::{OwnClaim, RedisStore, Store};
use support::redis_server;
use support::workdir::Workdir;
use tokio_util::sync::CancellationToken;

const EXPIRE_AFTER: Duration = Duration::from_secs(120);
const REFRESH_AFTER: Duration = Duration::from_secs(60);

#[tokio::main]
async fn main() {
    let sessions = std::env::args()
        .filter_map(|argument| argument.parse().ok())
        .next_back()
        .unwrap_or(1_000_000);
    let workdir = Workdir::new("refresh");
    let redis = redis_server::Redis::start(&workdir).await;
    let config = Redis {
        url: Secret::new(redis.url()),
        compat: Compat::Redis,
        tls: RedisTls::default(),
        expire_after: EXPIRE_AFTER,
        refresh_after: REFRESH_AFTER,
    };
    let local = Host::new("dc1.example.com").expect("a host");
    let store = RedisStore::new(
        local.clone(),
        "gw1".to_owned(),
        &config,
        &Cache::default(),
        Arc::new(Metrics::new()),
    )
    .expect("a URL of Redis");
    let store: Arc<dyn Store> = Arc::new(store);
    full_speed(sessions, store.as_ref(), &redis).await;
    redis.ask::<()>(&["FLUSHALL", "ASYNC"]).await;
    spread(sessions, &config, local, store, &redis).await;
}

fn jid(number: usize) -> String {
    format!("user{number:07}@example.com/phone-{number:08x}")
}

/// Full JIDs only, in the batches of the gateway.
async fn full_speed(sessions: usize, store: &dyn Store, redis: &redis_server::Redis) {
    for (round, fresh) in [("first write", true), ("refresh", false)] {
        let (ours, theirs) = (cpu("self"), cpu(&pid(redis)));
        let started = Instant::now();
        for start in (0..sessions).step_by(500) {
            let claims: Vec<OwnClaim> = (start..sessions.min(start + 500))
                .map(|number| OwnClaim {
                    jid: jid(number),
                    since: 1_700_000_000_000,
                    fresh,
                })
                .collect();
            store.claim(&claims).await.expect("Redis takes claims");
        }
        println!(
            "{round} of {sessions} full JIDs at full speed: {:.1} s; CPU: gateway {:.1} s, Redis {:.1} s",
            started.elapsed().as_secs_f64(),
            cpu("self") - ours,
            cpu(&pid(redis)) - theirs
        );
    }
    let bytes: u64 = redis_memory(redis).await;
    println!("Redis: {} bytes per full JID", bytes / sessions as u64);
}

/// A full and a bare JID per session, refreshed by the gateway's own writer.
async fn spread(
    sessions: usize,
    config: &Redis,
    local: Host,
    store: Arc<dyn Store>,
    redis: &redis_server::Redis,
) {
    let cache = Cache::default();
    let metrics = Arc::new(Metrics::new());
    let table = Sessions::new(
        local,
        store,
        &cache,
        config.times(),
        Sources::Auto,
        Accounts::Shared,
        Arc::clone(&metrics),
    );
    let shutdown = CancellationToken::new();
    for number in 0..sessions {
        let presence = format!("<presence from='{}' to='example.com'/>", jid(number));
        let presence =
            Stanza::parse(Bytes::from(presence), &Limits::default()).expect("a presence");
        table.observe(&presence);
    }
    println!("gateway: {} MiB with {sessions} sessions", resident("self"));
    let started = Instant::now();
    let writer = tokio::spawn(Arc::clone(&table).run(shutdown.clone()));
    while redis.ask::<usize>(&["DBSIZE"]).await < sessions * 5 {
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    println!(
        "all written after {:.1} s; Redis: {} MiB, {} bytes per session",
        started.elapsed().as_secs_f64(),
        resident(&pid(redis)),
        redis_memory(redis).await / sessions as u64
    );
    // One period for those that the first write delayed, one to be measured.
    tokio::time::sleep(REFRESH_AFTER).await;
    let (ours, theirs) = (cpu("self"), cpu(&pid(redis)));
    let measured = Instant::now();
    let mut least = u64::MAX;
    while measured.elapsed() < REFRESH_AFTER {
        let number = fastrand::usize(0..sessions);
        let left: i64 = redis.ask(&["TTL", &jid(number)]).await;
        least = least.min(u64::try_from(left).unwrap_or(0));
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    println!(
        "a period of {REFRESH_AFTER:?}: CPU: gateway {:.1} s, Redis {:.1} s; the next to expire had {least} s left; \
         store up: {}; gateway: {} MiB",
        cpu("self") - ours,
        cpu(&pid(redis)) - theirs,
        metrics.store_up.get(),
        resident("self")
    );
    shutdown.cancel();
    writer.await.expect("the writer ends");
}

async fn redis_memory(redis: &redis_server::Redis) -> u64 {
    let info: String = redis.ask(&["INFO", "memory"]).await;
    let used = info
        .lines()
        .find_map(|line| line.strip_prefix("used_memory_dataset:"));
    used.and_then(|bytes| bytes.trim().parse().ok())
        .expect("used_memory_dataset")
}

fn pid(redis: &redis_server::Redis) -> String {
    redis.process.pid().expect("a running Redis").to_string()
}

/// Seconds of CPU time so far, at 100 ticks a second.
fn cpu(pid: &str) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).expect("a process");
    let after_name = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
    let fields: Vec<&str> = after_name.split_whitespace().collect();
    let ticks = |at: usize| fields[at].parse::<f64>().expect("ticks");
    (ticks(11) + ticks(12)) / 100.0
}

/// MiB in memory.
fn resident(pid: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("a process");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.split_whitespace().next());
    kib.and_then(|kib| kib.parse::<u64>().ok()).expect("VmRSS") / 1024
}
