//! The format of all frames: a length, a kind, a body. Nothing is allocated or
//! waited for before its announced length is within the limit.

use bytes::{Buf, BufMut, Bytes, BytesMut, TryGetError};
use tokio::io::{AsyncWrite, AsyncWriteExt};

use crate::delivery::BeyondWritten;

/// The length field: the number of bytes after it, big-endian.
pub(super) const LENGTH_FIELD: usize = 4;

/// The longest name or sentence in a frame, in bytes. A JID's domainpart has
/// at most 1023 (RFC 7622 §3.2).
pub(super) const TEXT_LIMIT: usize = 1023;

/// Writes and flushes the frames in `out`, and empties it.
pub(super) async fn write(
    writer: &mut (impl AsyncWrite + Unpin),
    out: &mut BytesMut,
) -> std::io::Result<()> {
    writer.write_all(out).await?;
    out.clear();
    writer.flush().await
}

/// A frame whose body is not read yet.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct RawFrame {
    pub(super) kind: u8,
    pub(super) body: Bytes,
}

/// The reason why bytes are not a frame. The bytes after them can't be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum WireError {
    #[error(
        "it announces a frame of {length} bytes, more than the {limit} allowed here{}",
        looks_like(*length)
    )]
    TooLong { length: usize, limit: usize },
    #[error("it sent a frame of length 0")]
    Empty,
    #[error("a frame ends before its fields do")]
    Truncated,
    #[error("a frame has {0} bytes more than its fields")]
    Trailing(usize),
    #[error("a text in a frame is longer than {TEXT_LIMIT} bytes or not UTF-8")]
    BadText,
    #[error("it sent a frame of kind {0}, which does not belong here")]
    UnexpectedKind(u8),
    #[error("it wants a connection for purpose {0}, which is unknown here")]
    UnknownPurpose(u8),
    #[error("it sent a stanza with number 0; they count from 1")]
    NumberZero,
    #[error(transparent)]
    BeyondWritten(#[from] BeyondWritten),
}

impl From<TryGetError> for WireError {
    fn from(_: TryGetError) -> Self {
        Self::Truncated
    }
}

/// A wrong length is mostly another protocol's first bytes: returns which protocol.
fn looks_like(length: usize) -> &'static str {
    match u32::try_from(length).unwrap_or(u32::MAX).to_be_bytes() {
        [0x14..=0x17, 3, ..] => {
            "; it looks like TLS: is `connections.tls.enabled` the same on both sides?"
        }
        [b'G', b'E', b'T', b' '] | [b'P', b'O', b'S', b'T'] | [b'H', b'T', b'T', b'P'] => {
            "; it looks like HTTP: is the address right?"
        }
        [b'<', ..] => "; it looks like XMPP: is the address right?",
        _ => "",
    }
}

/// Takes the first frame off `buffer`; `None` until the frame is complete. `limit`
/// is for the bytes that the length field counts: kind and body.
pub(super) fn cut(buffer: &mut BytesMut, limit: usize) -> Result<Option<RawFrame>, WireError> {
    let Ok(length) = buffer.as_ref().try_get_u32() else {
        return Ok(None);
    };
    let length = length as usize;
    if length > limit {
        return Err(WireError::TooLong { length, limit });
    }
    if length == 0 {
        return Err(WireError::Empty);
    }
    if buffer.len() < LENGTH_FIELD + length {
        buffer.reserve(LENGTH_FIELD + length - buffer.len());
        return Ok(None);
    }
    buffer.advance(LENGTH_FIELD);
    let mut body = buffer.split_to(length).freeze();
    let kind = body.try_get_u8()?;
    Ok(Some(RawFrame { kind, body }))
}

/// Appends a frame whose body `write` appends.
pub(super) fn put(out: &mut BytesMut, kind: u8, write: impl FnOnce(&mut BytesMut)) {
    let start = out.len();
    out.put_u32(0);
    out.put_u8(kind);
    write(out);
    let length = out.len() - start - LENGTH_FIELD;
    // A saturated length is refused by the receiver; our own limits are far below.
    let length = u32::try_from(length).unwrap_or(u32::MAX);
    out[start..start + LENGTH_FIELD].copy_from_slice(&length.to_be_bytes());
}

/// Appends a text: its length in two bytes, then UTF-8. Texts are cut at
/// [`TEXT_LIMIT`]; names are never that long.
pub(super) fn put_text(out: &mut BytesMut, text: &str) {
    let fits = |end: &usize| text.is_char_boundary(*end);
    let end = (0..=text.len().min(TEXT_LIMIT)).rev().find(fits);
    let text = &text[..end.unwrap_or(0)];
    // TEXT_LIMIT fits.
    out.put_u16(u16::try_from(text.len()).unwrap_or(0));
    out.put_slice(text.as_bytes());
}

pub(super) fn take_text(body: &mut Bytes) -> Result<String, WireError> {
    let length = usize::from(body.try_get_u16()?);
    if length > TEXT_LIMIT {
        return Err(WireError::BadText);
    }
    if body.len() < length {
        return Err(WireError::Truncated);
    }
    let text = body.split_to(length);
    std::str::from_utf8(&text)
        .map(str::to_owned)
        .map_err(|_| WireError::BadText)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_protocol_is_named() {
        for (bytes, name) in [
            (&b"\x16\x03\x01\x02\x00\x01"[..], "TLS"),
            (b"GET / HTTP/1.1", "HTTP"),
            (b"<?xml version='1.0'?>", "XMPP"),
        ] {
            let error = cut(&mut BytesMut::from(bytes), 1000).unwrap_err();
            assert!(error.to_string().contains(name), "{error}");
        }
    }

    #[test]
    fn a_length_above_the_limit_allocates_nothing() {
        let mut buffer = BytesMut::from(&[0x7f, 0xff, 0xff, 0xff][..]);
        let before = buffer.capacity();
        assert!(matches!(
            cut(&mut buffer, 1000),
            Err(WireError::TooLong { limit: 1000, .. })
        ));
        assert_eq!(buffer.capacity(), before);
    }

    #[test]
    fn a_long_text_is_cut_between_characters() {
        let mut out = BytesMut::new();
        put_text(&mut out, &"ä".repeat(600));
        let text = take_text(&mut out.freeze()).unwrap();
        assert_eq!(text, "ä".repeat(511));
    }
}
