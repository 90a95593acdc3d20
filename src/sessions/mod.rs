//! Who is online where: the session table, its cache, its refresher, and the
//! tracker that sees who is online here.

pub mod tracker;

use std::sync::Arc;

use jid::Jid;
use tokio_util::sync::CancellationToken;

use crate::config;
use crate::host::Host;
use crate::metrics::Metrics;
use crate::stanza::Stanza;
use crate::store::Store;

/// The session table as this gateway sees it.
pub struct Sessions {}

/// Where a JID is, as far as this gateway can know.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Whereabouts {
    /// The hosts that claim the full JID, newest claim first; empty for a bare JID.
    pub full: Vec<Host>,
    /// The hosts that claim the bare JID, newest claim first.
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
        redis: &config::Redis,
        metrics: Arc<Metrics>,
    ) -> Arc<Self> {
        todo!()
    }

    /// Writes claims and withdrawals to the store and refreshes them, until `shutdown`.
    pub async fn run(self: Arc<Self>, shutdown: CancellationToken) {
        todo!()
    }

    /// Learns from a stanza that the local server sent; its sender's address
    /// is a global one already.
    pub fn observe(&self, stanza: &Stanza) {
        todo!()
    }

    /// Where `jid` (user at the global domain) is. Never fails: when the store does not answer in
    /// time, what is known here counts.
    pub async fn locate(&self, jid: &Jid) -> Whereabouts {
        todo!()
    }

    /// Whether a session of `jid` (full: this one; bare: any) is online here.
    #[must_use]
    pub fn is_here(&self, jid: &Jid) -> bool {
        todo!()
    }

    /// Forgets what is cached about `jid` and its bare JID, so that the next look-up asks the store.
    pub fn forget(&self, jid: &Jid) {
        todo!()
    }

    /// An envelope of `sender` came from `origin`: remembers that in the cache
    /// unless the sender is known already.
    pub fn learn(&self, sender: &Jid, origin: &Host) {
        todo!()
    }

    /// The component stream is down: what the server says meanwhile is missed.
    pub fn detached(&self) {
        todo!()
    }

    /// The component stream is up again. Returns the probes (global addresses)
    /// to hand to the server to find out who is still there; who does not answer is withdrawn.
    #[must_use]
    pub fn attached(&self) -> Vec<Stanza> {
        todo!()
    }
}
