//! A stand-in for MongooseIM's admin GraphQL: it answers the two queries of the gateway as
//! MongooseIM 6 does. Like cowboy there, it closes a connection that was idle for 5 s.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::{Json, Router};
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio::time::{Instant, Sleep, sleep};

/// The password of `admin`; secrets must not show in any log.
pub const PASSWORD: &str = "admin-password-of-the-tests";
/// `admin:` and [`PASSWORD`] (RFC 7617).
const CREDENTIALS: &str = "Basic YWRtaW46YWRtaW4tcGFzc3dvcmQtb2YtdGhlLXRlc3Rz";

/// Idle time after which a connection is closed.
const IDLE: Duration = Duration::from_secs(5);

/// The stand-in listens until it is dropped.
#[derive(Debug)]
pub struct MongooseAdmin {
    address: SocketAddr,
    /// The lists of a stand-in that has no server.
    own: Arc<Mutex<Listed>>,
    desk: Arc<Desk>,
    server: JoinHandle<()>,
}

/// The lists of users.
#[derive(Debug, Clone, Default)]
pub struct Listed {
    /// Full JIDs of the sessions.
    pub sessions: Vec<String>,
    /// Bare JIDs of the accounts.
    pub accounts: Vec<String>,
}

struct Desk {
    /// Cleared at the end: a connection that is still open gets no more answers.
    is_open: AtomicBool,
    listed: Box<dyn Fn() -> Listed + Send + Sync>,
}

impl std::fmt::Debug for Desk {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Desk").finish_non_exhaustive()
    }
}

/// The URL of the admin interface of a server at `address`.
pub fn url(address: SocketAddr) -> String {
    format!("http://{address}/api/graphql")
}

/// `[control.mongooseim]`, with this password.
pub fn config(url: &str, password: &str) -> String {
    format!("[control.mongooseim]\nurl = '{url}'\nusername = 'admin'\npassword = '{password}'\n")
}

impl MongooseAdmin {
    /// Starts a stand-in with no sessions and no accounts.
    pub async fn start() -> Self {
        let own = Arc::<Mutex<Listed>>::default();
        let listed = Arc::clone(&own);
        let listed = move || listed.lock().clone();
        let mut admin = Self::start_at(([127, 0, 0, 1], 0).into(), listed).await;
        admin.own = own;
        admin
    }

    /// Starts a stand-in at an address; it lists the current result of `listed`.
    pub async fn start_at(
        address: SocketAddr,
        listed: impl Fn() -> Listed + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind(address).await.expect("a free port");
        let address = listener.local_addr().expect("a listening socket");
        let desk = Arc::new(Desk {
            is_open: AtomicBool::new(true),
            listed: Box::new(listed),
        });
        let router = Router::new()
            .route("/api/graphql", post(answer))
            .with_state(Arc::clone(&desk));
        let server = tokio::spawn(async move {
            axum::serve(Closing(listener), router)
                .await
                .expect("a working listener");
        });
        Self {
            address,
            own: Arc::default(),
            desk,
            server,
        }
    }

    /// Stops it, and waits until its address is free.
    pub async fn stop(mut self) {
        self.server.abort();
        let _ = (&mut self.server).await;
    }

    /// `[control.mongooseim]`, with this password.
    pub fn config(&self, password: &str) -> String {
        config(&url(self.address), password)
    }

    /// Sets the full JIDs that are online.
    pub fn set_sessions(&self, jids: &[&str]) {
        self.own.lock().sessions = jids.iter().map(|jid| (*jid).to_owned()).collect();
    }

    /// Sets the bare JIDs that have accounts.
    pub fn set_accounts(&self, jids: &[&str]) {
        self.own.lock().accounts = jids.iter().map(|jid| (*jid).to_owned()).collect();
    }
}

impl Drop for MongooseAdmin {
    fn drop(&mut self) {
        self.desk.is_open.store(false, Ordering::Relaxed);
        self.server.abort();
    }
}

async fn answer(
    State(desk): State<Arc<Desk>>,
    headers: HeaderMap,
    Json(question): Json<Value>,
) -> Response {
    if !desk.is_open.load(Ordering::Relaxed) {
        return (StatusCode::BAD_GATEWAY, [(header::CONNECTION, "close")]).into_response();
    }
    let credentials = headers.get(header::AUTHORIZATION);
    if credentials.is_none_or(|it| it != CREDENTIALS) {
        return StatusCode::UNAUTHORIZED.into_response();
    }
    let listed = (desk.listed)();
    let query = question["query"].as_str().unwrap_or_default();
    let answer = if query.contains("listSessions(domain: \"") {
        let sessions = listed.sessions.iter().map(|jid| json!({ "user": jid }));
        json!({ "data": { "session": { "listSessions": sessions.collect::<Value>() } } })
    } else if query.contains("listUsers(domain: \"") {
        json!({ "data": { "account": { "listUsers": listed.accounts } } })
    } else {
        json!({ "errors": [{ "message": "Cannot query field" }] })
    };
    Json(answer).into_response()
}

/// Accepts connections, and closes them when they were idle for [`IDLE`].
struct Closing(TcpListener);

impl axum::serve::Listener for Closing {
    type Io = Connection;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        let (socket, address) = axum::serve::Listener::accept(&mut self.0).await;
        let idle = Box::pin(sleep(IDLE));
        (Connection { socket, idle }, address)
    }

    fn local_addr(&self) -> io::Result<Self::Addr> {
        self.0.local_addr()
    }
}

struct Connection {
    socket: TcpStream,
    idle: Pin<Box<Sleep>>,
}

impl Connection {
    fn is_used(&mut self) {
        self.idle.as_mut().reset(Instant::now() + IDLE);
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let read = Pin::new(&mut self.socket).poll_read(context, buffer);
        match read {
            Poll::Ready(_) => self.is_used(),
            // A read of no bytes is the connection's end.
            Poll::Pending if self.idle.as_mut().poll(context).is_ready() => {
                return Poll::Ready(Ok(()));
            }
            Poll::Pending => {}
        }
        read
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.is_used();
        Pin::new(&mut self.socket).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(context)
    }
}
