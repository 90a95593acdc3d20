//! The store contract, kept with nothing but what Dynomite understands.

mod store_contract;
mod store_layout;
mod support;

use std::time::Duration;

use store_contract::host;
use store_layout::{LONG, Site, Table};
use strait::config::Compat;
use strait::store::Store;
use support::dynomite_stand_in::DynomiteStandIn;
use support::redis_server::Redis;
use support::workdir::Workdir;

struct Dynomite {
    proxy: DynomiteStandIn,
    compat: Compat,
    redis: Redis,
    _workdir: Workdir,
}

impl Site for Dynomite {
    fn url(&self) -> String {
        self.proxy.url()
    }

    fn compat(&self) -> Compat {
        self.compat
    }

    async fn ask<T: redis::FromRedisValue>(&self, command: &[&str]) -> T {
        self.redis.ask(command).await
    }

    fn check(&self) {
        if self.compat == Compat::Dynomite {
            self.proxy.assert_nothing_refused();
        }
    }
}

async fn table(expire_after: Duration) -> Table<Dynomite> {
    let workdir = Workdir::new("store-dynomite");
    let redis = Redis::start(&workdir).await;
    let site = Dynomite {
        proxy: DynomiteStandIn::start(redis.address()).await,
        compat: Compat::Dynomite,
        redis,
        _workdir: workdir,
    };
    Table { site, expire_after }
}

contract_tests!(tokio::test, table);
mongooseim_contract_tests!(tokio::test, table);
layout_tests!(table);

/// Otherwise the tests above would prove nothing.
#[tokio::test]
async fn without_compat_dynomite_closes_the_connection() {
    let mut table = table(LONG).await;
    table.site.compat = Compat::Redis;
    let store = table.store(&host("dc1.test"), "gw1");
    assert!(store.ping().await.is_err());
    let refused = table.site.proxy.refused();
    assert!(
        refused.iter().any(|it| it.starts_with("CLIENT SETINFO")),
        "{refused:?}"
    );
}
