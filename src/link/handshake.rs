//! The handshake: decides which peers are accepted, and sends the reason to the others.

use std::sync::Arc;

use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::connect_error::{ConnectError, RefusalKind};
use super::hello::{self, Hello, HelloReply, Purpose, Welcome};
use super::incoming_slots::{ConnectionLease, IncomingSlots, SlotKey};
use super::reader::{FrameReader, ReadError};
use super::tls::{self, Credentials, PeerCertificate, SecuredConnection, Socket};
use super::wire::{RawFrame, write};
use super::{Identity, LINGER, replication_link};
use crate::host::Host;
use crate::replication::{Node, Replication, ReplicationSession};

/// Requirements that a connection must meet to become a link.
pub(super) struct Handshake {
    pub(super) identity: Identity,
    pub(super) credentials: Arc<Credentials>,
    /// The longest frame that the listener takes.
    pub(super) frame_limit: usize,
    pub(super) slots: Arc<IncomingSlots>,
    /// Serves the session table to peers, if this node keeps it itself.
    pub(super) replication: Option<Arc<dyn Replication>>,
}

/// An established link, as the receiver holds it.
pub(super) struct AcceptedLink {
    pub(super) host: Host,
    pub(super) node: String,
    pub(super) slot: u32,
    pub(super) reader: FrameReader<ReadHalf<Socket>>,
    pub(super) writer: WriteHalf<Socket>,
    pub(super) role: LinkRole,
    /// The dialler's.
    pub(super) certificate: Option<PeerCertificate>,
}

/// The purpose of an established link.
pub(super) enum LinkRole {
    /// Carries stanzas.
    Stanzas(ConnectionLease),
    /// Replicates our session table.
    Table(Arc<dyn ReplicationSession>),
}

impl Handshake {
    /// Secures the connection.
    ///
    /// # Errors
    /// When the dialler can't show a certificate of our CA.
    pub(super) async fn secure(&self, tcp: TcpStream) -> Result<SecuredConnection, ConnectError> {
        match self.credentials.current().accept(tcp).await {
            Ok(accepted) => Ok(accepted),
            Err((failure, tcp)) => {
                linger(tcp).await;
                Err(failure)
            }
        }
    }

    /// Reads the hello and answers it.
    ///
    /// # Errors
    /// When the frame is no hello, or not for us, or the dialler's certificate does
    /// not carry the name in its hello.
    pub(super) async fn greet(
        &self,
        accepted: SecuredConnection,
    ) -> Result<AcceptedLink, ConnectError> {
        let SecuredConnection {
            socket,
            certificate,
        } = accepted;
        let (read, mut writer) = tokio::io::split(socket);
        let mut reader = FrameReader::new(read, hello::LIMIT);
        let mut out = BytesMut::new();
        let read = reader.next().await;
        let (hello, host, (role, frame_limit)) = match self.admit(read, certificate.as_ref()).await
        {
            Ok(admitted) => admitted,
            Err(failure) => {
                if let ConnectError::Refused { kind, text } = &failure {
                    refusal(*kind, text).put(&mut out);
                    // The peer gets the reason if it can still be sent; the log has
                    // it in any case.
                    let _ = write(&mut writer, &mut out).await;
                    linger(reader.into_inner().unsplit(writer)).await;
                }
                return Err(failure);
            }
        };
        self.welcome(&hello, &role, frame_limit).put(&mut out);
        write(&mut writer, &mut out).await.map_err(|error| {
            ConnectError::Unreachable(format!("can't answer its hello: {error}"))
        })?;
        reader.set_limit(frame_limit);
        Ok(AcceptedLink {
            host,
            node: hello.node,
            slot: hello.slot,
            reader,
            writer,
            role,
            certificate,
        })
    }

    /// Returns the dialler's identity, the link's role, and the longest frame on the link.
    async fn admit(
        &self,
        read: Result<RawFrame, ReadError>,
        certificate: Option<&PeerCertificate>,
    ) -> Result<(Hello, Host, (LinkRole, usize)), ConnectError> {
        let raw = read.map_err(|error| match error {
            ReadError::Wire(error) => hello::malformed(error),
            ReadError::Io(error) => tls::failure(&error),
            ReadError::Closed => ConnectError::Unreachable("it closed without a word".to_owned()),
        })?;
        let (hello, host) = self.examine(raw, certificate)?;
        let role = self.role(&hello, &host).await?;
        Ok((hello, host, role))
    }

    /// Decides whether the dialler is accepted. Returns its host.
    fn examine(
        &self,
        raw: RawFrame,
        certificate: Option<&PeerCertificate>,
    ) -> Result<(Hello, Host), ConnectError> {
        let hello = Hello::read(raw, &self.identity)?;
        hello.is_for(&self.identity)?;
        if hello.purpose == Purpose::Table && self.replication.is_none() {
            let text = format!(
                "{} keeps its session table in Redis, the dialler keeps it itself; set \
                 sessions.backend to the same in all datacenters",
                self.identity.host
            );
            return Err(ConnectError::refused(RefusalKind::Backend, text));
        }
        let host = Host::new(&hello.from).map_err(|error| {
            ConnectError::refused(RefusalKind::Protocol, format!("it calls itself {error}"))
        })?;
        self.credentials.admit(&host, certificate)?;
        Ok((hello, host))
    }

    /// Returns the link's role, and the longest frame that is taken on the link.
    async fn role(&self, hello: &Hello, host: &Host) -> Result<(LinkRole, usize), ConnectError> {
        if hello.purpose == Purpose::Table
            && let Some(replication) = &self.replication
        {
            let node = Node {
                host: host.clone(),
                name: hello.node.clone(),
            };
            let session = Arc::clone(replication).send_to(&node, hello.epoch);
            return Ok((LinkRole::Table(session), replication_link::FRAME_LIMIT));
        }
        let key = SlotKey {
            host: host.clone(),
            node: hello.node.clone(),
            epoch: hello.epoch,
            slot: hello.slot,
        };
        let lease = self.slots.lease(key).await;
        let lease = lease
            .map_err(|error| ConnectError::refused(RefusalKind::Protocol, error.to_string()))?;
        Ok((LinkRole::Stanzas(lease), self.frame_limit))
    }

    fn welcome(&self, hello: &Hello, role: &LinkRole, frame_limit: usize) -> HelloReply {
        HelloReply::Welcome(Welcome {
            // `Hello::read` refuses every other version.
            version: hello::common_version(&hello.versions).unwrap_or(*hello::VERSIONS.end()),
            host: self.identity.host.as_str().to_owned(),
            node: self.identity.node.clone(),
            frame_limit: u32::try_from(frame_limit).unwrap_or(u32::MAX),
            resume_after: match role {
                LinkRole::Stanzas(lease) => lease.resume_after,
                LinkRole::Table(_) => 0,
            },
        })
    }
}

fn refusal(kind: RefusalKind, text: &str) -> HelloReply {
    HelloReply::Refused {
        versions: hello::VERSIONS,
        kind,
        text: text.to_owned(),
    }
}

/// Closes gently: a reset would overtake the bytes written last.
async fn linger(mut socket: impl AsyncRead + AsyncWrite + Unpin) {
    let end = async {
        socket.shutdown().await?;
        let mut ignored = [0; 1024];
        while socket.read(&mut ignored).await? > 0 {}
        Ok::<_, std::io::Error>(())
    };
    // The result does not matter: the connection is over.
    let _ = timeout(LINGER, end).await;
}
