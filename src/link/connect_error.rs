//! Why a connection comes to nothing, in words and for the counters.

use super::HANDSHAKE_LIMIT;

/// Why a connection is not used for any stanza: what the counters call it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum RefusalKind {
    /// It does not speak TLS where we do.
    Plaintext,
    /// A certificate does not lead to the other side's CA, or has expired.
    Untrusted,
    /// A certificate or a hello names another host.
    WrongHost,
    /// No version of the protocol in common.
    Version,
    /// It did not finish the handshake in time.
    Timeout,
    /// It broke the protocol, or speaks another one.
    Protocol,
    /// It is this very process, dialled by itself.
    Ourselves,
    /// It keeps its session table elsewhere.
    Backend,
}

impl RefusalKind {
    /// Every one, for tables.
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

    /// The counter's label.
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

    /// A later version may have more of them.
    pub(super) fn from_code(code: u8) -> Self {
        Self::ALL
            .into_iter()
            .find(|kind| kind.code() == code)
            .unwrap_or(Self::Protocol)
    }
}

/// Why there is no link at the end of an attempt.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum ConnectError {
    /// No TCP connection, or it was cut: worth another try, nothing to repair here.
    #[error("{0}")]
    Unreachable(String),
    /// Somebody must change a certificate, a version or a configuration.
    #[error("{text}")]
    Refused {
        /// For the counters.
        kind: RefusalKind,
        /// For people.
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

    /// The counter's label, when it is one to count as refused.
    pub(super) fn label(&self) -> Option<&'static str> {
        match self {
            Self::Unreachable(_) => None,
            Self::Refused { kind, .. } => Some(kind.label()),
        }
    }
}

/// How a link that stood came to its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum LinkEnd {
    /// This side said goodbye.
    WeLeft,
    /// The other side said goodbye.
    PeerLeft,
    /// A newer connection of the same slot took over.
    Replaced,
    /// Anything else; the text is for people.
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
