//! Every counter, gauge and histogram, in one place.
//!
//! Two families: the names of mod_global_distrib's documentation, with its
//! units (histograms in µs) and its per-host ones labelled `host`; and
//! `strait_*`, which follows Prometheus's conventions.

use std::sync::Arc;

use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;
use prometheus::{
    Encoder, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge,
    IntGaugeVec, Opts, Registry, TextEncoder,
};

use tracing_appender::non_blocking::ErrorCounter;

use crate::stanza::{Kind, Reason};

/// From 50 µs to 6.5 s, doubling.
fn micros() -> Vec<f64> {
    (0..18).map(|n| 50.0 * f64::from(1_u32 << n)).collect()
}

macro_rules! metrics {
    ($( $(#[doc = $help:literal])+ $field:ident: $kind:ident = $name:literal $( [ $($label:literal),* ] )? ; )*) => {
        /// Every metric of this gateway. One per process, or per test.
        #[derive(Debug)]
        pub struct Metrics {
            registry: Registry,
            $( $(#[doc = $help])+ pub $field: $kind, )*
        }

        /// Name, type and labels of each metric.
        #[cfg(test)]
        const METRICS: &[(&str, &str, &[&str])] = &[
            $( ($name, stringify!($kind), &[$($($label),*)?]), )*
        ];

        impl Metrics {
            /// All at zero.
            ///
            /// # Panics
            /// When two metrics have one name, which a unit test rules out.
            #[must_use]
            #[allow(clippy::new_without_default)]
            pub fn new() -> Self {
                let registry = Registry::new();
                $(
                    let help = [$($help),+].concat();
                    let $field = <$kind as Build>::build($name, help.trim(), &[$($($label),*)?]);
                    registry.register(Box::new($field.clone())).expect($name);
                )*
                let metrics = Self { registry, $($field),* };
                metrics.start_at_zero();
                metrics
            }
        }
    };
}

metrics! {
    /// Stanzas sent to a host.
    outgoing_messages: IntCounterVec = "mod_global_distrib_outgoing_messages_count" ["host"];
    /// Stanzas received from a host.
    incoming_messages: IntCounterVec = "mod_global_distrib_incoming_messages_count" ["host"];
    /// Between sending and receiving a stanza, by both hosts' wall clocks, in microseconds.
    incoming_transfer_time: HistogramVec = "mod_global_distrib_incoming_transfer_time_us" ["host"];
    /// In the queue of a connection to a host, in microseconds.
    outgoing_queue_time: HistogramVec = "mod_global_distrib_outgoing_queue_time_us" ["host"];
    /// In a worker's queue, in microseconds.
    incoming_queue_time: Histogram = "mod_global_distrib_incoming_queue_time_us";
    /// Connections accepted from other hosts.
    incoming_established: IntCounter = "mod_global_distrib_incoming_established_count";
    /// Incoming connections that have told their host.
    incoming_first_packet: IntCounterVec = "mod_global_distrib_incoming_first_packet_count" ["host"];
    /// Incoming connections closed.
    incoming_closed: IntCounterVec = "mod_global_distrib_incoming_closed_count" ["host"];
    /// Incoming connections closed by an error.
    incoming_errored: IntCounterVec = "mod_global_distrib_incoming_errored_count" ["host"];
    /// Outgoing connections established.
    outgoing_established: IntCounterVec = "mod_global_distrib_outgoing_established_count" ["host"];
    /// Outgoing connections closed.
    outgoing_closed: IntCounterVec = "mod_global_distrib_outgoing_closed_count" ["host"];
    /// Outgoing connections closed by an error.
    outgoing_errored: IntCounterVec = "mod_global_distrib_outgoing_errored_count" ["host"];
    /// To find a session table entry, cached or not, in microseconds.
    mapping_fetch_time: Histogram = "mod_global_distrib_mapping_fetch_time_us";
    /// Session table look-ups, cached or not.
    mapping_fetches: IntCounter = "mod_global_distrib_mapping_fetches_count";
    /// Session table look-ups that asked the store.
    mapping_cache_misses: IntCounter = "mod_global_distrib_mapping_cache_misses_count";
    /// The ttl of stanzas that were routed locally (not because it was 0).
    delivered_with_ttl: Histogram = "mod_global_distrib_delivered_with_ttl_value";
    /// Stanzas handled locally because their ttl was 0.
    stop_ttl_zero: IntCounter = "mod_global_distrib_stop_ttl_zero_count";
    /// Stanzas set aside to be routed again.
    bounce_queue_size: IntGauge = "mod_global_distrib_bounce_queue_size";

    /// Stanzas taken in, by where they came from: component, link or own.
    taken: IntCounterVec = "strait_stanzas_taken_total" ["from"];
    /// Stanzas that the local server has accepted or will be handed again.
    reinjected: IntCounterVec = "strait_stanzas_reinjected_total" ["kind"];
    /// Stanzas given to the links of a host; a stanza to several hosts counts at each.
    forwarded: IntCounterVec = "strait_stanzas_forwarded_total" ["host"];
    /// Additional copies made of a stanza that goes to several hosts.
    copied: IntCounter = "strait_stanzas_copied_total";
    /// Copies of which the local server has another, errors about a copy of which
    /// another may have arrived, and presence: ends that were told already, and
    /// answers to probes of the gateway's own. They go no further.
    absorbed: IntCounterVec = "strait_stanzas_absorbed_total" ["what"];
    /// Stanzas to the shared domain itself, answered by this gateway.
    answered: IntCounter = "strait_stanzas_answered_total";
    /// Stanzas refused, by reason; each was sent back unless RFC 6120 forbids it.
    refused: IntCounterVec = "strait_stanzas_refused_total" ["reason"];
    /// Stanzas given back by a link or the component and routed anew.
    returned: IntCounterVec = "strait_stanzas_returned_total" ["from"];
    /// Stanzas held in the bounce queue.
    held: IntGauge = "strait_stanzas_held";
    /// Bytes held in the bounce queue.
    held_bytes: IntGauge = "strait_held_bytes";
    /// Whether the component stream of a domain is up.
    component_attached: IntGaugeVec = "strait_component_attached" ["domain"];
    /// Times that the component stream of a domain came up.
    component_attaches: IntCounterVec = "strait_component_attaches_total" ["domain"];
    /// Whether the server takes senders of other domains on the stream of a domain
    /// (`component.foreign_from`), as far as is known.
    component_foreign_from: IntGaugeVec = "strait_component_foreign_from" ["domain"];
    /// 1 while the server gives stanzas for the domain to others too, or to this
    /// stream what is not for it.
    component_misrouted: IntGaugeVec = "strait_component_stanzas_astray" ["domain"];
    /// Messages written again because the server died (`component.replay`), by the stream's domain.
    component_replayed: IntCounterVec = "strait_component_replayed_total" ["domain"];
    /// Failed attempts to attach, by domain and reason.
    component_attach_failures: IntCounterVec = "strait_component_attach_failures_total" ["domain", "reason"];
    /// Streams that were up and ended, by domain and reason.
    component_losses: IntCounterVec = "strait_component_losses_total" ["domain", "reason"];
    /// Stanzas for the server that it has not yet confirmed, written or not, by the stream's domain.
    component_unsettled: IntGaugeVec = "strait_component_unsettled_stanzas" ["domain"];
    /// Stanzas that came on the control component's stream, by what they were: answer, late,
    /// presence, privilege, refused or unused.
    control_stanzas: IntCounterVec = "strait_control_stanzas_total" ["what"];
    /// Lists of sessions that the server was asked for, by source and outcome: ok or failed.
    control_lists: IntCounterVec = "strait_control_lists_total" ["source", "outcome"];
    /// The Unix second after which the certificate in a file of `connections.tls` is not
    /// valid; of several certificates, the first to expire.
    certificate_not_after: IntGaugeVec = "strait_certificate_not_after_seconds" ["file"];
    /// Connections to a host that are up.
    links_up: IntGaugeVec = "strait_links_up" ["host"];
    /// Incoming or outgoing connections refused before any stanza, by reason.
    links_refused: IntCounterVec = "strait_links_refused_total" ["reason"];
    /// Stanzas that arrived over links a second time and were dropped.
    link_duplicates: IntCounterVec = "strait_link_duplicates_total" ["host"];
    /// Stanzas sent to a host that it has not yet acknowledged.
    link_unsettled: IntGaugeVec = "strait_link_unsettled_stanzas" ["host"];
    /// Sessions that are online here.
    sessions: IntGauge = "strait_sessions";
    /// Accounts found whose name belongs to another datacenter (`accounts = "unique"`).
    claims_refused: IntCounter = "strait_claims_refused_total";
    /// Presence records: the presence that a viewer has been sent across datacenters.
    presence_views: IntGauge = "strait_presence_views";
    /// Unavailable presence that the gateway itself sent, by cause: peer (the datacenter can't be
    /// reached), server (the local server is away), session, unanswered, missed.
    presence_withdrawn: IntCounterVec = "strait_presence_withdrawn_total" ["why"];
    /// Probes that the gateway sent in the names of users, by recipient: peer or server.
    presence_asked: IntCounterVec = "strait_presence_asked_total" ["whom"];
    /// Whether the session table's store answers.
    store_up: IntGauge = "strait_store_up";
    /// Failed store operations, by operation.
    store_errors: IntCounterVec = "strait_store_errors_total" ["operation"];
    /// Nodes of a host whose session table is replicated over a connection.
    mesh_links_up: IntGaugeVec = "strait_mesh_links_up" ["host"];
    /// JIDs that a node claims, as far as is known here.
    mesh_claims: IntGaugeVec = "strait_mesh_claims" ["host", "node"];
    /// A fingerprint of a node's session table as it is known here, 32 bits.
    /// Equal at all gateways when they are in step.
    mesh_fingerprint: IntGaugeVec = "strait_mesh_fingerprint" ["host", "node"];
    /// Entries of a host's session table that were not as the host has them and were
    /// put right: found when connecting or by its digest.
    mesh_repairs: IntCounterVec = "strait_mesh_repairs_total" ["host", "found"];
}

/// `strait_log_lines_dropped_total`, which the log's writer keeps.
struct LinesDropped {
    counter: IntCounter,
    writer: ErrorCounter,
}

impl Collector for LinesDropped {
    fn desc(&self) -> Vec<&Desc> {
        self.counter.desc()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let dropped = self.writer.dropped_lines() as u64;
        self.counter
            .inc_by(dropped.saturating_sub(self.counter.get()));
        self.counter.collect()
    }
}

impl Metrics {
    /// All at zero, with the lines that the log's writer drops.
    ///
    /// # Panics
    /// Like [`Self::new`].
    #[must_use]
    pub fn counting_dropped(writer: ErrorCounter) -> Self {
        const NAME: &str = "strait_log_lines_dropped_total";
        let help = "Lines of the log that were dropped because standard error was not read.";
        let metrics = Self::new();
        let counter = IntCounter::build(NAME, help, &[]);
        let dropped = Box::new(LinesDropped { counter, writer });
        metrics.registry.register(dropped).expect(NAME);
        metrics
    }

    /// Everything in Prometheus's text format.
    #[must_use]
    pub fn render(&self) -> String {
        let mut out = Vec::new();
        match TextEncoder::new().encode(&self.registry.gather(), &mut out) {
            Ok(()) => String::from_utf8_lossy(&out).into_owned(),
            Err(error) => format!("# could not be written: {error}\n"),
        }
    }

    /// Labelled series whose labels are known show from the start.
    fn start_at_zero(&self) {
        for reason in Reason::ALL {
            self.refused.with_label_values(&[reason.label()]);
        }
        for from in ["component", "link", "own"] {
            self.taken.with_label_values(&[from]);
        }
        for whom in ["peer", "server"] {
            self.presence_asked.with_label_values(&[whom]);
        }
        for what in ["copy", "error", "presence"] {
            self.absorbed.with_label_values(&[what]);
        }
        for from in ["component", "link"] {
            self.returned.with_label_values(&[from]);
        }
        for kind in [Kind::Message, Kind::Presence, Kind::Iq] {
            self.reinjected.with_label_values(&[kind.name()]);
        }
    }
}

/// The counters of routing; those whose labels are fixed are looked up once.
#[derive(Debug)]
pub struct RoutingCounters {
    pub(crate) all: Arc<Metrics>,
    pub(crate) taken_component: IntCounter,
    pub(crate) taken_link: IntCounter,
    pub(crate) taken_own: IntCounter,
    reinjected: [IntCounter; 3],
}

impl RoutingCounters {
    /// Those of `metrics`.
    #[must_use]
    pub fn new(metrics: &Arc<Metrics>) -> Self {
        let taken = |from| metrics.taken.with_label_values(&[from]);
        let kinds = [Kind::Message, Kind::Presence, Kind::Iq];
        Self {
            all: Arc::clone(metrics),
            taken_component: taken("component"),
            taken_link: taken("link"),
            taken_own: taken("own"),
            reinjected: kinds.map(|kind| metrics.reinjected.with_label_values(&[kind.name()])),
        }
    }

    pub(crate) fn reinjected(&self, kind: Kind) -> &IntCounter {
        match kind {
            Kind::Message => &self.reinjected[0],
            Kind::Presence => &self.reinjected[1],
            Kind::Iq => &self.reinjected[2],
        }
    }
}

/// One way to make each kind of metric.
trait Build: Collector + Clone {
    fn build(name: &str, help: &str, labels: &[&str]) -> Self;
}

/// How a histogram's buckets follow from its name.
fn histogram(name: &str, help: &str) -> HistogramOpts {
    let buckets = if name.ends_with("_us") {
        micros()
    } else {
        (0..=10).map(f64::from).collect()
    };
    HistogramOpts::new(name, help).buckets(buckets)
}

impl Build for IntCounter {
    fn build(name: &str, help: &str, _: &[&str]) -> Self {
        Self::new(name, help).expect(name)
    }
}

impl Build for IntGauge {
    fn build(name: &str, help: &str, _: &[&str]) -> Self {
        Self::new(name, help).expect(name)
    }
}

impl Build for IntCounterVec {
    fn build(name: &str, help: &str, labels: &[&str]) -> Self {
        Self::new(Opts::new(name, help), labels).expect(name)
    }
}

impl Build for IntGaugeVec {
    fn build(name: &str, help: &str, labels: &[&str]) -> Self {
        Self::new(Opts::new(name, help), labels).expect(name)
    }
}

impl Build for Histogram {
    fn build(name: &str, help: &str, _: &[&str]) -> Self {
        Self::with_opts(histogram(name, help)).expect(name)
    }
}

impl Build for HistogramVec {
    fn build(name: &str, help: &str, labels: &[&str]) -> Self {
        Self::new(histogram(name, help), labels).expect(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Dashboards and alerts depend on them: a line is added here, and none is changed
    /// without a note in the changelog.
    #[test]
    fn names_types_and_labels_are_those_that_dashboards_know() {
        let known = include_str!("../tests/fixtures/metrics.txt");
        let now = METRICS.iter().map(|(name, kind, labels)| {
            let kind = kind.trim_start_matches("Int").trim_end_matches("Vec");
            format!("{name} {} {}", kind.to_lowercase(), labels.join(","))
        });
        let now: Vec<_> = now.map(|line| line.trim_end().to_owned()).collect();
        assert_eq!(known.lines().collect::<Vec<_>>(), now);
    }

    #[test]
    fn names_are_unique_and_known_labels_start_at_zero() {
        let text = Metrics::new().render();
        assert!(
            text.contains("strait_stanzas_refused_total{reason=\"timeout\"} 0"),
            "{text}"
        );
        assert!(
            text.contains("mod_global_distrib_stop_ttl_zero_count 0"),
            "{text}"
        );
    }
}
