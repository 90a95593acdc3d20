//! Dials an endpoint, up to an established link.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::BytesMut;
use tokio::io::{AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::connect_error::{ConnectError, RefusalKind};
use super::hello::{self, Hello, HelloReply, Purpose};
use super::pool::SlotId;
use super::reader::{FrameReader, ReadError};
use super::resolver::Resolver;
use super::tls::{self, Credentials, PeerCertificate, SecuredConnection, Socket};
use super::{CONNECT_LIMIT, HANDSHAKE_LIMIT, Identity, replication_link};
use crate::config::Endpoint;
use crate::host::Host;
use crate::replication::Node;

/// Dials peers on behalf of this gateway.
#[derive(Debug)]
pub struct Dialler {
    pub(super) identity: Identity,
    pub(super) credentials: Arc<Credentials>,
    pub(super) resolver: Resolver,
}

/// An established link, as the sender holds it.
pub(super) struct Link {
    pub(super) reader: FrameReader<ReadHalf<Socket>>,
    pub(super) writer: WriteHalf<Socket>,
    /// The peer's `node`.
    pub(super) node: String,
    /// The longest frame that the peer accepts.
    pub(super) frame_limit: usize,
    /// Stanzas up to this number need not be sent again.
    pub(super) resume_after: u64,
    /// The peer's.
    pub(super) certificate: Option<PeerCertificate>,
}

/// A link over which the peer's session table is replicated.
pub(super) struct TableLink {
    /// The node that answered.
    pub(super) node: Node,
    pub(super) reader: FrameReader<ReadHalf<Socket>>,
    pub(super) writer: WriteHalf<Socket>,
    /// The node's.
    pub(super) certificate: Option<PeerCertificate>,
}

impl Dialler {
    /// Creates a dialler that looks names up as the system does.
    #[must_use]
    pub fn new(identity: Identity, credentials: Arc<Credentials>) -> Arc<Self> {
        Arc::new(Self {
            identity,
            credentials,
            resolver: Resolver::system(),
        })
    }

    /// Connects `slot` to `peer` at `endpoint`.
    ///
    /// # Errors
    /// When no listener answers there, or it is not `peer`, or it refuses us.
    pub(super) async fn dial(
        &self,
        peer: &Host,
        endpoint: &Endpoint,
        slot: SlotId,
    ) -> Result<Link, ConnectError> {
        self.credentials.admit(peer, None)?;
        let tcp = self.reach(endpoint).await?;
        let greeted = timeout(HANDSHAKE_LIMIT, self.greet(tcp, peer, slot)).await;
        greeted.unwrap_or_else(|_| Err(ConnectError::late()))
    }

    async fn greet(&self, tcp: TcpStream, peer: &Host, slot: SlotId) -> Result<Link, ConnectError> {
        let SecuredConnection {
            socket,
            certificate,
        } = self.credentials.current().connect(tcp, peer).await?;
        let (read, mut writer) = tokio::io::split(socket);
        let mut reader = FrameReader::new(read, hello::LIMIT);
        let answer = ask(&self.hello(peer, slot), &mut reader, &mut writer).await?;
        let welcome = answer.welcome_of(peer.as_str())?;
        Ok(Link {
            reader,
            writer,
            node: welcome.node,
            frame_limit: usize::try_from(welcome.frame_limit).unwrap_or(usize::MAX),
            resume_after: welcome.resume_after,
            certificate,
        })
    }

    /// Opens a TCP connection to the first address of `endpoint` that answers.
    /// Looks the endpoint's name up anew each time.
    async fn reach(&self, endpoint: &Endpoint) -> Result<TcpStream, ConnectError> {
        let unreachable =
            |text: String| ConnectError::Unreachable(format!("can't reach it: {text}"));
        let found = self.resolver.resolve(&endpoint.host).await;
        let found = found.map_err(|text| unreachable(format!("name look-up: {text}")))?;
        let mut last = String::new();
        for address in found {
            let address = SocketAddr::new(address, endpoint.port);
            match timeout(CONNECT_LIMIT, TcpStream::connect(address)).await {
                Ok(Ok(tcp)) => {
                    // Batches are made here; the kernel need not wait for more bytes.
                    tcp.set_nodelay(true)
                        .map_err(|error| unreachable(format!("{address}: {error}")))?;
                    return Ok(tcp);
                }
                Ok(Err(error)) => last = format!("{address}: {error}"),
                Err(_) => last = format!("{address}: no answer within {CONNECT_LIMIT:?}"),
            }
        }
        Err(unreachable(last))
    }

    fn hello(&self, peer: &Host, slot: SlotId) -> Hello {
        Hello {
            versions: hello::VERSIONS,
            to: peer.as_str().to_owned(),
            from: self.identity.host.as_str().to_owned(),
            node: self.identity.node.clone(),
            epoch: self.identity.epoch,
            slot,
            purpose: Purpose::Stanzas,
        }
    }

    /// Connects to any gateway that answers at `endpoint`, to replicate its session table.
    ///
    /// # Errors
    /// When no listener answers there, or it is no gateway of ours, or it refuses us.
    pub(super) async fn dial_table(&self, endpoint: &Endpoint) -> Result<TableLink, ConnectError> {
        let tcp = self.reach(endpoint).await?;
        let greeted = timeout(HANDSHAKE_LIMIT, self.greet_table(tcp, endpoint)).await;
        greeted.unwrap_or_else(|_| Err(ConnectError::late()))
    }

    async fn greet_table(
        &self,
        tcp: TcpStream,
        endpoint: &Endpoint,
    ) -> Result<TableLink, ConnectError> {
        let SecuredConnection {
            socket,
            certificate,
        } = self
            .credentials
            .current()
            .connect_unnamed(tcp, &endpoint.host)
            .await?;
        let (read, mut writer) = tokio::io::split(socket);
        let mut reader = FrameReader::new(read, hello::LIMIT);
        let hello = Hello {
            to: String::new(),
            purpose: Purpose::Table,
            ..self.hello(&self.identity.host, 0)
        };
        let welcome = ask(&hello, &mut reader, &mut writer).await?.welcome()?;
        let host = Host::new(&welcome.host).map_err(|error| {
            ConnectError::refused(RefusalKind::Protocol, format!("it calls itself {error}"))
        })?;
        self.credentials.admit(&host, certificate.as_ref())?;
        reader.set_limit(replication_link::FRAME_LIMIT);
        Ok(TableLink {
            node: Node {
                host,
                name: welcome.node,
            },
            reader,
            writer,
            certificate,
        })
    }
}

/// Sends `hello`, and waits for the reply.
async fn ask(
    hello: &Hello,
    reader: &mut FrameReader<ReadHalf<Socket>>,
    writer: &mut WriteHalf<Socket>,
) -> Result<HelloReply, ConnectError> {
    let mut out = BytesMut::new();
    hello.put(&mut out);
    let sent = async {
        writer.write_all(&out).await?;
        writer.flush().await
    };
    // When sending fails, the peer's reply may still be there to give the reason.
    let sent = sent.await;
    let answer = reader.next().await;
    let answer = answer.map_err(|error| unanswered(error, sent))?;
    HelloReply::read(answer).map_err(hello::malformed)
}

/// Returns the reason for which our hello got no reply.
fn unanswered(error: ReadError, sent: io::Result<()>) -> ConnectError {
    match (error, sent) {
        (ReadError::Wire(error), _) => hello::malformed(error),
        (ReadError::Io(error), _) | (ReadError::Closed, Err(error)) => tls::failure(&error),
        (ReadError::Closed, Ok(())) => ConnectError::Unreachable(
            "it closed the connection instead of answering our hello; its log says why".to_owned(),
        ),
    }
}
