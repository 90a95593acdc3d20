//! An ejabberd of our own: one domain, its users, its components.
//!
//! It runs without Erlang's distribution: no node name, no cookie, no epmd, so
//! that any number of them run side by side. What `ejabberdctl` would do to a
//! running one is part of how it starts.

use std::fmt::Write as _;
use std::ops::Deref;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use tokio::net::TcpStream;

use super::process::Process;
use super::site::{Site, User};
use super::workdir::Workdir;

/// The program of Debian's package, which knows where its libraries are.
const CONTROL_SCRIPT: &str = "/usr/sbin/ejabberdctl";

/// What a client needs, and what remote users need.
const MODULES: [&str; 17] = [
    "mod_adhoc",
    "mod_admin_extra",
    "mod_blocking",
    "mod_caps",
    "mod_carboncopy",
    "mod_client_state",
    "mod_disco",
    "mod_last",
    "mod_offline",
    "mod_ping",
    "mod_privacy",
    "mod_private",
    "mod_roster",
    "mod_stream_mgmt",
    "mod_time",
    "mod_vcard_xupdate",
    "mod_version",
];

/// How it is to be set up.
#[derive(Debug, Clone)]
pub struct Builder {
    domain: String,
    users: Vec<User>,
    watcher: Option<String>,
    components: Vec<(String, String)>,
    /// Whether senders are checked on the component streams.
    checked: bool,
    listener: Vec<(String, Value)>,
    control: Option<String>,
    modules: Vec<(String, Value)>,
    options: Vec<(String, Value)>,
}

/// A running (or stopped, or killed) ejabberd; data and ports stay its own
/// through restarts.
#[derive(Debug)]
pub struct Ejabberd {
    site: Site,
    /// Exists when everything is done that is done at the start.
    ready: PathBuf,
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

    /// Nobody's presence goes anywhere by itself.
    pub fn unwatched(mut self) -> Self {
        self.watcher = None;
        self
    }

    /// With an external component.
    pub fn component(mut self, domain: &str, secret: &str) -> Self {
        self.components.push((domain.to_owned(), secret.to_owned()));
        self
    }

    /// With a component that sees all presence and may list who is online.
    pub fn control(mut self, domain: &str, secret: &str) -> Self {
        self.control = Some(domain.to_owned());
        self.component(domain, secret)
    }

    /// Takes stanzas of any sender on all component streams: they share a listener.
    pub fn unchecked(mut self, _domain: &str) -> Self {
        self.checked = false;
        self
    }

    /// With rooms (XEP-0045), which are archived.
    pub fn rooms(self, domain: &str) -> Self {
        self.module(
            "mod_muc",
            json!({
                "hosts": [domain],
                "default_room_options": {"mam": true, "allow_subscription": true},
            }),
        )
    }

    /// With one more module, or other options for one.
    pub fn module(mut self, name: &str, options: Value) -> Self {
        self.modules.push((name.to_owned(), options));
        self
    }

    /// With one more option, or another value for one.
    pub fn option(mut self, name: &str, value: Value) -> Self {
        self.options.push((name.to_owned(), value));
        self
    }

    /// With one more option of the listener for components, or another value
    /// for one.
    pub fn listener_option(mut self, name: &str, value: Value) -> Self {
        self.listener.push((name.to_owned(), value));
        self
    }

    /// Writes everything and starts it; ready when it answers clients.
    pub async fn start(self, workdir: &Workdir) -> Ejabberd {
        let site = Site::new(&self.domain, self.users.clone());
        let name = format!("ejabberd-{}", self.domain);
        let config = self.config(&site).to_string();
        let config = workdir.write(&format!("{name}/ejabberd.yml"), &config);
        let directory = workdir.file(&name);
        let ready = directory.join("ready");
        let arguments = self.arguments(&directory, &config, &ready);
        let log = workdir.file(&format!("{name}.log"));
        let mut ejabberd = Ejabberd {
            // `env` replaces itself by Erlang: the process is ejabberd's own.
            process: Process::new(&name, "env", arguments, log),
            site,
            ready,
        };
        ejabberd.start().await;
        ejabberd
    }

    /// What `ejabberdctl foreground` would run, but for the distribution.
    fn arguments(&self, directory: &Path, config: &Path, ready: &Path) -> Vec<String> {
        let path = |name: &str| directory.join(name).display().to_string();
        let mut all = vec![
            format!("ERL_LIBS={}", libraries()),
            format!("EJABBERD_CONFIG_PATH={}", config.display()),
            format!("EJABBERD_LOG_PATH={}", path("ejabberd.log")),
            format!("ERL_CRASH_DUMP={}", path("erl_crash.dump")),
            format!("HOME={}", directory.display()),
            "erl".to_owned(),
        ];
        // It shares the machine with other tests: no busy waiting.
        let quiet = "+sbwt none +sbwtdcpu none +sbwtdio none -noinput \
                     -os_mon start_memsup false start_cpu_sup false start_disksup false";
        all.extend(quiet.split_whitespace().map(str::to_owned));
        let spool = format!("{:?}", path("spool"));
        all.extend(["-mnesia", "dir", &spool, "-s", "ejabberd", "-eval"].map(str::to_owned));
        all.push(self.provisioning(ready));
        all
    }

