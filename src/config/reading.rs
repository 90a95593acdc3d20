//! The layers put together: the file, the environment, the flags, and the
//! defaults under them. All problems are collected, none stops the reading.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::Path;
use std::sync::Arc;

use serde::de::DeserializeOwned;
use serde_json::Value;

use super::option::{Fallback, OptionSpec, Section};
use super::problem::{Origin, Problem};

/// The values of all options that have one, and the problems so far.
#[derive(Default)]
pub(super) struct Reading {
    sections: &'static [Section],
    /// Unset options could have been set there.
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

    /// Sets `option`, or records why its value cannot be read. The weakest layer
    /// comes first.
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

    /// Judges what the layers have set, and sets the defaults of all other
    /// options. A misread one gets its default too, so that the rest is checked.
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

    /// Sets what depends on other options.
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

    /// Whether the option has a value, or one that could not be read.
    pub(super) fn is_set(&self, key: &str) -> bool {
        self.values.contains_key(key) || self.misread.contains(key)
    }

    pub(super) fn is_misread(&self, key: &str) -> bool {
        self.misread.contains(key)
    }

    /// Records that the option's value cannot be accepted.
    pub(super) fn refuse(&mut self, key: &str, what: impl fmt::Display) {
        self.problems
            .push(Problem::new(self.origin(key), key, what));
    }

    /// Refuses the absence of an option, unless its value was only misread.
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

    /// Records what an operator should know about the option's value.
    pub(super) fn warn(&mut self, key: &str, what: impl fmt::Display) {
        self.warnings
            .push(Problem::new(self.origin(key), key, what));
    }

    /// Problems and warnings, both by layer and line.
    pub(super) fn into_findings(mut self) -> (Vec<Problem>, Vec<Problem>) {
        self.problems.sort_by(|a, b| a.origin.cmp(&b.origin));
        self.warnings.sort_by(|a, b| a.origin.cmp(&b.origin));
        (self.problems, self.warnings)
    }
}
