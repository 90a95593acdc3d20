//! The frames of an established link: stanzas one way, acks the other.
//! `docs/link-protocol.md` shows the frames byte by byte.

use std::borrow::Borrow;

use bytes::{Buf, BufMut, Bytes, BytesMut};

use super::wire::{self, RawFrame, WireError};
use crate::envelope::FormerPlace;

/// Bytes by which a frame may be longer than `stanza_size_limit`: the header, and
/// the growth of the stanza when its addresses became global ones.
pub(super) const ALLOWANCE: usize = 64 * 1024;

/// Hosts that a stanza frame lists with their bounces; further hosts are left out.
pub(super) const RETRIES_LIMIT: usize = 32;

const STANZA: u8 = 16;
const ACK: u8 = 17;
const PING: u8 = 18;
const GOODBYE: u8 = 19;

/// One frame of an established link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Frame {
    /// Dialler to listener.
    Stanza(Header<String>, Bytes),
    /// Listener to dialler: all stanzas taken up to this number are settled.
    Ack { through: u64 },
    /// Sent when there is nothing else to send, to keep the link alive.
    Ping,
    /// From the dialler: nothing follows. From the listener: send nothing new, I
    /// only finish the stanzas that I have.
    Goodbye,
}

/// The header before the stanza in its frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Header<Name> {
    /// Counts from 1 within the slot.
    pub(super) number: u64,
    /// [`EnvelopeId`](crate::envelope::EnvelopeId)
    pub(super) id: u64,
    pub(super) ttl: u32,
    /// The time of writing, in µs since the Unix epoch.
    pub(super) sent_at: u64,
    pub(super) origin: Name,
    pub(super) retries: Vec<(Name, u32)>,
    /// The stanza is one of several copies, each for another host.
    pub(super) is_copy: bool,
    /// The places where the stanza was written before, if it comes from other slots.
    pub(super) former: Vec<FormerPlace>,
}

impl<Name: Borrow<str>> Header<Name> {
    /// Appends a stanza frame; `write_stanza` appends the stanza.
    pub(super) fn put(&self, out: &mut BytesMut, write_stanza: impl FnOnce(&mut BytesMut)) {
        wire::put(out, STANZA, |out| {
            out.put_u64(self.number);
            out.put_u64(self.id);
            out.put_u32(self.ttl);
            out.put_u64(self.sent_at);
            wire::put_text(out, self.origin.borrow());
            let retries = &self.retries[..self.retries.len().min(RETRIES_LIMIT)];
            // RETRIES_LIMIT fits.
            out.put_u8(u8::try_from(retries.len()).unwrap_or(0));
            for (host, times) in retries {
                wire::put_text(out, host.borrow());
                out.put_u32(*times);
            }
            out.put_u8(self.is_copy.into());
            // The pool keeps far fewer.
            out.put_u8(u8::try_from(self.former.len()).unwrap_or(0));
            for place in &self.former {
                out.put_u32(place.slot);
                out.put_u64(place.number);
            }
            write_stanza(out);
        });
    }
}

impl Header<String> {
    fn take(body: &mut Bytes) -> Result<Self, WireError> {
        let number = body.try_get_u64()?;
        if number == 0 {
            return Err(WireError::NumberZero);
        }
        Ok(Self {
            number,
            id: body.try_get_u64()?,
            ttl: body.try_get_u32()?,
            sent_at: body.try_get_u64()?,
            origin: wire::take_text(body)?,
            retries: (0..body.try_get_u8()?)
                .map(|_| Ok((wire::take_text(body)?, body.try_get_u32()?)))
                .collect::<Result<_, WireError>>()?,
            is_copy: body.try_get_u8()? != 0,
            former: (0..body.try_get_u8()?)
                .map(|_| {
                    Ok(FormerPlace {
                        slot: body.try_get_u32()?,
                        number: body.try_get_u64()?,
                    })
                })
                .collect::<Result<_, WireError>>()?,
        })
    }
}

impl Frame {
    pub(super) fn put(&self, out: &mut BytesMut) {
        match self {
            Self::Stanza(header, stanza) => header.put(out, |out| out.put_slice(stanza)),
            Self::Ack { through } => wire::put(out, ACK, |out| out.put_u64(*through)),
            Self::Ping => wire::put(out, PING, |_| ()),
            Self::Goodbye => wire::put(out, GOODBYE, |_| ()),
        }
    }

    pub(super) fn read(raw: RawFrame) -> Result<Self, WireError> {
        let RawFrame { kind, mut body } = raw;
        let frame = match kind {
            STANZA => return Ok(Self::Stanza(Header::take(&mut body)?, body)),
            ACK => Self::Ack {
                through: body.try_get_u64()?,
            },
            PING => Self::Ping,
            GOODBYE => Self::Goodbye,
            other => return Err(WireError::UnexpectedKind(other)),
        };
        match body.len() {
            0 => Ok(frame),
            more => Err(WireError::Trailing(more)),
        }
    }

