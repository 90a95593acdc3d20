//! `strait run`: the gateway, until a signal ends it.

use std::sync::Arc;

use anyhow::Context;
use strait::config::{Config, Inputs, Loaded, Log, LogFormat};
use strait::gateway::Requests;
use strait::metrics::Metrics;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tracing_appender::non_blocking::{NonBlocking, NonBlockingBuilder};
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

/// Lines that wait to be written, at most; more are dropped and counted.
const BUFFERED_LINES: usize = 4096;

pub fn run(loaded: Loaded, inputs: Inputs) -> anyhow::Result<()> {
    let (lines, writer) = NonBlockingBuilder::default()
        .buffered_lines_limit(BUFFERED_LINES)
        .finish(std::io::stderr());
    let metrics = Metrics::counting_dropped(lines.error_counter());
    start_logging(&loaded.config.log, lines)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("cannot start the threads that strait runs on")?;
    let result = runtime.block_on(until_signalled(loaded, inputs, metrics));
    // Writes what is buffered, before the caller writes the error.
    drop(writer);
    result
}

async fn until_signalled(loaded: Loaded, inputs: Inputs, metrics: Metrics) -> anyhow::Result<()> {
    let shutdown = CancellationToken::new();
    // The handler must be in place before the first log line: a reader of that
    // line may send signals.
    tokio::spawn(cancel_on_signal(shutdown.clone())?);
    let reload = Arc::new(Notify::new());
    tokio::spawn(notify_on_hangup(Arc::clone(&reload))?);
    for warning in &loaded.warnings {
        tracing::warn!("{warning}");
    }
    let requests = Requests {
        shutdown,
        reload,
        read: Box::new(move || match Config::load(&inputs) {
            Ok(loaded) => Ok(loaded.config),
            Err(problems) => Err(problems.to_string()),
        }),
    };
    strait::gateway::run(loaded.config, Arc::new(metrics), requests).await
}

/// SIGHUP requests a reload; it is also what a closed terminal sends.
fn notify_on_hangup(reload: Arc<Notify>) -> anyhow::Result<impl Future<Output = ()>> {
    let mut hangup = signal(SignalKind::hangup()).context("cannot listen for SIGHUP")?;
    Ok(async move {
        while hangup.recv().await.is_some() {
            reload.notify_one();
        }
    })
}

/// Logs go to standard error, so that standard output stays free for answers. A thread of its own
/// writes them: a reader that stops reading costs lines, and blocks no stanza.
fn start_logging(log: &Log, lines: NonBlocking) -> anyhow::Result<()> {
    let levels: Targets = log.level.parse().context("log.level cannot be used")?;
    let registry = tracing_subscriber::registry().with(levels);
    let lines = tracing_subscriber::fmt::layer().with_writer(lines);
    match log.format {
        LogFormat::Text => {
            let colour = std::io::IsTerminal::is_terminal(&std::io::stderr());
            registry.with(lines.with_ansi(colour)).try_init()
        }
        LogFormat::Json => registry.with(lines.json().flatten_event(true)).try_init(),
    }
    .context("cannot start logging")
}

/// The first SIGTERM or SIGINT requests an orderly end; the second one, from an
/// operator who does not want to wait, ends the process at once.
fn cancel_on_signal(shutdown: CancellationToken) -> anyhow::Result<impl Future<Output = ()>> {
    let mut terminate = signal(SignalKind::terminate()).context("cannot listen for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot listen for SIGINT")?;
    Ok(async move {
        for last in [false, true] {
            let name = tokio::select! {
                _ = terminate.recv() => "SIGTERM",
                _ = interrupt.recv() => "SIGINT",
            };
            if last {
                tracing::warn!(signal = name, "second signal: ending at once");
                std::process::exit(1);
            }
            tracing::info!(signal = name, "draining; a second signal ends at once");
            shutdown.cancel();
        }
    })
}
