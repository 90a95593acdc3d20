//! The gate: who is let in, and is told why if not.

use std::sync::Arc;

use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::hello::{self, Answer, Hello, Welcome};
use super::lanes::{LaneKey, Lanes, Seat};
use super::outgoing::write;
use super::reader::{FrameReader, ReadError};
use super::tls::{self, Accepted, Certificate, Security, Socket};
use super::trouble::{Failure, Mismatch};
use super::wire::RawFrame;
use super::{Identity, LINGER, certificate};
use crate::host::Host;

/// What a connection is measured by, before it is a link.
#[derive(Debug)]
pub(super) struct Gate {
    pub(super) identity: Identity,
    pub(super) security: Security,
    /// The longest frame that is taken.
    pub(super) frame_limit: usize,
    pub(super) lanes: Arc<Lanes>,
}

/// A link that stands, seen by the receiver.
pub(super) struct Guest {
    pub(super) host: Host,
    pub(super) node: String,
    pub(super) lane: u32,
    pub(super) reader: FrameReader<ReadHalf<Socket>>,
    pub(super) writer: WriteHalf<Socket>,
    pub(super) seat: Seat,
}

impl Gate {
    /// Secures the connection.
    ///
    /// # Errors
    /// When the dialler can't show a certificate of our CA.
    pub(super) async fn secure(&self, tcp: TcpStream) -> Result<Accepted, Failure> {
        match self.security.accept(tcp).await {
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
    /// When it is not one, or not for us, or the dialler is not who it says.
    pub(super) async fn greet(&self, accepted: Accepted) -> Result<Guest, Failure> {
        let Accepted {
            socket,
            certificate,
        } = accepted;
        let (read, mut writer) = tokio::io::split(socket);
        let mut reader = FrameReader::new(read, hello::LIMIT);
        let mut out = BytesMut::new();
        let read = reader.next().await;
        let (hello, host, seat) = match self.admit(read, certificate.as_ref()).await {
            Ok(admitted) => admitted,
            Err(failure) => {
                if let Failure::Refused { mismatch, text } = &failure {
                    refusal(*mismatch, text).put(&mut out);
                    // It is told if it can be; the log has it in any case.
                    let _ = write(&mut writer, &mut out).await;
                    linger(reader.into_inner().unsplit(writer)).await;
                }
                return Err(failure);
            }
        };
        self.welcome(&hello, &seat).put(&mut out);
        write(&mut writer, &mut out)
            .await
            .map_err(|error| Failure::Unreachable(format!("can't answer its hello: {error}")))?;
        reader.set_limit(self.frame_limit);
        Ok(Guest {
            host,
            node: hello.node,
            lane: hello.lane,
            reader,
            writer,
            seat,
        })
    }

    /// Who the dialler is, and its seat on its lane.
    async fn admit(
        &self,
        read: Result<RawFrame, ReadError>,
        certificate: Option<&Certificate>,
    ) -> Result<(Hello, Host, Seat), Failure> {
        let raw = read.map_err(|error| match error {
            ReadError::Wire(error) => hello::malformed(error),
            ReadError::Io(error) => tls::failure(&error),
            ReadError::Closed => Failure::Unreachable("it closed without a word".to_owned()),
        })?;
        let (hello, host) = self.examine(raw, certificate)?;
        let seat = self.seat(&hello, &host).await?;
        Ok((hello, host, seat))
    }

    /// Whether the dialler may be let in, and which host it is.
    fn examine(
        &self,
        raw: RawFrame,
        certificate: Option<&Certificate>,
    ) -> Result<(Hello, Host), Failure> {
        let hello = Hello::read(raw, &self.identity)?;
        hello.is_for(&self.identity)?;
        let host = Host::new(&hello.from).map_err(|error| {
            Failure::refused(Mismatch::Protocol, format!("it calls itself {error}"))
        })?;
        if let Some(certificate) = certificate {
            certificate::speaks_for(certificate, &host).map_err(|text| {
                let text = format!("it calls itself {host}, but {text}");
                Failure::refused(Mismatch::WrongHost, text)
            })?;
        }
        Ok((hello, host))
    }

    async fn seat(&self, hello: &Hello, host: &Host) -> Result<Seat, Failure> {
        let key = LaneKey {
            host: host.clone(),
            node: hello.node.clone(),
            epoch: hello.epoch,
            lane: hello.lane,
        };
        let seat = self.lanes.take_seat(key).await;
        seat.map_err(|error| Failure::refused(Mismatch::Protocol, error.to_string()))
    }

    fn welcome(&self, hello: &Hello, seat: &Seat) -> Answer {
        Answer::Welcome(Welcome {
            // Hello::read let no other pass.
            version: hello::common_version(&hello.versions).unwrap_or(*hello::VERSIONS.end()),
            host: self.identity.host.as_str().to_owned(),
            node: self.identity.node.clone(),
            frame_limit: u32::try_from(self.frame_limit).unwrap_or(u32::MAX),
            resume_after: seat.resume_after,
        })
    }
}

fn refusal(mismatch: Mismatch, text: &str) -> Answer {
    Answer::Refused {
        versions: hello::VERSIONS,
        mismatch,
        text: text.to_owned(),
    }
}

/// Closes gently: a reset would overtake the last words.
async fn linger(mut socket: impl AsyncRead + AsyncWrite + Unpin) {
    let end = async {
        socket.shutdown().await?;
        let mut ignored = [0; 1024];
        while socket.read(&mut ignored).await? > 0 {}
        Ok::<_, std::io::Error>(())
    };
    // Whatever becomes of it, the connection is over.
    let _ = timeout(LINGER, end).await;
}
