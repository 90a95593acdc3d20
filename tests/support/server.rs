//! The XMPP server of a datacenter, of any kind.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::ops::Deref;

use super::ejabberd::{self, Ejabberd};
use super::mongooseim::{self, StandIn};
use super::process::Process;
use super::prosody::{self, Prosody};
use super::site::Site;
use super::workdir::Workdir;

/// The kind of server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    Prosody,
    Ejabberd,
    /// A stand-in for MongooseIM.
    MongooseIm,
}

/// The setup of a server, with options that every kind supports.
#[derive(Debug)]
pub enum Builder {
    Prosody(prosody::Builder),
    Ejabberd(ejabberd::Builder),
    MongooseIm(mongooseim::Builder),
}

/// A running, stopped or killed server; it keeps its data and ports through restarts.
#[derive(Debug)]
pub enum Server {
    Prosody(Prosody),
    Ejabberd(Ejabberd),
    MongooseIm(StandIn),
}

/// Evaluates the same expression for each kind.
macro_rules! each {
    ($of:ident, $self:expr, $server:ident => $do:expr) => {
        match $self {
            $of::Prosody($server) => $do,
            $of::Ejabberd($server) => $do,
            $of::MongooseIm($server) => $do,
        }
    };
}

/// Evaluates the same expression for each kind's builder, and wraps the result in that kind.
macro_rules! rebuilt {
    ($self:expr, $server:ident => $do:expr) => {
        match $self {
            Self::Prosody($server) => Self::Prosody($do),
            Self::Ejabberd($server) => Self::Ejabberd($do),
            Self::MongooseIm($server) => Self::MongooseIm($do),
        }
    };
}

impl Kind {
    /// Starts the setup of a server for the users of `domain`.
    pub fn builder(self, domain: &str) -> Builder {
        match self {
            Self::Prosody => Builder::Prosody(Prosody::builder(domain)),
            Self::Ejabberd => Builder::Ejabberd(Ejabberd::builder(domain)),
            Self::MongooseIm => Builder::MongooseIm(StandIn::builder(domain)),
        }
    }

    /// The name that the server reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::Prosody => "Prosody",
            Self::Ejabberd => "ejabberd",
            Self::MongooseIm => "MongooseIM",
        }
    }
}

impl Builder {
    /// Adds an account.
    pub fn user(self, name: &str, password: &str) -> Self {
        rebuilt!(self, server => server.user(name, password))
    }

    /// Sends every user's presence to `domain` too, as an operator would provision it.
    pub fn watched_by(self, domain: &str) -> Self {
        rebuilt!(self, server => server.watched_by(domain))
    }

    /// Removes the watcher: no presence is sent to a gateway automatically.
    pub fn unwatched(self) -> Self {
        rebuilt!(self, server => server.unwatched())
    }

    /// Adds an external component for the test itself.
    pub fn component(self, domain: &str, secret: &str) -> Self {
        match self {
            Self::Prosody(server) => Self::Prosody(server.component(domain, secret, "")),
            Self::Ejabberd(server) => Self::Ejabberd(server.component(domain, secret)),
            // The one listener of MongooseIM accepts any domain.
            Self::MongooseIm(server) => Self::MongooseIm(server),
        }
    }

    /// Adds an external component for a gateway: the shared domain, or a service of another
    /// datacenter. The secret applies only without a snippet.
    pub fn service(self, domain: &str, secret: &str) -> Self {
        rebuilt!(self, server => server.service(domain, secret))
    }

    /// The domains that were given to [`service`](Self::service).
    pub fn services(&self) -> Vec<String> {
        each!(Self, self, server => server.services())
    }

    /// Applies the output of `strait snippet` for this kind.
    pub fn pasted(self, snippet: String) -> Self {
        rebuilt!(self, server => server.pasted(snippet))
    }

    /// The address on which it will accept gateways.
    pub fn component_address(&self) -> SocketAddr {
        each!(Self, self, server => server.component_address())
    }

    /// The kind's name in `strait snippet`.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Prosody(_) => "prosody",
            Self::Ejabberd(_) => "ejabberd",
            Self::MongooseIm(_) => "mongooseim",
        }
    }

    /// Additional configuration for its gateway, as TOML.
    pub fn gateway_config(&self) -> Option<String> {
        match self {
            Self::Prosody(_) | Self::Ejabberd(_) => None,
            Self::MongooseIm(server) => server.gateway_config(),
        }
    }

    /// Enables [`Server::sessions`].
    pub fn listed(self) -> Self {
        match self {
            Self::Prosody(server) => Self::Prosody(server.listed()),
            Self::Ejabberd(server) => Self::Ejabberd(server.listed()),
            Self::MongooseIm(server) => Self::MongooseIm(server),
        }
    }

    /// Adds rooms (XEP-0045), which are archived.
    pub fn rooms(self, domain: &str) -> Self {
        rebuilt!(self, server => server.rooms(domain))
    }

    /// Writes the configuration and starts the server; returns when it answers clients.
    pub async fn start(self, workdir: &Workdir) -> Server {
        match self {
            Self::Prosody(server) => Server::Prosody(server.start(workdir).await),
            Self::Ejabberd(server) => Server::Ejabberd(server.start(workdir).await),
            Self::MongooseIm(server) => Server::MongooseIm(server.start().await),
        }
    }
}

