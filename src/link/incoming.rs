//! The receiver of stanzas: accepts connections, secures them, answers the hello, acknowledges.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bytes::{Bytes, BytesMut};
use prometheus::{Histogram, IntCounter};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::{sleep, sleep_until, timeout, timeout_at};
use tokio_util::sync::CancellationToken;

use super::connect_error::{ConnectError, LinkEnd};
use super::frame::{ALLOWANCE, Frame, Header};
use super::handshake::{AcceptedLink, Handshake, LinkRole};
use super::incoming_slots::{ConnectionLease, IncomingSlots};
use super::reader::FrameReader;
use super::tls::{Credentials, SecuredConnection};
use super::unauthenticated::UnauthenticatedGuard;
use super::wire::{WireError, write};
use super::{HANDSHAKE_LIMIT, Identity, PING_AFTER, SILENCE_LIMIT, SetupError, replication_link};
use crate::config::Endpoint;
use crate::envelope::{Arrival, Envelope, EnvelopeId, Intake};
use crate::host::Host;
use crate::log_limiter::LogLimiter;
use crate::metrics::Metrics;
use crate::replication::Replication;
use crate::stanza::{Limits, Reason, Stanza};

/// Time from accept to the peer's first byte.
const FIRST_BYTE_LIMIT: Duration = Duration::from_secs(2);

/// Acks are cumulative: waiting this long between two saves many.
const ACK_SPACING: Duration = Duration::from_millis(1);

/// After a failed `accept`, mostly for want of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// The counters' host label for a peer that has not sent its host name yet.
const UNKNOWN: &str = "unknown";

/// Accepts links on one of `connections.endpoints`.
pub struct Listener {
    tcp: TcpListener,
    local_addr: SocketAddr,
    reception: Arc<Reception>,
}

/// State that the connections of a listener share.
pub(super) struct Reception {
    handshake: Handshake,
    metrics: Arc<Metrics>,
    log_limiter: LogLimiter,
}

impl Listener {
    /// Listens on `endpoint`. All listeners of a node share `slots`. Peers that
    /// replicate the session table use `replication`; without one, the listener
    /// refuses them, because the table is kept elsewhere.
    ///
    /// # Errors
    /// When the address can't be bound.
    pub async fn bind(
        endpoint: &Endpoint,
        identity: Identity,
        credentials: Arc<Credentials>,
        stanza_size_limit: usize,
        metrics: Arc<Metrics>,
        slots: Arc<IncomingSlots>,
        replication: Option<Arc<dyn Replication>>,
    ) -> Result<Self, SetupError> {
        let unusable = |error| {
            SetupError(format!(
                "can't listen on {endpoint} (connections.endpoints): {error}"
            ))
        };
        let tcp = TcpListener::bind((endpoint.host.as_str(), endpoint.port));
        let tcp = tcp.await.map_err(unusable)?;
        let local_addr = tcp.local_addr().map_err(unusable)?;
        Ok(Self {
            tcp,
            local_addr,
            reception: Arc::new(Reception {
                handshake: Handshake {
                    identity,
                    credentials,
                    frame_limit: stanza_size_limit.saturating_add(ALLOWANCE),
                    slots,
                    replication,
                },
                metrics,
                log_limiter: LogLimiter::default(),
            }),
        })
    }

    /// The bound address.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }

    /// Accepts links and hands their stanzas to `intake`, until `shutdown`. Then
    /// asks the peers to send nothing new, acknowledges the stanzas that are still
    /// being settled, and returns when the peers have closed; the caller bounds the
    /// time. Dropping the future cuts all links.
    pub async fn run(self, intake: Arc<dyn Intake>, shutdown: CancellationToken) {
        let Self { tcp, reception, .. } = self;
        let mut links = JoinSet::new();
        loop {
            let accepted = tokio::select! {
                () = shutdown.cancelled() => break,
                Some(_) = links.join_next() => continue,
                accepted = tcp.accept() => accepted,
            };
            match accepted {
                Ok((stream, address)) => {
                    let (reception, intake) = (Arc::clone(&reception), Arc::clone(&intake));
                    let shutdown = shutdown.clone();
                    links.spawn(async move {
                        reception.serve(stream, address, &*intake, &shutdown).await;
                    });
                }
                Err(error) => {
                    tracing::warn!(address = ?tcp.local_addr(), "can't accept a link: {error}");
                    sleep(ACCEPT_PAUSE).await;
                }
            }
        }
        drop(tcp);
        while links.join_next().await.is_some() {}
    }
}

