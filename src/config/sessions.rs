//! `[sessions]`

use std::collections::BTreeSet;

use super::kind::OptionKind::{Choice, Words};
use super::reading::Reading;
use super::section::{choice, section};

section! {
    /// The users that are online, here and elsewhere.
    pub struct SessionsConfig {
        /// Where the session table is kept: by the gateways themselves, or in Redis.
        ///
        /// "mesh" needs no database; "redis" has mod_global_distrib's layout. The same in
        /// all datacenters.
        "sessions.backend" backend: Backend = Choice(Backend::WORDS).default("mesh");

        /// The sources of this datacenter's sessions: auto for all that the server offers,
        /// or only some of presence, traffic, probe, privilege, admin, disco, graphql.
        ///
        /// See docs/sessions.md.
        "sessions.sources" sources: Sources = Words(&[
            "auto", "presence", "traffic", "probe", "privilege", "admin", "disco", "graphql",
        ]).default("auto");
    }
}

choice! {
    /// Where the session table is kept.
    pub enum Backend {
        /// By the gateways themselves.
        Mesh = "mesh",
        /// In Redis, in mod_global_distrib's layout.
        Redis = "redis",
    }
}

choice! {
    /// A source of this datacenter's sessions; the weakest first.
    pub enum Source {
        /// Any stanza to the shared domain; a lease that must be renewed.
        Traffic = "traffic",
        /// Probes for the users that were online before a break.
        Probe = "probe",
        /// Presence to contacts under the shared domain.
        Presence = "presence",
        /// The presence of all users (XEP-0356, `managed_entity`).
        Privilege = "privilege",
        /// The list of online users (XEP-0133).
        Admin = "admin",
        /// ejabberd's node `online users` (XEP-0030).
        Disco = "disco",
        /// `listSessions` of MongooseIM's admin interface.
        GraphQl = "graphql",
    }
}

/// The sources that may be used.
#[derive(Debug, Clone, PartialEq, Eq, serde::Deserialize)]
#[serde(from = "Vec<String>")]
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

impl From<Vec<String>> for Sources {
    fn from(words: Vec<String>) -> Self {
        let named = |word: &str| words.iter().any(|named| named == word);
        if named("auto") {
            return Self::Auto;
        }
        Self::Only(
            Source::ALL
                .into_iter()
                .filter(|source| named(source.word()))
                .collect(),
        )
    }
}

impl SessionsConfig {
    pub(super) fn checked(reading: &mut Reading) -> Option<Self> {
        let key = "sessions.sources";
        let words: Vec<String> = reading.get(key).unwrap_or_default();
        if words.len() > 1 && words.iter().any(|word| word == "auto") {
            reading.refuse(
                key,
                "has \"auto\" and others; write \"auto\" alone, or only others",
            );
        } else {
            for word in &words {
                let needs = match word.as_str() {
                    "privilege" | "admin" | "disco" => "control.domain",
                    "graphql" => "control.mongooseim.url",
                    _ => continue,
                };
                if !reading.is_set(needs) {
                    reading.refuse(key, format!("has `{word}`, which needs {needs}; set it"));
                }
            }
        }
        Self::read(reading)
    }
}
