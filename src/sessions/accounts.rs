//! With `accounts = "unique"` a localpart belongs to the host that claimed it first.

use std::collections::BTreeSet;
use std::time::Duration;

use jid::{BareJid, Jid};
use tokio::time::Instant;

use super::Sessions;
use crate::config::Accounts;
use crate::host::Host;
use crate::store::{OwnClaim, StoreError, bare_of, within};

/// Time for which a user counts as another host's before the store is asked again: an operator may
/// release the name.
const RECHECK: Duration = Duration::from_secs(60);
/// Time limit for a stanza that waits for the store.
const PATIENCE: Duration = Duration::from_millis(500);
/// Users whose owner is remembered. Refreshes keep those that are online in the cache.
const REMEMBERED: u64 = 1_000_000;

/// The owners of the users of this server, as the store had them.
pub(super) struct Owners {
    owners: moka::sync::Cache<String, (Host, Instant)>,
}

impl Default for Owners {
    fn default() -> Self {
        Self {
            owners: moka::sync::Cache::new(REMEMBERED),
        }
    }
}

/// The host that a user's name belongs to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Owner {
    /// The name is this host's.
    #[default]
    Ours,
    /// The name is another host's.
    Theirs,
    /// The owner could not be determined.
    Unknown,
}

impl Owners {
    /// Notes the store's answer; returns whether it is new that `bare` is another host's.
    fn note(&self, bare: &str, owner: Host, local: &Host, now: Instant) -> bool {
        let is_new = owner != *local && self.of(bare, local) != Owner::Theirs;
        self.owners.insert(bare.to_owned(), (owner, now));
        is_new
    }

    /// The last known owner of `bare`, however old.
    fn of(&self, bare: &str, local: &Host) -> Owner {
        match self.owners.get(bare) {
            Some((owner, _)) if owner == *local => Owner::Ours,
            Some(_) => Owner::Theirs,
            None => Owner::Unknown,
        }
    }

    /// The last known owner of `bare`, if the store need not be asked again.
    fn fresh(&self, bare: &str, local: &Host, now: Instant) -> Owner {
        match self.owners.get(bare) {
            Some((owner, at)) if owner != *local && now.duration_since(at) >= RECHECK => {
                Owner::Unknown
            }
            _ => self.of(bare, local),
        }
    }
}

impl Sessions {
    /// The owner of the local user `bare` (global address); always this host if
    /// accounts are shared. A name without an owner is this host's from now on.
    pub async fn owner_of(&self, bare: &BareJid) -> Owner {
        if self.accounts == Accounts::Shared {
            return Owner::Ours;
        }
        let (bare, now) = (bare.as_str(), Instant::now());
        let known = self.owners.fresh(bare, &self.local, now);
        if known != Owner::Unknown {
            return known;
        }
        // An unreachable store must not hold up one stanza after the other. The last
        // owner is more likely than none.
        if self.metrics.store_up.get() == 1 {
            let settled = within(PATIENCE, self.settle(vec![bare.to_owned()])).await;
            if let Err(error) = settled {
                let errors = &self.metrics.store_errors;
                errors.with_label_values(&["settle"]).inc();
                tracing::debug!(%error, bare, "the owner of an account could not be read");
            }
        }
        self.owners.of(bare, &self.local)
    }

    /// Whether a stanza for `jid` (a user at the global domain) may be for
    /// a local user: not if the name is another host's, or perhaps is.
    #[must_use]
    pub fn may_be_here(&self, jid: &Jid) -> bool {
        self.accounts == Accounts::Shared
            || self.owners.of(bare_of(jid.as_str()), &self.local) == Owner::Ours
    }

    /// Filters `claims` for those that this host may make; logs and counts the others.
    ///
    /// # Errors
    /// When the store does not answer.
    pub(super) async fn permitted(&self, claims: &[OwnClaim]) -> Result<Vec<OwnClaim>, StoreError> {
        if self.accounts == Accounts::Shared {
            return Ok(claims.to_vec());
        }
        let bares = claims.iter().map(|claim| bare_of(&claim.jid).to_owned());
        let bares: BTreeSet<String> = bares.collect();
        self.settle(bares.into_iter().collect()).await?;
        let is_ours =
            |claim: &&OwnClaim| self.owners.of(bare_of(&claim.jid), &self.local) == Owner::Ours;
        Ok(claims.iter().filter(is_ours).cloned().collect())
    }

    pub(super) fn note_owners(&self, users: Vec<String>, homes: Vec<Option<Host>>) {
        let now = Instant::now();
        for (user, home) in users.into_iter().zip(homes) {
            let Some(owner) = home else {
                continue;
            };
            if self.owners.note(&user, owner.clone(), &self.local, now) {
                self.metrics.claims_refused.inc();
                tracing::warn!(
                    %user, %owner,
                    "an account here has a name that belongs to another datacenter: it is not \
                     reachable under the shared domain and may not write there. Remove or rename it, or \
                     give it the name: docs/accounts.md"
                );
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_anothers_is_news_once_and_asked_again_after_a_while() {
        let (us, them) = (
            Host::new("dc1.test").unwrap(),
            Host::new("dc2.test").unwrap(),
        );
        let now = Instant::now();
        let owners = Owners::default();
        assert_eq!(owners.of("a@x", &us), Owner::Unknown);
        assert!(owners.note("a@x", them.clone(), &us, now));
        assert!(!owners.note("a@x", them, &us, now));
        assert_eq!(owners.fresh("a@x", &us, now), Owner::Theirs);
        assert_eq!(owners.fresh("a@x", &us, now + RECHECK), Owner::Unknown);
        assert_eq!(owners.of("a@x", &us), Owner::Theirs);
        assert!(!owners.note("a@x", us.clone(), &us, now));
        assert_eq!(owners.fresh("a@x", &us, now + RECHECK), Owner::Ours);
    }
}
