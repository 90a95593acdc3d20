//! Stanzas from the server.

use super::server::{Connection, Server};
use super::*;

const IN: &str = "from='alice@dc1.test/r1' to='bob@example.test'";

#[tokio::test]
async fn stanzas_sent_together_with_the_handshake_arrive() {
    let server = Server::start().await;
    let mut gateway = Gateway::to(&server);
    let mut connection = server.accept_handshake().await;
    connection
        .send(&format!(
            "<handshake/><presence {IN} id='1'/><message {IN} id='2'><bo"
        ))
        .await;
    assert_eq!(gateway.next_taken().await, "1");
    connection.send("dy>x</body></message>").await;
    let envelope = gateway.taken.recv().await.unwrap();
    assert_eq!(envelope.stanza.id().unwrap(), "2");
    assert_eq!(envelope.arrival, Arrival::Component);
    assert_eq!(envelope.origin, *"dc1.test");
    assert_eq!(envelope.ttl, 4);
}

#[tokio::test]
async fn stanzas_arrive_however_they_are_split() {
    let server = Server::start().await;
    let mut gateway = Gateway::to(&server);
    let mut connection = server.attach().await;
    gateway.until_attached(1).await;
    for byte in
        format!(" <message {IN} id='1'><body>ü</body></message>\n<iq {IN} id='2' type='get'/>")
            .chars()
    {
        connection.send(&byte.to_string()).await;
        tokio::task::yield_now().await;
    }
    assert_eq!(gateway.next_taken().await, "1");
    assert_eq!(gateway.next_taken().await, "2");
}

#[tokio::test]
async fn a_bad_stanza_is_refused_and_the_next_arrives() {
    let server = Server::start().await;
    let mut gateway = Gateway::to(&server);
    let mut connection = server.attach().await;
    gateway.until_attached(1).await;
    let large = "x".repeat(20_000);
    connection
        .send(&format!(
            "<message {IN} id='big'><body>{large}</body></message>\
             <message {IN} id='open'><body>&nbsp;</body></message>\
             <message {IN} id='good'/>"
        ))
        .await;
    assert_eq!(gateway.next_taken().await, "good");
    for id in ["big", "open"] {
        let reply = connection.until("</message>").await;
        assert!(reply.contains(&format!("id='{id}'")), "{reply}");
        assert!(reply.contains("type='error'"), "{reply}");
        assert!(reply.contains("to='alice@dc1.test/r1'"), "{reply}");
        assert!(reply.contains("from='bob@example.test'"), "{reply}");
    }
    let metrics = &gateway.metrics;
    assert_eq!(metrics.taken.with_label_values(&["component"]).get(), 2);
    assert_eq!(metrics.refused.with_label_values(&["too_large"]).get(), 1);
    assert_eq!(metrics.refused.with_label_values(&["malformed"]).get(), 1);
}

#[tokio::test]
async fn other_elements_are_ignored() {
    let server = Server::start().await;
    let mut gateway = Gateway::to(&server);
    let mut connection = server.attach().await;
    connection
        .send(&format!(
            "<handshake/><r xmlns='urn:xmpp:sm:3'/><message {IN} id='1'/>"
        ))
        .await;
    assert_eq!(gateway.next_taken().await, "1");
}

#[tokio::test]
async fn what_can_not_be_read_ends_the_stream_politely() {
    let server = Server::start().await;
    let gateway = Gateway::to(&server);
    let mut connection = server.attach().await;
    gateway.until_attached(1).await;
    connection.send("<message></iq>").await;
    let goodbye = connection.until_closed().await;
    assert!(goodbye.contains("<not-well-formed"), "{goodbye}");
    assert!(goodbye.ends_with("</stream:stream>"), "{goodbye}");
    let _connection = server.attach().await;
    gateway.until_attached(2).await;
    let losses = &gateway.metrics.component_losses;
    assert_eq!(losses.with_label_values(&[DOMAIN, "unreadable"]).get(), 1);
}

#[tokio::test]
async fn the_end_of_the_stream_is_answered() {
    let server = Server::start().await;
    let gateway = Gateway::to(&server);
    let mut connection = server.attach().await;
    gateway.until_attached(1).await;
    connection.send("</stream:stream>").await;
    assert_eq!(connection.until_closed().await, "</stream:stream>");
}

#[tokio::test]
async fn ten_silent_minutes_do_not_end_the_stream() {
    let server = Server::start().await;
    let mut gateway = Gateway::to(&server);
    let mut connection = server.attach().await;
    gateway.until_attached(1).await;
    let clock = StoppedClock::new();
    for _ in 0..20 {
        until_listening(&mut gateway, &mut connection).await;
        clock.advance(31).await;
        let (before, id) = connection.until_barrier().await;
        assert_eq!(before, "");
        connection.answer(&id).await;
    }
    until_listening(&mut gateway, &mut connection).await;
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
async fn a_server_that_does_not_even_answer_a_ping_is_dead() {
    let server = Server::start().await;
    let mut gateway = Gateway::to(&server);
    let mut silent = server.attach().await;
    gateway.until_attached(1).await;
    let clock = StoppedClock::new();
    until_listening(&mut gateway, &mut silent).await;
    clock.advance(31).await;
    silent.until_barrier().await;
    clock.advance(31).await;
    gateway.until_detached("has sent nothing for 30 s").await;
    drop(clock);
    let _connection = server.attach().await;
    gateway.until_attached(2).await;
}

#[tokio::test]
async fn a_server_that_sends_but_does_not_answer_pings_is_given_up() {
    let server = Server::start().await;
    let mut gateway = Gateway::to(&server);
    let mut deaf = server.attach().await;
    gateway.until_attached(1).await;
    gateway.reinject(1);
    deaf.until_barrier().await;
    let clock = StoppedClock::new();
    for _ in 0..12 {
        until_listening(&mut gateway, &mut deaf).await;
        clock.advance(10).await;
    }
    until_listening(&mut gateway, &mut deaf).await;
    let why = gateway.until_detached("has not answered a ping").await;
    assert!(why.contains("dc1.test"), "{why}");
}

/// Waits until the gateway has read all that the server sent, and waits for more.
async fn until_listening(gateway: &mut Gateway, connection: &mut Connection) {
    connection.send(&format!("<message {IN} id='sign'/>")).await;
    assert_eq!(gateway.next_taken().await, "sign");
    tokio::task::yield_now().await;
}
