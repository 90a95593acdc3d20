//! What works between which servers: every row of the matrix for every pair
//! of servers. The page `docs/compatibility.md` says what came out, and a run
//! that comes to something else fails; `STRAIT_WRITE_DOCS=1` rewrites it.

#[path = "../support/mod.rs"]
mod support;

mod archives;
mod contacts;
mod events;
mod limit;
mod matrix;
mod messages;
mod page;
mod pair;
mod queries;
mod report;
mod rooms;
mod table;

use support::server::Kind::{self, Ejabberd, MongooseIm, Prosody};

/// Every two kinds of servers, each also with its like.
const PAIRS: [(Kind, Kind); 6] = [
    (Prosody, Prosody),
    (Prosody, Ejabberd),
    (Ejabberd, Ejabberd),
    (MongooseIm, Prosody),
    (MongooseIm, Ejabberd),
    (MongooseIm, MongooseIm),
];

#[tokio::test(flavor = "multi_thread")]
async fn prosody_and_prosody() {
    holds(Prosody, Prosody).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn prosody_and_ejabberd() {
    holds(Prosody, Ejabberd).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ejabberd_and_ejabberd() {
    holds(Ejabberd, Ejabberd).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn mongooseim_and_prosody() {
    holds(MongooseIm, Prosody).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn mongooseim_and_ejabberd() {
    holds(MongooseIm, Ejabberd).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn mongooseim_and_mongooseim() {
    holds(MongooseIm, MongooseIm).await;
}

/// Every row between servers of these kinds is as the page says, in each
/// direction that differs.
async fn holds(first: Kind, second: Kind) {
    let outcome = matrix::run(first, second).await;
    report::publish(&outcome.columns);
    outcome.assert_nothing_failed();
    page::assert_says(&outcome.columns);
}
