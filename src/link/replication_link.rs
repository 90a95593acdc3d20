//! A link that carries the messages of a replication session.

use std::sync::Arc;

use bytes::{BufMut, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

use super::connect_error::LinkEnd;
use super::frame::Frame;
use super::reader::FrameReader;
use super::wire::{self, RawFrame, write};
use super::{LINGER, PING_AFTER, SILENCE_LIMIT};
use crate::replication::{MESSAGE_LIMIT, ReplicationSession};

/// The longest frame: its kind and a message.
pub(super) const FRAME_LIMIT: usize = 1 + MESSAGE_LIMIT;

/// The frame kind of one message of a session.
const TABLE: u8 = 32;

/// Carries `session` until one side leaves, or this side does at `end`. Sending and
/// receiving don't wait for each other, or two nodes with much to send would both
/// wait for ever.
pub(super) async fn converse(
    session: Arc<dyn ReplicationSession>,
    reader: FrameReader<impl AsyncRead + Unpin>,
    writer: impl AsyncWrite + Unpin,
    end: &CancellationToken,
) -> LinkEnd {
    tokio::select! {
        ending = receive(&*session, reader) => ending,
        ending = send(&*session, writer, end) => ending,
        () = overdue(end) => LinkEnd::WeLeft,
    }
}

/// Completes when the time to send a goodbye has passed.
async fn overdue(end: &CancellationToken) {
    end.cancelled().await;
    sleep(LINGER).await;
}

pub(super) async fn leave(mut writer: impl AsyncWrite + Unpin) {
    let goodbye = async {
        let mut out = BytesMut::new();
        Frame::Goodbye.put(&mut out);
        write(&mut writer, &mut out).await?;
        writer.shutdown().await
    };
    // An error here changes nothing: the connection is over.
    let _ = timeout(LINGER, goodbye).await;
}

async fn receive(
    session: &dyn ReplicationSession,
    mut reader: FrameReader<impl AsyncRead + Unpin>,
) -> LinkEnd {
    loop {
        let raw = match timeout(SILENCE_LIMIT, reader.next()).await {
            Ok(Ok(raw)) => raw,
            Ok(Err(error)) => return LinkEnd::Broken(error.to_string()),
            Err(_) => return LinkEnd::Broken(format!("nothing heard for {SILENCE_LIMIT:?}")),
        };
        if raw.kind == TABLE {
            if let Err(invalid) = session.accept(raw.body) {
                return LinkEnd::Broken(invalid.to_string());
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

/// Parses a ping or a goodbye.
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

async fn send(
    session: &dyn ReplicationSession,
    mut writer: impl AsyncWrite + Unpin,
    end: &CancellationToken,
) -> LinkEnd {
    let mut out = BytesMut::new();
    let mut ping_at = Instant::now() + PING_AFTER;
    loop {
        let has_ended = tokio::select! {
            message = session.next_message() => {
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
