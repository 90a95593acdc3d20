//! A Prosody of our own: one domain, its users, its components.

use std::ffi::OsString;
use std::fmt::Write as _;
use std::io::Write as _;
use std::net::SocketAddr;
use std::path::PathBuf;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::port::Port;
use super::process::Process;
use super::workdir::Workdir;

/// What a client needs, and what remote users need: everything but s2s.
const MODULES: &str = r#"
  "roster", "saslauth", "disco", "vcard_legacy", "pep", "ping", "carbons", "mam", "offline",
  "smacks", "blocklist", "csi", "time", "version", "private", "presence", "message", "iq","#;

/// How it is to be set up.
#[derive(Debug, Clone)]
pub struct Builder {
    domain: String,
    users: Vec<User>,
    watcher: Option<String>,
    components: Vec<Component>,
    host_options: String,
    more: String,
}

#[derive(Debug, Clone)]
struct User {
    name: String,
    password: String,
}

#[derive(Debug, Clone)]
struct Component {
    domain: String,
    secret: String,
    options: String,
}

/// A running (or stopped, or killed) Prosody; data and ports stay its own
/// through restarts.
#[derive(Debug)]
pub struct Prosody {
    domain: String,
    users: Vec<User>,
    c2s: Port,
    components: Port,
    config: PathBuf,
    /// To kill, freeze, look at.
    pub process: Process,
}

impl Builder {
    /// With an account.
    pub fn user(mut self, name: &str, password: &str) -> Self {
        self.users.push(User {
            name: name.to_owned(),
            password: password.to_owned(),
        });
        self
    }

    /// Every user's presence goes to `domain` too: each roster has it as a
    /// contact that is subscribed, as an operator would provision it.
    pub fn watched_by(mut self, domain: &str) -> Self {
        self.watcher = Some(domain.to_owned());
        self
    }

    /// With an external component; `options` are more lines of Lua for it.
    pub fn component(mut self, domain: &str, secret: &str, options: &str) -> Self {
        self.components.push(Component {
            domain: domain.to_owned(),
            secret: secret.to_owned(),
            options: options.to_owned(),
        });
        self
    }

    /// With an external component for a gateway: the shared domain, or a
    /// service of another datacenter.
    pub fn service(self, domain: &str, secret: &str) -> Self {
        // The server may learn late that a killed gateway is gone.
        self.component(domain, secret, "component_conflict_resolve = \"kick_old\"")
    }

    /// More lines of Lua for the virtual host.
    pub fn host_options(mut self, lua: &str) -> Self {
        writeln!(self.host_options, "{lua}").expect("a string grows");
        self
    }

    /// More lines of Lua for the end of the file, such as an internal `Component`.
    pub fn more(mut self, lua: &str) -> Self {
        writeln!(self.more, "{lua}").expect("a string grows");
        self
    }

    /// Writes everything and starts it; ready when it answers clients.
    pub async fn start(self, workdir: &Workdir) -> Prosody {
        let (c2s, components) = (Port::take(), Port::take());
        let name = format!("prosody-{}", self.domain);
        self.write_accounts(workdir, &name);
        let config = self.config(workdir, &name, &c2s, &components);
        let config = workdir.write(&format!("{name}/prosody.cfg.lua"), &config);
        let log = workdir.file(&format!("{name}.log"));
        let arguments = ["-F".into(), "--config".into(), OsString::from(&config)];
        let mut prosody = Prosody {
            process: Process::new(&name, "prosody", arguments, log),
            domain: self.domain,
            users: self.users,
            c2s,
            components,
            config,
        };
        prosody.start().await;
        prosody
    }

    /// What `prosodyctl register` would write, without starting Lua for each.
    fn write_accounts(&self, workdir: &Workdir, name: &str) {
        let data = format!("{name}/data/{}", file_name(&self.domain));
        for user in &self.users {
            let account = format!("return {{ [\"password\"] = {:?}; }};\n", user.password);
            let file = file_name(&user.name);
            workdir.write(&format!("{data}/accounts/{file}.dat"), &account);
            if let Some(watcher) = &self.watcher {
                let roster = format!(
                    "return {{ [false] = {{ version = 1; pending = {{}}; }}; \
                     [{watcher:?}] = {{ subscription = \"from\"; groups = {{}}; }}; }};\n"
                );
                workdir.write(&format!("{data}/roster/{file}.dat"), &roster);
            }
        }
    }