impl Reception {
    /// Serves one connection, from accept to close.
    async fn serve(
        &self,
        tcp: TcpStream,
        address: SocketAddr,
        intake: &dyn Intake,
        shutdown: &CancellationToken,
    ) {
        let deadline = tokio::time::Instant::now() + HANDSHAKE_LIMIT;
        let guard = self.handshake.slots.unauthenticated().enter(address.ip());
        let secured = timeout_at(deadline, self.secure(tcp, &guard));
        let secured = tokio::select! {
            secured = secured => secured.unwrap_or_else(|_| Err(ConnectError::late())),
            () = guard.evicted() => Err(ConnectError::evicted()),
        };
        let accepted = match secured {
            Ok(accepted) => accepted,
            Err(failure) => return self.turn_away(address, &failure),
        };
        // Without TLS, the hello is all that tells peers from others.
        let guard = accepted.certificate.is_none().then_some(guard);
        self.metrics.incoming_established.inc();
        let greeted = timeout_at(deadline, self.handshake.greet(accepted)).await;
        drop(guard);
        let closed = &self.metrics.incoming_closed;
        match greeted.unwrap_or_else(|_| Err(ConnectError::late())) {
            Ok(link) => {
                let host = link.host.clone();
                self.attend(link, address, intake, shutdown).await;
                closed.with_label_values(&[host.as_str()]).inc();
            }
            Err(failure) => {
                closed.with_label_values(&[UNKNOWN]).inc();
                self.turn_away(address, &failure);
            }
        }
    }

    /// Waits for the first byte, then secures the connection.
    async fn secure(
        &self,
        tcp: TcpStream,
        guard: &UnauthenticatedGuard,
    ) -> Result<SecuredConnection, ConnectError> {
        let broken = |error| ConnectError::Unreachable(format!("the connection broke: {error}"));
        tcp.set_nodelay(true).map_err(broken)?;
        let first = timeout(FIRST_BYTE_LIMIT, tcp.peek(&mut [0])).await;
        match first.map_err(|_| ConnectError::silent(FIRST_BYTE_LIMIT))? {
            Ok(1..) => guard.has_spoken(),
            Ok(0) => {
                return Err(ConnectError::Unreachable(
                    "it closed without a word".to_owned(),
                ));
            }
            Err(error) => return Err(broken(error)),
        }
        self.handshake.secure(tcp).await
    }

    /// Logs and counts a connection that carried no stanza.
    fn turn_away(&self, address: SocketAddr, failure: &ConnectError) {
        let Some(reason) = failure.label() else {
            tracing::debug!(%address, "a connection ended before it was a link: {failure}");
            return;
        };
        self.metrics
            .links_refused
            .with_label_values(&[reason])
            .inc();
        let errored = &self.metrics.incoming_errored;
        errored.with_label_values(&[UNKNOWN]).inc();
        let kind = format!("{} {failure}", address.ip());
        if let Some(left_out) = self.log_limiter.allows(&kind) {
            tracing::warn!(%address, reason, "an incoming link is refused: {failure}{left_out}");
        } else {
            tracing::debug!(%address, reason, "an incoming link is refused: {failure}");
        }
    }

    /// Takes stanzas and acknowledges them, until one side leaves.
    async fn attend(
        &self,
        link: AcceptedLink,
        address: SocketAddr,
        intake: &dyn Intake,
        shutdown: &CancellationToken,
    ) {
        let AcceptedLink {
            host,
            node,
            slot,
            reader,
            writer,
            role,
            certificate,
        } = link;
        let label = [host.as_str()];
        self.metrics
            .incoming_first_packet
            .with_label_values(&label)
            .inc();
        let what = match role {
            LinkRole::Stanzas(_) => "incoming link",
            LinkRole::Table(_) => "incoming table link",
        };
        tracing::debug!(peer = %host, %node, slot, %address, "{what} up");
        let invalidated = self
            .handshake
            .credentials
            .invalidated(&host, certificate.as_ref());
        let never = CancellationToken::new();
        let ending = match role {
            LinkRole::Stanzas(lease) => {
                let closed = CancellationToken::new();
                let taking = self.take_stanzas(host.clone(), reader, &lease, intake, &closed);
                tokio::pin!(taking);
                let over = async {
                    let ending = tokio::select! {
                        ending = acknowledge(writer, &lease, shutdown) => ending,
                        ending = invalidated => ending,
                    };
                    // A stanza that is being handed over has its place in the worker's queue:
                    // dropped, it would come again behind later ones.
                    closed.cancel();
                    ending
                };
                tokio::select! {
                    ending = &mut taking => ending,
                    ending = over => {
                        taking.await;
                        ending
                    }
                }
            }
            // The session ends when the store reports that this node retires.
            LinkRole::Table(dialogue) => tokio::select! {
                ending = replication_link::converse(dialogue, reader, writer, &never) => ending,
                ending = invalidated => ending,
            },
        };
        match &ending {
            // The peer was asked to leave, so it need not send a goodbye.
            LinkEnd::Broken(text) if !shutdown.is_cancelled() => {
                self.metrics
                    .incoming_errored
                    .with_label_values(&label)
                    .inc();
                // The same error mostly ends all connections of a node.
                let kind = format!("{host} {node} {what} {text}");
                if let Some(left_out) = self.log_limiter.allows(&kind) {
                    tracing::warn!(
                        peer = %host, %node, slot, %address, "{what} lost: {text}{left_out}"
                    );
                } else {
                    tracing::debug!(peer = %host, %node, slot, %address, "{what} lost: {text}");
                }
            }
            _ => {
                tracing::debug!(peer = %host, %node, slot, %address, ?ending, "{what} down");
            }
        }
    }

