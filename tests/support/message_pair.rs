//! Two gateways between two fake servers that are fast and do nothing but count messages: for
//! figures, as in `benches/pair.rs`.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use memchr::memmem;

use super::certs::Authority;

const SECRET: &str = "secret";
/// The users `user0`, `user1`, … of the first site.
pub const SENDERS: usize = 64;
/// Messages under way, at most.
const WINDOW: usize = 20_000;

/// Makes bob, the recipient, and all senders known.
pub fn greet(near: &Site, far: &Site) {
    far.say("<presence from='bob@dc1.test/r' to='example.test'/>");
    for sender in 0..SENDERS {
        near.say(&format!(
            "<presence from='user{sender}@dc0.test/r' to='example.test'/>"
        ));
    }
}

/// Waits until `far` has `count` messages.
pub fn until(far: &Site, count: usize) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while far.arrived.load(Ordering::Acquire) < count {
        assert!(Instant::now() < deadline, "messages do not arrive");
        std::thread::yield_now();
    }
}

/// Sends at least `messages` more than the `sent` before, and waits for them; returns their
/// number.
pub fn flood(near: &Site, far: &Site, sent: usize, messages: usize) -> usize {
    let batch: Vec<u8> = (0..SENDERS).flat_map(message).collect();
    let before = sent;
    let mut sent = sent;
    while sent - before < messages {
        while sent - far.arrived.load(Ordering::Acquire) > WINDOW - SENDERS {
            std::thread::sleep(Duration::from_micros(200));
        }
        near.write(&batch);
        sent += SENDERS;
    }
    until(far, sent);
    sent - before
}

/// A chat message of 433 bytes.
pub fn message(sender: usize) -> Vec<u8> {
    let start = format!(
        "<message from='user{sender}@dc0.test/r' to='bob@example.test' type='chat' \
         id='b8f0c6de-31a5-4b8e-8f5e-8a6d9a4a9d11'><body>"
    );
    let end = "</body><request xmlns='urn:xmpp:receipts'/></message>";
    let body = "x".repeat(433 - start.len() - end.len());
    [start.as_bytes(), body.as_bytes(), end.as_bytes()].concat()
}

/// An address on which nothing listens.
pub fn free_address() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.local_addr().expect("an address")
}

/// The configuration of the gateway `at` 0 or 1.
pub fn config(
    at: usize,
    server: &TcpListener,
    links: &[SocketAddr],
    authority: &Authority,
) -> String {
    let host = format!("dc{at}.test");
    let identity = authority.issue(&host);
    format!(
        "global_host = 'example.test'\nlocal_host = '{host}'\nnode = 'n'\n\
         mesh.peers = ['{peer}']\nhosts_refresh_interval = 300\n\
         [component]\nserver = '{server}'\nsecret = '{SECRET}'\n\
         [connections]\nendpoints = ['{own}']\nadvertised_endpoints = ['{own}']\n\
         [connections.tls]\ncertfile = '{cert}'\nkeyfile = '{key}'\ncacertfile = '{ca}'\n\
         [log]\nlevel = 'warn'\n",
        peer = links[1 - at],
        own = links[at],
        server = server.local_addr().expect("an address"),
        cert = identity.certfile.display(),
        key = identity.keyfile.display(),
        ca = identity.cacertfile.display(),
    )
}

/// A fake server to which a gateway is attached. Its thread allocates nothing for a message.
pub struct Site {
    pub socket: TcpStream,
    /// Messages that the gateway has written.
    pub arrived: Arc<AtomicUsize>,
}

impl Site {
    /// Waits for the gateway.
    pub fn attach(listener: &TcpListener) -> Self {
        let (mut socket, _) = listener.accept().expect("a gateway that connects");
        socket.set_nodelay(true).expect("a TCP socket");
        read_tag(&mut socket, "<stream:stream");
        let header = "<?xml version='1.0'?><stream:stream from='example.test' id='1' \
             xmlns='jabber:component:accept' xmlns:stream='http://etherx.jabber.org/streams'>";
        socket.write_all(header.as_bytes()).expect("a gateway");
        read_tag(&mut socket, "</handshake");
        socket.write_all(b"<handshake/>").expect("a gateway");
        let arrived = Arc::new(AtomicUsize::new(0));
        let (reader, count) = (socket.try_clone().expect("a socket"), Arc::clone(&arrived));
        std::thread::spawn(move || serve(reader, &count));
        Self { socket, arrived }
    }

    pub fn say(&self, xml: &str) {
        self.write(xml.as_bytes());
    }

    pub fn write(&self, bytes: &[u8]) {
        (&self.socket)
            .write_all(bytes)
            .expect("a gateway that reads");
    }
}

/// Reads to the end of the tag that begins with `start`.
fn read_tag(socket: &mut TcpStream, start: &str) {
    let mut seen = Vec::new();
    let mut byte = [0];
    while byte != *b">" || memmem::find(&seen, start.as_bytes()).is_none() {
        socket
            .read_exact(&mut byte)
            .expect("a gateway that attaches");
        seen.push(byte[0]);
    }
}

/// Counts messages and answers iqs, until the gateway has gone.
fn serve(mut socket: TcpStream, arrived: &AtomicUsize) {
    let (messages, iqs) = (
        memmem::Finder::new("</message>"),
        memmem::Finder::new("<iq "),
    );
    let (mut buffer, mut kept) = (vec![0; 1 << 18], 0);
    while let Ok(read @ 1..) = socket.read(&mut buffer[kept..]) {
        let filled = kept + read;
        let mut done = 0;
        let mut count = 0;
        for end in messages.find_iter(&buffer[..filled]) {
            count += 1;
            done = end + "</message>".len();
        }
        if count > 0 {
            arrived.fetch_add(count, Ordering::Release);
        }
        for at in iqs.find_iter(&buffer[..filled]) {
            let tag = &buffer[at..filled];
            let Some(length) = tag.iter().position(|byte| *byte == b'>') else {
                continue;
            };
            let tag = String::from_utf8_lossy(&tag[..length]).into_owned();
            if let Some(answer) = answer(&tag)
                && (&socket).write_all(answer.as_bytes()).is_err()
            {
                return;
            }
            done = done.max(at + length);
        }
        // The rest may be the start of something that is counted.
        let from = done.max(filled.saturating_sub(4096));
        buffer.copy_within(from..filled, 0);
        kept = filled - from;
    }
}

/// The server's answer to the iq with this start tag: an iq to the component itself comes
/// back, any other receives an empty result.
fn answer(tag: &str) -> Option<String> {
    let attribute = |name: &str| {
        let value = tag.split_once(&format!(" {name}="))?.1;
        let quote = value.chars().next()?;
        value[1..].split(quote).next()
    };
    let (id, from, to) = (attribute("id")?, attribute("from")?, attribute("to")?);
    if attribute("type") != Some("get") {
        return None;
    }
    if from == to {
        return Some(format!(
            "<iq type='get' id='{id}' from='{from}' to='{to}'><ping xmlns='urn:xmpp:ping'/></iq>"
        ));
    }
    Some(format!(
        "<iq type='result' id='{id}' from='{to}' to='{from}'/>"
    ))
}
