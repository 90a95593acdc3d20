//! Clients' connections, limited to the features that the tests' clients use.

use jid::FullJid;
use minidom::Element;
use tokio::net::TcpStream;
use xmpp_parsers::sasl::Auth;

use super::session::{Number, Outgoing, Session};
use super::state::{State, address};
use super::stream::{End, Incoming, Shared, header, serve, stream_error};
use super::tree::Tree;

const NS: &str = "jabber:client";
const SASL: &str = "urn:ietf:params:xml:ns:xmpp-sasl";
const BIND: &str = "urn:ietf:params:xml:ns:xmpp-bind";
const SM: &str = "urn:xmpp:sm:3";

/// Serves one connection.
pub async fn serve_client(socket: TcpStream, shared: Shared) {
    serve(socket, |incoming, out| read(incoming, out, shared)).await;
}

async fn read(mut incoming: Incoming, out: Outgoing, shared: Shared) {
    let Ok(session) = log_in(&mut incoming, &out, &shared).await else {
        return;
    };
    let end = loop {
        match incoming.next().await {
            Ok(stanza) => shared.lock().client_says(session, &out, stanza),
            Err(end) => break end,
        }
    };
    shared.lock().hung_up(session, end);
    match end {
        End::Stream => out.write("</stream:stream>"),
        End::Broken => {
            out.write(stream_error("not-well-formed", None));
            out.write("</stream:stream>");
        }
        End::Socket => {}
    }
}

/// Performs SASL PLAIN and resource binding.
async fn log_in(incoming: &mut Incoming, out: &Outgoing, shared: &Shared) -> Result<Number, End> {
    let domain = shared.lock().domain.clone();
    let open = |features: &str| {
        let header = header(&domain, NS).with("version", "1.0").open();
        out.write(format!(
            "{header}<stream:features>{features}</stream:features>"
        ));
    };
    let asked = incoming.next().await?;
    if asked.attr("to") != Some(&domain) {
        out.write(header("", NS).with("version", "1.0").open());
        out.write(stream_error("host-unknown", None));
        return Err(End::Stream);
    }
    open(&format!(
        "<mechanisms xmlns='{SASL}'><mechanism>PLAIN</mechanism></mechanisms>"
    ));
    let user = loop {
        let auth = incoming.next().await?;
        match shared.lock().authenticate(&auth) {
            Some(user) => break user,
            None => out.write(format!(
                "<failure xmlns='{SASL}'><not-authorized/></failure>"
            )),
        }
    };
    out.write(format!("<success xmlns='{SASL}'/>"));
    incoming.restart();
    incoming.next().await?;
    open(&format!("<bind xmlns='{BIND}'/><sm xmlns='{SM}'/>"));
    loop {
        let iq = incoming.next().await?;
        if let Some(bind) = iq.child_in(BIND) {
            let resource = bind.child("resource").map(Tree::text);
            return Ok(shared.lock().bind(&user, resource, &iq, out));
        }
    }
}

impl State {
    fn authenticate(&self, auth: &Tree) -> Option<String> {
        let auth = Auth::try_from(auth.to_string().parse::<Element>().ok()?).ok()?;
        let text = String::from_utf8(auth.data).ok()?;
        let mut parts = text.split('\0').skip(1);
        let (user, password) = (parts.next()?, parts.next()?);
        let account = self.accounts.get(user)?;
        (account.password == password).then(|| user.to_owned())
    }

    /// Binds a resource, and replaces an older session of that name.
    fn bind(&mut self, user: &str, resource: Option<String>, iq: &Tree, out: &Outgoing) -> Number {
        let resource = resource.unwrap_or_else(|| self.new_id());
        let jid = format!("{}/{resource}", self.bare(user));
        let jid = FullJid::new(&jid).expect("a resource that a test has chosen");
        if let Some(old) = self.find_session(&jid) {
            let way = self.session(old).and_then(|session| session.out.clone());
            self.end_session(old, "Replaced by new connection");
            if let Some(way) = way {
                way.write(stream_error("conflict", Some("Replaced by new connection")));
                way.write("</stream:stream>");
                way.close();
            }
        }
        let number = self.next_number();
        self.insert_session(number, Session::new(jid.clone(), out.clone()));
        let bound = Tree::new("bind")
            .with("xmlns", BIND)
            .holding(Tree::new("jid").saying(jid.as_str()));
        out.write(super::refusal::result(iq, Some(bound)));
        number
    }

    /// Processes a client's stanza; the sender is always the client's own session.
    fn client_says(&mut self, number: Number, out: &Outgoing, mut stanza: Tree) {
        let Some(from) = self.session(number).map(|session| session.jid.clone()) else {
            return;
        };
        if stanza.is("enable", SM) {
            return self.enable_resumption(number, out);
        }
        stanza.unset("xmlns");
        stanza.set("from", from.as_str());
        let to = address(&stanza, "to");
        if let Some(to) = &to
            && self.is_blocked_by_sender(number, &stanza, to)
        {
            return;
        }
        if stanza.name != "presence" && stanza.attr("to").is_none() {
            stanza.set("to", from.to_bare().as_str());
        }
        match stanza.name.as_str() {
            "presence" => self.presence_out(number, stanza, to),
            "message" => self.message_out(number, stanza),
            "iq" => self.route(stanza),
            _ => {}
        }
    }

    /// Enables XEP-0198, limited to hibernation after the loss of the connection.
    fn enable_resumption(&mut self, number: Number, out: &Outgoing) {
        if let Some(session) = self.session_mut(number) {
            session.resumes = true;
        }
        let enabled = Tree::new("enabled")
            .with("id", &self.new_id())
            .with("resume", "true")
            .with("xmlns", SM);
        out.write(enabled);
    }

    /// Handles the end of the client's connection.
    fn hung_up(&mut self, number: Number, end: End) {
        let resumes = self.session(number).is_some_and(|session| session.resumes);
        match end {
            // The session stays, without presence, until a client resumes it or `resume_timeout`
            // (600 s) is over.
            End::Socket if resumes => {
                if let Some(session) = self.session_mut(number) {
                    session.out = None;
                }
            }
            End::Socket => self.end_session(number, "Shutdown by reason: socket_closed"),
            End::Stream => self.end_session(number, "Shutdown by reason: stream_end"),
            End::Broken => self.end_session(number, "Shutdown by reason: stream_error"),
        }
    }
}
