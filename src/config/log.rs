//! `[log]`

use super::kind::OptionKind::{Choice, Filter};
use super::section::{choice, section};

section! {
    /// strait logs to standard error.
    pub struct Log {
        /// The lowest level that is logged: off, error, warn, info, debug or trace, also per
        /// module, as info,strait::link=debug.
        "log.level" level: String = Filter.default("info");

        /// The form of the log: lines for people, or one JSON object a line.
        "log.format" format: LogFormat = Choice(LogFormat::WORDS).default("text");
    }
}

choice! {
    /// The form of the log.
    pub enum LogFormat {
        /// For people.
        Text = "text",
        /// One JSON object a line.
        Json = "json",
    }
}
