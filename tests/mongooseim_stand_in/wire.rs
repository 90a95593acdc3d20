//! A component's connection byte by byte, for what no well-behaved one does.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use xmpp_parsers::component::Handshake;

use crate::support::mongooseim::StandIn;
use crate::support::patience::in_time;
use crate::support::xml::attribute;

/// Connected; everything that came and was not taken is kept.
pub struct Wire {
    socket: TcpStream,
    unread: String,
}

impl Wire {
    pub async fn connect(server: &StandIn) -> Self {
        let socket = TcpStream::connect(server.component_address()).await;
        Self {
            socket: socket.expect("a listener"),
            unread: String::new(),
        }
    }

    /// Opens a stream; gives the server's header, without its id checked.
    pub async fn open(&mut self, domain: &str) -> String {
        self.send(&format!(
            "<?xml version='1.0'?><stream:stream to='{domain}' xmlns='jabber:component:accept' \
             xmlns:stream='http://etherx.jabber.org/streams'>"
        ))
        .await;
        self.until(">").await
    }

    /// The proof that it knows `secret`.
    pub async fn prove(&mut self, header: &str, secret: &str) {
        let id = attribute(header, "id").expect("an id");
        let proof = Handshake::from_stream_id_and_password(id, secret);
        self.send(&String::from(&minidom::Element::from(proof)))
            .await;
    }

    /// Attaches as `domain`; gives all that the server said until then.
    pub async fn attach(&mut self, domain: &str, secret: &str) -> String {
        let header = self.open(domain).await;
        self.prove(&header, secret).await;
        header + &self.until("<handshake/>").await
    }

    pub async fn send(&mut self, xml: &str) {
        self.socket
            .write_all(xml.as_bytes())
            .await
            .expect("an open connection");
    }

    /// Everything up to `end`.
    pub async fn until(&mut self, end: &str) -> String {
        let read = async {
            loop {
                if let Some(at) = self.unread.find(end) {
                    let rest = self.unread.split_off(at + end.len());
                    return std::mem::replace(&mut self.unread, rest);
                }
                let mut bytes = Vec::new();
                let count = self
                    .socket
                    .read_buf(&mut bytes)
                    .await
                    .expect("an open connection");
                assert!(count > 0, "closed before {end}: {}", self.unread);
                self.unread += std::str::from_utf8(&bytes).expect("UTF-8");
            }
        };
        in_time(read).await.expect("an answer in time")
    }

    /// Everything until the server closes the connection.
    pub async fn rest(mut self) -> String {
        let mut bytes = Vec::new();
        let read = self.socket.read_to_end(&mut bytes);
        in_time(read)
            .await
            .expect("an end in time")
            .expect("an end in order");
        self.unread + std::str::from_utf8(&bytes).expect("UTF-8")
    }
}
