//! What every store must do, whatever it keeps its data in.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use strait::config::Endpoint;
use strait::host::Host;
use strait::store::{Announcement, Claim, Offer, OwnClaim, Store};

/// `expire_after` where something must expire.
pub const EXPIRE_AFTER: Duration = Duration::from_secs(2);

/// `expire_after` where nothing may, however busy the machine is.
pub const NEVER: Duration = Duration::from_secs(120);

/// No host at all.
pub const NOBODY: [Host; 0] = [];

const FULL: &str = "alice@example.test/phone";
const BARE: &str = "alice@example.test";

/// A fresh, empty table.
// Not every store has a MongooseIM beside it.
#[allow(dead_code)]
pub trait Bench {
    fn store(&self, host: &Host, node: &str) -> Arc<dyn Store>;
    fn write_as_mongooseim(&self, jid: &str, host: &Host) -> impl Future<Output = ()>;
    fn read_as_mongooseim(&self, jid: &str) -> impl Future<Output = Option<String>>;
}

pub fn host(name: &str) -> Host {
    Host::new(name).unwrap()
}

fn dc1() -> Host {
    host("dc1.test")
}

fn dc2() -> Host {
    host("dc2.test")
}

pub fn began(jid: &str, since: u64) -> OwnClaim {
    OwnClaim {
        jid: jid.to_owned(),
        since,
        fresh: true,
    }
}

pub fn refresh(jid: &str, since: u64) -> OwnClaim {
    OwnClaim {
        fresh: false,
        ..began(jid, since)
    }
}

pub fn announcement(endpoints: &[(&str, u16)]) -> Announcement {
    Announcement {
        endpoints: endpoints
            .iter()
            .map(|(host, port)| Endpoint {
                host: (*host).to_owned(),
                port: *port,
            })
            .collect(),
        offers: Vec::new(),
    }
}

pub fn offer(domain: &str, hidden: bool) -> Offer {
    Offer {
        domain: host(domain),
        hidden,
    }
}

pub fn offering(offers: &[Offer]) -> Announcement {
    Announcement {
        offers: offers.to_vec(),
        ..announcement(&[])
    }
}

/// Two hosts with a live node each.
async fn pair(bench: &impl Bench) -> (Arc<dyn Store>, Arc<dyn Store>) {
    let (one, two) = (bench.store(&dc1(), "gw1"), bench.store(&dc2(), "gw1"));
    for store in [&one, &two] {
        store.announce(&announcement(&[])).await.unwrap();
    }
    (one, two)
}

async fn hosts_of(store: &Arc<dyn Store>, jid: &str) -> Vec<Host> {
    let claims = store.claims(jid).await.unwrap();
    claims.into_iter().map(|claim| claim.host).collect()
}

async fn home(store: &Arc<dyn Store>, bare: &str) -> Option<Host> {
    store.read(bare).await.unwrap().home
}

