//! `[disco]`

use super::kind::OptionKind::Bool;
use super::section::section;

section! {
    /// Service discovery at the shared domain (XEP-0030).
    pub struct Disco {
        /// List hidden services in the disco#items of global_host for users too.
        ///
        /// Components and servers, that is addresses without a localpart, see all.
        "disco.users_can_see_hidden_services" users_can_see_hidden_services: bool = Bool.default("true");
    }
}
