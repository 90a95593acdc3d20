//! Cuts a stream into stanzas, strictly and without parsing payloads.

use bytes::{Buf, Bytes, BytesMut};

use super::Stanza;
use super::bounds::{Bounds, Broken, Piece};
use super::check::{Checked, Checker};
use super::fault::{Fault, ScanError};

/// Size limits of a stanza.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// The whole stanza, in bytes.
    pub bytes: usize,
    /// Nested elements, the stanza itself counted.
    pub depth: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            bytes: 512 * 1024,
            depth: 64,
        }
    }
}

/// One item that the scanner cut off the stream.
#[derive(Debug)]
pub enum Cut {
    /// A stanza that passed all checks.
    Stanza(Stanza),
    /// A stanza that must not pass; the stream continues behind the stanza.
    Refused {
        /// The start tag as a stanza without payload, when that much was legible.
        head: Option<Stanza>,
        /// The reason for the refusal.
        fault: Fault,
    },
    /// Another top-level element, well-formed: `<stream:error/>`,
    /// `<handshake/>`, or anything of a foreign namespace.
    Other(Bytes),
    /// `</stream:stream>`, with any prefix. The scanner ignores everything behind it.
    End,
}

/// Bytes per read buffer. A buffer lives as long as any stanza cut from it.
const CHUNK: usize = 16 * 1024;

/// A new chunk is begun when less room is left, in bytes. The bound is small, so that chunks are
/// used up: a stanza that is kept keeps its whole chunk.
const LEAST_ROOM: usize = 512;

/// Cuts a stream into stanzas, independently of how its bytes are split into reads.
///
/// A [`Cut::Stanza`] can be written to any stream in [`NAMESPACE`](super::NAMESPACE) without
/// ending or escaping it: the scanner checks for balanced and matching tags, legal names,
/// characters and references, declared prefixes, no comment, processing instruction or DTD (RFC
/// 6120 §11.1), and [`Limits`]. CDATA sections pass unchanged, as text.
#[derive(Debug)]
pub struct Scanner {
    limits: Limits,
    buffer: BytesMut,
    bounds: Bounds,
    checker: Checker,
    /// Number of bytes that have left the buffer.
    consumed: u64,
    /// Set while the current element exceeds the limit and its bytes are discarded as they
    /// arrive; holds the head of that element.
    oversized: Option<Option<Stanza>>,
    finished: Option<Finished>,
}

/// The reason why the scanner returns no more items.
#[derive(Debug, Clone)]
enum Finished {
    Ended,
    Failed(ScanError),
}

impl Scanner {
    /// Creates a scanner for the inside of a stream, behind its header.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        Self {
            bounds: Bounds::new(limits.bytes),
            limits,
            buffer: BytesMut::new(),
            checker: Checker::default(),
            consumed: 0,
            oversized: None,
            finished: None,
        }
    }

    /// The buffer to which the caller appends the bytes it has read. The buffer always has some
    /// room.
    pub fn buffer(&mut self) -> &mut BytesMut {
        if self.buffer.capacity() - self.buffer.len() < LEAST_ROOM {
            self.buffer.reserve(CHUNK);
        }
        &mut self.buffer
    }

    /// Returns the next item of the stream; `None` until more bytes arrive, and always after
    /// [`Cut::End`].
    ///
    /// # Errors
    /// When the bytes cannot be cut into elements any more; every later call returns the same
    /// error.
    #[expect(clippy::should_implement_trait, reason = "None is not the end")]
    pub fn next(&mut self) -> Result<Option<Cut>, ScanError> {
        match &self.finished {
            Some(Finished::Failed(error)) => return Err(error.clone()),
            Some(Finished::Ended) => {
                self.buffer.clear();
                return Ok(None);
            }
            None => {}
        }
        match self.bounds.advance(&self.buffer) {
            Ok(Some(piece)) => Ok(Some(self.cut(piece))),
            Ok(None) => {
                self.tidy();
                Ok(None)
            }
            Err(Broken { what, offset }) => {
                let offset = self.consumed + offset as u64;
                let error = ScanError { offset, what };
                self.finished = Some(Finished::Failed(error.clone()));
                Err(error)
            }
        }
    }

    fn tidy(&mut self) {
        if !self.bounds.is_inside() {
            self.skip(self.bounds.position());
            return;
        }
        let size = self.bounds.position() - self.bounds.start();
        if self.oversized.is_none() && size > self.limits.bytes {
            self.oversized = Some(self.head_in_buffer());
        }
        if self.oversized.is_some() {
            self.skip(self.bounds.position());
        }
    }

    fn skip(&mut self, count: usize) {
        self.buffer.advance(count);
        self.bounds.forget(count);
        self.consumed += count as u64;
    }

    /// Returns the head of the oversized element at the beginning of the buffer, if the head
    /// itself is within the limit.
    fn head_in_buffer(&mut self) -> Option<Stanza> {
        let head_end = self.bounds.head_end()?;
        let head = &self.buffer[self.bounds.start()..head_end];
        if head.len() > self.limits.bytes {
            return None;
        }
        self.checker.head(&Bytes::copy_from_slice(head))
    }

    fn cut(&mut self, piece: Piece) -> Cut {
        let size = self.bounds.position() - self.bounds.start();
        if self.oversized.is_none() && size > self.limits.bytes {
            self.oversized = Some(match piece {
                Piece::Element => self.head_in_buffer(),
                Piece::Restricted(_) | Piece::End => None,
            });
        }
        let depth = self.bounds.deepest();
        let head_end = self.bounds.head_end();
        let start = self.bounds.start();
        let element = self.take();
        if piece == Piece::End {
            self.finished = Some(Finished::Ended);
            return Cut::End;
        }
        if let Some(head) = self.oversized.take() {
            let limit = self.limits.bytes;
            let fault = Fault::TooLarge { limit };
            return Cut::Refused { head, fault };
        }
        match piece {
            Piece::Restricted(what) => Cut::Refused {
                head: None,
                fault: Fault::Restricted { what, offset: 0 },
            },
            _ => {
                let head_end = head_end.map_or(element.len(), |end| end - start);
                self.judge(element, head_end, depth)
            }
        }
    }

    /// Removes the element found by `bounds` from the buffer.
    fn take(&mut self) -> Bytes {
        self.skip(self.bounds.start());
        let element = self.buffer.split_to(self.bounds.position()).freeze();
        self.bounds.forget(element.len());
        self.consumed += element.len() as u64;
        element
    }

    fn judge(&mut self, element: Bytes, head_end: usize, depth: usize) -> Cut {
        let limit = self.limits.depth;
        let verdict = if depth > limit {
            Err(Fault::TooDeep { limit })
        } else {
            self.checker.check(&element, head_end)
        };
        match verdict {
            Ok(Checked::Stanza(stanza)) => Cut::Stanza(stanza),
            Ok(Checked::Misaddressed(head, fault)) => Cut::Refused {
                head: Some(head),
                fault,
            },
            Ok(Checked::Other) => Cut::Other(element),
            Err(fault) => Cut::Refused {
                head: self.checker.head(&element.slice(..head_end)),
                fault,
            },
        }
    }
}
