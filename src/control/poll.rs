//! Asks for lists, again and again.

use std::sync::Arc;
use std::time::Duration;

use jid::BareJid;
use tokio::sync::watch;
use tokio::time::{Instant, sleep};

use super::client::{ControlClient, NoAnswer};
use super::graphql::MongooseIm;
use super::status::{self, AccountsStatus, ControlStatus, Offer};
use super::{accounts, list, requests};
use crate::component::Attachment;
use crate::config::{Source, Sources};
use crate::metrics::Metrics;
use crate::sessions::Sessions;
use crate::sessions::tracker::Listing;

/// How often all sessions are listed. A list of 1,000 takes a server a few
/// milliseconds.
const EVERY: Duration = Duration::from_secs(5);
/// A list that takes long is asked for less often: the server has other things
/// to do for this many times as long.
const REST: u32 = 20;
/// How often a server that has no list is asked whether it has one now.
const RETRY: Duration = Duration::from_secs(30);
/// How often the accounts are listed.
const ACCOUNTS_EVERY: Duration = Duration::from_secs(300);
/// ejabberd's node of all sessions.
const ONLINE_NODE: &str = "online users";

/// Asks for lists; behind a [`super::Control`].
pub struct ListPoller {
    sources: Sources,
    sessions: Arc<Sessions>,
    metrics: Arc<Metrics>,
    client: Option<Arc<ControlClient>>,
    mongooseim: Option<MongooseIm>,
    shared: watch::Receiver<Attachment>,
    control: Option<watch::Receiver<Attachment>>,
    privilege: Option<watch::Receiver<bool>>,
    status: watch::Sender<ControlStatus>,
    /// What is told at last.
    now: ControlStatus,
    /// The list that works.
    lists: Option<Source>,
    silent_ends: bool,
    accounts_at: Option<Instant>,
}

/// Why there is no list; for people.
type Why = String;

impl ListPoller {
    pub(super) fn new(
        sources: Sources,
        sessions: Arc<Sessions>,
        metrics: Arc<Metrics>,
        client: Option<Arc<ControlClient>>,
        mongooseim: Option<MongooseIm>,
        shared: watch::Receiver<Attachment>,
    ) -> (Self, watch::Receiver<ControlStatus>) {
        let (status, told) = watch::channel(ControlStatus::default());
        let poll = Self {
            sources,
            sessions,
            metrics,
            control: client.as_ref().map(|client| client.attachment()),
            privilege: client.as_ref().map(|client| client.privilege()),
            client,
            mongooseim,
            shared,
            status,
            now: ControlStatus::default(),
            lists: None,
            silent_ends: false,
            accounts_at: None,
        };
        (poll, told)
    }

    pub(super) async fn run(mut self) {
        loop {
            let began = Instant::now();
            self.go_round().await;
            self.tell();
            let wait = match self.lists {
                Some(_) => EVERY.max(began.elapsed() * REST),
                None => RETRY,
            };
            self.wait(wait).await;
        }
    }

    /// Until it is time again, or something changes.
    async fn wait(&mut self, time: Duration) {
        let (control, privilege) = (self.control.as_mut(), self.privilege.as_mut());
        tokio::select! {
            () = sleep(time) => {}
            () = changed(Some(&mut self.shared)) => {}
            () = changed(control) => {}
            () = changed(privilege) => {}
        }
    }

    async fn go_round(&mut self) {
        if let Some(client) = &self.client
            && !is_up(self.control.as_ref())
        {
            client.detached();
            self.now.server = None;
            if self.lists != Some(Source::GraphQl) {
                self.stop();
            }
        }
        if self.lists.is_none() {
            self.choose().await;
        }
        if let Some(source) = self.lists {
            self.list(source).await;
        }
        let due = self.accounts_at.is_none_or(|at| at <= Instant::now());
        if due && (self.mongooseim.is_some() || is_up(self.control.as_ref())) {
            self.settle_homes().await;
        }
    }

