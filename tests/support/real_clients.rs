//! Third-party clients from Debian: they log in over TLS, and verify the certificate.

use std::fs::OpenOptions;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

use super::patience::in_time;
use super::prosody::Prosody;
use super::workdir::Workdir;

const SHELL: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/tests/clients/slixmpp_shell.py"
);

/// Debian's Python, for which slixmpp is installed; another Python may come first in the path.
const PYTHON: &str = "/usr/bin/python3";

/// A program that reads commands and prints events, one per line.
#[derive(Debug)]
struct Talker {
    name: String,
    child: Child,
    input: Option<ChildStdin>,
    output: Lines<BufReader<ChildStdout>>,
    log: PathBuf,
}

impl Talker {
    fn start(name: &str, mut command: Command, workdir: &Workdir) -> Self {
        let log = workdir.file(&format!("{name}.log"));
        let errors = OpenOptions::new().create(true).append(true).open(&log);
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(errors.expect("a writable file"))
            .kill_on_drop(true)
            .spawn()
            .unwrap_or_else(|error| {
                panic!("{name}: {error}; scripts/setup installs what tests need")
            });
        let output = child.stdout.take().expect("a pipe");
        Self {
            name: name.to_owned(),
            input: child.stdin.take(),
            child,
            output: BufReader::new(output).lines(),
            log,
        }
    }

    async fn tell(&mut self, text: &str) {
        let input = self.input.as_mut().expect("input that has not ended");
        let told = input.write_all(format!("{text}\n").as_bytes()).await;
        told.unwrap_or_else(|error| panic!("{} does not listen: {error}", self.name));
    }

    /// Its next line.
    async fn next(&mut self, what: &str) -> String {
        let line = in_time(self.output.next_line()).await;
        let line = line.unwrap_or_else(|_| panic!("waited for {what}; {}", self.complaints()));
        let line = line.expect("a pipe that can be read");
        line.unwrap_or_else(|| panic!("no {what}, it has ended; {}", self.complaints()))
    }

    /// Ends its input, and waits until it has ended too.
    async fn finish(mut self) {
        self.input = None;
        let status = in_time(self.child.wait()).await;
        let status = status.unwrap_or_else(|_| panic!("no end; {}", self.complaints()));
        let status = status.expect("the status of a child");
        assert!(status.success(), "{status}; {}", self.complaints());
    }

    fn complaints(&self) -> String {
        let log = std::fs::read_to_string(&self.log).unwrap_or_default();
        format!("{} complains: {log}", self.name)
    }
}

/// A command that dies with the thread that starts it.
fn supervised(program: &str) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", "--", program]);
    command
}

/// A session of slixmpp.
#[derive(Debug)]
pub struct Slixmpp(Talker);

impl Slixmpp {
    /// Logs in and sends initial presence.
    pub async fn login(
        prosody: &Prosody,
        user: &str,
        resource: &str,
        cacertfile: &Path,
        workdir: &Workdir,
    ) -> Self {
        let jid = format!("{user}@{}/{resource}", prosody.domain());
        let mut command = supervised(PYTHON);
        command.args([SHELL, &jid, &prosody.c2s().to_string()]);
        command.arg(cacertfile).env("PYTHONDONTWRITEBYTECODE", "1");
        let mut talker = Talker::start(&format!("slixmpp-{user}"), command, workdir);
        talker.tell(prosody.password_of(user)).await;
        let mut slixmpp = Self(talker);
        assert_eq!(slixmpp.answer("the session").await, jid);
        slixmpp
    }

    /// Sends a chat that requests a receipt; returns its id.
    pub async fn say(&mut self, to: &str, text: &str) -> String {
        self.order(&format!("say {to} {text}")).await
    }

    /// Waits for that chat from that user.
    pub async fn hear(&mut self, from: &str, text: &str) {
        self.order(&format!("hear {from} {text}")).await;
    }

    /// Waits for the receipt of a chat to that user.
    pub async fn receipt(&mut self, from: &str, id: &str) {
        self.order(&format!("receipt {from} {id}")).await;
    }

    /// Subscribes, and waits for the approval of the other user, on slixmpp too.
    pub async fn befriend(&mut self, contact: &str) {
        self.order(&format!("befriend {contact}")).await;
    }

    /// Sends presence with that `<show/>`.
    pub async fn show(&mut self, show: &str) {
        self.order(&format!("show {show}")).await;
    }

    /// Waits for presence with that `<show/>`.
    pub async fn see(&mut self, from: &str, show: &str) {
        self.order(&format!("see {from} {show}")).await;
    }

    /// Waits for unavailable presence from that user.
    pub async fn see_leave(&mut self, from: &str) {
        self.order(&format!("see-leave {from}")).await;
    }

    /// Pings, and waits for the answer (XEP-0199).
    pub async fn ping(&mut self, to: &str) {
        self.order(&format!("ping {to}")).await;
    }

    /// All stanzas that it has received, in one line.
    pub async fn received(&mut self) -> String {
        self.order("received").await
    }

    /// Closes its stream.
    pub async fn logout(self) {
        self.0.finish().await;
    }

    async fn order(&mut self, command: &str) -> String {
        self.0.tell(command).await;
        self.answer(command).await
    }

    async fn answer(&mut self, what: &str) -> String {
        let line = self.0.next(what).await;
        let said = line.strip_prefix("ok").map(str::trim_start);
        said.unwrap_or_else(|| panic!("{what}: {line}; {}", self.0.complaints()))
            .to_owned()
    }
}

/// An account for go-sendxmpp, which listens in one process and sends in others.
#[derive(Debug)]
pub struct GoSendXmpp<'a> {
    config: PathBuf,
    cacertfile: &'a Path,
    user: &'a str,
    workdir: &'a Workdir,
}

impl<'a> GoSendXmpp<'a> {
    /// Creates the account's client, without a session.
    pub fn new(
        prosody: &Prosody,
        user: &'a str,
        cacertfile: &'a Path,
        workdir: &'a Workdir,
    ) -> Self {
        let config = format!(
            "username: {user}@{}\npassword: {}\njserver: {}\nport: {}\n",
            prosody.domain(),
            prosody.password_of(user),
            prosody.c2s().ip(),
            prosody.c2s().port(),
        );
        Self {
            config: workdir.write(&format!("go-sendxmpp-{user}.conf"), &config),
            cacertfile,
            user,
            workdir,
        }
    }

    fn command(&self) -> Command {
        let mut command = supervised("go-sendxmpp");
        command.arg("-f").arg(&self.config);
        // Go reads the authorities from there.
        command.env("SSL_CERT_FILE", self.cacertfile);
        command
    }

    /// Logs in to listen.
    pub fn listen(&self) -> Listener {
        let mut command = self.command();
        command.arg("--listen");
        let name = format!("go-sendxmpp-{}", self.user);
        Listener(Talker::start(&name, command, self.workdir))
    }

    /// Logs in, sends one chat and logs out.
    pub async fn send(&self, to: &str, text: &str) {
        let mut command = self.command();
        command.arg(to);
        let name = format!("go-sendxmpp-{}-sends", self.user);
        let mut talker = Talker::start(&name, command, self.workdir);
        talker.tell(text).await;
        talker.finish().await;
    }
}

/// A session of go-sendxmpp that prints what it receives.
#[derive(Debug)]
pub struct Listener(Talker);

impl Listener {
    /// Waits for that chat from that user.
    pub async fn hear(&mut self, from: &str, text: &str) {
        loop {
            let line = self.0.next(&format!("{text:?} from {from}")).await;
            if line.contains(&format!("{from}: ")) && line.ends_with(text) {
                return;
            }
        }
    }
}