    /// In Erlang: registers who is not registered yet, gives them their
    /// contact, and says that all is done.
    fn provisioning(&self, ready: &Path) -> String {
        let domain = binary(&self.domain);
        let mut all = String::new();
        for user in &self.users {
            let (name, password) = (binary(&user.name), binary(&user.password));
            let contact = self.contact_of(user);
            write!(
                all,
                "case ejabberd_auth:try_register({name}, {domain}, {password}) of \
                 ok -> ok = {contact}; {{error, exists}} -> ok end, "
            )
            .expect("a string grows");
        }
        let ready = binary(&ready.display().to_string());
        // What is not on disk is lost when a test kills it.
        all + &format!("ok = mnesia:sync_log(), ok = file:write_file({ready}, <<>>).")
    }

    /// In Erlang: gives a user the contact that all of them have.
    fn contact_of(&self, user: &User) -> String {
        let Some(watcher) = &self.watcher else {
            return "ok".to_owned();
        };
        let (contact, host) = watcher.split_once('@').unwrap_or(("", watcher));
        let [name, domain, contact, host] = [&user.name, &self.domain, contact, host].map(binary);
        format!(
            "mod_admin_extra:add_rosteritem({name}, {domain}, {contact}, {host}, \
             <<\"Gateway\">>, <<\"Gateways\">>, <<\"from\">>)"
        )
    }

    fn config(&self, site: &Site) -> Value {
        let mut config = json!({
            "hosts": [self.domain],
            "loglevel": "debug",
            "log_rotate_size": "infinity",
            "acme": {"auto": false},
            "s2s_access": "none",
            "auth_method": "mnesia",
            "auth_use_cache": false,
            "shaper_rules": {"max_user_sessions": 100, "max_user_offline_messages": 10000},
            "listen": self.listeners(site),
            "modules": self.all_modules(),
        });
        if let Some(control) = &self.control {
            let only = format!("^{}$", control.replace('.', "\\."));
            config["acl"] = json!({"gateway": {"node_regexp": {"^$": only}}});
            config["access_rules"] = json!({"configure": {"allow": "gateway"}});
        }
        for (name, value) in &self.options {
            config[name] = value.clone();
        }
        config
    }

    fn listeners(&self, site: &Site) -> Value {
        let hosts: serde_json::Map<_, _> = self
            .components
            .iter()
            .map(|(domain, secret)| (domain.clone(), json!({"password": secret})))
            .collect();
        let clients = json!({
            "module": "ejabberd_c2s",
            "ip": "127.0.0.1",
            "port": site.c2s().port(),
        });
        let mut components = json!({
            "module": "ejabberd_service",
            "ip": "127.0.0.1",
            "port": site.component_address().port(),
            "check_from": self.checked,
            "global_routes": false,
            "hosts": hosts,
        });
        for (name, value) in &self.listener {
            components[name] = value.clone();
        }
        json!([clients, components])
    }

    fn all_modules(&self) -> Value {
        let mut modules: Value = MODULES
            .map(|name| (name.to_owned(), json!({})))
            .into_iter()
            .collect::<serde_json::Map<_, _>>()
            .into();
        modules["mod_mam"] = json!({"default": "always"});
        modules["mod_pubsub"] = json!({"plugins": ["flat", "pep"]});
        modules["mod_vcard"] = json!({"search": false});
        if self.control.is_some() {
            modules["mod_configure"] = json!({});
            modules["mod_privilege"] = json!({"presence": {"managed_entity": "configure"}});
        }
        for (name, options) in &self.modules {
            modules[name] = options.clone();
        }
        modules
    }
}

impl Ejabberd {
    /// For the users of `domain`.
    pub fn builder(domain: &str) -> Builder {
        Builder {
            domain: domain.to_owned(),
            users: Vec::new(),
            watcher: None,
            components: Vec::new(),
            checked: true,
            listener: Vec::new(),
            control: None,
            modules: Vec::new(),
            options: Vec::new(),
        }
    }

    /// Starts it again after it was stopped or killed, with the same data and ports.
    pub async fn start(&mut self) {
        // It may not have got that far the last time.
        let _ = std::fs::remove_file(&self.ready);
        self.process.launch();
        let what = format!("ejabberd to serve {}", self.domain());
        self.process
            .until(&what, async || self.serves().await)
            .await;
    }

    /// Its listeners open a moment after everything else is done.
    async fn serves(&self) -> Result<(), String> {
        if !self.ready.exists() {
            return Err("it has not finished its start".to_owned());
        }
        let components = TcpStream::connect(self.component_address()).await;
        components.map_err(|error| error.to_string())?;
        self.greeting().await
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

impl Deref for Ejabberd {
    type Target = Site;

    fn deref(&self) -> &Site {
        &self.site
    }
}

/// Where Debian has ejabberd's code, which differs by architecture.
fn libraries() -> String {
    let script = std::fs::read_to_string(CONTROL_SCRIPT).unwrap_or_else(|error| {
        panic!("{CONTROL_SCRIPT}: {error}; scripts/setup installs what tests need")
    });
    let line = script
        .lines()
        .find_map(|line| line.strip_prefix("ERL_LIBS="));
    let line = line.unwrap_or_else(|| panic!("{CONTROL_SCRIPT} does not set ERL_LIBS"));
    line.trim_matches(['\'', '"']).to_owned()
}

/// An Erlang binary.
fn binary(text: &str) -> String {
    format!("<<{text:?}/utf8>>")
}
