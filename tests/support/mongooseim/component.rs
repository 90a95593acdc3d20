//! `[[listen.component]]` (XEP-0114), with MongooseIM's behaviour.

use std::time::Duration;

use jid::{DomainPart, Jid};
use tokio::net::TcpStream;
use tokio::time::timeout;
use xmpp_parsers::component::Handshake;

use super::refusal::{Place, Refusal};
use super::session::{Number, Outgoing};
use super::state::{State, address};
use super::stream::{End, Incoming, Shared, header, serve, stream_error};
use super::tree::Tree;

const NS: &str = "jabber:component:accept";
/// Bound for the handshake.
const PATIENCE: Duration = Duration::from_secs(5);

/// An attached component.
struct Attached {
    domain: String,
    number: Number,
}

/// Serves one connection.
pub async fn serve_component(socket: TcpStream, shared: Shared) {
    serve(socket, |incoming, out| read(incoming, out, shared)).await;
}

async fn read(mut incoming: Incoming, out: Outgoing, shared: Shared) {
    let attached = match timeout(PATIENCE, attach(&mut incoming, &out, &shared)).await {
        Ok(Some(attached)) => attached,
        Ok(None) => return,
        Err(_) => return out.write(stream_error("connection-timeout", None)),
    };
    let end = loop {
        match incoming.next().await {
            Ok(stanza) => shared.lock().component_says(&attached.domain, &out, stanza),
            Err(end) => break end,
        }
    };
    match end {
        // The server stops reading and does not detect the end of the connection: the domain
        // stays taken until the server restarts or kick_old replaces the stream. The real server
        // does so only after a control character, and continues to read after a wrong end tag, an
        // unknown entity or an unbound prefix.
        End::Broken => return std::future::pending().await,
        End::Stream => out.write("</stream:stream>"),
        End::Socket => {}
    }
    shared.lock().detach(&attached);
}

/// Exchanges the stream headers and the handshake.
async fn attach(incoming: &mut Incoming, out: &Outgoing, shared: &Shared) -> Option<Attached> {
    let asked = incoming.next().await.ok()?;
    let domain = asked.attr("to").unwrap_or_default();
    let answer = header(domain, NS);
    let id = answer.attr("id").unwrap_or_default().to_owned();
    out.write(answer.open());
    // Any name is accepted, but a name is required.
    let Ok(domain) = DomainPart::new(domain) else {
        out.write(stream_error("host-unknown", None));
        return None;
    };
    let proof = incoming.next().await.ok()?;
    let mut state = shared.lock();
    let expected = Handshake::from_stream_id_and_password(id, &state.password);
    if proof.name != "handshake" || proof.text() != minidom::Element::from(expected).text() {
        out.write(stream_error("not-authorized", Some("Invalid handshake")));
        return None;
    }
    let domain = domain.to_string();
    let is_own = domain == state.domain
        || state
            .rooms
            .as_ref()
            .is_some_and(|rooms| rooms.domain() == domain);
    if is_own {
        out.write(stream_error("conflict", None));
        return None;
    }
    if let Some((_, old)) = state.components.get(&domain) {
        if !state.kick_old {
            out.write(stream_error("conflict", None));
            return None;
        }
        old.write(stream_error("conflict", Some("Replaced by new connection")));
        old.close();
    }
    let number = state.next_number();
    state
        .components
        .insert(domain.clone(), (number, out.clone()));
    out.write("<handshake/>");
    Some(Attached { domain, number })
}

impl State {
    fn detach(&mut self, attached: &Attached) {
        let mine = self.components.get(&attached.domain);
        if mine.is_some_and(|(number, _)| *number == attached.number) {
            self.components.remove(&attached.domain);
        }
    }

    /// Processes a component's stanza. A faulty stanza is returned on the component's own stream,
    /// which continues.
    fn component_says(&mut self, domain: &str, out: &Outgoing, mut stanza: Tree) {
        stanza.unset("xmlns");
        let is_stanza = matches!(stanza.name.as_str(), "message" | "presence" | "iq");
        let from = address(&stanza, "from");
        let may_send = |from: &Jid| !self.check_from || from.domain().as_str() == domain;
        if is_stanza && from.as_ref().is_some_and(may_send) && address(&stanza, "to").is_some() {
            return self.route(stanza);
        }
        if let Some(error) = Refusal::bad_request().about(&stanza, Place::First) {
            out.write(error);
        }
    }
}
