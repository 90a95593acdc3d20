//! Whether everything for our domain comes to our stream.
//!
//! A server may give stanzas for the domain to somebody else too: ejabberd lets
//! any number of components attach as one domain and chooses one at random for
//! each stanza, and with `domain_balancing` or `global_routes` even without a
//! second one for it. Nothing on the stream tells. So from time to time the
//! gateway sends a few stanzas to itself through the server: those that do not
//! come back went astray, and those that come without having been sent on this
//! stream tell who else is there.

use std::collections::BTreeSet;
use std::time::Duration;

use jid::Jid;
use minidom::Element;
use tokio::time::Instant;
use uuid::Uuid;

use crate::config::Endpoint;
use crate::host::Host;
use crate::servers::{self, ServerProblem};
use crate::stanza::{Kind, Stanza};

/// What begins the id and the address of every echo, of any gateway.
const MARK: &str = "strait-echo-";
/// RoutingProbe at a time: with two streams, one time in 65,536 all come back.
const COUNT: u64 = 16;
/// Between two times.
const EVERY: Duration = Duration::from_secs(10);
/// The same while something goes astray: its end should show soon.
const EVERY_ASTRAY: Duration = Duration::from_secs(2);
/// How long an echo may be overtaken by later ones before it counts as lost.
const OVERTAKEN: Duration = Duration::from_secs(1);

/// The echoes of one component, through all its streams.
#[derive(Debug)]
pub(super) struct RoutingProbe {
    domain: Host,
    /// Random, so that those of another gateway differ.
    prefix: String,
    sent: u64,
    /// `None` while there is no stream, or nobody wants to know.
    round: Option<Round>,
    found: Option<Misrouted>,
    told: Option<Misrouted>,
}

#[derive(Debug)]
struct Round {
    since: Instant,
    missing: BTreeSet<u64>,
    /// The last that is back; all of its stream come in order.
    last_back: u64,
    stranger: Option<Misrouted>,
}

/// What goes to somebody else, or comes from there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Misrouted {
    /// The server gives us what is for another stream: it is that domain's.
    OtherDomain(String),
    /// Another gateway is attached as our domain.
    OtherGateway,
    /// So many echoes of one time did not come back.
    Lost(usize),
}

impl RoutingProbe {
    pub(super) fn new(domain: &Host) -> Self {
        Self {
            domain: domain.clone(),
            prefix: format!("{MARK}{}-", Uuid::new_v4().simple()),
            sent: 0,
            round: None,
            found: None,
            told: None,
        }
    }

    /// A stream is up: what is to be written to it.
    pub(super) fn attached(&mut self, now: Instant) -> Vec<Stanza> {
        self.begin(now)
    }

    /// The stream is gone; what is known was about it.
    pub(super) fn detached(&mut self) {
        self.round = None;
        self.found = None;
    }

    fn begin(&mut self, now: Instant) -> Vec<Stanza> {
        let numbers = self.sent + 1..=self.sent + COUNT;
        self.sent += COUNT;
        self.round = Some(Round {
            since: now,
            missing: numbers.clone().collect(),
            last_back: 0,
            stranger: None,
        });
        numbers.map(|number| self.echo(number)).collect()
    }

    /// From and to addresses that differ each time: a server may choose by either.
    fn echo(&self, number: u64) -> Stanza {
        let address = Jid::new(&format!("{MARK}{number}@{}", self.domain)).ok();
        let ping = Element::bare("ping", xmpp_parsers::ns::PING);
        let id = format!("{}{number}", self.prefix);
        let (from, to) = (address.clone(), address);
        Stanza::new(Kind::Iq, Some("get"), Some(&id), from, to, &[ping])
    }

