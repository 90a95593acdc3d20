//! A Prosody of the test: one domain, its users, its components.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fmt::Write as _;
use std::io::Write as _;
use std::net::SocketAddr;
use std::ops::Deref;
use std::path::PathBuf;

use tokio::process::Command;

use super::certs::Identity;
use super::machine::Machine;
use super::process::Process;
use super::site::Site;
use super::workdir::Workdir;

/// Modules for clients and for remote users, without s2s, which [`Builder::federated`] adds.
const MODULES: &str = r#"
  "roster", "saslauth", "disco", "vcard_legacy", "pep", "ping", "carbons", "mam", "offline",
  "smacks", "blocklist", "csi", "time", "version", "private", "presence", "message", "iq","#;

const FEDERATION: &str = r#" "dialback", "test_names","#;
const TLS: &str = r#" "tls","#;
/// The module that serves `prosodyctl shell`.
const SHELL: &str = r#" "admin_shell","#;
const PLUGINS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/prosody_plugins");

/// The setup of a Prosody.
#[derive(Debug)]
pub struct Builder {
    site: Site,
    watcher: Option<String>,
    /// Output of `strait snippet prosody`.
    snippet: Option<String>,
    /// Domains to which gateways attach; with a snippet, the snippet configures them.
    services: Vec<(String, String)>,
    components: Vec<Component>,
    global_options: String,
    /// Its port for other servers, and the other servers' ports.
    federation: Option<(u16, Vec<(String, u16)>)>,
    has_shell: bool,
    has_tls: bool,
    host_options: String,
    more: String,
    /// The machine on which it runs; `None` for this one.
    machine: Option<Machine>,
}

#[derive(Debug, Clone)]
struct Component {
    domain: String,
    secret: String,
    options: String,
}

/// A running, stopped or killed Prosody; it keeps its data and ports through restarts.
#[derive(Debug)]
pub struct Prosody {
    site: Site,
    config: PathBuf,
    /// The process, for tests that kill or freeze it, or read its log.
    pub process: Process,
}

impl Builder {
    /// Adds an account.
    pub fn user(mut self, name: &str, password: &str) -> Self {
        self.site.add(name, password);
        self
    }

    /// Sends every user's presence to `domain` too: each roster has `domain` as a subscribed
    /// contact, as an operator would provision it.
    pub fn watched_by(mut self, domain: &str) -> Self {
        self.watcher = Some(domain.to_owned());
        self
    }

    /// Removes the watcher: no presence is sent to a gateway automatically.
    pub fn unwatched(mut self) -> Self {
        self.watcher = None;
        self
    }

    /// Adds an external component; `options` are more lines of Lua for it.
    pub fn component(mut self, domain: &str, secret: &str, options: &str) -> Self {
        self.components.push(Component {
            domain: domain.to_owned(),
            secret: secret.to_owned(),
            options: options.to_owned(),
        });
        self
    }

    /// Adds lines of Lua to the global section.
    pub fn global_options(mut self, lua: &str) -> Self {
        writeln!(self.global_options, "{lua}").expect("a string grows");
        self
    }

    /// Federates with other servers (dialback over plain TCP, RFC 6120 §13.7): accepts them on
    /// `port`, and finds each domain of `names` on its port.
    pub fn federated(mut self, port: u16, names: &[(&str, u16)]) -> Self {
        let names = names.iter().map(|(name, port)| ((*name).to_owned(), *port));
        self.federation = Some((port, names.collect()));
        self
    }

    /// Adds lines of Lua that override the snippet's options of a component.
    pub fn component_options(self, domain: &str, lua: &str) -> Self {
        self.more(&format!("Component {domain:?}\n  {lua}"))
    }

    /// Enables [`Prosody::sessions`]. The shell's socket is in the data directory, because a
    /// socket's path must not be long.
    pub fn listed(mut self) -> Self {
        self.has_shell = true;
        self
    }

    /// Adds an external component for a gateway: the shared domain, or a service of another
    /// datacenter. The secret applies only without a snippet.
    pub fn service(mut self, domain: &str, secret: &str) -> Self {
        self.services.push((domain.to_owned(), secret.to_owned()));
        self
    }

    /// The domains that were given to [`service`](Self::service).
    pub fn services(&self) -> Vec<String> {
        self.services
            .iter()
            .map(|(domain, _)| domain.clone())
            .collect()
    }

    /// Applies the output of `strait snippet prosody`.
    pub fn pasted(mut self, snippet: String) -> Self {
        self.snippet = Some(snippet);
        self
    }

