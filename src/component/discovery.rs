//! Which server software the gateway is attached to (XEP-0030).
//!
//! Each stream of the shared domain asks for the server's disco#info as it
//! begins; until the answer arrives, what was known before applies.

use tokio::sync::watch;
use xmpp_parsers::ns;

use super::pending_iqs::IqReply;
use crate::servers::KnownServer;
use crate::stanza::Stanza;

#[derive(Debug)]
pub(super) struct ServerDiscovery {
    /// Publishes the discovered server.
    known: watch::Sender<KnownServer>,
}

impl ServerDiscovery {
    pub fn new(known: watch::Sender<KnownServer>) -> Self {
        Self { known }
    }

    /// An error, or a reply without disco#info, leaves the known server unchanged.
    pub fn answered(&self, reply: IqReply, answer: &Stanza) {
        let tree = answer.to_element();
        let Some(info) = tree.get_child("query", ns::DISCO_INFO) else {
            return;
        };
        if reply != IqReply::Result {
            return;
        }
        let now = KnownServer::of_info(info);
        let name = now
            .name
            .clone()
            .unwrap_or_else(|| "of an unknown kind".to_owned());
        let is_news = |before: &mut KnownServer| std::mem::replace(before, now.clone()) != now;
        if self.known.send_if_modified(is_news) {
            tracing::info!("the server is {} (docs/servers.md)", name.escape_debug());
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::stanza::Limits;

    fn info_of(name: &str) -> String {
        format!(
            "<query xmlns='{}'><identity category='server' type='im' name='{name}'/>\
             <feature var='vcard-temp'/></query>",
            ns::DISCO_INFO
        )
    }

    fn named(name: &str) -> KnownServer {
        KnownServer::of_info(&info_of(name).parse().unwrap())
    }

    /// The result after `reply` carrying Prosody's info, for a server that was a
    /// MongooseIM before.
    fn known_after(reply: IqReply) -> KnownServer {
        let discovery = ServerDiscovery::new(watch::Sender::new(named("MongooseIM")));
        let info = info_of("Prosody");
        let text = format!("<iq from='dc1.test' id='i' to='example.test'>{info}</iq>");
        let answer = Stanza::parse(Bytes::from(text), &Limits::default()).unwrap();
        discovery.answered(reply, &answer);
        discovery.known.borrow().clone()
    }

    #[test]
    fn a_server_may_be_replaced_by_another() {
        assert_eq!(known_after(IqReply::Result), named("Prosody"));
    }

    #[test]
    fn an_error_leaves_what_is_known() {
        assert_eq!(known_after(IqReply::Error), named("MongooseIM"));
    }
}
