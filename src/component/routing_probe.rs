//! A probe that checks whether the server routes all stanzas for the domain to
//! this stream.
//!
//! A server may route stanzas for the domain elsewhere too: ejabberd lets any
//! number of components attach as one domain and chooses one at random for each
//! stanza, and with `domain_balancing` or `global_routes` even without a second
//! one for the domain. No stanza on the stream shows such routes. A round of the
//! probe is a few iqs that the gateway sends to itself through the server: the
//! iqs that do not return were misrouted, and the iqs that arrive without having
//! been sent on this stream show where they belong.
//!
//! A round starts when the stream is attached, and when one of these happens:
//! - an iq of the gateway's own (barrier, probe, from-check, server discovery)
//!   has no answer after [`OVERDUE`](super::pending_iqs::OVERDUE);
//! - another gateway's probe arrives, or a stanza for another domain;
//! - the round before found something: rounds continue until a whole round finds nothing.

use std::time::Duration;

use jid::Jid;
use tokio::time::Instant;

use super::pending_iqs::ID_MARK;
use crate::config::Endpoint;
use crate::host::Host;
use crate::servers::{self, ServerProblem};
use crate::stanza::{Kind, Stanza};

/// The localpart of every gateway's probe addresses starts with this mark.
const MARK: &str = "strait-probe-";
/// Probes in a round: with two streams, one time in 65,536 all return.
const COUNT: u64 = 16;
/// The shortest time between two rounds.
const EVERY: Duration = Duration::from_secs(10);
/// The shortest time while stanzas are misrouted: the end of that should show soon.
const EVERY_MISROUTED: Duration = Duration::from_secs(2);
/// The time in which later probes may overtake one before it counts as lost.
const OVERTAKEN: Duration = Duration::from_secs(1);

/// The routing probe of one component, across all of its streams.
#[derive(Debug)]
pub(super) struct RoutingProbe {
    domain: Host,
    sent: u64,
    /// `None` while there is no stream, and for a stream without a probe.
    round: Option<ProbeRound>,
    found: Option<Misrouted>,
    reported: Option<Misrouted>,
}

#[derive(Debug)]
struct ProbeRound {
    since: Instant,
    first: u64,
    returned: u64,
    /// The number of the last probe that returned: probes of one stream return in order.
    last_returned: u64,
    stranger: Option<Misrouted>,
}

/// Stanzas that the server routes elsewhere, or to this stream although they are
/// for another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Misrouted {
    /// The server routes stanzas for this other domain to the gateway's stream.
    OtherDomain(String),
    /// Another gateway is attached as the same domain.
    OtherGateway,
    /// This many probes of one round did not return.
    Lost(u64),
}

/// Recognises a probe of any gateway. Only a component with a stream of a domain
/// can send from the domain to itself.
pub(super) fn is_probe(stanza: &Stanza) -> bool {
    let (Kind::Iq, Some(id), Some(to)) = (stanza.kind(), stanza.id(), stanza.to()) else {
        return false;
    };
    let is_marked = |node: &str| node.starts_with(MARK);
    id.starts_with(ID_MARK)
        && stanza.from() == Some(to)
        && to.node().is_some_and(|node| is_marked(node.as_str()))
}

impl RoutingProbe {
    pub fn new(domain: &Host) -> Self {
        Self {
            domain: domain.clone(),
            sent: 0,
            round: None,
            found: None,
            reported: None,
        }
    }

    /// Starts a round; returns the numbers of its probes.
    pub fn begin(&mut self, now: Instant) -> impl Iterator<Item = u64> + use<> {
        let first = self.sent + 1;
        self.sent += COUNT;
        self.round = Some(ProbeRound {
            since: now,
            first,
            returned: 0,
            last_returned: 0,
            stranger: None,
        });
        first..first + COUNT
    }

    /// The sender and recipient of a probe. They differ from probe to probe,
    /// because a server may choose a stream by either.
    pub fn address(&self, number: u64) -> Option<Jid> {
        Jid::new(&format!("{MARK}{number}@{}", self.domain)).ok()
    }

    /// Discards the round and its result: both were about the stream that ended.
    pub fn detached(&mut self) {
        self.round = None;
        self.found = None;
    }

    pub fn returned(&mut self, number: u64) {
        if let Some(round) = &mut self.round
            && number >= round.first
        {
            round.returned += 1;
            round.last_returned = round.last_returned.max(number);
        }
    }