    async fn take_stanzas(
        &self,
        peer: Host,
        mut reader: FrameReader<impl AsyncRead + Unpin>,
        lease: &ConnectionLease,
        intake: &dyn Intake,
        closed: &CancellationToken,
    ) -> LinkEnd {
        let unpacker = Unpacker::new(peer, lease, self);
        let mut read_at = ReadTime::now();
        while !closed.is_cancelled() {
            let frame = match reader.buffered() {
                Ok(Some(raw)) => Frame::read(raw),
                Ok(None) => {
                    // A shutdown does not interrupt the hand-over of a stanza.
                    let read = tokio::select! {
                        () = lease.replaced() => return LinkEnd::Replaced,
                        () = closed.cancelled() => break,
                        read = timeout(SILENCE_LIMIT, reader.read()) => read,
                    };
                    read_at = match read {
                        Ok(Ok(())) => ReadTime::now(),
                        Ok(Err(error)) => return LinkEnd::Broken(error.to_string()),
                        Err(_) => {
                            return LinkEnd::Broken(format!("nothing heard for {SILENCE_LIMIT:?}"));
                        }
                    };
                    continue;
                }
                Err(error) => Err(error),
            };
            match frame {
                Ok(Frame::Stanza(header, body)) => {
                    if let Some(envelope) = unpacker.unpack(header, body, read_at)
                        && let Some(envelope) = intake.try_take(envelope)
                    {
                        // The workers are behind: backpressure on this peer only.
                        intake.take(envelope).await;
                    }
                }
                Ok(Frame::Ping) => (),
                Ok(Frame::Goodbye) => return LinkEnd::PeerLeft,
                Ok(other @ Frame::Ack { .. }) => {
                    return LinkEnd::Broken(WireError::UnexpectedKind(other.kind()).to_string());
                }
                Err(error) => return LinkEnd::Broken(error.to_string()),
            }
        }
        LinkEnd::Replaced
    }
}

/// The time at which bytes were read: one reading of the clocks for all frames in them.
#[derive(Clone, Copy)]
struct ReadTime {
    instant: Instant,
    wall: SystemTime,
}

impl ReadTime {
    fn now() -> Self {
        Self {
            instant: Instant::now(),
            wall: SystemTime::now(),
        }
    }
}

/// Turns the frames of one connection into envelopes.
struct Unpacker<'a> {
    peer: Host,
    local: &'a Host,
    limits: Limits,
    lease: &'a ConnectionLease,
    metrics: &'a Metrics,
    received: IntCounter,
    transfer_time: Histogram,
}

impl<'a> Unpacker<'a> {
    fn new(peer: Host, lease: &'a ConnectionLease, reception: &'a Reception) -> Self {
        let (label, metrics) = ([peer.as_str()], &*reception.metrics);
        Self {
            received: metrics.incoming_messages.with_label_values(&label),
            transfer_time: metrics.incoming_transfer_time.with_label_values(&label),
            limits: Limits {
                bytes: reception.handshake.frame_limit,
                ..Limits::default()
            },
            local: &reception.handshake.identity.host,
            peer,
            lease,
            metrics,
        }
    }

