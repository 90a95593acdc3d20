//! Loads a configuration from all its layers.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::PathBuf;

use super::bounce::Bounce;
use super::cache::Cache;
use super::file;
use super::option::OptionSpec;
use super::problem::{Origin, Problem, Problems};
use super::reading::Reading;
use super::root::{Config, SECTIONS, options};

/// The files that are tried without `--config`.
const DEFAULT_FILES: [&str; 2] = ["component.toml", "/etc/strait/component.toml"];

/// The environment variable that names the file.
const FILE_VARIABLE: &str = "STRAIT_CONFIG";

/// All inputs of the operator. There is no `Debug`, because the environment holds secrets.
#[derive(Clone, Default)]
pub struct Inputs {
    /// `--config`.
    pub file: Option<PathBuf>,
    /// Options set by flags, by key.
    pub flags: BTreeMap<&'static str, String>,
    /// Variables named `STRAIT_…`.
    pub environment: BTreeMap<String, OsString>,
}

impl Inputs {
    /// Takes `file` and `flags` from the command line of this process, and its environment.
    #[must_use]
    pub fn of_process(file: Option<PathBuf>, flags: BTreeMap<&'static str, String>) -> Self {
        let environment = std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value)))
            .filter(|(name, _)| name.starts_with("STRAIT_"))
            .collect();
        Self {
            file,
            flags,
            environment,
        }
    }

    /// Returns a variable. An empty variable counts as unset: container tools leave one unset
    /// that way.
    fn variable(&self, name: &str) -> Option<&OsString> {
        self.environment.get(name).filter(|value| !value.is_empty())
    }

    /// The named file; without a name, the first of `defaults` that exists.
    pub(super) fn config_file(&self, defaults: &[&str]) -> Option<PathBuf> {
        let named = self.file.clone();
        let named = named.or_else(|| self.variable(FILE_VARIABLE).map(PathBuf::from));
        let mut defaults = defaults.iter().map(PathBuf::from);
        named.or_else(|| defaults.find(|file| file.exists()))
    }
}

/// A valid configuration, and its warnings.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// The configuration.
    pub config: Config,
    /// The file that was read; `None` if there was none.
    pub file: Option<PathBuf>,
    /// Values that are allowed, but dangerous or probably unintended.
    pub warnings: Vec<Problem>,
}

impl Config {
    /// Reads the defaults, the file, the environment and the flags, each stronger than the one
    /// before, and checks all of it.
    ///
    /// # Errors
    /// All problems, by place, without any secret.
    pub fn load(inputs: &Inputs) -> Result<Loaded, Problems> {
        let mut reading = Reading::new(SECTIONS);
        let file = inputs.config_file(&DEFAULT_FILES);
        let is_whole = file
            .as_deref()
            .is_none_or(|file| file::read(file, &mut reading));
        read_environment(inputs, &mut reading);
        for option in options() {
            if let Some(text) = inputs.flags.get(option.key) {
                reading.set(option, option.kind.read_text(text), Origin::Flag);
            }
        }
        // The options that a broken file lacks are unknown, so only a whole one is checked.
        let config = is_whole.then(|| {
            reading.complete();
            Self::checked(&mut reading)
        });
        let (mut problems, warnings) = reading.into_findings();
        match config.flatten() {
            Some(config) if problems.is_empty() => Ok(Loaded {
                config,
                file,
                warnings,
            }),
            config => {
                if config.is_none() && problems.is_empty() {
                    let what =
                        "left the configuration incomplete without a reason; please report it";
                    problems.push(Problem::at("strait", Origin::Default { file: None }, what));
                }
                Err(Problems(problems))
            }
        }
    }
}

fn read_environment(inputs: &Inputs, reading: &mut Reading) {
    for option in options() {
        if let Some(text) = inputs.variable(&option.variable()) {
            let text = text.to_str().ok_or_else(|| "is not UTF-8".to_owned());
            let read = text.and_then(|text| option.kind.read_text(text));
            reading.set(option, read, Origin::Environment);
        }
    }
    // An unknown variable is only a warning: Kubernetes and others set variables of their own,
    // named after a service that may be called strait.
    let known: Vec<_> = options().map(OptionSpec::variable).collect();
    for name in inputs.environment.keys() {
        if !known.contains(name) && name != FILE_VARIABLE {
            let what = "is no option of strait and has no effect";
            reading
                .warnings
                .push(Problem::at(name, Origin::Environment, what));
        }
    }
}

fn defaults() -> Reading {
    let mut reading = Reading::new(SECTIONS);
    reading.complete();
    reading
}

/// # Panics
/// Never: a test reads every default.
impl Default for Cache {
    fn default() -> Self {
        Self::read(&defaults()).expect("the defaults are valid")
    }
}

/// # Panics
/// Never: a test reads every default.
impl Default for Bounce {
    fn default() -> Self {
        Self::read(&defaults()).expect("the defaults are valid")
    }
}