    fn stop(&mut self) {
        if self.lists.take().is_some() {
            self.sessions.lists_stopped();
        }
        self.accounts_at = None;
    }

    /// Finds out which list the server has.
    async fn choose(&mut self) {
        self.now.missing.clear();
        if let Some(client) = self.client.clone()
            && is_up(self.control.as_ref())
        {
            self.meet(&client).await;
        }
        for source in [Source::Admin, Source::Disco, Source::GraphQl] {
            if self.lists.is_none() && self.sources.allow(source) {
                match self.try_source(source).await {
                    Some(Ok(())) => self.lists = Some(source),
                    Some(Err(why)) => self.now.missing.push((source, why)),
                    None => {}
                }
            }
        }
        if self.lists.is_some() {
            if self.sources == Sources::Auto {
                self.now.missing.clear();
            }
            self.sessions.expect_lists();
        }
    }

    /// Which server it is tells what its presence is worth.
    async fn meet(&mut self, client: &ControlClient) {
        let answer = client.ask("get", requests::info()).await;
        self.now.server = answer.ok().as_ref().and_then(requests::read_name);
        // It sends no end of a connection that is lost or closed.
        let name = self.now.server.as_deref().unwrap_or_default();
        self.silent_ends = name.to_lowercase().contains("ejabberd");
        client.set_silent_ends(self.silent_ends);
    }

    /// Whether the server gives this list; `None` without a way to ask at present.
    async fn try_source(&self, source: Source) -> Option<Result<(), Why>> {
        if source == Source::GraphQl {
            let mongooseim = self.mongooseim.as_ref()?;
            let sessions = mongooseim.sessions().await;
            return Some(sessions.map(drop).map_err(|error| error.to_string()));
        }
        let client = self.client.as_ref()?;
        if !is_up(self.control.as_ref()) {
            return None;
        }
        let tried = match source {
            Source::Admin => online_by_command(client, true).await.map(drop),
            _ => online_by_disco(client).await.map(drop),
        };
        Some(tried.map_err(|error| advice(source, client, &error)))
    }

    async fn list(&mut self, source: Source) {
        let asked_at = Instant::now();
        let listing = match (source, &self.client, &self.mongooseim) {
            (Source::GraphQl, _, Some(mongooseim)) => mongooseim
                .sessions()
                .await
                .map_err(|error| error.to_string()),
            (Source::Admin, Some(client), _) => with_details(client)
                .await
                .map_err(|error| error.to_string()),
            (_, Some(client), _) => online_by_disco(client)
                .await
                .map_err(|error| error.to_string()),
            (_, None, _) => return,
        };
        let outcome = if listing.is_ok() { "ok" } else { "failed" };
        self.metrics
            .control_lists
            .with_label_values(&[source.word(), outcome])
            .inc();
        match listing {
            Ok(listing) => self.sessions.listed(&listing, asked_at),
            Err(why) => {
                self.now.missing = vec![(source, why)];
                self.stop();
            }
        }
    }

