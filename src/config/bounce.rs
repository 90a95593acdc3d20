//! `[bounce]`

use std::time::Duration;

use super::kind::OptionKind::Bool;
use super::kind::{
    Unit::{Bytes, Count, Millis},
    YEAR, number,
};
use super::section::section;

section! {
    /// Stanzas whose recipient is nowhere: set aside and tried again, as the session
    /// table may be a moment behind.
    pub struct Bounce {
        /// Set stanzas aside whose recipient is nowhere, and try them again.
        "bounce.enabled" enabled: bool = Bool.default("true");

        /// The wait before the first retry, in milliseconds; it doubles with each.
        "bounce.resend_after_ms" resend_after: Duration =
            number(Millis, 1, YEAR * 1000).usual(10, 10_000).default("200");

        /// How many times a stanza is tried again.
        "bounce.max_retries" max_retries: u32 = number(Count, 0, 30).usual(0, 10).default("4");

        /// How much is set aside at most, in bytes; what comes on top is refused.
        "bounce.max_bytes" max_bytes: usize = number(Bytes, 1, 1 << 40).usual(1, 1 << 34).default("67108864");
    }
}
