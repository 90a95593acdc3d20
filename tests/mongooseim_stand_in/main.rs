//! The stand-in for MongooseIM says to a component what the real one was heard to say.

#[path = "../support/mod.rs"]
mod support;

mod attaching;
mod captured;
mod clients;
mod messages;
mod pep;
mod presence;
mod queries;
mod rooms;
mod wire;

use support::client::Client;
use support::component::Component;
use support::mongooseim::{Builder, StandIn};

/// The password of every stand-in's listener, and of every account.
const SECRET: &str = "s3cret";
/// The shared domain, as in the capture.
const GLOBAL: &str = "example.test";

/// As the captured server was: three accounts, nobody's contact.
fn server() -> Builder {
    let server = StandIn::builder("dc1.test").service(GLOBAL, SECRET);
    ["alice", "bob", "carol"]
        .iter()
        .fold(server, |server, user| server.user(user, SECRET))
}

async fn attach(server: &StandIn, domain: &str) -> Component {
    Component::attach(server, domain, SECRET).await
}

async fn login(server: &StandIn, user: &str, resource: &str) -> Client {
    Client::login(server, user, resource).await
}

/// Waits until the server has dealt with all that the component has sent, and
/// what it had to say about it has come.
async fn sync(component: &Component) {
    let id = uuid::Uuid::new_v4().to_string();
    let domain = component.domain();
    component
        .send(&format!(
            "<iq type='get' id='{id}' from='{domain}' to='dc1.test'>\
             <ping xmlns='urn:xmpp:ping'/></iq>"
        ))
        .await;
    component
        .until("a pong", |stanza| stanza.attr("id") == Some(&id))
        .await;
}

/// A contact at the component asks to see the presence of `user`, and may.
async fn watched(component: &Component, contact: &str, user: &Client) {
    let bare = user.jid().split('/').next().unwrap_or_default();
    component
        .send(&format!(
            "<presence type='subscribe' from='{contact}' to='{bare}'/>"
        ))
        .await;
    user.approve(contact).await;
    user.sync().await;
}

/// Everything that the component was sent, raw.
fn heard(component: &Component) -> Vec<String> {
    component.inbox().raw()
}
