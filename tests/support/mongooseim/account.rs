//! The data of an account, which survive a restart of the server.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, Utc};
use jid::BareJid;

use super::archive::Archive;
use super::pep::Node;
use super::roster::Roster;
use super::tree::Tree;

/// One account.
#[derive(Debug, Default)]
pub struct Account {
    pub password: String,
    pub roster: Roster,
    pub vcard: Option<Tree>,
    /// XEP-0049, by name and namespace.
    pub private: BTreeMap<(String, String), Tree>,
    pub blocked: BTreeSet<BareJid>,
    pub pep: BTreeMap<String, Node>,
    pub archive: Archive,
    /// Messages stored for the next login, and the times of storage.
    pub offline: Vec<(DateTime<Utc>, Tree)>,
    /// Time and reason of the end of the last session (XEP-0012).
    pub last: Option<(DateTime<Utc>, String)>,
}

impl Account {
    /// Returns whether stanzas from and to `jid` are blocked (XEP-0191).
    pub fn blocks(&self, jid: &jid::Jid) -> bool {
        let bare = jid.to_bare();
        let domain = BareJid::from_parts(None, bare.domain());
        self.blocked.contains(&bare) || self.blocked.contains(&domain)
    }
}

/// Formats a time as MongooseIM's presence stamps do, which have the highest precision.
pub fn stamp(time: DateTime<Utc>) -> String {
    time.format("%Y-%m-%dT%H:%M:%S%.6fZ").to_string()
}