impl Server {
    /// The kind of this server.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Prosody(_) => Kind::Prosody,
            Self::Ejabberd(_) => Kind::Ejabberd,
            Self::MongooseIm(_) => Kind::MongooseIm,
        }
    }

    /// The server as a Prosody, for features of Prosody alone.
    ///
    /// # Panics
    /// On another kind.
    pub fn prosody(&self) -> &Prosody {
        match self {
            Self::Prosody(server) => server,
            other => panic!("{} is not a Prosody", other.domain()),
        }
    }

    /// The server as a Prosody, for features of Prosody alone.
    ///
    /// # Panics
    /// On another kind.
    pub fn prosody_mut(&mut self) -> &mut Prosody {
        match self {
            Self::Prosody(server) => server,
            other => panic!("{} is not a Prosody", other.domain()),
        }
    }

    /// The server as an ejabberd, for features of ejabberd alone.
    ///
    /// # Panics
    /// On another kind.
    pub fn ejabberd(&self) -> &Ejabberd {
        match self {
            Self::Ejabberd(server) => server,
            other => panic!("{} is not an ejabberd", other.domain()),
        }
    }

    /// The process, to freeze it or to read its log.
    ///
    /// # Panics
    /// On a stand-in in the test's own process.
    pub fn process(&self) -> &Process {
        match self {
            Self::Prosody(server) => &server.process,
            Self::Ejabberd(server) => &server.process,
            Self::MongooseIm(server) => panic!("{} has no process", server.domain()),
        }
    }

    /// The full JIDs of all sessions of the server, from an interface that no gateway uses.
    ///
    /// # Errors
    /// When the server does not answer.
    pub async fn sessions(&self) -> Result<BTreeSet<String>, String> {
        match self {
            Self::Prosody(server) => server.sessions().await,
            Self::Ejabberd(server) => server.sessions().await,
            Self::MongooseIm(server) => Ok(server.sessions().into_iter().collect()),
        }
    }

    /// Waits until everything the server has stored is on disk, as it is on a server that runs
    /// for longer than a test: rosters survive a kill.
    pub async fn until_saved(&self) {
        match self {
            Self::Ejabberd(server) => server.until_saved().await,
            // These servers write at once.
            Self::Prosody(_) | Self::MongooseIm(_) => {}
        }
    }

    /// Whether it runs.
    pub fn is_running(&self) -> bool {
        match self {
            Self::MongooseIm(server) => server.is_running(),
            other => other.process().is_running(),
        }
    }

    /// Starts it again after it was stopped or killed, with the same data and ports.
    pub async fn start(&mut self) {
        each!(Self, self, server => server.start().await);
    }

    /// Sends SIGTERM; the server notifies its clients.
    pub async fn stop(&mut self) {
        each!(Self, self, server => server.stop().await);
    }

    /// Sends SIGKILL; clients and components are not notified.
    pub async fn kill9(&mut self) {
        each!(Self, self, server => server.kill9().await);
    }

    /// A clean stop and start.
    pub async fn restart(&mut self) {
        self.stop().await;
        self.start().await;
    }
}

impl Deref for Server {
    type Target = Site;

    fn deref(&self) -> &Site {
        each!(Self, self, server => server)
    }
}

/// Makes one test for each kind of server from each scenario, a function that takes the [`Kind`].
#[macro_export]
macro_rules! on_each_server {
    ($($scenario:ident),+ $(,)?) => {
        $crate::on_each_server! { @with on_prosody Prosody $($scenario)+ }
        $crate::on_each_server! { @with on_ejabberd Ejabberd $($scenario)+ }
    };
    (@with $name:ident $kind:ident $($scenario:ident)+) => {
        mod $name {
            $(
                #[tokio::test(flavor = "multi_thread")]
                async fn $scenario() {
                    super::$scenario($crate::support::server::Kind::$kind).await;
                }
            )+
        }
    };
}

/// Makes one test for each pair of kinds except two Prosodys from each scenario, a function that
/// takes the two [`Kind`]s.
#[macro_export]
macro_rules! on_each_pair {
    ($($scenario:ident),+ $(,)?) => {
        $crate::on_each_pair! { @with prosody_and_ejabberd Prosody Ejabberd $($scenario)+ }
        $crate::on_each_pair! { @with ejabberd_and_prosody Ejabberd Prosody $($scenario)+ }
        $crate::on_each_pair! { @with two_ejabberds Ejabberd Ejabberd $($scenario)+ }
        $crate::on_each_pair! { @with mongooseim_and_ejabberd MongooseIm Ejabberd $($scenario)+ }
        $crate::on_pairs_with_mongooseim! { $($scenario),+ }
    };
    (@with $name:ident $first:ident $second:ident $($scenario:ident)+) => {
        mod $name {
            $(
                #[tokio::test(flavor = "multi_thread")]
                async fn $scenario() {
                    use $crate::support::server::Kind;
                    super::$scenario([Kind::$first, Kind::$second]).await;
                }
            )+
        }
    };
}

/// Makes one test for each of these pairs from each scenario, as [`on_each_pair`] does: no server
/// in the pairs takes long to start.
#[macro_export]
macro_rules! on_pairs_with_mongooseim {
    ($($scenario:ident),+ $(,)?) => {
        $crate::on_each_pair! { @with prosody_and_mongooseim Prosody MongooseIm $($scenario)+ }
        $crate::on_each_pair! { @with two_mongooseims MongooseIm MongooseIm $($scenario)+ }
    };
}

/// Makes a test with two ejabberds from each scenario, as [`on_each_pair`] does.
#[macro_export]
macro_rules! on_two_ejabberds {
    ($($scenario:ident),+ $(,)?) => {
        $crate::on_each_pair! { @with two_ejabberds Ejabberd Ejabberd $($scenario)+ }
    };
}
