//! Both halves of a link, for tests: certificates, a receiver with an inbox, a
//! sender that records settled stanzas, a wire that can be cut.

use std::net::SocketAddr;
use std::ops::RangeBounds;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use parking_lot::Mutex;
use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, CertifiedIssuer, IsCa,
    KeyIdMethod, KeyPair, KeyUsagePurpose, RevokedCertParams, SerialNumber, date_time_ymd,
};
use tempfile::TempDir;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::super::{Credentials, Dialler, Identity, IncomingSlots, Links, Listener};
use crate::config::{AllowedPeers, Connections, Endpoint, Tls};
use crate::envelope::{Arrival, Envelope, Intake, Obstacle, Receipt, Settle, Undelivered};
use crate::host::Host;
use crate::metrics::Metrics;
use crate::stanza::{Limits, Stanza};

pub(super) const STANZA_SIZE_LIMIT: usize = 64 * 1024;

/// Waits until `fact` holds.
pub(super) async fn until(what: &str, fact: impl Fn() -> bool) {
    let wait = async {
        while !fact() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), wait)
        .await
        .unwrap_or_else(|_| panic!("waited in vain until {what}"));
}

pub(super) fn host(name: &str) -> Host {
    Host::new(name).unwrap()
}

/// A CA, and a folder for its files.
pub(super) struct Ca {
    issuer: CertifiedIssuer<'static, KeyPair>,
    pub(super) folder: TempDir,
}

impl Ca {
    pub(super) fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let folder = TempDir::new().unwrap();
        std::fs::write(folder.path().join("ca.pem"), issuer.pem()).unwrap();
        Self { issuer, folder }
    }

    /// Creates the files of a gateway whose certificate carries `name`.
    pub(super) fn tls(&self, name: &str) -> Tls {
        let params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        self.tls_with(name, params)
    }

    pub(super) fn tls_with(&self, file: &str, params: CertificateParams) -> Tls {
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        // Certificate and key in one file, as keyfile's default wants it.
        let path = self.folder.path().join(format!("{file}.pem"));
        std::fs::write(&path, certificate.pem() + &key.serialize_pem()).unwrap();
        Tls::Enabled {
            certfile: path.clone(),
            keyfile: path,
            cacertfile: self.folder.path().join("ca.pem"),
            crlfile: None,
            allow_wildcards: false,
            ciphers: Vec::new(),
        }
    }
}

impl Ca {
    /// Returns `tls` with a revocation list that has one serial number.
    pub(super) fn revoking(&self, mut tls: Tls, serial: u64) -> Tls {
        let (last, next) = (date_time_ymd(2020, 1, 1), date_time_ymd(2100, 1, 1));
        let list = CertificateRevocationListParams {
            this_update: last,
            next_update: next,
            crl_number: SerialNumber::from(1_u64),
            issuing_distribution_point: None,
            revoked_certs: vec![RevokedCertParams {
                serial_number: SerialNumber::from(serial),
                revocation_time: last,
                reason_code: None,
                invalidity_date: None,
            }],
            key_identifier_method: KeyIdMethod::Sha256,
        };
        let list = list.signed_by(&self.issuer).unwrap();
        let path = self.folder.path().join(format!("{serial}.crl.pem"));
        std::fs::write(&path, list.pem().unwrap()).unwrap();
        if let Tls::Enabled { crlfile, .. } = &mut tls {
            *crlfile = Some(path);
        }
        tls
    }
}

pub(super) fn connections(tls: Tls, max_wait: Duration, queue_bytes: usize) -> Connections {
    Connections {
        endpoints: Vec::new(),
        advertised_endpoints: None,
        connections_per_endpoint: 1,
        endpoint_refresh_interval: Duration::from_secs(60),
        endpoint_refresh_interval_when_empty: Duration::from_secs(3),
        disabled_gc_interval: Duration::from_millis(50),
        queue_bytes,
        max_wait,
        tls,
    }
}

pub(super) fn identity(name: &str) -> Identity {
    Identity {
        host: host(name),
        node: "a".to_owned(),
        epoch: uuid::Uuid::new_v4().as_u64_pair().0,
    }
}

pub(super) fn endpoint(address: SocketAddr) -> Endpoint {
    Endpoint {
        host: address.ip().to_string(),
        port: address.port(),
    }
}

/// Returns the number in a stanza's body.
pub(super) fn number(envelope: &Envelope) -> u64 {
    let payload = std::str::from_utf8(envelope.stanza.payload()).unwrap();
    let digits = payload.trim_matches(|c: char| !c.is_ascii_digit());
    digits.parse().unwrap()
}

