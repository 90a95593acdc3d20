//! The layers put together: defaults, then the file, then the environment,
//! then the flags. Everything that is wrong is collected, nothing stops early.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::Path;
use std::sync::Arc;

use super::options::{Fallback, OPTIONS, OptionSpec};
use super::problem::{Origin, Problem};
use super::value::{Typed, Value};

/// The values of all options that have one, and what is wrong so far.
#[derive(Debug, Default)]
pub(super) struct Reading {
    file: Option<Arc<Path>>,
    values: BTreeMap<&'static str, (Value, Origin)>,
    misread: BTreeSet<&'static str>,
    problems: Vec<Problem>,
    warnings: Vec<Problem>,
}

impl Reading {
    /// Names the file in which unset options could have been set.
    pub(super) fn set_file(&mut self, path: Arc<Path>) {
        self.file = Some(path);
    }

    /// Sets `option`, or records why it cannot be read. Layers are read from
    /// the weakest to the strongest.
    pub(super) fn set(
        &mut self,
        option: &'static OptionSpec,
        read: Result<Value, String>,
        origin: Origin,
    ) {
        match read {
            Ok(value) => {
                self.values.insert(option.key, (value, origin));
            }
            Err(what) => {
                self.misread.insert(option.key);
                self.problems.push(Problem::new(origin, option.key, what));
            }
        }
    }

    /// Fills in the defaults, and refuses what is mandatory and not set or set
    /// and has no meaning here. To be called once, after the last layer.
    pub(super) fn complete(&mut self) {
        for option in OPTIONS {
            if !self.values.contains_key(option.key) && !self.misread.contains(option.key) {
                self.fall_back(option);
            }
            if let Some((_, origin)) = self.values.get(option.key)
                && let Some(why) = option.never
            {
                let problem = Problem::new(origin.clone(), option.key, why);
                self.problems.push(problem);
            }
        }
    }

    fn fall_back(&mut self, option: &'static OptionSpec) {
        match option.default {
            Fallback::Value(text) => {
                let read = option.kind.read_text(text);
                self.set(option, read, self.unset());
            }
            Fallback::Required => self.refuse(option.key, mandatory(option)),
            Fallback::Told(_) => {}
        }
    }

    /// The option's value; `None` when it has none or was refused.
    pub(super) fn get<T: Typed>(&mut self, key: &'static str) -> Option<T> {
        let (value, _) = self.values.get(key)?;
        let taken = T::from_value(value);
        if taken.is_none() {
            self.refuse(key, "cannot be used as this version of strait needs it");
        }
        taken
    }

    /// Where the option was set.
    pub(super) fn origin(&self, key: &str) -> Origin {
        let set = self.values.get(key).map(|(_, origin)| origin.clone());
        set.unwrap_or_else(|| self.unset())
    }

    fn unset(&self) -> Origin {
        let file = self.file.clone();
        Origin::Default { file }
    }

    /// Whether the option has a value, or was given one that could not be read.
    pub(super) fn is_set(&self, key: &str) -> bool {
        self.values.contains_key(key) || self.misread.contains(key)
    }

    /// Whether a value was given and could not be read: then its absence was
    /// already told.
    pub(super) fn is_misread(&self, key: &str) -> bool {
        self.misread.contains(key)
    }

    /// Records that the option's value cannot be accepted.
    pub(super) fn refuse(&mut self, key: &str, what: impl fmt::Display) {
        let problem = Problem::new(self.origin(key), key, what);
        self.problems.push(problem);
    }

    /// Records a problem that is not about an option's value.
    pub(super) fn report(&mut self, problem: Problem) {
        self.problems.push(problem);
    }

    /// Records what an operator should know about the option's value.
    pub(super) fn warn(&mut self, key: &str, what: impl fmt::Display) {
        let warning = Problem::new(self.origin(key), key, what);
        self.warnings.push(warning);
    }

    /// Records a warning that is not about an option's value.
    pub(super) fn note(&mut self, warning: Problem) {
        self.warnings.push(warning);
    }

    /// What is wrong, and the warnings; both by layer and line.
    pub(super) fn into_findings(mut self) -> (Vec<Problem>, Vec<Problem>) {
        self.problems.sort_by(|a, b| a.origin.cmp(&b.origin));
        self.warnings.sort_by(|a, b| a.origin.cmp(&b.origin));
        (self.problems, self.warnings)
    }
}

/// How to set an option that must be.
pub(super) fn mandatory(option: &OptionSpec) -> String {
    let flag = option.flag().map(|flag| format!(", by --{flag}"));
    format!(
        "is mandatory and not set; set it in the file{} or by {}; allowed: {}",
        flag.unwrap_or_default(),
        option.variable(),
        option.kind
    )
}
