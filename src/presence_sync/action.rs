//! What is to be said to put records right.

use jid::{BareJid, FullJid, Jid};
use minidom::Element;
use minidom::rxml::xml_ncname;

use super::{MUC_USER, Occupant};
use crate::host::Host;
use crate::stanza::{Kind, Stanza};

/// Whose sessions a record is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// Another datacenter's; the viewer is known to the local server.
    In,
    /// The local server's; the viewer is in another datacenter.
    Out,
}

/// One thing to say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SweepAction {
    /// That a session is gone.
    SendUnavailable(UnavailableNotice),
    /// A request to another datacenter.
    Probe(ProbeRequest),
    /// A request to the local server.
    ProbeLocal(ProbeRequest),
}

/// That `session` is gone is to be told to `viewer`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnavailableNotice {
    /// Who is gone.
    pub session: FullJid,
    /// Who is to be told.
    pub viewer: Jid,
    /// Where the viewer is.
    pub direction: Direction,
    /// The other datacenter, as far as it is known.
    pub host: Option<Host>,
    /// Whether the viewer knows the session from a room.
    pub occupant: Occupant,
    /// For the counters.
    pub why: UnavailableCause,
}

/// A probe (RFC 6121 §4.3) in the name of `viewer`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProbeRequest {
    /// Who wants to know.
    pub viewer: BareJid,
    /// Whose presence.
    pub user: BareJid,
    /// Where the request goes, as far as that is known.
    pub host: Option<Host>,
}

/// UnavailableCause the gateway itself says that a session is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UnavailableCause {
    /// Its datacenter can't be reached.
    Peer,
    /// The local server is away.
    Server,
    /// The local server has it no more, and did not say so.
    Session,
    /// Its server was asked and did not name it.
    Unanswered,
    /// It was said, and did not get through.
    Undelivered,
}

impl UnavailableCause {
    /// All of them.
    pub const ALL: [Self; 5] = [
        Self::Peer,
        Self::Server,
        Self::Session,
        Self::Unanswered,
        Self::Undelivered,
    ];

    /// The counter's label.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Peer => "peer",
            Self::Server => "server",
            Self::Session => "session",
            Self::Unanswered => "unanswered",
            Self::Undelivered => "missed",
        }
    }
}

impl UnavailableNotice {
    /// The presence that says so, under global addresses.
    #[must_use]
    pub fn stanza(&self) -> Stanza {
        let room = match self.occupant {
            Occupant::No => None,
            Occupant::Other => Some(left_room(&[])),
            // "Removed because the service is being shut down": clients know
            // from it that they have to join again (XEP-0045 §9.8).
            Occupant::Oneself => Some(left_room(&["110", "332"])),
        };
        Stanza::new(
            Kind::Presence,
            Some("unavailable"),
            None,
            Some(self.session.clone().into()),
            Some(self.viewer.clone()),
            room.as_slice(),
        )
    }
}

impl ProbeRequest {
    /// The probe, under global addresses.
    #[must_use]
    pub fn stanza(&self) -> Stanza {
        Stanza::probe(self.viewer.clone().into(), self.user.clone().into())
    }
}

/// What a room says of who is in it no more.
fn left_room(codes: &[&str]) -> Element {
    let item = Element::builder("item", MUC_USER)
        .attr(xml_ncname!("affiliation").to_owned(), "none")
        .attr(xml_ncname!("role").to_owned(), "none");
    let statuses = codes.iter().map(|code| {
        Element::builder("status", MUC_USER)
            .attr(xml_ncname!("code").to_owned(), *code)
            .build()
    });
    Element::builder("x", MUC_USER)
        .append(item.build())
        .append_all(statuses)
        .build()
}