    fn config(&self, workdir: &Workdir, name: &str, c2s: &Port, components: &Port) -> String {
        let directory = workdir.file(name);
        let log = workdir.file(&format!("{name}.log"));
        let mut config = format!(
            r#"run_as_root = true
pidfile = "{directory}/prosody.pid"
data_path = "{directory}/data"
certificates = "{directory}"
log = {{ {{ levels = {{ min = "debug" }}, to = "file", filename = "{log}" }} }}
interfaces = {{ "127.0.0.1" }}
c2s_ports = {{ {c2s} }}
c2s_direct_tls_ports = {{ }}
component_ports = {{ {components} }}
component_interfaces = {{ "127.0.0.1" }}
modules_disabled = {{ "s2s" }}
c2s_require_encryption = false
allow_unencrypted_plain_auth = true
authentication = "internal_plain"
storage = "internal"
modules_enabled = {{{MODULES}
}}
VirtualHost "{domain}"
{options}"#,
            directory = directory.display(),
            log = log.display(),
            c2s = c2s.number(),
            components = components.number(),
            domain = self.domain,
            options = self.host_options,
        );
        for component in &self.components {
            let Component {
                domain,
                secret,
                options,
            } = component;
            write!(
                config,
                "Component {domain:?}\n  component_secret = {secret:?}\n  {options}\n"
            )
            .expect("a string grows");
        }
        config + &self.more
    }
}

impl Prosody {
    /// For the users of `domain`.
    pub fn builder(domain: &str) -> Builder {
        Builder {
            domain: domain.to_owned(),
            users: Vec::new(),
            watcher: None,
            components: Vec::new(),
            host_options: String::new(),
            more: String::new(),
        }
    }

    /// The domain of its users.
    pub fn domain(&self) -> &str {
        &self.domain
    }

    /// Where clients connect, without TLS.
    pub fn c2s(&self) -> SocketAddr {
        self.c2s.address()
    }

    /// Where components connect.
    pub fn component_address(&self) -> SocketAddr {
        self.components.address()
    }

    /// Appends Lua to its configuration, for when it starts next.
    pub fn configure(&self, lua: &str) {
        let config = std::fs::OpenOptions::new().append(true).open(&self.config);
        let mut config = config.expect("a configuration that can be written");
        writeln!(config, "{lua}").expect("a configuration that can be written");
    }

    /// The password of `user`.
    pub fn password_of(&self, user: &str) -> &str {
        let user = self
            .users
            .iter()
            .find(|known| known.name == user)
            .unwrap_or_else(|| panic!("{} has no user {user}", self.domain));
        &user.password
    }

    /// Starts it again after it was stopped or killed, with the same data and ports.
    pub async fn start(&mut self) {
        self.process.launch();
        let what = format!("Prosody to serve {}", self.domain);
        self.process
            .until(&what, async || {
                greeting(self.c2s(), &self.domain)
                    .await
                    .map_err(|error| error.to_string())
            })
            .await;
    }

    /// SIGTERM; clients are told.
    pub async fn stop(&mut self) {
        self.process.terminate().await;
    }

    /// SIGKILL; nobody is told.
    pub async fn kill9(&mut self) {
        self.process.kill9().await;
    }

    /// A clean stop and start.
    pub async fn restart(&mut self) {
        self.stop().await;
        self.start().await;
    }
}

/// As Prosody's `util.datamanager` names files.
fn file_name(text: &str) -> String {
    text.bytes()
        .map(|byte| match byte {
            b if b.is_ascii_alphanumeric() => char::from(b).to_string(),
            b => format!("%{b:02x}"),
        })
        .collect()
}

/// Opens a stream as a client and waits for the features, which come after
/// everything else is loaded.
async fn greeting(address: SocketAddr, domain: &str) -> std::io::Result<()> {
    let mut stream = TcpStream::connect(address).await?;
    stream
        .write_all(super::client::header(domain).as_bytes())
        .await?;
    let mut answer = Vec::new();
    while memchr::memmem::find(&answer, b"<stream:features").is_none() {
        if stream.read_buf(&mut answer).await? == 0 {
            let answer = String::from_utf8_lossy(&answer).into_owned();
            return Err(std::io::Error::other(answer));
        }
    }
    Ok(())
}