    /// The number on the wire, for messages.
    pub(super) fn kind(&self) -> u8 {
        match self {
            Self::Stanza(..) => STANZA,
            Self::Ack { .. } => ACK,
            Self::Ping => PING,
            Self::Goodbye => GOODBYE,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    const LIMIT: usize = 4096;

    fn frames() -> impl Strategy<Value = Frame> {
        let name = "[a-zäß0-9.]{1,20}";
        let header = (
            1..=u64::MAX,
            any::<u64>(),
            any::<u32>(),
            any::<u64>(),
            name,
            vec((name, any::<u32>()), 0..4),
            any::<bool>(),
            vec((any::<u32>(), any::<u64>()), 0..4),
        );
        prop_oneof![
            (header, vec(any::<u8>(), 0..200)).prop_map(
                |((number, id, ttl, sent_at, origin, retries, is_copy, former), stanza)| {
                    let place = |(slot, number)| FormerPlace { slot, number };
                    let header = Header {
                        number,
                        id,
                        ttl,
                        sent_at,
                        origin,
                        retries,
                        is_copy,
                        former: former.into_iter().map(place).collect(),
                    };
                    Frame::Stanza(header, stanza.into())
                }
            ),
            any::<u64>().prop_map(|through| Frame::Ack { through }),
            Just(Frame::Ping),
            Just(Frame::Goodbye),
        ]
    }

    /// Returns all complete frames in `buffer`.
    fn read_all(buffer: &mut BytesMut) -> Result<Vec<Frame>, WireError> {
        let mut frames = Vec::new();
        while let Some(raw) = wire::cut(buffer, LIMIT)? {
            frames.push(Frame::read(raw)?);
        }
        Ok(frames)
    }

    fn written(frames: &[Frame]) -> BytesMut {
        let mut out = BytesMut::new();
        frames.iter().for_each(|frame| frame.put(&mut out));
        out
    }

    proptest! {
        #[test]
        fn come_back_as_they_were_whatever_the_split(
            frames in vec(frames(), 0..6),
            pieces in vec(1..40_usize, 1..10),
        ) {
            let bytes = written(&frames);
            let mut left = &bytes[..];
            let mut buffer = BytesMut::new();
            let mut back = Vec::new();
            for size in pieces.iter().cycle() {
                let (piece, rest) = left.split_at(left.len().min(*size));
                buffer.extend_from_slice(piece);
                back.extend(read_all(&mut buffer).unwrap());
                left = rest;
                if left.is_empty() {
                    break;
                }
            }
            prop_assert_eq!(back, frames);
            prop_assert!(buffer.is_empty());
        }

        #[test]
        fn a_truncated_body_is_an_error_or_another_frame_but_no_panic(
            frame in frames(),
            cut_at in any::<prop::sample::Index>(),
        ) {
            let mut bytes = written(std::slice::from_ref(&frame));
            let raw = wire::cut(&mut bytes, LIMIT).unwrap().unwrap();
            let body = raw.body.slice(..cut_at.index(raw.body.len() + 1));
            let whole = body.len() == raw.body.len();
            let back = Frame::read(RawFrame { kind: raw.kind, body });
            prop_assert_eq!(back == Ok(frame), whole);
        }

        #[test]
        fn changed_bytes_never_panic_nor_allocate_past_the_limit(
            frames in vec(frames(), 1..4),
            changes in vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
        ) {
            let mut bytes = written(&frames);
            for (at, value) in changes {
                let at = at.index(bytes.len());
                bytes[at] = value;
            }
            let size = bytes.len();
            let mut buffer = BytesMut::new();
            buffer.extend_from_slice(&bytes);
            let _ = read_all(&mut buffer);
            // BytesMut may allocate double the requested capacity.
            prop_assert!(buffer.capacity() <= 2 * (size + LIMIT));
        }
    }

    #[test]
    fn number_zero_is_refused() {
        let header = Header {
            number: 0,
            id: 1,
            ttl: 4,
            sent_at: 0,
            origin: "dc1.test".to_owned(),
            retries: Vec::new(),
            is_copy: false,
            former: Vec::new(),
        };
        let mut bytes = written(&[Frame::Stanza(header, Bytes::new())]);
        assert_eq!(read_all(&mut bytes), Err(WireError::NumberZero));
    }

    #[test]
    fn more_retries_than_fit_are_left_out() {
        let header = Header {
            number: 1,
            id: 1,
            ttl: 4,
            sent_at: 0,
            origin: "dc1.test".to_owned(),
            retries: (0..300).map(|n| (format!("dc{n}.test"), n)).collect(),
            is_copy: false,
            former: Vec::new(),
        };
        let mut bytes = written(&[Frame::Stanza(header, Bytes::from_static(b"<a/>"))]);
        let [Frame::Stanza(back, stanza)] = &read_all(&mut bytes).unwrap()[..] else {
            panic!("no stanza came back");
        };
        assert_eq!(back.retries.len(), RETRIES_LIMIT);
        assert_eq!(&stanza[..], b"<a/>");
    }
}
