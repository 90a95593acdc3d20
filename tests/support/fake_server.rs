//! A component server (XEP-0114) under the test's control, for behaviour that real servers do not
//! have: withheld answers, cut connections, wrong answers.

use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};

use minidom::Element;
use parking_lot::{Mutex, MutexGuard};
use tokio::io::AsyncWriteExt;
use tokio::net::tcp::OwnedWriteHalf;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc::{self, UnboundedSender};
use tokio::task::JoinHandle;
use uuid::Uuid;
use xmpp_parsers::component::Handshake;
use xmpp_parsers::ns;

use super::inbox::Inbox;
use super::patience::in_time;
use super::port::Port;
use super::xml::{attribute, child};

/// A listener; the test accepts each connection.
#[derive(Debug)]
pub struct FakeServer {
    listener: TcpListener,
    _port: Port,
}

/// The connection of one component.
#[derive(Debug)]
pub struct Connection {
    domain: OnceLock<String>,
    inbox: Arc<Inbox>,
    pings: Arc<Mutex<Pings>>,
    /// Orders are executed in the order in which they were sent.
    out: UnboundedSender<Order>,
    reader: JoinHandle<()>,
    writer: JoinHandle<OwnedWriteHalf>,
}

#[derive(Debug)]
enum Order {
    Write(String),
    Stop,
}

/// The pings by which the component checks that the server has accepted its stanzas.
#[derive(Debug, Default)]
struct Pings {
    withhold: bool,
    waiting: Vec<String>,
}

impl FakeServer {
    /// Listens on a free port.
    pub async fn start() -> Self {
        let port = Port::take();
        let listener = TcpListener::bind(port.address()).await;
        Self {
            listener: listener.expect("a free port"),
            _port: port,
        }
    }

    /// For `[component] server`.
    pub fn address(&self) -> SocketAddr {
        self.listener.local_addr().expect("a listening socket")
    }

    /// Waits for a connection, without sending anything on it yet. The server answers the
    /// component's pings to a domain until [`Connection::withhold_pings`].
    pub async fn accept(&self) -> Connection {
        let accepted = in_time(self.listener.accept()).await;
        let (stream, peer) = accepted
            .expect("a component that connects")
            .expect("a working listener");
        Connection::new(stream, &format!("the component at {peer}"))
    }

    /// Waits for the components of all of `domains`, in any order, accepts them, and returns them
    /// in the order of `domains`.
    pub async fn attach_all<const N: usize>(
        &self,
        secret: &str,
        domains: [&str; N],
    ) -> [Connection; N] {
        let mut connections = Vec::new();
        for _ in domains {
            connections.push(self.attach(secret).await);
        }
        domains.map(|domain| {
            let at = connections.iter().position(|c| c.domain() == domain);
            connections.swap_remove(at.unwrap_or_else(|| panic!("{domain} did not attach")))
        })
    }

    /// Waits for a connection and accepts the component.
    pub async fn attach(&self, secret: &str) -> Connection {
        let connection = self.accept().await;
        connection.handshake(secret).await;
        connection
    }
}

impl Connection {
    fn new(stream: TcpStream, owner: &str) -> Self {
        stream.set_nodelay(true).expect("a TCP socket");
        let (read, write) = stream.into_split();
        let inbox = Arc::new(Inbox::new(owner));
        let pings = Arc::new(Mutex::new(Pings::default()));
        let (out, orders) = mpsc::unbounded_channel();
        let (filled, asked, answers) = (Arc::clone(&inbox), Arc::clone(&pings), out.clone());
        let reader = tokio::spawn(async move {
            let answer = |stanza: &Element| {
                answer_ping(stanza, &asked, &answers)
                    || return_probe(stanza, &answers)
                    || answer_nothing(stanza, &answers)
            };
            filled.fill(read, ns::COMPONENT, answer).await;
        });
        Self {
            domain: OnceLock::new(),
            inbox,
            pings,
            out,
            reader,
            writer: tokio::spawn(carry_out(orders, write)),
        }
    }

    /// Exchanges the stream headers and the handshake. Returns the domain that the component
    /// asked for.
    ///
    /// # Panics
    /// When the component does not know `secret`.
    pub async fn handshake(&self, secret: &str) -> String {
        let (domain, id) = self.open().await;
        let got = self.proof().await;
        let right = Handshake::from_stream_id_and_password(id, secret);
        assert_eq!(got, Element::from(right).text(), "the secret of {domain}");
        self.send("<handshake/>");
        domain
    }

    /// Exchanges the stream headers, and answers the handshake with the stream error `condition`,
    /// such as `not-authorized` or `conflict`.
    pub async fn reject(&self, condition: &str) {
        self.open().await;
        self.proof().await;
        self.stream_error(condition);
    }

    /// Exchanges the stream headers; returns the requested domain and the stream id.
    pub async fn open(&self) -> (String, String) {
        let header = self.inbox.header().await;
        let domain = attribute(&header, "to").unwrap_or_else(|| panic!("no to: {header}"));
        let id = Uuid::new_v4().to_string();
        self.domain.get_or_init(|| domain.clone());
        self.send(&format!(
            "<?xml version='1.0'?><stream:stream from='{domain}' id='{id}' \
             xmlns='{}' xmlns:stream='http://etherx.jabber.org/streams'>",
            ns::COMPONENT
        ));
        (domain, id)
    }