    /// Whether `stanza` from the server is an echo, ours or not. Only who has a
    /// stream of a domain can send from the domain to itself.
    pub(super) fn recognise(&mut self, stanza: &Stanza) -> bool {
        let (Kind::Iq, Some(id)) = (stanza.kind(), stanza.id()) else {
            return false;
        };
        let (Some(from), Some(to)) = (stanza.from(), stanza.to()) else {
            return false;
        };
        if !id.starts_with(MARK) || from.domain() != to.domain() {
            return false;
        }
        let Some(round) = &mut self.round else {
            return true;
        };
        let own = id.strip_prefix(&self.prefix);
        if let Some(number) = own.and_then(|number| number.parse().ok()) {
            // An answer is from somebody else, who got it.
            if stanza.stanza_type() != Some("get") {
                return true;
            }
            round.missing.remove(&number);
            round.last_back = round.last_back.max(number);
        } else if self.domain == *to.domain().as_str() {
            round.stranger.get_or_insert(Misrouted::OtherGateway);
        } else {
            round.stranger = Some(Misrouted::OtherDomain(to.domain().to_string()));
        }
        true
    }

    /// Time has passed: what is to be written now.
    pub(super) fn tend(&mut self, now: Instant) -> Vec<Stanza> {
        let Some(round) = &self.round else {
            return Vec::new();
        };
        let age = now.saturating_duration_since(round.since);
        let seen = round.seen(age);
        let is_over = age >= self.found.as_ref().map_or(EVERY, |_| EVERY_ASTRAY);
        // Only a whole round in which nothing was seen says that it is over.
        if seen.is_some() || is_over && round.missing.is_empty() {
            self.found = seen;
        }
        if is_over { self.begin(now) } else { Vec::new() }
    }

    /// What goes astray at present.
    pub(super) fn found(&self) -> Option<&Misrouted> {
        self.found.as_ref()
    }

    /// Since when the present echoes are under way.
    pub(super) fn since(&self) -> Option<Instant> {
        self.round.as_ref().map(|round| round.since)
    }

    /// The same when it is of another sort than what was told last.
    pub(super) fn news(&mut self) -> Option<Option<Misrouted>> {
        let same = match (&self.told, &self.found) {
            // How many are lost differs each time.
            (Some(Misrouted::Lost(_)), Some(Misrouted::Lost(_))) => true,
            (told, found) => told == found,
        };
        if same {
            return None;
        }
        self.told.clone_from(&self.found);
        Some(self.told.clone())
    }
}

impl Round {
    fn seen(&self, age: Duration) -> Option<Misrouted> {
        if self.stranger.is_some() {
            return self.stranger.clone();
        }
        // A server that is slow has not answered the last ones either.
        let lost = self.missing.range(..self.last_back).count();
        (lost > 0 && age >= OVERTAKEN).then_some(Misrouted::Lost(lost))
    }
}

