//! A sender outside the shared domain receives an error with the reason.

use crate::support::backend::Backend;
use crate::support::cluster::{Cluster, GLOBAL, SECRET};
use crate::support::server::Kind;
use crate::support::xml::child;

crate::on_mesh!(a_federated_sender_gets_not_allowed,);
crate::on_each_server!(a_native_service_reaches_users_in_another_datacenter,);

/// A component of the server itself, without an address under the shared domain.
async fn a_native_service_reaches_users_in_another_datacenter(kind: Kind) {
    const NEWS: &str = "news.dc1.test";
    let cluster = Cluster::on(Backend::Mesh)
        .datacenter("dc1.test")
        .its_server(kind)
        .its(|server| server.component(NEWS, SECRET))
        .datacenter("dc2.test")
        .its_server(kind)
        .config("component.foreign_from = true")
        .start()
        .await;
    for dc in cluster.datacenters() {
        let passes = "strait_component_foreign_from";
        let domain = [("domain", GLOBAL)];
        dc.gateway
            .until_metric(passes, &domain, |on| on == 1.0)
            .await;
    }
    let bob = cluster.login("bob", "dc2.test", "b1").await;
    let bare = "bob@example.test";
    cluster.until_claimed(bare, Some("dc2.test")).await;
    let news = cluster.component(NEWS, "dc1.test").await;
    news.say(bare, "extra, extra").await;
    bob.expect_chat(NEWS, "extra, extra").await;
    cluster.assert_balanced().await;
}

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
