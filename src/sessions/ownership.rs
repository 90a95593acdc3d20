//! Keeping a localpart to the host that claimed it first.

use std::collections::BTreeSet;
use std::sync::{MutexGuard, PoisonError};

use jid::{BareJid, Jid};
use tokio::time::Instant;

use super::Sessions;
use super::owners::{Owner, Owners};
use crate::config::Accounts;
use crate::host::Host;
use crate::store::{OwnClaim, StoreError};

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
