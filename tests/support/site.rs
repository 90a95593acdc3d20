//! The common part of all kinds of servers: a domain, accounts, and reserved ports.

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::client::header;
use super::machine::Machine;
use super::port::Port;

/// The addresses and the accounts of a server. Each kind of server dereferences to its site.
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
    /// Creates a site on free ports, without accounts.
    pub fn new(domain: &str) -> Self {
        Self {
            domain: domain.to_owned(),
            users: Vec::new(),
            c2s: Port::take(),
            components: Port::take(),
            own_components: None,
        }
    }

    /// Moves it to free ports of that machine.
    pub fn on(mut self, machine: &Machine) -> Self {
        self.c2s = Port::take_on(Some(machine));
        self.components = Port::take_on(Some(machine));
        self
    }

    /// Adds a separate port for the components of the test itself.
    pub fn with_own_components(mut self) -> Self {
        self.own_components = Some(Port::take());
        self
    }

    /// Adds an account.
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

    /// The accounts.
    pub fn users(&self) -> &[User] {
        &self.users
    }

    /// The address for clients, without TLS.
    pub fn c2s(&self) -> SocketAddr {
        self.c2s.address()
    }

    /// The address for gateways, which connect as components.
    pub fn component_address(&self) -> SocketAddr {
        self.components.address()
    }

    /// The address for the components of the test itself.
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

    /// Opens a stream as a client and waits for the features, which the server sends after
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
