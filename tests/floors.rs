//! A module imports only modules on floors below its own. That is what keeps
//! the house without cycles, and the way of a stanza through it readable. All
//! that is special to one server software is in one room.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// The floors, lowest first. Modules on one floor do not import each other.
const FLOORS: &[&[&str]] = &[
    &["host", "log_limiter"],
    &["stanza"],
    &["config", "delivery", "envelope", "metrics", "replication"],
    &["servers"],
    &["addresses", "component", "link", "services", "store"],
    &["presence_sync", "registry", "sessions"],
    &["control", "routing"],
    &["admin"],
    &["gateway"],
    &["cli"],
    &["main"],
];

fn floor_of(module: &str) -> Option<usize> {
    FLOORS.iter().position(|floor| floor.contains(&module))
}

#[test]
fn every_module_imports_only_from_floors_below() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let files = rust_files(&src);
    let modules: BTreeSet<String> = files.iter().filter_map(|f| module_of(&src, f)).collect();
    assert!(
        modules.len() >= 10,
        "only {modules:?} were found in {}: this test looks in the wrong place",
        src.display()
    );
    let mut violations = Vec::new();
    for module in modules.iter().filter(|m| floor_of(m).is_none()) {
        violations.push(format!(
            "module {module} is on no floor: give it one in FLOORS, above all that it imports"
        ));
    }
    for file in files.iter().filter(|f| !is_test_file(f)) {
        let Some(module) = module_of(&src, file) else {
            continue;
        };
        let source = fs::read_to_string(file).expect("a readable source file");
        let shown = file.strip_prefix(&src).expect("a file in src").display();
        for (line, imported) in imports(&source) {
            if let Some(complaint) = complaint(&module, &imported) {
                violations.push(format!("src/{shown}:{line}: {complaint}"));
            }
        }
    }
    assert!(violations.is_empty(), "\n{}\n", violations.join("\n"));
}

/// Server software that only `src/servers` may name.
const SOFTWARE: [&str; 3] = ["prosody", "ejabberd", "mongoose"];
/// What else may name one: the option `control.mongooseim`.
const SOFTWARE_ALLOWED: &[(&str, &str)] = &[("config/", "mongoose"), ("cli/mod.rs", "mongoose")];

#[test]
fn only_the_servers_room_names_a_server_software() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut named = Vec::new();
    for file in rust_files(&src) {
        let shown = file.strip_prefix(&src).expect("a file in src").display();
        if is_test_file(&file) || module_of(&src, &file).as_deref() == Some("servers") {
            continue;
        }
        let source = fs::read_to_string(&file).expect("a readable source file");
        for line in without_comments_and_tests(&source).lines() {
            let line = format!("{shown}: {}", line.trim());
            let is_allowed = |name: &&str| {
                let mut allowed = SOFTWARE_ALLOWED.iter();
                allowed.any(|(start, it)| line.starts_with(start) && it == name)
            };
            let mut names = SOFTWARE
                .iter()
                .filter(|it| line.to_lowercase().contains(**it));
            if !names.all(is_allowed) {
                named.push(line);
            }
        }
    }
    assert!(
        named.is_empty(),
        "these lines belong in src/servers, in the file of that software:\n{}",
        named.join("\n")
    );
}

/// What is wrong with `module` importing `imported`.
fn complaint(module: &str, imported: &str) -> Option<String> {
    let (own, other) = (floor_of(module)?, floor_of(imported)?);
    (module != imported && other >= own).then(|| {
        format!(
            "{module} (floor {own}) imports {imported}, which is on floor {other}, not below it. \
             Move what both need down, or have the floor above pass it in"
        )
    })
}

fn rust_files(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).expect("a readable folder") {
        let path = entry.expect("a readable entry").path();
        if path.is_dir() {
            files.extend(rust_files(&path));
        } else if path.extension().is_some_and(|e| e == "rs") {
            files.push(path);
        }
    }
    files.sort();
    files
}

