//! What a server that dies may not have kept although it had accepted it
//! (`component.replay`).
//!
//! A pong proves that a stanza is the server's, not that it was delivered or
//! stored: some servers lose the last seconds when they are killed. Messages
//! of that time are written again, marked with a delay (XEP-0203), to the
//! server that takes over. Those that had been delivered come twice. Presence
//! and iqs are not repeated: they are outdated, or might be done twice.

use std::collections::VecDeque;
use std::time::{Duration, SystemTime};

use chrono::{DateTime, SecondsFormat, Utc};
use minidom::Element;
use minidom::rxml::xml_ncname;
use tokio::time::Instant;
use xmpp_parsers::ns;

use super::queue::QueuedStanza;
use crate::host::Host;
use crate::stanza::Kind;

/// What the server accepted lately, oldest first.
#[derive(Debug)]
pub(super) struct Replay {
    time: Duration,
    /// Bytes kept at most; the oldest go first.
    limit: usize,
    bytes: usize,
    kept: VecDeque<(Instant, QueuedStanza)>,
    /// When the server last gave a sign of life.
    alive_at: Option<Instant>,
}

impl Replay {
    /// Of the last `time`; nothing if that is zero.
    pub(super) fn new(time: Duration, limit: usize) -> Self {
        Self {
            time,
            limit,
            bytes: 0,
            kept: VecDeque::new(),
            alive_at: None,
        }
    }

    /// The server has accepted `accepted`.
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

    /// The server answered at `now`: what it accepted long before is safe.
    pub(super) fn alive(&mut self, now: Instant) {
        self.alive_at = Some(now);
        self.forget_before(now);
    }

    /// The server died; `silent`: some time ago, unnoticed. What to write again.
    pub(super) fn died(&mut self, silent: bool, domain: &Host, now: Instant) -> Vec<QueuedStanza> {
        if !silent {
            self.forget_before(now);
        }
        self.bytes = 0;
        let kept = std::mem::take(&mut self.kept).into_iter();
        kept.map(|(_, stanza)| marked(stanza, domain)).collect()
    }

    /// The server stopped in order, and has kept everything.
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

/// Bytes of memory, about: the envelope may have a copy of its own.
fn weight(stanza: &QueuedStanza) -> usize {
    2 * stanza.len + size_of::<QueuedStanza>()
}

/// Says when it was first handed over, once.
fn marked(mut stanza: QueuedStanza, domain: &Host) -> QueuedStanza {
    if !stanza.replayed && !stanza.local.payload().is_empty() {
        let first = SystemTime::now() - stanza.envelope.taken_at.elapsed();
        let stamp = DateTime::<Utc>::from(first).to_rfc3339_opts(SecondsFormat::Millis, true);
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
        // It died again, before the first had come through.
        for stanza in again {
            replay.keep(stanza, start + 3 * TIME);
        }
        let third = died(&mut replay, false, start + 3 * TIME);
        assert_eq!(wires(&third)[0].matches("<delay").count(), 1);
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
