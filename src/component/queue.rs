//! What is in the outbox.

use std::collections::VecDeque;

use bytes::Bytes;
use tokio::time::Instant;

use super::barrier::Barriers;
use super::from_check::FromCheck;
use super::queued::{Ending, QueuedStanza, Rejected};
use super::replay::Replay;
use super::routing_probe::RoutingProbe;
use crate::envelope::Obstacle;
use crate::host::Host;
use crate::stanza::Refusal;

#[derive(Debug)]
pub(super) struct OutboxState {
    pub(super) closed: bool,
    /// `None` while there is no stream.
    pub(super) barriers: Option<Barriers>,
    /// How many stanzas have left `entries` at the front since the stream began.
    pub(super) settled: u64,
    /// Oldest first: `written` ones, then those still to write.
    pub(super) entries: VecDeque<QueuedStanza>,
    /// How many of `entries` are on the present stream.
    pub(super) written: usize,
    /// How many of `entries` are written one at a time, because one of them
    /// is suspected to have ended a stream.
    pub(super) suspects: usize,
    pub(super) bytes: usize,
    pub(super) written_bytes: usize,
    pub(super) own: VecDeque<Bytes>,
    pub(super) own_bytes: usize,
    pub(super) rejected: Vec<Rejected>,
    pub(super) foreign: FromCheck,
    pub(super) replay: Replay,
    pub(super) probe: RoutingProbe,
}

impl OutboxState {
    pub(super) fn new(foreign: FromCheck, replay: Replay, probe: RoutingProbe) -> Self {
        Self {
            closed: false,
            barriers: None,
            settled: 0,
            entries: VecDeque::new(),
            written: 0,
            suspects: 0,
            bytes: 0,
            written_bytes: 0,
            own: VecDeque::new(),
            own_bytes: 0,
            rejected: Vec::new(),
            foreign,
            replay,
            probe,
        }
    }

    /// To be written ahead of what waits.
    pub(super) fn write_own(&mut self, wire: Bytes) {
        self.own_bytes += wire.len();
        self.own.push_back(wire);
    }

    /// The server checks senders: theirs must not be written.
    pub(super) fn reject_foreign(&mut self, refusal: &Refusal) {
        let (foreign, rest): (Vec<QueuedStanza>, Vec<QueuedStanza>) =
            self.entries.drain(..).partition(|entry| entry.foreign);
        self.entries = rest.into();
        self.bytes -= foreign.iter().map(QueuedStanza::weight).sum::<usize>();
        self.reject(foreign, refusal);
    }

    /// Puts what the server may have lost in front; returns how much that is.
    pub(super) fn replay(&mut self, ending: Ending, domain: &Host) -> usize {
        let silent = ending == Ending::FellSilent;
        if !silent && ending != Ending::Died {
            self.replay.stopped();
            return 0;
        }
        let again = self.replay.died(silent, domain, Instant::now());
        let count = again.len();
        for entry in again.into_iter().rev() {
            self.bytes += entry.weight();
            self.entries.push_front(entry);
        }
        // They come before what may be suspected.
        if self.suspects > 0 {
            self.suspects += count;
        }
        count
    }

    /// Of what is only written again, nobody is told: it was accepted once.
    pub(super) fn reject(&mut self, entries: Vec<QueuedStanza>, refusal: &Refusal) {
        let entries = entries.into_iter().filter(|entry| !entry.replayed);
        self.rejected.extend(entries.map(|entry| Rejected {
            envelope: entry.envelope,
            refusal: refusal.clone(),
        }));
    }

    pub(super) fn obstacle(&self, weight: usize, limit: usize) -> Option<Obstacle> {
        if self.closed {
            Some(Obstacle::Absent)
        // One that is larger than the whole queue still passes alone.
        } else if self.bytes + weight > limit && !self.entries.is_empty() {
            Some(Obstacle::Full)
        } else {
            None
        }
    }

    /// Takes the `count` oldest, written ones out.
    pub(super) fn settle(&mut self, count: usize) -> Vec<QueuedStanza> {
        let settled: Vec<QueuedStanza> = self.entries.drain(..count.min(self.written)).collect();
        self.written -= settled.len();
        self.settled += settled.len() as u64;
        self.suspects = self.suspects.saturating_sub(settled.len());
        self.bytes -= settled.iter().map(QueuedStanza::weight).sum::<usize>();
        self.written_bytes -= settled.iter().map(|entry| entry.wire.len()).sum::<usize>();
        settled
    }
}
