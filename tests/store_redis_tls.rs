//! Redis over TLS, with a CA of its own and with certificates on both sides.

mod store_contract;
mod store_layout;
mod support;

use std::time::Duration;

use store_contract::host;
use store_layout::{LONG, Site, Table};
use strait::config::RedisTls;
use strait::store::Store;
use support::certs::{Authority, Identity};
use support::redis_server::{Access, Redis};
use support::workdir::Workdir;

struct Tls {
    redis: Redis,
    client: RedisTls,
    workdir: Workdir,
}

impl Site for Tls {
    fn url(&self) -> String {
        self.redis.url()
    }

    fn tls(&self) -> RedisTls {
        self.client.clone()
    }

    async fn ask<T: redis::FromRedisValue>(&self, command: &[&str]) -> T {
        self.redis.ask(command).await
    }
}

async fn table(expire_after: Duration) -> Table<Tls> {
    let workdir = Workdir::new("store-tls");
    let authority = Authority::new(&workdir.file("certs"), "redis");
    let Identity {
        certfile,
        keyfile,
        cacertfile,
    } = authority.issue("gateway.test");
    let access = Access {
        password: Some("correct-horse".to_owned()),
        tls: Some(authority.issue("localhost")),
    };
    let site = Tls {
        redis: Redis::start_with(&workdir, "redis", access, &[]).await,
        client: RedisTls {
            cacertfile: Some(cacertfile),
            identity: Some((certfile, keyfile)),
        },
        workdir,
    };
    Table { site, expire_after }
}

contract_tests!(tokio::test, table);
mongooseim_contract_tests!(tokio::test, table);
layout_tests!(table);

#[tokio::test]
async fn a_server_that_another_authority_signed_is_refused() {
    let mut table = table(LONG).await;
    let other = Authority::new(&table.site.workdir.file("certs"), "other");
    table.site.client.cacertfile = Some(other.cacertfile());
    let error = table.store(&host("dc1.test"), "gw1").ping().await;
    let error = error.unwrap_err().to_string();
    assert!(error.contains("certificate"), "{error}");

    // The public authorities have not signed it either.
    table.site.client.cacertfile = None;
    let error = table.store(&host("dc1.test"), "gw1").ping().await;
    let error = error.unwrap_err().to_string();
    assert!(error.contains("certificate"), "{error}");
}

#[tokio::test]
async fn a_server_that_wants_a_certificate_gets_none_and_refuses() {
    let mut table = table(LONG).await;
    table.site.client.identity = None;
    let store = table.store(&host("dc1.test"), "gw1");
    assert!(store.ping().await.is_err());
}
