//! The backends of a cluster's session table; most scenarios run with each.

use super::redis_server::Redis;

/// The backend of the session table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Backend {
    /// A Redis of the cluster.
    Redis,
    /// The gateways themselves.
    Mesh,
}

impl Backend {
    /// TOML for the lifetimes of entries, in seconds.
    pub fn times(self, expire_after: u32, refresh_after: u32) -> String {
        let section = match self {
            Self::Redis => "redis",
            Self::Mesh => "mesh",
        };
        format!("[{section}]\nexpire_after = {expire_after}\nrefresh_after = {refresh_after}\n")
    }

    /// TOML for the gateways known from the start, each `"host:port"`; in Redis all are
    /// discovered.
    pub fn peers(self, peers: &[&str]) -> String {
        match self {
            Self::Redis => String::new(),
            Self::Mesh => format!("mesh.peers = {peers:?}\n"),
        }
    }
}

/// A cluster's Redis, for tests that need one.
#[derive(Debug)]
pub struct OwnRedis(pub(super) Option<Redis>);

impl std::ops::Deref for OwnRedis {
    type Target = Redis;

    fn deref(&self) -> &Redis {
        self.0.as_ref().expect("a cluster that has a Redis")
    }
}

impl std::ops::DerefMut for OwnRedis {
    fn deref_mut(&mut self) -> &mut Redis {
        self.0.as_mut().expect("a cluster that has a Redis")
    }
}

/// Makes a test of each scenario, a function that takes the [`Backend`]: without a database, as
/// in most clusters.
#[macro_export]
macro_rules! on_mesh {
    ($($scenario:ident),+ $(,)?) => { $crate::on_backend! { mesh Mesh $($scenario)+ } };
}

/// Like `on_mesh`, with the table in Redis: for some thirty scenarios about the table itself and
/// its cached look-ups. The store contract shows that both backends keep the same promises.
#[macro_export]
macro_rules! on_redis {
    ($($scenario:ident),+ $(,)?) => { $crate::on_backend! { redis Redis $($scenario)+ } };
}

/// Makes a test of each scenario with each backend.
#[macro_export]
macro_rules! on_each_backend {
    ($($scenario:ident),+ $(,)?) => {
        $crate::on_mesh! { $($scenario),+ }
        $crate::on_redis! { $($scenario),+ }
    };
}

/// The tests behind the macros above.
#[macro_export]
macro_rules! on_backend {
    ($name:ident $backend:ident $($scenario:ident)+) => {
        mod $name {
            $(
                #[tokio::test(flavor = "multi_thread")]
                async fn $scenario() {
                    super::$scenario($crate::support::backend::Backend::$backend).await;
                }
            )+
        }
    };
}
