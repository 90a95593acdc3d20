//! Prints what a run came to. Each pair is a test, perhaps in a process of its
//! own; the one that ends last prints the whole table.

use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use nix::fcntl::{Flock, FlockArg};

use super::PAIRS;
use super::meeting::Direction;
use super::table::{Column, Table};

/// The columns of all pairs.
pub fn titles() -> Vec<String> {
    let directions = |(first, second)| {
        let directions = Direction::of(first, second).into_iter();
        directions.map(move |direction| direction.title(first, second))
    };
    PAIRS.iter().copied().flat_map(directions).collect()
}

/// Prints the whole table, if all the others of this run have come to an end; else these columns.
pub fn publish(columns: &[Column]) {
    let mut own = Table::default();
    own.put(columns);
    let table = exclusively(|| {
        let path = so_far();
        let known = std::fs::read_to_string(&path).unwrap_or_default();
        let mut table = Table::read(&known, &titles());
        table.put(columns);
        if table.is_complete() {
            // It may have been the only one.
            let _ = std::fs::remove_file(&path);
            return table;
        }
        std::fs::write(&path, table.to_string()).expect("a writable directory of the tests");
        own
    });
    // Not by a macro: the test harness would keep it for itself.
    let mut out = std::io::stderr().lock();
    write!(out, "\n{table}\n").expect("standard error");
}

/// What the tests of this run have come to so far.
fn so_far() -> PathBuf {
    let run = std::env::var("NEXTEST_RUN_ID").unwrap_or_else(|_| std::process::id().to_string());
    directory().join(format!("compatibility-{run}.md"))
}

fn directory() -> &'static Path {
    Path::new(env!("CARGO_TARGET_TMPDIR"))
}

/// One test at a time, in whatever process it is.
pub fn exclusively<T>(work: impl FnOnce() -> T) -> T {
    let lock = File::create(directory().join("compatibility.lock")).expect("a file of the tests");
    let locked = Flock::lock(lock, FlockArg::LockExclusive);
    let _locked = locked.map_err(|(_, error)| error).expect("a lock");
    work()
}
