//! What an account has, and keeps while the server is away.

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
    /// Messages that wait for the next login, and since when.
    pub offline: Vec<(DateTime<Utc>, Tree)>,
    /// When and why its last session ended (XEP-0012).
    pub last: Option<(DateTime<Utc>, String)>,
}

impl Account {
    /// Whether nothing of `jid` may come here, nor anything go there (XEP-0191).
    pub fn blocks(&self, jid: &jid::Jid) -> bool {
        let bare = jid.to_bare();
        let domain = BareJid::from_parts(None, bare.domain());
        self.blocked.contains(&bare) || self.blocked.contains(&domain)
    }
}

/// As in MongooseIM's stamps of presence, which are the finest.
pub fn stamp(time: DateTime<Utc>) -> String {
    time.format("%Y-%m-%dT%H:%M:%S%.6fZ").to_string()
}