/// The stanzas that have arrived.
pub(super) struct Inbox {
    /// Each stanza with the number in its body; the envelope until it is settled.
    arrived: Mutex<Vec<(u64, Option<Envelope>)>>,
    at_once: Mutex<bool>,
    open: watch::Sender<bool>,
}

impl Inbox {
    pub(super) fn len(&self) -> usize {
        self.arrived.lock().len()
    }

    pub(super) fn numbers(&self) -> Vec<u64> {
        let arrived = self.arrived.lock();
        arrived.iter().map(|(number, _)| *number).collect()
    }

    /// Settles every stanza on arrival, from now on.
    pub(super) fn settle_at_once(&self) {
        *self.at_once.lock() = true;
    }

    /// Settles the stanzas with numbers in `range`.
    pub(super) fn settle(&self, range: impl RangeBounds<u64>) {
        for (number, envelope) in self.arrived.lock().iter_mut() {
            if range.contains(number)
                && let Some(mut envelope) = envelope.take()
            {
                envelope.receipt.settle();
            }
        }
    }

    /// Forgets `number`, as a gateway with a defect might.
    pub(super) fn drop_unsettled(&self, number: u64) {
        let mut arrived = self.arrived.lock();
        arrived.retain(|(other, _)| *other != number);
    }

    /// Returns the last stanza.
    pub(super) fn pop(&self) -> Envelope {
        let last = self.arrived.lock().pop();
        last.and_then(|(_, envelope)| envelope).unwrap()
    }

    /// Takes no more stanzas.
    pub(super) fn block(&self) {
        self.open.send_replace(false);
    }
}

#[async_trait]
impl Intake for Inbox {
    async fn take(&self, mut envelope: Envelope) {
        let mut open = self.open.subscribe();
        open.wait_for(|open| *open).await.unwrap();
        let number = number(&envelope);
        let kept = if *self.at_once.lock() {
            envelope.receipt.settle();
            None
        } else {
            Some(envelope)
        };
        self.arrived.lock().push((number, kept));
    }
}

/// A running listener.
pub(super) struct Receiver {
    pub(super) inbox: Arc<Inbox>,
    pub(super) credentials: Arc<Credentials>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) shutdown: CancellationToken,
    address: SocketAddr,
    task: JoinHandle<()>,
}

impl Receiver {
    pub(super) async fn start(ca: &Ca, name: &str) -> Self {
        Self::start_with(ca.tls(name), name).await
    }

    pub(super) async fn start_plain(name: &str) -> Self {
        Self::start_with(Tls::Disabled, name).await
    }

    pub(super) async fn start_with(tls: Tls, name: &str) -> Self {
        let metrics = Arc::new(Metrics::new());
        let credentials = Credentials::load(&tls, AllowedPeers::default(), &host(name)).unwrap();
        let listener = Listener::bind(
            &endpoint(([127, 0, 0, 1], 0).into()),
            identity(name),
            Arc::clone(&credentials),
            STANZA_SIZE_LIMIT,
            Arc::clone(&metrics),
            Arc::new(IncomingSlots::default()),
            None,
        )
        .await
        .unwrap();
        let address = listener.local_addr();
        let inbox = Arc::new(Inbox {
            arrived: Mutex::default(),
            at_once: Mutex::default(),
            open: watch::Sender::new(true),
        });
        let shutdown = CancellationToken::new();
        let task = tokio::spawn(listener.run(Arc::clone(&inbox) as _, shutdown.clone()));
        Self {
            inbox,
            credentials,
            metrics,
            shutdown,
            address,
            task,
        }
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Cuts all connections, as a SIGKILL would.
    pub(super) async fn kill(self) {
        self.task.abort();
        self.task.await.unwrap_err();
    }

    /// Waits until the listener has stopped by itself.
    pub(super) async fn stopped(&self) {
        until("the listener has stopped", || self.task.is_finished()).await;
    }

    pub(super) fn refused(&self, reason: &str) -> u64 {
        self.metrics
            .links_refused
            .with_label_values(&[reason])
            .get()
    }
}

/// Pools that record settled stanzas.
pub(super) struct Sender {
    pub(super) links: Links,
    pub(super) credentials: Arc<Credentials>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) undelivered: mpsc::UnboundedReceiver<Undelivered>,
    settled: Arc<Settled>,
    origin: Host,
}

#[derive(Default)]
struct Settled(Mutex<Vec<u64>>);

impl Settle for Settled {
    fn settled(&self, sequence: u64) {
        self.0.lock().push(sequence);
    }
}

