//! The commands of an operator to a running gateway: `strait reload`, `strait drain`.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::{StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use tokio_util::sync::CancellationToken;

/// The actions behind `POST /api/reload` and `POST /api/drain`.
pub struct Commands {
    /// Reads the configuration again; the error says why it can't be used.
    pub reload: Box<dyn Fn() -> Result<(), String> + Send + Sync>,
    /// Cancelled to drain and stop the gateway.
    pub shutdown: CancellationToken,
}

pub(super) async fn reload(State(commands): State<Arc<Commands>>) -> Response {
    // Reads files.
    let reloaded = tokio::task::spawn_blocking(move || (commands.reload)()).await;
    match reloaded.unwrap_or_else(|error| Err(error.to_string())) {
        Ok(()) => "reloaded\n".into_response(),
        Err(problem) => {
            let problem = format!("not reloaded: {problem}\n");
            (StatusCode::UNPROCESSABLE_ENTITY, problem).into_response()
        }
    }
}

pub(super) async fn drain(State(commands): State<Arc<Commands>>) -> Response {
    tracing::info!("draining, as `strait drain` requests");
    commands.shutdown.cancel();
    (StatusCode::ACCEPTED, "draining\n").into_response()
}

/// Refuses commands that a web page sends: a browser names the page in `Origin`.
pub(super) async fn refuse_web_pages(request: Request, next: Next) -> Response {
    if request.headers().contains_key(header::ORIGIN) {
        let text = "commands from web pages are refused\n";
        return (StatusCode::FORBIDDEN, text).into_response();
    }
    next.run(request).await
}
