//! A link that carries what two nodes say about their session tables.

use bytes::{BufMut, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

use super::connect_error::LinkEnd;
use super::frame::Frame;
use super::outgoing::write;
use super::reader::FrameReader;
use super::wire::{self, RawFrame};
use super::{LINGER, PING_AFTER, SILENCE_LIMIT};
use crate::replication::{MESSAGE_LIMIT, MessageSink, MessageSource, ReplicationSession};

/// The longest frame: its kind and a message.
pub(super) const FRAME_LIMIT: usize = 1 + MESSAGE_LIMIT;

/// One message of a dialogue.
const TABLE: u8 = 32;

/// Carries `dialogue` until one side leaves, or this one is told to by `end`.
/// Hearing and speaking don't wait for each other, or two nodes with much to
/// say would both wait for ever.
pub(super) async fn converse(
    dialogue: ReplicationSession,
    reader: FrameReader<impl AsyncRead + Unpin>,
    writer: impl AsyncWrite + Unpin,
    end: &CancellationToken,
) -> LinkEnd {
    tokio::select! {
        ending = hear(dialogue.sink, reader) => ending,
        ending = speak(dialogue.source, writer, end) => ending,
        () = overdue(end) => LinkEnd::WeLeft,
    }
}

/// Completes when a goodbye should have been said by now.
async fn overdue(end: &CancellationToken) {
    end.cancelled().await;
    sleep(LINGER).await;
}

/// Says goodbye.
pub(super) async fn leave(mut writer: impl AsyncWrite + Unpin) {
    let goodbye = async {
        let mut out = BytesMut::new();
        Frame::Goodbye.put(&mut out);
        write(&mut writer, &mut out).await?;
        writer.shutdown().await
    };
    // However the connection ends, it is over.
    let _ = timeout(LINGER, goodbye).await;
}

async fn hear(
    mut sink: Box<dyn MessageSink>,
    mut reader: FrameReader<impl AsyncRead + Unpin>,
) -> LinkEnd {
    loop {
        let raw = match timeout(SILENCE_LIMIT, reader.next()).await {
            Ok(Ok(raw)) => raw,
            Ok(Err(error)) => return LinkEnd::Broken(error.to_string()),
            Err(_) => return LinkEnd::Broken(format!("nothing heard for {SILENCE_LIMIT:?}")),
        };
        if raw.kind == TABLE {
            if let Err(garbled) = sink.accept(raw.body) {
                return LinkEnd::Broken(garbled.to_string());
            }
            // A long table must not keep stanzas from the other tasks of this thread.
            tokio::task::yield_now().await;
            continue;
        }
        match control(raw) {
            Ok(Frame::Ping) => {}
            Ok(_) => return LinkEnd::PeerLeft,
            Err(ending) => return ending,
        }
    }
}

/// A ping or a goodbye.
fn control(raw: RawFrame) -> Result<Frame, LinkEnd> {
    let kind = raw.kind;
    match Frame::read(raw) {
        Ok(frame @ (Frame::Ping | Frame::Goodbye)) => Ok(frame),
        Ok(_) => Err(LinkEnd::Broken(
            wire::WireError::UnexpectedKind(kind).to_string(),
        )),
        Err(error) => Err(LinkEnd::Broken(error.to_string())),
    }
}

async fn speak(
    mut source: Box<dyn MessageSource>,
    mut writer: impl AsyncWrite + Unpin,
    end: &CancellationToken,
) -> LinkEnd {
    let mut out = BytesMut::new();
    let mut ping_at = Instant::now() + PING_AFTER;
    loop {
        let has_ended = tokio::select! {
            message = source.next() => {
                if let Some(message) = &message {
                    wire::put(&mut out, TABLE, |out| out.put_slice(message));
                }
                message.is_none()
            }
            () = sleep_until(ping_at) => {
                Frame::Ping.put(&mut out);
                false
            }
            () = end.cancelled() => true,
        };
        if has_ended {
            leave(writer).await;
            return LinkEnd::WeLeft;
        }
        if let Err(error) = write(&mut writer, &mut out).await {
            return LinkEnd::Broken(format!("can't write: {error}"));
        }
        ping_at = Instant::now() + PING_AFTER;
        tokio::task::yield_now().await;
    }
}
