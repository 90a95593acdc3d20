//! `[control]`: how the gateway asks the server who is online.

use super::reading::Reading;
use super::sections::require;
use super::{Endpoint, Secret, secrets};
use crate::host::Host;

const DOMAIN: &str = "control.domain";
const SERVER: &str = "control.server";
const URL: &str = "control.mongooseim.url";
const USERNAME: &str = "control.mongooseim.username";
const PASSWORD: &str = "control.mongooseim.password";

/// `[control]`
#[derive(Debug, Clone, Default)]
pub struct ControlConfig {
    /// The control component.
    pub component: Option<ControlComponent>,
    /// `[control.mongooseim]`
    pub mongooseim: Option<MongooseImConfig>,
}

/// A component of its own, so that no remote user's address can use what the
/// server lets it do.
#[derive(Debug, Clone)]
pub struct ControlComponent {
    /// `domain`
    pub domain: Host,
    /// `server`: where the server accepts it.
    pub server: Endpoint,
    /// `secret`, or the first line of `secret_file`.
    pub secret: Secret,
}

/// MongooseIM's admin GraphQL.
#[derive(Debug, Clone)]
pub struct MongooseImConfig {
    /// `url`, http or https.
    pub url: String,
    /// `username`
    pub username: String,
    /// `password`
    pub password: Secret,
}

/// Nothing of it is mandatory; what is begun must be whole.
pub(super) fn read(
    reading: &mut Reading,
    global: Option<&Host>,
    local: Option<&Host>,
) -> ControlConfig {
    ControlConfig {
        component: component(reading, global, local),
        mongooseim: mongooseim(reading),
    }
}

fn component(
    reading: &mut Reading,
    global: Option<&Host>,
    local: Option<&Host>,
) -> Option<ControlComponent> {
    let begun = [DOMAIN, SERVER, "control.secret", "control.secret_file"];
    if !begun.into_iter().any(|key| reading.is_set(key)) {
        return None;
    }
    let secret = secrets::read(reading, secrets::CONTROL);
    let own: Option<Endpoint> = reading.get(SERVER);
    if own.as_ref().is_some_and(|server| server.port == 0) {
        reading.refuse(SERVER, "has port 0; give the server's component port");
    }
    let server = own.or_else(|| reading.get("component.server"));
    let domain: Option<Host> = reading.get(DOMAIN);
    if domain.is_none() {
        require(reading, DOMAIN, "the rest of [control] needs it");
    }
    if domain.is_some() && domain.as_ref() == global {
        let what = "is the global domain, under which remote users write: they could use what the \
                    server lets the control component do; take a domain of its own, as \
                    gwctl.dc1.example.com";
        reading.refuse(DOMAIN, what);
    } else if domain.is_some() && domain.as_ref() == local {
        let what = "is local_host, which is the server's own; take a domain of its own, as \
                    gwctl.dc1.example.com";
        reading.refuse(DOMAIN, what);
    }
    Some(ControlComponent {
        domain: domain?,
        server: server?,
        secret: secret?,
    })
}

fn mongooseim(reading: &mut Reading) -> Option<MongooseImConfig> {
    let keys = [URL, USERNAME, PASSWORD];
    if !keys.into_iter().any(|key| reading.is_set(key)) {
        return None;
    }
    for key in keys {
        if !reading.is_set(key) {
            require(reading, key, "the rest of [control.mongooseim] needs it");
        }
    }
    let url: Option<String> = reading.get(URL);
    if let Some(url) = &url
        && !is_http(url)
    {
        let what = "cannot be used; allowed: http://host:port/api/graphql or https://…, without a \
                    user or password in it";
        reading.refuse(URL, what);
    }
    Some(MongooseImConfig {
        url: url?,
        username: reading.get(USERNAME)?,
        password: reading.get(PASSWORD)?,
    })
}

/// Whether it can be asked, and holds no password that could show.
fn is_http(url: &str) -> bool {
    reqwest::Url::parse(url).is_ok_and(|url| {
        matches!(url.scheme(), "http" | "https")
            && url.has_host()
            && url.username().is_empty()
            && url.password().is_none()
    })
}
