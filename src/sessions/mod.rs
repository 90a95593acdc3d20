//! Who is online where: the session table, its cache, its refresher, and the
//! tracker that sees who is online here.

mod accounts;
mod claims;
mod list_source;
mod lookup_cache;
mod lookups;
pub mod tracker;
mod writer;

#[cfg(test)]
mod tests;

use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use jid::{FullJid, Jid};
use tokio::sync::{Notify, mpsc};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

pub use self::accounts::Owner;
use self::accounts::Owners;
use self::claims::ClaimQueue;
use self::lookups::Lookups;
use self::tracker::{Probe, SessionChange, SessionEvent, Tracker};
use self::writer::ClaimWriter;
use crate::config::{self, Accounts, Source};
use crate::host::{Host, Locations};
use crate::metrics::Metrics;
use crate::stanza::{Kind, Stanza};
use crate::store::{Claim, Store, newest_first};

/// The session table as this gateway sees it.
pub struct Sessions {
    local: Host,
    store: Arc<dyn Store>,
    metrics: Arc<Metrics>,
    refresh_after: Duration,
    sources: config::Sources,
    accounts: Accounts,
    /// Only with unique accounts.
    owners: Mutex<Owners>,
    lookups: Lookups,
    state: Mutex<SessionState>,
    /// Tells the writer that there is something new to write.
    news: Notify,
    /// Who wants to know which sessions end here.
    ends: OnceLock<mpsc::UnboundedSender<FullJid>>,
}

struct SessionState {
    tracker: Tracker,
    claims: ClaimQueue,
}

impl Sessions {
    /// An empty table for `local`, in front of `store`.
    #[must_use]
    pub fn new(
        local: Host,
        store: Arc<dyn Store>,
        cache: &config::Cache,
        times: config::Times,
        sources: config::Sources,
        accounts: Accounts,
        metrics: Arc<Metrics>,
    ) -> Arc<Self> {
        Arc::new(Self {
            local,
            lookups: Lookups::new(store.clone(), cache, metrics.clone()),
            store,
            metrics,
            refresh_after: times.refresh_after,
            sources,
            accounts,
            owners: Mutex::default(),
            state: Mutex::new(SessionState {
                tracker: Tracker::new(times.expire_after),
                claims: ClaimQueue::new(times.expire_after),
            }),
            news: Notify::new(),
            ends: OnceLock::new(),
        })
    }

    /// Tells `ends` of each session that ends here, for whatever reason; the
    /// first who asks is told.
    pub fn notify_ends(&self, ends: mpsc::UnboundedSender<FullJid>) {
        self.ends.get_or_init(|| ends);
    }

    /// Writes claims and withdrawals to the store and refreshes them, until
    /// `shutdown`. Then writes what is new, for at most two seconds; the
    /// claims stay, and expire unless this gateway is back in time.
    pub async fn run(self: Arc<Self>, shutdown: CancellationToken) {
        ClaimWriter::new(self).run(shutdown).await;
    }

    /// Learns from a stanza that the local server sent; its sender's address
    /// is a global one already. Returns a probe (global addresses) to hand to
    /// the server if that would tell more.
    pub fn observe(&self, stanza: &Stanza) -> Option<Stanza> {
        let from = stanza.from()?;
        let probe = self.observe_tag(stanza.kind(), stanza.stanza_type(), from, stanza.to());
        probe.map(write_probe)
    }

    fn observe_tag(
        &self,
        kind: Kind,
        stanza_type: Option<&str>,
        from: &Jid,
        to: Option<&Jid>,
    ) -> Option<Probe> {
        let event = SessionEvent::read(kind, stanza_type, from, to);
        if !self.is_used(&event) {
            return None;
        }
        let changed = self.update(|tracker, now| tracker.observe(&event, now, wall_clock()));
        match event {
            SessionEvent::Traffic { session } if changed && self.may_ask() => {
                let user = session.to_bare();
                self.state().tracker.unconfirmed(&user, Instant::now())
            }
            _ => None,
        }
    }

    /// Something came here for `jid`. If no session of that user is known here,
    /// returns a probe (global addresses) to hand to the server; at most once
    /// in ten seconds for one user, and not while there is no server.
    pub fn missing(&self, jid: &Jid) -> Option<Stanza> {
        if !self.may_ask() {
            return None;
        }
        let probe = self
            .state()
            .tracker
            .missing(&jid.to_bare(), Instant::now())?;
        Some(write_probe(probe))
    }

    /// Whether it is known that the user of `jid` was last seen at another host.
    #[must_use]
    pub fn has_home_elsewhere(&self, jid: &Jid) -> bool {
        let home = self.lookups.cached_home(jid.to_bare().as_str());
        home.is_some_and(|home| home != self.local)
    }

