//! A bad stanza from the server never ends the stream.

use crate::support::backend::Backend;
use crate::support::cluster::{Cluster, SECRET};
use crate::support::xml::child;

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
