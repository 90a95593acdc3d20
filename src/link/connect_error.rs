//! Reasons for which a connection fails, in words and for the counters.

use std::time::Duration;

use super::HANDSHAKE_LIMIT;

/// A reason for which a connection carries no stanza; the counters' label.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum RefusalKind {
    /// The other side does not speak TLS where we do.
    Plaintext,
    /// A certificate does not lead to the other side's CA, or has expired.
    Untrusted,
    /// A certificate or a hello names another host.
    WrongHost,
    /// No version of the protocol in common.
    Version,
    /// The other side did not finish the handshake in time.
    Timeout,
    /// The other side broke the protocol, or speaks another one.
    Protocol,
    /// The dialler is this very process.
    Ourselves,
    /// The other side keeps its session table elsewhere.
    Backend,
}

impl RefusalKind {
    /// All kinds, for tables.
    pub(super) const ALL: [Self; 8] = [
        Self::Plaintext,
        Self::Untrusted,
        Self::WrongHost,
        Self::Version,
        Self::Timeout,
        Self::Protocol,
        Self::Ourselves,
        Self::Backend,
    ];

    pub(super) fn label(self) -> &'static str {
        match self {
            Self::Plaintext => "plaintext",
            Self::Untrusted => "untrusted",
            Self::WrongHost => "wrong_host",
            Self::Version => "version",
            Self::Timeout => "timeout",
            Self::Protocol => "protocol",
            Self::Ourselves => "ourselves",
            Self::Backend => "backend",
        }
    }

    /// The number on the wire.
    pub(super) fn code(self) -> u8 {
        match self {
            Self::Plaintext => 1,
            Self::Untrusted => 2,
            Self::WrongHost => 3,
            Self::Version => 4,
            Self::Timeout => 5,
            Self::Protocol => 6,
            Self::Ourselves => 7,
            Self::Backend => 8,
        }
    }

    /// A code of a later version may be unknown here.
    pub(super) fn from_code(code: u8) -> Self {
        Self::ALL
            .into_iter()
            .find(|kind| kind.code() == code)
            .unwrap_or(Self::Protocol)
    }
}

/// The reason why an attempt led to no link.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum ConnectError {
    /// No TCP connection, or it was cut: worth another try, nothing to repair here.
    #[error("{0}")]
    Unreachable(String),
    /// An operator must change a certificate, a version or a configuration.
    #[error("{text}")]
    Refused {
        kind: RefusalKind,
        /// The description, for people.
        text: String,
    },
}

impl ConnectError {
    pub(super) fn refused(kind: RefusalKind, text: impl Into<String>) -> Self {
        Self::Refused {
            kind,
            text: text.into(),
        }
    }

    pub(super) fn late() -> Self {
        Self::refused(
            RefusalKind::Timeout,
            format!("it did not finish the handshake within {HANDSHAKE_LIMIT:?}"),
        )
    }

    pub(super) fn silent(limit: Duration) -> Self {
        let text = format!("it sent nothing within {limit:?}");
        Self::refused(RefusalKind::Timeout, text)
    }

    pub(super) fn evicted() -> Self {
        let text = "it made room for newer connections: too many have not shown a certificate";
        Self::refused(RefusalKind::Timeout, text)
    }

    /// Returns the counter's label, if the error counts as refused.
    pub(super) fn label(&self) -> Option<&'static str> {
        match self {
            Self::Unreachable(_) => None,
            Self::Refused { kind, .. } => Some(kind.label()),
        }
    }
}

/// The way an established link ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum LinkEnd {
    /// This side sent a goodbye.
    WeLeft,
    /// The other side sent a goodbye.
    PeerLeft,
    /// A newer connection of the same slot took over.
    Replaced,
    /// Any other end; the text is for people.
    Broken(String),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_lead_back_and_unknown_ones_are_protocol() {
        for kind in RefusalKind::ALL {
            assert_eq!(RefusalKind::from_code(kind.code()), kind);
        }
        assert_eq!(RefusalKind::from_code(200), RefusalKind::Protocol);
    }
}