    /// Records a stanza for `domain`, which does not belong on this stream.
    pub fn stranger(&mut self, domain: &str) {
        if let Some(round) = &mut self.round {
            if self.domain == *domain {
                round.stranger.get_or_insert(Misrouted::OtherGateway);
            } else {
                round.stranger = Some(Misrouted::OtherDomain(domain.to_owned()));
            }
        }
    }

    /// Evaluates the round; `overdue` if an iq of the gateway's own has no
    /// answer. Returns true if a new round is to start.
    pub fn tend(&mut self, now: Instant, overdue: bool) -> bool {
        let Some(round) = &self.round else {
            return false;
        };
        let age = now.saturating_duration_since(round.since);
        let seen = round.seen(age);
        let is_over = age >= self.found.as_ref().map_or(EVERY, |_| EVERY_MISROUTED);
        // Only a whole round without a finding shows that stanzas are routed
        // correctly again.
        if seen.is_some() || is_over && round.returned == COUNT {
            self.found = seen;
        }
        is_over && (overdue || self.found.is_some())
    }

    pub fn found(&self) -> Option<&Misrouted> {
        self.found.as_ref()
    }

    /// Returns the current finding when its kind differs from the one reported last.
    pub fn news(&mut self) -> Option<Option<Misrouted>> {
        let same = match (&self.reported, &self.found) {
            // The number of lost probes differs from round to round.
            (Some(Misrouted::Lost(_)), Some(Misrouted::Lost(_))) => true,
            (reported, found) => reported == found,
        };
        if same {
            return None;
        }
        self.reported.clone_from(&self.found);
        Some(self.reported.clone())
    }
}

impl ProbeRound {
    fn seen(&self, age: Duration) -> Option<Misrouted> {
        if self.stranger.is_some() {
            return self.stranger.clone();
        }
        // A slow server has not returned the last probes either.
        let sent = (self.last_returned + 1).saturating_sub(self.first);
        let lost = sent.saturating_sub(self.returned);
        (lost > 0 && age >= OVERTAKEN).then_some(Misrouted::Lost(lost))
    }
}