    /// The address on which it will accept gateways.
    pub fn component_address(&self) -> SocketAddr {
        self.site.component_address()
    }

    /// Adds rooms (XEP-0045), which are archived.
    pub fn rooms(self, domain: &str) -> Self {
        self.more(&format!(
            "Component {domain:?} \"muc\"\n  modules_enabled = {{ \"muc_mam\" }}"
        ))
    }

    /// Offers clients TLS with that certificate, beside plain connections.
    pub fn tls(mut self, identity: &Identity) -> Self {
        let (certificate, key) = (&identity.certfile, &identity.keyfile);
        // The module is not enabled under the host, where the gateway's snippet has its own list.
        self.has_tls = true;
        self.host_options(&format!(
            "  ssl = {{ certificate = {certificate:?}; key = {key:?} }}"
        ))
    }

    /// Adds lines of Lua to the virtual host.
    pub fn host_options(mut self, lua: &str) -> Self {
        writeln!(self.host_options, "{lua}").expect("a string grows");
        self
    }

    /// Adds lines of Lua at the end of the file, such as an internal `Component`.
    pub fn more(mut self, lua: &str) -> Self {
        writeln!(self.more, "{lua}").expect("a string grows");
        self
    }

    /// Runs it on that machine.
    pub fn on(mut self, machine: &Machine) -> Self {
        self.site = self.site.on(machine);
        self.machine = Some(machine.clone());
        self
    }

    /// Writes the configuration and starts the server; returns when it answers clients.
    pub async fn start(self, workdir: &Workdir) -> Prosody {
        let name = format!("prosody-{}", self.site.domain());
        self.write_accounts(workdir, &name);
        let snippet = self.snippet.as_ref();
        let snippet = snippet.map(|text| workdir.write(&format!("{name}/strait.cfg.lua"), text));
        let groups = self
            .watcher
            .as_ref()
            .map(|domain| format!("[+everybody]\n{domain}\n"));
        workdir.write(
            &format!("{name}/everybody.txt"),
            &groups.unwrap_or_default(),
        );
        let config = self.config(workdir, &name, snippet);
        let config = workdir.write(&format!("{name}/prosody.cfg.lua"), &config);
        let log = workdir.file(&format!("{name}.log"));
        let arguments = ["-F".into(), "--config".into(), OsString::from(&config)];
        let (program, arguments) = match &self.machine {
            Some(machine) => machine.behind("prosody", arguments),
            None => ("prosody".into(), arguments.into()),
        };
        let mut prosody = Prosody {
            process: Process::new(&name, program, arguments, log),
            site: self.site,
            config,
        };
        prosody.start().await;
        prosody
    }

    /// Writes the files that `prosodyctl register` would write, without starting Lua for each
    /// account.
    fn write_accounts(&self, workdir: &Workdir, name: &str) {
        let data = format!("{name}/data/{}", file_name(self.site.domain()));
        for user in self.site.users() {
            let account = format!("return {{ [\"password\"] = {:?}; }};\n", user.password);
            let file = file_name(&user.name);
            workdir.write(&format!("{data}/accounts/{file}.dat"), &account);
            // With a snippet, all users have the watcher as a contact by a group.
            if let (Some(watcher), None) = (&self.watcher, &self.snippet) {
                let roster = format!(
                    "return {{ [false] = {{ version = 1; pending = {{}}; }}; \
                     [{watcher:?}] = {{ subscription = \"from\"; groups = {{}}; }}; }};\n"
                );
                workdir.write(&format!("{data}/roster/{file}.dat"), &roster);
            }
        }
    }

    fn more_modules(&self) -> String {
        let federation = self.federation.as_ref().map(|_| FEDERATION);
        let shell = self.has_shell.then_some(SHELL);
        let tls = self.has_tls.then_some(TLS);
        [federation, shell, tls].into_iter().flatten().collect()
    }

    fn federation_options(&self) -> String {
        let Some((port, names)) = &self.federation else {
            return "modules_disabled = { \"s2s\" }".to_owned();
        };
        let names = names
            .iter()
            .map(|(name, port)| format!("[{name:?}] = {port}"));
        format!(
            "plugin_paths = {{ {PLUGINS:?} }}\ns2s_ports = {{ {port} }}\n\
             s2s_interfaces = {{ \"127.0.0.1\" }}\ns2s_direct_tls_ports = {{ }}\n\
             s2s_require_encryption = false\ns2s_secure_auth = false\n\
             test_names = {{ {} }}",
            names.collect::<Vec<_>>().join(", ")
        )
    }

