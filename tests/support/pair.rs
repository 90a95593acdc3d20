//! Two datacenters with the servers and the backend of a scenario.

use super::backend::Backend;
use super::cluster::{Builder, Cluster};
use super::server::Kind;

/// The kinds of the two servers, and the backend of the session table. A scenario that takes a
/// pair runs on each backend and on each pair of servers.
#[derive(Debug, Clone, Copy)]
pub struct Pair {
    pub backend: Backend,
    pub kinds: [Kind; 2],
}

impl Pair {
    /// Sets up a cluster with these local hosts.
    pub fn at(self, [first, second]: [&str; 2]) -> Builder {
        Cluster::on(self.backend)
            .datacenter(first)
            .its_server(self.kinds[0])
            .datacenter(second)
            .its_server(self.kinds[1])
    }
}

/// A pair of two Prosodys.
impl From<Backend> for Pair {
    fn from(backend: Backend) -> Self {
        let kinds = [Kind::Prosody; 2];
        Self { backend, kinds }
    }
}

/// A pair without a database.
impl From<[Kind; 2]> for Pair {
    fn from(kinds: [Kind; 2]) -> Self {
        let backend = Backend::Mesh;
        Self { backend, kinds }
    }
}

impl Cluster {
    /// Sets up `dc1.test` and `dc2.test`.
    pub fn of(pair: impl Into<Pair>) -> Builder {
        pair.into().at(["dc1.test", "dc2.test"])
    }
}
