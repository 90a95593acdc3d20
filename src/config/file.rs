//! Reading the TOML file: every key with its line.

use std::path::Path;
use std::sync::Arc;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::options::{self, OPTIONS, OptionSpec};
use super::problem::{Origin, Problem};
use super::reading::Reading;
use super::value::Value;

/// Reads the file's options into `reading`. False when it cannot be read at
/// all or is not TOML: then nothing can be said about what it leaves out.
pub(super) fn read(path: &Path, reading: &mut Reading) -> bool {
    let shared: Arc<Path> = path.into();
    reading.set_file(shared.clone());
    let mut file = File {
        path: shared,
        text: String::new(),
        reading,
    };
    let bytes = match std::fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) => return file.reject(format!("cannot be read: {error}")),
    };
    let text = match String::from_utf8(bytes) {
        Ok(text) => text,
        Err(error) => return file.reject(format!("is not UTF-8: {}", error.utf8_error())),
    };
    file.text.clone_from(&text);
    let (document, errors) = DeTable::parse_recoverable(&text);
    if errors.is_empty() {
        file.table("", document.get_ref());
    } else {
        file.syntax(&errors);
    }
    errors.is_empty()
}

struct File<'a> {
    path: Arc<Path>,
    text: String,
    reading: &'a mut Reading,
}

impl File<'_> {
    fn reject(&mut self, what: String) -> bool {
        let problem = Problem::at(self.path.display(), self.origin(0), what);
        self.reading.report(problem);
        false
    }

    /// The parser's messages alone: its own display quotes the line, which may
    /// be that of a secret. One a line, as the rest of a broken line only
    /// repeats the matter.
    fn syntax(&mut self, errors: &[toml::de::Error]) {
        let mut last = 0;
        for error in errors {
            let at = error.span().map_or(self.text.len(), |span| span.start);
            let (line, column) = (self.line(at), self.column(at));
            if line != last {
                let place = format!("{}:{line}:{column}", self.path.display());
                let what = format!("is not TOML: {}", error.message());
                self.reading
                    .report(Problem::at(place, self.origin(at), what));
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
            if let Some(option) = OptionSpec::find(&path) {
                self.option(option, at, value);
            } else if options::is_section(&path) {
                self.section(&path, at, value);
            } else {
                let what = unknown(&path);
                self.refuse(&path, at, what);
            }
        }
    }

    fn section(&mut self, path: &str, at: usize, value: &Spanned<DeValue<'_>>) {
        match value.get_ref() {
            DeValue::Table(table) => self.table(path, table),
            _ => {
                let what =
                    format!("is a section; write [{path}] and its keys on lines of their own");
                self.refuse(path, at, what);
            }
        }
    }

    fn option(&mut self, option: &'static OptionSpec, at: usize, value: &Spanned<DeValue<'_>>) {
        let (at, read) = match option.kind.read_toml(value, &|at| self.origin(at)) {
            Ok(value) => (at, Ok(self.beside_file(value))),
            Err(misread) => (misread.at, Err(misread.what)),
        };
        self.reading.set(option, read, self.origin(at));
    }

    /// A relative path is meant from the file, wherever strait was started.
    fn beside_file(&self, value: Value) -> Value {
        match (value, self.path.parent()) {
            (Value::Path(path), Some(folder)) => Value::Path(folder.join(path)),
            (value, _) => value,
        }
    }

    fn refuse(&mut self, key: &str, at: usize, what: impl std::fmt::Display) {
        let problem = Problem::new(self.origin(at), key, what);
        self.reading.report(problem);
    }

    fn origin(&self, at: usize) -> Origin {
        Origin::File {
            path: self.path.clone(),
            line: self.line(at),
        }
    }

    fn before(&self, at: usize) -> &str {
        self.text.get(..at).unwrap_or(&self.text)
    }

    fn line(&self, at: usize) -> usize {
        self.before(at).matches('\n').count() + 1
    }

    fn column(&self, at: usize) -> usize {
        let line = self.before(at).rsplit('\n').next();
        line.map_or(0, |line| line.chars().count()) + 1
    }
}

/// That there is no option or section `path`, and which one may be meant.
pub(super) fn unknown(path: &str) -> String {
    let mut known: Vec<&str> = OPTIONS.iter().map(|option| option.key).collect();
    known.extend(
        OPTIONS
            .iter()
            .map(OptionSpec::section)
            .filter(|section| !section.is_empty()),
    );
    match nearest(path, &known) {
        Some(meant) => format!("is unknown; did you mean `{meant}`?"),
        None => "is unknown; `strait run --help` lists all options".to_owned(),
    }
}

/// The most similar of `known`: by the whole path, or by the last word when
/// only the section is wrong.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_misspelt_key_finds_its_option() {
        for (wrong, right) in [
            ("bounce.max_retrys", "bounce.max_retries"),
            ("certfile", "connections.tls.certfile"),
            ("conections", "connections"),
            ("connections.tls.certifle", "connections.tls.certfile"),
            ("global_hots", "global_host"),
            ("redis.uri", "redis.url"),
        ] {
            assert!(
                unknown(wrong).contains(&format!("`{right}`")),
                "{wrong}: {}",
                unknown(wrong)
            );
        }
        assert!(
            unknown("colour").contains("--help"),
            "{}",
            unknown("colour")
        );
    }
}