    fn config(&self, workdir: &Workdir, name: &str, snippet: Option<PathBuf>) -> String {
        let directory = workdir.file(name);
        let log = workdir.file(&format!("{name}.log"));
        let mut config = format!(
            r#"run_as_root = true
pidfile = "{directory}/prosody.pid"
data_path = "{directory}/data"
certificates = "{directory}"
log = {{ {{ levels = {{ min = "debug" }}, to = "file", filename = "{log}" }} }}
interfaces = {{ "{address}" }}
c2s_ports = {{ {c2s} }}
c2s_direct_tls_ports = {{ }}
component_ports = {{ {components} }}
component_interfaces = {{ "{address}" }}
{federation}
c2s_require_encryption = false
allow_unencrypted_plain_auth = true
authentication = "internal_plain"
storage = "internal"
modules_enabled = {{{MODULES}{more_modules}
}}
{global}
{included}
VirtualHost "{domain}"
groups_file = "{directory}/everybody.txt"
{options}"#,
            directory = directory.display(),
            log = log.display(),
            address = self.site.c2s().ip(),
            c2s = self.site.c2s().port(),
            components = self.component_address().port(),
            federation = self.federation_options(),
            more_modules = self.more_modules(),
            global = self.global_options,
            included = snippet
                .as_ref()
                .map_or(String::new(), |path| format!("Include {path:?}")),
            domain = self.site.domain(),
            options = self.host_options,
        );
        if snippet.is_none() {
            for (domain, secret) in &self.services {
                section(&mut config, domain, secret, "");
            }
        }
        for component in &self.components {
            let Component {
                domain,
                secret,
                options,
            } = component;
            section(&mut config, domain, secret, options);
        }
        config + &self.more
    }
}

fn section(config: &mut String, domain: &str, secret: &str, options: &str) {
    write!(
        config,
        "Component {domain:?}\n  component_secret = {secret:?}\n  {options}\n"
    )
    .expect("a string grows");
}

impl Prosody {
    /// Starts the setup of a server for the users of `domain`.
    pub fn builder(domain: &str) -> Builder {
        Builder {
            site: Site::new(domain),
            watcher: None,
            snippet: None,
            services: Vec::new(),
            components: Vec::new(),
            global_options: String::new(),
            federation: None,
            has_shell: false,
            has_tls: false,
            host_options: String::new(),
            more: String::new(),
            machine: None,
        }
    }

    /// Appends Lua to its configuration for the next start.
    pub fn configure(&self, lua: &str) {
        let config = std::fs::OpenOptions::new().append(true).open(&self.config);
        let mut config = config.expect("a configuration that can be written");
        writeln!(config, "{lua}").expect("a configuration that can be written");
    }

    /// The full JIDs of all sessions of the server, from its own shell.
    ///
    /// # Errors
    /// When the server does not answer.
    pub async fn sessions(&self) -> Result<BTreeSet<String>, String> {
        const QUESTION: &str =
            "> for jid in pairs(prosody.full_sessions) do print(jid) end return 'that is all'";
        let asked = Command::new("prosodyctl")
            .arg("--config")
            .arg(&self.config)
            .args(["shell", QUESTION])
            .output()
            .await
            .map_err(|error| format!("prosodyctl: {error}"))?;
        let answer = String::from_utf8_lossy(&asked.stdout);
        if !answer.contains("that is all") {
            return Err(format!("prosodyctl says {answer:?}"));
        }
        // Warnings may precede the list.
        let jids = answer.lines().filter(|line| line.contains('@'));
        Ok(jids.map(str::to_owned).collect())
    }

    /// Starts it again after it was stopped or killed, with the same data and ports.
    pub async fn start(&mut self) {
        self.process.launch();
        let what = format!("Prosody to serve {}", self.domain());
        self.process
            .until(&what, async || self.greeting().await)
            .await;
    }

    /// Sends SIGTERM; the server notifies its clients.
    pub async fn stop(&mut self) {
        self.process.terminate().await;
    }

    /// Sends SIGKILL; clients and components are not notified.
    pub async fn kill9(&mut self) {
        self.process.kill9().await;
    }

    /// A clean stop and start.
    pub async fn restart(&mut self) {
        self.stop().await;
        self.start().await;
    }
}

impl Deref for Prosody {
    type Target = Site;

    fn deref(&self) -> &Site {
        &self.site
    }
}

/// Encodes a file name as Prosody's `util.datamanager` does.
fn file_name(text: &str) -> String {
    text.bytes()
        .map(|byte| match byte {
            b if b.is_ascii_alphanumeric() => char::from(b).to_string(),
            b => format!("%{b:02x}"),
        })
        .collect()
}
