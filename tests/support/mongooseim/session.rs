//! One logged-in session, and the way to its client.

use std::collections::BTreeSet;
use std::time::SystemTime;

use chrono::{DateTime, Utc};
use jid::{FullJid, Jid};
use tokio::sync::mpsc::UnboundedSender;

use super::tree::Tree;

/// Names a session or a component's stream; later ones have higher numbers.
pub type Number = u64;

/// What a connection's writer is told.
#[derive(Debug)]
pub enum Order {
    Write(String),
    /// Nothing more: the connection is closed.
    Close,
}

/// The way to the other side of a connection.
#[derive(Debug, Clone)]
pub struct Outgoing(pub UnboundedSender<Order>);

impl Outgoing {
    /// A connection that is gone shows by its reader, not here.
    pub fn write(&self, xml: impl ToString) {
        let _ = self.0.send(Order::Write(xml.to_string()));
    }

    pub fn close(&self) {
        let _ = self.0.send(Order::Close);
    }
}

/// A client that has bound a resource.
#[derive(Debug)]
pub struct Session {
    pub jid: FullJid,
    /// Without a way, it hibernates (XEP-0198).
    pub out: Option<Outgoing>,
    /// What it broadcast last, while it is available, and when.
    pub presence: Option<(DateTime<Utc>, Tree)>,
    pub priority: i8,
    /// It has asked for the roster (RFC 6121 §2.2).
    pub wants_pushes: bool,
    /// It has asked for the blocklist (XEP-0191 §3.5).
    pub wants_blocklist: bool,
    pub carbons: bool,
    /// Whom it sent presence directly (RFC 6121 §4.6).
    pub directed: BTreeSet<Jid>,
    /// When it loses its connection, it hibernates.
    pub resumes: bool,
}

impl Session {
    pub fn new(jid: FullJid, out: Outgoing) -> Self {
        Self {
            jid,
            out: Some(out),
            presence: None,
            priority: 0,
            wants_pushes: false,
            wants_blocklist: false,
            carbons: false,
            directed: BTreeSet::new(),
            resumes: false,
        }
    }

    pub fn is_available(&self) -> bool {
        self.presence.is_some()
    }

    /// Whether messages to the bare JID are for it (RFC 6121 §8.5.2.1.1).
    pub fn takes_messages(&self) -> bool {
        self.is_available() && self.priority >= 0
    }
}

pub fn now() -> DateTime<Utc> {
    SystemTime::now().into()
}
