//! With `accounts = "unique"` a localpart belongs to the host that claimed it first.

use std::collections::{BTreeSet, HashMap};
use std::sync::{MutexGuard, PoisonError};
use std::time::Duration;

use jid::{BareJid, Jid};
use tokio::time::Instant;

use super::Sessions;
use crate::config::Accounts;
use crate::host::Host;
use crate::store::{OwnClaim, StoreError};

/// So long it is believed that a user belongs to another host: an operator may
/// give the name back.
const RECHECK: Duration = Duration::from_secs(60);

/// What the store said of the users of this server that were seen.
#[derive(Debug, Default)]
pub(super) struct Owners(HashMap<String, (Host, Instant)>);

/// Whose a user is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Owner {
    /// This host's.
    #[default]
    Ours,
    /// Another host's.
    Theirs,
    /// It could not be found out.
    Unknown,
}

impl Owners {
    /// Notes what the store said; whether it is news that `bare` is another's.
    pub(super) fn note(&mut self, bare: String, owner: Host, local: &Host, now: Instant) -> bool {
        let is_theirs = owner != *local;
        let before = self.0.insert(bare, (owner, now));
        is_theirs && before.is_none_or(|(before, _)| before == *local)
    }

    /// What is known of `bare`, however long ago it was told.
    pub(super) fn of(&self, bare: &str, local: &Host) -> Owner {
        match self.0.get(bare) {
            Some((owner, _)) if owner == local => Owner::Ours,
            Some(_) => Owner::Theirs,
            None => Owner::Unknown,
        }
    }

    /// The same, if it need not be asked again.
    pub(super) fn fresh(&self, bare: &str, local: &Host, now: Instant) -> Owner {
        match self.0.get(bare) {
            Some((owner, at)) if owner != local && now.duration_since(*at) >= RECHECK => {
                Owner::Unknown
            }
            _ => self.of(bare, local),
        }
    }
}

impl Sessions {
    /// Whose the local user `bare` (global address) is; for everybody ours, if
    /// accounts are shared. A name that nobody has yet is ours from now on.
    pub async fn owner_of(&self, bare: &BareJid) -> Owner {
        if self.accounts == Accounts::Shared {
            return Owner::Ours;
        }
        let known = self
            .owners()
            .fresh(bare.as_str(), &self.local, Instant::now());
        if known != Owner::Unknown {
            return known;
        }
        let asked = self.settle(vec![bare.to_string()]);
        if self.lookups.in_time("settle", asked).await.is_none() {
            // What was so a moment ago is more likely than nothing.
            return self.owners().of(bare.as_str(), &self.local);
        }
        self.owners().of(bare.as_str(), &self.local)
    }

    /// Whether what is sent to `jid` (a user at the global domain) may be meant
    /// for a local user: not if the name is another's, or perhaps is.
    #[must_use]
    pub fn may_be_here(&self, jid: &Jid) -> bool {
        self.accounts == Accounts::Shared
            || self.owners().of(jid.to_bare().as_str(), &self.local) == Owner::Ours
    }

    /// Of `claims`, those that this host may make; the others are told and counted.
    ///
    /// # Errors
    /// When the store does not answer.
    pub(super) async fn permitted(&self, claims: &[OwnClaim]) -> Result<Vec<OwnClaim>, StoreError> {
        if self.accounts == Accounts::Shared {
            return Ok(claims.to_vec());
        }
        let bares: BTreeSet<String> = claims.iter().map(|it| bare(&it.jid).to_owned()).collect();
        self.settle(bares.into_iter().collect()).await?;
        let owners = self.owners();
        let is_ours = |claim: &&OwnClaim| owners.of(bare(&claim.jid), &self.local) == Owner::Ours;
        Ok(claims.iter().filter(is_ours).cloned().collect())
    }

    pub(super) fn note_owners(&self, users: Vec<String>, homes: Vec<Host>) {
        let now = Instant::now();
        let mut refused = Vec::new();
        {
            let mut owners = self.owners();
            for (user, home) in users.into_iter().zip(homes) {
                if owners.note(user.clone(), home.clone(), &self.local, now) {
                    refused.push((user, home));
                }
            }
        }
        for (user, owner) in refused {
            self.metrics.claims_refused.inc();
            tracing::warn!(
                %user, %owner,
                "an account here has a name that belongs to another datacenter: it is not \
                 reachable under the shared domain and may not write there. Remove or rename it, or \
                 give it the name: docs/accounts.md"
            );
        }
    }

    fn owners(&self) -> MutexGuard<'_, Owners> {
        self.owners.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn bare(jid: &str) -> &str {
    jid.split_once('/').map_or(jid, |(bare, _)| bare)
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
        let mut owners = Owners::default();
        assert_eq!(owners.of("a@x", &us), Owner::Unknown);
        assert!(owners.note("a@x".to_owned(), them.clone(), &us, now));
        assert!(!owners.note("a@x".to_owned(), them, &us, now));
        assert_eq!(owners.fresh("a@x", &us, now), Owner::Theirs);
        assert_eq!(owners.fresh("a@x", &us, now + RECHECK), Owner::Unknown);
        assert_eq!(owners.of("a@x", &us), Owner::Theirs);
        assert!(!owners.note("a@x".to_owned(), us.clone(), &us, now));
        assert_eq!(owners.fresh("a@x", &us, now + RECHECK), Owner::Ours);
    }
}