/// Waits until `fact` holds; fails after ten times `EXPIRE_AFTER`.
async fn until<F: Future<Output = bool>>(what: &str, mut fact: impl FnMut() -> F) {
    let holds = async {
        while !fact().await {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(10 * EXPIRE_AFTER, holds)
        .await
        .unwrap_or_else(|_| panic!("waited in vain until {what}"));
}

pub async fn claims_are_told_newest_first(bench: impl Bench) {
    let (one, two) = pair(&bench).await;
    assert_eq!(one.claims(FULL).await.unwrap(), []);
    one.claim(&[began(FULL, 1000)]).await.unwrap();
    two.claim(&[began(FULL, 2000), began(BARE, 500)])
        .await
        .unwrap();

    let expected = [(dc2(), 2000), (dc1(), 1000)].map(|(host, since)| Claim {
        host,
        since: Some(since),
    });
    assert_eq!(one.claims(FULL).await.unwrap(), expected);
    assert_eq!(two.claims(FULL).await.unwrap(), expected);
    assert_eq!(hosts_of(&one, BARE).await, [dc2()]);
}

pub async fn a_refresh_never_overwrites_a_newer_claim(bench: impl Bench) {
    let (one, two) = pair(&bench).await;
    one.claim(&[began(FULL, 1000)]).await.unwrap();
    two.claim(&[began(FULL, 2000)]).await.unwrap();
    one.claim(&[refresh(FULL, 1000)]).await.unwrap();
    assert_eq!(hosts_of(&one, FULL).await, [dc2(), dc1()]);
    assert_eq!(
        bench.read_as_mongooseim(FULL).await.as_deref(),
        Some("dc2.test")
    );
    // Neither does a new claim that only comes late.
    one.claim(&[began(FULL, 1500)]).await.unwrap();
    assert_eq!(
        bench.read_as_mongooseim(FULL).await.as_deref(),
        Some("dc2.test")
    );
    one.claim(&[began(FULL, 3000)]).await.unwrap();
    assert_eq!(
        bench.read_as_mongooseim(FULL).await.as_deref(),
        Some("dc1.test")
    );
}

#[allow(dead_code)]
pub async fn a_mongooseim_counts_and_only_a_new_claim_takes_over(bench: impl Bench) {
    let (one, two) = pair(&bench).await;
    one.claim(&[began(FULL, 1000)]).await.unwrap();
    bench.write_as_mongooseim(FULL, &dc2()).await;
    let claims = two.claims(FULL).await.unwrap();
    assert_eq!(claims.len(), 2, "{claims:?}");
    assert!(
        claims.contains(&Claim {
            host: dc2(),
            since: None
        }),
        "{claims:?}"
    );

    one.claim(&[refresh(FULL, 1000)]).await.unwrap();
    assert_eq!(
        bench.read_as_mongooseim(FULL).await.as_deref(),
        Some("dc2.test")
    );
    one.claim(&[began(FULL, 3000)]).await.unwrap();
    assert_eq!(
        bench.read_as_mongooseim(FULL).await.as_deref(),
        Some("dc1.test")
    );
}

pub async fn a_withdrawal_takes_only_ones_own(bench: impl Bench) {
    let (one, two) = pair(&bench).await;
    one.claim(&[began(FULL, 1000)]).await.unwrap();
    two.claim(&[began(FULL, 2000)]).await.unwrap();
    two.withdraw(&[FULL.to_owned()]).await.unwrap();
    assert_eq!(hosts_of(&two, FULL).await, [dc1()]);
    assert_eq!(
        bench.read_as_mongooseim(FULL).await.as_deref(),
        Some("dc1.test")
    );
    two.withdraw(&[FULL.to_owned(), BARE.to_owned()])
        .await
        .unwrap();
    assert_eq!(hosts_of(&two, FULL).await, [dc1()]);
    one.withdraw(&[FULL.to_owned()]).await.unwrap();
    assert_eq!(hosts_of(&one, FULL).await, NOBODY);
    assert_eq!(bench.read_as_mongooseim(FULL).await, None);
}

pub async fn the_home_is_the_last_host_and_stays(bench: impl Bench) {
    let (one, two) = pair(&bench).await;
    assert_eq!(home(&one, BARE).await, None);
    one.claim(&[began(BARE, 1000), began(FULL, 1000)])
        .await
        .unwrap();
    two.claim(&[began(BARE, 2000)]).await.unwrap();
    one.claim(&[refresh(BARE, 1000)]).await.unwrap();
    assert_eq!(home(&one, BARE).await, Some(dc2()));
    one.withdraw(&[BARE.to_owned()]).await.unwrap();
    two.withdraw(&[BARE.to_owned()]).await.unwrap();
    assert_eq!(home(&one, BARE).await, Some(dc2()));
}

pub async fn a_home_is_settled_only_where_there_is_none(bench: impl Bench) {
    let (one, two) = pair(&bench).await;
    let mut users = vec![BARE.to_owned(), "erin@example.test".to_owned()];
    two.claim(&[began(BARE, 1000)]).await.unwrap();
    let both = [Some(dc2()), Some(dc1())];
    assert_eq!(one.settle(&users).await.unwrap(), both);
    assert_eq!(two.settle(&users).await.unwrap(), both);
    assert_eq!(home(&two, &users[1]).await, Some(dc1()));
    assert_eq!(one.settle(&[]).await.unwrap(), []);
    // More than one call's worth, spread over all shards, in order.
    users.extend((0..700).map(|n| format!("u{n}@example.test")));
    let homes = two.settle(&users).await.unwrap();
    assert_eq!(homes[..2], both);
    assert!(
        homes[2..].iter().all(|home| *home == Some(dc2())),
        "{homes:?}"
    );
    assert_eq!(homes.len(), 702);
}

// Only of stores where a claim is a lease.
#[allow(dead_code)]
pub async fn what_nobody_refreshes_expires(bench: impl Bench) {
    let (one, two) = pair(&bench).await;
    one.claim(&[began(FULL, 1000)]).await.unwrap();
    two.claim(&[began(FULL, 2000)]).await.unwrap();
    // dc1 goes on, dc2 falls silent: its nodes may live, its claim may not.
    until("the claim that nobody refreshes is gone", async || {
        one.claim(&[refresh(FULL, 1000)]).await.unwrap();
        two.announce(&announcement(&[])).await.unwrap();
        hosts_of(&one, FULL).await == [dc1()]
    })
    .await;
    until("nothing is left", async || {
        hosts_of(&one, FULL).await.is_empty()
    })
    .await;
    assert_eq!(bench.read_as_mongooseim(FULL).await, None);
}

pub async fn claims_of_hosts_without_a_live_node_do_not_count(bench: impl Bench) {
    let (one, two) = pair(&bench).await;
    two.claim(&[began(FULL, 1000)]).await.unwrap();
    assert_eq!(hosts_of(&one, FULL).await, [dc2()]);
    until("dc2 is taken for dead", async || {
        two.claim(&[refresh(FULL, 1000)]).await.unwrap();
        hosts_of(&one, FULL).await.is_empty()
    })
    .await;
    // What a host claims itself counts for it, announced or not.
    assert_eq!(hosts_of(&two, FULL).await, [dc2()]);
    two.announce(&announcement(&[])).await.unwrap();
    until("dc2 is back", async || {
        two.claim(&[refresh(FULL, 1000)]).await.unwrap();
        hosts_of(&one, FULL).await == [dc2()]
    })
    .await;
}

pub async fn hosts_are_those_with_a_live_node(bench: impl Bench) {
    let (one, two) = pair(&bench).await;
    let second = bench.store(&dc2(), "gw2");
    second.announce(&announcement(&[])).await.unwrap();
    assert_eq!(one.hosts().await.unwrap(), [dc1(), dc2()]);
    two.retire().await.unwrap();
    assert_eq!(one.hosts().await.unwrap(), [dc1(), dc2()]);
    second.retire().await.unwrap();
    assert_eq!(one.hosts().await.unwrap(), [dc1()]);
    until("nobody is left", async || {
        two.hosts().await.unwrap().is_empty()
    })
    .await;
}

pub async fn endpoints_are_those_of_all_live_nodes(bench: impl Bench) {
    let (one, two) = pair(&bench).await;
    let second = bench.store(&dc2(), "gw2");
    let texts = async |store: &Arc<dyn Store>| -> Vec<String> {
        let endpoints = store.endpoints(&dc2()).await.unwrap();
        endpoints.iter().map(ToString::to_string).collect()
    };
    assert_eq!(texts(&one).await, [""; 0]);
    let (v4, v6) = (("10.0.0.2", 5555), ("2001:db8::2", 5555));
    two.announce(&announcement(&[v6, v4])).await.unwrap();
    second
        .announce(&announcement(&[v4, ("gw2.dc2.test", 1)]))
        .await
        .unwrap();
    let all = ["10.0.0.2:5555", "[2001:db8::2]:5555", "gw2.dc2.test:1"];
    assert_eq!(texts(&one).await, all);
    two.announce(&announcement(&[v6])).await.unwrap();
    second.announce(&announcement(&[v4])).await.unwrap();
    assert_eq!(texts(&one).await, all[..2]);
    second.retire().await.unwrap();
    assert_eq!(texts(&one).await, all[1..2]);
}

pub async fn offers_are_those_of_all_live_nodes(bench: impl Bench) {
    let (one, two) = pair(&bench).await;
    let second = bench.store(&dc2(), "gw2");
    let of_dc2 = async || one.offers(&dc2()).await.unwrap();
    assert_eq!(of_dc2().await, []);
    let (muc, upload) = ("muc.example.test", "upload.example.test");
    two.announce(&offering(&[offer(upload, true), offer(muc, true)]))
        .await
        .unwrap();
    assert_eq!(of_dc2().await, [offer(muc, true), offer(upload, true)]);
    assert_eq!(one.offers(&dc1()).await.unwrap(), []);

    // Whoever may see it at one node may see it.
    second
        .announce(&offering(&[offer(muc, false)]))
        .await
        .unwrap();
    assert_eq!(of_dc2().await, [offer(muc, false), offer(upload, true)]);
    two.announce(&offering(&[offer(muc, true)])).await.unwrap();
    assert_eq!(of_dc2().await, [offer(muc, false)]);
    second.retire().await.unwrap();
    assert_eq!(of_dc2().await, [offer(muc, true)]);
    two.announce(&offering(&[])).await.unwrap();
    assert_eq!(of_dc2().await, []);
}

#[allow(dead_code)]
pub async fn a_mongooseim_finds_the_host_of_a_service(bench: impl Bench) {
    let (one, two) = pair(&bench).await;
    let second = bench.store(&dc2(), "gw2");
    let (muc, upload) = ("muc.example.test", "upload.example.test");
    let found = async |domain: &str| bench.read_as_mongooseim(domain).await;
    two.announce(&offering(&[offer(muc, false), offer(upload, true)]))
        .await
        .unwrap();
    second
        .announce(&offering(&[offer(muc, false)]))
        .await
        .unwrap();
    // Whose it is it stays, however often another host offers it too.
    one.announce(&offering(&[offer(muc, false)])).await.unwrap();
    for domain in [muc, upload] {
        assert_eq!(found(domain).await.as_deref(), Some("dc2.test"));
    }

    // It goes with the last node that offers it, and only with that.
    one.retire().await.unwrap();
    two.retire().await.unwrap();
    assert_eq!(found(muc).await.as_deref(), Some("dc2.test"));
    assert_eq!(found(upload).await, None);
    second.retire().await.unwrap();
    assert_eq!(found(muc).await, None);
    one.announce(&offering(&[offer(muc, false)])).await.unwrap();
    assert_eq!(found(muc).await.as_deref(), Some("dc1.test"));
}

pub async fn offers_of_a_dead_node_expire(bench: impl Bench) {
    let (one, two) = pair(&bench).await;
    let muc = "muc.example.test";
    let offers = offering(&[offer(muc, false)]);
    two.announce(&offers).await.unwrap();
    until("a dead node offers nothing", async || {
        one.announce(&announcement(&[])).await.unwrap();
        one.offers(&dc2()).await.unwrap().is_empty()
    })
    .await;
    until("a MongooseIM finds nobody", async || {
        bench.read_as_mongooseim(muc).await.is_none()
    })
    .await;
    two.announce(&offers).await.unwrap();
    assert_eq!(one.offers(&dc2()).await.unwrap(), offers.offers);
}

pub async fn many_claims_go_in_one_call(bench: impl Bench) {
    let (one, _) = pair(&bench).await;
    let jids: Vec<String> = (0..1201).map(|n| format!("u{n}@example.test")).collect();
    let claims: Vec<OwnClaim> = jids.iter().map(|jid| began(jid, 1)).collect();
    one.claim(&claims).await.unwrap();
    assert_eq!(hosts_of(&one, &jids[1200]).await, [dc1()]);
    one.withdraw(&jids).await.unwrap();
    assert_eq!(hosts_of(&one, &jids[0]).await, NOBODY);
    assert_eq!(hosts_of(&one, &jids[1200]).await, NOBODY);
}

/// Makes a test of each rule for a store that a MongooseIM may share.
#[macro_export]
macro_rules! mongooseim_contract_tests {
    ($attribute:meta, $bench:path) => {
        contract_tests! { @each $attribute, $bench, $crate::store_contract::NEVER,
            a_mongooseim_counts_and_only_a_new_claim_takes_over,
            a_mongooseim_finds_the_host_of_a_service,
        }
    };
}

/// Makes a test of each rule of the contract; `$bench` makes a fresh table
/// with the `expire_after` that it is given.
#[macro_export]
macro_rules! contract_tests {
    ($attribute:meta, $bench:path) => {
        contract_tests! { @unleased $attribute, $bench }
        contract_tests! { @each $attribute, $bench, $crate::store_contract::EXPIRE_AFTER,
            what_nobody_refreshes_expires,
        }
    };
    // For a store where a claim is no lease: it ends with the process that made it.
    (@unleased $attribute:meta, $bench:path) => {
        contract_tests! { @each $attribute, $bench, $crate::store_contract::NEVER,
            claims_are_told_newest_first,
            a_refresh_never_overwrites_a_newer_claim,
            a_withdrawal_takes_only_ones_own,
            the_home_is_the_last_host_and_stays,
            a_home_is_settled_only_where_there_is_none,
            endpoints_are_those_of_all_live_nodes,
            offers_are_those_of_all_live_nodes,
            many_claims_go_in_one_call,
        }
        contract_tests! { @each $attribute, $bench, $crate::store_contract::EXPIRE_AFTER,
            claims_of_hosts_without_a_live_node_do_not_count,
            hosts_are_those_with_a_live_node,
            offers_of_a_dead_node_expire,
        }
    };
    (@each $attribute:meta, $bench:path, $expire_after:expr, $($rule:ident,)+) => {
        $(
            #[$attribute]
            async fn $rule() {
                $crate::store_contract::$rule($bench($expire_after).await).await;
            }
        )+
    };
}
