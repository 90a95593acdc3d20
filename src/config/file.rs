//! Reads the TOML file: each key with its line.

use std::path::Path;
use std::sync::Arc;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::kind::OptionKind;
use super::option::OptionSpec;
use super::problem::{Origin, Problem};
use super::reading::Reading;
use serde_json::Value;

/// Reads the file's options into `reading`. Returns false when the file is unreadable or not
/// TOML: then the options that it lacks are unknown.
pub(super) fn read(path: &Path, reading: &mut Reading) -> bool {
    let shared: Arc<Path> = path.into();
    reading.file = Some(shared.clone());
    let read = std::fs::read(path).map_err(|error| format!("cannot be read: {error}"));
    let text = read.and_then(|bytes| {
        String::from_utf8(bytes).map_err(|error| format!("is not UTF-8: {}", error.utf8_error()))
    });
    let mut file = File {
        path: shared,
        text: text.as_deref().unwrap_or_default(),
        reading,
    };
    if let Err(what) = &text {
        let problem = Problem::at(path.display(), file.origin(0), what);
        file.reading.problems.push(problem);
        return false;
    }
    let (document, errors) = DeTable::parse_recoverable(file.text);
    if errors.is_empty() {
        file.table("", document.get_ref());
    } else {
        file.syntax(&errors);
    }
    errors.is_empty()
}

struct File<'a> {
    path: Arc<Path>,
    text: &'a str,
    reading: &'a mut Reading,
}

impl File<'_> {
    /// Reports the parser's messages without the line that the parser's own display quotes, which
    /// may hold a secret. At most one message per line: on the rest of a broken line, the parser
    /// only repeats the error.
    fn syntax(&mut self, errors: &[toml::de::Error]) {
        let mut last = 0;
        for error in errors {
            let at = error.span().map_or(self.text.len(), |span| span.start);
            let line = line(self.text, at);
            if line != last {
                let place = format!("{}:{line}:{}", self.path.display(), column(self.text, at));
                let what = format!("is not TOML: {}", error.message());
                self.reading
                    .problems
                    .push(Problem::at(place, self.origin(at), what));
            }
            last = line;
        }
    }

    fn table(&mut self, section: &str, table: &DeTable<'_>) {
        for (key, value) in table {
            let at = key.span().start;
            let path = match section {
                "" => key.get_ref().to_string(),
                section => format!("{section}.{}", key.get_ref()),
            };
            if let Some(option) = self.reading.option(&path) {
                self.option(option, value);
            } else if !is_section(&path, self.reading) {
                self.refuse(&path, at, unknown(&path, self.reading));
            } else if let DeValue::Table(table) = value.get_ref() {
                self.table(&path, table);
            } else {
                let what =
                    format!("is a section; write [{path}] and its keys on lines of their own");
                self.refuse(&path, at, what);
            }
        }
    }

    fn option(&mut self, option: &'static OptionSpec, value: &Spanned<DeValue<'_>>) {
        let (at, read) = match option.kind.read_toml(value, &|at| line(self.text, at)) {
            Ok(read) => (value.span().start, self.beside_file(option.kind, read)),
            Err((at, what)) => (at, Err(what)),
        };
        self.reading.set(option, read, self.origin(at));
    }

    /// Resolves a relative path from the file's folder, independently of the working directory.
    fn beside_file(&self, kind: OptionKind, value: Value) -> Result<Value, String> {
        match (kind, value.as_str(), self.path.parent()) {
            (OptionKind::Path, Some(path), Some(folder)) => {
                let what = "stands in a folder whose name is not UTF-8; allowed: an absolute path";
                serde_json::to_value(folder.join(path)).map_err(|_| what.to_owned())
            }
            _ => Ok(value),
        }
    }

    fn refuse(&mut self, key: &str, at: usize, what: String) {
        let problem = Problem::new(self.origin(at), key, what);
        self.reading.problems.push(problem);
    }

    fn origin(&self, at: usize) -> Origin {
        Origin::File {
            path: self.path.clone(),
            line: line(self.text, at),
        }
    }
}

fn before(text: &str, at: usize) -> &str {
    text.get(..at).unwrap_or(text)
}

fn line(text: &str, at: usize) -> usize {
    before(text, at).matches('\n').count() + 1
}

fn column(text: &str, at: usize) -> usize {
    let line = before(text, at).rsplit('\n').next();
    line.map_or(0, |line| line.chars().count()) + 1
}

/// Returns whether an option is in the section `path` or in one below it.
fn is_section(path: &str, reading: &Reading) -> bool {
    let below = |key: &str| {
        key.strip_prefix(path)
            .is_some_and(|rest| rest.starts_with('.'))
    };
    reading.options().any(|option| below(option.key))
}

/// The message for an unknown option or section `path`, with the most similar known one.
fn unknown(path: &str, reading: &Reading) -> String {
    let sections = reading.options().map(OptionSpec::section);
    let sections = sections.filter(|section| !section.is_empty());
    let known: Vec<_> = reading
        .options()
        .map(|option| option.key)
        .chain(sections)
        .collect();
    match nearest(path, &known) {
        Some(meant) => format!("is unknown; did you mean `{meant}`?"),
        None => "is unknown; `strait run --help` lists all options".to_owned(),
    }
}

/// Returns the most similar of `known`: by the whole path, or by its last part when only the
/// section is wrong.
fn nearest<'a>(path: &str, known: &[&'a str]) -> Option<&'a str> {
    fn last(path: &str) -> &str {
        path.rsplit('.').next().unwrap_or(path)
    }
    let likeness = |candidate: &str| {
        let whole = strsim::normalized_damerau_levenshtein(path, candidate);
        let word = strsim::normalized_damerau_levenshtein(last(path), last(candidate));
        whole.max(word * 0.95)
    };
    let scored = known
        .iter()
        .map(|candidate| (likeness(candidate), *candidate));
    let best = scored.max_by(|a, b| a.0.total_cmp(&b.0));
    best.filter(|(likeness, _)| *likeness > 0.6)
        .map(|(_, candidate)| candidate)
}