impl Misrouted {
    /// What it means and what to change.
    pub(super) fn advice(&self, domain: &Host, server: &Endpoint) -> String {
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

    /// RoutingProbe whose first round has begun.
    fn begun(now: Instant) -> (RoutingProbe, Vec<Stanza>) {
        let mut echoes = RoutingProbe::new(&host("example.test"));
        let sent = echoes.attached(now);
        (echoes, sent)
    }

    fn after(now: Instant, seconds: u64) -> Instant {
        now + Duration::from_secs(seconds)
    }

    #[test]
    fn nothing_is_found_when_all_come_back() {
        let now = Instant::now();
        let (mut echoes, mut sent) = begun(now);
        for round in 0..3 {
            assert_eq!(sent.len(), 16);
            for echo in &sent {
                assert!(echoes.recognise(echo));
            }
            assert!(echoes.tend(after(now, round * 10 + 9)).is_empty());
            assert_eq!(echoes.news(), None);
            sent = echoes.tend(after(now, round * 10 + 10));
        }
    }

    #[test]
    fn what_later_ones_overtook_is_lost() {
        let now = Instant::now();
        let (mut echoes, sent) = begun(now);
        for echo in sent.iter().skip(3) {
            echoes.recognise(echo);
        }
        echoes.tend(now);
        assert_eq!(echoes.news(), None);
        echoes.tend(after(now, 1));
        assert_eq!(echoes.news(), Some(Some(Misrouted::Lost(3))));
        // Next time others are lost: no news.
        let sent = echoes.tend(after(now, 2));
        echoes.recognise(&sent[15]);
        echoes.tend(after(now, 3));
        assert_eq!(echoes.news(), None);
        assert_eq!(echoes.found(), Some(&Misrouted::Lost(15)));
        // And then none.
        let sent = echoes.tend(after(now, 4));
        for echo in &sent {
            echoes.recognise(echo);
        }
        echoes.tend(after(now, 6));
        assert_eq!(echoes.news(), Some(None));
    }

    #[test]
    fn what_somebody_else_answers_did_not_come_back() {
        let now = Instant::now();
        let (mut echoes, sent) = begun(now);
        for (n, echo) in sent.iter().enumerate() {
            let id = echo.id().unwrap();
            let (from, to) = (echo.to().cloned(), echo.from().cloned());
            let error = Stanza::new(Kind::Iq, Some("error"), Some(&id), from, to, &[]);
            assert!(echoes.recognise(if n == 4 { &error } else { echo }));
        }
        echoes.tend(after(now, 1));
        assert_eq!(echoes.news(), Some(Some(Misrouted::Lost(1))));
    }

    #[test]
    fn a_slow_server_loses_nothing() {
        let now = Instant::now();
        let (mut echoes, sent) = begun(now);
        for echo in sent.iter().take(7) {
            echoes.recognise(echo);
        }
        echoes.tend(after(now, 11));
        assert_eq!(echoes.news(), None);
        // They come when the next round has begun already.
        for echo in &sent {
            assert!(echoes.recognise(echo));
        }
        assert_eq!(echoes.news(), None);
    }

    #[test]
    fn a_server_that_returns_none_tells_nothing() {
        let now = Instant::now();
        let (mut echoes, _) = begun(now);
        for second in 0..100 {
            echoes.tend(after(now, second));
            assert_eq!(echoes.news(), None);
        }
    }

    #[test]
    fn anothers_echo_tells_who_else_is_there() {
        let now = Instant::now();
        for (other, found) in [
            ("example.test", Misrouted::OtherGateway),
            (
                "muc.example.test",
                Misrouted::OtherDomain("muc.example.test".to_owned()),
            ),
        ] {
            let (mut echoes, _) = begun(now);
            let theirs = RoutingProbe::new(&host(other)).attached(now);
            assert!(echoes.recognise(&theirs[0]));
            echoes.tend(now);
            assert_eq!(echoes.news(), Some(Some(found)));
        }
    }

    #[test]
    fn what_is_known_ends_with_the_stream() {
        let now = Instant::now();
        let (mut echoes, sent) = begun(now);
        echoes.recognise(&sent[15]);
        echoes.tend(after(now, 2));
        assert!(echoes.news().is_some());
        echoes.detached();
        assert_eq!(echoes.news(), Some(None));
        // A late one of the stream before is still ours.
        let again = echoes.attached(after(now, 3));
        assert!(echoes.recognise(&sent[3]));
        for echo in &again {
            echoes.recognise(echo);
        }
        echoes.tend(after(now, 5));
        assert_eq!(echoes.news(), None);
    }

    #[test]
    fn other_stanzas_are_none_of_its_business() {
        let (mut echoes, _) = begun(Instant::now());
        let jid = |text: &str| Jid::new(text).ok();
        for (id, from, to) in [
            ("x", "a@example.test", "b@example.test"),
            ("strait-echo-1", "a@elsewhere.test", "b@example.test"),
        ] {
            let stanza = Stanza::new(Kind::Iq, Some("get"), Some(id), jid(from), jid(to), &[]);
            assert!(!echoes.recognise(&stanza), "{id}");
        }
    }
}
