//! An external component (XEP-0114) on a real server: a service that a datacenter offers.

use std::sync::Arc;

use minidom::Element;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::net::tcp::OwnedWriteHalf;
use tokio::sync::Mutex;
use xmpp_parsers::component::Handshake;
use xmpp_parsers::ns;

use super::inbox::Inbox;
use super::site::Site;
use super::xml::{attribute, body, escape};

/// An attached component. Its inbox keeps everything received.
#[derive(Debug)]
pub struct Component {
    domain: String,
    inbox: Arc<Inbox>,
    writer: Mutex<OwnedWriteHalf>,
}

impl Component {
    /// Attaches to the server there as `domain`.
    pub async fn attach(at: &Site, domain: &str, secret: &str) -> Self {
        let stream = TcpStream::connect(at.own_component_address()).await;
        let stream = stream.unwrap_or_else(|error| panic!("{domain} cannot connect: {error}"));
        stream.set_nodelay(true).expect("a TCP socket");
        let (reader, writer) = stream.into_split();
        let inbox = Arc::new(Inbox::new(domain));
        let filled = Arc::clone(&inbox);
        tokio::spawn(async move { filled.fill(reader, ns::COMPONENT, |_| false).await });
        let component = Self {
            domain: domain.to_owned(),
            inbox,
            writer: Mutex::new(writer),
        };
        component.handshake(secret).await;
        component
    }

    async fn handshake(&self, secret: &str) {
        self.send(&format!(
            "<?xml version='1.0'?><stream:stream to='{}' xmlns='{}' \
             xmlns:stream='http://etherx.jabber.org/streams'>",
            self.domain,
            ns::COMPONENT
        ))
        .await;
        let header = self.inbox.header().await;
        let id = attribute(&header, "id").unwrap_or_else(|| panic!("no id: {header}"));
        let proof = Handshake::from_stream_id_and_password(id, secret);
        self.send(&String::from(&Element::from(proof))).await;
        self.until("the handshake", |element| element.name() == "handshake")
            .await;
    }

    /// The domain of the component.
    pub fn domain(&self) -> &str {
        &self.domain
    }

    /// Everything received.
    pub fn inbox(&self) -> &Inbox {
        &self.inbox
    }

    /// Sends raw XML.
    pub async fn send(&self, xml: &str) {
        let mut writer = self.writer.lock().await;
        let written = writer.write_all(xml.as_bytes()).await;
        written.unwrap_or_else(|error| panic!("{} cannot send {xml}: {error}", self.domain));
    }

    /// Sends a message from the domain itself.
    pub async fn say(&self, to: &str, text: &str) {
        let (domain, text) = (&self.domain, escape(text));
        self.send(&format!(
            "<message from='{domain}' to='{to}'><body>{text}</body></message>"
        ))
        .await;
    }

    /// Takes the first matching stanza that was not taken before, and waits for it if necessary.
    pub async fn until(&self, what: &str, wanted: impl Fn(&Element) -> bool) -> Element {
        self.inbox.until(what, wanted).await
    }

    /// Waits for the message with `text` from exactly `from`.
    pub async fn expect(&self, from: &str, text: &str) -> Element {
        self.until(&format!("{text:?} from {from}"), |stanza| {
            stanza.attr("from") == Some(from) && body(stanza).as_deref() == Some(text)
        })
        .await
    }

    /// Ends the stream and waits until the server has closed it.
    pub async fn close(self) {
        self.send("</stream:stream>").await;
        self.inbox.closed().await;
    }
}
