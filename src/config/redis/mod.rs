//! `[redis]`: the session table in Redis.

mod url;

use std::path::PathBuf;
use std::time::Duration;

pub use url::{RedisUrl, Site};

pub(crate) use url::FORMS;

use super::problem::Origin;
use super::reading::Reading;
use super::{Secret, Times, sections, times, tls};

const URL: &str = "redis.url";
const CACERTFILE: &str = "redis.cacertfile";
const CERTFILE: &str = "redis.certfile";
const KEYFILE: &str = "redis.keyfile";

/// `[redis]`
#[derive(Debug, Clone)]
pub struct Redis {
    /// `url`: as [`RedisUrl`] reads it; may hold a password.
    pub url: Secret,
    /// `compat`: what Redis is in truth.
    pub compat: Compat,
    /// `cacertfile`, `certfile`, `keyfile`
    pub tls: RedisTls,
    /// `expire_after`: how long an entry lives that nobody refreshes.
    pub expire_after: Duration,
    /// `refresh_after`: how often each entry is refreshed.
    pub refresh_after: Duration,
}

/// What Redis is in truth.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compat {
    /// Redis, or what speaks all of its protocol.
    Redis,
    /// Dynomite: it closes the connection on many commands.
    Dynomite,
}

/// Files for TLS to Redis.
#[derive(Debug, Clone, Default)]
pub struct RedisTls {
    /// `cacertfile`: PEM, the CA that signs the servers; without it, the
    /// public CAs count.
    pub cacertfile: Option<PathBuf>,
    /// `certfile` and `keyfile`: PEM, what this gateway shows to the servers.
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
}

/// Tells that the section has no effect, if something of it is set.
pub(super) fn is_unused(reading: &mut Reading) {
    if reading.get::<Secret>(URL).is_some() {
        let what = "has no effect with sessions.backend = \"mesh\" (the default); remove it, or set \
                    sessions.backend = \"redis\"";
        reading.warn(URL, what);
    }
}

/// The section, its files read once to see that they are good.
pub(super) fn read(reading: &mut Reading) -> Option<Redis> {
    let compat = compat(reading);
    let url = url(reading, compat);
    let tls = tls_files(reading, url.as_ref().map(|(_, url)| url.tls));
    let times = times::read(reading, "redis.expire_after", "redis.refresh_after");
    Some(Redis {
        url: url?.0,
        compat: compat?,
        tls,
        expire_after: times?.expire_after,
        refresh_after: times?.refresh_after,
    })
}

fn compat(reading: &mut Reading) -> Option<Compat> {
    let compat: String = reading.get("redis.compat")?;
    Some(match compat.as_str() {
        "dynomite" => Compat::Dynomite,
        _ => Compat::Redis,
    })
}

/// The URL, if it is one, suits `compat` and was not given with a password on
/// the command line. No message quotes any part of it.
fn url(reading: &mut Reading, compat: Option<Compat>) -> Option<(Secret, RedisUrl)> {
    let Some(text) = reading.get::<Secret>(URL) else {
        sections::require(reading, URL, "the session table is kept there");
        return None;
    };
    let url = match RedisUrl::parse(text.reveal()) {
        Ok(url) => url,
        Err(what) => {
            reading.refuse(URL, format!("{what}; allowed: {FORMS}"));
            return None;
        }
    };
    if compat == Some(Compat::Dynomite)
        && let Some(what) = url.refused_by_dynomite()
    {
        reading.refuse(
            URL,
            format!("{what} (redis.compat = \"dynomite\" sends only what Dynomite understands)"),
        );
        return None;
    }
    if url.has_password() && reading.origin(URL) == Origin::Flag {
        let what = "has a password, which would show in the process list; set it by \
                    STRAIT_REDIS_URL or in the file";
        reading.refuse(URL, what);
        return None;
    }
    Some((text, url))
}

/// `uses_tls` is what the URL says, if it could be read.
fn tls_files(reading: &mut Reading, uses_tls: Option<bool>) -> RedisTls {
    let cacertfile: Option<PathBuf> = reading.get(CACERTFILE);
    let certfile: Option<PathBuf> = reading.get(CERTFILE);
    let keyfile: Option<PathBuf> = reading.get(KEYFILE);
    for (key, file) in [
        (CACERTFILE, &cacertfile),
        (CERTFILE, &certfile),
        (KEYFILE, &keyfile),
    ] {
        if file.is_some() && uses_tls == Some(false) {
            let what =
                "is set, but redis.url asks for no TLS; begin that with rediss, or remove this";
            reading.refuse(key, what);
        }
    }
    if let Some(file) = &cacertfile {
        tls::check_authority(reading, CACERTFILE, file);
    }
    let identity = match (certfile, keyfile) {
        (Some(certfile), keyfile) => {
            let keyfile = keyfile.unwrap_or_else(|| certfile.clone());
            tls::check_pair(reading, (CERTFILE, &certfile), (KEYFILE, &keyfile));
            Some((certfile, keyfile))
        }
        (None, Some(_)) => {
            let what = "is set, but redis.certfile is not; set both, or remove this";
            reading.refuse(KEYFILE, what);
            None
        }
        (None, None) => None,
    };
    RedisTls {
        cacertfile,
        identity,
    }
}
