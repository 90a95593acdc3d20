//! `[cache]`

use std::time::Duration;

use super::kind::OptionKind::Bool;
use super::kind::{
    Unit::{Count, Seconds},
    YEAR, number,
};
use super::section::section;

section! {
    /// Remembered look-ups in the session table.
    pub struct Cache {
        /// Remember also that a JID is nowhere.
        "cache.cache_missed" cache_missed: bool = Bool.default("true");

        /// How long a service domain that nobody offers any more is remembered as one, in
        /// seconds.
        ///
        /// Until then those who write to it get service-unavailable.
        "cache.domain_lifetime_seconds" domain_lifetime: Duration =
            number(Seconds, 0, YEAR).usual(0, 86_400).default("600");

        /// How long the datacenters of a JID are remembered, in seconds.
        "cache.jid_lifetime_seconds" jid_lifetime: Duration = number(Seconds, 0, YEAR).usual(0, 600).default("5");

        /// How many JIDs are remembered at most.
        "cache.max_jids" max_jids: u64 = number(Count, 1, u64::MAX).usual(1, 100_000_000).default("10000");
    }
}
