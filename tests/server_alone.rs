//! The harness itself: real servers and clients, and nothing of them is left.

mod support;

use std::net::{TcpListener, TcpStream};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::process::Stdio;

use futures::FutureExt;
use support::certs::Authority;
use support::client::{Client, befriend};
use support::cluster::Cluster;
use support::fake_server::FakeServer;
use support::gateway::binary;
use support::metrics::Metrics;
use support::patience::until;
use support::port::Port;
use support::process::Process;
use support::redis_server::Redis;
use support::server::{Kind, Server};
use support::workdir::Workdir;
use support::xml::body;

const ALICE: &str = "alice@dc1.test";
const BOB: &str = "bob@dc1.test";

on_each_server!(
    users_of_one_server_chat_and_nothing_is_left_running,
    a_server_keeps_port_and_data_through_a_restart,
    a_watched_users_presence_goes_to_the_watcher,
);

async fn server(kind: Kind, workdir: &Workdir) -> Server {
    kind.builder("dc1.test")
        .user("alice", "a")
        .user("bob", "b")
        .component("example.test", "secret")
        .start(workdir)
        .await
}

fn runs(pid: u32) -> bool {
    Path::new(&format!("/proc/{pid}")).exists()
}

async fn users_of_one_server_chat_and_nothing_is_left_running(kind: Kind) {
    let workdir = Workdir::new("alone");
    let (server, redis) = tokio::join!(server(kind, &workdir), Redis::start(&workdir));
    let pids = [server.process(), &redis.process].map(|process| process.pid().expect("running"));
    redis.set("greeting", "hello").await;
    assert_eq!(redis.keys().await, ["greeting"]);
    assert_eq!(redis.ttl("greeting").await, -1);

    let alice = Client::login(&server, "alice", "r1").await;
    let bob = Client::login(&server, "bob", "r1").await;
    assert_eq!(alice.jid(), "alice@dc1.test/r1");
    befriend(&alice, ALICE, &bob, BOB).await;

    let id = alice.chat(BOB, "is <this> the right & only way?").await;
    let message = bob.expect_message_from(ALICE).await;
    assert_eq!(body(&message).unwrap(), "is <this> the right & only way?");
    bob.acknowledge(&message).await;
    alice.expect_receipt(BOB, &id).await;

    bob.kill().await;
    alice.expect_presence(BOB, Some("unavailable")).await;
    alice.close().await;

    let directory = workdir.path().to_owned();
    drop((server, redis, workdir));
    assert_eq!(pids.map(runs), [false, false]);
    assert!(!directory.exists());
}

async fn a_server_keeps_port_and_data_through_a_restart(kind: Kind) {
    let workdir = Workdir::new("restart");
    let mut server = server(kind, &workdir).await;
    let (address, pid) = (server.c2s(), server.process().pid());
    let alice = Client::login(&server, "alice", "r1").await;
    alice.chat(BOB, "for later").await;
    alice.sync().await;

    server.restart().await;
    alice.inbox().closed().await;
    assert_eq!(server.c2s(), address);
    assert_ne!(server.process().pid(), pid);
    let bob = Client::login(&server, "bob", "r1").await;
    bob.expect_chat(ALICE, "for later").await;

    server.kill9().await;
    bob.inbox().closed().await;
    assert!(!server.is_running());
}

async fn a_watched_users_presence_goes_to_the_watcher(kind: Kind) {
    let workdir = Workdir::new("watched");
    let server = kind
        .builder("dc1.test")
        .user("alice", "a")
        .watched_by("bob@dc1.test")
        .user("bob", "b")
        .start(&workdir)
        .await;
    let bob = Client::login(&server, "bob", "r1").await;
    let alice = Client::login(&server, "alice", "r1").await;
    bob.expect_presence("alice@dc1.test/r1", None).await;
    alice.kill().await;
    bob.expect_presence("alice@dc1.test/r1", Some("unavailable"))
        .await;
}

