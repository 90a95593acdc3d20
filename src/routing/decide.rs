//! Where does this stanza go? One pure function for both directions and for
//! retries; `relay` carries the decision out.

#[cfg(test)]
mod tests;

use jid::Jid;

use crate::envelope::Arrival;
use crate::host::Host;
use crate::host::Locations;
use crate::stanza::{Kind, Reason, Refusal};

/// The part of the configuration that decisions depend on.
#[derive(Debug, Clone)]
pub struct RoutingRules {
    /// `global_host`: the shared domain.
    pub global: Host,
    /// `local_host`: us.
    pub local: Host,
    /// `bounce.enabled`
    pub bounce_enabled: bool,
    /// `bounce.max_retries`: how often one gateway bounces one stanza.
    pub max_retries: u32,
}

/// Whether the recipient's domain is a service domain, and who hosts it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ServiceHost {
    /// The domain is not a service domain.
    NotAService,
    /// This host has it.
    HostedAt(Host),
    /// It is a service domain that no live host has.
    Unhosted,
}

/// Everything that a decision depends on.
#[derive(Debug, Clone)]
pub struct RoutingInput<'a> {
    /// `to`, under global addresses.
    pub recipient: &'a Jid,
    /// Message, presence or iq.
    pub kind: Kind,
    /// The stanza's `type` attribute.
    pub stanza_type: Option<&'a str>,
    /// How the stanza came to this gateway.
    pub arrival: &'a Arrival,
    /// The host whose gateway took the stanza from its server.
    pub origin: &'a Host,
    /// Set on one of several copies of a stanza: the host that it was made
    /// for. A copy that has to be routed again is never copied again.
    pub copy_for: Option<&'a Host>,
    /// How many more times it may be forwarded.
    pub ttl: u32,
    /// How often this gateway has bounced it already.
    pub retries: u32,
    /// What the session table says; empty unless the recipient is a user of
    /// the shared domain.
    pub whereabouts: &'a Locations,
    /// Whether our own tracker has the recipient online here (full JID: this
    /// session; bare JID: any).
    pub here: bool,
    /// What the registry says about the recipient's domain.
    pub service: ServiceHost,
    /// The configuration.
    pub rules: &'a RoutingRules,
}

/// What becomes of a stanza.
#[derive(Debug, Clone)]
pub enum Decision {
    /// It is for the gateway itself.
    Answer,
    /// Hand it to the local server.
    Reinject {
        /// For the counters.
        reason: ReinjectReason,
    },
    /// Hand it to peers. More than one host, or one and `here_too`, means
    /// copies.
    Forward {
        /// At least one; never us.
        hosts: Vec<Host>,
        /// Whether a copy goes to the local server as well.
        here_too: bool,
    },
    /// Set it aside and ask again: nobody is known to have the recipient, yet.
    Bounce,
    /// Tell the sender that it can't be delivered.
    Refuse(Refusal),
}

/// ReinjectReason the local server gets a stanza.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReinjectReason {
    /// The recipient is here.
    Routed,
    /// The recipient is elsewhere, but the stanza may not be forwarded any more.
    TtlZero,
    /// The recipient is nowhere: the server stores the stanza or answers it.
    LastResort,
}

/// Decides what becomes of a stanza.
///
/// Two gateways with different views of the session table can send a stanza
/// back and forth: each time that it crosses a link it loses one of its ttl,
/// and at 0 it stays where it is.
#[must_use]
pub fn decide(input: &RoutingInput<'_>) -> Decision {
    let domain = input.recipient.domain().as_str();
    if input.rules.global == *domain {
        match input.recipient.node() {
            Some(_) => to_user(input),
            None => to_ourselves(input),
        }
    } else if input.rules.local == *domain {
        // Handing it to the local server would work, but only from here: what
        // is under the shared domain goes by the shared domain.
        Decision::Refuse(Refusal::new(
            Reason::BadAddress,
            format!(
                "accounts are reached under {}: write to user@{0}",
                input.rules.global
            ),
        ))
    } else {
        match &input.service {
            ServiceHost::HostedAt(host) => to_service(input, host),
            ServiceHost::Unhosted => to_no_service(input),
            ServiceHost::NotAService if input.rules.global.is_above(domain) => {
                to_unknown_subdomain(input)
            }
            ServiceHost::NotAService => to_foreign_domain(input),
        }
    }
}

