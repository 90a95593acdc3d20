//! A user's client: a real connection to a real server, over plain TCP.

use std::sync::Arc;

use minidom::Element;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::net::tcp::OwnedWriteHalf;
use tokio::sync::Mutex;
use tokio::task::JoinHandle;
use uuid::Uuid;
use xmpp_parsers::ns;
use xmpp_parsers::sasl::{Auth, Mechanism};

use super::inbox::Inbox;
use super::site::Site;
use super::xml::{body, child, escape, is_jid};

/// One logged-in session. Everything received stays in its [`Inbox`].
#[derive(Debug)]
pub struct Client {
    jid: String,
    inbox: Arc<Inbox>,
    writer: Mutex<OwnedWriteHalf>,
    reader: JoinHandle<()>,
}

/// The stream header of a client of `domain`.
pub fn header(domain: &str) -> String {
    format!(
        "<?xml version='1.0'?><stream:stream to='{domain}' version='1.0' \
         xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams'>"
    )
}

impl Client {
    /// Logs in, fetches the roster and sends initial presence, in that order: servers send
    /// changes of subscriptions only to clients that have fetched the roster.
    pub async fn login(at: &Site, user: &str, resource: &str) -> Self {
        let client = Self::login_without_presence(at, user, resource).await;
        client.roster().await;
        client.send("<presence/>").await;
        // The server reflects the presence: after that, the session is available.
        client
            .until("its own presence", |stanza| {
                stanza.name() == "presence" && stanza.attr("from") == Some(client.jid())
            })
            .await;
        client
    }

    /// Logs in without sending presence.
    pub async fn login_without_presence(at: &Site, user: &str, resource: &str) -> Self {
        let domain = at.domain();
        let jid = format!("{user}@{domain}/{resource}");
        let mut client = Self::connect(at, &jid).await;
        client.features(domain).await;
        client.authenticate(user, at.password_of(user)).await;
        client.features(domain).await;
        client.bind(resource).await;
        client
    }

    async fn connect(at: &Site, jid: &str) -> Self {
        let address = at.c2s();
        let stream = TcpStream::connect(address)
            .await
            .unwrap_or_else(|error| panic!("{jid} cannot connect to {address}: {error}"));
        stream.set_nodelay(true).expect("a TCP socket");
        let (reader, writer) = stream.into_split();
        let inbox = Arc::new(Inbox::new(jid));
        let filled = Arc::clone(&inbox);
        Self {
            jid: jid.to_owned(),
            inbox,
            writer: Mutex::new(writer),
            reader: tokio::spawn(
                async move { filled.fill(reader, ns::JABBER_CLIENT, |_| false).await },
            ),
        }
    }

    async fn features(&self, domain: &str) {
        self.send(&header(domain)).await;
        self.inbox.header().await;
        self.until("stream features", |element| element.name() == "features")
            .await;
    }

    async fn authenticate(&self, user: &str, password: &str) {
        let auth = Auth {
            mechanism: Mechanism::Plain,
            data: format!("\0{user}\0{password}").into_bytes(),
        };
        self.send(&String::from(&Element::from(auth))).await;
        let answer = self
            .until("the answer to the password", |element| {
                element.ns() == ns::SASL
            })
            .await;
        assert_eq!(answer.name(), "success", "{}: {answer:?}", self.jid);
    }

    async fn bind(&mut self, resource: &str) {
        let payload = format!(
            "<bind xmlns='{}'><resource>{resource}</resource></bind>",
            ns::BIND
        );
        let answer = self.iq(None, "set", &payload).await;
        let bound = child(&answer, "bind").and_then(|bind| child(bind, "jid"));
        self.jid = bound
            .unwrap_or_else(|| panic!("{} is not bound: {answer:?}", self.jid))
            .text();
    }

    /// Its full JID, in the local domain.
    pub fn jid(&self) -> &str {
        &self.jid
    }

    /// The received stanzas.
    pub fn inbox(&self) -> &Arc<Inbox> {
        &self.inbox
    }

    /// Sends raw XML.
    pub async fn send(&self, xml: &str) {
        self.writer
            .lock()
            .await
            .write_all(xml.as_bytes())
            .await
            .unwrap_or_else(|error| panic!("{} cannot send {xml}: {error}", self.jid));
    }

    /// Takes the first matching element that was not taken before, and waits for it if necessary.
    /// `what` is for the message on failure.
    pub async fn until(&self, what: &str, wanted: impl Fn(&Element) -> bool) -> Element {
        self.inbox.until(what, wanted).await
    }

    /// Waits for the next message with a body from `from` (bare: any of its resources).
    pub async fn expect_message_from(&self, from: &str) -> Element {
        self.until(&format!("a message from {from}"), |stanza| {
            is_message(stanza, from) && body(stanza).is_some()
        })
        .await
    }

