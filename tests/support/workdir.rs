//! A directory for all files that a test writes.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

/// The directory is removed at the end, unless the test failed: then it is kept and its path
/// printed.
#[derive(Debug)]
pub struct Workdir {
    dir: TempDir,
}

impl Workdir {
    /// Creates a new directory; `name` is part of its name.
    pub fn new(name: &str) -> Self {
        let dir = tempfile::Builder::new()
            .prefix(&format!("strait-{name}-"))
            .tempdir()
            .expect("a temporary directory");
        Self { dir }
    }

    /// The path of the directory.
    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    /// The path of the file `name` in the directory.
    pub fn file(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Writes the file `name`, and the directories above it.
    pub fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.file(name);
        let parent = path.parent().expect("a file has a directory");
        std::fs::create_dir_all(parent).expect("a writable directory");
        std::fs::write(&path, text).expect("a writable file");
        // The gateway warns about secrets in files that other users can read.
        let private = Permissions::from_mode(0o600);
        std::fs::set_permissions(&path, private).expect("a file of ours");
        path
    }
}

impl Drop for Workdir {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.dir.disable_cleanup(true);
            eprintln!("logs and data are kept in {}", self.path().display());
        }
    }
}
