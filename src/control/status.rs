//! The sources of the session table in use, and their blind spots.

use std::collections::BTreeSet;

use crate::config::{Source, Sources};

/// The state of the sources, for people.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ControlStatus {
    /// The server's name for itself, if it sends one.
    pub server: Option<String>,
    /// The sources in use.
    pub used: Vec<SourceInUse>,
    /// Sessions and events that these sources can't see.
    pub unseen: Vec<&'static str>,
    /// Allowed sources that do not work, and why.
    pub missing: Vec<(Source, String)>,
    /// Whether the server's accounts are known.
    pub accounts: AccountsStatus,
}

/// A source in use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SourceInUse {
    /// The kind of source.
    pub source: Source,
    /// The sessions that the source shows.
    pub tells: &'static str,
}

/// The state of the account list, which gives a home to users who never logged in.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum AccountsStatus {
    /// The gateway has not asked the server yet.
    #[default]
    Unasked,
    /// The number of accounts.
    Known(usize),
    /// The server does not list its accounts, for this reason.
    Unknown(String),
}

/// The server's features beside the stanzas that it sends.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct AvailableSources {
    /// The source of the working list.
    pub(super) lists: Option<Source>,
    /// The server sends all presence (XEP-0356).
    pub(super) privilege: bool,
    /// The server sends presence without the ends of sessions.
    pub(super) silent_ends: bool,
}

pub(super) fn used(sources: &Sources, offer: AvailableSources) -> Vec<SourceInUse> {
    let is_used = |source: &Source| match source {
        Source::Traffic | Source::Probe | Source::Presence => sources.allow(*source),
        Source::Privilege => offer.privilege,
        Source::Admin | Source::Disco | Source::GraphQl => offer.lists == Some(*source),
    };
    let sources = Source::ALL.into_iter().filter(is_used);
    sources
        .map(|source| SourceInUse {
            source,
            tells: tells(source),
        })
        .collect()
}

fn tells(source: Source) -> &'static str {
    match source {
        Source::Presence => "who sends presence to a contact under the shared domain",
        Source::Traffic => "who sends anything there, for as long as a lease",
        Source::Probe => "who is still there after a break, of those who were seen before",
        Source::Privilege => "the presence of all users",
        Source::Admin | Source::Disco | Source::GraphQl => "all sessions, every few seconds",
    }
}

/// Sessions and events that the sources in use can't see.
pub(super) fn unseen(used: &[SourceInUse], offer: AvailableSources) -> Vec<&'static str> {
    let used: BTreeSet<Source> = used.iter().map(|used| used.source).collect();
    let has = |source| used.contains(&source);
    if offer.lists.is_some() {
        return Vec::new();
    }
    let mut unseen = Vec::new();
    if !has(Source::Privilege) {
        unseen.push("users without a contact under the shared domain who send nothing there");
    }
    unseen.push("sessions without presence that send nothing to the shared domain");
    unseen.push("that a session hibernates (XEP-0198), until the server gives it up");
    if has(Source::Privilege) && offer.silent_ends {
        unseen.push("connections that are lost without a word");
    }
    if !has(Source::Probe) {
        unseen.push("who is still there when the server comes back, until they send something");
    }
    unseen.push("who is online when the gateway starts, until they send something");
    if has(Source::Privilege) && !offer.silent_ends {
        unseen.pop();
    }
    unseen
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen_with(offer: AvailableSources) -> (Vec<&'static str>, String) {
        let used = used(&Sources::Auto, offer);
        let words = used.iter().map(|used| used.source.word()).collect();
        (words, unseen(&used, offer).join("; "))
    }

    #[test]
    fn lists_leave_nothing_unseen() {
        let offer = AvailableSources {
            lists: Some(Source::Admin),
            privilege: true,
            silent_ends: false,
        };
        let (words, unseen) = seen_with(offer);
        assert_eq!(
            words,
            ["traffic", "probe", "presence", "privilege", "admin"]
        );
        assert_eq!(unseen, "");
    }

    #[test]
    fn without_lists_it_is_said_what_cannot_be_seen() {
        let (_, nothing) = seen_with(AvailableSources::default());
        assert!(nothing.contains("without a contact"), "{nothing}");
        assert!(nothing.contains("gateway starts"), "{nothing}");
        let privilege = AvailableSources {
            privilege: true,
            ..AvailableSources::default()
        };
        let (_, prosody) = seen_with(privilege);
        assert!(!prosody.contains("without a contact"), "{prosody}");
        assert!(!prosody.contains("gateway starts"), "{prosody}");
        let (_, ejabberd) = seen_with(AvailableSources {
            silent_ends: true,
            ..privilege
        });
        assert!(ejabberd.contains("lost without a word"), "{ejabberd}");
    }

    #[test]
    fn only_what_is_allowed_is_used() {
        let only = Sources::Only([Source::Presence].into());
        let used = used(&only, AvailableSources::default());
        assert_eq!(used.len(), 1);
        assert!(
            unseen(&used, AvailableSources::default())
                .join(";")
                .contains("comes back")
        );
    }
}
