//! Decides where a stanza goes: one pure function for both directions, for
//! retries and for the gateway's own stanzas. `relay` carries the decision out.

#[cfg(test)]
mod tests;

use jid::Jid;

use crate::envelope::{Arrival, Envelope};
use crate::host::{Host, Locations};
use crate::sessions::Owner;
use crate::stanza::{Kind, Reason, Refusal, Stanza};

/// The part of the configuration that decisions depend on.
#[derive(Debug, Clone)]
pub struct RoutingRules {
    /// `global_host`: the shared domain.
    pub global: Host,
    /// `local_host`: the host of this gateway.
    pub local: Host,
    /// `bounce.enabled`
    pub bounce_enabled: bool,
    /// `bounce.max_retries`: how often one gateway bounces one stanza.
    pub max_retries: u32,
    /// `message_ttl`, for stanzas that originate here.
    pub message_ttl: u32,
}

/// Whether the recipient's domain is a service domain, and its host.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) enum ServiceHost {
    /// The domain is not a service domain.
    #[default]
    NotAService,
    /// The service domain is hosted at the given host.
    HostedAt(Host),
    /// No live host offers the service domain.
    Unhosted,
}

/// The inputs of a decision besides the envelope and the configuration.
/// [`RoutingFacts::default`] stands for a stanza about which nothing is known.
#[derive(Debug, Default)]
pub(crate) struct RoutingFacts {
    /// The outcome of the intake; the default unless the stanza has just arrived.
    pub intake: IntakeOutcome,
    /// The session table's entry; empty unless the recipient is a user of the
    /// shared domain.
    pub locations: Locations,
    /// Whether the tracker has the recipient online here (full JID: this
    /// session; bare JID: any).
    pub here: bool,
    /// The registry's entry for the recipient's domain.
    pub service: ServiceHost,
    /// The host that owns the sender's account; [`Owner::Ours`] unless the
    /// stanza comes from a user of the local server.
    pub sender_owner: Owner,
    /// The host that waits for this presence, which answers a probe that the
    /// gateway has sent for that host.
    pub wanted_at: Option<Host>,
    /// The reply to a disco query that the local server fails to answer for its
    /// accounts ([`ServerQuirks::account_features`](crate::servers::ServerQuirks)).
    pub account_reply: Option<Stanza>,
    /// [`ServerQuirks::doubles_messages_to_the_gone`](crate::servers::ServerQuirks).
    pub server_doubles_messages: bool,
    /// Whether the local server has received another copy of this stanza.
    pub has_copy_here: bool,
    /// The hosts for which copies of the same pair are held.
    pub copies_held_for: Vec<Host>,
    /// Whether the gateway is stopping: nothing bounces any more.
    pub closing: bool,
}

/// The outcome of the intake, where a stanza is translated and its presence noted.
#[derive(Debug, Default)]
pub(crate) enum IntakeOutcome {
    /// The stanza goes on.
    #[default]
    Accepted,
    /// The stanza lacks an address, or the sender may not use its address.
    Refused(Refusal),
    /// The stanza ends at this gateway.
    Absorbed(Absorbed),
}

/// The stanzas that end at this gateway without an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Absorbed {
    /// A copy of a stanza; the local server has received another copy.
    Copy,
    /// An error about one copy; another copy may have arrived.
    Error,
    /// A presence that answers a probe of this gateway, or repeats an unavailable
    /// presence that the viewer has been sent already.
    Presence,
}

impl Absorbed {
    /// The counter's label.
    pub(crate) fn label(self) -> &'static str {
        match self {
            Self::Copy => "copy",
            Self::Error => "error",
            Self::Presence => "presence",
        }
    }
}

/// The decision about a stanza.
#[derive(Debug)]
pub(crate) enum Decision {
    /// The gateway answers for the shared domain.
    Answer,
    /// The gateway answers with [`RoutingFacts::account_reply`].
    AnswerForAccount,
    /// The local server receives it.
    Reinject {
        /// The reason, for the counters.
        reason: ReinjectReason,
        /// Whether the server receives the stanza for the bare JID.
        to_bare: bool,
    },
    /// The peer receives the stanza.
    Forward(Host),
    /// Each of these hosts, which may include this one, receives a copy, and no
    /// other host does. With one host, the stanza itself is made for that host.
    FanOut(Vec<Host>),
    /// The stanza waits and is decided again: no host is known to have the
    /// recipient.
    Bounce,
    /// The stanza waits behind those held already for the same host.
    HoldForRoute,
    /// The stanza goes no further.
    Absorb(Absorbed),
    /// The sender receives an error.
    Refuse(Refusal),
}

