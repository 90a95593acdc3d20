//! The life of one stream, from the handshake to its end.

use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::attach::Attached;
use super::failure::Failure;
use super::reader::Reader;
use super::writer::{Farewell, write};

/// How long the other side may take to say goodbye.
const GOODBYE: Duration = Duration::from_secs(1);

/// Reads and writes until the stream ends; says why, or nothing after `shutdown`.
pub(super) async fn live(
    reader: Reader<'_>,
    attached: Attached,
    shutdown: &CancellationToken,
) -> Option<Failure> {
    let (hang_up, hung_up) = oneshot::channel();
    let stop = CancellationToken::new();
    let reading = reader.run(attached.read, attached.early, &stop);
    let writing = write(reader.outbox, attached.write, hung_up, shutdown);
    tokio::pin!(reading, writing);
    tokio::select! {
        failure = &mut reading => {
            if let Some(farewell) = failure.as_ref().and_then(farewell) {
                // Behind a whole stanza, or not at all.
                if hang_up.send(farewell).is_ok() {
                    let _ = timeout(GOODBYE, writing).await;
                }
            }
            failure
        }
        written = &mut writing => {
            // What the server still had to say: stanzas, or why it closed. It
            // closes the connection: a server that sees it closed before it
            // has written everything drops the rest (Prosody does).
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

/// What is left to say after the stream has ended this way.
fn farewell(failure: &Failure) -> Option<Farewell> {
    match failure {
        Failure::Unreadable(_) => Some(Farewell::NotWellFormed),
        // There is nobody to say it to.
        Failure::Silent(_) | Failure::Broken(_) => None,
        _ => Some(Farewell::Close),
    }
}
