//! MongooseIM's admin interface: a few questions in GraphQL over HTTP.

use std::time::Duration;

use jid::BareJid;
use serde_json::{Value, json};

use super::{Names, list};
use crate::config;
use crate::host::Host;
use crate::sessions::tracker::Listing;

/// So long may an answer take; a list of many sessions is long.
const PATIENCE: Duration = Duration::from_secs(30);

/// The client could not be set up.
#[derive(Debug, thiserror::Error)]
#[error("control.mongooseim: the HTTP client cannot be set up: {0}")]
pub struct Unusable(reqwest::Error);

/// MongooseIM did not answer, or not with what was asked for. Holds no password.
#[derive(Debug, thiserror::Error)]
pub(super) enum NoAnswer {
    #[error("MongooseIM's admin interface cannot be asked: {0}")]
    Http(#[from] reqwest::Error),
    #[error("MongooseIM's admin interface refuses: {0}")]
    Refused(String),
    #[error("MongooseIM's admin interface answers without {0}")]
    Strange(&'static str),
}

/// A client of one MongooseIM.
#[derive(Debug)]
pub(super) struct MongooseIm {
    client: reqwest::Client,
    config: config::MongooseImConfig,
    local: Host,
    names: Names,
}

impl MongooseIm {
    pub(super) fn new(
        config: &config::MongooseImConfig,
        local: Host,
        names: Names,
    ) -> Result<Self, Unusable> {
        // The way to one's own server is no matter of a proxy.
        let client = reqwest::Client::builder().timeout(PATIENCE).no_proxy();
        Ok(Self {
            client: client.build().map_err(Unusable)?,
            config: config.clone(),
            local,
            names,
        })
    }

    /// All sessions, also those without presence and those that hibernate.
    pub(super) async fn sessions(&self) -> Result<Listing, NoAnswer> {
        let what = format!(
            "{{ session {{ listSessions(domain: {}) {{ user }} }} }}",
            self.domain()
        );
        let answer = self.ask(&what).await?;
        let sessions = answer
            .pointer("/data/session/listSessions")
            .and_then(Value::as_array)
            .ok_or(NoAnswer::Strange("sessions"))?;
        let jids = sessions
            .iter()
            .filter_map(|session| session["user"].as_str());
        Ok(list::full(jids, &self.names))
    }

    /// All accounts.
    pub(super) async fn accounts(&self) -> Result<Vec<BareJid>, NoAnswer> {
        let what = format!("{{ account {{ listUsers(domain: {}) }} }}", self.domain());
        let answer = self.ask(&what).await?;
        let users = answer
            .pointer("/data/account/listUsers")
            .and_then(Value::as_array)
            .ok_or(NoAnswer::Strange("accounts"))?;
        let jids: Vec<String> = users
            .iter()
            .filter_map(Value::as_str)
            .map(|user| match user.contains('@') {
                true => user.to_owned(),
                false => format!("{user}@{}", self.local),
            })
            .collect();
        Ok(list::bare(&jids, &self.names))
    }

    /// As a string of GraphQL, which is written like one of JSON.
    fn domain(&self) -> Value {
        Value::from(self.local.as_str())
    }

    async fn ask(&self, query: &str) -> Result<Value, NoAnswer> {
        let answer = self
            .client
            .post(&self.config.url)
            .basic_auth(&self.config.username, Some(self.config.password.reveal()))
            .json(&json!({ "query": query }))
            .send()
            .await?
            .error_for_status()?;
        let answer: Value = answer.json().await?;
        match answer.pointer("/errors/0/message").and_then(Value::as_str) {
            Some(message) => Err(NoAnswer::Refused(message.escape_debug().to_string())),
            None => Ok(answer),
        }
    }
}
