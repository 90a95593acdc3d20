//! A sender outside the shared domain is told why it may not pass.

use crate::support::backend::Backend;
use crate::support::cluster::{Cluster, SECRET};
use crate::support::xml::child;

crate::on_each_backend!(a_federated_sender_gets_not_allowed,);

async fn a_federated_sender_gets_not_allowed(backend: Backend) {
    let cluster = Cluster::on(backend).datacenter("dc1.test").start().await;
    let (server, gateway) = cluster.join_with_fake_server("dc2.test", "").await;
    let stream = server.attach(SECRET).await;
    gateway.until_ready().await;
    let _bob = cluster.login("bob", "dc1.test", "b1").await;
    cluster
        .until_claimed("bob@example.test", Some("dc1.test"))
        .await;

    stream.send(
        "<message from='eve@elsewhere.test/e' to='bob@example.test' id='f'><body>x</body></message>",
    );
    let error = stream
        .until("an error", |s| s.attr("id") == Some("f"))
        .await;
    assert_eq!(error.attr("to"), Some("eve@elsewhere.test/e"), "{error:?}");
    assert_eq!(error.attr("from"), Some("bob@example.test"), "{error:?}");
    let error = child(&error, "error").expect("an error");
    assert!(child(error, "not-allowed").is_some(), "{error:?}");
    cluster.assert_balanced().await;
    gateway.assert_balanced().await;
}
