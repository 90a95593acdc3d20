//! Addresses of Redis, and connecting to it.

use std::path::Path;
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::cluster::ClusterClient;
use redis::sentinel::{SentinelClientBuilder, SentinelServerType};
use redis::{
    AsyncConnectionConfig, Client, ClientTlsConfig, ConnectionAddr, ConnectionInfo, RedisResult,
    TlsCertificates, TlsMode,
};

use super::wire::RedisWire;
use crate::config::{self, Compat, RedisTls, RedisUrl, Site};
use crate::store::StoreError;

/// Time limit for an answer: long enough for a batch of claims over a long line, short enough not
/// to delay the commands behind it.
const PATIENCE: Duration = Duration::from_secs(1);
/// Time after which a silent server of a cluster may have been replaced. Shorter than [`PATIENCE`],
/// so that another server can still be asked.
const CLUSTER_PATIENCE: Duration = Duration::from_millis(500);
/// Number of times that a command of a cluster is sent again after its shard moved.
const CLUSTER_RETRIES: u32 = 3;

/// Kinds of Redis to connect to.
pub(super) enum RedisSite {
    One(Box<Client>),
    /// Sentinels are asked again for each connection: the master may have changed by then.
    Sentinel(Box<SentinelPlan>),
    Cluster(Box<ClusterClient>),
}

pub(super) struct SentinelPlan {
    sentinels: Vec<ConnectionInfo>,
    master: String,
    access: ConnectionInfo,
    certificates: Option<TlsCertificates>,
}

impl RedisSite {
    /// Reads the settings. Doesn't connect yet.
    ///
    /// # Errors
    /// When `[redis]` can't be used: a wrong URL, or files that can't be read.
    pub(super) fn plan(url: RedisUrl, config: &config::Redis) -> Result<Self, StoreError> {
        let certificates = if url.tls {
            certificates(&config.tls)?
        } else {
            None
        };
        let plan = match url.site {
            Site::Server(info) => one(*info, certificates, config.compat),
            Site::Sentinel {
                sentinels,
                master,
                access,
            } => Ok(Self::Sentinel(Box::new(SentinelPlan {
                sentinels,
                master,
                access: *access,
                certificates,
            }))),
            Site::Cluster(servers) => cluster(servers, certificates),
        };
        plan.map_err(|error| StoreError(format!("[redis] cannot be used: {error}")))
    }

    pub(super) async fn connect(&self) -> RedisResult<RedisWire> {
        match self {
            Self::One(client) => connect_to(client).await.map(RedisWire::One),
            Self::Sentinel(plan) => {
                // The client is not kept: a kept client remembers the Sentinels that it is
                // connected with, and one of those may hang.
                let mut sentinels = plan.client()?;
                let master = sentinels.async_get_client().await?;
                connect_to(&master).await.map(RedisWire::One)
            }
            Self::Cluster(client) => client.get_async_connection().await.map(RedisWire::Cluster),
        }
    }
}

async fn connect_to(client: &Client) -> RedisResult<MultiplexedConnection> {
    let config = AsyncConnectionConfig::new()
        .set_connection_timeout(Some(PATIENCE))
        .set_response_timeout(Some(PATIENCE));
    client
        .get_multiplexed_async_connection_with_config(&config)
        .await
}

fn one(
    info: ConnectionInfo,
    certificates: Option<TlsCertificates>,
    compat: Compat,
) -> RedisResult<RedisSite> {
    let info = match compat {
        Compat::Redis => info,
        // Dynomite closes the connection on CLIENT SETINFO.
        Compat::Dynomite => {
            let settings = info.redis_settings().clone().set_skip_set_lib_name();
            info.set_redis_settings(settings)
        }
    };
    let client = match certificates {
        Some(certificates) => Client::build_with_tls(info, certificates),
        None => Client::open(info),
    };
    client.map(Box::new).map(RedisSite::One)
}

fn cluster(
    servers: Vec<ConnectionInfo>,
    certificates: Option<TlsCertificates>,
) -> RedisResult<RedisSite> {
    let mut builder = ClusterClient::builder(servers)
        .connection_timeout(CLUSTER_PATIENCE)
        .response_timeout(CLUSTER_PATIENCE)
        .overall_response_timeout(Some(PATIENCE))
        .retries(CLUSTER_RETRIES)
        .min_retry_wait(10)
        .max_retry_wait(100);
    if let Some(certificates) = certificates {
        builder = builder.certs(certificates);
    }
    builder.build().map(Box::new).map(RedisSite::Cluster)
}

impl SentinelPlan {
    fn client(&self) -> RedisResult<redis::sentinel::SentinelClient> {
        let addresses = self.sentinels.iter().map(|info| info.addr().clone());
        let mut builder =
            SentinelClientBuilder::new(addresses, &self.master, SentinelServerType::Master)?;
        let access = self.access.redis_settings();
        builder = builder.set_client_to_redis_db(access.db());
        if let Some(username) = access.username() {
            builder = builder.set_client_to_redis_username(username);
        }
        if let Some(password) = access.password() {
            builder = builder.set_client_to_redis_password(password);
        }
        // All Sentinels have the same settings.
        let settings = self.sentinels.first().map(ConnectionInfo::redis_settings);
        if let Some(username) = settings.and_then(|settings| settings.username()) {
            builder = builder.set_client_to_sentinel_username(username);
        }
        if let Some(password) = settings.and_then(|settings| settings.password()) {
            builder = builder.set_client_to_sentinel_password(password);
        }
        if matches!(self.access.addr(), ConnectionAddr::TcpTls { .. }) {
            builder = builder.set_client_to_redis_tls_mode(TlsMode::Secure);
        }
        if let Some(certificates) = &self.certificates {
            builder = builder
                .set_client_to_redis_certificates(certificates.clone())
                .set_client_to_sentinel_certificates(certificates.clone());
        }
        builder.build()
    }
}

/// TLS files that `[redis]` names; `None` for the public CAs and no identity.
fn certificates(tls: &RedisTls) -> Result<Option<TlsCertificates>, StoreError> {
    if tls.cacertfile.is_none() && tls.identity.is_none() {
        return Ok(None);
    }
    let client_tls = match &tls.identity {
        None => None,
        Some((certfile, keyfile)) => Some(ClientTlsConfig {
            client_cert: read("redis.certfile", certfile)?,
            client_key: read("redis.keyfile", keyfile)?,
        }),
    };
    let root_cert = match &tls.cacertfile {
        None => None,
        Some(file) => Some(read("redis.cacertfile", file)?),
    };
    Ok(Some(TlsCertificates {
        client_tls,
        root_cert,
    }))
}

fn read(option: &str, file: &Path) -> Result<Vec<u8>, StoreError> {
    std::fs::read(file).map_err(|error| {
        let shown = file.display();
        StoreError(format!("{option}: {shown} cannot be read: {error}"))
    })
}
