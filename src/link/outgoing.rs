//! The task of one connection slot: dials, sends again, sends, reads acks, reconnects.

use std::sync::Arc;
use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBuilder};
use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::connect_error::{ConnectError, LinkEnd};
use super::dial::{Dialler, Link};
use super::frame::Frame;
use super::peer::{ConnectionSignals, Peer};
use super::pool::SlotId;
use super::reader::FrameReader;
use super::wire::{WireError, write};
use super::{LINGER, PING_AFTER, SILENCE_LIMIT};
use crate::config::Endpoint;
use crate::metrics::Metrics;

/// The task of one connection slot.
pub(super) struct OutgoingConnection {
    pub(super) id: SlotId,
    pub(super) endpoint: Endpoint,
    pub(super) peer: Arc<Peer>,
    pub(super) dialler: Arc<Dialler>,
    pub(super) signals: ConnectionSignals,
    pub(super) metrics: Arc<Metrics>,
}

impl OutgoingConnection {
    /// Keeps the slot connected until it is to leave.
    pub(super) async fn run(self) {
        let mut backoff = backoff();
        while !self.signals.leave.is_cancelled() {
            let dialled = tokio::select! {
                biased;
                () = self.signals.leave.cancelled() => return,
                dialled = self.dialler.dial(&self.peer.host, &self.endpoint, self.id) => dialled,
            };
            match dialled {
                Ok(link) => {
                    if let LinkEnd::Broken(text) = self.use_link(link).await {
                        self.count_error();
                        self.complain(&format!("link lost: {text}"));
                    }
                    backoff = self::backoff();
                }
                Err(failure) => self.failed(&failure),
            }
            let pause = backoff.next().unwrap_or(Duration::from_secs(1));
            tokio::select! {
                () = self.signals.leave.cancelled() => return,
                () = sleep(pause) => (),
            }
        }
    }

    /// Runs one link from the welcome to its end.
    async fn use_link(&self, link: Link) -> LinkEnd {
        let is_first = match self.peer.up(self.id, link.resume_after) {
            Ok(is_first) => is_first,
            Err(error) => return LinkEnd::Broken(error.to_string()),
        };
        let host = [self.peer.host.as_str()];
        self.metrics
            .outgoing_established
            .with_label_values(&host)
            .inc();
        let (peer, endpoint, slot) = (&self.peer.host, &self.endpoint, self.id);
        tracing::debug!(%peer, node = %link.node, %endpoint, slot, "link up");
        if is_first {
            tracing::info!(%peer, node = %link.node, %endpoint, "linked");
        }
        let ending = tokio::select! {
            ending = self.hear(link.reader) => ending,
            ending = self.speak(link.writer, link.frame_limit) => ending,
            () = self.overdue() => LinkEnd::WeLeft,
            ending = self.dialler.credentials.invalidated(peer, link.certificate.as_ref()) => ending,
        };
        let was_last = self.peer.down(self.id);
        self.metrics.outgoing_closed.with_label_values(&host).inc();
        tracing::debug!(%peer, %endpoint, slot, ?ending, "link down");
        if was_last {
            tracing::info!(%peer, ?ending, "no link left");
        }
        ending
    }

    /// Reads acks until the peer sends no more of them.
    async fn hear(&self, mut reader: FrameReader<impl AsyncRead + Unpin>) -> LinkEnd {
        loop {
            let frame = match timeout(SILENCE_LIMIT, reader.next()).await {
                Ok(Ok(raw)) => Frame::read(raw),
                Ok(Err(error)) => return LinkEnd::Broken(error.to_string()),
                Err(_) => return LinkEnd::Broken(format!("nothing heard for {SILENCE_LIMIT:?}")),
            };
            let heard = frame.and_then(|frame| match frame {
                Frame::Ack { through } => self.peer.acknowledge(self.id, through),
                Frame::Goodbye => {
                    if self.peer.leaving(self.id) {
                        tracing::info!(peer = %self.peer.host, "it is stopping; no link left");
                    }
                    Ok(())
                }
                Frame::Ping => Ok(()),
                Frame::Stanza(..) => Err(WireError::UnexpectedKind(frame.kind())),
            });
            if let Err(error) = heard {
                return LinkEnd::Broken(error.to_string());
            }
            if self.peer.has_left(self.id) {
                return LinkEnd::PeerLeft;
            }
        }
    }

    /// Writes stanzas as they are queued, pings when none are, and a goodbye when
    /// the slot is to leave.
    async fn speak(&self, mut writer: impl AsyncWrite + Unpin, frame_limit: usize) -> LinkEnd {
        let mut out = BytesMut::new();
        let mut ping_at = Instant::now() + PING_AFTER;
        loop {
            self.peer.fill(self.id, &mut out, frame_limit);
            let mut leave = false;
            if out.is_empty() {
                tokio::select! {
                    () = self.signals.wake.notified() => continue,
                    () = sleep_until(ping_at) => Frame::Ping.put(&mut out),
                    () = self.signals.leave.cancelled() => {
                        leave = true;
                        Frame::Goodbye.put(&mut out);
                    }
                }
            }
            if let Err(error) = write(&mut writer, &mut out).await {
                return LinkEnd::Broken(format!("can't write: {error}"));
            }
            ping_at = Instant::now() + PING_AFTER;
            if leave {
                // The goodbye is out; an error in closing changes nothing.
                let _ = writer.shutdown().await;
                return LinkEnd::WeLeft;
            }
        }
    }

    /// Completes when the time to send a goodbye has passed.
    async fn overdue(&self) {
        self.signals.leave.cancelled().await;
        sleep(LINGER).await;
    }

    fn failed(&self, failure: &ConnectError) {
        if let Some(label) = failure.label() {
            self.metrics.links_refused.with_label_values(&[label]).inc();
            self.count_error();
        }
        self.complain(&format!("no link: {failure}"));
    }

    fn count_error(&self) {
        let host = [self.peer.host.as_str()];
        self.metrics.outgoing_errored.with_label_values(&host).inc();
    }

    /// Logs `text`, at a higher level if it is new: the same error mostly occurs on many slots.
    fn complain(&self, text: &str) {
        let (peer, endpoint, slot) = (&self.peer.host, &self.endpoint, self.id);
        if let Some(left_out) = self.peer.note_trouble(slot, &self.endpoint, text) {
            tracing::warn!(%peer, %endpoint, slot, "{text}; trying again{left_out}");
        } else {
            tracing::debug!(%peer, %endpoint, slot, "{text}; trying again");
        }
    }
}

/// Pauses between two dials: 0.1 to 1 s, each up to doubled by jitter. A peer that
/// returns is linked within 2 s, and a hundred gateways don't dial it in the same
/// instant.
pub(super) fn backoff() -> impl Iterator<Item = Duration> {
    ExponentialBuilder::new()
        .with_min_delay(Duration::from_millis(100))
        .with_max_delay(Duration::from_secs(1))
        .without_max_times()
        .with_jitter()
        .build()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reconnects_within_two_seconds_forever() {
        let pauses: Vec<_> = backoff().take(1000).collect();
        assert_eq!(pauses.len(), 1000);
        assert!(pauses.iter().all(|pause| *pause <= Duration::from_secs(2)));
        assert!(pauses[0] < Duration::from_millis(201));
    }
}
