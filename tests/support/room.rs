//! A room of a MUC service (XEP-0045), as one of its occupants sees it.

use minidom::Element;

use super::client::Client;
use super::cluster::{Builder, Cluster, SECRET};
use super::pair::Pair;
use super::server;
use super::xml::{body, child, children, escape};

const USER: &str = "http://jabber.org/protocol/muc#user";

/// An occupant of a room.
#[derive(Debug)]
pub struct Occupant<'a> {
    pub client: &'a Client,
    room: String,
    nick: String,
}

impl<'a> Occupant<'a> {
    /// Enters `room`, and waits for the room's confirmation; the room sends its history too.
    pub async fn join(client: &'a Client, room: &str, nick: &str) -> Self {
        client
            .send(&format!(
                "<presence to='{room}/{nick}'><x xmlns='http://jabber.org/protocol/muc'/></presence>"
            ))
            .await;
        let occupant = Self {
            client,
            room: room.to_owned(),
            nick: nick.to_owned(),
        };
        let own = client
            .until("its own presence in the room", |stanza| {
                occupant.is_from(stanza, "presence", nick) && has_status(stanza, "110")
            })
            .await;
        if has_status(&own, "201") {
            occupant.unlock().await;
        }
        occupant
    }

    /// Unlocks a new room by accepting its configuration as its owner.
    async fn unlock(&self) {
        let form = "<query xmlns='http://jabber.org/protocol/muc#owner'>\
                    <x xmlns='jabber:x:data' type='submit'/></query>";
        let answer = self.client.iq(Some(&self.room), "set", form).await;
        assert_eq!(answer.attr("type"), Some("result"), "{answer:?}");
    }

    /// Sends `text` to all occupants.
    pub async fn say(&self, text: &str) {
        let (room, text) = (&self.room, escape(text));
        self.client
            .send(&format!(
                "<message type='groupchat' to='{room}' id='{text}'><body>{text}</body></message>"
            ))
            .await;
    }

    /// Waits for a message with `text` from `nick`.
    pub async fn hear(&self, nick: &str, text: &str) -> Element {
        let what = format!("{nick} to say {text:?}");
        self.client
            .until(&what, |stanza| {
                self.is_from(stanza, "message", nick) && body(stanza).as_deref() == Some(text)
            })
            .await
    }

    /// Waits for the next message; returns nick and text.
    pub async fn hear_next(&self) -> (String, String) {
        let said = self
            .client
            .until("something said", |stanza| {
                stanza.attr("type") == Some("groupchat") && body(stanza).is_some()
            })
            .await;
        let from = said.attr("from").unwrap_or_default();
        let nick = from.strip_prefix(&format!("{}/", self.room));
        let nick = nick.unwrap_or_else(|| panic!("{said:?}")).to_owned();
        (nick, body(&said).unwrap_or_default())
    }

    /// Waits until `nick` is in the room; returns the real address that the room shows.
    pub async fn see(&self, nick: &str) -> Option<String> {
        let presence = self.presence(nick, None).await;
        let item = presence.get_child("x", USER).and_then(|x| child(x, "item"));
        item.and_then(|item| item.attr("jid")).map(str::to_owned)
    }

    /// Waits until `nick` has left; returns the room's presence.
    pub async fn see_leave(&self, nick: &str) -> Element {
        self.presence(nick, Some("unavailable")).await
    }

    async fn presence(&self, nick: &str, kind: Option<&str>) -> Element {
        let what = format!("{nick}'s presence {kind:?}");
        self.client
            .until(&what, |stanza| {
                self.is_from(stanza, "presence", nick) && stanza.attr("type") == kind
            })
            .await
    }

    /// Leaves, and waits for the room's confirmation.
    pub async fn leave(&self) {
        let Self { room, nick, .. } = self;
        self.client
            .send(&format!(
                "<presence type='unavailable' to='{room}/{nick}'/>"
            ))
            .await;
        self.see_leave(nick).await;
    }

    fn is_from(&self, stanza: &Element, name: &str, nick: &str) -> bool {
        let from = format!("{}/{nick}", self.room);
        stanza.name() == name && stanza.attr("from") == Some(&from)
    }
}

/// Whether the room's presence has that status code (XEP-0045 §15.6).
pub fn has_status(stanza: &Element, code: &str) -> bool {
    stanza
        .get_child("x", USER)
        .is_some_and(|x| children(x, "status").any(|status| status.attr("code") == Some(code)))
}

/// The rooms of the shared domain.
pub const ROOMS: &str = "muc.example.test";

/// Sets up two datacenters. The server of `dc1.test` has the rooms, under its own name `local` or
/// under their global one; the server of `dc2.test` has a component for them.
pub fn cluster_with_rooms(pair: impl Into<Pair>, local: Option<&str>) -> Builder {
    let Pair { backend, kinds } = pair.into();
    let name = local.unwrap_or(ROOMS).to_owned();
    let has_stream = local.is_some();
    let local = local.map_or(String::new(), |local| format!("local = '{local}', "));
    let rooms = move |server: server::Builder| {
        let server = server.rooms(&name);
        if has_stream {
            server.service(ROOMS, SECRET)
        } else {
            server
        }
    };
    Cluster::on(backend)
        .datacenter("dc1.test")
        .its_server(kinds[0])
        .its(rooms)
        .its_config(&format!("services = [{{ {local}domain = '{ROOMS}' }}]"))
        .datacenter("dc2.test")
        .its_server(kinds[1])
        .its(|server| server.service(ROOMS, SECRET))
}

/// Starts the cluster, and waits until both servers reach the rooms.
pub async fn start_with_rooms(pair: impl Into<Pair>, local: Option<&str>) -> Cluster {
    let cluster = cluster_with_rooms(pair, local).start().await;
    cluster.dc("dc2.test").gateway.until_attached(ROOMS).await;
    if local.is_some() {
        cluster.dc("dc1.test").gateway.until_attached(ROOMS).await;
    }
    cluster
}
