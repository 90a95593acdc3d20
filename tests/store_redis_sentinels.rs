//! The store contract, kept by the master that Sentinels name, also when that
//! becomes another one.

mod store_contract;
mod store_layout;
mod support;

use std::time::Duration;

use store_contract::{began, host, refresh};
use store_layout::{FULL, LONG, Site, Table, new_store};
use strait::store::Store;
use support::patience::until;
use support::redis_sentinels::Sentinels;
use support::redis_server::Access;
use support::workdir::Workdir;

struct Watched {
    sentinels: Sentinels,
    _workdir: Workdir,
}

impl Site for Watched {
    fn url(&self) -> String {
        self.sentinels.url()
    }

    async fn ask<T: redis::FromRedisValue>(&self, command: &[&str]) -> T {
        self.sentinels.master().await.ask(command).await
    }
}

async fn watched_by(count: usize, expire_after: Duration) -> Table<Watched> {
    let workdir = Workdir::new("store-sentinels");
    let access = Access {
        password: Some("correct-horse".to_owned()),
        tls: None,
    };
    let site = Watched {
        sentinels: Sentinels::start(&workdir, count, access).await,
        _workdir: workdir,
    };
    Table { site, expire_after }
}

async fn table(expire_after: Duration) -> Table<Watched> {
    watched_by(1, expire_after).await
}

contract_tests!(tokio::test, table);
mongooseim_contract_tests!(tokio::test, table);
layout_tests!(table);

#[tokio::test]
async fn a_dead_master_is_followed_by_the_next() {
    let mut table = watched_by(3, LONG).await;
    let store = table.store(&host("dc1.test"), "gw1");
    store.claim(&[began(FULL, 1000)]).await.unwrap();
    table.site.sentinels.servers[0].process.kill9().await;
    until_written(&store).await;
    assert_eq!(store.claims(FULL).await.unwrap().len(), 1);
    let new = &table.site.sentinels.servers[1];
    assert_eq!(new.get(FULL).await.as_deref(), Some("dc1.test"));

    // The old one comes back, as a replica.
    table.site.sentinels.servers[0].start_again().await;
    store.claim(&[refresh(FULL, 1000)]).await.unwrap();
}

#[tokio::test]
async fn a_master_that_hangs_is_followed_by_the_next_and_by_no_other_after_that() {
    let table = watched_by(3, LONG).await;
    let store = table.store(&host("dc1.test"), "gw1");
    store.claim(&[began(FULL, 1000)]).await.unwrap();
    let [old, new] = &table.site.sentinels.servers;
    old.process.freeze();
    until_written(&store).await;
    assert_eq!(new.get(FULL).await.as_deref(), Some("dc1.test"));
    old.process.thaw();
    until("the old master to follow the new one", async || {
        store
            .claim(&[refresh(FULL, 1000)])
            .await
            .map_err(|error| error.to_string())?;
        let info: String = old.ask(&["INFO", "replication"]).await;
        let follows = info.contains("role:slave");
        follows.then_some(()).ok_or(info)
    })
    .await;
}

#[tokio::test]
async fn a_sentinel_that_hangs_is_passed_over() {
    let table = watched_by(3, LONG).await;
    table.site.sentinels.freeze_one();
    let store = table.store(&host("dc1.test"), "gw1");
    until_written(&store).await;
}

#[test]
fn errors_name_the_sentinels_and_never_the_password() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let config = strait::config::Redis {
        url: strait::config::Secret::new(
            "redis+sentinel://:hunter2@127.0.0.1:1,127.0.0.1:2/main?sentinel_password=hunter3"
                .to_owned(),
        ),
        compat: strait::config::Compat::Redis,
        tls: strait::config::RedisTls::default(),
        expire_after: LONG,
        refresh_after: LONG / 2,
    };
    let store = new_store(&host("dc1.test"), "gw1", &config);
    let error = runtime.block_on(store.ping()).unwrap_err().to_string();
    let named = "master main of the Sentinels 127.0.0.1:1,127.0.0.1:2";
    assert!(error.contains(named), "{error}");
    assert!(!error.contains("hunter"), "{error}");
}

async fn until_written(store: &impl Store) {
    until("the claim to be written", async || {
        let written = store.claim(&[refresh(FULL, 1000)]).await;
        written.map_err(|error| error.to_string())
    })
    .await;
}
