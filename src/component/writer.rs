//! Writes the outbox to the server.

use std::time::Duration;

use bytes::BytesMut;
use tokio::io::AsyncWriteExt;
use tokio::net::tcp::OwnedWriteHalf;
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use super::failure::StreamFailure;
use super::outbox::Outbox;

/// The longest wait for the server's last confirmations when the gateway stops.
const DRAIN: Duration = Duration::from_secs(2);
/// A buffer is replaced when it has grown beyond this many bytes.
const KEEP: usize = 1024 * 1024;

/// The last bytes on a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Farewell {
    /// The end of the stream.
    Close,
    /// A stream error: the server's XML is broken (RFC 6120 §4.9.3.13).
    NotWellFormed,
}

impl Farewell {
    fn text(self) -> &'static str {
        match self {
            Self::Close => "</stream:stream>",
            Self::NotWellFormed => concat!(
                "<stream:error><not-well-formed xmlns='urn:ietf:params:xml:ns:xmpp-streams'/>",
                "</stream:error></stream:stream>"
            ),
        }
    }
}

/// Writes the outbox to one stream, until `hang_up` names the farewell, or until
/// everything is confirmed after `shutdown`. Returns the connection's half, still
/// open.
///
/// # Errors
/// The connection breaks.
pub(super) async fn write(
    outbox: &Outbox,
    mut stream: OwnedWriteHalf,
    mut hang_up: oneshot::Receiver<Farewell>,
    shutdown: &CancellationToken,
) -> Result<OwnedWriteHalf, StreamFailure> {
    let mut buffer = BytesMut::new();
    let mut drained_by = None;
    let farewell = loop {
        outbox.write_to(&mut buffer, Instant::now());
        if !buffer.is_empty() {
            stream
                .write_all(&buffer)
                .await
                .map_err(StreamFailure::from_io)?;
            buffer.clear();
            if buffer.capacity() > KEEP {
                buffer = BytesMut::new();
            }
        }
        if drained_by.is_some() && outbox.is_settled() {
            break Farewell::Close;
        }
        tokio::select! {
            biased;
            farewell = &mut hang_up => match farewell {
                Ok(farewell) => break farewell,
                Err(_) => return Ok(stream),
            },
            () = shutdown.cancelled(), if drained_by.is_none() => {
                drained_by = Some(Instant::now() + DRAIN);
            }
            () = sleep_until(drained_by.unwrap_or_else(Instant::now)), if drained_by.is_some() => {
                break Farewell::Close;
            }
            () = outbox.writable() => {}
        }
    };
    stream
        .write_all(farewell.text().as_bytes())
        .await
        .map_err(StreamFailure::from_io)?;
    Ok(stream)
}
