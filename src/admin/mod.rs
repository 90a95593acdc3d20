//! The admin listener: metrics for Prometheus, health for supervisors, and
//! look-ups in the session table.

mod allowed_hosts;
mod commands;
mod lookup;

pub use commands::Commands;

use std::net::SocketAddr;
use std::sync::Arc;

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::middleware::{from_fn, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::host::Host;
use crate::metrics::Metrics;
use crate::store::Store;

/// One condition for the gateway to be ready.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Check {
    /// The subject of the check: `component`, `store`, `link dc2.example.com`.
    pub name: String,
    /// `Err` explains the failure.
    pub state: Result<(), String>,
    /// The gateway is not ready while this check fails.
    pub needed: bool,
}

/// Runs the checks; called for each request.
pub type Readiness = dyn Fn() -> Vec<Check> + Send + Sync;

/// Collects the gateway's state; called for each request.
pub type Statuses = dyn Fn() -> serde_json::Value + Send + Sync;

/// Serves `/metrics`, `/healthz`, `/readyz`, `/api/status`, `/api/lookup/JID`, and the
/// commands `/api/reload` and `/api/drain`.
#[derive(Debug)]
pub struct Admin {
    listener: TcpListener,
    allowed_hosts: Arc<[Host]>,
}

#[derive(Clone)]
struct Source {
    metrics: Arc<Metrics>,
    readiness: Arc<Readiness>,
    status: Arc<Statuses>,
    store: Arc<dyn Store>,
}

impl Admin {
    /// Listens on `address` (`admin.listen`) for requests to IP addresses, `localhost`
    /// and `allowed_hosts` (`admin.allowed_hosts`).
    ///
    /// # Errors
    /// The address can't be bound.
    pub async fn bind(address: SocketAddr, allowed_hosts: Vec<Host>) -> std::io::Result<Self> {
        Ok(Self {
            listener: TcpListener::bind(address).await?,
            allowed_hosts: allowed_hosts.into(),
        })
    }

    /// The bound address.
    ///
    /// # Errors
    /// The system does not report the address.
    pub fn local_addr(&self) -> std::io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Answers requests until `shutdown`.
    pub async fn run(
        self,
        metrics: Arc<Metrics>,
        readiness: Arc<Readiness>,
        status: Arc<Statuses>,
        store: Arc<dyn Store>,
        commands: Commands,
        shutdown: CancellationToken,
    ) {
        let commands = Router::new()
            .route("/api/reload", post(commands::reload))
            .route("/api/drain", post(commands::drain))
            .layer(from_fn(commands::refuse_web_pages))
            .with_state(Arc::new(commands));
        let router = Router::new()
            .route("/metrics", get(show_metrics))
            .route("/healthz", get(|| async { "ok\n" }))
            .route("/readyz", get(show_readiness))
            .route("/api/status", get(show_status))
            .route("/api/lookup/{*jid}", get(lookup::show))
            .with_state(Source {
                metrics,
                readiness,
                status,
                store,
            })
            .merge(commands)
            .layer(from_fn_with_state(self.allowed_hosts, allowed_hosts::check));
        let served = axum::serve(self.listener, router)
            .with_graceful_shutdown(async move { shutdown.cancelled().await });
        if let Err(error) = served.await {
            tracing::error!(%error, "the admin listener has ended");
        }
    }
}

async fn show_metrics(State(source): State<Source>) -> Response {
    (
        [(header::CONTENT_TYPE, "text/plain; version=0.0.4")],
        source.metrics.render(),
    )
        .into_response()
}

async fn show_status(State(source): State<Source>) -> Response {
    Json((source.status)()).into_response()
}

