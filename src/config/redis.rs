//! `[redis]`

use std::path::PathBuf;
use std::time::Duration;

use super::files;
use super::kind::OptionKind::{self, Choice, Path};
use super::kind::{Unit::Seconds, YEAR, number};
use super::problem::Origin;
use super::reading::Reading;
use super::redis_url::{FORMS, RedisUrl};
use super::secret::Secret;
use super::section::{choice, section};
use super::times::{self, Times};

section! {
    /// The session table in Redis; only with sessions.backend = "redis".
    pub struct Redis {
        /// The session table's Redis: redis://host:port/db, redis+sentinel://host:port,host:port/master/db
        /// or redis+cluster://host:port,host:port; rediss for redis means TLS. Mandatory
        /// with sessions.backend = "redis". A URL with a password is refused as a flag, as
        /// flags show in the process list.
        ///
        ///   one server   redis://[user:password@]host:port[/database]
        ///   Sentinels    redis+sentinel://[user:password@]host:port,host:port/master[/database]
        ///                (their own password: ?sentinel_password=… at the end)
        ///   a cluster    redis+cluster://[user:password@]host:port,host:port
        ///
        /// See docs/redis.md.
        "redis.url" url: Secret =
            OptionKind::RedisUrl.described("none", "redis://127.0.0.1:6379");

        /// With "dynomite" the gateway only uses what Dynomite understands.
        "redis.compat" compat: Compat = Choice(Compat::WORDS).default("redis");

        /// The CA that signs the certificates of the Redis servers, PEM; for a rediss URL.
        "redis.cacertfile" = Path.described("the public CAs", "/etc/strait/redis-ca.pem");

        /// The certificate that the gateway shows to the Redis servers, PEM; for a rediss
        /// URL.
        "redis.certfile" = Path.described("none", "/etc/strait/redis-client.pem");

        /// The private key of redis.certfile, PEM.
        "redis.keyfile" = Path.described("redis.certfile", "/etc/strait/redis-client.key");

        /// How long an entry of the session table lives without a refresh, in seconds.
        "redis.expire_after" expire_after: Duration = number(Seconds, 1, YEAR).usual(2, 3600).default("120");

        /// How often each entry is refreshed, in seconds; less than redis.expire_after.
        "redis.refresh_after" refresh_after: Duration = number(Seconds, 1, YEAR).usual(1, 1800).default("60");
    }
    with { tls: RedisTls, }
}

choice! {
    /// The server behind the Redis protocol.
    pub enum Compat {
        /// Redis, or a server with all of its protocol.
        Redis = "redis",
        /// Dynomite: it closes the connection on many commands.
        Dynomite = "dynomite",
    }
}

/// Files for TLS to Redis.
#[derive(Debug, Clone, Default)]
pub struct RedisTls {
    /// `redis.cacertfile`; without it, the public CAs count.
    pub cacertfile: Option<PathBuf>,
    /// `redis.certfile` and `redis.keyfile`
    pub identity: Option<(PathBuf, PathBuf)>,
}

impl Redis {
    /// How long entries live.
    #[must_use]
    pub fn times(&self) -> Times {
        Times {
            expire_after: self.expire_after,
            refresh_after: self.refresh_after,
        }
    }

    pub(super) fn checked(reading: &mut Reading) -> Option<Self> {
        let compat: Option<Compat> = reading.get("redis.compat");
        let url = check_url(reading, compat);
        let tls = tls_files(reading, url.map(|url| url.tls));
        times::check(reading, "redis.expire_after", "redis.refresh_after");
        Self::read(Some(tls), reading)
    }

    /// For a session table that is kept elsewhere.
    pub(super) fn warn_if_set(reading: &mut Reading) {
        if reading.is_set("redis.url") {
            let what = "has no effect with sessions.backend = \"mesh\" (the default); remove it, or set \
                        sessions.backend = \"redis\"";
            reading.warn("redis.url", what);
        }
    }
}

/// Checks that the URL is valid, suits `compat` and was not given with a password on the command
/// line. No message quotes any part of the URL.
fn check_url(reading: &mut Reading, compat: Option<Compat>) -> Option<RedisUrl> {
    let Some(text) = reading.get::<Secret>("redis.url") else {
        reading.require("redis.url", "; the session table is kept there");
        return None;
    };
    let url = RedisUrl::parse(text.reveal()).map_err(|what| format!("{what}; allowed: {FORMS}"));
    let url = url.and_then(|url| match (compat, url.refused_by_dynomite()) {
        (Some(Compat::Dynomite), Some(what)) => Err(format!(
            "{what} (redis.compat = \"dynomite\" sends only what Dynomite understands)"
        )),
        _ if url.has_password() && reading.origin("redis.url") == Origin::Flag => {
            let what = "has a password, which would show in the process list; set it by \
                        STRAIT_REDIS_URL or in the file";
            Err(what.to_owned())
        }
        _ => Ok(url),
    });
    url.map_err(|what| reading.refuse("redis.url", what)).ok()
}

/// `uses_tls` is `None` when the URL is not valid.
fn tls_files(reading: &mut Reading, uses_tls: Option<bool>) -> RedisTls {
    let keys = ["redis.cacertfile", "redis.certfile", "redis.keyfile"];
    if uses_tls == Some(false) {
        for key in keys
            .into_iter()
            .filter(|key| reading.is_set(key))
            .collect::<Vec<_>>()
        {
            let what =
                "is set, but redis.url asks for no TLS; begin that with rediss, or remove this";
            reading.refuse(key, what);
        }
    }
    let [cacertfile, certfile, keyfile] = keys.map(|key| reading.get::<PathBuf>(key));
    if let Some(file) = &cacertfile {
        files::check_authority(reading, "redis.cacertfile", file);
    }
    if certfile.is_none() && keyfile.is_some() && !reading.is_misread("redis.certfile") {
        let what = "is set, but redis.certfile is not; set both, or remove this";
        reading.refuse("redis.keyfile", what);
    }
    let identity = certfile.map(|certfile| {
        let keyfile = keyfile.unwrap_or_else(|| certfile.clone());
        files::check_identity(reading, "redis", Some(&certfile), Some(&keyfile), None);
        (certfile, keyfile)
    });
    RedisTls {
        cacertfile,
        identity,
    }
}