/// The recipient is the shared domain itself.
fn to_ourselves(input: &RoutingInput<'_>) -> Decision {
    match input.arrival {
        // Our answer to the local server's own stanza: the server's address is
        // translated to the shared domain too, and back when it is reinjected.
        Arrival::Own if *input.origin == input.rules.local => Decision::Reinject {
            reason: ReinjectReason::Routed,
        },
        _ => Decision::Answer,
    }
}

/// The recipient is, or is on, a service domain that `host` has.
fn to_service(input: &RoutingInput<'_>, host: &Host) -> Decision {
    if *host != input.rules.local && input.ttl == 0 {
        // Unlike a user's, a service's address is the same on every host: the
        // local server would give it straight back to its component, us.
        return Decision::Refuse(Refusal::new(
            Reason::Loop,
            format!(
                "the datacenters disagree on which of them offers {}; try again later",
                input.recipient.domain().as_str()
            ),
        ));
    }
    towards(input, host)
}

/// The recipient is below the shared domain, on nothing that we know as a
/// service. If it is the local server or a peer that takes it for one, it was
/// one just now, and the local server would give it straight back. The rest is
/// what we have to say to a sender who is there by other means than ours.
fn to_unknown_subdomain(input: &RoutingInput<'_>) -> Decision {
    match input.arrival {
        Arrival::Own => to_foreign_domain(input),
        Arrival::Link(_) if *input.origin == input.rules.local => to_foreign_domain(input),
        Arrival::Component | Arrival::Link(_) => to_no_service(input),
    }
}

/// The recipient is on a service domain that nobody has.
fn to_no_service(input: &RoutingInput<'_>) -> Decision {
    Decision::Refuse(Refusal::new(
        Reason::Unavailable,
        format!(
            "no datacenter offers {} at present; try again later",
            input.recipient.domain().as_str()
        ),
    ))
}

/// The recipient is outside of everything shared. The host where the exchange
/// began has the way there: its server's s2s.
fn to_foreign_domain(input: &RoutingInput<'_>) -> Decision {
    match input.arrival {
        Arrival::Link(_) => Decision::Reinject {
            reason: ReinjectReason::Routed,
        },
        Arrival::Component | Arrival::Own => towards(input, input.origin),
    }
}

/// The recipient is a user of the shared domain.
fn to_user(input: &RoutingInput<'_>) -> Decision {
    if let Some(host) = presence_made_for(input) {
        return towards(input, host);
    }
    let candidates = Candidates::of(input);
    if candidates.hosts.is_empty() {
        return to_nobody_known(input);
    }
    match (input.arrival, input.copy_for) {
        (Arrival::Link(peer), _) => {
            if candidates.hosts.contains(&&input.rules.local) {
                return Decision::Reinject {
                    reason: ReinjectReason::Routed,
                };
            }
            // The peer believed that we have the recipient. Back to it only
            // if nobody else does: it may have learnt better meanwhile.
            match candidates.without(peer).one(input.kind) {
                Some(host) => towards(input, host),
                None => towards(input, peer),
            }
        }
        (_, Some(host)) if candidates.hosts.contains(&host) => towards(input, host),
        (_, None) if candidates.hosts.len() > 1 && candidates.may_fan_out(input) => {
            to_each(input, &candidates.hosts)
        }
        _ => match candidates.one(input.kind) {
            Some(host) => towards(input, host),
            None => to_nobody_known(input),
        },
    }
}

/// Nobody claims the recipient: a claim may be on its way, so wait a little;
/// then leave the stanza where the user was last.
fn to_nobody_known(input: &RoutingInput<'_>) -> Decision {
    if input.rules.bounce_enabled
        && input.retries < input.rules.max_retries
        && !is_probe_for_us(input)
    {
        return Decision::Bounce;
    }
    match &input.whereabouts.home {
        Some(home) if *home != input.rules.local => towards(input, home),
        _ => Decision::Reinject {
            reason: ReinjectReason::LastResort,
        },
    }
}