    /// Waits for the message with `text` from `from` (bare: any of its resources).
    pub async fn expect_chat(&self, from: &str, text: &str) -> Element {
        self.until(&format!("{text:?} from {from}"), |stanza| {
            is_message(stanza, from) && body(stanza).as_deref() == Some(text)
        })
        .await
    }

    /// Waits for the next presence of that type from `from`; `None` is available.
    pub async fn expect_presence(&self, from: &str, kind: Option<&str>) -> Element {
        let shown = kind.unwrap_or("available");
        self.until(&format!("{shown} presence from {from}"), |stanza| {
            stanza.name() == "presence"
                && stanza.attr("type") == kind
                && is_jid(stanza.attr("from"), from)
        })
        .await
    }

    /// Sends a chat message that requests a receipt (XEP-0184); returns its id.
    pub async fn chat(&self, to: &str, text: &str) -> String {
        let id = Uuid::new_v4().to_string();
        let text = escape(text);
        self.send(&format!(
            "<message type='chat' to='{to}' id='{id}'><body>{text}</body>\
             <request xmlns='urn:xmpp:receipts'/></message>"
        ))
        .await;
        id
    }

    /// Sends the receipt that `message` requests (XEP-0184).
    pub async fn acknowledge(&self, message: &Element) {
        let (to, id) = (message.attr("from"), message.attr("id"));
        let (to, id) = to.zip(id).unwrap_or_else(|| panic!("{message:?}"));
        self.send(&format!(
            "<message to='{to}'><received xmlns='urn:xmpp:receipts' id='{id}'/></message>"
        ))
        .await;
    }

    /// Waits for the receipt of the message `id` from `from`.
    pub async fn expect_receipt(&self, from: &str, id: &str) -> Element {
        self.until(&format!("a receipt from {from}"), |stanza| {
            is_message(stanza, from)
                && child(stanza, "received").is_some_and(|r| r.attr("id") == Some(id))
        })
        .await
    }

    /// Sends an iq and returns the answer, result or error. `None` queries the account itself.
    pub async fn iq(&self, to: Option<&str>, kind: &str, payload: &str) -> Element {
        let id = Uuid::new_v4().to_string();
        let address = to.map(|to| format!(" to='{to}'")).unwrap_or_default();
        self.send(&format!(
            "<iq type='{kind}' id='{id}'{address}>{payload}</iq>"
        ))
        .await;
        let what = format!("the answer to {payload} for {}", to.unwrap_or("itself"));
        self.until(&what, |stanza| {
            stanza.name() == "iq"
                && stanza.attr("id") == Some(&id)
                && matches!(stanza.attr("type"), Some("result" | "error"))
                && (to.is_none() || stanza.attr("from") == to)
        })
        .await
    }

    /// Waits until the server has processed everything sent before.
    pub async fn sync(&self) {
        let domain = self.jid.split(['@', '/']).nth(1).expect("a full JID");
        self.iq(Some(domain), "get", "<ping xmlns='urn:xmpp:ping'/>")
            .await;
    }

    /// Fetches the roster; the server then pushes its changes.
    pub async fn roster(&self) -> Element {
        self.iq(None, "get", "<query xmlns='jabber:iq:roster'/>")
            .await
    }

    /// Requests a subscription to the presence of `to`.
    pub async fn subscribe(&self, to: &str) {
        self.send(&format!("<presence type='subscribe' to='{to}'/>"))
            .await;
    }

    /// Waits for the subscription request of `from`, and approves it.
    pub async fn approve(&self, from: &str) {
        self.expect_presence(from, Some("subscribe")).await;
        self.send(&format!("<presence type='subscribed' to='{from}'/>"))
            .await;
    }

    /// Subscribes to `other`, and waits for its approval and its presence.
    pub async fn befriend(&self, me: &str, other: &Self, name: &str) {
        self.subscribe(name).await;
        other.approve(me).await;
        self.expect_presence(name, Some("subscribed")).await;
        self.expect_presence(name, None).await;
    }

    /// Ends the stream according to RFC 6120.
    pub async fn close(self) {
        self.send("</stream:stream>").await;
        self.inbox.closed().await;
    }

    /// Cuts the connection: the server gets a RST without an end of the stream.
    pub async fn kill(self) {
        self.reader.abort();
        // The reader holds half of the socket until it ends.
        let _ = self.reader.await;
        let writer = self.writer.into_inner();
        let socket: &TcpStream = writer.as_ref();
        socket.set_zero_linger().expect("a TCP socket");
        // Dropping only this half would send a FIN first.
        writer.forget();
    }
}

/// Subscribes both to each other's presence.
pub async fn befriend(a: &Client, a_name: &str, b: &Client, b_name: &str) {
    a.befriend(a_name, b, b_name).await;
    b.befriend(b_name, a, a_name).await;
}

fn is_message(stanza: &Element, from: &str) -> bool {
    stanza.name() == "message" && is_jid(stanza.attr("from"), from)
}
