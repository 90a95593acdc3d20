//! The handshake, and each of its failures.

use super::server::{HEADER, Server};
use super::*;

/// Lets `script` answer a connection, and checks the gateway's failure and advice.
macro_rules! fails {
    ($name:ident, $reason:literal, $advice:literal, |$server:ident| $script:block) => {
        #[tokio::test]
        async fn $name() {
            let $server = Server::start().await;
            let gateway = Gateway::to(&$server);
            $script
            let why = gateway.until_detached($advice).await;
            let failures = &gateway.metrics.component_attach_failures;
            assert_eq!(failures.with_label_values(&[DOMAIN, $reason]).get(), 1, "{why}");
            assert!(!why.contains("s3cret"), "{why}");
        }
    };
}

fails!(
    a_wrong_secret,
    "not_authorized",
    "component_secret",
    |server| {
        server.accept_handshake().await.end("not-authorized").await;
    }
);

fails!(
    an_unknown_domain_at_once_and_without_an_id,
    "host_unknown",
    "Component \"example.test\"",
    |server| {
        let mut connection = server.accept().await;
        connection
            .send(
                &HEADER
                    .replace("'abc'", "''")
                    .replace("from='example.test'", ""),
            )
            .await;
        connection.end("host-unknown").await;
    }
);

fails!(
    a_taken_domain,
    "conflict",
    "component_conflict_resolve",
    |server| {
        server.accept_handshake().await.end("conflict").await;
    }
);

fails!(a_client_port, "wrong_port", "5222", |server| {
    let mut connection = server.accept().await;
    connection
        .send(&HEADER.replace("component:accept", "client"))
        .await;
    connection.end("invalid-namespace").await;
});

fails!(a_web_server, "wrong_port", "component_ports", |server| {
    server
        .accept()
        .await
        .send("HTTP/1.1 400 Bad Request\r\n\r\n")
        .await;
});

fails!(
    a_server_that_closes_before_its_header,
    "closed",
    "its log",
    |server| {
        drop(server.accept().await);
    }
);

fails!(
    a_server_that_closes_within_its_header,
    "closed",
    "its log",
    |server| {
        server.accept().await.send(&HEADER[..60]).await;
    }
);

fails!(
    a_server_that_closes_at_the_handshake,
    "closed",
    "its log",
    |server| {
        drop(server.accept_handshake().await);
    }
);

fails!(
    a_server_that_is_shutting_down,
    "closed",
    "its log",
    |server| {
        server.accept_handshake().await.end("system-shutdown").await;
    }
);

fails!(
    an_answer_that_is_no_handshake,
    "wrong_port",
    "component_ports",
    |server| {
        server.accept_handshake().await.send("<proceed/>").await;
    }
);

#[tokio::test]
async fn a_closed_port() {
    let port = Server::start().await.port();
    let gateway = Gateway::with(settings("127.0.0.1", port));
    let why = gateway.until_detached("refused").await;
    assert!(why.contains("ejabberd_service"), "{why}");
}

#[tokio::test]
async fn a_name_that_does_not_exist() {
    let gateway = Gateway::with(settings("no-such-server.invalid", 5347));
    gateway.until_detached("could not be resolved").await;
}

#[tokio::test]
async fn a_server_that_says_nothing() {
    let server = Server::start().await;
    let gateway = Gateway::to(&server);
    let _connection = server.accept().await;
    tokio::time::pause();
    gateway.until_detached("took longer than 10 s").await;
}

#[tokio::test]
async fn attaches_as_soon_as_the_server_lets_it() {
    let server = Server::start().await;
    let gateway = Gateway::to(&server);
    server.accept_handshake().await.end("not-authorized").await;
    gateway.until_detached("not-authorized").await;
    let _connection = server.attach().await;
    gateway.until_attached(1).await;
    assert_eq!(
        gateway
            .metrics
            .component_attached
            .with_label_values(&[DOMAIN])
            .get(),
        1
    );
    assert_eq!(
        gateway
            .metrics
            .component_attaches
            .with_label_values(&[DOMAIN])
            .get(),
        1
    );
}

#[tokio::test]
async fn attaches_again_after_a_shutdown_of_the_server() {
    let server = Server::start().await;
    let gateway = Gateway::to(&server);
    let connection = server.attach().await;
    gateway.until_attached(1).await;
    connection.end("system-shutdown").await;
    let _connection = server.attach().await;
    gateway.until_attached(2).await;
    let losses = &gateway.metrics.component_losses;
    assert_eq!(losses.with_label_values(&[DOMAIN, "closed"]).get(), 1);
}

#[tokio::test]
async fn another_component_that_takes_the_domain_is_not_fought() {
    let server = Server::start().await;
    let gateway = Gateway::to(&server);
    let connection = server.attach().await;
    gateway.until_attached(1).await;
    connection.end("conflict").await;
    let why = gateway.until_detached("taken the domain over").await;
    assert!(why.contains("stop one of them"), "{why}");
}

#[tokio::test]
async fn the_server_is_asked_who_it_is_and_what_it_says_is_no_stanza_for_others() {
    let server = Server::start().await;
    let mut gateway = Gateway::to(&server);
    let mut connection = server.attach().await;
    gateway.until_attached(1).await;
    gateway.reinject(1);
    connection.until_barrier().await;
    let [id] = connection.discovery.as_slice() else {
        panic!("{:?}", connection.discovery);
    };
    assert_eq!(*gateway.component.server.borrow(), KnownServer::default());
    let answer = format!(
        "<iq type='result' id='{id}' from='dc1.test' to='example.test'>\
         <query xmlns='http://jabber.org/protocol/disco#info'>\
         <identity category='server' type='im' name='MongooseIM'/></query></iq>\
         <message id='next' from='alice@dc1.test/r' to='bob@example.test'/>"
    );
    connection.send(&answer).await;
    assert_eq!(gateway.next_taken().await, "next");
    let known = gateway.component.server.borrow();
    assert_eq!(known.name.as_deref(), Some("MongooseIM"));
    assert!(known.quirks.doubles_messages_to_the_gone);
}

#[tokio::test]
async fn the_routing_probe_runs_at_attach_and_again_when_an_answer_is_missing() {
    let server = Server::start().await;
    let mut gateway = Gateway::with(Settings {
        probes_routing: true,
        ..settings("127.0.0.1", server.port())
    });
    let mut connection = server.attach().await;
    gateway.until_attached(1).await;
    let address = |n| format!("strait-probe-{n}@example.test");
    let clock = StoppedClock::new();
    for n in 1..=16 {
        let probe = connection.until("</iq>").await;
        assert!(probe.contains(&address(n)), "{probe}");
        connection.send(&probe).await;
    }
    for id in connection.discovery.clone() {
        connection.answer(&id).await;
    }
    let last = "<message id='last' from='alice@dc1.test/r' to='bob@example.test'/>";
    connection.send(last).await;
    assert_eq!(gateway.next_taken().await, "last");
    // The keep-alive is the next stanza on the stream.
    for _ in 0..31 {
        clock.advance(1).await;
        tokio::task::yield_now().await;
    }
    connection.until_barrier().await;
    clock.advance(6).await;
    let round = connection.until(&address(17)).await;
    assert!(!round.contains(&address(16)), "{round}");
    assert!(gateway.component.fitness().is_ok());
}
