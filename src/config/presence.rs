//! `[presence]`

use std::time::Duration;

use super::kind::{Unit::Seconds, YEAR, number};
use super::section::section;

section! {
    /// The presence of users that can't be reached; see docs/presence.md.
    pub struct PresenceConfig {
        /// After how long without a link to a datacenter, or without the XMPP server of this
        /// one, its users are shown as unavailable to their contacts elsewhere, in seconds.
        "presence.unavailable_after" unavailable_after: Duration =
            number(Seconds, 1, YEAR).usual(1, 3600).default("30");
    }
}
