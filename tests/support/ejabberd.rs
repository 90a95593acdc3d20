//! An ejabberd of the test: one domain, its users, its components.
//!
//! It runs without Erlang's distribution: no node name, no cookie, no epmd, so that any number of
//! them run side by side. Provisioning, which `ejabberdctl` would do on a running server, is part
//! of the start.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Map, Value, json};

use super::http;
use super::patience::PATIENCE;
use super::port::Port;
use super::process::Process;
use super::site::{Site, User};
use super::workdir::Workdir;

/// The script of Debian's package, which knows the path of ejabberd's libraries.
const CONTROL_SCRIPT: &str = "/usr/sbin/ejabberdctl";

/// Bound for a start. A start takes two seconds of CPU time, and a busy machine has little to
/// spare.
const START: Duration = PATIENCE.saturating_mul(3);

/// Modules for clients and for remote users.
const MODULES: [&str; 18] = [
    "mod_adhoc",
    "mod_admin_extra",
    "mod_blocking",
    "mod_caps",
    "mod_carboncopy",
    "mod_client_state",
    "mod_configure",
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

/// The setup of an ejabberd.
#[derive(Debug)]
pub struct Builder {
    site: Site,
    watcher: Option<String>,
    /// Output of `strait snippet ejabberd`.
    snippet: Option<String>,
    /// Replacements in the snippet.
    mistakes: Vec<(String, String)>,
    /// Domains to which gateways attach; with a snippet, the snippet configures them.
    services: Vec<(String, String)>,
    components: Vec<(String, String)>,
    modules: Vec<(String, Value)>,
    options: Vec<(String, Value)>,
    is_listed: bool,
}

/// A running, stopped or killed ejabberd; it keeps its data and ports through restarts.
#[derive(Debug)]
pub struct Ejabberd {
    site: Site,
    /// A file that exists once everything done at the start is done and stored.
    ready: PathBuf,
    /// Port of its commands (`mod_http_api`).
    commands: Port,
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

    /// Adds an external component for the test itself.
    pub fn component(mut self, domain: &str, secret: &str) -> Self {
        self.components.push((domain.to_owned(), secret.to_owned()));
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

    /// Applies the output of `strait snippet ejabberd`.
    pub fn pasted(mut self, mut snippet: String) -> Self {
        for (right, wrong) in &self.mistakes {
            assert!(snippet.contains(right), "{right} is not in {snippet}");
            snippet = snippet.replace(right, wrong);
        }
        self.snippet = Some(snippet);
        self
    }

    /// Replaces a part of the snippet, as an operator's mistake would.
    pub fn mistaken(mut self, right: &str, wrong: &str) -> Self {
        self.mistakes.push((right.to_owned(), wrong.to_owned()));
        self
    }

    /// The address on which it will accept gateways.
    pub fn component_address(&self) -> SocketAddr {
        self.site.component_address()
    }

    /// Adds rooms (XEP-0045), which are archived.
    pub fn rooms(self, domain: &str) -> Self {
        self.module(
            "mod_muc",
            json!({
                "hosts": [domain],
                "default_room_options": {"mam": true, "allow_subscription": true},
            }),
        )
    }

    /// Enables [`Ejabberd::sessions`].
    pub fn listed(mut self) -> Self {
        self.is_listed = true;
        self.module("mod_http_api", json!({}))
    }

    /// Adds a module, or other options for one.
    pub fn module(mut self, name: &str, options: Value) -> Self {
        self.modules.push((name.to_owned(), options));
        self
    }

    /// Adds an option, or another value for one.
    pub fn option(mut self, name: &str, value: Value) -> Self {
        self.options.push((name.to_owned(), value));
        self
    }

    /// Writes the configuration and starts the server; returns when it answers clients.
    pub async fn start(self, workdir: &Workdir) -> Ejabberd {
        let commands = Port::take();
        let name = format!("ejabberd-{}", self.site.domain());
        let snippet = self.snippet.as_ref();
        let snippet = snippet.map(|text| workdir.write(&format!("{name}/strait.yml"), text));
        let config = self.config(snippet, &commands).to_string();
        let config = workdir.write(&format!("{name}/ejabberd.yml"), &config);
        let directory = workdir.file(&name);
        let ready = directory.join("ready");
        let arguments = self.arguments(&directory, &config, &ready);
        let log = workdir.file(&format!("{name}.log"));
        let mut ejabberd = Ejabberd {
            // `env` execs Erlang, so the process id is ejabberd's own.
            process: Process::new(&name, "env", arguments, log),
            site: self.site,
            ready,
            commands,
        };
        ejabberd.start().await;
        ejabberd
    }

    /// The arguments that `ejabberdctl foreground` would use, without the distribution.
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
        // No busy waiting, because the machine also runs other tests.
        let quiet = "+sbwt none +sbwtdcpu none +sbwtdio none -noinput \
                     -os_mon start_memsup false start_cpu_sup false start_disksup false";
        all.extend(quiet.split_whitespace().map(str::to_owned));
        let (spool, cores) = (format!("{:?}", path("spool")), format!("{:?}", path("")));
        // Mnesia writes a core file when it crashes.
        let mnesia = ["-mnesia", "dir", &spool, "-mnesia", "core_dir", &cores];
        all.extend(mnesia.map(str::to_owned));
        all.extend(["-s", "ejabberd", "-eval"].map(str::to_owned));
        all.push(self.provisioning(ready));
        all
    }

    /// Erlang code that registers the missing users, adds their contact to their rosters, and
    /// creates the file `ready`.
    fn provisioning(&self, ready: &Path) -> String {
        let domain = binary(self.site.domain());
        let mut all = String::new();
        for user in self.site.users() {
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
        // The users are provisioned whenever that file is missing: once it exists, everything
        // stored before is on disk and survives a kill by a test.
        all + &format!(
            "spawn(fun Save() -> case filelib:is_regular({ready}) of true -> ok; \
             false -> ok = mnesia:sync_log(), ok = file:write_file({ready}, <<>>) end, \
             timer:sleep(20), Save() end)."
        )
    }

    /// Erlang code that adds the common contact to a user's roster.
    fn contact_of(&self, user: &User) -> String {
        let Some(watcher) = &self.watcher else {
            return "ok".to_owned();
        };
        let (contact, host) = watcher.split_once('@').unwrap_or(("", watcher));
        let [name, domain, contact, host] =
            [&user.name, self.site.domain(), contact, host].map(binary);
        format!(
            "mod_admin_extra:add_rosteritem({name}, {domain}, {contact}, {host}, \
             <<\"Gateway\">>, <<\"Gateways\">>, <<\"from\">>)"
        )
    }

    /// The configuration, equal to Debian's where the snippet depends on it.
    fn config(&self, snippet: Option<PathBuf>, commands: &Port) -> Value {
        let mut config = json!({
            "hosts": [self.site.domain()],
            "loglevel": "info",
            "log_rotate_size": "infinity",
            "acme": {"auto": false},
            "auth_method": "mnesia",
            "auth_use_cache": false,
            "acl": {"admin": {"user": [""]}},
            "access_rules": {"configure": {"allow": "admin"}},
            "shaper_rules": {"max_user_sessions": 100, "max_user_offline_messages": 10000},
            "listen": self.listeners(snippet.is_none()),
            "modules": self.all_modules(),
        });
        if let Some(snippet) = snippet {
            config["include_config_file"] = json!(snippet);
        }
        if self.is_listed {
            let listener = json!({
                "module": "ejabberd_http",
                "ip": "127.0.0.1",
                "port": commands.number(),
                "request_handlers": {"/api": "mod_http_api"},
            });
            let listeners = config["listen"].as_array_mut().expect("a list");
            listeners.push(listener);
            config["api_permissions"] = json!({
                "tests": {"who": [{"ip": "127.0.0.1/8"}], "what": ["connected_users"]},
            });
        }
        for (name, value) in &self.options {
            config[name] = value.clone();
        }
        config
    }

    fn listeners(&self, with_services: bool) -> Value {
        let mut listeners = vec![json!({
            "module": "ejabberd_c2s",
            "ip": "127.0.0.1",
            "port": self.site.c2s().port(),
        })];
        let own = (self.site.own_component_address(), &self.components);
        let services = (self.component_address(), &self.services);
        let wanted = [Some(own), with_services.then_some(services)];
        for (address, components) in wanted.into_iter().flatten() {
            let hosts: Map<_, _> = components
                .iter()
                .map(|(domain, secret)| (domain.clone(), json!({"password": secret})))
                .collect();
            // Without any host here, it would accept components without a password.
            if !hosts.is_empty() {
                listeners.push(json!({
                    "module": "ejabberd_service",
                    "ip": "127.0.0.1",
                    "port": address.port(),
                    "global_routes": false,
                    "hosts": hosts,
                }));
            }
        }
        json!(listeners)
    }

    fn all_modules(&self) -> Value {
        let modules = MODULES.map(|name| (name.to_owned(), json!({})));
        let mut modules: Map<_, _> = modules.into_iter().collect();
        modules.insert("mod_mam".to_owned(), json!({"default": "always"}));
        modules.insert("mod_pubsub".to_owned(), json!({"plugins": ["flat", "pep"]}));
        modules.insert("mod_vcard".to_owned(), json!({"search": false}));
        modules.extend(self.modules.iter().cloned());
        modules.into()
    }
}

impl Ejabberd {
    /// Starts the setup of a server for the users of `domain`.
    pub fn builder(domain: &str) -> Builder {
        Builder {
            site: Site::new(domain).with_own_components(),
            watcher: None,
            snippet: None,
            mistakes: Vec::new(),
            services: Vec::new(),
            components: Vec::new(),
            modules: Vec::new(),
            options: Vec::new(),
            is_listed: false,
        }
    }

    /// The full JIDs of all sessions of the server, from `connected_users`.
    ///
    /// # Errors
    /// When it does not answer.
    pub async fn sessions(&self) -> Result<BTreeSet<String>, String> {
        let answer = http::get(self.commands.address(), "/api/connected_users").await;
        match answer.map_err(|error| error.to_string())? {
            (200, list) => serde_json::from_str(&list).map_err(|error| error.to_string()),
            (status, body) => Err(format!("{status} {body}")),
        }
    }

    /// Waits until everything the server has stored is on disk.
    pub async fn until_saved(&self) {
        std::fs::remove_file(&self.ready).expect("an ejabberd that runs");
        let what = format!("ejabberd of {} to save", self.domain());
        self.process
            .until(&what, async || {
                let saved = self.ready.exists();
                saved.then_some(()).ok_or_else(|| "not yet".to_owned())
            })
            .await;
    }

    /// Starts it again after it was stopped or killed, with the same data and ports.
    pub async fn start(&mut self) {
        // An earlier start may have failed before the file was written.
        let _ = std::fs::remove_file(&self.ready);
        self.process.launch();
        let what = format!("ejabberd to serve {}", self.domain());
        self.process
            .until_within(START, &what, async || self.serves().await)
            .await;
    }

    /// Checks the listeners, which open a moment after everything else is done.
    async fn serves(&self) -> Result<(), String> {
        if !self.ready.exists() {
            return Err("it has not finished its start".to_owned());
        }
        self.greeting().await
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

impl Deref for Ejabberd {
    type Target = Site;

    fn deref(&self) -> &Site {
        &self.site
    }
}

/// The directory of ejabberd's code on Debian, which differs by architecture.
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

/// Formats an Erlang binary.
fn binary(text: &str) -> String {
    format!("<<{text:?}/utf8>>")
}
