//! What every kind of server has: a domain, accounts, and ports of its own.

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::client::header;
use super::machine::Machine;
use super::port::Port;

/// Where a server is, and who has an account there. Each kind of server
/// dereferences to its own.
#[derive(Debug)]
pub struct Site {
    domain: String,
    users: Vec<User>,
    c2s: Port,
    components: Port,
    own_components: Option<Port>,
}

/// An account.
#[derive(Debug, Clone)]
pub struct User {
    /// Its localpart.
    pub name: String,
    /// Its password.
    pub password: String,
}

impl Site {
    /// On free ports; no account yet.
    pub fn new(domain: &str) -> Self {
        Self {
            domain: domain.to_owned(),
            users: Vec::new(),
            c2s: Port::take(),
            components: Port::take(),
            own_components: None,
        }
    }

    /// On free ports of that machine.
    pub fn on(mut self, machine: &Machine) -> Self {
        self.c2s = Port::take_on(Some(machine));
        self.components = Port::take_on(Some(machine));
        self
    }

    /// With a port of their own for the components of the test itself.
    pub fn with_own_components(mut self) -> Self {
        self.own_components = Some(Port::take());
        self
    }

    /// One more account.
    pub fn add(&mut self, name: &str, password: &str) {
        self.users.push(User {
            name: name.to_owned(),
            password: password.to_owned(),
        });
    }

    /// The domain of its users.
    pub fn domain(&self) -> &str {
        &self.domain
    }

    /// Who has an account.
    pub fn users(&self) -> &[User] {
        &self.users
    }

    /// Where clients connect, without TLS.
    pub fn c2s(&self) -> SocketAddr {
        self.c2s.address()
    }

    /// Where gateways connect as components.
    pub fn component_address(&self) -> SocketAddr {
        self.components.address()
    }

    /// Where the components of the test itself connect.
    pub fn own_component_address(&self) -> SocketAddr {
        let port = self.own_components.as_ref().unwrap_or(&self.components);
        port.address()
    }

    /// The password of `user`.
    pub fn password_of(&self, user: &str) -> &str {
        let user = self
            .users
            .iter()
            .find(|known| known.name == user)
            .unwrap_or_else(|| panic!("{} has no user {user}", self.domain));
        &user.password
    }

    /// Opens a stream as a client and waits for the features, which come after
    /// everything else is loaded.
    pub async fn greeting(&self) -> Result<(), String> {
        let greeted = async {
            let mut stream = TcpStream::connect(self.c2s()).await?;
            stream.write_all(header(&self.domain).as_bytes()).await?;
            let mut answer = Vec::new();
            while memchr::memmem::find(&answer, b"<stream:features").is_none() {
                if stream.read_buf(&mut answer).await? == 0 {
                    let answer = String::from_utf8_lossy(&answer).into_owned();
                    return Err(std::io::Error::other(answer));
                }
            }
            Ok(())
        };
        greeted.await.map_err(|error| error.to_string())
    }
}