    /// Returns the envelope in a stanza frame; `None` for a duplicate, or for a
    /// stanza that must not be taken.
    fn unpack(&self, header: Header<String>, body: Bytes, read_at: ReadTime) -> Option<Envelope> {
        let peer = &self.peer;
        let read = self.read(&header, body);
        // A refused frame marks none of its former places.
        let former = read.as_ref().map_or(&[][..], |_| &header.former);
        let Some(mut receipt) = self.lease.take(header.number, former) else {
            let duplicates = &self.metrics.link_duplicates;
            duplicates.with_label_values(&[peer.as_str()]).inc();
            return None;
        };
        let sent_at = UNIX_EPOCH
            .checked_add(Duration::from_micros(header.sent_at))
            .unwrap_or(UNIX_EPOCH);
        // Clocks differ: a stanza may seem to arrive before it was sent.
        let transfer = read_at.wall.duration_since(sent_at).unwrap_or_default();
        self.received.inc();
        self.transfer_time.observe(transfer.as_secs_f64() * 1e6);
        match read {
            Ok((origin, retries, stanza)) => Some(Envelope {
                id: EnvelopeId(header.id),
                origin,
                arrival: Arrival::Link(peer.clone()),
                ttl: header.ttl,
                retries,
                copy_for: header.is_copy.then(|| self.local.clone()),
                taken_at: read_at.instant,
                sent_at,
                stanza,
                former: Vec::new(),
                receipt,
            }),
            Err((reason, text)) => {
                // Settled, or the peer would send the stanza again and again.
                receipt.settle();
                self.metrics.taken.with_label_values(&["link"]).inc();
                let refused = &self.metrics.refused;
                refused.with_label_values(&[reason.label()]).inc();
                tracing::warn!(
                    %peer, id = %EnvelopeId(header.id), origin = %header.origin.escape_debug(),
                    "a stanza is refused: {text}"
                );
                None
            }
        }
    }

    /// Parses a stanza frame; the only place where bytes from a link become a stanza.
    fn read(&self, header: &Header<String>, body: Bytes) -> Result<Parts, (Reason, String)> {
        let retries = header.retries.iter();
        let retries = retries.map(|(name, times)| Ok((self.host(name)?, *times)));
        Ok((
            self.host(&header.origin)?,
            retries.collect::<Result<_, _>>()?,
            Stanza::parse(body, &self.limits)
                .map_err(|fault| (fault.reason(), fault.to_string()))?,
        ))
    }

    /// Returns the host of that name, which mostly is the peer itself.
    fn host(&self, name: &str) -> Result<Host, (Reason, String)> {
        if self.peer == *name {
            return Ok(self.peer.clone());
        }
        Host::new(name).map_err(|error| (Reason::Malformed, error.to_string()))
    }
}

#[cfg(test)]
impl Reception {
    /// Creates the state of a listener that does not listen.
    pub(super) fn for_tests(name: &str, metrics: &Arc<Metrics>) -> Self {
        use crate::config::{AllowedPeers, Tls};

        let host = Host::new(name).unwrap();
        Self {
            handshake: Handshake {
                credentials: Credentials::load(&Tls::Disabled, AllowedPeers::default(), &host)
                    .unwrap(),
                identity: Identity {
                    host,
                    node: "a".to_owned(),
                    epoch: 1,
                },
                frame_limit: ALLOWANCE,
                slots: Arc::default(),
                replication: None,
            },
            metrics: Arc::clone(metrics),
            log_limiter: LogLimiter::default(),
        }
    }

    /// Takes one frame as a connection does.
    pub(super) fn unpack(
        &self,
        peer: &Host,
        header: Header<String>,
        body: Bytes,
        lease: &ConnectionLease,
    ) -> Option<Envelope> {
        Unpacker::new(peer.clone(), lease, self).unpack(header, body, ReadTime::now())
    }
}

/// Origin, retries, stanza.
type Parts = (Host, Vec<(Host, u32)>, Stanza);

/// Writes acks as stanzas are settled, pings when none are, and goodbye at `shutdown`.
async fn acknowledge(
    mut writer: impl AsyncWrite + Unpin,
    lease: &ConnectionLease,
    shutdown: &CancellationToken,
) -> LinkEnd {
    let mut out = BytesMut::new();
    let mut acknowledged = 0;
    let mut said_goodbye = false;
    let mut ping_at = tokio::time::Instant::now() + PING_AFTER;
    loop {
        if lease.has_abandoned() {
            return LinkEnd::Broken(
                "a stanza of it was dropped here; a new connection makes it send that again"
                    .to_owned(),
            );
        }
        let through = lease.settled_through();
        if through > acknowledged {
            acknowledged = through;
            Frame::Ack { through }.put(&mut out);
        } else {
            tokio::select! {
                () = lease.changed() => continue,
                () = shutdown.cancelled(), if !said_goodbye => {
                    said_goodbye = true;
                    Frame::Goodbye.put(&mut out);
                }
                () = sleep_until(ping_at) => Frame::Ping.put(&mut out),
            }
        }
        if let Err(error) = write(&mut writer, &mut out).await {
            return LinkEnd::Broken(format!("can't write: {error}"));
        }
        ping_at = tokio::time::Instant::now() + PING_AFTER;
        sleep(ACK_SPACING).await;
    }
}

