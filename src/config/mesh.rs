//! `[mesh]`: the session table that the gateways keep themselves.

use std::time::Duration;

use super::reading::Reading;
use super::{Backend, Endpoint, Times, times};

const PEERS: &str = "mesh.peers";

/// `[mesh]`
#[derive(Debug, Clone)]
pub struct Mesh {
    /// `peers`: endpoints of other gateways to begin with.
    pub peers: Vec<Endpoint>,
    /// `expire_after`: how long what a peer claims counts after the last link
    /// to it is gone, and a claim of our own that is not refreshed.
    pub expire_after: Duration,
    /// `refresh_after`: how often tables are compared.
    pub refresh_after: Duration,
}

impl Mesh {
    /// How long entries live.
    #[must_use]
    pub fn times(&self) -> Times {
        Times {
            expire_after: self.expire_after,
            refresh_after: self.refresh_after,
        }
    }
}

/// The section; with another `backend`, nothing in it has an effect.
pub(super) fn read(reading: &mut Reading, backend: Option<Backend>) -> Option<Mesh> {
    let peers: Vec<Endpoint> = reading.get(PEERS).unwrap_or_default();
    if backend == Some(Backend::Redis) && !peers.is_empty() {
        let what =
            "has no effect with sessions.backend = \"redis\": gateways find each other there";
        reading.warn(PEERS, what);
    }
    for peer in peers.iter().filter(|peer| peer.port == 0) {
        let what =
            format!("has `{peer}`, which nobody can dial; give the port on which it accepts links");
        reading.refuse(PEERS, what);
    }
    let times = times::read(reading, "mesh.expire_after", "mesh.refresh_after")?;
    Some(Mesh {
        peers,
        expire_after: times.expire_after,
        refresh_after: times.refresh_after,
    })
}
