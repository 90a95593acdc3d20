//! The rows, and how they are run: side by side in one cluster, each with
//! people of its own, and none stopped by another's failure.

use std::any::Any;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use futures::FutureExt;
use futures::future::LocalBoxFuture;
use futures::stream::{self, StreamExt};

use super::limit::Verdict;
use super::meeting::{Direction, Meeting, start};
use super::table::Column;
use super::{archives, contacts, events, messages, queries, rooms};
use crate::support::cluster::Cluster;
use crate::support::server::Kind;

/// How many rows run at a time; more only make each other wait.
const AT_A_TIME: usize = 6;

/// One thing that users do.
pub struct Row {
    /// In the names of its accounts.
    pub key: &'static str,
    /// In the table.
    pub title: &'static str,
    check: fn(Meeting) -> LocalBoxFuture<'static, Verdict>,
}

macro_rules! rows {
    ($($key:literal $title:literal $check:path;)+) => {
        &[$(Row {
            key: $key,
            title: $title,
            check: |meeting| Box::pin(async move { $check(&meeting).await }),
        }),+]
    };
}

/// In the order of the table.
pub const ROWS: &[Row] = rows! {
    "chat" "chat, to bare and full JIDs" messages::chat;
    "receipts" "receipts and chat markers (XEP-0184, XEP-0333)" messages::receipts_and_markers;
    "states" "chat states (XEP-0085)" messages::chat_states;
    "files" "links to shared files (XEP-0066)" messages::file_links;
    "errors" "errors for who or what is not there" messages::errors;
    "carbons" "carbons, with two resources (XEP-0280)" archives::carbons;
    "archive" "message archive (XEP-0313)" archives::archive;
    "offline" "offline storage" archives::offline;
    "roster" "roster: subscribe, remove" contacts::roster;
    "presence" "presence: changes, directed, a lost connection" contacts::presence;
    "probes" "probes: who is there at login" contacts::probes;
    "blocking" "blocking (XEP-0191)" contacts::blocking;
    "notify" "personal events by +notify (XEP-0163)" events::notify;
    "avatar" "avatars (XEP-0084)" events::avatar;
    "omemo" "OMEMO: device lists, bundles, messages" events::omemo;
    "pubsub" "pubsub: subscribe, unsubscribe (XEP-0060)" events::subscribe;
    "vcard" "vCard (XEP-0054)" queries::vcard;
    "disco" "disco: of an account, a session, the domain (XEP-0030)" queries::disco;
    "ping" "ping (XEP-0199)" queries::ping;
    "jingle" "Jingle: offer and answer (XEP-0166, XEP-0353)" queries::jingle;
    "talk" "rooms: join, talk, leave (XEP-0045)" rooms::talk;
    "history" "rooms: history, archive (XEP-0313)" rooms::history;
    "invite" "rooms: invite, kick" rooms::invite_and_kick;
};

/// What a run came to.
pub struct Outcome {
    pub columns: Vec<Column>,
    failures: Vec<String>,
    // Kept until the failures are told, so that its logs are kept with them.
    cluster: Arc<Cluster>,
}

/// Runs every row between servers of these kinds.
pub async fn run(first: Kind, second: Kind) -> Outcome {
    let keys: Vec<&str> = ROWS.iter().map(|row| row.key).collect();
    let mut outcome = Outcome {
        columns: Vec::new(),
        failures: Vec::new(),
        cluster: start(first, second, &keys).await,
    };
    for direction in Direction::of(first, second) {
        let title = direction.title(first, second);
        outcome.run_column(title, direction).await;
    }
    outcome.cluster.assert_no_secrets_logged();
    outcome.cluster.assert_balanced().await;
    outcome
}

impl Outcome {
    async fn run_column(&mut self, title: String, direction: Direction) {
        let cluster = &self.cluster;
        let verdicts = stream::iter(ROWS)
            .map(|row| row.run(Meeting::new(cluster, direction, row.key)))
            .buffered(AT_A_TIME);
        let verdicts: Vec<_> = verdicts.collect().await;
        let mut cells = Vec::new();
        for (row, verdict) in ROWS.iter().zip(verdicts) {
            cells.push(match verdict {
                Ok(verdict) => verdict.cell(),
                Err(seen) => {
                    // All of it was printed when it was seen.
                    let seen = seen.lines().next().unwrap_or_default();
                    let seen: String = seen.chars().take(400).collect();
                    self.failures
                        .push(format!("{title}, {}: {seen}", row.title));
                    "FAILED".to_owned()
                }
            });
        }
        self.columns.push(Column { title, cells });
    }

    /// # Panics
    /// When a row failed; tells all that did, and what they saw.
    pub fn assert_nothing_failed(&self) {
        let count = self.failures.len();
        assert!(
            count == 0,
            "{count} failed:\n\n{}",
            self.failures.join("\n\n")
        );
    }
}

impl Row {
    /// The verdict, or what a failed check saw.
    async fn run(&self, meeting: Meeting) -> Result<Verdict, String> {
        let verdict = AssertUnwindSafe(async {
            let verdict = (self.check)(meeting.clone()).await;
            meeting.assert_no_leaks();
            verdict
        });
        let verdict = verdict.catch_unwind().await;
        verdict.map_err(|panic| text_of(&*panic))
    }
}

fn text_of(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
    text.unwrap_or("a panic without a text").to_owned()
}