impl Sender {
    pub(super) fn start(ca: &Ca, name: &str, max_wait: Duration, queue_bytes: usize) -> Self {
        Self::start_with(ca.tls(name), name, max_wait, queue_bytes)
    }

    pub(super) fn start_plain(name: &str) -> Self {
        Self::start_with(Tls::Disabled, name, Duration::from_secs(60), 1 << 20)
    }

    pub(super) fn start_with(tls: Tls, name: &str, max_wait: Duration, queue_bytes: usize) -> Self {
        let metrics = Arc::new(Metrics::new());
        let (back, undelivered) = mpsc::unbounded_channel();
        let credentials = Credentials::load(&tls, AllowedPeers::default(), &host(name)).unwrap();
        let links = Links::new(
            Dialler::new(identity(name), Arc::clone(&credentials)),
            &connections(tls, max_wait, queue_bytes),
            // Smaller than any queue here.
            1024,
            Arc::clone(&metrics),
            back,
            TaskTracker::new(),
            CancellationToken::new(),
        );
        Self {
            links,
            credentials,
            metrics,
            undelivered,
            settled: Arc::default(),
            origin: host(name),
        }
    }

    pub(super) fn follow(&self, name: &str, addresses: &[SocketAddr]) {
        let endpoints: Vec<_> = addresses.iter().copied().map(endpoint).collect();
        self.links.set_endpoints(&host(name), &endpoints);
    }

    pub(super) async fn until_up(&self, name: &str) {
        let peer = host(name);
        until("the link is up", || self.links.is_up(&peer)).await;
    }

    pub(super) fn envelope(&self, number: u64) -> Envelope {
        let xml = format!(
            "<message from='alice@example.test/phone' to='bob@example.test'>\
             <body>{number}</body></message>"
        );
        let stanza = Stanza::parse(xml.into(), &Limits::default()).unwrap();
        let mut envelope = Envelope::new(self.origin.clone(), Arrival::Component, 4, stanza);
        envelope.receipt = Receipt::new(Arc::clone(&self.settled) as _, number);
        envelope
    }

    /// Sends a stanza with `number` in its body.
    pub(super) fn send(&self, name: &str, number: u64) -> Result<(), Obstacle> {
        self.forward(name, self.envelope(number))
    }

    pub(super) fn forward(&self, name: &str, envelope: Envelope) -> Result<(), Obstacle> {
        let forwarded = self.links.try_forward(&host(name), envelope);
        forwarded.map_err(|undelivered| undelivered.reason)
    }

    /// Returns the numbers of the stanzas that the peer has settled, in order.
    pub(super) fn settled(&self) -> Vec<u64> {
        self.settled.0.lock().clone()
    }

    pub(super) fn refused(&self, reason: &str) -> u64 {
        self.metrics
            .links_refused
            .with_label_values(&[reason])
            .get()
    }
}

/// A TCP relay between the sender and the receiver.
pub(super) struct Wire {
    address: SocketAddr,
    target: watch::Sender<SocketAddr>,
    /// Counts up to cut; the task ends when the counter is dropped.
    cuts: watch::Sender<u32>,
    connections: Arc<AtomicUsize>,
    task: JoinHandle<()>,
}

/// A wire to `target` that can be cut.
pub(super) async fn on_its_way(target: SocketAddr) -> Wire {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let target = watch::Sender::new(target);
    let cuts = watch::Sender::new(0);
    let connections = Arc::new(AtomicUsize::new(0));
    let task = tokio::spawn({
        let (target, cuts) = (target.subscribe(), cuts.subscribe());
        let connections = Arc::clone(&connections);
        async move {
            while let Ok((mut near, _)) = listener.accept().await {
                connections.fetch_add(1, Ordering::SeqCst);
                let target = *target.borrow();
                let mut cut = cuts.clone();
                cut.mark_unchanged();
                tokio::spawn(async move {
                    let Ok(mut far) = TcpStream::connect(target).await else {
                        return;
                    };
                    tokio::select! {
                        _ = tokio::io::copy_bidirectional(&mut near, &mut far) => (),
                        _ = cut.changed() => (),
                    }
                });
            }
        }
    });
    Wire {
        address,
        target,
        cuts,
        connections,
        task,
    }
}

impl Wire {
    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(super) fn lead_to(&self, target: SocketAddr) {
        self.target.send_replace(target);
    }

    /// Cuts the present connections.
    pub(super) fn cut(&self) {
        self.cuts.send_modify(|cuts| *cuts += 1);
    }

    /// Cuts, and lets no more connections through.
    pub(super) fn close(&self) {
        self.task.abort();
        self.cut();
    }

    pub(super) fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }
}
