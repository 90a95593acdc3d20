//! Third-party clients log in, over TLS, and chat between datacenters.

use crate::support::backend::Backend;
use crate::support::certs::Authority;
use crate::support::cluster::Cluster;
use crate::support::real_clients::{GoSendXmpp, Slixmpp};
use crate::support::workdir::Workdir;

crate::on_mesh!(slixmpp_here_and_there, go_sendxmpp_talks_with_slixmpp,);

const ALICE: &str = "alice@example.test";
const BOB: &str = "bob@example.test";

/// Two datacenters whose servers show certificates of `authority`.
async fn start(backend: Backend, authority: &Authority) -> Cluster {
    let (first, second) = (authority.issue("dc1.test"), authority.issue("dc2.test"));
    Cluster::on(backend)
        .datacenter("dc1.test")
        .its_prosody(move |prosody| prosody.tls(&first))
        .datacenter("dc2.test")
        .its_prosody(move |prosody| prosody.tls(&second))
        .start()
        .await
}

async fn slixmpp_here_and_there(backend: Backend) {
    let workdir = Workdir::new("slixmpp");
    let authority = Authority::new(&workdir.file("certs"), "clients");
    let ca = authority.cacertfile();
    let cluster = start(backend, &authority).await;
    let (dc1, dc2) = (cluster.dc("dc1.test"), cluster.dc("dc2.test"));
    let alice = Slixmpp::login(dc1.server.prosody(), "alice", "a1", &ca, &workdir);
    let bob = Slixmpp::login(dc2.server.prosody(), "bob", "b1", &ca, &workdir);
    let (mut alice, mut bob) = tokio::join!(alice, bob);
    cluster.until_claimed(BOB, Some("dc2.test")).await;

    let id = alice.say(BOB, "hello <&> \"Bob\" 😀").await;
    bob.hear(ALICE, "hello <&> \"Bob\" 😀").await;
    alice.receipt(BOB, &id).await;
    let id = bob.say(ALICE, "hello Alice").await;
    alice.hear(BOB, "hello Alice").await;
    bob.receipt(ALICE, &id).await;

    alice.befriend(BOB).await;
    bob.see(ALICE, "").await;
    alice.show("dnd").await;
    bob.see(ALICE, "dnd").await;
    bob.ping("alice@example.test/a1").await;
    let received = [alice.received().await, bob.received().await];
    bob.logout().await;
    alice.see_leave(BOB).await;
    alice.logout().await;

    assert!(received[0].contains("hello Alice"), "{}", received[0]);
    assert!(!received[0].contains("dc2.test"), "{}", received[0]);
    assert!(!received[1].contains("dc1.test"), "{}", received[1]);
    cluster.assert_balanced().await;
}

async fn go_sendxmpp_talks_with_slixmpp(backend: Backend) {
    let workdir = Workdir::new("go-sendxmpp");
    let authority = Authority::new(&workdir.file("certs"), "clients");
    let ca = authority.cacertfile();
    let cluster = start(backend, &authority).await;
    let (dc1, dc2) = (cluster.dc("dc1.test"), cluster.dc("dc2.test"));
    let mut alice = Slixmpp::login(dc1.server.prosody(), "alice", "a1", &ca, &workdir).await;
    let account = GoSendXmpp::new(dc2.server.prosody(), "bob", &ca, &workdir);
    let mut bob = account.listen();
    cluster.until_claimed(BOB, Some("dc2.test")).await;

    alice.say(BOB, "Is anybody there?").await;
    bob.hear(ALICE, "Is anybody there?").await;
    account.send(ALICE, "Only a program.").await;
    alice.hear(BOB, "Only a program.").await;

    alice.logout().await;
    cluster.assert_balanced().await;
}