    fn may_ask(&self) -> bool {
        self.sources.allow(Source::Probe)
    }

    /// Whether `event` is of a source that may be used; ends always are.
    fn is_used(&self, event: &SessionEvent<'_>) -> bool {
        match event {
            SessionEvent::Available { .. } => self.sources.allow(Source::Presence),
            SessionEvent::Traffic { .. } => self.sources.allow(Source::Traffic),
            SessionEvent::Unavailable { .. } | SessionEvent::NobodyHome { .. } => true,
            SessionEvent::Nothing => false,
        }
    }

    /// Ends the sessions of which nothing was seen in time.
    fn expire(&self) {
        self.update(Tracker::expire);
    }

    /// Whether anything changed.
    fn update(&self, what: impl FnOnce(&mut Tracker, Instant) -> Vec<SessionChange>) -> bool {
        let mut state = self.state();
        let now = Instant::now();
        let changes = what(&mut state.tracker, now);
        if changes.is_empty() {
            return false;
        }
        for change in &changes {
            state.claims.record(change, now);
        }
        let online = i64::try_from(state.tracker.len()).unwrap_or(i64::MAX);
        self.metrics.sessions.set(online);
        drop(state);
        for change in &changes {
            let (SessionChange::Online { jid, .. } | SessionChange::Offline { jid }) = change;
            tracing::debug!(?change, "a session began or ended here");
            self.lookups.forget(jid.as_str());
        }
        self.send_ends(&changes);
        self.news.notify_one();
        true
    }

    fn send_ends(&self, changes: &[SessionChange]) {
        let Some(ends) = self.ends.get() else {
            return;
        };
        for change in changes {
            if let SessionChange::Offline { jid } = change
                && let Ok(session) = jid.try_as_full()
            {
                // Nobody listens any more only when the gateway stops.
                let _ = ends.send(session.clone());
            }
        }
    }

    /// Where `jid` (user at the global domain) is. Never fails: when the store does not answer in
    /// time, what is known here counts.
    pub async fn locate(&self, jid: &Jid) -> Locations {
        let mut locations = Locations::default();
        if jid.is_full() {
            locations.full = self.hosts_of(jid).await;
            if !locations.full.is_empty() {
                return locations;
            }
        }
        let bare = Jid::from(jid.to_bare());
        locations.bare = self.hosts_of(&bare).await;
        if locations.bare.is_empty() {
            locations.home = self.lookups.home(bare.as_str()).await;
        }
        locations
    }

    /// What the table says, corrected by what we know better: ourselves.
    async fn hosts_of(&self, jid: &Jid) -> Vec<Host> {
        let mut claims = self.lookups.claims(jid.as_str()).await;
        let (here_since, withdrawn) = {
            let state = self.state();
            let withdrawn = state.claims.has_withdrawn(jid.as_str());
            (state.tracker.since(jid), withdrawn)
        };
        let here_since = here_since.filter(|_| self.may_be_here(jid));
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
        self.state().tracker.since(jid).is_some() && self.may_be_here(jid)
    }

    /// The next look-up of `jid` asks the store, and that of its bare JID, if it
    /// was asked at least `age` ago. What is cached counts only if the store
    /// does not answer; what was [learned](Self::learn) stays.
    pub fn ask_anew(&self, jid: &Jid, age: Duration) {
        self.lookups.ask_anew(jid.as_str(), age);
        if jid.is_full() {
            self.lookups.ask_anew(jid.to_bare().as_str(), age);
        }
    }

    /// An envelope of `sender` came from `origin`: remembers that for as long as
    /// the table names nobody. If what is cached of the table says something
    /// else, the table is asked anew: the sender has moved, or is in both places.
    pub fn learn(&self, sender: &Jid, origin: &Host) {
        if sender.node().is_none() || *origin == self.local || self.is_here(sender) {
            return;
        }
        self.lookups.learn(sender.as_str(), origin);
        if sender.is_full() {
            let bare = Jid::from(sender.to_bare());
            if self.is_here(&bare) {
                self.lookups.contradict(bare.as_str(), origin);
            } else {
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
        let may_ask = self.may_ask();
        let probes = self.state().tracker.attached(may_ask, Instant::now());
        self.news.notify_one();
        probes
    }

    fn state(&self) -> MutexGuard<'_, SessionState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn write_probe(probe: Probe) -> Stanza {
    Stanza::probe(probe.from.into(), probe.to.into())
}

/// Ms since the Unix epoch.
fn wall_clock() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| {
            u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
        })
}
