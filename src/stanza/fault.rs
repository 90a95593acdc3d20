//! The faults of a stanza, and the fatal errors of a stream.

use super::Reason;

/// The reason for refusing one stanza. The stream behind it can still be read. Offsets are bytes,
/// counted from the stanza's first.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// The stanza exceeds [`Limits::bytes`](super::Limits::bytes).
    #[error("the stanza is larger than {limit} bytes")]
    TooLarge {
        /// The limit that applied.
        limit: usize,
    },
    /// The stanza exceeds [`Limits::depth`](super::Limits::depth).
    #[error("the stanza's elements are nested more than {limit} deep")]
    TooDeep {
        /// The limit that applied.
        limit: usize,
    },
    /// One element has more attributes, or more namespace prefixes in scope, than the fixed
    /// limit.
    #[error("more than {limit} {what} on one element, at byte {offset} of the stanza")]
    TooMany {
        /// The kind of item in excess: attributes or prefixes.
        what: &'static str,
        /// The limit that applied.
        limit: usize,
        /// Offset of the element's start tag.
        offset: usize,
    },
    /// `to` or `from` is not a JID (RFC 7622).
    #[error("{attribute}='{value}' is not a JID: {why}")]
    BadAddress {
        /// `to` or `from`.
        attribute: &'static str,
        /// The attribute's value, shortened when long.
        value: String,
        /// The JID parser's error.
        why: String,
    },
    /// A comment, a processing instruction or a document type declaration
    /// (RFC 6120 §11.1).
    #[error("{what} at byte {offset} of the stanza, which XMPP does not allow")]
    Restricted {
        /// The kind of markup.
        what: &'static str,
        /// Offset of its first byte.
        offset: usize,
    },
    /// Not UTF-8.
    #[error("not UTF-8 at byte {offset} of the stanza")]
    Encoding {
        /// Offset of the first invalid byte.
        offset: usize,
    },
    /// A control or non-character (XML 1.0 §2.2).
    #[error("a character that XML does not allow at byte {offset} of the stanza")]
    IllegalChar {
        /// Offset of the character.
        offset: usize,
    },
    /// Not the name of an element or attribute (Namespaces in XML §4).
    #[error("no legal name at byte {offset} of the stanza")]
    Name {
        /// Offset at which the name should begin.
        offset: usize,
    },
    /// A start tag that does not follow the syntax of XML 1.0 §3.1.
    #[error("{expected} expected at byte {offset} of the stanza")]
    Tag {
        /// The expected syntax.
        expected: &'static str,
        /// Offset at which it was expected.
        offset: usize,
    },
    /// The same attribute twice, by its qualified or its expanded name.
    #[error("a second attribute {name} at byte {offset} of the stanza")]
    DuplicateAttribute {
        /// The name as written, prefix included.
        name: String,
        /// Offset of the second one.
        offset: usize,
    },
    /// A prefix that the stanza does not declare. The stream from which it was read may declare
    /// the prefix; the stream to which it is written need not.
    #[error("the namespace prefix {prefix} at byte {offset} is not declared in the stanza")]
    UnboundPrefix {
        /// The prefix.
        prefix: String,
        /// Offset of the name with the prefix.
        offset: usize,
    },
    /// A declaration that Namespaces in XML forbids: of `xml` or `xmlns`, of their namespaces, of
    /// nothing (`xmlns:p=''`), or of a text that is no URI.
    #[error("an illegal namespace declaration at byte {offset} of the stanza")]
    Namespace {
        /// Offset of the attribute.
        offset: usize,
    },
    /// Neither a predefined entity nor a reference to a legal character.
    #[error("an illegal reference at byte {offset} of the stanza")]
    Reference {
        /// Offset of the `&`.
        offset: usize,
    },
    /// `]]>` outside of a CDATA section (XML 1.0 §2.4).
    #[error("]]> in text at byte {offset} of the stanza")]
    CdataEnd {
        /// Offset of its first byte.
        offset: usize,
    },
    /// Well-formed, but neither message, presence nor iq in a stream's own
    /// namespace. Only from [`Stanza::parse`](super::Stanza::parse).
    #[error("not a message, presence or iq")]
    NotAStanza,
    /// Markup whose end is missing, or more or less than one element. Only from
    /// [`Stanza::parse`](super::Stanza::parse): on a stream it is a [`ScanError`].
    #[error("not well-formed at byte {offset} of the stanza: {what}")]
    Broken {
        /// A description of the error.
        what: String,
        /// Offset of the error.
        offset: usize,
    },
}

impl Fault {
    /// The reason for the error to the sender, and for the counter.
    #[must_use]
    pub fn reason(&self) -> Reason {
        match self {
            Self::TooLarge { .. } | Self::TooDeep { .. } | Self::TooMany { .. } => Reason::TooLarge,
            Self::BadAddress { .. } => Reason::BadAddress,
            _ => Reason::Malformed,
        }
    }
}

/// The error after which a stream cannot be read any further.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not well-formed at byte {offset} of the stream: {what}")]
pub struct ScanError {
    /// Offset in bytes, counted from the first byte given to the scanner.
    pub offset: u64,
    /// A description of the error.
    pub what: String,
}