/// The reason for which the local server receives a stanza.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ReinjectReason {
    /// The recipient is here.
    Routed,
    /// The recipient is on another host, but the stanza may not be forwarded any
    /// more.
    TtlZero,
    /// No host has the recipient: the server stores the stanza or answers it.
    LastResort,
}

/// Decides about a stanza: no other place does.
///
/// Two gateways with different session tables can send a stanza back and forth:
/// each link subtracts 1 from the stanza's ttl, and at 0 the stanza stays at its
/// present host.
#[must_use]
pub(crate) fn decide(envelope: &Envelope, facts: &RoutingFacts, rules: &RoutingRules) -> Decision {
    match &facts.intake {
        IntakeOutcome::Accepted => {}
        IntakeOutcome::Refused(refusal) => return Decision::Refuse(refusal.clone()),
        IntakeOutcome::Absorbed(what) => return Decision::Absorb(*what),
    }
    let Some(recipient) = envelope.stanza.to() else {
        let text = "The stanza has no recipient.";
        return Decision::Refuse(Refusal::new(Reason::BadAddress, text));
    };
    let input = RoutingInput {
        recipient,
        envelope,
        facts,
        rules,
    };
    if let Some(refusal) = foreign_account(&input) {
        return Decision::Refuse(refusal);
    }
    let decision = for_whom_it_was_requested(&input, to_recipient(&input));
    in_order_and_once(&input, decision)
}

/// All inputs of one decision.
struct RoutingInput<'a> {
    recipient: &'a Jid,
    envelope: &'a Envelope,
    facts: &'a RoutingFacts,
    rules: &'a RoutingRules,
}

impl RoutingInput<'_> {
    fn kind(&self) -> Kind {
        self.envelope.stanza.kind()
    }

    fn stanza_type(&self) -> Option<&str> {
        self.envelope.stanza.stanza_type()
    }

    fn is_local(&self, host: &Host) -> bool {
        *host == self.rules.local
    }

    fn is_to_user(&self) -> bool {
        self.recipient.node().is_some() && self.rules.global == *self.recipient.domain().as_str()
    }
}

/// Refuses a local user under whose global address another datacenter has an account.
fn foreign_account(input: &RoutingInput<'_>) -> Option<Refusal> {
    match input.facts.sender_owner {
        Owner::Ours => None,
        Owner::Theirs => Some(Refusal::new(
            Reason::ForeignAccount,
            format!(
                "{} belongs to an account in another datacenter; this one can't write under that \
                 address",
                input.envelope.stanza.from()?.to_bare()
            ),
        )),
        Owner::Unknown => Some(Refusal::new(
            Reason::Timeout,
            "It can't be found out at present whose address this is; try again later.",
        )),
    }
}

/// The local server's presence in answer to a probe of this gateway also goes to
/// the host for which the gateway has asked, whether or not that host is known
/// to have the recipient.
fn for_whom_it_was_requested(input: &RoutingInput<'_>, decision: Decision) -> Decision {
    let Some(host) = &input.facts.wanted_at else {
        return decision;
    };
    let mut hosts = match decision {
        Decision::FanOut(hosts) => hosts,
        Decision::Forward(host) => vec![host],
        Decision::Reinject {
            reason: ReinjectReason::Routed,
            ..
        } => vec![input.rules.local.clone()],
        Decision::Bounce
        | Decision::Reinject {
            reason: ReinjectReason::LastResort,
            ..
        } => Vec::new(),
        other => return other,
    };
    if !hosts.contains(host) {
        hosts.push(host.clone());
    }
    Decision::FanOut(hosts)
}

/// The local server receives one copy of a stanza and nothing that it can't
/// answer; each host receives its stanzas in order.
fn in_order_and_once(input: &RoutingInput<'_>, decision: Decision) -> Decision {
    let (facts, rules) = (input.facts, input.rules);
    match decision {
        Decision::Reinject { .. } if facts.account_reply.is_some() => Decision::AnswerForAccount,
        Decision::Reinject { .. } if facts.has_copy_here => Decision::Absorb(Absorbed::Copy),
        Decision::Reinject { .. } if facts.copies_held_for.contains(&rules.local) => {
            Decision::HoldForRoute
        }
        Decision::Forward(host) if facts.copies_held_for.contains(&host) => Decision::HoldForRoute,
        other => other,
    }
}

/// Whether the message is to an offline session, so that a server delivers it to
/// the user's others (RFC 6121 §8.5.3.2.1), and the local server would deliver it
/// twice.
fn is_to_bare(input: &RoutingInput<'_>) -> bool {
    let facts = input.facts;
    facts.server_doubles_messages
        && !facts.here
        && input.is_to_user()
        && input.recipient.is_full()
        && input.kind() == Kind::Message
        && matches!(input.stanza_type(), None | Some("chat" | "normal"))
}