#[tokio::test]
async fn a_prepared_cluster_serves_its_users_and_has_configured_gateways() {
    let cluster = Cluster::builder()
        .datacenter("dc1.test")
        .its_config("bounce.max_retries = 1")
        .datacenter("dc2.test")
        .config("[bounce]\nresend_after_ms = 5")
        .prepare()
        .await;
    let alice = cluster.login("alice", "dc1.test", "r1").await;
    let bob = cluster
        .login_without_presence("bob", "dc2.test", "r1")
        .await;
    let answer = alice.iq(Some("nobody@dc1.test"), "get", "<x xmlns='y'/>");
    assert_eq!(answer.await.attr("type"), Some("error"));
    bob.sync().await;
    cluster.assert_no_leaks();

    let config = |host| std::fs::read_to_string(cluster.dc(host).gateway.config()).unwrap();
    let config: toml::Table = config("dc1.test").parse().unwrap();
    assert_eq!(config["local_host"].as_str(), Some("dc1.test"));
    assert_eq!(config["bounce"]["max_retries"].as_integer(), Some(1));
    assert_eq!(config["bounce"]["resend_after_ms"].as_integer(), Some(5));
    let url = config["redis"]["url"].as_str();
    assert_eq!(url, Some(cluster.redis.url().as_str()));
}

#[tokio::test]
async fn a_leaked_local_address_fails() {
    let cluster = Cluster::builder()
        .datacenter("dc1.test")
        .datacenter("dc2.test")
        .prepare()
        .await;
    let alice = cluster.login("alice", "dc1.test", "r1").await;
    alice.chat(ALICE, "who is bob@dc2.test?").await;
    alice.expect_message_from(ALICE).await;
    let checked = catch_unwind(AssertUnwindSafe(|| cluster.assert_no_leaks()));
    let panic = checked.expect_err("a leak").downcast::<String>().unwrap();
    assert!(
        panic.starts_with("alice@dc1.test/r1 saw <message"),
        "{panic}"
    );
}

#[tokio::test]
#[should_panic(expected = "waited")]
async fn waiting_in_vain_fails() {
    tokio::time::pause();
    until("what never happens", async || {
        Err::<(), _>("nothing".into())
    })
    .await;
}

#[tokio::test]
async fn a_process_dies_with_the_thread_that_started_it() {
    let workdir = Workdir::new("pdeathsig");
    let log = workdir.file("sleep.log");
    let pid = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let mut process = Process::new("sleep", "sleep", ["1000"], log);
        let pid = runtime.block_on(async {
            process.launch();
            let pid = process.pid().unwrap();
            until("sleep to run", async || {
                let name = std::fs::read_to_string(format!("/proc/{pid}/comm"));
                let name = name.unwrap_or_default();
                let runs = name == "sleep\n";
                runs.then_some(()).ok_or(name)
            })
            .await;
            pid
        });
        // Neither `drop` nor the runtime gets to kill it.
        std::mem::forget(process);
        pid
    })
    .join()
    .unwrap();
    until("the end of sleep", async || {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        let gone = status.is_empty() || status.contains("State:\tZ");
        gone.then_some(()).ok_or(status)
    })
    .await;
}

#[tokio::test]
async fn waiting_for_what_has_ended_fails_at_once() {
    let workdir = Workdir::new("ended");
    let command = ["-c", "echo the reason; exit 3"];
    let mut process = Process::new("a shell", "sh", command, workdir.file("sh.log"));
    process.launch();
    let waiting = process.until("news", async || Err::<(), _>("none yet".into()));
    let waited = AssertUnwindSafe(waiting).catch_unwind().await;
    let panic = waited.expect_err("it has ended").downcast::<String>();
    let message = panic.unwrap();
    assert!(message.contains("a shell has ended"), "{message}");
    assert!(message.contains("the reason"), "{message}");
    assert_eq!(process.wait_exit().await.code(), Some(3));
}

#[test]
fn ports_are_taken_once() {
    let ports: Vec<Port> = (0..50).map(|_| Port::take()).collect();
    let mut numbers: Vec<u16> = ports.iter().map(Port::number).collect();
    numbers.sort_unstable();
    numbers.dedup();
    assert_eq!(numbers.len(), 50);
    TcpListener::bind(ports[0].address()).expect("free for its owner");
}

