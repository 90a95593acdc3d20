//! component.toml and docs/configuration.md are generated from the options. To regenerate them:
//! `STRAIT_WRITE_REFERENCE=1 cargo test reference`.

use std::fmt::Write;
use std::path::Path;

use super::super::kind::{CIPHERS, OptionKind};
use super::super::option::{Fallback, OptionSpec};
use super::super::root::SECTIONS;

const HEAD: &str = "\
# strait: every option, with its meaning, its unit and its default.
#
# A line that begins with `#name =` shows the default, or an example where there
# is none. Each option is also a flag (connections.tls.certfile is
# --connections-tls-certfile) and an environment variable
# (STRAIT_CONNECTIONS_TLS_CERTFILE). A flag is stronger than a variable, and a
# variable than this file. Relative paths start at this file's folder. Times and
# sizes may have a unit: \"30s\", \"200ms\", \"64MB\", \"64MiB\".
#
# `strait check --config component.toml` says whether all is right.
#
# As it stands this file is for a try on one machine: links are plain TCP on
# loopback. Between datacenters, remove `enabled` in [connections.tls] and name
# your certificates there.
";

const GUIDE: &str = "\
# Configuration

To configure a gateway, write one file and check it:

```
strait check --config component.toml
strait run --config component.toml
```

[component.toml](../component.toml) at the top of the sources is a file to begin with: it has every \
option with its default, and it is valid. Without `--config` (or `STRAIT_CONFIG`), strait reads \
`./component.toml`, else `/etc/strait/component.toml`. Relative paths start at the file's folder.

Every option is also an environment variable and a flag. A flag is stronger than a variable, and a \
variable than the file; flags alone suffice. Secrets have no flag, as flags show in the process list. \
An empty variable counts as none.

Times and sizes are plain numbers of the unit that is named at the option, or have a unit: `\"30s\"`, \
`\"200ms\"`, `\"1h 30m\"`, `\"64MB\"` (10^6 bytes each), `\"64MiB\"` (2^20 bytes each). A value far outside the \
usual range is accepted with a warning.

`strait check` reports all problems at once, each with its file, line and key, and exits with 2. An \
unknown key is an error; an unknown variable `STRAIT_…` is a warning.
";

#[test]
fn the_reference_file_is_current() {
    is_current("component.toml", &file());
}

#[test]
fn the_page_of_all_options_is_current() {
    is_current("docs/configuration.md", &page());
}

fn is_current(name: &str, text: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(name);
    if std::env::var_os("STRAIT_WRITE_REFERENCE").is_some() {
        std::fs::write(&path, text).unwrap();
    }
    let written = std::fs::read_to_string(&path).unwrap_or_default();
    let differs = written
        .lines()
        .zip(text.lines())
        .find(|(old, new)| old != new);
    assert!(
        written == text,
        "{name} is not current; STRAIT_WRITE_REFERENCE=1 writes it anew: {differs:?}"
    );
}

fn lines(doc: &str) -> impl Iterator<Item = &str> {
    doc.lines()
        .map(|line| line.strip_prefix(' ').unwrap_or(line))
}

fn file() -> String {
    let mut text = HEAD.to_owned();
    for section in SECTIONS {
        let first = &section.options[0];
        match first.section() {
            "" => text.push('\n'),
            name => {
                text.push_str("\n\n");
                comment(&mut text, section.doc);
                writeln!(text, "[{name}]").unwrap();
            }
        }
        for (index, option) in section.options.iter().enumerate() {
            if index > 0 {
                text.push('\n');
            }
            if option.kind.has_entries() {
                text.push('\n');
                text.push_str(example(option));
                continue;
            }
            comment(&mut text, option.doc);
            note(&mut text, &default_in_words(option));
            let key = option.key.rsplit('.').next().unwrap();
            let sign = match (option.in_reference, option.default) {
                (Some(_), _) | (_, Fallback::Required(_)) => "",
                _ => "#",
            };
            let value = option.in_reference.unwrap_or_else(|| example(option));
            writeln!(text, "{sign}{key} = {}", toml(option, value)).unwrap();
        }
    }
    text
}

