//! Polls the server for lists of sessions and accounts.

use std::time::Duration;

use jid::BareJid;
use tokio::sync::watch;
use tokio::time::{Instant, sleep};

use super::status::{self, AccountsStatus, AvailableSources, ControlStatus};
use super::{Channels, ControlSettings, Names};
use crate::component::Attachment;
use crate::config::Sources;
use crate::servers::{self, NoAnswer, ServerProblem, ServerSoftware};

/// The interval between lists of all sessions. A list of 1,000 takes a server a
/// few milliseconds.
const EVERY: Duration = Duration::from_secs(5);
/// The server rests this many times as long as a list took, so that slow lists
/// are requested less often.
const REST: u32 = 20;
/// The interval at which a server without a list is asked again.
const RETRY: Duration = Duration::from_secs(30);
/// The interval between lists of the accounts.
const ACCOUNTS_EVERY: Duration = Duration::from_secs(300);

/// The task behind a [`super::Control`].
pub(super) struct ListPoller {
    pub(super) settings: ControlSettings,
    pub(super) names: Names,
    pub(super) channels: Channels,
    pub(super) control: Option<watch::Receiver<Attachment>>,
    pub(super) privilege: Option<watch::Receiver<bool>>,
    pub(super) status: watch::Sender<ControlStatus>,
    /// The status to publish next.
    pub(super) now: ControlStatus,
    /// The software with a working list of sessions.
    pub(super) lists: Option<&'static dyn ServerSoftware>,
    pub(super) accounts_at: Option<Instant>,
}

impl ListPoller {
    pub(super) async fn run(mut self) {
        loop {
            let began = Instant::now();
            self.go_round().await;
            self.publish();
            let wait = match self.lists {
                Some(_) => EVERY.max(began.elapsed() * REST),
                None => RETRY,
            };
            self.wait(wait).await;
        }
    }

    /// Waits for `time`, or until something changes.
    async fn wait(&mut self, time: Duration) {
        let (control, privilege) = (self.control.as_mut(), self.privilege.as_mut());
        tokio::select! {
            () = sleep(time) => {}
            () = changed(Some(&mut self.settings.server)) => {}
            () = changed(Some(&mut self.settings.shared)) => {}
            () = changed(control) => {}
            () = changed(privilege) => {}
        }
    }

    async fn go_round(&mut self) {
        let known = self.settings.server.borrow().clone();
        if let Some(client) = &self.channels.client {
            client.set_silent_ends(known.quirks.hides_lost_connections);
            if !client.is_attached() {
                client.detached();
            }
        }
        self.now.server = known.name;
        if self.lists.is_some_and(|it| !self.channels.are_open_for(it)) {
            self.stop();
        }
        self.list_sessions().await;
        let due = self.accounts_at.is_none_or(|at| at <= Instant::now());
        if due && !self.candidates(&Sources::Auto).is_empty() {
            self.settle_homes().await;
        }
    }

    fn stop(&mut self) {
        if self.lists.take().is_some() {
            self.settings.sessions.lists_stopped();
        }
        self.accounts_at = None;
    }

