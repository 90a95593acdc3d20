//! Senders of another domain, from a second server that federates over s2s.

use crate::support::backend::Backend;
use crate::support::client::Client;
use crate::support::cluster::{Cluster, GLOBAL, PASSWORD, SECRET};
use crate::support::pair::Pair;
use crate::support::port::Port;
use crate::support::prosody::Prosody;
use crate::support::server::Kind;
use crate::support::xml::child;

crate::on_mesh!(
    a_federated_sender_reaches_users_in_every_datacenter_and_gets_replies,
    with_it_off_a_federated_sender_is_told_so,
    a_server_that_checks_senders_is_found_out_and_harms_nobody,
    a_peer_cannot_speak_for_the_servers_own_domains,
);

crate::on_two_ejabberds!(a_server_that_checks_senders_is_found_out_and_harms_nobody,);

const ON: &str = "component.foreign_from = true";
/// Overrides the snippet's value.
const CHECKS: &str = "validate_from_addresses = true";

/// dc1 and dc2 of the shared domain, with DNS for dc1, and eve's own server.
struct World {
    cluster: Cluster,
    elsewhere: Prosody,
    _ports: [Port; 3],
}

impl World {
    async fn start(backend: Backend, config: &str, checks: bool) -> Self {
        let ports = [Port::take(), Port::take(), Port::take()];
        let [dc1, dc2, other] = [ports[0].number(), ports[1].number(), ports[2].number()];
        let mut builder = Cluster::on(backend);
        for (host, port) in [("dc1.test", dc1), ("dc2.test", dc2)] {
            builder = builder.datacenter(host).its_prosody(move |prosody| {
                let prosody = prosody.federated(port, &[("elsewhere.test", other)]);
                if checks {
                    prosody.component_options(GLOBAL, CHECKS)
                } else {
                    prosody
                }
            });
        }
        let cluster = builder.config(config).start().await;
        let names = [(GLOBAL, dc1), ("dc1.test", dc1), ("dc2.test", dc2)];
        let elsewhere = Prosody::builder("elsewhere.test")
            .user("eve", PASSWORD)
            .federated(other, &names)
            .start(cluster.workdir())
            .await;
        Self {
            cluster,
            elsewhere,
            _ports: ports,
        }
    }
}

async fn a_federated_sender_reaches_users_in_every_datacenter_and_gets_replies(backend: Backend) {
    let world = World::start(backend, ON, false).await;
    let cluster = &world.cluster;
    for host in ["dc1.test", "dc2.test"] {
        let gateway = &cluster.dc(host).gateway;
        let domain = [("domain", GLOBAL)];
        gateway
            .until_metric("strait_component_foreign_from", &domain, |on| on == 1.0)
            .await;
    }
    let eve = Client::login(&world.elsewhere, "eve", "e").await;
    for (user, host) in [("alice", "dc1.test"), ("bob", "dc2.test")] {
        let client = cluster.login(user, host, "r").await;
        let name = format!("{user}@example.test");
        cluster.until_claimed(&name, Some(host)).await;
        eve.chat(&name, "hello from outside").await;
        let message = client
            .expect_chat("eve@elsewhere.test", "hello from outside")
            .await;
        assert_eq!(message.attr("from"), Some("eve@elsewhere.test/e"));
        // The user's own server sends the reply, under its own name.
        client.chat("eve@elsewhere.test/e", "hello yourself").await;
        let local = format!("{user}@{host}");
        eve.expect_chat(&local, "hello yourself").await;
    }
    cluster.assert_balanced().await;
}

async fn with_it_off_a_federated_sender_is_told_so(backend: Backend) {
    let world = World::start(backend, "component.foreign_from = false", true).await;
    let cluster = &world.cluster;
    let eve = Client::login(&world.elsewhere, "eve", "e").await;
    for (user, host) in [("alice", "dc1.test"), ("bob", "dc2.test")] {
        let _client = cluster.login(user, host, "r").await;
        let name = format!("{user}@example.test");
        cluster.until_claimed(&name, Some(host)).await;
        let id = eve.chat(&name, "hello from outside").await;
        let error = eve
            .until("an error", |stanza| stanza.attr("id") == Some(&id))
            .await;
        assert_eq!(error.attr("from"), Some(name.as_str()), "{error:?}");
        let error = child(&error, "error").expect("an error");
        assert!(child(error, "not-allowed").is_some(), "{error:?}");
        let text = child(error, "text").expect("a text").text();
        assert!(text.contains("component.foreign_from"), "{text}");
        let refused = [("reason", "foreign_sender")];
        let gateway = &cluster.dc(host).gateway;
        gateway
            .until_metric("strait_stanzas_refused_total", &refused, |n| n >= 1.0)
            .await;
    }
    cluster.assert_balanced().await;
}

