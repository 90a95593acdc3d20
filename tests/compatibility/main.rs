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
mod meeting;
mod messages;
mod page;
mod queries;
mod report;
mod rooms;
mod table;

use support::server::Kind::{self, Ejabberd, MongooseIm, Prosody};

/// A test of each pair, and the list of them.
macro_rules! pairs {
    ($($test:ident: $first:ident $second:ident;)+) => {
        /// Every two kinds of servers, each also with its like.
        const PAIRS: &[(Kind, Kind)] = &[$(($first, $second)),+];

        $(
            #[tokio::test(flavor = "multi_thread")]
            async fn $test() {
                holds($first, $second).await;
            }
        )+
    };
}

pairs! {
    prosody_and_prosody: Prosody Prosody;
    prosody_and_ejabberd: Prosody Ejabberd;
    ejabberd_and_ejabberd: Ejabberd Ejabberd;
    mongooseim_and_prosody: MongooseIm Prosody;
    mongooseim_and_ejabberd: MongooseIm Ejabberd;
    mongooseim_and_mongooseim: MongooseIm MongooseIm;
}

/// Every row between servers of these kinds is as the page says, in each
/// direction that differs.
async fn holds(first: Kind, second: Kind) {
    let outcome = matrix::run(first, second).await;
    report::publish(&outcome.columns);
    outcome.assert_nothing_failed();
    page::assert_says(&outcome.columns);
}
