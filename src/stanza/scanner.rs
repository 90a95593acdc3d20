//! Cuts a stream into stanzas, strictly and without parsing payloads.

use bytes::{Bytes, BytesMut};

use super::Stanza;

/// What a stanza may measure.
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

/// What the scanner cut off the stream.
#[derive(Debug)]
pub enum Cut {
    /// A stanza, checked.
    Stanza(Stanza),
    /// A stanza that must not pass; the stream goes on behind it.
    Refused {
        /// The start tag as a stanza without payload, when that much was legible.
        head: Option<Stanza>,
        /// What is wrong with it.
        fault: Fault,
    },
    /// Another top-level element: `<stream:error/>`, `<handshake/>` …
    Other(Bytes),
    /// `</stream:stream>`
    End,
}

/// Why one stanza is refused. The stream behind it can still be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// placeholder
    #[error("the stanza is larger than {limit} bytes")]
    TooLarge {
        /// The limit that applied.
        limit: usize,
    },
}

/// Why the stream can't be read any further.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not well-formed at byte {offset} of the stream: {what}")]
pub struct ScanError {
    /// Counted from the first byte given to the scanner.
    pub offset: u64,
    /// What is wrong there.
    pub what: String,
}

/// Cuts a stream into stanzas, whatever way its bytes are split into reads.
#[derive(Debug)]
pub struct Scanner {
    limits: Limits,
}

impl Scanner {
    /// A scanner for the inside of a stream, behind its header.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        Self { limits }
    }

    /// Where to append what was read.
    pub fn buffer(&mut self) -> &mut BytesMut {
        todo!()
    }

    /// The next thing on the stream; `None` until more bytes are there.
    ///
    /// # Errors
    /// When what follows can't be cut into elements any more.
    pub fn next(&mut self) -> Result<Option<Cut>, ScanError> {
        todo!()
    }
}