fn reinject(input: &RoutingInput<'_>, reason: ReinjectReason) -> Decision {
    let to_bare = is_to_bare(input);
    Decision::Reinject { reason, to_bare }
}

/// Decides by the recipient's domain.
fn to_recipient(input: &RoutingInput<'_>) -> Decision {
    let (rules, domain) = (input.rules, input.recipient.domain().as_str());
    if made_for_local_server(input) {
        return reinject(input, ReinjectReason::Routed);
    }
    if rules.global == *domain {
        return match input.recipient.node() {
            Some(_) => to_user(input),
            None => to_ourselves(input),
        };
    }
    if rules.local == *domain {
        // The local server could deliver the stanza, but no other server could.
        return Decision::Refuse(Refusal::new(
            Reason::BadAddress,
            format!(
                "accounts are reached under {}: write to user@{0}",
                rules.global
            ),
        ));
    }
    match &input.facts.service {
        ServiceHost::HostedAt(host) => to_service(input, host),
        ServiceHost::Unhosted => to_no_service(input),
        ServiceHost::NotAService if rules.global.is_above(domain) => to_unknown_subdomain(input),
        ServiceHost::NotAService => to_foreign_domain(input),
    }
}

/// Whether the gateway made the stanza for a user of the local server; the session
/// table does not matter then.
fn made_for_local_server(input: &RoutingInput<'_>) -> bool {
    let host = input.envelope.copy_for.as_ref();
    input.envelope.arrival == Arrival::Own && host.is_some_and(|host| input.is_local(host))
}

/// The recipient is the shared domain itself.
fn to_ourselves(input: &RoutingInput<'_>) -> Decision {
    match &input.envelope.arrival {
        // The gateway's answer to the local server's own stanza: the server's
        // address, too, is translated to the shared domain, and back when the
        // answer is reinjected.
        Arrival::Own if input.envelope.origin == input.rules.local => {
            reinject(input, ReinjectReason::Routed)
        }
        _ => Decision::Answer,
    }
}

