//! `[component]`

use std::time::Duration;

use super::endpoint::Endpoint;
use super::files;
use super::kind::OptionKind::{self, Bool, Path};
use super::kind::{
    Unit::{Bytes, Seconds},
    number,
};
use super::reading::Reading;
use super::secret::Secret;
use super::section::section;

section! {
    /// The attachment to the local XMPP server (XEP-0114). `strait snippet` prints the
    /// server's own configuration for this file; see docs/servers.md.
    pub struct ComponentConfig {
        /// Where the local XMPP server accepts components, host:port.
        "component.server" server: Endpoint = OptionKind::Endpoint.default("127.0.0.1:5347");

        /// The secret that the XMPP server knows this component by. It has no flag, as
        /// flags show in the process list.
        "component.secret" secret: Secret =
            OptionKind::Secret.described("none; this or component.secret_file is mandatory", "change-me")
                .in_reference("change-me");

        /// A file whose first line is the component's secret, instead of the secret itself.
        "component.secret_file" = Path.described("none", "/etc/strait/secret");

        /// Reinject senders from outside the global domain too; the server must not check
        /// them.
        ///
        /// These are federated users and services of other servers. The gateway finds out at
        /// each attach whether the server checks senders, and refuses these while it does.
        /// See docs/federation.md.
        "component.foreign_from" foreign_from: bool = Bool.default("false");

        /// The largest stanza that the XMPP server accepts from a component, in bytes.
        ///
        /// Prosody: component_stanza_size_limit.
        "component.stanza_size_limit" stanza_size_limit: usize =
            number(Bytes, 10_000, 1 << 28).usual(10_000, 1 << 25).default("524288");

        /// Reinject the messages of the last seconds again after the server has died
        /// without closing its stream, in seconds; 0 for none.
        ///
        /// They are marked with `<delay/>`; those that had been delivered come twice. See
        /// docs/delivery.md.
        "component.replay" replay: Duration = number(Seconds, 0, 3600).default("0");
    }
}

impl ComponentConfig {
    pub(super) fn checked(reading: &mut Reading) -> Option<Self> {
        files::settle_secret(reading, "component");
        if reading
            .get::<Endpoint>("component.server")
            .is_some_and(|server| server.port == 0)
        {
            let what = "has port 0; give the server's component port, often 5347";
            reading.refuse("component.server", what);
        }
        Self::read(reading)
    }
}
