//! A scripted server, controlled byte by byte.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

pub struct Server(TcpListener);

/// One component's connection.
pub struct Connection {
    socket: TcpStream,
    unread: String,
    /// The component's name for itself.
    pub domain: String,
    /// The ids of the component's requests for disco#info, which are left out of
    /// the text read.
    pub discovery: Vec<String>,
}

/// A stream header like Prosody's; with id `abc`.
pub const HEADER: &str = "<?xml version='1.0'?><stream:stream xmlns='jabber:component:accept' \
     from='example.test' xml:lang='en' id='abc' xmlns:stream='http://etherx.jabber.org/streams'>";
/// SHA-1 of `abc` and the secret `s3cret`.
const HASH: &str = "31998b73ea3a9f9924c37e68133695467a6701e6";

impl Server {
    pub async fn start() -> Self {
        Self(TcpListener::bind("127.0.0.1:0").await.unwrap())
    }

    pub fn port(&self) -> u16 {
        self.0.local_addr().unwrap().port()
    }

    /// Accepts a connection and reads its stream header.
    pub async fn accept(&self) -> Connection {
        let (socket, _) = self.0.accept().await.unwrap();
        let mut connection = Connection {
            socket,
            unread: String::new(),
            domain: String::new(),
            discovery: Vec::new(),
        };
        let header = connection.until("'1.0'>").await;
        let domain = header
            .split(" to='")
            .nth(1)
            .and_then(|rest| rest.split('\'').next());
        connection.domain = domain.unwrap_or_else(|| panic!("{header}")).to_owned();
        assert!(header.contains("jabber:component:accept"), "{header}");
        connection
    }

    /// Accepts a connection up to its handshake.
    pub async fn accept_handshake(&self) -> Connection {
        let mut connection = self.accept().await;
        connection.send(HEADER).await;
        let handshake = connection.until("</handshake>").await;
        assert!(handshake.contains(HASH), "{handshake}");
        connection
    }

    /// Accepts a connection and lets it attach.
    pub async fn attach(&self) -> Connection {
        let mut connection = self.accept_handshake().await;
        connection.send("<handshake/>").await;
        connection
    }
}

impl Connection {
    pub async fn send(&mut self, text: &str) {
        self.socket.write_all(text.as_bytes()).await.unwrap();
    }

    /// Reads up to and including the next `end`.
    pub async fn until(&mut self, end: &str) -> String {
        loop {
            if let Some(at) = self.unread.find(end) {
                let rest = self.unread.split_off(at + end.len());
                return std::mem::replace(&mut self.unread, rest);
            }
            let mut bytes = [0; 4096];
            let count = self.socket.read(&mut bytes).await.unwrap();
            assert!(count > 0, "closed before {end}; unread: {}", self.unread);
            self.unread
                .push_str(std::str::from_utf8(&bytes[..count]).unwrap());
            self.set_discovery_aside();
        }
    }

    fn set_discovery_aside(&mut self) {
        const END: &str = "<query xmlns='http://jabber.org/protocol/disco#info'/></iq>";
        while let Some(end) = self.unread.find(END) {
            let start = self.unread[..end].rfind("<iq").unwrap();
            let iq: String = self.unread.drain(start..end + END.len()).collect();
            let id = iq.split("id='").nth(1).unwrap();
            self.discovery
                .push(id.split('\'').next().unwrap().to_owned());
        }
    }

    /// Reads up to and including the next barrier; returns the text before the
    /// barrier, and the barrier's id.
    pub async fn until_barrier(&mut self) -> (String, String) {
        let text = self.until("<ping xmlns='urn:xmpp:ping'/></iq>").await;
        let start = text.rfind("<iq").unwrap();
        let ping = &text[start..];
        let from = format!("from='{}'", self.domain);
        for part in [&*from, "to='dc1.test'", "type='get'"] {
            assert!(ping.contains(part), "{ping}");
        }
        let id = ping
            .split("id='")
            .nth(1)
            .unwrap()
            .split('\'')
            .next()
            .unwrap();
        (text[..start].to_owned(), id.to_owned())
    }

    pub async fn answer(&mut self, id: &str) {
        let domain = &self.domain;
        let result = format!("<iq type='result' id='{id}' from='dc1.test' to='{domain}'/>");
        self.send(&result).await;
    }

    /// Ends the stream with a stream error, as servers do.
    pub async fn end(mut self, condition: &str) {
        let error = format!(
            "<stream:error><{condition} xmlns='urn:ietf:params:xml:ns:xmpp-streams'/></stream:error>\
             </stream:stream>"
        );
        self.send(&error).await;
    }

    /// Waits for the end of the connection; returns the text before it.
    pub async fn until_closed(mut self) -> String {
        let mut rest = Vec::new();
        self.socket.read_to_end(&mut rest).await.unwrap();
        self.unread += std::str::from_utf8(&rest).unwrap();
        self.set_discovery_aside();
        self.unread
    }
}

/// The numbers of the messages in `text`, in order.
pub fn numbers(text: &str) -> Vec<u64> {
    text.split("<body>")
        .skip(1)
        .map(|rest| rest.split('<').next().unwrap().parse().unwrap())
        .collect()
}
