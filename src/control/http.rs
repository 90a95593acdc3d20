//! A server's HTTP interface for administrators.

use std::time::Duration;

use serde_json::Value;

use crate::servers::{AdminApi, NoAnswer};

/// The longest wait for an answer; a list of many sessions is long.
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

    /// Posts `body`, and posts it once more if there was no HTTP response.
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

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;
    use crate::config::Secret;

    const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n\
                            content-length: 2\r\n\r\n{}";

    /// A server that answers one request per connection and keeps the connection
    /// open; connections in `silent` receive no answer.
    async fn server(silent: &'static [usize]) -> AdminClient {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/api", listener.local_addr().unwrap());
        tokio::spawn(async move {
            let mut open = Vec::new();
            for number in 1.. {
                let (mut socket, _) = listener.accept().await.unwrap();
                let mut request = [0; 4096];
                assert!(socket.read(&mut request).await.unwrap() > 0);
                if !silent.contains(&number) {
                    socket.write_all(ANSWER).await.unwrap();
                    open.push(socket);
                }
            }
        });
        let api = AdminApi {
            url,
            username: "u".to_owned(),
            password: Secret::new("p".to_owned()),
        };
        AdminClient::new(api).unwrap()
    }

    #[tokio::test]
    async fn no_request_goes_over_a_connection_that_was_idle() {
        let client = server(&[]).await;
        for _ in 0..3 {
            client.try_post(&Value::Null).await.unwrap();
        }
    }

    #[tokio::test]
    async fn a_request_without_a_response_is_sent_once_more() {
        let client = server(&[1, 3, 4]).await;
        client.post(&Value::Null).await.unwrap();
        assert!(client.post(&Value::Null).await.is_err());
        client.post(&Value::Null).await.unwrap();
    }
}
