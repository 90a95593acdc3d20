//! Merges the layers: the file, the environment, the flags, and the defaults below them. Collects
//! all problems; no problem stops the reading.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::Path;
use std::sync::Arc;

use serde::de::DeserializeOwned;
use serde_json::Value;

use super::option::{Fallback, OptionSpec, Section};
use super::problem::{Origin, Problem};

/// The values of all options that have one, and the problems found.
#[derive(Default)]
pub(super) struct Reading {
    sections: &'static [Section],
    /// The file in which unset options could be set.
    pub(super) file: Option<Arc<Path>>,
    values: BTreeMap<&'static str, (Value, Origin)>,
    misread: BTreeSet<&'static str>,
    pub(super) problems: Vec<Problem>,
    pub(super) warnings: Vec<Problem>,
}

impl Reading {
    pub(super) fn new(sections: &'static [Section]) -> Self {
        Self {
            sections,
            ..Self::default()
        }
    }

    pub(super) fn options(&self) -> impl Iterator<Item = &'static OptionSpec> + use<> {
        self.sections.iter().flat_map(|section| section.options)
    }

    pub(super) fn option(&self, key: &str) -> Option<&'static OptionSpec> {
        self.options().find(|option| option.key == key)
    }

    /// Sets `option`, or records the error in its value. The weakest layer must be set first.
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

    /// Checks the values of the layers, and sets the defaults of all other options. A misread
    /// option gets its default too, so that the rest can be checked.
    pub(super) fn complete(&mut self) {
        for option in self.options() {
            if let Some((value, origin)) = self.values.get(option.key) {
                let about = |what| Problem::new(origin.clone(), option.key, what);
                let unusual = option.kind.unusual(value);
                self.warnings.extend(unusual.map(about));
                self.problems
                    .extend(option.never.map(|why| about(why.to_owned())));
                continue;
            }
            match option.default {
                Fallback::Value(text) => {
                    let read = option.kind.read_text(text);
                    self.set(option, read, self.unset());
                }
                Fallback::Required(_) => self.require(option.key, ""),
                Fallback::Described(..) => {}
            }
        }
    }

    /// The option's value, or its default.
    pub(super) fn get<T: DeserializeOwned>(&self, key: &str) -> Option<T> {
        let value = self.values.get(key).map(|(value, _)| value.clone());
        serde_json::from_value(value.unwrap_or_default()).ok()
    }

    /// Sets an option that depends on other options.
    pub(super) fn derive(&mut self, key: &'static str, value: Value) {
        self.values.insert(key, (value, self.origin(key)));
    }

    pub(super) fn origin(&self, key: &str) -> Origin {
        let set = self.values.get(key).map(|(_, origin)| origin.clone());
        set.unwrap_or_else(|| self.unset())
    }

    fn unset(&self) -> Origin {
        let file = self.file.clone();
        Origin::Default { file }
    }

    /// Returns whether the option has a value, or one that was misread.
    pub(super) fn is_set(&self, key: &str) -> bool {
        self.values.contains_key(key) || self.misread.contains(key)
    }

    pub(super) fn is_misread(&self, key: &str) -> bool {
        self.misread.contains(key)
    }

    pub(super) fn refuse(&mut self, key: &str, what: impl fmt::Display) {
        self.problems
            .push(Problem::new(self.origin(key), key, what));
    }

    /// Records a missing option as a problem, unless its value was only misread.
    pub(super) fn require(&mut self, key: &str, because: &str) {
        if let Some(option) = self.option(key).filter(|_| !self.is_set(key)) {
            let flag = option
                .flag()
                .map(|flag| format!(", by --{flag}"))
                .unwrap_or_default();
            let (variable, allowed) = (option.variable(), option.kind);
            let what = format!(
                "is mandatory and not set; set it in the file{flag} or by {variable}; allowed: {allowed}{because}"
            );
            self.refuse(key, what);
        }
    }

    /// Records a warning for the operator about the option's value.
    pub(super) fn warn(&mut self, key: &str, what: impl fmt::Display) {
        self.warnings
            .push(Problem::new(self.origin(key), key, what));
    }

    /// Returns problems and warnings, both ordered by layer and line.
    pub(super) fn into_findings(mut self) -> (Vec<Problem>, Vec<Problem>) {
        self.problems.sort_by(|a, b| a.origin.cmp(&b.origin));
        self.warnings.sort_by(|a, b| a.origin.cmp(&b.origin));
        (self.problems, self.warnings)
    }
}