#[cfg(test)]
mod tests {
    use parking_lot::Mutex;
    use tokio::sync::Semaphore;

    use super::super::incoming_slots::SlotKey;
    use super::super::tls::Socket;
    use super::*;

    /// Takes a stanza when it has a permit.
    struct Slow(Semaphore, Mutex<Vec<Envelope>>);

    #[async_trait::async_trait]
    impl Intake for Slow {
        async fn take(&self, envelope: Envelope) {
            self.0.acquire().await.unwrap().forget();
            self.1.lock().push(envelope);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_broken_connection_does_not_interrupt_the_hand_over_of_a_stanza() {
        let reception = Reception::for_tests("dc2.test", &Arc::new(Metrics::new()));
        let key = SlotKey {
            host: Host::new("dc1.test").unwrap(),
            node: "a".to_owned(),
            epoch: 1,
            slot: 1,
        };
        let slots = IncomingSlots::default();
        let lease = slots.lease(key.clone()).await.unwrap();
        let (near, far) = tokio::io::duplex(4096);
        let (read, writer) = tokio::io::split(Box::new(far) as Socket);
        let link = AcceptedLink {
            host: key.host.clone(),
            node: key.node.clone(),
            slot: key.slot,
            reader: FrameReader::new(read, 4096),
            writer,
            role: LinkRole::Stanzas(lease),
            certificate: None,
        };
        let intake = Slow(Semaphore::new(0), Mutex::default());
        let address = ([127, 0, 0, 1], 1).into();
        let shutdown = CancellationToken::new();
        let attending = reception.attend(link, address, &intake, &shutdown);
        tokio::pin!(attending);
        let header = Header {
            number: 1,
            id: 1,
            ttl: 4,
            sent_at: 0,
            origin: "dc1.test".to_owned(),
            retries: Vec::new(),
            is_copy: false,
            former: Vec::new(),
        };
        let mut near = near;
        let mut out = BytesMut::new();
        let stanza = Bytes::from_static(b"<message from='a@example.test' to='b@example.test'/>");
        Frame::Stanza(header, stanza).put(&mut out);
        write(&mut near, &mut out).await.unwrap();
        // The stanza is read; then the connection breaks, and the next ping notices.
        assert!(
            timeout(Duration::from_secs(1), &mut attending)
                .await
                .is_err()
        );
        drop(near);
        let still = timeout(2 * PING_AFTER, &mut attending).await;
        assert!(still.is_err(), "the stanza is being handed over");
        intake.0.add_permits(1);
        attending.await;
        assert_eq!(intake.1.lock().len(), 1);
        let lease = slots.lease(key).await.unwrap();
        assert_eq!(lease.resume_after, 1, "it need not come again");
    }

    #[tokio::test(start_paused = true)]
    async fn pings_also_while_what_is_settled_may_not_be_acknowledged_yet() {
        let slots = IncomingSlots::default();
        let key = SlotKey {
            host: Host::new("dc1.test").unwrap(),
            node: "a".to_owned(),
            epoch: 1,
            slot: 1,
        };
        let lease = slots.lease(key).await.unwrap();
        let _unsettled = lease.take(1, &[]);
        let (near, far) = tokio::io::duplex(4096);
        let shutdown = CancellationToken::new();
        let mut reader = FrameReader::new(far, 64);
        let settling = async {
            for number in 2.. {
                if let Some(mut receipt) = lease.take(number, &[]) {
                    receipt.settle();
                }
                sleep(Duration::from_secs(1)).await;
            }
        };
        let frame = tokio::select! {
            frame = timeout(SILENCE_LIMIT, reader.next()) => frame.unwrap().unwrap(),
            _ = acknowledge(near, &lease, &shutdown) => panic!("ended"),
            () = settling => panic!("ended"),
        };
        assert_eq!(Frame::read(frame), Ok(Frame::Ping));
    }
}
