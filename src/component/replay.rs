//! Messages that a server accepted shortly before it died, and may not have kept
//! (`component.replay`).
//!
//! A pong proves that the server accepted a stanza, not that it was delivered or
//! stored: some servers lose the last seconds when they are killed. The gateway
//! writes the messages of that time again, marked with a delay (XEP-0203), to the
//! server that takes over. Messages that had been delivered arrive twice.
//! Presence and iqs are not repeated: they are outdated, or might be executed
//! twice.

use std::collections::VecDeque;
use std::time::{Duration, SystemTime};

use chrono::{DateTime, SecondsFormat, TimeDelta, Utc};
use minidom::Element;
use minidom::rxml::xml_ncname;
use tokio::time::Instant;
use xmpp_parsers::ns;

use super::queue::QueuedStanza;
use crate::host::Host;
use crate::stanza::Kind;

/// The messages that the server accepted lately, oldest first.
#[derive(Debug)]
pub(super) struct Replay {
    time: Duration,
    /// Bytes kept at most; the oldest messages are dropped first.
    limit: usize,
    bytes: usize,
    kept: VecDeque<(Instant, QueuedStanza)>,
    /// The time of the server's last answer.
    alive_at: Option<Instant>,
    /// The stamp of the last mark. Stamps increase strictly: a server may sort the messages that
    /// it stores by stamp (MongooseIM does, and reverses equal ones).
    last_stamp: DateTime<Utc>,
}

impl Replay {
    /// Keeps the messages of the last `time`; none if `time` is zero.
    pub(super) fn new(time: Duration, limit: usize) -> Self {
        Self {
            time,
            limit,
            bytes: 0,
            kept: VecDeque::new(),
            alive_at: None,
            last_stamp: DateTime::UNIX_EPOCH,
        }
    }

    /// Keeps a stanza that the server has accepted, if it is a message.
    pub(super) fn keep(&mut self, mut accepted: QueuedStanza, now: Instant) {
        let stanza = &accepted.envelope.stanza;
        let is_message = stanza.kind() == Kind::Message && stanza.stanza_type() != Some("error");
        if self.time.is_zero() || !is_message {
            return;
        }
        accepted.room = None;
        self.bytes += weight(&accepted);
        self.kept.push_back((now, accepted));
        while self.bytes > self.limit {
            self.drop_oldest();
        }
    }

    /// The server answered at `now`: messages accepted more than `time` before are safe.
    pub(super) fn alive(&mut self, now: Instant) {
        self.alive_at = Some(now);
        self.forget_before(now);
    }

    /// Returns the messages to write again; `silent` means that the server died
    /// some time ago, unnoticed.
    pub(super) fn died(&mut self, silent: bool, domain: &Host, now: Instant) -> Vec<QueuedStanza> {
        if !silent {
            self.forget_before(now);
        }
        self.bytes = 0;
        let kept = std::mem::take(&mut self.kept).into_iter();
        kept.map(|(_, stanza)| self.marked(stanza, domain))
            .collect()
    }

    /// Adds a delay with the time at which the gateway first took the stanza, once.
    fn marked(&mut self, mut stanza: QueuedStanza, domain: &Host) -> QueuedStanza {
        if !stanza.replayed && !stanza.local.payload().is_empty() {
            let taken = SystemTime::now() - stanza.envelope.taken_at.elapsed();
            let next = self.last_stamp + TimeDelta::microseconds(1);
            self.last_stamp = DateTime::from(taken).max(next);
            let stamp = self.last_stamp.to_rfc3339_opts(SecondsFormat::Micros, true);
            let delay = Element::builder("delay", ns::DELAY)
                .attr(xml_ncname!("from").to_owned(), domain.as_str())
                .attr(xml_ncname!("stamp").to_owned(), stamp)
                .build();
            stanza.local.append_to_payload(&delay);
            stanza.len = stanza.local.len();
        }
        stanza.replayed = true;
        stanza.since = None;
        stanza
    }

    /// The server stopped in order, and has stored all messages.
    pub(super) fn stopped(&mut self) {
        self.kept.clear();
        self.bytes = 0;
    }

    fn forget_before(&mut self, now: Instant) {
        while let Some((at, _)) = self.kept.front()
            && now.duration_since(*at) > self.time
        {
            self.drop_oldest();
        }
    }

    fn drop_oldest(&mut self) {
        if let Some((_, entry)) = self.kept.pop_front() {
            self.bytes -= weight(&entry);
        }
    }
}

/// Bytes of memory, about: the envelope may have its own copy of the stanza.
fn weight(stanza: &QueuedStanza) -> usize {
    2 * stanza.len + size_of::<QueuedStanza>()
}

