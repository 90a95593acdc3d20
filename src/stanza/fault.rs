//! What can be wrong with a stanza, or with a whole stream.

use super::Reason;

/// Why one stanza is refused. The stream behind it can still be read.
/// Offsets are bytes, counted from the stanza's first.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// Over [`Limits::bytes`](super::Limits::bytes).
    #[error("the stanza is larger than {limit} bytes")]
    TooLarge {
        /// The limit that applied.
        limit: usize,
    },
    /// Over [`Limits::depth`](super::Limits::depth).
    #[error("the stanza's elements are nested more than {limit} deep")]
    TooDeep {
        /// The limit that applied.
        limit: usize,
    },
    /// One element has more attributes, or has more namespace prefixes in
    /// force, than any sane one.
    #[error("more than {limit} {what} on one element, at byte {offset} of the stanza")]
    TooMany {
        /// What there are too many of.
        what: &'static str,
        /// The limit that applied.
        limit: usize,
        /// Of the element's start tag.
        offset: usize,
    },
    /// `to` or `from` is not a JID (RFC 7622).
    #[error("{attribute}='{value}' is not a JID: {why}")]
    BadAddress {
        /// `to` or `from`.
        attribute: &'static str,
        /// The attribute's value, shortened when long.
        value: String,
        /// What the JID parser found.
        why: String,
    },
    /// A comment, a processing instruction or a document type declaration
    /// (RFC 6120 §11.1).
    #[error("{what} at byte {offset} of the stanza, which XMPP does not allow")]
    Restricted {
        /// Which of them.
        what: &'static str,
        /// Where it begins.
        offset: usize,
    },
    /// Not UTF-8.
    #[error("not UTF-8 at byte {offset} of the stanza")]
    Encoding {
        /// The first byte that is not.
        offset: usize,
    },
    /// A control or non-character (XML 1.0 §2.2).
    #[error("a character that XML does not allow at byte {offset} of the stanza")]
    IllegalChar {
        /// Where it is.
        offset: usize,
    },
    /// Not the name of an element or attribute (Namespaces in XML §4).
    #[error("no legal name at byte {offset} of the stanza")]
    Name {
        /// Where the name should begin.
        offset: usize,
    },
    /// A start tag that does not follow the syntax of XML 1.0 §3.1.
    #[error("{expected} expected at byte {offset} of the stanza")]
    Tag {
        /// What should have been there.
        expected: &'static str,
        /// Where.
        offset: usize,
    },
    /// The same attribute twice, by its qualified or its expanded name.
    #[error("a second attribute {name} at byte {offset} of the stanza")]
    DuplicateAttribute {
        /// The name as written, prefix included.
        name: String,
        /// Where the second one is.
        offset: usize,
    },
    /// A prefix that the stanza does not declare. The stream it came from may
    /// have, the one it goes to need not.
    #[error("the namespace prefix {prefix} at byte {offset} is not declared in the stanza")]
    UnboundPrefix {
        /// The prefix.
        prefix: String,
        /// Where the name with it begins.
        offset: usize,
    },
    /// A declaration that Namespaces in XML forbids: of `xml` or `xmlns`, of
    /// their namespaces, of nothing (`xmlns:p=''`), or of what is no URI.
    #[error("an illegal namespace declaration at byte {offset} of the stanza")]
    Namespace {
        /// Where the attribute begins.
        offset: usize,
    },
    /// Neither a predefined entity nor a reference to a legal character.
    #[error("an illegal reference at byte {offset} of the stanza")]
    Reference {
        /// Where the `&` is.
        offset: usize,
    },
    /// `]]>` outside of a CDATA section (XML 1.0 §2.4).
    #[error("]]> in text at byte {offset} of the stanza")]
    CdataEnd {
        /// Where it begins.
        offset: usize,
    },
    /// Well-formed, but neither message, presence nor iq in a stream's own
    /// namespace. Only from [`Stanza::parse`](super::Stanza::parse).
    #[error("not a message, presence or iq")]
    NotAStanza,
    /// Markup whose end can't be found, or more or less than one element. Only
    /// from [`Stanza::parse`](super::Stanza::parse): on a stream it is a
    /// [`ScanError`].
    #[error("not well-formed at byte {offset} of the stanza: {what}")]
    Broken {
        /// What is wrong.
        what: String,
        /// Where.
        offset: usize,
    },
}

impl Fault {
    /// The reason to give to the sender, and to count.
    #[must_use]
    pub fn reason(&self) -> Reason {
        match self {
            Self::TooLarge { .. } | Self::TooDeep { .. } | Self::TooMany { .. } => Reason::TooLarge,
            Self::BadAddress { .. } => Reason::BadAddress,
            _ => Reason::Malformed,
        }
    }
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
