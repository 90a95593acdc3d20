//! The program under test, started as an operator starts it.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::PathBuf;

use toml::{Table, Value};

use super::certs::Identity;
use super::http;
use super::machine::Machine;
use super::metrics::Metrics;
use super::port::Port;
use super::process::Process;
use super::workdir::Workdir;

/// Settings for its `component.toml`.
#[derive(Debug, Clone)]
pub struct Settings {
    pub global_host: String,
    pub local_host: String,
    pub node: String,
    /// The address on which the server accepts components.
    pub server: SocketAddr,
    pub secret: String,
    pub table: SessionTable,
    pub identity: Identity,
    /// The machine on which it runs; `None` for this one.
    pub machine: Option<Machine>,
    /// Files mounted over others for the gateway: the source, the path it replaces.
    pub mounts: Vec<(PathBuf, &'static str)>,
    /// TOML that is merged over the rest, key by key; the last one wins.
    pub overrides: Vec<String>,
}

/// The backend of the session table.
#[derive(Debug, Clone)]
pub enum SessionTable {
    /// The Redis with this URL.
    Redis(String),
    /// The gateways themselves; these peers are configured.
    Mesh(Vec<SocketAddr>),
}

/// A gateway, running or not; it keeps its configuration and ports through restarts.
#[derive(Debug)]
pub struct Gateway {
    host: String,
    admin: Port,
    link: Port,
    config: PathBuf,
    /// The process, for tests that kill or freeze it, or read its log.
    pub process: Process,
}

impl Gateway {
    /// Writes its configuration, without starting it.
    pub fn prepare(workdir: &Workdir, settings: &Settings) -> Self {
        let machine = settings.machine.as_ref();
        let (admin, link) = (Port::take_on(machine), Port::take_on(machine));
        let name = format!("strait-{}-{}", settings.local_host, settings.node);
        let secret = workdir.write(&format!("{name}.secret"), &settings.secret);
        let config = config(settings, secret, &admin, &link);
        let config = workdir.write(&format!("{name}.toml"), &config);
        let arguments = ["run".into(), "--config".into(), OsString::from(&config)];
        let (program, arguments) = behind_mounts(&settings.mounts, binary(), arguments);
        let (program, arguments) = match machine {
            Some(machine) => machine.behind(program, arguments),
            None => (program, arguments),
        };
        let log = workdir.file(&format!("{name}.log"));
        Self {
            host: settings.local_host.clone(),
            process: Process::new(&name, program, arguments, log),
            admin,
            link,
            config,
        }
    }

    /// The output of `strait snippet` for its configuration.
    pub fn snippet(&self, arguments: &[String]) -> String {
        let mut command = std::process::Command::new(binary());
        command.arg("snippet").args(arguments);
        command.arg("--config").arg(&self.config);
        super::process::forget_settings(&mut command);
        let output = command.output().expect("the program");
        let problems = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{arguments:?}: {problems}");
        String::from_utf8(output.stdout).expect("a snippet in UTF-8")
    }

    /// The exit code and the output of a command of the program, with its configuration.
    pub async fn command(&self, name: &str) -> (Option<i32>, String) {
        let mut command = std::process::Command::new(binary());
        command.arg(name).arg("--config").arg(&self.config);
        super::process::forget_settings(&mut command);
        let output = tokio::process::Command::from(command)
            .output()
            .await
            .expect("the program");
        let text = [output.stdout, output.stderr].concat();
        (
            output.status.code(),
            String::from_utf8_lossy(&text).into_owned(),
        )
    }

    /// Starts it and waits until it is ready.
    pub async fn start(&mut self) {
        self.process.launch();
        self.until_ready().await;
    }

    /// Stops it with SIGTERM, starts it and waits until it is ready.
    pub async fn restart(&mut self) {
        self.process.terminate().await;
        self.start().await;
    }

    /// Waits until `/readyz` returns 200.
    pub async fn until_ready(&self) {
        let what = format!("the gateway of {} to be ready", self.host);
        self.process
            .until(&what, async || match self.get("/readyz").await? {
                (200, _) => Ok(()),
                (status, body) => Err(format!("{status} {body}")),
            })
            .await;
    }

    /// Its `local_host`.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The address of its admin server, with `/metrics` and other pages.
    pub fn admin(&self) -> SocketAddr {
        self.admin.address()
    }

