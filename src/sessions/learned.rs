//! Origins of envelopes, as the locations of senders that the table does not know yet.

use std::time::Duration;

use tokio::time::Instant;

use crate::host::Host;
use crate::store::Claim;

/// The host that each sender's last envelope came from.
pub(super) struct LearnedOrigins {
    lifetime: Duration,
    origins: moka::sync::Cache<String, (Host, Instant)>,
}

impl LearnedOrigins {
    /// Keeps `max_jids` origins, each of them valid for `lifetime`.
    pub(super) fn new(max_jids: u64, lifetime: Duration) -> Self {
        Self {
            lifetime,
            origins: moka::sync::Cache::new(max_jids),
        }
    }

    pub(super) fn learn(&self, jid: &str, origin: &Host) {
        let learned = (origin.clone(), Instant::now());
        self.origins.insert(jid.to_owned(), learned);
    }

    pub(super) fn forget(&self, jid: &str) {
        self.origins.invalidate(jid);
    }

    /// Adds the origin of `jid` to `claims`, the table's. An origin counts where the table has no
    /// claim, or is unreachable and was read before the origin was seen; then also after the
    /// lifetime.
    pub(super) fn complete(&self, jid: &str, claims: &mut Vec<Claim>, outdated: Option<Instant>) {
        if !claims.is_empty() && outdated.is_none() {
            return;
        }
        let Some((host, at)) = self.origins.get(jid) else {
            return;
        };
        let counts = match outdated {
            None => at.elapsed() < self.lifetime,
            Some(read_at) => claims.is_empty() || read_at <= at,
        };
        if counts {
            *claims = vec![Claim { host, since: None }];
        }
    }
}
