//! A stand-in for MongooseIM's admin GraphQL: it understands the two questions
//! that the gateway asks, as MongooseIM 6 answers them.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::{Json, Router};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

/// The password of `admin`; secrets must not show in any log.
pub const PASSWORD: &str = "admin-password-of-the-tests";
/// `admin:` and [`PASSWORD`] (RFC 7617).
const CREDENTIALS: &str = "Basic YWRtaW46YWRtaW4tcGFzc3dvcmQtb2YtdGhlLXRlc3Rz";

/// It listens until it is dropped.
#[derive(Debug)]
pub struct MongooseAdmin {
    address: SocketAddr,
    lists: Arc<Mutex<Lists>>,
    server: JoinHandle<()>,
}

#[derive(Debug, Default)]
struct Lists {
    sessions: Vec<String>,
    accounts: Vec<String>,
}

impl MongooseAdmin {
    /// Nobody is online, nobody has an account.
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("a listening socket");
        let lists = Arc::new(Mutex::new(Lists::default()));
        let router = Router::new()
            .route("/api/graphql", post(answer))
            .with_state(Arc::clone(&lists));
        let server = tokio::spawn(async move {
            axum::serve(listener, router)
                .await
                .expect("a working listener");
        });
        Self {
            address,
            lists,
            server,
        }
    }

    /// For `[control.mongooseim]`.
    pub fn url(&self) -> String {
        format!("http://{}/api/graphql", self.address)
    }

    /// From now on these full JIDs are online.
    pub fn set_sessions(&self, jids: &[&str]) {
        self.lists.lock().expect("not poisoned").sessions =
            jids.iter().map(|jid| (*jid).to_owned()).collect();
    }

    /// From now on these bare JIDs have accounts.
    pub fn set_accounts(&self, jids: &[&str]) {
        self.lists.lock().expect("not poisoned").accounts =
            jids.iter().map(|jid| (*jid).to_owned()).collect();
    }
}

impl Drop for MongooseAdmin {
    fn drop(&mut self) {
        self.server.abort();
    }
}

async fn answer(
    State(lists): State<Arc<Mutex<Lists>>>,
    headers: HeaderMap,
    Json(question): Json<Value>,
) -> Response {
    let credentials = headers.get(header::AUTHORIZATION);
    if credentials.is_none_or(|it| it != CREDENTIALS) {
        return StatusCode::UNAUTHORIZED.into_response();
    }
    let lists = lists.lock().expect("not poisoned");
    let query = question["query"].as_str().unwrap_or_default();
    let answer = if query.contains("listSessions(domain: \"") {
        let sessions = lists.sessions.iter().map(|jid| json!({ "user": jid }));
        json!({ "data": { "session": { "listSessions": sessions.collect::<Value>() } } })
    } else if query.contains("listUsers(domain: \"") {
        json!({ "data": { "account": { "listUsers": lists.accounts } } })
    } else {
        json!({ "errors": [{ "message": "Cannot query field" }] })
    };
    Json(answer).into_response()
}
