//! Who is online where: the session table, its cache, its refresher, and the
//! tracker that sees who is online here.

mod ledger;
mod lookups;
mod shelf;
pub mod tracker;
mod writer;

#[cfg(test)]
mod tests;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use jid::Jid;
use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use self::ledger::Ledger;
use self::lookups::Lookups;
use self::tracker::{Change, Probe, Sign, Tracker};
use self::writer::Writer;
use crate::config;
use crate::host::Host;
use crate::metrics::Metrics;
use crate::stanza::{Kind, Stanza};
use crate::store::{Claim, Store, newest_first};

/// The session table as this gateway sees it.
pub struct Sessions {
    local: Host,
    store: Arc<dyn Store>,
    metrics: Arc<Metrics>,
    refresh_after: Duration,
    lookups: Lookups,
    state: Mutex<State>,
    /// Tells the writer that there is something new to write.
    news: Notify,
}

struct State {
    tracker: Tracker,
    ledger: Ledger,
}

/// Where a JID is, as far as this gateway can know.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Whereabouts {
    /// The hosts that claim the full JID, newest claim first; empty for a bare JID.
    pub full: Vec<Host>,
    /// The hosts that claim the bare JID, newest claim first. Only asked for
    /// when nobody claims the full one.
    pub bare: Vec<Host>,
    /// The last host that claimed the bare JID, ever. Only asked for when nobody claims it now.
    pub home: Option<Host>,
}

impl Sessions {
    /// An empty table for `local`, in front of `store`.
    #[must_use]
    pub fn new(
        local: Host,
        store: Arc<dyn Store>,
        cache: &config::Cache,
        times: config::Times,
        metrics: Arc<Metrics>,
    ) -> Arc<Self> {
        Arc::new(Self {
            local,
            lookups: Lookups::new(store.clone(), cache, metrics.clone()),
            store,
            metrics,
            refresh_after: times.refresh_after,
            state: Mutex::new(State {
                tracker: Tracker::new(times.expire_after),
                ledger: Ledger::new(times.expire_after),
            }),
            news: Notify::new(),
        })
    }

    /// Writes claims and withdrawals to the store and refreshes them, until
    /// `shutdown`. Then writes what is new, for at most two seconds; the
    /// claims stay, and expire unless this gateway is back in time.
    pub async fn run(self: Arc<Self>, shutdown: CancellationToken) {
        Writer::new(self).run(shutdown).await;
    }

    /// Learns from a stanza that the local server sent; its sender's address
    /// is a global one already.
    pub fn observe(&self, stanza: &Stanza) {
        if let Some(from) = stanza.from() {
            self.observe_tag(stanza.kind(), stanza.stanza_type(), from, stanza.to());
        }
    }

    fn observe_tag(&self, kind: Kind, stanza_type: Option<&str>, from: &Jid, to: Option<&Jid>) {
        let sign = Sign::read(kind, stanza_type, from, to);
        if sign != Sign::Nothing {
            self.update(|tracker, now| tracker.observe(&sign, now, wall_clock()));
        }
    }

    /// Ends the sessions of which nothing was seen in time.
    fn expire(&self) {
        self.update(Tracker::expire);
    }

    fn update(&self, what: impl FnOnce(&mut Tracker, Instant) -> Vec<Change>) {
        let mut state = self.state();
        let now = Instant::now();
        let changes = what(&mut state.tracker, now);
        if changes.is_empty() {
            return;
        }
        for change in &changes {
            state.ledger.record(change, now);
        }
        let online = i64::try_from(state.tracker.len()).unwrap_or(i64::MAX);
        self.metrics.sessions.set(online);
        drop(state);
        for change in &changes {
            let (Change::Online { jid, .. } | Change::Offline { jid }) = change;
            tracing::debug!(?change, "a session began or ended here");
            self.lookups.forget(jid.as_str());
        }
        self.news.notify_one();
    }

    /// Where `jid` (user at the global domain) is. Never fails: when the store does not answer in
    /// time, what is known here counts.
    pub async fn locate(&self, jid: &Jid) -> Whereabouts {
        let mut whereabouts = Whereabouts::default();
        if jid.is_full() {
            whereabouts.full = self.hosts_of(jid).await;
            if !whereabouts.full.is_empty() {
                return whereabouts;
            }
        }
        let bare = Jid::from(jid.to_bare());
        whereabouts.bare = self.hosts_of(&bare).await;
        if whereabouts.bare.is_empty() {
            whereabouts.home = self.lookups.home(bare.as_str()).await;
        }
        whereabouts
    }

    /// What the table says, corrected by what we know better: ourselves.
    async fn hosts_of(&self, jid: &Jid) -> Vec<Host> {
        let mut claims = self.lookups.claims(jid.as_str()).await;
        let (here_since, withdrawn) = {
            let state = self.state();
            let withdrawn = state.ledger.has_withdrawn(jid.as_str());
            (state.tracker.since(jid), withdrawn)
        };
        if here_since.is_some() || withdrawn {
            claims.retain(|claim| claim.host != self.local);
        }
        if here_since.is_some() {
            claims.push(Claim {
                host: self.local.clone(),
                since: here_since,
            });
            newest_first(&mut claims);
        }
        claims.into_iter().map(|claim| claim.host).collect()
    }

    /// Whether a session of `jid` (full: this one; bare: any) is online here.
    #[must_use]
    pub fn is_here(&self, jid: &Jid) -> bool {
        self.state().tracker.since(jid).is_some()
    }

    /// Forgets what is cached about `jid` and its bare JID, so that the next look-up asks the store.
    pub fn forget(&self, jid: &Jid) {
        self.lookups.forget(jid.as_str());
        if jid.is_full() {
            self.lookups.forget(jid.to_bare().as_str());
        }
    }

    /// An envelope of `sender` came from `origin`: remembers that in the cache
    /// unless the sender is known already.
    pub fn learn(&self, sender: &Jid, origin: &Host) {
        if sender.node().is_none() || *origin == self.local || self.is_here(sender) {
            return;
        }
        self.lookups.learn(sender.as_str(), origin);
        if sender.is_full() {
            let bare = Jid::from(sender.to_bare());
            if !self.is_here(&bare) {
                self.lookups.learn(bare.as_str(), origin);
            }
        }
    }

    /// The component stream is down: what the server says meanwhile is missed.
    pub fn detached(&self) {
        self.state().tracker.detached(Instant::now());
        self.news.notify_one();
    }

    /// The component stream is up again. Returns the probes (global addresses)
    /// to hand to the server to find out who is still there; who does not answer is withdrawn.
    #[must_use]
    pub fn attached(&self) -> Vec<Stanza> {
        self.probes().into_iter().map(write_probe).collect()
    }

    fn probes(&self) -> Vec<Probe> {
        let probes = self.state().tracker.attached(Instant::now());
        self.news.notify_one();
        probes
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn write_probe(probe: Probe) -> Stanza {
    let (from, to) = (Jid::from(probe.from), Jid::from(probe.to));
    Stanza::new(
        Kind::Presence,
        Some("probe"),
        None,
        Some(from),
        Some(to),
        &[],
    )
}

/// Ms since the Unix epoch.
fn wall_clock() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| {
            u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
        })
}