fn comment(text: &mut String, doc: &str) {
    for line in lines(doc).filter(|line| !line.is_empty()) {
        writeln!(text, "# {line}").unwrap();
    }
}

/// Ends the comment with `words`, on a separate line if they are long.
fn note(text: &mut String, words: &str) {
    let last = text.trim_end().lines().last().unwrap_or_default();
    if words.is_empty() {
        return;
    }
    if last.chars().count() + 1 + words.chars().count() > 84 {
        writeln!(text, "# {words}").unwrap();
    } else {
        text.pop();
        writeln!(text, " {words}").unwrap();
    }
}

/// Returns an empty text for a default that the line itself shows.
fn default_in_words(option: &OptionSpec) -> String {
    match option.default {
        Fallback::Required(_) => "Mandatory.".to_owned(),
        Fallback::Value(_) | Fallback::Described("none", _) => String::new(),
        Fallback::Described(words, _) => match words.strip_prefix("none; ") {
            Some(words) => format!("{}{}.", words[..1].to_uppercase(), &words[1..]),
            None => format!("Default: {words}."),
        },
    }
}

fn example(option: &OptionSpec) -> &'static str {
    match option.default {
        Fallback::Required(value) | Fallback::Value(value) | Fallback::Described(_, value) => value,
    }
}

fn toml(option: &OptionSpec, value: &str) -> String {
    match option.kind {
        OptionKind::Ciphers => format!("\"{}\"", CIPHERS.join(":")),
        OptionKind::Bool | OptionKind::Number(_) | OptionKind::Endpoints | OptionKind::Domains => {
            value.to_owned()
        }
        _ => format!("\"{value}\""),
    }
}

fn page() -> String {
    let mut text = GUIDE.to_owned();
    for section in SECTIONS {
        let first = &section.options[0];
        let heading = match first.section() {
            "" if first.kind.has_entries() => format!("`[[{}]]`", first.key),
            "" => "Top level".to_owned(),
            name => format!("`[{name}]`"),
        };
        write!(text, "\n## {heading}\n").unwrap();
        if !first.section().is_empty() {
            write!(text, "\n{}\n", prose(section.doc)).unwrap();
        }
        for option in section.options {
            write!(text, "\n### `{}`\n\n{}\n\n", option.key, prose(option.doc)).unwrap();
            match option.default {
                Fallback::Required(_) => text.push_str("- Mandatory.\n"),
                Fallback::Value(value) => {
                    writeln!(text, "- Default: `{}`", toml(option, value)).unwrap();
                }
                Fallback::Described(words, _) => writeln!(text, "- Default: {words}").unwrap(),
            }
            match option.never {
                Some(why) => writeln!(text, "- Always refused: {why}").unwrap(),
                None => writeln!(
                    text,
                    "- Allowed: {}",
                    option
                        .kind
                        .to_string()
                        .replace("[[services]]", "`[[services]]`")
                )
                .unwrap(),
            }
            if let Some(flag) = option.flag() {
                writeln!(text, "- Flag: `--{flag}`").unwrap();
            }
            writeln!(text, "- Variable: `{}`", option.variable()).unwrap();
        }
    }
    text
}

/// Joins each paragraph into one line; an indented line stays unchanged.
fn prose(doc: &str) -> String {
    let mut text = String::new();
    for line in lines(doc.trim_end()) {
        if line.is_empty() {
            text.push_str("\n\n");
        } else if line.starts_with(' ') {
            write!(text, "\n    {}", line.trim_end()).unwrap();
        } else {
            let gap = if text.is_empty() || text.ends_with('\n') {
                ""
            } else {
                " "
            };
            write!(text, "{gap}{line}").unwrap();
        }
    }
    linked(&text.replace("\n\n\n", "\n\n"))
}

/// Turns `docs/mesh.md` into a link relative to its own folder.
fn linked(text: &str) -> String {
    let mut parts = text.split("docs/");
    let mut linked = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let (name, rest) = part.split_once(".md").unwrap();
        write!(linked, "[{name}.md]({name}.md){rest}").unwrap();
    }
    linked
}