#[cfg(test)]
mod tests {
    use bytes::{Bytes, BytesMut};

    use super::*;
    use crate::envelope::{Arrival, Envelope};
    use crate::stanza::{Limits, Stanza};

    const TIME: Duration = Duration::from_secs(10);

    fn queued(xml: &str) -> QueuedStanza {
        let bytes = Bytes::copy_from_slice(xml.as_bytes());
        let stanza = Stanza::parse(bytes, &Limits::default()).unwrap();
        let origin = Host::new("dc2.test").unwrap();
        QueuedStanza {
            len: stanza.len(),
            local: stanza.clone(),
            envelope: Envelope::new(origin, Arrival::Own, 4, stanza),
            since: None,
            alone: false,
            foreign: false,
            replayed: false,
            room: None,
        }
    }

    fn wires(stanzas: &[QueuedStanza]) -> Vec<String> {
        let wire = |stanza: &QueuedStanza| {
            let mut out = BytesMut::new();
            stanza.local.write_to(&mut out);
            assert_eq!(out.len(), stanza.len);
            String::from_utf8(out.to_vec()).unwrap()
        };
        stanzas.iter().map(wire).collect()
    }

    fn died(replay: &mut Replay, silent: bool, now: Instant) -> Vec<QueuedStanza> {
        replay.died(silent, &Host::new("example.test").unwrap(), now)
    }

    #[test]
    fn messages_of_the_last_seconds_come_again_once_marked() {
        let start = Instant::now();
        let mut replay = Replay::new(TIME, 1 << 20);
        let old = "<message id='old'><body>a</body></message>";
        replay.keep(queued(old), start);
        for xml in [
            "<message id='new'><body>b</body></message>",
            "<message id='e' type='error'><body>b</body></message>",
            "<presence/>",
            "<iq type='get' id='i'><ping xmlns='urn:xmpp:ping'/></iq>",
        ] {
            replay.keep(queued(xml), start + TIME);
        }
        let again = died(&mut replay, false, start + TIME + TIME / 2);
        let [only] = &wires(&again)[..] else {
            panic!("{again:?}")
        };
        let parts = (
            "<message id='new'><body>b</body><delay xmlns='urn:xmpp:delay'",
            "/></message>",
        );
        assert!(
            only.starts_with(parts.0) && only.ends_with(parts.1),
            "{only}"
        );
        // The server dies again, before the replayed messages are safe.
        for stanza in again {
            replay.keep(stanza, start + 3 * TIME);
        }
        let third = died(&mut replay, false, start + 3 * TIME);
        assert_eq!(wires(&third)[0].matches("<delay").count(), 1);
    }

    #[test]
    fn no_two_stamps_are_equal_and_none_is_before_an_earlier_one() {
        let now = Instant::now();
        let mut replay = Replay::new(TIME, 1 << 20);
        let mut stamps = Vec::new();
        for _ in 0..2 {
            for _ in 0..50 {
                let mut stanza = queued("<message><body>b</body></message>");
                stanza.envelope.taken_at = now.into();
                replay.keep(stanza, now);
            }
            for wire in wires(&died(&mut replay, false, now)) {
                let (_, stamp) = wire.split_once("stamp='").unwrap();
                let (stamp, _) = stamp.split_once('\'').unwrap();
                stamps.push(DateTime::parse_from_rfc3339(stamp).unwrap());
            }
        }
        assert_eq!(stamps.len(), 100);
        assert!(stamps.is_sorted_by(|a, b| a < b), "{stamps:?}");
    }

    #[test]
    fn a_server_that_fell_silent_died_at_its_last_answer() {
        let start = Instant::now();
        let mut replay = Replay::new(TIME, 1 << 20);
        replay.alive(start);
        replay.keep(queued("<message><body>a</body></message>"), start);
        assert_eq!(died(&mut replay, true, start + 6 * TIME).len(), 1);
    }

    #[test]
    fn a_server_that_stops_in_order_has_kept_everything() {
        let now = Instant::now();
        let mut replay = Replay::new(TIME, 1 << 20);
        replay.keep(queued("<message><body>a</body></message>"), now);
        replay.stopped();
        assert!(died(&mut replay, false, now).is_empty());
    }

    #[test]
    fn without_a_time_and_beyond_the_limit_nothing_is_kept() {
        let now = Instant::now();
        let message = || queued("<message><body>a</body></message>");
        let mut off = Replay::new(Duration::ZERO, 1 << 20);
        off.keep(message(), now);
        assert!(died(&mut off, false, now).is_empty());
        let mut small = Replay::new(TIME, weight(&message()));
        small.keep(message(), now);
        small.keep(message(), now);
        assert_eq!(died(&mut small, false, now).len(), 1);
    }
}
