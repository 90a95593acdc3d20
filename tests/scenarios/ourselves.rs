//! The shared domain itself answers queries.

use crate::support::backend::Backend;
use crate::support::cluster::Cluster;
use crate::support::xml::child;

#[tokio::test(flavor = "multi_thread")]
async fn the_shared_domain_answers_whatever_it_is_asked() {
    let cluster = Cluster::on(Backend::Mesh)
        .datacenter("dc1.test")
        .start()
        .await;
    let alice = cluster.login("alice", "dc1.test", "r1").await;
    let ask = async |payload: &str| alice.iq(Some("example.test"), "get", payload).await;

    let info = ask("<query xmlns='http://jabber.org/protocol/disco#info'/>").await;
    let query = child(&info, "query").unwrap_or_else(|| panic!("{info:?}"));
    let features: Vec<_> = query.children().filter_map(|c| c.attr("var")).collect();
    assert!(features.contains(&"urn:xmpp:ping"), "{features:?}");

    let items = ask("<query xmlns='http://jabber.org/protocol/disco#items'/>").await;
    assert_eq!(items.attr("type"), Some("result"), "{items:?}");
    let ping = ask("<ping xmlns='urn:xmpp:ping'/>").await;
    assert_eq!(ping.attr("type"), Some("result"), "{ping:?}");
    let version = ask("<query xmlns='jabber:iq:version'/>").await;
    let name = child(&version, "query")
        .and_then(|q| child(q, "name"))
        .map(|n| n.text());
    assert_eq!(name.as_deref(), Some("strait"), "{version:?}");

    let unknown = ask("<query xmlns='urn:unheard-of'/>").await;
    let error = child(&unknown, "error").unwrap_or_else(|| panic!("{unknown:?}"));
    assert!(child(error, "service-unavailable").is_some(), "{unknown:?}");

    alice.chat("example.test", "anybody?").await;
    alice
        .until("an error", |s| {
            s.name() == "message" && s.attr("type") == Some("error")
        })
        .await;
    cluster.assert_balanced().await;
}