    /// The address on which it accepts links.
    pub fn link(&self) -> SocketAddr {
        self.link.address()
    }

    /// Its configuration file.
    pub fn config(&self) -> &PathBuf {
        &self.config
    }

    /// Merges TOML into its configuration for the next start.
    pub fn reconfigure(&self, snippet: &str) {
        let text = std::fs::read_to_string(&self.config).expect("a readable configuration");
        let mut config = parse(&text);
        merge(&mut config, parse(snippet));
        std::fs::write(&self.config, config.to_string()).expect("a writable configuration");
    }

    /// The whole log.
    pub fn log(&self) -> String {
        self.process.log()
    }

    /// Waits until it has logged `text`.
    pub async fn until_logged(&self, text: &str) {
        self.until_logged_times(text, 1).await;
    }

    /// The number of times `text` is in the log.
    pub fn times_logged(&self, text: &str) -> usize {
        self.log().matches(text).count()
    }

    /// Waits until `text` is in the log `times` times.
    pub async fn until_logged_times(&self, text: &str, times: usize) {
        let what = format!("{} to log {text:?} {times} times", self.host);
        self.process
            .until(&what, async || {
                let found = self.times_logged(text) >= times;
                found.then_some(()).ok_or_else(|| self.process.log_tail())
            })
            .await;
    }

    /// Status and body of a page of its admin server.
    pub async fn get(&self, path: &str) -> Result<(u16, String), String> {
        let answer = http::get(self.admin.address(), path).await;
        answer.map_err(|error| format!("{path} of {}: {error}", self.host))
    }

    /// The current series of `/metrics`.
    pub async fn metrics(&self) -> Result<Metrics, String> {
        match self.get("/metrics").await? {
            (200, text) => Ok(Metrics::parse(&text)),
            (status, text) => Err(format!("/metrics of {}: {status} {text}", self.host)),
        }
    }

    /// One value; 0 when there is no such series yet.
    pub async fn metric(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        let metrics = self.metrics().await.expect("metrics");
        metrics.get(name, labels).unwrap_or(0.0)
    }

    /// Waits until a value satisfies `wanted`, and returns the value.
    pub async fn until_metric(
        &self,
        name: &str,
        labels: &[(&str, &str)],
        wanted: impl Fn(f64) -> bool,
    ) -> f64 {
        let what = format!("{name}{labels:?} of {}", self.host);
        self.process
            .until(&what, async || {
                let metrics = self.metrics().await?;
                match metrics.get(name, labels).unwrap_or(0.0) {
                    value if wanted(value) => Ok(value),
                    _ => Err(metrics.show(name)),
                }
            })
            .await
    }

    /// Waits until a link to `host` is up.
    pub async fn until_linked(&self, host: &str) {
        self.until_metric("strait_links_up", &[("host", host)], |up| up >= 1.0)
            .await;
    }

    /// Waits until the stream of `domain` to its server is up.
    pub async fn until_attached(&self, domain: &str) {
        let attached = "strait_component_attached";
        self.until_metric(attached, &[("domain", domain)], |up| up == 1.0)
            .await;
    }

    /// Waits until every stanza that the gateway received is accounted for: reinjected,
    /// forwarded, answered, refused or held.
    pub async fn assert_balanced(&self) {
        let what = format!("the counters of {} to balance", self.host);
        self.process
            .until(&what, async || balance(&self.metrics().await?))
            .await;
    }