async fn show_readiness(State(source): State<Source>) -> Response {
    let checks = (source.readiness)();
    let ready = checks
        .iter()
        .all(|check| check.state.is_ok() || !check.needed);
    let status = if ready {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    let lines: String = checks
        .iter()
        .map(|check| match &check.state {
            Ok(()) => format!("{}: ok\n", check.name),
            Err(why) => format!("{}: {why}\n", check.name),
        })
        .collect();
    (status, lines).into_response()
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
    use std::time::Duration;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpStream;

    use super::*;
    use crate::store::{MemoryCluster, OwnClaim};

    async fn get(address: SocketAddr, path: &str) -> String {
        request(
            address,
            &format!("GET {path}"),
            &format!("Host: {address}\r\n"),
        )
        .await
    }

    async fn request(address: SocketAddr, what: &str, headers: &str) -> String {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let request = format!("{what} HTTP/1.1\r\n{headers}Connection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }

    #[tokio::test]
    async fn tells_metrics_health_and_what_is_not_ready() {
        let gw1 = Host::new("gw1.dc1.test").unwrap();
        let admin = Admin::bind("127.0.0.1:0".parse().unwrap(), vec![gw1]);
        let admin = admin.await.unwrap();
        let address = admin.local_addr().unwrap();
        let store_needed = Arc::new(AtomicBool::new(true));
        let needed = Arc::clone(&store_needed);
        let readiness: Arc<Readiness> = Arc::new(move || {
            vec![
                Check {
                    name: "component".into(),
                    state: Ok(()),
                    needed: true,
                },
                Check {
                    name: "store".into(),
                    state: Err("no answer".into()),
                    needed: needed.load(Ordering::Relaxed),
                },
            ]
        });
        let shutdown = CancellationToken::new();
        let metrics = Arc::new(Metrics::new());
        let table = MemoryCluster::new(Duration::from_secs(120));
        let store = table.store(Host::new("dc1.test").unwrap(), "n1");
        let claim = OwnClaim {
            jid: "alice@example.test".to_owned(),
            since: 5,
            fresh: true,
        };
        store.claim(&[claim]).await.unwrap();
        let (reloads, drained) = (AtomicU32::new(0), CancellationToken::new());
        let running = tokio::spawn(admin.run(
            metrics,
            readiness,
            Arc::new(|| serde_json::json!({ "sessions": 3 })),
            store,
            Commands {
                reload: Box::new(move || match reloads.fetch_add(1, Ordering::Relaxed) {
                    0 => Ok(()),
                    _ => Err("ca.pem is missing".to_owned()),
                }),
                shutdown: drained.clone(),
            },
            shutdown.clone(),
        ));

        assert!(get(address, "/healthz").await.starts_with("HTTP/1.1 200"));
        assert!(
            get(address, "/metrics")
                .await
                .contains("strait_stanzas_held 0")
        );
        let status = get(address, "/api/status").await;
        assert!(
            status.contains("content-type: application/json"),
            "{status}"
        );
        assert!(status.ends_with(r#"{"sessions":3}"#), "{status}");
        let ready = get(address, "/readyz").await;
        assert!(ready.starts_with("HTTP/1.1 503"), "{ready}");
        assert!(
            ready.contains("component: ok\nstore: no answer\n"),
            "{ready}"
        );
        store_needed.store(false, Ordering::Relaxed);
        let ready = get(address, "/readyz").await;
        assert!(ready.starts_with("HTTP/1.1 200"), "{ready}");
        assert!(ready.contains("store: no answer\n"), "{ready}");

        for (headers, status) in [
            ("Host: gw1.dc1.test:9090\r\n", 200),
            ("Host: rebinding.example\r\n", 421),
        ] {
            for path in [
                "/healthz",
                "/metrics",
                "/api/status",
                "/api/lookup/a@b",
                "/other",
            ] {
                let answer = request(address, &format!("GET {path}"), headers).await;
                let status = if path == "/other" && status == 200 {
                    404
                } else {
                    status
                };
                let expected = format!("HTTP/1.1 {status}");
                assert!(answer.starts_with(&expected), "{path}: {answer}");
                assert_eq!(answer.contains("admin.allowed_hosts"), status == 421);
            }
        }

        let found = get(address, "/api/lookup/Alice@example.test").await;
        let expected = r#"{"claims":[{"host":"dc1.test","since":5}],"home":"dc1.test","jid":"alice@example.test"}"#;
        assert!(found.ends_with(expected), "{found}");
        let nowhere = get(address, "/api/lookup/alice@example.test/phone").await;
        let expected = r#"{"claims":[],"home":"dc1.test","jid":"alice@example.test/phone"}"#;
        assert!(nowhere.ends_with(expected), "{nowhere}");
        let bad = get(address, "/api/lookup/@").await;
        assert!(bad.starts_with("HTTP/1.1 400"), "{bad}");
        table.set_available(false);
        let down = get(address, "/api/lookup/alice@example.test").await;
        assert!(down.starts_with("HTTP/1.1 503"), "{down}");

        let host = format!("Host: {address}\r\n");
        let done = request(address, "POST /api/reload", &host).await;
        assert!(done.starts_with("HTTP/1.1 200"), "{done}");
        let failed = request(address, "POST /api/reload", &host).await;
        assert!(failed.starts_with("HTTP/1.1 422"), "{failed}");
        assert!(failed.ends_with("ca.pem is missing\n"), "{failed}");
        let page = format!("{host}Origin: http://page.test\r\n");
        let refused = request(address, "POST /api/drain", &page).await;
        assert!(refused.starts_with("HTTP/1.1 403"), "{refused}");
        let unsafe_method = request(address, "GET /api/drain", &host).await;
        assert!(unsafe_method.starts_with("HTTP/1.1 405"), "{unsafe_method}");
        let other = "Host: page.test\r\n";
        let refused = request(address, "POST /api/drain", other).await;
        assert!(!refused.starts_with("HTTP/1.1 2"), "{refused}");
        assert!(!drained.is_cancelled());
        let accepted = request(address, "POST /api/drain", &host).await;
        assert!(accepted.starts_with("HTTP/1.1 202"), "{accepted}");
        assert!(drained.is_cancelled());
        shutdown.cancel();
        running.await.unwrap();
    }
}
