//! One logged-in session, and the sender to its client.

use std::collections::BTreeSet;
use std::time::SystemTime;

use chrono::{DateTime, Utc};
use jid::{FullJid, Jid};
use tokio::sync::mpsc::UnboundedSender;

use super::tree::Tree;

/// The number of a session or a component's stream; later ones have higher numbers.
pub type Number = u64;

/// An order to a connection's writer.
#[derive(Debug)]
pub enum Order {
    Write(String),
    /// Close the connection; no order follows.
    Close,
}

/// Sends to the other side of a connection.
#[derive(Debug, Clone)]
pub struct Outgoing(pub UnboundedSender<Order>);

impl Outgoing {
    /// Ignores a closed connection, which its reader detects.
    pub fn write(&self, xml: impl ToString) {
        let _ = self.0.send(Order::Write(xml.to_string()));
    }

    pub fn close(&self) {
        let _ = self.0.send(Order::Close);
    }
}

/// A client with a bound resource.
#[derive(Debug)]
pub struct Session {
    pub jid: FullJid,
    /// `None` while the session hibernates (XEP-0198).
    pub out: Option<Outgoing>,
    /// Its last broadcast and the time of it, while the session is available.
    pub presence: Option<(DateTime<Utc>, Tree)>,
    pub priority: i8,
    /// The client has fetched the roster (RFC 6121 §2.2).
    pub wants_pushes: bool,
    /// The client has fetched the blocklist (XEP-0191 §3.5).
    pub wants_blocklist: bool,
    pub carbons: bool,
    /// Recipients of its directed presence (RFC 6121 §4.6).
    pub directed: BTreeSet<Jid>,
    /// The session hibernates after the loss of its connection.
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

    /// Returns whether the session receives messages to the bare JID (RFC 6121 §8.5.2.1.1).
    pub fn takes_messages(&self) -> bool {
        self.is_available() && self.priority >= 0
    }
}

pub fn now() -> DateTime<Utc> {
    SystemTime::now().into()
}
