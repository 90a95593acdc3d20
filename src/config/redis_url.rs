//! `redis.url`: one server, a master behind Sentinels, or a cluster.

use std::fmt;

use ::redis::{ConnectionInfo, IntoConnectionInfo, ProtocolVersion};

/// The accepted forms of a Redis URL.
pub(crate) const FORMS: &str = "redis://[user:password@]host:port[/db], \
    redis+sentinel://[user:password@]host:port,host:port/master[/db] or \
    redis+cluster://[user:password@]host:port,host:port; rediss for redis means TLS";

/// Special characters would end a part of the URL early.
const ENCODED: &str = "special characters in a password must be percent-encoded";
const UNREADABLE: &str = "is not a URL that Redis clients know; special characters in a password must be percent-encoded";

/// A parsed Redis URL. `Debug` prints no password.
#[derive(Debug, Clone)]
pub struct RedisUrl {
    /// The servers.
    pub site: Site,
    /// Whether all connections use TLS.
    pub tls: bool,
}

/// The servers that a URL names.
#[derive(Debug, Clone)]
pub enum Site {
    /// One server.
    Server(Box<ConnectionInfo>),
    /// A master that Sentinels name.
    Sentinel {
        /// The Sentinels, with the user and password for them.
        sentinels: Vec<ConnectionInfo>,
        /// The master's name among the Sentinels.
        master: String,
        /// User, password and database of the master; the address in it is that of a Sentinel.
        access: Box<ConnectionInfo>,
    },
    /// The first servers of a Redis Cluster to connect to.
    Cluster(Vec<ConnectionInfo>),
}

impl RedisUrl {
    /// Parses `url`.
    ///
    /// # Errors
    /// A description of the mistake, which quotes no part of the URL.
    pub fn parse(url: &str) -> Result<Self, String> {
        let (scheme, rest) = url.split_once("://").unwrap_or_default();
        let (base, form) = scheme.split_once('+').unwrap_or((scheme, ""));
        let site = match (base, form) {
            ("redis" | "rediss", "") => server(url)?,
            ("redis" | "rediss", "sentinel") => SeveralServers::split(base, rest)?.sentinel()?,
            ("redis" | "rediss", "cluster") => SeveralServers::split(base, rest)?.cluster()?,
            _ => Err(
                "does not begin with redis://, redis+sentinel:// or redis+cluster://, or the \
                      same with rediss",
            )?,
        };
        let tls = base == "rediss";
        Ok(Self { site, tls })
    }

    /// Returns whether the URL holds a password, which must not show.
    pub(crate) fn has_password(&self) -> bool {
        let has = |info: &ConnectionInfo| info.redis_settings().password().is_some();
        match &self.site {
            Site::Server(info) => has(info),
            Site::Sentinel {
                sentinels, access, ..
            } => has(access) || sentinels.iter().any(has),
            Site::Cluster(servers) => servers.iter().any(has),
        }
    }

    /// The feature of this URL on which Dynomite would close the connection, if there is one.
    pub(crate) fn refused_by_dynomite(&self) -> Option<&'static str> {
        let Site::Server(info) = &self.site else {
            return Some(
                "names Sentinels or a Redis Cluster, but Dynomite is one server to its clients: \
                 redis://host:port",
            );
        };
        let settings = info.redis_settings();
        if settings.password().is_some() || settings.username().is_some() {
            Some("has a user or a password, but Dynomite knows no AUTH; remove it")
        } else if settings.db() != 0 {
            Some("has a database, but Dynomite knows no SELECT; remove it")
        } else if settings.protocol() != ProtocolVersion::RESP2 {
            Some("asks for RESP3, but Dynomite knows no HELLO; remove the protocol")
        } else {
            None
        }
    }
}

/// The address for messages: `host:port`, and the kind unless it is one server.
impl fmt::Display for RedisUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |infos: &[ConnectionInfo]| {
            let addresses: Vec<_> = infos.iter().map(|info| info.addr().to_string()).collect();
            addresses.join(",")
        };
        match &self.site {
            Site::Server(info) => write!(f, "{}", info.addr()),
            Site::Sentinel {
                sentinels, master, ..
            } => write!(f, "master {master} of the Sentinels {}", list(sentinels)),
            Site::Cluster(servers) => write!(f, "the cluster of {}", list(servers)),
        }
    }
}

