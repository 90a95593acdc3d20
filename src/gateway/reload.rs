//! A reload: reads the configuration again and applies, in the running gateway, the
//! certificates of the links and `[[peers]]`.

use std::sync::Arc;

use crate::config::Config;
use crate::link::Credentials;
use crate::metrics::Metrics;

/// Reads the configuration again; the error lists its problems.
pub type ReadConfig = dyn Fn() -> Result<Config, String> + Send + Sync;

/// Applies a changed configuration to a running gateway.
pub(super) struct Reloader {
    pub(super) read: Box<ReadConfig>,
    pub(super) credentials: Arc<Credentials>,
    pub(super) metrics: Arc<Metrics>,
}

impl Reloader {
    /// Reads and applies the configuration. Reads files: not for a worker.
    ///
    /// # Errors
    /// The configuration or a file that it names can't be used; the gateway goes on
    /// with the former ones.
    pub(super) fn reload(&self) -> Result<(), String> {
        let reloaded = (self.read)().and_then(|config| {
            let reloaded = self
                .credentials
                .reload(&config.connections.tls, config.peers);
            reloaded.map_err(|error| error.to_string())
        });
        match &reloaded {
            Ok(()) => {
                self.show_expiry();
                tracing::info!("reloaded: the certificates of the links, [[peers]]");
            }
            Err(problem) => {
                tracing::error!("not reloaded, the former certificates stay in use: {problem}");
            }
        }
        reloaded
    }

    /// Sets the metric of the certificates' last second.
    pub(super) fn show_expiry(&self) {
        let Some(expiry) = self.credentials.expiry() else {
            return;
        };
        let not_after = &self.metrics.certificate_not_after;
        for (file, at) in [("certfile", expiry.own), ("cacertfile", expiry.authority)] {
            not_after.with_label_values(&[file]).set(at);
        }
    }
}
