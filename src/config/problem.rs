//! Telling a person where a value came from and what is wrong with it.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use super::options::OptionSpec;

/// Where a value was set. A later one wins over an earlier one.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Origin {
    /// Nobody set it.
    Default {
        /// The file in which it could have been set.
        file: Option<Arc<Path>>,
    },
    /// In the file.
    File {
        /// The file, as named by the operator.
        path: Arc<Path>,
        /// Its line, from 1.
        line: usize,
    },
    /// By an environment variable.
    Environment,
    /// By a flag.
    Flag,
}

impl Origin {
    /// Whether both are the same layer: both in the file, both flags …
    pub(super) fn same_layer(&self, other: &Self) -> bool {
        std::mem::discriminant(self) == std::mem::discriminant(other)
    }

    /// How the option `key` is called there: `component.toml:12: bounce.enabled`,
    /// `--bounce-enabled` or `STRAIT_BOUNCE_ENABLED`.
    pub(super) fn name(&self, key: &str) -> String {
        let option = OptionSpec::find(key);
        match self {
            Self::Default { file: None } => key.to_owned(),
            Self::Default { file: Some(file) } => format!("{}: {key}", file.display()),
            Self::File { path, line } => format!("{}:{line}: {key}", path.display()),
            Self::Environment => option.map_or_else(|| key.to_owned(), OptionSpec::variable),
            Self::Flag => option
                .and_then(OptionSpec::flag)
                .map_or_else(|| key.to_owned(), |flag| format!("--{flag}")),
        }
    }
}

/// One thing that is wrong, or worth a warning: where, and what to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    pub(super) origin: Origin,
    text: String,
}

impl Problem {
    /// About the option or section `key`.
    pub(super) fn new(origin: Origin, key: &str, what: impl fmt::Display) -> Self {
        let text = format!("{}: {what}", origin.name(key));
        Self { origin, text }
    }

    /// About a file as a whole, or about a place in it that is no option:
    /// `place` is `path`, `path:line` or `path:line:column`.
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

/// All that is wrong with a configuration, one on each line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problems(pub Vec<Problem>);

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.0.iter().enumerate() {
            let separator = if index == 0 { "" } else { "\n" };
            write!(f, "{separator}{problem}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Problems {}
