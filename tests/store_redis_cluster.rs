//! The store contract, kept by a Redis Cluster of three shards, also when one
//! of them loses its master.

mod store_contract;
mod store_layout;
mod support;

use std::time::Duration;

use store_contract::{announcement, began, host, refresh};
use store_layout::{FULL, LONG, Site, Table};
use strait::store::Store;
use support::patience::until;
use support::redis_cluster::RedisCluster;
use support::redis_server::Access;
use support::workdir::Workdir;

struct Shards {
    cluster: RedisCluster,
    _workdir: Workdir,
}

impl Site for Shards {
    fn url(&self) -> String {
        self.cluster.url()
    }

    async fn ask<T: redis::FromRedisValue>(&self, command: &[&str]) -> T {
        let mut asked = redis::cmd(command[0]);
        asked.arg(&command[1..]);
        let mut client = self.cluster.client().await;
        let answer = asked.query_async(&mut client).await;
        answer.unwrap_or_else(|error| panic!("{command:?}: {error}"))
    }
}

async fn with_replicas(replicas: usize, expire_after: Duration) -> Table<Shards> {
    let workdir = Workdir::new("store-cluster");
    let access = Access {
        password: Some("correct-horse".to_owned()),
        tls: None,
    };
    let site = Shards {
        cluster: RedisCluster::start(&workdir, replicas, access).await,
        _workdir: workdir,
    };
    Table { site, expire_after }
}

async fn table(expire_after: Duration) -> Table<Shards> {
    with_replicas(0, expire_after).await
}

contract_tests!(tokio::test, table);
mongooseim_contract_tests!(tokio::test, table);
layout_tests!(table);

#[tokio::test]
async fn users_spread_over_all_shards_and_one_users_keys_stay_together() {
    let table = table(LONG).await;
    let store = table.store(&host("dc1.test"), "gw1");
    store.announce(&announcement(&[])).await.unwrap();
    let claims: Vec<_> = (0..300)
        .map(|n| began(&format!("u{n}@example.test"), 1))
        .collect();
    store.claim(&claims).await.unwrap();
    for server in &table.site.cluster.servers {
        let keys = server.keys().await;
        let users = keys.iter().filter(|key| key.starts_with('u')).count();
        assert!((50..=150).contains(&users), "{users} users on one shard");
        for key in keys.iter().filter(|key| key.starts_with('u')) {
            assert!(keys.contains(&format!("{{{key}}}#claims")), "{key}");
            assert!(keys.contains(&format!("{{{key}}}#home")), "{key}");
        }
    }
}

#[tokio::test]
async fn a_dead_master_of_a_shard_is_followed_by_its_replica() {
    let mut table = with_replicas(1, LONG).await;
    let store = table.store(&host("dc1.test"), "gw1");
    store.claim(&[began(FULL, 1000)]).await.unwrap();
    let master = table.site.cluster.master_of(FULL).await;
    table.site.cluster.servers[master].process.kill9().await;
    until_written(&store).await;
    // One node may learn of the new master later than another.
    let claims = until("the claim to be read", async || {
        store.claims(FULL).await.map_err(|error| error.to_string())
    });
    assert_eq!(claims.await.len(), 1);
    table.site.cluster.servers[master].start_again().await;
    store.claim(&[refresh(FULL, 1000)]).await.unwrap();
}

#[tokio::test]
async fn a_master_of_a_shard_that_hangs_is_followed_by_its_replica() {
    let table = with_replicas(1, LONG).await;
    let store = table.store(&host("dc1.test"), "gw1");
    store.claim(&[began(FULL, 1000)]).await.unwrap();
    let master = table.site.cluster.master_of(FULL).await;
    table.site.cluster.servers[master].process.freeze();
    until_written(&store).await;
    // One node may learn of the new master later than another.
    let claims = until("the claim to be read", async || {
        store.claims(FULL).await.map_err(|error| error.to_string())
    });
    assert_eq!(claims.await.len(), 1);
}

#[tokio::test]
async fn works_again_when_the_whole_cluster_is_back() {
    let mut table = table(LONG).await;
    let store = table.store(&host("dc1.test"), "gw1");
    store.claim(&[began(FULL, 1000)]).await.unwrap();
    for server in &mut table.site.cluster.servers {
        server.process.kill9().await;
    }
    let error = store.ping().await.unwrap_err().to_string();
    assert!(error.contains("the cluster of 127.0.0.1:"), "{error}");
    assert!(!error.contains("correct-horse"), "{error}");
    for server in &mut table.site.cluster.servers {
        server.start_again().await;
    }
    until_written(&store).await;
    // One node may learn of the new master later than another.
    let claims = until("the claim to be read", async || {
        store.claims(FULL).await.map_err(|error| error.to_string())
    });
    assert_eq!(claims.await.len(), 1);
}

#[tokio::test]
async fn a_ping_notices_one_shard_that_is_gone() {
    let mut table = table(LONG).await;
    let store = table.store(&host("dc1.test"), "gw1");
    store.ping().await.unwrap();
    table.site.cluster.servers[2].process.kill9().await;
    until("the others to notice", async || match store.ping().await {
        Ok(()) => Err("all is well".to_owned()),
        Err(_) => Ok(()),
    })
    .await;
}

async fn until_written(store: &impl Store) {
    until("the claim to be written", async || {
        let written = store.claim(&[refresh(FULL, 1000)]).await;
        written.map_err(|error| error.to_string())
    })
    .await;
}
