//! `[connections]`: the links.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::json;

use super::endpoint::Endpoint;
use super::kind::OptionKind::Endpoints;
use super::kind::{
    Unit::{Bytes, Count, Seconds},
    YEAR, number,
};
use super::reading::Reading;
use super::section::section;
use super::tls::Tls;
use crate::host::Host;

/// mod_global_distrib's.
const PORT: u16 = 5555;

section! {
    /// The links between gateways.
    pub struct Connections {
        /// Where this gateway accepts links, host:port,host:port; IPv6 addresses in brackets.
        ///
        /// [] for nowhere: then it only dials.
        "connections.endpoints" endpoints: Vec<Endpoint> =
            Endpoints.described("local_host:5555", r#"[{ host = "0.0.0.0", port = 5555 }]"#)
                .in_reference(r#"[{ host = "127.0.0.1", port = 5555 }]"#);

        /// The addresses that other gateways dial instead, host:port,host:port.
        ///
        /// For addresses that differ from outside. Those who dial look names up, each time.
        "connections.advertised_endpoints" advertised_endpoints: Option<Vec<Endpoint>> =
            Endpoints.described("connections.endpoints", r#"[{ host = "gw1.dc1.example.com", port = 5555 }]"#);

        /// How many connections are kept to each endpoint of another datacenter.
        "connections.connections_per_endpoint" connections_per_endpoint: usize =
            number(Count, 1, 1024).usual(1, 64).default("1");

        /// How often another datacenter's endpoints are looked up, in seconds.
        "connections.endpoint_refresh_interval" endpoint_refresh_interval: Duration =
            number(Seconds, 1, YEAR).usual(1, 3600).default("60");

        /// The same while it has none, in seconds.
        "connections.endpoint_refresh_interval_when_empty" endpoint_refresh_interval_when_empty: Duration =
            number(Seconds, 1, YEAR).usual(1, 600).default("3");

        /// How often connections to endpoints that no longer exist are closed, in seconds.
        "connections.disabled_gc_interval" disabled_gc_interval: Duration =
            number(Seconds, 1, YEAR).usual(1, 3600).default("60");

        /// The most that may wait or be unacknowledged on one connection, in bytes.
        "connections.queue_bytes" queue_bytes: usize = number(Bytes, 1, 1 << 40).usual(1, 1 << 34).default("67108864");

        /// How long a stanza may wait for its next hop, in seconds; then its sender gets
        /// remote-server-timeout.
        ///
        /// After half of it, stanzas that wait for a lost connection go over another one to
        /// the same datacenter, if there is one.
        "connections.max_wait" max_wait: Duration = number(Seconds, 1, YEAR).usual(1, 600).default("30");
    }
    with { tls: Tls, }
}

impl Connections {
    pub(super) fn checked(reading: &mut Reading, local_host: Option<&Host>) -> Option<Self> {
        let tls = Tls::checked(reading, local_host);
        let (key, advertised_key) = ("connections.endpoints", "connections.advertised_endpoints");
        if !reading.is_set(key)
            && let Some(local_host) = local_host
        {
            let endpoint = json!({ "host": local_host.as_str(), "port": PORT });
            reading.derive(key, json!([endpoint]));
        }
        let endpoints: Option<Vec<Endpoint>> = reading.get(key);
        let advertised: Option<Vec<Endpoint>> = reading.get(advertised_key);
        // A gateway that cannot be dialled may be intended, to send only; but that is rare.
        if endpoints.as_ref().is_some_and(Vec::is_empty) {
            let what = "has none: this gateway can send to other datacenters, but none of them can send to it";
            reading.warn(key, what);
        } else if advertised.as_ref().is_some_and(Vec::is_empty) {
            let what = "has none: other datacenters are not told where to send to this one";
            reading.warn(advertised_key, what);
        }
        for endpoint in advertised
            .iter()
            .flatten()
            .filter(|endpoint| endpoint.port == 0)
        {
            let what = format!(
                "has `{endpoint}`, which nobody can dial; give the port on which it accepts links"
            );
            reading.refuse(advertised_key, what);
        }
        for (key, endpoints) in [(key, endpoints), (advertised_key, advertised)] {
            let mut seen = BTreeSet::new();
            for endpoint in endpoints.iter().flatten() {
                // Port 0 selects another free port each time.
                if endpoint.port != 0 && !seen.insert(endpoint) {
                    reading.refuse(key, format!("has `{endpoint}` twice; remove one"));
                }
            }
        }
        Self::read(tls, reading)
    }
}
