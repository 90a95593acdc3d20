//! A directory for everything that a test writes.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

/// Removed at the end, unless the test failed: then it is kept and named.
#[derive(Debug)]
pub struct Workdir {
    dir: TempDir,
}

impl Workdir {
    /// A new directory; `name` makes it easy to spot.
    pub fn new(name: &str) -> Self {
        let dir = tempfile::Builder::new()
            .prefix(&format!("strait-{name}-"))
            .tempdir()
            .expect("a temporary directory");
        Self { dir }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    /// Where the file `name` in it is.
    pub fn file(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Writes the file `name`, and the directories above it.
    pub fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.file(name);
        let parent = path.parent().expect("a file has a directory");
        std::fs::create_dir_all(parent).expect("a writable directory");
        std::fs::write(&path, text).expect("a writable file");
        // The gateway warns about secrets that others can read.
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