/// The host that a presence was made for in particular, if it was: that one's
/// server knows whether the user is there, its gateway may only just have started.
/// If they are not, it is of no use anywhere else: a server asks for presence when
/// somebody comes online.
fn presence_made_for<'a>(input: &RoutingInput<'a>) -> Option<&'a Host> {
    let is_shown = matches!(input.stanza_type, None | Some("unavailable" | "probe"));
    let is_presence = input.kind == Kind::Presence && is_shown;
    let host = input.copy_for.filter(|_| is_presence)?;
    match input.arrival {
        // It is where it was to go.
        Arrival::Link(_) => (*host == input.rules.local).then_some(host),
        Arrival::Component | Arrival::Own => Some(host),
    }
}

/// A peer's server asks who is online here (RFC 6121 §4.3): ours knows at once,
/// and answers also for those who are not.
fn is_probe_for_us(input: &RoutingInput<'_>) -> bool {
    let local = &input.rules.local;
    input.kind == Kind::Presence
        && input.stanza_type == Some("probe")
        && matches!(input.arrival, Arrival::Link(_))
        && input
            .whereabouts
            .home
            .as_ref()
            .is_none_or(|home| home == local)
}

/// To every one of `hosts`.
fn to_each(input: &RoutingInput<'_>, hosts: &[&Host]) -> Decision {
    if input.ttl == 0 {
        return Decision::Reinject {
            reason: ReinjectReason::TtlZero,
        };
    }
    let (here, peers): (Vec<&Host>, Vec<&Host>) =
        hosts.iter().partition(|h| ***h == input.rules.local);
    Decision::Forward {
        hosts: peers.into_iter().cloned().collect(),
        here_too: !here.is_empty(),
    }
}

/// To `host`, whether that is us or a peer.
fn towards(input: &RoutingInput<'_>, host: &Host) -> Decision {
    if *host == input.rules.local {
        Decision::Reinject {
            reason: ReinjectReason::Routed,
        }
    } else if input.ttl == 0 {
        Decision::Reinject {
            reason: ReinjectReason::TtlZero,
        }
    } else {
        Decision::Forward {
            hosts: vec![host.clone()],
            here_too: false,
        }
    }
}

/// The hosts that a stanza for a user may go to.
struct Candidates<'a> {
    /// Newest claim first.
    hosts: Vec<&'a Host>,
    /// Whether they have this very session, not just another one of the user.
    exact: bool,
}

impl<'a> Candidates<'a> {
    fn of(input: &'a RoutingInput<'_>) -> Self {
        let Locations { full, bare, .. } = input.whereabouts;
        let exact = input.recipient.is_full() && (input.here || !full.is_empty());
        let local = &input.rules.local;
        let mut hosts: Vec<&Host> = if exact { full } else { bare }.iter().collect();
        // Our own tracker knows it before the table does.
        if input.here && !hosts.contains(&local) {
            hosts.insert(0, local);
        }
        Self { hosts, exact }
    }

    fn without(mut self, host: &Host) -> Self {
        self.hosts.retain(|h| *h != host);
        self
    }

    /// The one host for a stanza that goes to one. An iq that no session is
    /// meant by must always reach the same server, whoever asks: so by name.
    fn one(&self, kind: Kind) -> Option<&'a Host> {
        match kind {
            Kind::Iq if !self.exact => self.hosts.iter().min().copied(),
            _ => self.hosts.first().copied(),
        }
    }

    /// Whether each host gets a copy. A session is in one place. Else, what a
    /// server hands to several sessions (RFC 6121 §8.5.2, §8.5.3.2) is for all
    /// of them; what it answers with an error is for one, that there be one answer.
    fn may_fan_out(&self, input: &RoutingInput<'_>) -> bool {
        if self.exact {
            return false;
        }
        match (input.kind, input.stanza_type) {
            (Kind::Iq, Some("result" | "error")) => {
                // Which server asked in the user's name (for +notify, say)
                // can't be told; the others ignore it.
                true
            }
            (Kind::Iq, _) => false,
            (Kind::Message, Some("groupchat" | "error")) => input.recipient.is_bare(),
            (Kind::Message | Kind::Presence, _) => true,
        }
    }
}