/// The recipient is a service domain of `host`, or an address on one.
fn to_service(input: &RoutingInput<'_>, host: &Host) -> Decision {
    if *host != input.rules.local && input.envelope.ttl == 0 {
        // A service's address, unlike a user's, is the same on every host: the
        // local server would return the stanza to its component, which is this
        // gateway.
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

/// The recipient is below the shared domain, on no known service domain. If the
/// local server or a peer takes the domain for a service, it was one just now, and
/// the local server would return the stanza to this gateway. The remaining stanzas
/// are the gateway's own, for senders there that are connected by other means than
/// the gateway.
fn to_unknown_subdomain(input: &RoutingInput<'_>) -> Decision {
    match &input.envelope.arrival {
        Arrival::Own => to_foreign_domain(input),
        Arrival::Link(_) if input.envelope.origin == input.rules.local => to_foreign_domain(input),
        Arrival::Component | Arrival::Link(_) => to_no_service(input),
    }
}

/// No host offers the recipient's service domain.
fn to_no_service(input: &RoutingInput<'_>) -> Decision {
    Decision::Refuse(Refusal::new(
        Reason::Unavailable,
        format!(
            "no datacenter offers {} at present; try again later",
            input.recipient.domain().as_str()
        ),
    ))
}

/// The recipient is outside the shared domain and its services. The host where the
/// exchange began has the route: its server's s2s.
fn to_foreign_domain(input: &RoutingInput<'_>) -> Decision {
    match &input.envelope.arrival {
        Arrival::Link(_) => reinject(input, ReinjectReason::Routed),
        Arrival::Component | Arrival::Own => towards(input, &input.envelope.origin),
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
    match (&input.envelope.arrival, &input.envelope.copy_for) {
        (Arrival::Link(peer), _) => {
            if candidates.hosts.contains(&&input.rules.local) {
                return reinject(input, ReinjectReason::Routed);
            }
            // The peer's session table had the recipient here. The stanza returns
            // to the peer only if no other host has the recipient: the peer's table
            // may be newer by now.
            match candidates.without(peer).one(input.kind()) {
                Some(host) => towards(input, host),
                None => towards(input, peer),
            }
        }
        (_, Some(host)) if candidates.hosts.contains(&host) => towards(input, host),
        (_, None) if candidates.hosts.len() > 1 && candidates.may_fan_out(input) => {
            to_each(input, &candidates.hosts)
        }
        _ => match candidates.one(input.kind()) {
            Some(host) => towards(input, host),
            None => to_nobody_known(input),
        },
    }
}

/// No host claims the recipient. A claim may be on its way, so the stanza waits a
/// little; then the host where the user was last receives the stanza.
fn to_nobody_known(input: &RoutingInput<'_>) -> Decision {
    if input.rules.bounce_enabled
        && !input.facts.closing
        && input.envelope.retries_at(&input.rules.local) < input.rules.max_retries
        && !is_probe_for_us(input)
    {
        return Decision::Bounce;
    }
    match &input.facts.locations.home {
        Some(home) if *home != input.rules.local => towards(input, home),
        _ => reinject(input, ReinjectReason::LastResort),
    }
}

/// The host that a presence was made for in particular, if any: the server of that
/// host knows whether the user is online, while the gateway there may only just
/// have started. If the user is offline, the presence is of no use elsewhere: a
/// server asks for presence when a user comes online.
fn presence_made_for<'a>(input: &RoutingInput<'a>) -> Option<&'a Host> {
    let is_shown = matches!(input.stanza_type(), None | Some("unavailable" | "probe"));
    let is_presence = input.kind() == Kind::Presence && is_shown;
    let host = input.envelope.copy_for.as_ref().filter(|_| is_presence)?;
    match &input.envelope.arrival {
        // The presence has arrived at the host it was made for.
        Arrival::Link(_) => (*host == input.rules.local).then_some(host),
        Arrival::Component | Arrival::Own => Some(host),
    }
}

/// Whether a peer's server probes a user here (RFC 6121 §4.3): the local server
/// knows at once which users are online, and answers also for users who are
/// offline.
fn is_probe_for_us(input: &RoutingInput<'_>) -> bool {
    let local = &input.rules.local;
    input.kind() == Kind::Presence
        && input.stanza_type() == Some("probe")
        && matches!(input.envelope.arrival, Arrival::Link(_))
        && input
            .facts
            .locations
            .home
            .as_ref()
            .is_none_or(|home| home == local)
}

/// Every one of `hosts` receives the stanza, this host first.
fn to_each(input: &RoutingInput<'_>, hosts: &[&Host]) -> Decision {
    if input.envelope.ttl == 0 {
        return reinject(input, ReinjectReason::TtlZero);
    }
    let (here, peers): (Vec<&Host>, Vec<&Host>) = hosts.iter().partition(|h| input.is_local(h));
    Decision::FanOut(here.into_iter().chain(peers).cloned().collect())
}

/// `host`, which is this host or a peer, receives the stanza.
fn towards(input: &RoutingInput<'_>, host: &Host) -> Decision {
    if *host == input.rules.local {
        reinject(input, ReinjectReason::Routed)
    } else if input.envelope.ttl == 0 {
        reinject(input, ReinjectReason::TtlZero)
    } else {
        Decision::Forward(host.clone())
    }
}

/// The hosts that a stanza for a user may go to.
struct Candidates<'a> {
    /// Newest claim first.
    hosts: Vec<&'a Host>,
    /// Whether the hosts have this very session, not just another one of the user.
    exact: bool,
}

impl<'a> Candidates<'a> {
    fn of(input: &'a RoutingInput<'_>) -> Self {
        let Locations { full, bare, .. } = &input.facts.locations;
        let exact = input.recipient.is_full() && (input.facts.here || !full.is_empty());
        let local = &input.rules.local;
        let mut hosts: Vec<&Host> = if exact { full } else { bare }.iter().collect();
        // The local tracker has the session before the session table does.
        if input.facts.here && !hosts.contains(&local) {
            hosts.insert(0, local);
        }
        Self { hosts, exact }
    }

    fn without(mut self, host: &Host) -> Self {
        self.hosts.retain(|h| *h != host);
        self
    }

    /// The one host for a stanza that is not copied. An iq to no particular session
    /// must always reach the same server, from every sender: the first host by
    /// name.
    fn one(&self, kind: Kind) -> Option<&'a Host> {
        match kind {
            Kind::Iq if !self.exact => self.hosts.iter().min().copied(),
            _ => self.hosts.first().copied(),
        }
    }

    /// Whether each host receives a copy. A session is on one host. Otherwise all
    /// hosts receive a stanza that a server delivers to several sessions (RFC 6121
    /// §8.5.2, §8.5.3.2), and one host receives a stanza that a server answers with
    /// an error, so that there is one answer.
    fn may_fan_out(&self, input: &RoutingInput<'_>) -> bool {
        if self.exact {
            return false;
        }
        match (input.kind(), input.stanza_type()) {
            (Kind::Iq, Some("result" | "error")) => {
                // The server that asked in the user's name (for +notify, say) is
                // unknown; the others ignore the reply.
                true
            }
            (Kind::Iq, _) => false,
            (Kind::Message, Some("groupchat" | "error")) => input.recipient.is_bare(),
            (Kind::Message | Kind::Presence, _) => true,
        }
    }
}