impl Misrouted {
    /// The meaning for people, and the configuration to change.
    pub fn advice(&self, domain: &Host, server: &Endpoint) -> String {
        let advice = |problem| servers::advice(problem, domain);
        match self {
            Self::OtherDomain(other) => format!(
                "the server gives this stream, of {domain}, stanzas for {other}, which has a stream \
                 of its own. {}",
                advice(ServerProblem::RoutesOtherDomains(server.port))
            ),
            Self::OtherGateway => format!(
                "another gateway is attached to this server as {domain}, and the server spreads \
                 stanzas over both at random, out of order. {}. Stop one of the two",
                advice(ServerProblem::TwoGateways)
            ),
            Self::Lost(lost) => format!(
                "not everything for {domain} comes here: of {COUNT} stanzas that the gateway sent to \
                 itself through the server, {lost} did not come back. {}",
                advice(ServerProblem::LostStanzas)
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(name: &str) -> Host {
        Host::new(name).unwrap()
    }

    /// A probe whose first round has started.
    fn begun(now: Instant) -> (RoutingProbe, Vec<u64>) {
        let mut probe = RoutingProbe::new(&host("example.test"));
        let sent = probe.begin(now).collect();
        (probe, sent)
    }

    fn after(now: Instant, seconds: u64) -> Instant {
        now + Duration::from_secs(seconds)
    }

    #[test]
    fn one_round_is_enough_while_nothing_looks_wrong() {
        let now = Instant::now();
        let (mut probe, sent) = begun(now);
        assert_eq!(sent.len(), 16);
        sent.iter().for_each(|number| probe.returned(*number));
        for second in 0..100 {
            assert!(!probe.tend(after(now, second), false));
        }
        assert!(probe.tend(after(now, 100), true));
        assert_eq!(probe.news(), None);
    }

    #[test]
    fn while_an_answer_is_missing_there_is_a_round_every_ten_seconds() {
        let now = Instant::now();
        let (mut probe, sent) = begun(now);
        sent.iter().for_each(|number| probe.returned(*number));
        assert!(!probe.tend(after(now, 9), true));
        assert!(probe.tend(after(now, 10), true));
        let sent: Vec<u64> = probe.begin(after(now, 10)).collect();
        sent.iter().for_each(|number| probe.returned(*number));
        assert!(!probe.tend(after(now, 19), true));
        assert!(probe.tend(after(now, 20), true));
        assert_eq!(probe.news(), None);
    }

    #[test]
    fn a_probe_that_later_ones_overtake_is_lost() {
        let now = Instant::now();
        let (mut probe, sent) = begun(now);
        sent[3..].iter().for_each(|number| probe.returned(*number));
        probe.tend(now, false);
        assert_eq!(probe.news(), None);
        probe.tend(after(now, 1), false);
        assert_eq!(probe.news(), Some(Some(Misrouted::Lost(3))));
        // The next round loses other probes: the finding is no news.
        assert!(probe.tend(after(now, 2), false));
        let sent: Vec<u64> = probe.begin(after(now, 2)).collect();
        probe.returned(sent[15]);
        probe.tend(after(now, 3), false);
        assert_eq!(probe.news(), None);
        assert_eq!(probe.found(), Some(&Misrouted::Lost(15)));
        // The third round loses none.
        assert!(probe.tend(after(now, 4), false));
        probe.begin(after(now, 4)).for_each(drop);
        (33..=48).for_each(|number| probe.returned(number));
        assert!(!probe.tend(after(now, 6), false));
        assert_eq!(probe.news(), Some(None));
    }

    #[test]
    fn a_slow_server_loses_nothing() {
        let now = Instant::now();
        let (mut probe, sent) = begun(now);
        sent[..7].iter().for_each(|number| probe.returned(*number));
        assert!(probe.tend(after(now, 11), true));
        assert_eq!(probe.news(), None);
        // The probes return after the next round has started.
        probe.begin(after(now, 11)).for_each(drop);
        sent[7..].iter().for_each(|number| probe.returned(*number));
        probe.tend(after(now, 13), true);
        assert_eq!(probe.news(), None);
    }

    #[test]
    fn a_server_that_returns_none_shows_nothing() {
        let now = Instant::now();
        let (mut probe, _) = begun(now);
        for second in 0..100 {
            if probe.tend(after(now, second), true) {
                probe.begin(after(now, second)).for_each(drop);
            }
            assert_eq!(probe.news(), None);
        }
    }

    #[test]
    fn a_stranger_shows_where_it_belongs_and_asks_for_a_round() {
        let now = Instant::now();
        for (domain, found) in [
            ("example.test", Misrouted::OtherGateway),
            (
                "muc.example.test",
                Misrouted::OtherDomain("muc.example.test".to_owned()),
            ),
        ] {
            let (mut probe, sent) = begun(now);
            sent.iter().for_each(|number| probe.returned(*number));
            probe.stranger(domain);
            assert!(!probe.tend(after(now, 1), false));
            assert_eq!(probe.news(), Some(Some(found)));
            assert!(probe.tend(after(now, 2), false));
        }
    }

    #[test]
    fn what_was_found_ends_with_the_stream() {
        let now = Instant::now();
        let (mut probe, sent) = begun(now);
        probe.returned(sent[15]);
        probe.tend(after(now, 2), false);
        assert!(probe.news().is_some());
        probe.detached();
        assert_eq!(probe.news(), Some(None));
        let again: Vec<u64> = probe.begin(after(now, 3)).collect();
        // A late probe of the former stream does not count.
        probe.returned(sent[3]);
        again.iter().for_each(|number| probe.returned(*number));
        probe.tend(after(now, 5), false);
        assert_eq!(probe.news(), None);
    }

    #[test]
    fn a_probe_is_recognised_whoever_sent_it() {
        let jid = |text: &str| Jid::new(text).ok();
        for (id, from, to, is) in [
            (
                "strait-1-1",
                "strait-probe-1@muc.test",
                "strait-probe-1@muc.test",
                true,
            ),
            (
                "x",
                "strait-probe-1@muc.test",
                "strait-probe-1@muc.test",
                false,
            ),
            (
                "strait-1-1",
                "a@elsewhere.test",
                "strait-probe-1@muc.test",
                false,
            ),
            ("strait-1-1", "a@muc.test", "a@muc.test", false),
        ] {
            let iq = Stanza::new(Kind::Iq, Some("get"), Some(id), jid(from), jid(to), &[]);
            assert_eq!(is_probe(&iq), is, "{id} {from} {to}");
        }
    }
}
