//! One connection of a component or a client: bytes in, orders out.

use std::sync::Arc;

use parking_lot::{Mutex, MutexGuard};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::mpsc;
use uuid::Uuid;

use super::session::{Order, Outgoing};
use super::state::State;
use super::tree::{Broken, Piece, Reader, Tree};

const STREAMS: &str = "urn:ietf:params:xml:ns:xmpp-streams";

/// Shared state of every connection.
#[derive(Debug, Clone)]
pub struct Shared(pub Arc<Mutex<State>>);

impl Shared {
    pub fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock()
    }
}

/// The kind of a connection's end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// `</stream:stream>`
    Stream,
    /// The connection is closed.
    Socket,
    /// The input is not XML.
    Broken,
}

/// The reading side of a connection.
#[derive(Debug)]
pub struct Incoming {
    socket: OwnedReadHalf,
    reader: Reader,
    bytes: Vec<u8>,
}

impl Incoming {
    /// Reads the next header or stanza.
    pub async fn next(&mut self) -> Result<Tree, End> {
        loop {
            let mut rest = self.bytes.as_slice();
            let piece = self.reader.next(&mut rest);
            let left = rest.len();
            self.bytes.drain(..self.bytes.len() - left);
            match piece {
                Ok(Some(Piece::Header(tree) | Piece::Element(tree))) => return Ok(tree),
                Ok(Some(Piece::End)) => return Err(End::Stream),
                Err(Broken) => return Err(End::Broken),
                Ok(None) => {}
            }
            match self.socket.read_buf(&mut self.bytes).await {
                Ok(1..) => {}
                Ok(0) | Err(_) => return Err(End::Socket),
            }
        }
    }

    /// Begins a new stream on the same connection (RFC 6120 §6.4.6).
    pub fn restart(&mut self) {
        self.reader = Reader::default();
    }
}

/// Serves one connection, read by `read`. Final output is written before the connection is
/// closed.
pub async fn serve<R>(socket: TcpStream, read: impl FnOnce(Incoming, Outgoing) -> R)
where
    R: Future<Output = ()>,
{
    let _ = socket.set_nodelay(true);
    let (incoming, outgoing) = socket.into_split();
    let (out, orders) = mpsc::unbounded_channel();
    let incoming = Incoming {
        socket: incoming,
        reader: Reader::default(),
        bytes: Vec::new(),
    };
    let reading = read(incoming, Outgoing(out));
    let writing = write(orders, outgoing);
    tokio::pin!(writing);
    tokio::select! {
        () = &mut writing => {}
        () = reading => writing.await,
    }
}

async fn write(mut orders: mpsc::UnboundedReceiver<Order>, mut socket: OwnedWriteHalf) {
    while let Some(Order::Write(xml)) = orders.recv().await {
        if socket.write_all(xml.as_bytes()).await.is_err() {
            // The reader detects the error too, and handles it.
            return std::future::pending().await;
        }
    }
    let _ = socket.shutdown().await;
}

/// The start tag of the server's stream; MongooseIM writes no XML declaration.
pub fn header(from: &str, ns: &str) -> Tree {
    let id = Uuid::new_v4().simple().to_string();
    Tree::new("stream:stream")
        .with("from", from)
        .with("id", &id[..16])
        .with("xmlns", ns)
        .with("xmlns:stream", "http://etherx.jabber.org/streams")
}

/// A stream error (RFC 6120 §4.9).
pub fn stream_error(condition: &str, text: Option<&str>) -> Tree {
    let error = Tree::new("stream:error").holding(Tree::new(condition).with("xmlns", STREAMS));
    text.into_iter().fold(error, |error, text| {
        let said = Tree::new("text")
            .with("xml:lang", "en")
            .with("xmlns", STREAMS);
        error.holding(said.saying(text))
    })
}