async fn a_server_that_checks_senders_is_found_out_and_harms_nobody(pair: impl Into<Pair>) {
    let pair = pair.into();
    let cluster = Cluster::on(pair.backend)
        .datacenter("dc1.test")
        .its_server(pair.kinds[0]);
    let (cluster, setting) = if pair.kinds[0] == Kind::Ejabberd {
        let (right, wrong) = ("check_from: false", "check_from: true");
        let cluster = cluster.its_ejabberd(|ejabberd| ejabberd.mistaken(right, wrong));
        (cluster, "`check_from: false`")
    } else {
        let cluster = cluster.its_prosody(|prosody| prosody.component_options(GLOBAL, CHECKS));
        (cluster, "`validate_from_addresses = false`")
    };
    let cluster = cluster.config(ON).start().await;
    let gateway = &cluster.dc("dc1.test").gateway;
    gateway.until_logged(setting).await;
    let (server, other) = cluster.join_with_fake_server("dc2.test", "").await;
    let stream = server.attach(SECRET).await;
    other.until_ready().await;
    cluster.until_linked("dc1.test", "dc2.test").await;
    gateway.until_ready().await;
    let bob = cluster.login("bob", "dc1.test", "b").await;
    cluster
        .until_claimed("bob@example.test", Some("dc1.test"))
        .await;
    let attaches = [("domain", GLOBAL)];
    let attaches = || gateway.metric("strait_component_attaches_total", &attaches);
    let before = attaches().await;
    stream.send(
        "<message from='eve@elsewhere.test/e' to='bob@example.test' id='f'><body>x</body></message>",
    );
    let error = stream
        .until("an error", |stanza| stanza.attr("id") == Some("f"))
        .await;
    let error = child(&error, "error").expect("an error");
    assert!(child(error, "not-allowed").is_some(), "{error:?}");
    // The stream continues, and carries permitted stanzas.
    stream.send(
        "<message from='alice@dc2.test/a' to='bob@example.test' type='chat'><body>hi</body></message>",
    );
    bob.expect_chat("alice@example.test", "hi").await;
    assert_eq!(attaches().await, before);
    cluster.assert_balanced().await;
    other.assert_balanced().await;
}

async fn a_peer_cannot_speak_for_the_servers_own_domains(backend: Backend) {
    let cluster = Cluster::on(backend)
        .datacenter("dc1.test")
        .config(ON)
        .start()
        .await;
    let (server, other) = cluster.join_with_fake_server("dc2.test", ON).await;
    let stream = server.attach(SECRET).await;
    other.until_ready().await;
    cluster.until_linked("dc1.test", "dc2.test").await;
    let _bob = cluster.login("bob", "dc1.test", "b").await;
    cluster
        .until_claimed("bob@example.test", Some("dc1.test"))
        .await;
    for (id, from) in [("1", "gwctl.dc1.test"), ("2", "admin@pubsub.dc1.test/x")] {
        stream.send(&format!(
            "<message from='{from}' to='bob@example.test' id='{id}'><body>x</body></message>"
        ));
        let error = stream
            .until("an error", |stanza| stanza.attr("id") == Some(id))
            .await;
        let error = child(&error, "error").expect("an error");
        assert!(child(error, "not-allowed").is_some(), "{from}: {error:?}");
    }
    // An error to the domain itself would go to any entity with that address.
    stream.send(
        "<message from='admin@dc1.test/x' to='bob@example.test' id='3'><body>x</body></message>",
    );
    let refused = [("reason", "foreign_sender")];
    let gateway = &cluster.dc("dc1.test").gateway;
    gateway
        .until_metric("strait_stanzas_refused_total", &refused, |n| n >= 3.0)
        .await;
    cluster.assert_balanced().await;
}
