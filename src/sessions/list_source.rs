//! What the server tells of its own accord, or when it is asked.

use std::time::Duration;

use jid::{BareJid, FullJid, Jid};
use tokio::time::Instant;

use super::tracker::{Listing, SessionEvent};
use super::{Sessions, wall_clock};
use crate::config::Accounts;
use crate::host::Host;
use crate::store::{StoreError, within};

/// So many homes are written in one go, and so long may that take.
const HOMES: usize = 500;
const HOMES_PATIENCE: Duration = Duration::from_secs(3);

impl Sessions {
    /// The server told us the presence of `session` by itself, sent to `to`;
    /// `None` is available. `told_of_end`: it will tell of the end as well.
    pub fn observe_presence(
        &self,
        stanza_type: Option<&str>,
        session: &FullJid,
        to: &Jid,
        told_of_end: bool,
    ) {
        let event = match (stanza_type, told_of_end) {
            (None, true) => SessionEvent::Available { session, to },
            (None, false) => SessionEvent::Traffic { session },
            (Some(_), true) => SessionEvent::Unavailable {
                session,
                to: Some(to),
            },
            // Nobody else may have been told of this session.
            (Some(_), false) => SessionEvent::Unavailable { session, to: None },
        };
        self.update(|tracker, now| tracker.observe(&event, now, wall_clock()));
    }

    /// The server's list of all sessions, which it was asked for at `asked_at`.
    pub fn listed(&self, listing: &Listing, asked_at: Instant) {
        self.update(|tracker, now| tracker.listed(listing, asked_at, now, wall_clock()));
    }

    /// Lists will come from now on.
    pub fn expect_lists(&self) {
        self.state().tracker.expect_lists();
    }

    /// No lists come any more.
    pub fn lists_stopped(&self) {
        self.state().tracker.lists_stopped(Instant::now());
        self.news.notify_one();
    }

    /// `recipient` will not be told any more when a session ends.
    pub fn recipient_lost(&self, recipient: &Jid) {
        self.state()
            .tracker
            .recipient_lost(recipient, Instant::now());
        self.news.notify_one();
    }

    /// Users (global addresses) with an account here: this host is the home of
    /// those who have none yet.
    ///
    /// # Errors
    /// When the store does not answer.
    pub async fn settle_homes(&self, users: &[BareJid]) -> Result<(), StoreError> {
        for users in users.chunks(HOMES) {
            let users: Vec<String> = users.iter().map(ToString::to_string).collect();
            if self.accounts == Accounts::Unique {
                self.settle(users).await?;
            } else {
                within(HOMES_PATIENCE, self.store.settle(&users)).await?;
            }
        }
        Ok(())
    }

    /// Makes this host the home of those of `users` that have none, and notes
    /// whose each is.
    ///
    /// # Errors
    /// When the store does not answer.
    pub(super) async fn settle(&self, users: Vec<String>) -> Result<(), StoreError> {
        let homes: Vec<Host> = within(HOMES_PATIENCE, self.store.settle(&users)).await?;
        self.note_owners(users, homes);
        Ok(())
    }
}
