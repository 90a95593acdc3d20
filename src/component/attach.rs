//! Connecting to the server and the handshake (XEP-0114 §3).

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use futures::{SinkExt, StreamExt};
use minidom::Element;
use tokio::io::BufReader;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpStream, lookup_host};
use tokio::time::timeout;
use tokio_xmpp::xmlstream::{ReadError, StreamHeader, Timeouts, XmlStream, initiate_stream};
use xmpp_parsers::component::Handshake;
use xmpp_parsers::ns;

use super::failure::{Phase, StreamFailure};
use crate::config::{self, Endpoint};
use crate::host::Host;

/// The limit of each step: name resolution, connecting, and the handshake.
const STEP: Duration = Duration::from_secs(10);

/// A stream that the server has accepted.
#[derive(Debug)]
pub(super) struct Attached {
    /// Stanzas arrive here,
    pub read: OwnedReadHalf,
    /// after these bytes, which arrived together with the handshake.
    pub early: Bytes,
    /// The gateway writes here.
    pub write: OwnedWriteHalf,
}

/// Attaches to the server as the component `domain`.
///
/// # Errors
/// Returns the reason when a step fails.
pub(super) async fn attach(
    config: &config::ComponentConfig,
    domain: &Host,
) -> Result<Attached, StreamFailure> {
    let socket = connect(&config.server).await?;
    let handshake = authenticate(socket, domain, &config.secret);
    match timeout(STEP, handshake).await {
        Ok(outcome) => outcome,
        Err(_) => Err(StreamFailure::TimedOut {
            step: "the handshake",
            limit: STEP,
        }),
    }
}

async fn connect(server: &Endpoint) -> Result<TcpStream, StreamFailure> {
    let lookup = lookup_host((server.host.as_str(), server.port));
    let addresses: Vec<SocketAddr> = match timeout(STEP, lookup).await {
        Ok(Ok(addresses)) => addresses.collect(),
        Ok(Err(error)) => return Err(StreamFailure::Unresolvable(error)),
        Err(_) => {
            return Err(StreamFailure::TimedOut {
                step: "resolving the server's name",
                limit: STEP,
            });
        }
    };
    let mut failure = StreamFailure::Unresolvable(io::Error::other("it has no address"));
    // An address that swallows packets must not use up the others' time.
    let share = STEP / u32::try_from(addresses.len()).unwrap_or(u32::MAX).max(1);
    for address in addresses {
        match timeout(share, TcpStream::connect(address)).await {
            Ok(Ok(socket)) => {
                socket.set_nodelay(true).map_err(StreamFailure::from_io)?;
                return Ok(socket);
            }
            Ok(Err(error)) => failure = StreamFailure::from_connect(error),
            Err(_) => {
                failure = StreamFailure::TimedOut {
                    step: "connecting",
                    limit: share,
                }
            }
        }
    }
    Err(failure)
}

async fn authenticate(
    socket: TcpStream,
    domain: &Host,
    secret: &config::Secret,
) -> Result<Attached, StreamFailure> {
    let header = StreamHeader {
        from: None,
        to: Some(domain.as_str().into()),
        id: None,
    };
    // The only limit is the caller's timeout, so the parser's is longer.
    let timeouts = Timeouts {
        read_timeout: 2 * STEP,
        response_timeout: 2 * STEP,
    };
    let mut pending = initiate_stream(BufReader::new(socket), ns::COMPONENT, header, timeouts)
        .await
        .map_err(unopened)?;
    let id = pending.take_header().id.unwrap_or_default().into_owned();
    let mut stream = pending.skip_features::<Element>();

    // Prosody opens the stream with an empty id when an error follows at once.
    if !id.is_empty() {
        let handshake = Handshake::from_stream_id_and_password(id, secret.reveal());
        // A failed write means that the server has closed already: its answer has
        // the reason.
        if let Err(error) = stream.send(&handshake).await {
            accepted(&mut stream).await?;
            return Err(StreamFailure::from_io(error));
        }
    }
    accepted(&mut stream).await?;

    let buffered = stream.into_inner();
    let early = Bytes::copy_from_slice(buffered.buffer());
    let (read, write) = buffered.into_inner().into_split();
    Ok(Attached { read, early, write })
}

async fn accepted(
    stream: &mut XmlStream<BufReader<TcpStream>, Element>,
) -> Result<(), StreamFailure> {
    loop {
        match stream.next().await {
            Some(Ok(element)) if element.is("handshake", ns::COMPONENT) => return Ok(()),
            Some(Ok(element)) => {
                let name = element.name().to_owned();
                return Err(
                    StreamFailure::from_element(element, Phase::Attaching).unwrap_or_else(|| {
                        StreamFailure::WrongPort(format!(
                            "it answered the handshake with <{name}/>"
                        ))
                    }),
                );
            }
            Some(Err(ReadError::SoftTimeout)) => {}
            Some(Err(ReadError::HardError(error))) => return Err(unopened(error)),
            Some(Err(ReadError::ParseError(error))) => {
                return Err(StreamFailure::WrongPort(error.to_string()));
            }
            Some(Err(ReadError::StreamFooterReceived)) | None => {
                return Err(StreamFailure::Closed(
                    "before it answered the handshake".to_owned(),
                ));
            }
        }
    }
}

/// Classifies an I/O error while the stream is being opened: the parser reports
/// bad XML as an I/O error, too.
fn unopened(error: io::Error) -> StreamFailure {
    match error.kind() {
        // The parser reports the end of the connection with this kind, too; only
        // the text differs.
        io::ErrorKind::InvalidData if error.to_string().to_lowercase().contains("eof") => {
            StreamFailure::Closed("before it answered the handshake".to_owned())
        }
        io::ErrorKind::InvalidData | io::ErrorKind::InvalidInput => {
            StreamFailure::WrongPort(error.to_string())
        }
        _ => StreamFailure::from_io(error),
    }
}
