//! A bad stanza from the server never ends the stream.

use std::os::fd::OwnedFd;

use crate::support::backend::Backend;
use crate::support::cluster::{Cluster, SECRET};
use crate::support::xml::{body, child};

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_stanza_is_refused_and_the_next_one_passes() {
    let cluster = Cluster::on(Backend::Mesh)
        .datacenter("dc1.test")
        .start()
        .await;
    let bob = cluster.login("bob", "dc1.test", "b1").await;
    let (server, gateway) = cluster.join_with_fake_server("dc2.test", "").await;
    let stream = server.attach(SECRET).await;
    gateway.until_ready().await;

    let bad = [
        ("comment", "<body>x<!-- y --></body>"),
        ("prefix", "<p:body>x</p:body>"),
        ("reference", "<body>&#1;</body>"),
        ("instruction", "<body><?php x ?></body>"),
    ];
    for (id, payload) in bad {
        stream.send(&format!(
            "<message from='mallory@dc2.test/m' to='bob@example.test' id='{id}'>{payload}</message>"
        ));
        let error = stream
            .until("an error", |s| {
                s.attr("id") == Some(id) && s.attr("type") == Some("error")
            })
            .await;
        assert_eq!(error.attr("to"), Some("mallory@dc2.test/m"), "{error:?}");
        let error = child(&error, "error").expect("an error");
        assert!(child(error, "bad-request").is_some(), "{error:?}");
    }
    let huge = "x".repeat(600_000);
    stream.send(&format!(
        "<message from='mallory@dc2.test/m' to='bob@example.test' id='huge'><body>{huge}</body></message>"
    ));
    stream
        .until("policy-violation", |s| {
            s.attr("id") == Some("huge")
                && child(s, "error").is_some_and(|e| child(e, "policy-violation").is_some())
        })
        .await;

    stream
        .send("<message from='carol@dc2.test/c' to='bob@example.test'><body>fine</body></message>");
    bob.expect_chat("carol@example.test", "fine").await;
    assert_eq!(
        gateway.metric("strait_component_attaches_total", &[]).await,
        1.0
    );
    assert_eq!(
        gateway
            .metric("strait_stanzas_refused_total", &[("reason", "malformed")])
            .await,
        4.0
    );
    assert_eq!(
        gateway
            .metric("strait_stanzas_refused_total", &[("reason", "too_large")])
            .await,
        1.0
    );
    gateway.assert_balanced().await;
    cluster.assert_balanced().await;
}

/// Stanzas that a reader of the log learns nothing new from.
const FLOOD: usize = 3000;

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_bad_stanzas_is_one_line_in_the_log() {
    let cluster = Cluster::on(Backend::Mesh)
        .datacenter("dc1.test")
        .start()
        .await;
    let (server, gateway) = cluster.join_with_fake_server("dc2.test", "").await;
    let stream = server.attach(SECRET).await;
    gateway.until_ready().await;
    for n in 0..FLOOD {
        stream.send(&format!("<message from='m{n}@dc2.test' to='@@{n}'/>"));
    }
    let refused = "strait_stanzas_refused_total";
    let reason = [("reason", "bad_address")];
    gateway
        .until_metric(refused, &reason, |count| count == FLOOD as f64)
        .await;
    let lines = gateway.times_logged("a stanza from the server was refused");
    // A slow run may see the next minute begin.
    assert!((1..=2).contains(&lines), "{lines}");
    gateway.assert_balanced().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_nobody_reads_holds_no_stanza_up() {
    let cluster = Cluster::on(Backend::Mesh)
        .datacenter("dc1.test")
        .start()
        .await;
    let alice = cluster.login("alice", "dc1.test", "r").await;
    let config = "log.level = \"debug\"";
    let (server, mut gateway) = cluster.join_with_fake_server("dc2.test", config).await;
    gateway.process.kill9().await;
    let (_unread, log) = std::io::pipe().expect("a pipe");
    gateway.process.launch_into(OwnedFd::from(log).into());
    let stream = server.attach(SECRET).await;
    gateway.until_ready().await;
    // Each of them is a line at this level, more than fit into the pipe and the buffer.
    for _ in 0..3 * FLOOD {
        stream.send("<message from='bob@dc2.test/b1'><body>to nobody</body></message>");
    }
    let dropped = "strait_log_lines_dropped_total";
    gateway
        .until_metric(dropped, &[], |lines| lines > 0.0)
        .await;
    stream.send("<presence from='bob@dc2.test/b1' to='example.test'/>");
    cluster
        .until_claimed("bob@example.test", Some("dc2.test"))
        .await;
    alice.chat("bob@example.test", "still there").await;
    stream
        .until("the message", |s| body(s).as_deref() == Some("still there"))
        .await;
    gateway.assert_balanced().await;
}
