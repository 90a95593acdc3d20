//! Presence and lists of sessions and accounts that the server sends beside the component stream.

use std::time::Duration;

use jid::{BareJid, FullJid, Jid};
use tokio::time::Instant;

use super::Sessions;
use super::tracker::{Listing, SessionEvent};
use crate::config::Accounts;
use crate::store::{StoreError, wall_clock, within};

/// Upper bound of the homes in one write, and the time limit of a write.
const HOMES: usize = 500;
const HOMES_PATIENCE: Duration = Duration::from_secs(3);

impl Sessions {
    /// Observes the presence of `session` that the server sent to `to`; `None` is available. With
    /// `sends_end` the server will also send the end.
    pub fn observe_presence(
        &self,
        stanza_type: Option<&str>,
        session: &FullJid,
        to: &Jid,
        sends_end: bool,
    ) {
        let event = match (stanza_type, sends_end) {
            (None, true) => SessionEvent::Available { session, to },
            (None, false) => SessionEvent::Traffic { session },
            (Some(_), true) => SessionEvent::Unavailable {
                session,
                to: Some(to),
            },
            // There may be no other recipient.
            (Some(_), false) => SessionEvent::Unavailable { session, to: None },
        };
        self.update(|tracker, now| tracker.observe(&event, now, wall_clock()));
    }

    /// Takes the server's list of all sessions, requested at `asked_at`.
    pub fn listed(&self, listing: &Listing, asked_at: Instant) {
        self.update(|tracker, now| tracker.listed(listing, asked_at, now, wall_clock()));
    }

    /// Lists will be taken from now on.
    pub fn expect_lists(&self) {
        self.state().tracker.expect_lists();
    }

    /// The server sends no lists any more.
    pub fn lists_stopped(&self) {
        self.state().tracker.lists_stopped(Instant::now());
        self.news.notify_one();
    }

    /// `recipient` will not be sent the ends of sessions any more.
    pub fn recipient_lost(&self, recipient: &Jid) {
        self.state()
            .tracker
            .recipient_lost(recipient, Instant::now());
        self.news.notify_one();
    }

    /// Makes this host the home of those of `users` (global addresses, with an
    /// account here) that have none yet.
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

    /// Makes this host the home of those of `users` that have none, and notes the owner of each.
    ///
    /// # Errors
    /// When the store does not answer.
    pub(super) async fn settle(&self, users: Vec<String>) -> Result<(), StoreError> {
        let homes = within(HOMES_PATIENCE, self.store.settle(&users)).await?;
        self.note_owners(users, homes);
        Ok(())
    }
}
