//! A server's HTTP interface for administrators.

use std::time::Duration;

use serde_json::Value;

use crate::servers::{AdminApi, NoAnswer};

/// How long an answer may take; a list of many sessions is long.
const PATIENCE: Duration = Duration::from_secs(30);

/// The client could not be set up.
#[derive(Debug, thiserror::Error)]
#[error("the HTTP client for the server's admin interface cannot be set up: {0}")]
pub struct Unusable(reqwest::Error);

/// A client of one [`AdminApi`].
pub(super) struct AdminClient {
    client: reqwest::Client,
    api: AdminApi,
}

impl AdminClient {
    pub(super) fn new(api: AdminApi) -> Result<Self, Unusable> {
        let client = reqwest::Client::builder()
            .timeout(PATIENCE)
            // Servers close an idle connection about when the next list is due
            // (cowboy after 5 s), which fails the request.
            .pool_max_idle_per_host(0)
            // The server is this datacenter's own.
            .no_proxy();
        Ok(Self {
            client: client.build().map_err(Unusable)?,
            api,
        })
    }

    /// Posts `body`, once more if there was no HTTP response.
    pub(super) async fn post(&self, body: &Value) -> Result<Value, NoAnswer> {
        match self.try_post(body).await {
            Err(error) if error.status().is_none() => Ok(self.try_post(body).await?),
            answer => Ok(answer?),
        }
    }

    async fn try_post(&self, body: &Value) -> reqwest::Result<Value> {
        let request = self.client.post(&self.api.url).json(body);
        let password = Some(self.api.password.reveal());
        let request = request.basic_auth(&self.api.username, password);
        request.send().await?.error_for_status()?.json().await
    }
}