    async fn proof(&self) -> String {
        let wanted = |element: &Element| element.name() == "handshake";
        self.inbox.until("the handshake", wanted).await.text()
    }

    /// Sends raw XML bytes, which may be a part of a stanza.
    pub fn send(&self, xml: &str) {
        // On a closed connection, the test fails at its next check.
        let _ = self.out.send(Order::Write(xml.to_owned()));
    }

    /// Ends the stream with that error.
    pub fn stream_error(&self, condition: &str) {
        self.send(&format!(
            "<stream:error><{condition} xmlns='urn:ietf:params:xml:ns:xmpp-streams'/>\
             </stream:error></stream:stream>"
        ));
    }

    /// Takes the first matching stanza that was not taken before, and waits for it if necessary.
    /// Pings are excluded.
    pub async fn until(&self, what: &str, wanted: impl Fn(&Element) -> bool) -> Element {
        self.inbox.until(what, wanted).await
    }

    /// The domain that the component asked for, once its stream is open.
    pub fn domain(&self) -> &str {
        self.domain.get().expect("an open stream")
    }

    /// Everything received.
    pub fn inbox(&self) -> &Inbox {
        &self.inbox
    }

    /// Withholds answers to pings: the component cannot know which stanzas were accepted.
    pub fn withhold_pings(&self) {
        lock(&self.pings).withhold = true;
    }

    /// The number of withheld answers.
    pub fn withheld(&self) -> usize {
        lock(&self.pings).waiting.len()
    }

    /// Answers the waiting pings, and all later ones.
    pub fn release_pings(&self) {
        let mut pings = lock(&self.pings);
        pings.withhold = false;
        for answer in pings.waiting.drain(..) {
            self.send(&answer);
        }
    }

    /// Ends the stream and the connection as a server that stops cleanly.
    pub async fn close(self) {
        self.send("</stream:stream>");
        let _ = self.out.send(Order::Stop);
        let mut writer = self.writer.await.expect("the writer");
        let _ = writer.shutdown().await;
        self.reader.abort();
    }

    /// Cuts the connection with a RST, after everything sent before is on the wire.
    pub async fn kill(self) {
        let _ = self.out.send(Order::Stop);
        let writer = self.writer.await.expect("the writer");
        self.reader.abort();
        // The reader holds half of the socket until it ends.
        let _ = self.reader.await;
        let socket: &TcpStream = writer.as_ref();
        socket.set_zero_linger().expect("a TCP socket");
        // Dropping only this half would send a FIN first.
        writer.forget();
    }
}

async fn carry_out(
    mut orders: mpsc::UnboundedReceiver<Order>,
    mut socket: OwnedWriteHalf,
) -> OwnedWriteHalf {
    while let Some(Order::Write(xml)) = orders.recv().await {
        if socket.write_all(xml.as_bytes()).await.is_err() {
            break;
        }
    }
    socket
}

/// Answers a ping to a domain, or withholds the answer; returns whether the stanza was a ping.
fn answer_ping(stanza: &Element, pings: &Mutex<Pings>, out: &UnboundedSender<Order>) -> bool {
    let (Some(from), Some(to)) = (stanza.attr("from"), stanza.attr("to")) else {
        return false;
    };
    let asks = stanza.name() == "iq" && stanza.attr("type") == Some("get");
    if !asks || to.contains('@') || child(stanza, "ping").is_none() {
        return false;
    }
    let id = stanza.attr("id").unwrap_or_default();
    let answer = format!("<iq type='result' id='{id}' from='{to}' to='{from}'/>");
    let mut pings = lock(pings);
    if pings.withhold {
        pings.waiting.push(answer);
    } else {
        let _ = out.send(Order::Write(answer));
    }
    true
}

/// Returns stanzas that the component sends to itself, as every server does.
fn return_probe(stanza: &Element, out: &UnboundedSender<Order>) -> bool {
    let id = stanza.attr("id").unwrap_or_default();
    let to = stanza.attr("to");
    let Some(address) = to.filter(|to| to.starts_with("strait-probe-")) else {
        return false;
    };
    let _ = out.send(Order::Write(format!(
        "<iq type='get' id='{id}' from='{address}' to='{address}'><ping xmlns='{}'/></iq>",
        ns::PING
    )));
    true
}

/// Refuses the gateway's query for the server software.
fn answer_nothing(stanza: &Element, out: &UnboundedSender<Order>) -> bool {
    let id = stanza
        .attr("id")
        .filter(|id| id.starts_with("strait-") && stanza.has_child("query", ns::DISCO_INFO));
    let (Some(id), Some(from), Some(to)) = (id, stanza.attr("from"), stanza.attr("to")) else {
        return false;
    };
    let _ = out.send(Order::Write(format!(
        "<iq type='error' id='{id}' from='{to}' to='{from}'><error type='cancel'>\
         <service-unavailable xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error></iq>"
    )));
    true
}

fn lock(pings: &Mutex<Pings>) -> MutexGuard<'_, Pings> {
    pings.lock()
}