    /// The software that `sources` permit to ask: the server's own if it is
    /// known, else each.
    fn candidates(&self, sources: &Sources) -> Vec<&'static dyn ServerSoftware> {
        let open = |it: &&'static dyn ServerSoftware| {
            sources.allow(it.list_source()) && self.channels.are_open_for(*it)
        };
        match self.settings.server.borrow().software().filter(open) {
            Some(own) => vec![own],
            None => servers::ALL.iter().copied().filter(open).collect(),
        }
    }

    /// Requests the list of sessions that works or, if there is none, each until one
    /// works.
    async fn list_sessions(&mut self) {
        let candidates = match self.lists {
            Some(software) => vec![software],
            None => self.candidates(&self.settings.sources),
        };
        if self.lists.is_none() {
            self.now.missing.clear();
        }
        for software in candidates {
            let asked_at = Instant::now();
            let list = software.sessions(&self.channels).await;
            let source = software.list_source();
            if self.lists.is_some() || list.is_ok() {
                let outcome = if list.is_ok() { "ok" } else { "failed" };
                let lists = &self.settings.metrics.control_lists;
                lists.with_label_values(&[source.word(), outcome]).inc();
            }
            match list {
                Ok(list) => {
                    if self.lists.replace(software).is_none() {
                        if self.settings.sources == Sources::Auto {
                            self.now.missing.clear();
                        }
                        self.settings.sessions.expect_lists();
                    }
                    let listing = self.names.listing(&list);
                    return self.settings.sessions.listed(&listing, asked_at);
                }
                Err(error) => {
                    let why = self.advice(ServerProblem::NoSessionList, software, &error);
                    self.now.missing.push((source, why));
                    self.stop();
                }
            }
        }
    }

    /// Makes this host the home of its accounts that have none.
    async fn settle_homes(&mut self) {
        let accounts = match self.ask_accounts().await {
            Ok(accounts) => accounts,
            Err(why) => {
                self.accounts_at = Some(Instant::now() + ACCOUNTS_EVERY);
                self.now.accounts = AccountsStatus::Unknown(why);
                return;
            }
        };
        self.now.accounts = AccountsStatus::Known(accounts.len());
        let again = match self.settings.sessions.settle_homes(&accounts).await {
            Ok(()) => ACCOUNTS_EVERY,
            Err(error) => {
                tracing::debug!(%error, "the homes of this server's accounts could not be written");
                EVERY
            }
        };
        self.accounts_at = Some(Instant::now() + again);
    }

    async fn ask_accounts(&self) -> Result<Vec<BareJid>, String> {
        let mut why = Vec::new();
        for software in self.candidates(&Sources::Auto) {
            match software.accounts(&self.channels).await {
                Ok(accounts) => {
                    let accounts = accounts.iter().filter_map(|jid| self.names.user(jid));
                    return Ok(accounts.collect());
                }
                Err(error) => {
                    why.push(self.advice(ServerProblem::NoAccountList, software, &error));
                }
            }
        }
        Err(why.join("; "))
    }

    /// Explains the failure of `software` for people, with the configuration to change.
    fn advice(
        &self,
        problem: ServerProblem,
        software: &dyn ServerSoftware,
        error: &NoAnswer,
    ) -> String {
        let client = self.channels.client.as_ref();
        let domain = client.map_or(&self.channels.local, |client| &client.domain);
        match (error, software.advice(problem, domain)) {
            (NoAnswer::Detached | NoAnswer::Late(_), _) | (_, None) => error.to_string(),
            (_, Some(advice)) => format!("{error}. {}: {advice}", software.name()),
        }
    }

    /// Publishes the sources in use, and logs changes.
    fn publish(&mut self) {
        let granted = self.privilege.as_ref();
        let offer = AvailableSources {
            lists: self.lists.map(|it| it.list_source()),
            privilege: granted.is_some_and(|granted| *granted.borrow()),
            silent_ends: self.settings.server.borrow().quirks.hides_lost_connections,
        };
        self.now.used = status::used(&self.settings.sources, offer);
        self.now.unseen = status::unseen(&self.now.used, offer);
        let before = self.status.send_replace(self.now.clone());
        let shown = |it: &ControlStatus| (it.server.clone(), it.used.clone(), it.missing.clone());
        if shown(&before) == shown(&self.now) {
            return;
        }
        let used: Vec<&str> = self.now.used.iter().map(|it| it.source.word()).collect();
        tracing::info!(
            server = self.now.server.as_deref().unwrap_or("unknown"),
            sources = used.join(","),
            unseen = self.now.unseen.join("; "),
            "these sources show who is online here"
        );
        for (source, why) in &self.now.missing {
            tracing::warn!(source = source.word(), "a source does not work: {why}");
        }
    }
}

/// Waits for a change; without a receiver, for ever.
async fn changed<T>(followed: Option<&mut watch::Receiver<T>>) {
    if let Some(followed) = followed
        && followed.changed().await.is_ok()
    {
        return;
    }
    std::future::pending().await
}