    /// Waits until nothing is in flight: the server and the peers have accepted all stanzas, none
    /// is held, and no worker has one.
    pub async fn until_settled(&self) {
        let what = format!("nothing in flight at {}", self.host);
        self.process
            .until(&what, async || {
                let metrics = self.metrics().await?;
                let busy = [
                    "strait_component_unsettled_stanzas",
                    "strait_link_unsettled_stanzas",
                    "strait_stanzas_held",
                ];
                match busy.into_iter().find(|name| metrics.sum(name) > 0.0) {
                    None => balance(&metrics),
                    Some(name) => Err(metrics.show(name)),
                }
            })
            .await;
    }
}

/// Compares the stanzas received with those accounted for.
fn balance(metrics: &Metrics) -> Result<(), String> {
    const IN: [&str; 3] = [
        "strait_stanzas_taken_total",
        "strait_stanzas_returned_total",
        "strait_stanzas_copied_total",
    ];
    const OUT: [&str; 6] = [
        "strait_stanzas_absorbed_total",
        "strait_stanzas_reinjected_total",
        "strait_stanzas_forwarded_total",
        "strait_stanzas_answered_total",
        "strait_stanzas_refused_total",
        "strait_stanzas_held",
    ];
    let sum = |names: &[&str]| names.iter().map(|name| metrics.sum(name)).sum::<f64>();
    let (came, went) = (sum(&IN), sum(&OUT));
    if (came - went).abs() < 0.5 {
        return Ok(());
    }
    let all = IN.iter().chain(&OUT).map(|name| metrics.show(name));
    let all = all.collect::<Vec<_>>().join("\n");
    Err(format!("{came} came and {went} went:\n{all}"))
}

/// The program and its arguments, to be run with some files mounted over others: in its own mount
/// namespace, which requires root.
fn behind_mounts(
    mounts: &[(PathBuf, &'static str)],
    program: PathBuf,
    arguments: [OsString; 3],
) -> (OsString, Vec<OsString>) {
    if mounts.is_empty() {
        return (program.into(), arguments.into());
    }
    let script = "while [ \"$1\" != -- ]; do mount --bind \"$1\" \"$2\" || exit 1; shift 2; done; \
                  shift; exec \"$@\"";
    let mut all: Vec<OsString> = ["--mount", "--", "sh", "-c", script, "sh"]
        .map(OsString::from)
        .into();
    for (own, other) in mounts {
        all.extend([own.into(), OsString::from(other)]);
    }
    all.extend(["--".into(), program.into()]);
    all.extend(arguments);
    ("unshare".into(), all)
}

/// The program: Cargo passes its path to tests; for an example, it is in the parent directory.
pub fn binary() -> PathBuf {
    if let Some(path) = option_env!("CARGO_BIN_EXE_strait") {
        return path.into();
    }
    let example = std::env::current_exe().expect("the path of this program");
    let directory = example.parent().and_then(|examples| examples.parent());
    directory.expect("target/PROFILE/examples").join("strait")
}

impl SessionTable {
    fn config(&self) -> String {
        match self {
            Self::Redis(url) => format!("sessions.backend = 'redis'\nredis.url = '{url}'\n"),
            // The default backend.
            Self::Mesh(peers) => {
                let peers: Vec<String> = peers.iter().map(|peer| format!("'{peer}'")).collect();
                format!("mesh.peers = [{}]\n", peers.join(", "))
            }
        }
    }
}

fn config(settings: &Settings, secret_file: PathBuf, admin: &Port, link: &Port) -> String {
    let text = |path: &PathBuf| path.to_string_lossy().into_owned();
    let identity = &settings.identity;
    let mut config = toml::toml! {
        // Shorter than the default of 3 s, so that a cluster starts sooner.
        hosts_refresh_interval = 300
        [log]
        level = "debug"
    };
    let written = [
        ("global_host", settings.global_host.clone()),
        ("local_host", settings.local_host.clone()),
        ("node", settings.node.clone()),
        ("component.server", settings.server.to_string()),
        ("component.secret_file", text(&secret_file)),
        ("connections.tls.certfile", text(&identity.certfile)),
        ("connections.tls.keyfile", text(&identity.keyfile)),
        ("connections.tls.cacertfile", text(&identity.cacertfile)),
        ("admin.listen", admin.address().to_string()),
    ];
    for (key, value) in written {
        // A JSON string is a TOML string.
        merge(
            &mut config,
            parse(&format!("{key} = {}", serde_json::Value::from(value))),
        );
    }
    merge(&mut config, parse(&settings.table.config()));
    let link = link.address();
    let (address, port) = (link.ip(), link.port());
    merge(
        &mut config,
        parse(&format!(
            "connections.endpoints = [{{ host = '{address}', port = {port} }}]"
        )),
    );
    for snippet in &settings.overrides {
        merge(&mut config, parse(snippet));
    }
    config.to_string()
}

fn parse(snippet: &str) -> Table {
    snippet
        .parse()
        .unwrap_or_else(|error| panic!("{error} in {snippet}"))
}

/// Merges tables, and replaces everything else.
fn merge(into: &mut Table, from: Table) {
    for (key, value) in from {
        match (into.get_mut(&key), value) {
            (Some(Value::Table(into)), Value::Table(from)) => merge(into, from),
            (_, value) => {
                into.insert(key, value);
            }
        }
    }
}
