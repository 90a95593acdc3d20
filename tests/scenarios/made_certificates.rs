//! Gateways with the certificates from `strait certs`.

use tokio::process::Command;

use crate::support::backend::Backend;
use crate::support::cluster::Cluster;
use crate::support::gateway::binary;

#[tokio::test(flavor = "multi_thread")]
async fn gateways_link_with_what_strait_certs_makes() {
    let mut cluster = Cluster::of(Backend::Mesh).prepare().await;
    let directory = cluster.workdir().file("made");
    // The second one is added later.
    for host in ["dc1.test", "dc2.test"] {
        let mut certs = Command::new(binary());
        let certs = certs.arg("certs").arg(&directory).arg(host).output().await;
        let certs = certs.expect("the program");
        assert!(certs.status.success(), "{certs:?}");
        let file = |name: String| format!("'{}'", directory.join(name).display());
        cluster.dc(host).gateway.reconfigure(&format!(
            "[connections.tls]\ncertfile = {}\nkeyfile = {}\ncacertfile = {}\n",
            file(format!("{host}.pem")),
            file(format!("{host}.key")),
            file("ca.pem".to_owned())
        ));
    }
    cluster.launch_gateways();
    cluster.until_ready().await;
    let alice = cluster.login("alice", "dc1.test", "r1").await;
    let bob = cluster.login("bob", "dc2.test", "b1").await;
    alice.chat("bob@example.test", "over a link").await;
    bob.expect_chat("alice@example.test", "over a link").await;
    cluster.assert_no_secrets_logged();
    cluster.assert_balanced().await;
}
