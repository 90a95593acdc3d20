//! Loading a configuration from all its layers.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use super::options::OPTIONS;
use super::problem::{Origin, Problem, Problems};
use super::reading::Reading;
use super::{Bounce, Cache, Config, file, sections};

/// The file that is read when nobody names one.
const DEFAULT_FILE: &str = "component.toml";

/// The variable that names the file.
const FILE_VARIABLE: &str = "STRAIT_CONFIG";

/// What the operator gave. There is no `Debug`: the environment has secrets.
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
    /// What the process was started with: `file` and `flags` from its command
    /// line, and its environment.
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

    /// An empty variable counts as none: that is how container tools leave
    /// one unset.
    fn variable(&self, name: &str) -> Option<&OsString> {
        self.environment.get(name).filter(|value| !value.is_empty())
    }

    fn config_file(&self) -> Option<PathBuf> {
        let named = self.file.clone();
        named
            .or_else(|| self.variable(FILE_VARIABLE).map(PathBuf::from))
            .or_else(|| {
                Path::new(DEFAULT_FILE)
                    .exists()
                    .then(|| DEFAULT_FILE.into())
            })
    }
}

/// A valid configuration and what an operator should know about it.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// The configuration.
    pub config: Config,
    /// The file that was read, if one was.
    pub file: Option<PathBuf>,
    /// What is allowed but dangerous or probably not meant.
    pub warnings: Vec<Problem>,
}

impl Config {
    /// Reads the defaults, the file, the environment and the flags, each
    /// stronger than the one before, and checks all of it.
    ///
    /// # Errors
    /// Everything that is wrong, by place. No secret is part of it.
    pub fn load(inputs: &Inputs) -> Result<Loaded, Problems> {
        let mut reading = Reading::default();
        let file = inputs.config_file();
        let complete = file
            .as_deref()
            .is_none_or(|file| file::read(file, &mut reading));
        environment(inputs, &mut reading);
        for option in OPTIONS {
            if let Some(text) = inputs.flags.get(option.key) {
                reading.set(option, option.kind.read_text(text), Origin::Flag);
            }
        }
        // What a broken file leaves out is unknown, so only a whole one is judged.
        let config = if complete {
            reading.complete();
            sections::config(&mut reading)
        } else {
            None
        };
        let (mut problems, warnings) = reading.into_findings();
        match config {
            Some(config) if problems.is_empty() => {
                return Ok(Loaded {
                    config,
                    file,
                    warnings,
                });
            }
            None if problems.is_empty() => {
                let what = "left the configuration incomplete without a reason; please report it";
                problems.push(Problem::at("strait", Origin::Default { file: None }, what));
            }
            _ => {}
        }
        Err(Problems(problems))
    }
}

fn environment(inputs: &Inputs, reading: &mut Reading) {
    for option in OPTIONS {
        if let Some(text) = inputs.variable(&option.variable()) {
            let text = text.to_str().ok_or_else(|| "is not UTF-8".to_owned());
            let read = text.and_then(|text| option.kind.read_text(text));
            reading.set(option, read, Origin::Environment);
        }
    }
    // Only a warning: Kubernetes and others set variables of their own, named
    // after a service that may be called strait.
    for name in inputs.environment.keys() {
        let known = OPTIONS.iter().any(|option| option.variable() == *name);
        if !known && name != FILE_VARIABLE {
            let what = "is no option of strait and has no effect";
            reading.note(Problem::at(name, Origin::Environment, what));
        }
    }
}

/// What holds when the file says nothing about `[cache]`.
///
/// # Panics
/// Never: a test reads every default of the table.
impl Default for Cache {
    fn default() -> Self {
        sections::cache(&mut defaults()).expect("the table's defaults are valid")
    }
}

/// What holds when the file says nothing about `[bounce]`.
///
/// # Panics
/// Never: a test reads every default of the table.
impl Default for Bounce {
    fn default() -> Self {
        sections::bounce(&mut defaults()).expect("the table's defaults are valid")
    }
}

fn defaults() -> Reading {
    let mut reading = Reading::default();
    reading.complete();
    reading
}