/// The top-level module that `file` belongs to; `None` for `lib.rs`, the map.
fn module_of(src: &Path, file: &Path) -> Option<String> {
    let path = file.strip_prefix(src).ok()?;
    let first = Path::new(path.components().next()?.as_os_str());
    let module = first.file_stem()?.to_str()?.to_owned();
    (module != "lib").then_some(module)
}

/// Whether `file` is, or is below, a module that is compiled for tests only.
fn is_test_file(file: &Path) -> bool {
    file.ancestors()
        .filter_map(Path::file_stem)
        .any(|name| name == "tests")
}

/// The modules that `source` refers to by `crate::` or `strait::`, and the
/// lines where it does. Comments and test modules don't count.
fn imports(source: &str) -> Vec<(usize, String)> {
    let code = without_comments_and_tests(source);
    let mut found = Vec::new();
    for root in ["crate::", "strait::"] {
        for (at, _) in code.match_indices(root) {
            let before = code[..at].chars().next_back();
            // A comma or equals sign: a log filter in a text, `info,strait::link=debug`.
            if before.is_some_and(|c| c.is_alphanumeric() || "_,=".contains(c)) {
                continue;
            }
            let line = code[..at].matches('\n').count() + 1;
            let names = first_names(&code[at + root.len()..]);
            found.extend(names.into_iter().map(|name| (line, name)));
        }
    }
    found.sort();
    found
}

/// `a` of `a::B`; `a` and `c` of `{a::{B, C}, c::D}`.
fn first_names(path: &str) -> Vec<String> {
    let name = |text: &str| -> String {
        let is_part = |c: &char| c.is_alphanumeric() || *c == '_';
        text.trim_start().chars().take_while(is_part).collect()
    };
    let Some(group) = path.strip_prefix('{') else {
        return vec![name(path)];
    };
    let mut names = vec![name(group)];
    let mut depth = 1;
    for (at, c) in group.char_indices() {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 1 => names.push(name(&group[at + 1..])),
            _ => {}
        }
        if depth == 0 {
            break;
        }
    }
    names.retain(|n| !n.is_empty());
    names
}

/// The same number of lines, with comments and `#[cfg(test)]` items empty.
/// Relies on rustfmt: an item ends at a line that is indented as its first.
fn without_comments_and_tests(source: &str) -> String {
    let mut code = String::new();
    let mut lines = source.lines();
    while let Some(line) = lines.next() {
        let text = line.trim_start();
        if text == "#[cfg(test)]" {
            let indent = &line[..line.len() - text.len()];
            let end = format!("{indent}}}");
            code.push('\n');
            for skipped in lines.by_ref() {
                code.push('\n');
                let is_attribute = skipped.trim_start().starts_with('#');
                let is_one_line = skipped.ends_with(';') || skipped.ends_with("{}");
                let is_own_indent = skipped.len() - skipped.trim_start().len() == indent.len();
                if skipped == end || (is_own_indent && is_one_line && !is_attribute) {
                    break;
                }
            }
            continue;
        }
        if !text.starts_with("//") {
            code.push_str(line);
        }
        code.push('\n');
    }
    code
}

#[test]
fn imports_are_found_and_judged() {
    let source = "\
//! Like [`crate::gateway`].
use crate::host::Host;
use crate::{
    relay::{self, Relay},
    store::Store,
};
#[cfg(test)]
mod tests;
#[cfg(test)]
mod more_tests {
    use crate::gateway::Gateway;
}
fn f(x: crate::config::Config) -> strait::cli::X {
    mycrate::admin::x()
}
";
    let names: Vec<(usize, String)> = [
        (2, "host"),
        (3, "relay"),
        (3, "store"),
        (13, "cli"),
        (13, "config"),
    ]
    .map(|(line, name)| (line, name.to_owned()))
    .into();
    assert_eq!(imports(source), names);

    assert!(complaint("link", "host").is_none());
    assert!(complaint("link", "link").is_none());
    assert!(complaint("link", "Sentinel").is_none());
    assert!(complaint("host", "stanza").is_some(), "upwards");
    assert!(complaint("link", "store").is_some(), "same floor");
}
