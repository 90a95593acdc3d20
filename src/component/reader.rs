//! Reads from the server: stanzas go to the workers, all other elements are handled here.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use minidom::Element;
use tokio::io::AsyncReadExt;
use tokio::net::tcp::OwnedReadHalf;
use tokio::task::yield_now;
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;

use super::Settings;
use super::barrier::SILENCE;
use super::failure::{Phase, StreamFailure, shown};
use super::outbox::Outbox;
use crate::envelope::{Arrival, Envelope, Intake};
use crate::metrics::Metrics;
use crate::stanza::{Cut, Fault, Limits, Refusal, Scanner, Stanza};

/// A server that sends stanzas but no answer to a ping is given up after this
/// time. The limit is longer than [`SILENCE`]: such a server is alive, and may
/// just be slow.
const UNANSWERED: Duration = Duration::from_secs(120);
/// Bytes of free buffer before each read.
const CHUNK: usize = 32 * 1024;

pub(super) struct Reader<'a> {
    pub settings: &'a Settings,
    pub metrics: &'a Metrics,
    pub outbox: &'a Outbox,
    pub intake: &'a dyn Intake,
}

impl Reader<'_> {
    /// Reads `early` and then from `read`, until the stream ends or `stop`. The
    /// reader never stops between cutting a stanza off the stream and handing
    /// that stanza over.
    pub async fn run(
        &self,
        mut read: OwnedReadHalf,
        early: Bytes,
        stop: &CancellationToken,
    ) -> Option<StreamFailure> {
        let mut scanner = Scanner::new(Limits {
            bytes: self.settings.config.stanza_size_limit,
            ..Limits::default()
        });
        scanner.buffer().extend_from_slice(&early);
        loop {
            if let Err(failure) = self.empty(&mut scanner).await {
                return Some(failure);
            }
            tokio::select! {
                biased;
                filled = self.fill(&mut read, scanner.buffer()) => {
                    if let Err(failure) = filled {
                        return Some(failure);
                    }
                }
                () = stop.cancelled() => return None,
            }
        }
    }

    /// Handles every complete element in `scanner`.
    async fn empty(&self, scanner: &mut Scanner) -> Result<(), StreamFailure> {
        while let Some(cut) = scanner.next()? {
            match cut {
                Cut::Stanza(stanza) => self.hand_over(stanza).await,
                Cut::Refused { head, fault } => self.refuse(head.as_ref(), &fault),
                Cut::Other(bytes) => self.other(&bytes)?,
                Cut::End => return Err(StreamFailure::Closed("end of the stream".to_owned())),
            }
        }
        Ok(())
    }

    async fn hand_over(&self, stanza: Stanza) {
        if self.outbox.take(&stanza) {
            return;
        }
        let envelope = Envelope::new(
            self.settings.local_host.clone(),
            Arrival::Component,
            self.settings.message_ttl,
            stanza,
        );
        if let Some(envelope) = self.intake.try_take(envelope) {
            self.intake.take(envelope).await;
        }
    }

    /// Sends an error reply to the sender. The counters count the stanza as
    /// taken, too, so that they balance: the relay never receives it.
    fn refuse(&self, head: Option<&Stanza>, fault: &Fault) {
        let reason = fault.reason();
        self.metrics.taken.with_label_values(&["component"]).inc();
        self.metrics
            .refused
            .with_label_values(&[reason.label()])
            .inc();
        if let Some(left_out) = self
            .outbox
            .log_limiter
            .allows(&format!("read {}", reason.label()))
        {
            tracing::warn!(
                from = shown(head.and_then(Stanza::from)),
                to = shown(head.and_then(Stanza::to)),
                "a stanza from the server was refused: {fault}{left_out}"
            );
        }
        let refusal = Refusal::new(reason, format!("Not delivered: {fault}."));
        if let Some(reply) = head.and_then(|head| head.error_reply(&refusal)) {
            self.outbox.offer_own(&reply);
        }
    }

    /// # Errors
    /// The element is a stream error, which ends the stream.
    fn other(&self, bytes: &[u8]) -> Result<(), StreamFailure> {
        let element = element(bytes);
        tracing::debug!(
            name = element.as_ref().map_or("?", Element::name),
            "an element that is no stanza came from the server"
        );
        element
            .and_then(|element| StreamFailure::from_element(element, Phase::Attached))
            .map_or(Ok(()), Err)
    }

    async fn fill(
        &self,
        read: &mut OwnedReadHalf,
        buffer: &mut BytesMut,
    ) -> Result<(), StreamFailure> {
        buffer.reserve(CHUNK);
        // The workers share this thread with a server that never pauses.
        yield_now().await;
        match read.try_read_buf(buffer) {
            Ok(0) => return Err(closed()),
            Ok(_) => return Ok(()),
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(StreamFailure::from_io(error)),
        }
        // All received bytes are processed: only now does a missing answer count.
        let waiting = Instant::now();
        if self
            .outbox
            .owed_since()
            .is_some_and(|asked| waiting.duration_since(asked) >= UNANSWERED)
        {
            return Err(StreamFailure::Unanswered(UNANSWERED));
        }
        loop {
            let asked = self.outbox.owed_since();
            let deadline = asked.map_or(waiting, |asked| asked.max(waiting)) + SILENCE;
            match timeout_at(deadline, read.read_buf(buffer)).await {
                Ok(Ok(0)) => return Err(closed()),
                Ok(Ok(_)) => return Ok(()),
                Ok(Err(error)) => return Err(StreamFailure::from_io(error)),
                Err(_) if asked.is_some() => return Err(StreamFailure::Silent(SILENCE)),
                // A stanza's barrier may have asked meanwhile; if not, ping now.
                // Then wait for that answer.
                Err(_) => self.outbox.want_ping(Instant::now()),
            }
        }
    }
}

fn closed() -> StreamFailure {
    StreamFailure::Vanished("end of the connection".to_owned())
}

fn element(bytes: &[u8]) -> Option<Element> {
    let text = std::str::from_utf8(bytes).ok()?;
    // The stream header declared these namespaces.
    let document = format!(
        "<stream:stream xmlns='{}' xmlns:stream='{}'>{text}</stream:stream>",
        xmpp_parsers::ns::COMPONENT,
        xmpp_parsers::ns::STREAM
    );
    let stream: Element = document.parse().ok()?;
    stream.children().next().cloned()
}