/// A URL of several servers, split into its parts.
struct SeveralServers<'a> {
    base: &'a str,
    user: Option<&'a str>,
    hosts: Vec<&'a str>,
    path: &'a str,
    parameters: Vec<(&'a str, &'a str)>,
}

impl<'a> SeveralServers<'a> {
    fn split(base: &'a str, rest: &'a str) -> Result<Self, String> {
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        let (user, hosts) = match authority.rsplit_once('@') {
            Some((user, hosts)) => (Some(user), hosts),
            None => (None, authority),
        };
        let pairs = query.split('&').filter(|pair| !pair.is_empty());
        Ok(Self {
            base,
            user,
            hosts: hosts.split(',').collect(),
            path: path.trim_end_matches('/'),
            parameters: pairs
                .map(|pair| pair.split_once('='))
                .collect::<Option<_>>()
                .ok_or(UNREADABLE)?,
        })
    }

    fn cluster(self) -> Result<Site, String> {
        if !matches!(self.path, "" | "0") {
            Err(
                "has something after its servers, but a Redis Cluster has no databases; remove it",
            )?;
        }
        if !self.parameters.is_empty() {
            Err("has parameters after `?`, but a cluster takes none")?;
        }
        Ok(Site::Cluster(self.each(self.user, 6379)?))
    }

    fn sentinel(self) -> Result<Site, String> {
        let (master, db) = self.path.split_once('/').unwrap_or((self.path, "0"));
        let in_names = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
        if master.is_empty() || !master.chars().all(in_names) {
            Err("has no name of a master after its Sentinels, as in \
                 redis+sentinel://host:26379,host:26379/mymaster")?;
        }
        if db.parse::<u32>().is_err() {
            Err("has a database that is not a number after the master's name")?;
        }
        let (mut user, mut password) = ("", None);
        for (name, value) in &self.parameters {
            match *name {
                "sentinel_username" => user = value,
                "sentinel_password" => password = Some(value),
                _ => Err("has an unknown parameter after `?`; allowed: \
                          sentinel_username and sentinel_password")?,
            }
        }
        if password.is_none() && !user.is_empty() {
            Err("has a sentinel_username without a sentinel_password")?;
        }
        let for_sentinels = password.map(|password| format!("{user}:{password}"));
        let host = self.hosts.first().copied().unwrap_or_default();
        Ok(Site::Sentinel {
            sentinels: self.each(for_sentinels.as_deref(), 26379)?,
            master: master.to_owned(),
            access: Box::new(self.one(self.user, host, db).ok_or(UNREADABLE)?),
        })
    }

    /// All servers; `port` is the default port.
    fn each(&self, user: Option<&str>, port: u16) -> Result<Vec<ConnectionInfo>, String> {
        let servers = self.hosts.iter().enumerate().map(|(at, host)| {
            let after_address = host.rsplit_once(']').map_or(*host, |(_, after)| after);
            let host = if host.is_empty() || after_address.contains(':') {
                (*host).to_owned()
            } else {
                format!("{host}:{port}")
            };
            let at = at + 1;
            self.one(user, &host, "0").ok_or_else(|| {
                format!("has no good host:port as its server number {at}; {ENCODED}")
            })
        });
        servers.collect()
    }

    /// Builds one server's URL again, because Redis's own client decodes the parts.
    fn one(&self, user: Option<&str>, host: &str, db: &str) -> Option<ConnectionInfo> {
        let user = user.map(|user| format!("{user}@")).unwrap_or_default();
        read(&format!("{}://{user}{host}/{db}", self.base))
    }
}

fn server(url: &str) -> Result<Site, String> {
    let hosts = url.rsplit_once('@').map_or(url, |(_, hosts)| hosts);
    if hosts.contains(',') {
        Err(
            "names several servers; begin it with redis+sentinel:// or redis+cluster:// to \
             say what they are",
        )?;
    }
    if url.contains("#insecure") {
        Err(
            "asks not to verify the server's certificate; name its CA by redis.cacertfile \
             instead",
        )?;
    }
    Ok(Site::Server(Box::new(read(url).ok_or(UNREADABLE)?)))
}

fn read(url: &str) -> Option<ConnectionInfo> {
    url.into_connection_info().ok()
}

#[cfg(test)]
mod tests;
