//! The session table as this gateway sees it: the store's table, corrected by the local sessions of
//! the tracker, whose claims are written to the store.

mod accounts;
mod claims;
mod learned;
mod list_source;
pub mod tracker;
mod writer;

#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use jid::{FullJid, Jid};
use parking_lot::{Mutex, MutexGuard};
use tokio::sync::{Notify, mpsc};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

pub use self::accounts::Owner;
use self::accounts::Owners;
use self::claims::ClaimQueue;
use self::learned::LearnedOrigins;
use self::tracker::{Probe, SessionChange, SessionEvent, Tracker};
use self::writer::ClaimWriter;
use crate::config::{self, Accounts, Source};
use crate::host::{Host, Locations};
use crate::metrics::Metrics;
use crate::stanza::{Kind, Stanza};
use crate::store::{Claim, Located, Store, bare_of, newest_first, wall_clock};

/// A cached answer this young is not doubted: else each of many stanzas from one
/// sender would cost a round trip to the store.
const MOMENT: Duration = Duration::from_millis(50);

/// The session table as this gateway sees it.
pub struct Sessions {
    local: Host,
    store: Arc<dyn Store>,
    metrics: Arc<Metrics>,
    refresh_after: Duration,
    sources: config::Sources,
    accounts: Accounts,
    /// Empty unless accounts are unique.
    owners: Owners,
    learned: LearnedOrigins,
    state: Mutex<SessionState>,
    /// Wakes the writer when there is something new to write.
    news: Notify,
    /// Receives each session that ends here.
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
            store,
            metrics,
            refresh_after: times.refresh_after,
            sources,
            accounts,
            owners: Owners::default(),
            learned: LearnedOrigins::new(cache.max_jids, cache.jid_lifetime),
            state: Mutex::new(SessionState {
                tracker: Tracker::new(times.expire_after),
                claims: ClaimQueue::new(times.expire_after),
            }),
            news: Notify::new(),
            ends: OnceLock::new(),
        })
    }

    /// Sends each session that ends here to `ends`, for whatever reason it ends. Only the
    /// first call counts.
    pub fn notify_ends(&self, ends: mpsc::UnboundedSender<FullJid>) {
        self.ends.get_or_init(|| ends);
    }

    /// Writes claims and withdrawals to the store and refreshes them, until
    /// `shutdown`. Then writes what is new, for at most two seconds; the
    /// claims stay, and expire unless this gateway is back in time.
    pub async fn run(self: Arc<Self>, shutdown: CancellationToken) {
        ClaimWriter::new(self).run(shutdown).await;
    }

    /// Observes a stanza that the local server sent; its sender's address
    /// is a global one already. Returns a probe (global addresses) for
    /// the server if its answer would show more.
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

    /// Returns a probe (global addresses) for the server if a stanza came for `jid` and
    /// no session of that user is known here; at most once
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

    /// Whether the user of `jid` is known to have been at another host last.
    #[must_use]
    pub fn has_home_elsewhere(&self, jid: &Jid) -> bool {
        let located = self.store.lookup_now(bare_of(jid.as_str()));
        let home = located.and_then(|located| located.home);
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

    /// Ends the sessions that were not seen in time.
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
            self.store.invalidate(jid.as_str(), Duration::ZERO);
            self.learned.forget(jid.as_str());
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
                // The receiver is closed only when the gateway stops.
                let _ = ends.send(session.clone());
            }
        }
    }

    /// The locations of `jid`, a user at the global domain. When the store does not answer
    /// in time, its last answer and the sessions here count.
    pub async fn locate(&self, jid: &Jid) -> Locations {
        if let Some(locations) = self.locate_now(jid) {
            return locations;
        }
        let started = Instant::now();
        let located = self.store.lookup(jid.as_str()).await;
        self.metrics.mapping_cache_misses.inc();
        let micros = started.elapsed().as_secs_f64() * 1e6;
        self.count_look_up(micros);
        self.correct(jid, located)
    }

    /// Returns the locations without asking the store; `None` if the store has to be asked.
    pub fn locate_now(&self, jid: &Jid) -> Option<Locations> {
        let located = self.store.lookup_now(jid.as_str())?;
        // The look-up takes less than a microsecond, not worth reading the clock for.
        self.count_look_up(0.0);
        Some(self.correct(jid, located))
    }

    fn count_look_up(&self, micros: f64) {
        self.metrics.mapping_fetches.inc();
        self.metrics.mapping_fetch_time.observe(micros);
    }

    /// Adds changes that the table does not have yet to its answer.
    fn correct(&self, jid: &Jid, mut located: Located) -> Locations {
        let mut locations = Locations::default();
        let bare = if jid.is_full() {
            Cow::Owned(Jid::from(jid.to_bare()))
        } else {
            Cow::Borrowed(jid)
        };
        if jid.is_full() {
            let is_claimed = !located.full.is_empty();
            locations.full = self.hosts_of(jid, located.full, located.outdated);
            if !locations.full.is_empty() {
                return locations;
            }
            if is_claimed {
                // The bare JID was claimed by this host only, and withdrawn.
                located = self.store.lookup_now(bare.as_str()).unwrap_or_default();
            }
        }
        locations.bare = self.hosts_of(&bare, located.bare, located.outdated);
        if locations.bare.is_empty() {
            locations.home = located.home;
        }
        locations
    }

    fn hosts_of(&self, jid: &Jid, mut claims: Vec<Claim>, outdated: Option<Instant>) -> Vec<Host> {
        self.learned.complete(jid.as_str(), &mut claims, outdated);
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

    /// Makes the next look-up of `jid` ask the store, if the cached answer is at least
    /// `age` old. Then that answer counts only if the store does not answer;
    /// [learned](Self::learn) origins stay.
    pub fn ask_anew(&self, jid: &Jid, age: Duration) {
        self.store.invalidate(jid.as_str(), age);
    }

    /// Remembers that an envelope of `sender` came from `origin`, until the table has
    /// a claim of the sender. A cached answer that names only other hosts is not used any
    /// more: the sender has moved, or is in both places. An origin that `is_peer` rejects is
    /// ignored, and with unique accounts one that does not own the name.
    pub fn learn(&self, sender: &Jid, origin: &Host, is_peer: impl Fn(&Host) -> bool) {
        if sender.node().is_none() || *origin == self.local {
            return;
        }
        let known = self.store.lookup_now(sender.as_str());
        let at_origin = |claims: &[Claim]| claims.iter().any(|claim| claim.host == *origin);
        if known.as_ref().is_some_and(|known| at_origin(&known.full)) || self.is_here(sender) {
            return;
        }
        let bare = Jid::from(sender.to_bare());
        let full = sender
            .is_full()
            .then(|| (sender, known.map(|known| known.full)));
        let bare_known = self.store.lookup_now(bare.as_str());
        let home = bare_known.as_ref().and_then(|known| known.home.as_ref());
        if !is_peer(origin) || (self.accounts == Accounts::Unique && home != Some(origin)) {
            return;
        }
        let bare_known = bare_known.map(|known| known.bare);
        for (jid, known) in full.into_iter().chain([(&bare, bare_known)]) {
            match known {
                Some(claims) if at_origin(&claims) => continue,
                Some(claims) if !claims.is_empty() => self.store.invalidate(jid.as_str(), MOMENT),
                _ => {}
            }
            if !self.is_here(jid) {
                self.learned.learn(jid.as_str(), origin);
            }
        }
    }

    /// Notes that the component stream is down, and with it the server's presence.
    pub fn detached(&self) {
        self.state().tracker.detached(Instant::now());
        self.news.notify_one();
    }

    /// Notes that the component stream is up again. Returns the probes (global addresses) for the
    /// server. Sessions that do not answer are withdrawn.
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
        self.state.lock()
    }
}

fn write_probe(probe: Probe) -> Stanza {
    Stanza::probe(probe.from.into(), probe.to.into())
}
