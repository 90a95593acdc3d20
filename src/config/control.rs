//! `[control]`: the gateway's requests for the server's sessions and accounts.

use super::endpoint::Endpoint;
use super::files;
use super::kind::OptionKind::{self, Domain, Path, Text};
use super::reading::Reading;
use super::secret::Secret;
use super::section::section;
use crate::host::Host;
use serde_json::json;

/// `[control]`
#[derive(Debug, Clone, Default)]
pub struct ControlConfig {
    /// The control component.
    pub component: Option<ControlComponent>,
    /// `[control.mongooseim]`
    pub mongooseim: Option<MongooseImConfig>,
}

section! {
    /// A second component, by which the gateway asks the XMPP server for its sessions and
    /// accounts; see docs/sessions.md. Without it the gateway only knows those users who
    /// send something to the shared domain.
    pub struct ControlComponent {
        /// The domain of the control component. Never the global domain: remote users
        /// write under it, and could use the control component's rights.
        "control.domain" domain: Host = Domain.described("none", "gwctl.dc1.example.com");

        /// Where the XMPP server accepts the control component, host:port.
        "control.server" server: Endpoint = OptionKind::Endpoint.described("component.server", "127.0.0.1:5347");

        /// The secret that the XMPP server knows the control component by. It has no flag.
        "control.secret" secret: Secret = OptionKind::Secret
            .described("none; this or control.secret_file is mandatory with control.domain", "change-me-too");

        /// A file whose first line is the control component's secret.
        "control.secret_file" = Path.described("none", "/etc/strait/control-secret");
    }
}

section! {
    /// MongooseIM's admin GraphQL, which lists the sessions there. It needs no control
    /// component.
    pub struct MongooseImConfig {
        /// The address of MongooseIM's admin GraphQL, http:// or https://.
        "control.mongooseim.url" url: String = Text.described("none", "http://127.0.0.1:5551/api/graphql");

        /// The user of MongooseIM's admin GraphQL.
        "control.mongooseim.username" username: String =
            Text.described("none; mandatory with control.mongooseim.url", "admin");

        /// The password of MongooseIM's admin GraphQL. It has no flag.
        "control.mongooseim.password" password: Secret =
            OptionKind::Secret.described("none; mandatory with control.mongooseim.url", "change-me-too");
    }
}

impl ControlConfig {
    /// Nothing of it is mandatory; a begun section must be whole.
    pub(super) fn checked(
        reading: &mut Reading,
        global: Option<&Host>,
        local: Option<&Host>,
    ) -> Self {
        Self {
            component: ControlComponent::checked(reading, global, local),
            mongooseim: MongooseImConfig::checked(reading),
        }
    }
}

impl ControlComponent {
    fn checked(reading: &mut Reading, global: Option<&Host>, local: Option<&Host>) -> Option<Self> {
        if !Self::SECTION
            .options
            .iter()
            .any(|option| reading.is_set(option.key))
        {
            return None;
        }
        files::settle_secret(reading, "control");
        match reading.get::<Endpoint>("control.server") {
            Some(server) if server.port == 0 => {
                reading.refuse(
                    "control.server",
                    "has port 0; give the server's component port",
                );
            }
            Some(_) => {}
            None => {
                let server: Option<Endpoint> = reading.get("component.server");
                reading.derive("control.server", json!(server));
            }
        }
        let domain: Option<Host> = reading.get("control.domain");
        if domain.is_none() {
            reading.require("control.domain", "; the rest of [control] needs it");
        } else if domain.as_ref() == global {
            let what = "is the global domain, under which remote users write: they could use what the \
                        server lets the control component do; take a domain of its own, as \
                        gwctl.dc1.example.com";
            reading.refuse("control.domain", what);
        } else if domain.as_ref() == local {
            let what = "is local_host, which is the server's own; take a domain of its own, as \
                        gwctl.dc1.example.com";
            reading.refuse("control.domain", what);
        }
        Self::read(reading)
    }
}

impl MongooseImConfig {
    fn checked(reading: &mut Reading) -> Option<Self> {
        let keys = || Self::SECTION.options.iter().map(|option| option.key);
        if !keys().any(|key| reading.is_set(key)) {
            return None;
        }
        for key in keys() {
            reading.require(key, "; the rest of [control.mongooseim] needs it");
        }
        if reading
            .get("control.mongooseim.url")
            .is_some_and(|url: String| !is_http(&url))
        {
            let what = "cannot be used; allowed: http://host:port/api/graphql or https://…, without a \
                        user or password in it";
            reading.refuse("control.mongooseim.url", what);
        }
        Self::read(reading)
    }
}

/// Returns whether the text is an HTTP address without a password, which could show in logs.
fn is_http(url: &str) -> bool {
    reqwest::Url::parse(url).is_ok_and(|url| {
        matches!(url.scheme(), "http" | "https")
            && url.has_host()
            && url.username().is_empty()
            && url.password().is_none()
    })
}