    /// Who has an account here and no home yet is at home here.
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
        let again = match self.sessions.settle_homes(&accounts).await {
            Ok(()) => ACCOUNTS_EVERY,
            Err(error) => {
                tracing::debug!(%error, "the homes of this server's accounts could not be written");
                EVERY
            }
        };
        self.accounts_at = Some(Instant::now() + again);
    }

    async fn ask_accounts(&self) -> Result<Vec<BareJid>, Why> {
        if self.lists == Some(Source::GraphQl) || self.client.is_none() {
            let Some(mongooseim) = &self.mongooseim else {
                return Err("nobody to ask".to_owned());
            };
            return mongooseim
                .accounts()
                .await
                .map_err(|error| error.to_string());
        }
        let Some(client) = &self.client else {
            return Err("nobody to ask".to_owned());
        };
        let found = match accounts::by_disco(client).await {
            Ok(accounts) => Ok(accounts),
            Err(_) => accounts::by_command(client).await,
        };
        found.map_err(|error| {
            format!(
                "{error}; ejabberd lists its accounts to who may `configure`, Prosody needs \
                 mod_strait_accounts (packaging/prosody)"
            )
        })
    }

    /// Publishes what is used, and logs it when it changes.
    fn tell(&mut self) {
        let offer = Offer {
            lists: self.lists,
            privilege: self
                .privilege
                .as_ref()
                .is_some_and(|granted| *granted.borrow()),
            silent_ends: self.silent_ends,
        };
        self.now.used = status::used(&self.sources, offer);
        self.now.unseen = status::unseen(&self.now.used, offer);
        let before = self.status.send_replace(self.now.clone());
        if (&before.used, &before.missing) == (&self.now.used, &self.now.missing) {
            return;
        }
        let used: Vec<&str> = self
            .now
            .used
            .iter()
            .map(|used| used.source.word())
            .collect();
        tracing::info!(
            server = self.now.server.as_deref().unwrap_or("unknown"),
            sources = used.join(","),
            unseen = self.now.unseen.join("; "),
            "this is how it is known who is online here"
        );
        for (source, why) in &self.now.missing {
            tracing::warn!(source = source.word(), "a source does not work: {why}");
        }
    }
}

/// Waits for a change; without anything to follow, for ever.
async fn changed<T>(followed: Option<&mut watch::Receiver<T>>) {
    if let Some(followed) = followed
        && followed.changed().await.is_ok()
    {
        return;
    }
    std::future::pending().await
}

fn is_up(attachment: Option<&watch::Receiver<Attachment>>) -> bool {
    attachment.is_some_and(|now| matches!(*now.borrow(), Attachment::Attached { .. }))
}

/// XEP-0133's list as Prosody gives it; `details` for sessions, not only users.
async fn online_by_command(client: &ControlClient, details: bool) -> Result<Vec<String>, NoAnswer> {
    let node = requests::ONLINE;
    let answer = client.ask("set", requests::execute(node)).await?;
    let form = requests::read_command(&answer).ok_or(NoAnswer::Strange("a command"))?;
    if form.completed || !form.has("details") {
        return Err(NoAnswer::Strange(
            "a choice of details: only users, no sessions",
        ));
    }
    let session = form.session.as_deref().unwrap_or_default();
    let details = if details { "1" } else { "0" };
    let fields = [("max_items", "all"), ("details", details)];
    let answer = client
        .ask("set", requests::submit(node, session, &fields))
        .await?;
    let command = requests::read_command(&answer).ok_or(NoAnswer::Strange("a command"))?;
    let values = command.values("onlineuserjids");
    values
        .map(<[String]>::to_vec)
        .ok_or(NoAnswer::Strange("onlineuserjids"))
}

async fn with_details(client: &ControlClient) -> Result<Listing, NoAnswer> {
    let users = online_by_command(client, false).await?;
    let sessions = online_by_command(client, true).await?;
    Ok(list::with_details(&sessions, &users, client.names()))
}

async fn online_by_disco(client: &ControlClient) -> Result<Listing, NoAnswer> {
    let answer = client
        .ask("get", requests::items(Some(ONLINE_NODE)))
        .await?;
    let items = requests::read_items(&answer).ok_or(NoAnswer::Strange("items"))?;
    let jids = items.iter().map(|item| item.jid.as_str());
    Ok(list::full(jids, client.names()))
}

/// What to change for the server to give this list.
fn advice(source: Source, client: &ControlClient, error: &NoAnswer) -> Why {
    let us = client.domain();
    match (source, error) {
        (_, NoAnswer::Detached | NoAnswer::Late(_)) => error.to_string(),
        (Source::Admin, _) => format!(
            "{error}. Prosody: `admins = {{ \"{us}\" }}` and \"admin_adhoc\" in modules_enabled of \
             the VirtualHost"
        ),
        _ => format!(
            "{error}. ejabberd: mod_configure, and an access rule `configure` that allows {us} \
             alone (`node_regexp`, not `server`, which allows every user there)"
        ),
    }
}
