//! `sessions.sources`: what tells who is online here.

use std::collections::BTreeSet;

use super::reading::Reading;

/// The words of `sessions.sources`.
pub(super) const SOURCES: [&str; 8] = [
    "auto",
    "presence",
    "traffic",
    "probe",
    "privilege",
    "admin",
    "disco",
    "graphql",
];

/// One thing that tells who is online here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Source {
    /// `presence`: what users send to contacts under the shared domain.
    Presence,
    /// `traffic`: whatever users send there; a lease that must be renewed.
    Traffic,
    /// `probe`: asking for the presence of those who were seen before a break.
    Probe,
    /// `privilege`: the presence of all users (XEP-0356, `managed_entity`).
    Privilege,
    /// `admin`: the list of online users (XEP-0133).
    Admin,
    /// `disco`: ejabberd's node `online users` (XEP-0030).
    Disco,
    /// `graphql`: `listSessions` of MongooseIM's admin interface.
    GraphQl,
}

impl Source {
    /// Every source, the weakest first.
    pub const ALL: [Self; 7] = [
        Self::Traffic,
        Self::Probe,
        Self::Presence,
        Self::Privilege,
        Self::Admin,
        Self::Disco,
        Self::GraphQl,
    ];

    /// Its word in the configuration.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Presence => "presence",
            Self::Traffic => "traffic",
            Self::Probe => "probe",
            Self::Privilege => "privilege",
            Self::Admin => "admin",
            Self::Disco => "disco",
            Self::GraphQl => "graphql",
        }
    }
}

/// The sources that may be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Sources {
    /// All that the server offers.
    Auto,
    /// Only these.
    Only(BTreeSet<Source>),
}

impl Sources {
    /// Whether `source` may be used.
    #[must_use]
    pub fn allow(&self, source: Source) -> bool {
        match self {
            Self::Auto => true,
            Self::Only(sources) => sources.contains(&source),
        }
    }
}

pub(super) fn read(reading: &mut Reading) -> Sources {
    let key = "sessions.sources";
    let words: Vec<String> = reading.get(key).unwrap_or_default();
    if words.iter().any(|word| word == "auto") {
        if words.len() > 1 {
            reading.refuse(
                key,
                "has \"auto\" and others; write \"auto\" alone, or only others",
            );
        }
        return Sources::Auto;
    }
    let named = |source: &Source| words.iter().any(|word| word == source.word());
    let sources: BTreeSet<Source> = Source::ALL.into_iter().filter(named).collect();
    for (source, needs) in [
        (Source::Privilege, "control.domain"),
        (Source::Admin, "control.domain"),
        (Source::Disco, "control.domain"),
        (Source::GraphQl, "control.mongooseim.url"),
    ] {
        if sources.contains(&source) && !reading.is_set(needs) {
            let what = format!("has `{}`, which needs {needs}; set it", source.word());
            reading.refuse(key, what);
        }
    }
    Sources::Only(sources)
}
