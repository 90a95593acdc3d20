//! Problems with values, and the places where the values were set.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

/// The place where a value was set; a later variant is stronger.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Origin {
    /// No layer set the value; `file` is the one in which it could be set.
    Default {
        file: Option<Arc<Path>>,
    },
    /// `line` counts from 1.
    File {
        path: Arc<Path>,
        line: usize,
    },
    Environment,
    Flag,
}

impl Origin {
    pub(super) fn same_layer(&self, other: &Self) -> bool {
        std::mem::discriminant(self) == std::mem::discriminant(other)
    }

    /// The place of the option `key`: `component.toml:12: bounce.enabled`, `--bounce-enabled` or
    /// `STRAIT_BOUNCE_ENABLED`.
    pub(super) fn name(&self, key: &str) -> String {
        match self {
            Self::Default { file: None } => key.to_owned(),
            Self::Default { file: Some(file) } => format!("{}: {key}", file.display()),
            Self::File { path, line } => format!("{}:{line}: {key}", path.display()),
            Self::Environment => variable(key),
            Self::Flag => format!("--{}", flag(key)),
        }
    }
}

/// Returns `STRAIT_CONNECTIONS_TLS_CERTFILE` for `connections.tls.certfile`.
pub(super) fn variable(key: &str) -> String {
    format!("STRAIT_{}", key.replace('.', "_").to_ascii_uppercase())
}

/// Returns `connections-tls-certfile` for `connections.tls.certfile`.
pub(super) fn flag(key: &str) -> String {
    key.replace(['.', '_'], "-")
}

/// One error or warning: its place, and how to repair it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    pub(super) origin: Origin,
    text: String,
}

impl Problem {
    /// Creates a problem of the option or section `key`.
    pub(super) fn new(origin: Origin, key: &str, what: impl fmt::Display) -> Self {
        Self::at(origin.name(key), origin, what)
    }

    /// Creates a problem of a whole file or a place in it: `path`, `path:line` or
    /// `path:line:column`.
    pub(super) fn at(place: impl fmt::Display, origin: Origin, what: impl fmt::Display) -> Self {
        let text = format!("{place}: {what}");
        Self { origin, text }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// All problems of a configuration, one on each line.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}", self.0.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))]
pub struct Problems(pub Vec<Problem>);