#[tokio::test]
async fn the_fake_server_lets_in_who_knows_the_secret_and_withholds_pings() {
    let server = FakeServer::start().await;
    let address = server.address();
    let component = tokio::task::spawn_blocking(move || attach(address));
    let connection = server.accept().await;
    connection.withhold_pings();
    assert_eq!(connection.handshake("secret").await, "example.test");
    let message = connection
        .until("a message", |stanza| stanza.name() == "message")
        .await;
    assert_eq!(body(&message).as_deref(), Some("hi"));
    until("the ping after it", async || {
        let waits = connection.withheld() == 1;
        waits
            .then_some(())
            .ok_or_else(|| connection.inbox().to_string())
    })
    .await;
    connection.release_pings();
    connection.close().await;
    let answers = component.await.unwrap();
    assert!(answers.contains("type='result' id='barrier'"), "{answers}");
    assert!(answers.ends_with("</stream:stream>"), "{answers}");
}

/// The component's side of it; returns what the server said.
fn attach(address: std::net::SocketAddr) -> String {
    use std::io::{Read, Write};
    let mut stream = TcpStream::connect(address).unwrap();
    let header = "<stream:stream to='example.test' xmlns='jabber:component:accept' \
                  xmlns:stream='http://etherx.jabber.org/streams'>";
    stream.write_all(header.as_bytes()).unwrap();
    let mut answers = vec![0; 1024];
    let length = stream.read(&mut answers).unwrap();
    answers.truncate(length);
    let answered = String::from_utf8(answers).unwrap();
    let id = answered.split("id='").nth(1).unwrap().split('\'').next();
    let proof = xmpp_parsers::component::Handshake::from_stream_id_and_password(
        id.unwrap().to_owned(),
        "secret",
    );
    let proof = String::from(&minidom::Element::from(proof));
    let rest = "<message from='a@example.test' to='b@dc1.test'><body>hi</body></message>\
                <iq type='get' id='barrier' from='example.test' to='dc1.test'>\
                <ping xmlns='urn:xmpp:ping'/></iq>";
    stream.write_all((proof + rest).as_bytes()).unwrap();
    let mut answers = String::new();
    stream.read_to_string(&mut answers).unwrap();
    answers
}

#[test]
fn metrics_are_read() {
    let metrics = Metrics::parse(
        "# HELP a_total Things.\n# TYPE a_total counter\n\
         a_total{host=\"dc1.test\",kind=\"iq\"} 2\na_total{host=\"dc2.test\",kind=\"iq\"} 3\nb 0.5\n",
    );
    let labels = [("kind", "iq"), ("host", "dc2.test")];
    assert_eq!(metrics.get("a_total", &labels), Some(3.0));
    assert_eq!(metrics.get("a_total", &[("kind", "iq")]), Some(5.0));
    assert_eq!(metrics.get("a_total", &[("kind", "message")]), None);
    assert_eq!(metrics.get("a_total", &[("colour", "red")]), None);
    assert_eq!(metrics.sum("a_total"), 5.0);
    assert_eq!(metrics.get("b", &[]), Some(0.5));
}

#[test]
fn certificates_and_the_program_are_there() {
    let workdir = Workdir::new("certs");
    let right = Authority::new(workdir.path(), "right");
    let wrong = Authority::new(workdir.path(), "wrong");
    let identity = right.issue("dc1.test").trusting(&wrong);
    for file in [&identity.certfile, &identity.keyfile, &identity.cacertfile] {
        let pem = std::fs::read_to_string(file).unwrap();
        assert!(pem.starts_with("-----BEGIN "), "{}", file.display());
    }
    assert_eq!(identity.cacertfile, wrong.cacertfile());
    let status = std::process::Command::new(binary())
        .arg("--help")
        .stdout(Stdio::null())
        .status();
    status.expect("the gateway's binary starts");
}
