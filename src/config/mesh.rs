//! `[mesh]`

use std::time::Duration;

use serde_json::json;

use super::endpoint::Endpoint;
use super::kind::OptionKind::Endpoints;
use super::kind::{Unit::Seconds, YEAR, number};
use super::reading::Reading;
use super::section::section;
use super::sessions::Backend;
use super::times::{self, Times};

section! {
    /// The session table that the gateways keep themselves; see docs/mesh.md.
    pub struct Mesh {
        /// Endpoints of other gateways to begin with, host:port,host:port; the others are
        /// learned from these.
        ///
        /// One that is reachable is enough. Without any, this gateway waits to be dialled.
        "mesh.peers" peers: Vec<Endpoint> =
            Endpoints.described("none", r#"["gw1.dc2.example.com:5555", "gw1.dc3.example.com:5555"]"#);

        /// How long the claims of another gateway count after the last link to it is lost,
        /// in seconds.
        "mesh.expire_after" expire_after: Duration = number(Seconds, 1, YEAR).usual(2, 3600).default("120");

        /// How often the tables of two gateways are compared, in seconds; less than
        /// mesh.expire_after.
        "mesh.refresh_after" refresh_after: Duration = number(Seconds, 1, YEAR).usual(1, 1800).default("60");
    }
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

    pub(super) fn checked(reading: &mut Reading, backend: Option<Backend>) -> Option<Self> {
        let key = "mesh.peers";
        let peers: Vec<Endpoint> = reading.get(key).unwrap_or_default();
        reading.derive(key, json!(peers));
        if backend == Some(Backend::Redis) && !peers.is_empty() {
            let what =
                "has no effect with sessions.backend = \"redis\": gateways find each other there";
            reading.warn(key, what);
        }
        for peer in peers.iter().filter(|peer| peer.port == 0) {
            let what = format!(
                "has `{peer}`, which nobody can dial; give the port on which it accepts links"
            );
            reading.refuse(key, what);
        }
        times::check(reading, "mesh.expire_after", "mesh.refresh_after");
        Self::read(reading)
    }
}
