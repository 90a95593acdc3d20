//! Every metric of mod_global_distrib's documentation changes, with its unit and its per-host
//! label, and strait's own metrics pass Prometheus's linter.

use std::process::Stdio;

use tokio::io::AsyncWriteExt;
use tokio::process::Command;

use crate::support::backend::Backend;
use crate::support::cluster::SECRET;
use crate::support::flood::{Flood, Side};
use crate::support::xml::body;

// On a backend with a cache, for stale entries and misses.
crate::on_redis!(instrumentation_events_on_one_host);

crate::on_mesh!(
    our_own_metrics_pass_the_linter,
    one_id_leads_through_the_logs_of_both_gateways,
);

/// Name, type, and whether the documentation has "per host".
const DOCUMENTED: [(&str, &str, bool); 18] = [
    ("outgoing_messages_count", "counter", true),
    ("incoming_messages_count", "counter", true),
    ("incoming_transfer_time_us", "histogram", true),
    ("outgoing_queue_time_us", "histogram", true),
    ("incoming_queue_time_us", "histogram", false),
    ("incoming_established_count", "counter", false),
    ("incoming_first_packet_count", "counter", true),
    ("incoming_closed_count", "counter", true),
    ("incoming_errored_count", "counter", true),
    ("outgoing_established_count", "counter", true),
    ("outgoing_closed_count", "counter", true),
    ("outgoing_errored_count", "counter", true),
    ("mapping_fetch_time_us", "histogram", false),
    ("mapping_fetches_count", "counter", false),
    ("mapping_cache_misses_count", "counter", false),
    ("delivered_with_ttl_value", "histogram", false),
    ("stop_ttl_zero_count", "counter", false),
    ("bounce_queue_size", "gauge", false),
];

/// The series of `metric` that is compared, in Prometheus's text format.
fn series(metric: &str, kind: &str, per_host: bool) -> String {
    let suffix = if kind == "histogram" { "_count" } else { "" };
    let labels = if per_host { "{host=" } else { " " };
    format!("mod_global_distrib_{metric}{suffix}{labels}")
}

fn value(text: &str, series: &str) -> f64 {
    let lines = text.lines().filter(|line| line.starts_with(series));
    let values = lines.filter_map(|line| line.rsplit(' ').next());
    values.filter_map(|value| value.parse::<f64>().ok()).sum()
}

async fn instrumentation_events_on_one_host(backend: Backend) {
    let mut flood = Flood::start_on(
        backend,
        "message_ttl = 1\nbounce.resend_after_ms = 3600000\n",
    )
    .await;
    // Stanzas in both directions, so that both ends of a link count at one gateway.
    flood.near.online(&flood.cluster, "alice").await;
    flood.near.say("alice", "bob", "hello");
    assert_eq!(body(&flood.far.hear().await).as_deref(), Some("hello"));
    flood.far.say("bob", "alice", "hello yourself");
    assert_eq!(
        body(&flood.near.hear().await).as_deref(),
        Some("hello yourself")
    );
    // A stanza to a recipient without a known host.
    flood.near.say("alice", "nobody", "held");
    let held = "mod_global_distrib_bounce_queue_size";
    flood
        .near
        .gateway
        .until_metric(held, &[], |n| n == 1.0)
        .await;
    // A stanza with TTL 0 for a user on another host.
    let third = Side::start(&flood.cluster, "dc3.test", "").await;
    third.online(&flood.cluster, "carol").await;
    flood.far.gateway.until_linked("dc3.test").await;
    flood.far.say("bob", "carol", "so that dc2 knows her host");
    third.hear().await;
    let gone = "<presence type='unavailable' from='carol@dc3.test/r' to='example.test'/>";
    third.stream.send(gone);
    flood
        .cluster
        .until_claimed("carol@example.test", None)
        .await;
    flood.near.online(&flood.cluster, "carol").await;
    // The far side still has her at dc3 in its cache, for a moment; dc3 forwards the stanza,
    // which stops where its TTL ends.
    flood.far.say("bob", "carol", "where are you");
    third
        .gateway
        .until_metric("mod_global_distrib_stop_ttl_zero_count", &[], |n| n == 1.0)
        .await;
    let stopped = third.gateway.get("/metrics").await.expect("metrics").1;
    // Links break, and links are closed.
    flood.far.gateway.process.kill9().await;
    let to_far = [("host", "dc2.test")];
    let gateway = &flood.near.gateway;
    for name in ["outgoing_errored_count", "incoming_errored_count"] {
        let name = format!("mod_global_distrib_{name}");
        gateway.until_metric(&name, &to_far, |n| n >= 1.0).await;
    }
    flood.far.gateway.process.launch();
    flood.far.server.attach(SECRET).await;
    flood.far.gateway.until_ready().await;

    let text = gateway.get("/metrics").await.expect("metrics").1;
    for (metric, kind, per_host) in DOCUMENTED {
        let kind_line = format!("# TYPE mod_global_distrib_{metric} {kind}");
        assert!(text.contains(&kind_line), "{kind_line} is not in {text}");
        let series = series(metric, kind, per_host);
        let source = if metric == "stop_ttl_zero_count" {
            &stopped
        } else {
            &text
        };
        assert!(
            value(source, &series) >= 1.0,
            "{series} has not moved: {source}"
        );
    }
    let documented = DOCUMENTED.map(|(metric, ..)| format!("mod_global_distrib_{metric}"));
    for line in text
        .lines()
        .filter(|line| line.starts_with("# TYPE mod_global"))
    {
        let name = line.split(' ').nth(2).unwrap_or_default();
        assert!(
            documented.iter().any(|known| known == name),
            "{name} is not documented"
        );
    }
}

async fn our_own_metrics_pass_the_linter(backend: Backend) {
    let flood = Flood::start_on(backend, "").await;
    flood.near.say("alice", "bob", "hello");
    flood.far.hear().await;
    let text = flood.near.gateway.get("/metrics").await.expect("metrics").1;
    let mut linter = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("promtool, of Debian's prometheus");
    let mut input = linter.stdin.take().expect("piped");
    input.write_all(text.as_bytes()).await.expect("it reads");
    drop(input);
    let output = linter.wait_with_output().await.expect("it ends");
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    // The linter has read the metrics: it objects only to the names that mod_global_distrib
    // prescribes.
    assert!(said.contains("mod_global_distrib_"), "{said}");
    let ours: Vec<_> = said
        .lines()
        .filter(|line| line.contains("strait_"))
        .collect();
    assert!(ours.is_empty(), "{ours:?}");
}

async fn one_id_leads_through_the_logs_of_both_gateways(backend: Backend) {
    let flood = Flood::start_on(backend, "").await;
    flood.near.say("alice", "bob", "hello");
    flood.far.hear().await;
    flood.near.gateway.until_logged("to=bob@example.test").await;
    let log = flood.near.gateway.log();
    let line = log
        .lines()
        .find(|line| line.contains("to=bob@example.test"));
    let id = line
        .and_then(|line| line.split("id=").nth(1))
        .and_then(|rest| rest.split(' ').next())
        .expect("an id");
    assert_eq!(id.len(), 16, "{id}");
    flood.far.gateway.until_logged(&format!("id={id}")).await;
}
