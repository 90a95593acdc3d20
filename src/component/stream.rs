//! The life of one stream, from the handshake to its end.

use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::attach::Attached;
use super::failure::StreamFailure;
use super::reader::Reader;
use super::writer::{Farewell, write};

/// The longest wait for the other side to close.
const GOODBYE: Duration = Duration::from_secs(1);

/// Reads and writes until the stream ends; returns the failure, or `None` after
/// `shutdown`.
pub(super) async fn live(
    reader: Reader<'_>,
    attached: Attached,
    shutdown: &CancellationToken,
) -> Option<StreamFailure> {
    let (hang_up, hung_up) = oneshot::channel();
    let stop = CancellationToken::new();
    let reading = reader.run(attached.read, attached.early, &stop);
    let writing = write(reader.outbox, attached.write, hung_up, shutdown);
    tokio::pin!(reading, writing);
    tokio::select! {
        failure = &mut reading => {
            if let Some(farewell) = failure.as_ref().and_then(farewell) {
                // The farewell follows a complete stanza, or is left out.
                if hang_up.send(farewell).is_ok() {
                    let _ = timeout(GOODBYE, writing).await;
                }
            }
            failure
        }
        written = &mut writing => {
            // The server may still send stanzas or a stream error. The server
            // closes the connection: a server that finds the connection closed
            // before it has written everything drops the rest (Prosody does).
            let last = match timeout(GOODBYE, &mut reading).await {
                Ok(last) => last,
                Err(_) => {
                    stop.cancel();
                    reading.await
                }
            };
            written.err().map(|failure| last.unwrap_or(failure))
        }
    }
}

/// The farewell after the stream has failed this way.
fn farewell(failure: &StreamFailure) -> Option<Farewell> {
    match failure {
        StreamFailure::Unreadable(_) => Some(Farewell::NotWellFormed),
        // No server is left to receive a farewell.
        StreamFailure::Silent(_) | StreamFailure::Broken(_) => None,
        _ => Some(Farewell::Close),
    }
}
