//! Reads frames off a socket.

use std::io;

use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncReadExt};

use super::wire::{self, RawFrame, WireError};

/// Bytes requested at once; many small stanzas come with one read.
const CHUNK: usize = 16 * 1024;

/// Reads frames off a socket. Dropping a pending [`next`](Self::next) loses nothing.
#[derive(Debug)]
pub(super) struct FrameReader<R> {
    socket: R,
    buffer: BytesMut,
    limit: usize,
}

/// The reason why no more frames can be read.
#[derive(Debug, thiserror::Error)]
pub(super) enum ReadError {
    #[error("the connection was closed without a goodbye")]
    Closed,
    #[error("the connection broke: {0}")]
    Io(#[from] io::Error),
    #[error(transparent)]
    Wire(#[from] WireError),
}

impl<R: AsyncRead + Unpin> FrameReader<R> {
    /// Takes frames of up to `limit` bytes, length field not counted.
    pub(super) fn new(socket: R, limit: usize) -> Self {
        Self {
            socket,
            buffer: BytesMut::new(),
            limit,
        }
    }

    /// Returns the socket; bytes that were read ahead are lost.
    pub(super) fn into_inner(self) -> R {
        self.socket
    }

    /// Returns the socket, to write to.
    #[cfg(test)]
    pub(super) fn socket(&mut self) -> &mut R {
        &mut self.socket
    }

    /// Sets the limit from the next frame on.
    pub(super) fn set_limit(&mut self, limit: usize) {
        self.limit = limit;
    }

    pub(super) async fn next(&mut self) -> Result<RawFrame, ReadError> {
        loop {
            if let Some(frame) = self.buffered()? {
                return Ok(frame);
            }
            self.read().await?;
        }
    }

    /// Returns the next frame that was read completely.
    pub(super) fn buffered(&mut self) -> Result<Option<RawFrame>, WireError> {
        wire::cut(&mut self.buffer, self.limit)
    }

    /// Waits for more bytes.
    pub(super) async fn read(&mut self) -> Result<(), ReadError> {
        if self.buffer.capacity() == self.buffer.len() {
            self.buffer.reserve(CHUNK.min(self.limit));
        }
        match self.socket.read_buf(&mut self.buffer).await? {
            0 => Err(ReadError::Closed),
            _ => Ok(()),
        }
    }
}
