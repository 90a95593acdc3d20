//! `docs/compatibility.md`: the table and the list of limits on it are the
//! tests'; the rest is written by hand.

use std::path::{Path, PathBuf};

use super::limit::Limit;
use super::report::{self, exclusively};
use super::table::{Column, Table};

const PATH: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/compatibility.md");
const BEGIN: &str = "<!-- begin: written by the test run, STRAIT_WRITE_DOCS=1 -->\n";
const END: &str = "<!-- end -->\n";

/// What stands before the tests' part, the tests' part, and what stands behind.
struct Page {
    before: String,
    table: Table,
    written: String,
    behind: String,
}

impl Page {
    fn read(path: &Path) -> Self {
        let text = std::fs::read_to_string(path)
            .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let parts = text.split_once(BEGIN).and_then(|(before, rest)| {
            let (written, behind) = rest.split_once(END)?;
            Some((before.to_owned(), written.to_owned(), behind.to_owned()))
        });
        let (before, written, behind) =
            parts.unwrap_or_else(|| panic!("{}: no {BEGIN} and {END}", path.display()));
        Self {
            table: Table::read(&written, &report::titles()),
            before,
            written,
            behind,
        }
    }

    fn write(&self, path: &Path) {
        let Self { before, behind, .. } = self;
        let text = format!("{before}{BEGIN}{}{END}{behind}", self.body());
        std::fs::write(path, text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    }

    /// The tests' part as it has to be.
    fn body(&self) -> String {
        let limits = Limit::ALL.iter();
        let limits = limits.map(|limit| format!("{}. {}\n", limit.number(), limit.text()));
        format!("\n{}\n{}\n", self.table, limits.collect::<String>())
    }
}

/// Compares the page with what a run came to; or writes it, if asked to.
///
/// # Panics
/// When the page says something else.
pub fn assert_says(columns: &[Column]) {
    let path = PathBuf::from(PATH);
    let write = std::env::var_os("STRAIT_WRITE_DOCS").is_some_and(|set| set == "1");
    exclusively(|| {
        let mut page = Page::read(&path);
        let mut seen = Table::read(&page.table.to_string(), &report::titles());
        seen.put(columns);
        if write {
            page.table = seen;
            page.write(&path);
            return;
        }
        let differences = seen.differences(&page.table);
        let hint = "docs/compatibility.md is written anew with STRAIT_WRITE_DOCS=1";
        assert!(
            differences.is_empty(),
            "the run came to {}\n{hint}",
            differences.join("\n")
        );
        let body = page.body();
        assert!(
            page.written == body,
            "rows, columns or limits are others: {hint}"
        );
        for limit in Limit::ALL {
            let used = page.table.refers_to(limit.number());
            assert!(used, "no cell refers to {limit:?}: {hint}");
        }
    });
}
