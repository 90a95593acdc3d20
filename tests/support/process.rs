//! Servers as child processes that never outlive the test.

use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid};
use nix::unistd::Pid;
use tokio::process::{Child, Command};

use super::patience::{PATIENCE, in_time, until_within};

/// A program that can be started, stopped in several ways, and started again.
/// Its output is appended to one log file.
#[derive(Debug)]
pub struct Process {
    name: String,
    command: Vec<OsString>,
    log: PathBuf,
    child: Option<Child>,
}

impl Process {
    /// Creates a process without starting it. `name` is for messages.
    pub fn new<A: Into<OsString>>(
        name: &str,
        program: impl Into<OsString>,
        arguments: impl IntoIterator<Item = A>,
        log: PathBuf,
    ) -> Self {
        let mut command = vec![program.into()];
        command.extend(arguments.into_iter().map(Into::into));
        Self {
            name: name.to_owned(),
            command,
            log,
            child: None,
        }
    }

    /// Starts the process.
    ///
    /// # Panics
    /// When it runs already, or is not installed.
    pub fn launch(&mut self) {
        self.launch_into(self.open_log());
    }

    /// Starts the process with its output going to `log`.
    pub fn launch_into(&mut self, log: File) {
        assert!(!self.is_running(), "{} runs already", self.name);
        let child = self
            .supervised_command()
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a second handle to the log"))
            .stderr(log)
            .kill_on_drop(true)
            // Ctrl-C must reach only the parent, which stops its children in order.
            .process_group(0)
            .spawn();
        self.child = Some(child.unwrap_or_else(|error| {
            panic!(
                "{}: cannot start setpriv: {error}; scripts/setup installs what tests need",
                self.name
            )
        }));
    }

    /// A command whose process also dies with the thread that starts it, however that thread
    /// ends; so it must never be started on a thread of the blocking pool.
    fn supervised_command(&self) -> Command {
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "--"]);
        command.args(&self.command);
        forget_settings(command.as_std_mut());
        command
    }

    fn open_log(&self) -> File {
        OpenOptions::new()
            .create(true)
            .append(true)
            .open(&self.log)
            .unwrap_or_else(|error| panic!("{}: {error}", self.log.display()))
    }

    /// Sends SIGKILL, and waits until the process has ended.
    pub async fn kill9(&mut self) {
        self.signal(Signal::SIGKILL);
        self.wait_exit().await;
    }

    /// Sends SIGTERM, and waits until the process has ended.
    pub async fn terminate(&mut self) -> ExitStatus {
        self.signal(Signal::SIGTERM);
        self.wait_exit().await
    }

    /// Sends SIGSTOP: the process hangs, with its sockets open.
    pub fn freeze(&self) {
        self.signal(Signal::SIGSTOP);
    }

    /// Sends SIGCONT: the process continues after [`freeze`](Self::freeze).
    pub fn thaw(&self) {
        self.signal(Signal::SIGCONT);
    }

    /// Sends any signal.
    ///
    /// # Panics
    /// When it does not run.
    pub fn signal(&self, signal: Signal) {
        let pid = self
            .pid()
            .unwrap_or_else(|| panic!("{} does not run", self.name));
        kill(Pid::from_raw(pid.cast_signed()), signal)
            .unwrap_or_else(|error| panic!("{signal} to {} ({pid}): {error}", self.name));
    }

    /// Waits until it ends.
    ///
    /// # Panics
    /// When it was never started or does not end in time.
    pub async fn wait_exit(&mut self) -> ExitStatus {
        let child = self
            .child
            .as_mut()
            .unwrap_or_else(|| panic!("{} was never started", self.name));
        match in_time(child.wait()).await {
            Ok(status) => status.expect("the status of a child"),
            Err(_) => panic!("{} did not end in time; {}", self.name, self.log_tail()),
        }
    }

    /// Whether it runs.
    pub fn is_running(&self) -> bool {
        // WNOWAIT leaves the status for `wait_exit`.
        let look = WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT;
        self.pid().is_some_and(|pid| {
            let pid = Id::Pid(Pid::from_raw(pid.cast_signed()));
            matches!(waitid(pid, look), Ok(WaitStatus::StillAlive))
        })
    }

    /// Waits for a fact that holds only while the process runs.
    ///
    /// # Panics
    /// At once when the process does not run; otherwise when the time is over.
    pub async fn until<T>(&self, what: &str, look: impl AsyncFnMut() -> Result<T, String>) -> T {
        self.until_within(PATIENCE, what, look).await
    }

    /// Like `until`, with another bound.
    ///
    /// # Panics
    /// At once when the process does not run; otherwise after `patience`.
    pub async fn until_within<T>(
        &self,
        patience: Duration,
        what: &str,
        mut look: impl AsyncFnMut() -> Result<T, String>,
    ) -> T {
        until_within(patience, what, async || {
            assert!(
                self.is_running(),
                "waited for {what}, but {} has ended; {}",
                self.name,
                self.log_tail()
            );
            look().await
        })
        .await
    }

    /// Its process id while it runs and has not been waited for.
    pub fn pid(&self) -> Option<u32> {
        self.child.as_ref().and_then(Child::id)
    }

    /// The whole log.
    pub fn log(&self) -> String {
        let bytes = std::fs::read(&self.log).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// The path of the log.
    pub fn log_path(&self) -> &Path {
        &self.log
    }

    /// The last lines of the log, for messages.
    pub fn log_tail(&self) -> String {
        let log = self.log();
        let lines: Vec<&str> = log.lines().collect();
        let tail = lines[lines.len().saturating_sub(20)..].join("\n");
        format!("its log {} ends with:\n{tail}", self.log.display())
    }
}

/// Clears the environment of the developer's own settings, which must not affect a test.
pub fn forget_settings(command: &mut std::process::Command) {
    for (key, _) in std::env::vars_os() {
        if key.to_string_lossy().starts_with("STRAIT_") || key == "RUST_LOG" {
            command.env_remove(key);
        }
    }
}

impl Drop for Process {
    /// Kills the process and waits, so that its directory can be removed and its ports are free.
    fn drop(&mut self) {
        let Some(child) = self.child.as_mut() else {
            return;
        };
        // The process may have ended already.
        let _ = child.start_kill();
        for _ in 0..1000 {
            if !matches!(child.try_wait(), Ok(None)) {
                return;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        eprintln!("{} does not die of SIGKILL", self.name);
    }
}
