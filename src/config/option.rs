//! One option, and the sections of options.

use super::kind::OptionKind;
use super::problem;

/// One option. The parser, the flag, the variable, the help, component.toml and
/// docs/configuration.md are generated from it.
#[derive(Debug)]
pub(super) struct OptionSpec {
    /// The key with its section: `connections.tls.certfile`.
    pub(super) key: &'static str,
    /// The documentation; its first paragraph is the help text.
    pub(super) doc: &'static str,
    pub(super) kind: OptionKind,
    pub(super) default: Fallback,
    /// The value in the reference file, in place of the default.
    pub(super) in_reference: Option<&'static str>,
    /// The reason why an option of mod_global_distrib is always refused.
    pub(super) never: Option<&'static str>,
}

/// The default of an option.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fallback {
    /// An unset option is an error; the example is for the reference file.
    Required(&'static str),
    /// The value as on the command line.
    Value(&'static str),
    /// A default that depends on other options, described in words; with an example.
    Described(&'static str, &'static str),
}

impl OptionKind {
    pub(super) const fn default(self, text: &'static str) -> OptionSpec {
        self.or(Fallback::Value(text))
    }

    pub(super) const fn required(self, example: &'static str) -> OptionSpec {
        self.or(Fallback::Required(example))
    }

    pub(super) const fn described(self, words: &'static str, example: &'static str) -> OptionSpec {
        self.or(Fallback::Described(words, example))
    }

    const fn or(self, default: Fallback) -> OptionSpec {
        OptionSpec {
            key: "",
            doc: "",
            kind: self,
            default,
            in_reference: None,
            never: None,
        }
    }
}

impl OptionSpec {
    pub(super) const fn in_reference(mut self, value: &'static str) -> Self {
        self.in_reference = Some(value);
        self
    }

    pub(super) const fn never(mut self, why: &'static str) -> Self {
        self.never = Some(why);
        self
    }

    /// The section of the key: `connections.tls` of `connections.tls.certfile`; empty at the top
    /// level.
    pub(super) fn section(&self) -> &'static str {
        self.key.rsplit_once('.').map_or("", |(section, _)| section)
    }

    /// The flag's name: `connections-tls-certfile`. A secret has no flag, because flags show in
    /// the process list.
    pub(super) fn flag(&self) -> Option<String> {
        (self.kind != OptionKind::Secret).then(|| problem::flag(self.key))
    }

    pub(super) fn variable(&self) -> String {
        problem::variable(self.key)
    }

    /// The first paragraph of `doc`, in one line.
    pub(super) fn summary(&self) -> String {
        let lines = self.doc.lines().map(str::trim);
        let first: Vec<_> = lines.take_while(|line| !line.is_empty()).collect();
        first.join(" ")
    }
}

#[derive(Debug)]
pub(super) struct Section {
    #[cfg_attr(
        not(test),
        expect(dead_code, reason = "a test writes the reference file")
    )]
    pub(super) doc: &'static str,
    pub(super) options: &'static [OptionSpec],
}
