//! The sender of a stanza to an unknown recipient receives an error.

use crate::support::backend::Backend;
use crate::support::cluster::Cluster;
use crate::support::xml::child;

crate::on_mesh!(a_message_to_a_nonexistent_user_comes_back,);

async fn a_message_to_a_nonexistent_user_comes_back(backend: Backend) {
    let cluster = Cluster::of(backend).start().await;
    let alice = cluster.login("alice", "dc1.test", "r1").await;

    let id = alice.chat("nobody@example.test", "is there anybody").await;
    let error = alice
        .until("the error", |s| {
            s.name() == "message" && s.attr("type") == Some("error")
        })
        .await;
    assert_eq!(error.attr("from"), Some("nobody@example.test"), "{error:?}");
    assert_eq!(error.attr("id"), Some(id.as_str()));
    let condition = child(&error, "error").expect("an error");
    assert!(
        child(condition, "service-unavailable").is_some(),
        "{error:?}"
    );

    let answer = alice
        .iq(
            Some("nobody@example.test/x"),
            "get",
            "<ping xmlns='urn:xmpp:ping'/>",
        )
        .await;
    assert_eq!(answer.attr("type"), Some("error"), "{answer:?}");

    cluster.assert_no_leaks();
    cluster.assert_balanced().await;
}
