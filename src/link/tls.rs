//! Mutual TLS: each side checks the other's certificate against `cacertfile`, and
//! each certificate must carry its side's `local_host`.

use std::fmt;
use std::io;
use std::net::Ipv4Addr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::sleep;
use tokio_rustls::rustls::client::Resumption;
use tokio_rustls::rustls::client::danger::ServerCertVerifier;
use tokio_rustls::rustls::client::{VerifierBuilderError, WebPkiServerVerifier};
use tokio_rustls::rustls::crypto::CryptoProvider;
use tokio_rustls::rustls::crypto::ring::{self, cipher_suite as suite};
use tokio_rustls::rustls::pki_types::pem::{self, PemObject};
use tokio_rustls::rustls::pki_types::{
    CertificateDer, CertificateRevocationListDer, PrivateKeyDer, ServerName, UnixTime,
};
use tokio_rustls::rustls::server::danger::ClientCertVerifier;
use tokio_rustls::rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use tokio_rustls::rustls::{
    self, AlertDescription, CertificateError, ClientConfig, InconsistentKeys, RootCertStore,
    ServerConfig,
};
use tokio_rustls::{TlsAcceptor, TlsConnector};

use super::SetupError;
use super::any_name::AnyName;
use super::certificate;
use super::connect_error::{ConnectError, LinkEnd, RefusalKind};
use crate::config::{AllowedPeers, Tls};
use crate::host::Host;

/// A connection, secured or not.
pub(super) type Socket = Box<dyn ByteStream>;

/// The traits that a link needs of its connection.
pub(super) trait ByteStream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> ByteStream for T {}

/// The certificates of the links, and the hosts that may link: loaded once, shared by
/// listeners and dialers, and replaced by a reload.
#[derive(Debug)]
pub struct Credentials {
    local: Host,
    security: watch::Sender<Security>,
    allowed: watch::Sender<AllowedPeers>,
}

impl Credentials {
    /// Reads the files and checks that the peers of `local` will accept them.
    ///
    /// # Errors
    /// Names the wrong file, and the error in it.
    pub fn load(
        config: &Tls,
        allowed: AllowedPeers,
        local: &Host,
    ) -> Result<Arc<Self>, SetupError> {
        let security = Security::load(config, local)?;
        Ok(Arc::new(Self {
            local: local.clone(),
            security: watch::Sender::new(security),
            allowed: watch::Sender::new(allowed),
        }))
    }

    /// Reads the files again. Links whose peer no longer has a valid certificate, or may
    /// no longer link, are closed; the others stay.
    ///
    /// # Errors
    /// Names the wrong file, and the error in it; the former files stay in use.
    pub fn reload(&self, config: &Tls, allowed: AllowedPeers) -> Result<(), SetupError> {
        let security = Security::load(config, &self.local)?;
        if security.is_mutual() != self.current().is_mutual() {
            let text = "connections.tls.enabled needs a restart to take effect";
            return Err(SetupError(text.to_owned()));
        }
        self.security.send_replace(security);
        self.allowed.send_replace(allowed);
        Ok(())
    }

    /// When the own certificate and the CA's expire, in Unix seconds; `None` without TLS.
    #[must_use]
    pub fn expiry(&self) -> Option<Expiry> {
        match &*self.security.borrow() {
            Security::Mutual(mutual) => Some(mutual.expiry),
            Security::Plain => None,
        }
    }

    pub(super) fn current(&self) -> Security {
        self.security.borrow().clone()
    }

    /// Subscribes to the hosts that may link (`[[peers]]`).
    #[must_use]
    pub fn allowed(&self) -> watch::Receiver<AllowedPeers> {
        self.allowed.subscribe()
    }

    /// Checks that `peer`, which calls itself so, may link: `[[peers]]` allows it, and
    /// the certificate that it has shown carries its name.
    ///
    /// # Errors
    /// Says what to change, for both sides.
    pub(super) fn admit(
        &self,
        peer: &Host,
        shown: Option<&PeerCertificate>,
    ) -> Result<(), ConnectError> {
        if !self.allowed.borrow().admits(peer) {
            let text = format!(
                "{peer} is not listed in [[peers]] of {}; add it there, then `strait reload`",
                self.local
            );
            return Err(ConnectError::refused(RefusalKind::WrongHost, text));
        }
        shown
            .map_or(Ok(()), |shown| shown.speaks_for(peer))
            .map_err(|text| {
                let text = format!("it calls itself {peer}, but {text}");
                ConnectError::refused(RefusalKind::WrongHost, text)
            })
    }

    /// Completes when `peer` may no longer link: its certificate has expired, or a
    /// reload has revoked it, removed its CA, or changed `[[peers]]`.
    pub(super) async fn invalidated(
        &self,
        peer: &Host,
        shown: Option<&PeerCertificate>,
    ) -> LinkEnd {
        let (mut security, mut allowed) = (self.security.subscribe(), self.allowed());
        loop {
            let now = security.borrow_and_update().clone();
            allowed.mark_unchanged();
            if let Err(text) = shown.map_or(Ok(()), |shown| now.verify(shown)) {
                return LinkEnd::Broken(format!("its certificate {text}"));
            }
            if let Err(error) = self.admit(peer, shown) {
                return LinkEnd::Broken(error.to_string());
            }
            let recheck_after = shown.map_or(RECHECK, PeerCertificate::recheck_after);
            // Neither can fail: `self` has the senders.
            tokio::select! {
                _ = security.changed() => {}
                _ = allowed.changed() => {}
                () = sleep(recheck_after) => {}
            }
        }
    }
}

/// Unix seconds after which certificates are not valid.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Expiry {
    /// This gateway's own certificate.
    pub own: i64,
    /// The first of the CA certificates to expire.
    pub authority: i64,
}

impl Expiry {
    /// Returns whether the own certificate is valid.
    ///
    /// # Errors
    /// Says what has expired, and what to do.
    pub fn check(&self) -> Result<(), String> {
        let now = now();
        for (file, not_after) in [("certfile", self.own), ("cacertfile", self.authority)] {
            if not_after < now {
                let age = certificate::spell((now - not_after).unsigned_abs());
                return Err(format!(
                    "the certificate in connections.tls.{file} expired {age} ago; replace the \
                     file, then run `strait reload`"
                ));
            }
        }
        Ok(())
    }
}

fn now() -> i64 {
    i64::try_from(UnixTime::now().as_secs()).unwrap_or(i64::MAX)
}

/// The way connections are secured.
#[derive(Clone)]
pub(super) enum Security {
    /// Both sides show a certificate.
    Mutual(Arc<Mutual>),
    /// Plain TCP, because the operator declares the network secure.
    Plain,
}

pub(super) struct Mutual {
    client: Arc<ClientConfig>,
    /// For a peer whose name is unknown before the greeting.
    client_unnamed: Arc<ClientConfig>,
    server: Arc<ServerConfig>,
    verifiers: Verifiers,
    expiry: Expiry,
    allow_wildcards: bool,
}

/// A connection whose other side is known by its certificate only.
pub(super) struct SecuredConnection {
    pub(super) socket: Socket,
    /// The other side's; always present with [`Security::Mutual`].
    pub(super) certificate: Option<PeerCertificate>,
}

/// The certificate that the other side has shown, with its chain.
#[derive(Debug)]
pub(super) struct PeerCertificate {
    leaf: CertificateDer<'static>,
    intermediates: Vec<CertificateDer<'static>>,
    side: Side,
    allow_wildcards: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Side {
    Dialler,
    Listener,
}

/// The longest time between two checks of a standing link's certificate; the clock
/// may be set while a gateway runs.
const RECHECK: Duration = Duration::from_secs(3600);

impl PeerCertificate {
    fn shown(session: &rustls::CommonState, side: Side, ours: &Mutual) -> Option<Self> {
        let chain = session.peer_certificates().unwrap_or_default();
        let (leaf, intermediates) = chain.split_first()?;
        Some(Self {
            leaf: leaf.clone().into_owned(),
            intermediates: intermediates
                .iter()
                .cloned()
                .map(CertificateDer::into_owned)
                .collect(),
            side,
            allow_wildcards: ours.allow_wildcards,
        })
    }

    /// Checks that the certificate carries `host` as a DNS name.
    ///
    /// # Errors
    /// Names the hosts that the certificate carries instead.
    fn speaks_for(&self, host: &Host) -> Result<(), String> {
        certificate::speaks_for(&self.leaf, host, self.allow_wildcards)
    }

    fn recheck_after(&self) -> Duration {
        let left = certificate::not_after(&self.leaf)
            .unwrap_or(i64::MAX)
            .saturating_sub(now());
        let left = Duration::from_secs(u64::try_from(left).unwrap_or(0).saturating_add(1));
        left.min(RECHECK)
    }
}

impl Security {
    /// Reads the files and checks that `local`'s peers will accept them.
    ///
    /// # Errors
    /// Names the wrong file, and the error in it.
    pub(super) fn load(config: &Tls, local: &Host) -> Result<Self, SetupError> {
        let Tls::Enabled {
            certfile,
            keyfile,
            cacertfile,
            crlfile,
            allow_wildcards,
            ciphers,
        } = config
        else {
            return Ok(Self::Plain);
        };
        let provider = Arc::new(provider(ciphers)?);
        let authorities = certificates("cacertfile", cacertfile)?;
        let roots = Arc::new(roots(&authorities, cacertfile)?);
        let revoked = crlfile.as_deref();
        let revoked = revoked.map(|path| pem_items("crlfile", path, "revocation list"));
        let revoked = revoked.transpose()?.unwrap_or_default();
        let chain = certificates("certfile", certfile)?;
        let key = private_key(keyfile)?;
        let verifiers = Verifiers::new(&provider, &roots, revoked, config)?;
        verifiers.check_own(&chain, certfile, local, *allow_wildcards)?;
        let expiry = Expiry {
            own: chain
                .iter()
                .filter_map(certificate::not_after)
                .min()
                .unwrap_or(i64::MAX),
            authority: authorities
                .iter()
                .filter_map(certificate::not_after)
                .min()
                .unwrap_or(i64::MAX),
        };

        let unusable = |error: rustls::Error| match error {
            rustls::Error::InconsistentKeys(InconsistentKeys::KeyMismatch) => SetupError(format!(
                "the key in {} (connections.tls.keyfile) does not belong to the certificate in {}",
                keyfile.display(),
                certfile.display()
            )),
            error => SetupError(format!(
                "{} and {} can't be used for links: {error}",
                certfile.display(),
                keyfile.display()
            )),
        };
        let mut client = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .map_err(unusable)?
            .with_webpki_verifier(Arc::clone(&verifiers.of_servers))
            .with_client_auth_cert(chain.clone(), key.clone_key())
            .map_err(unusable)?;
        // Each connection sends its certificate anew: a changed CA takes effect at once.
        client.resumption = Resumption::disabled();
        let mut client_unnamed = client.clone();
        let any_name = Arc::new(AnyName(Arc::clone(&verifiers.of_servers)));
        client_unnamed
            .dangerous()
            .set_certificate_verifier(any_name);
        let mut server = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(unusable)?
            .with_client_cert_verifier(Arc::clone(&verifiers.of_clients))
            .with_single_cert(chain, key)
            .map_err(unusable)?;
        server.session_storage = Arc::new(NoServerSessionStorage {});
        server.send_tls13_tickets = 0;
        Ok(Self::Mutual(Arc::new(Mutual {
            client: Arc::new(client),
            client_unnamed: Arc::new(client_unnamed),
            server: Arc::new(server),
            verifiers,
            expiry,
            allow_wildcards: *allow_wildcards,
        })))
    }

    fn is_mutual(&self) -> bool {
        matches!(self, Self::Mutual(_))
    }

    /// Checks a certificate that was valid when a link was made.
    ///
    /// # Errors
    /// Describes the error as the end of "its certificate …".
    fn verify(&self, shown: &PeerCertificate) -> Result<(), String> {
        let Self::Mutual(mutual) = self else {
            return Ok(());
        };
        let PeerCertificate {
            leaf,
            intermediates,
            side,
            ..
        } = shown;
        let verified = match side {
            Side::Dialler => mutual.verifiers.check_client(leaf, intermediates),
            Side::Listener => mutual.verifiers.check_server(leaf, intermediates),
        };
        verified.map_err(|error| match &error {
            rustls::Error::InvalidCertificate(error) => certificate::in_words(error),
            error => format!("can't be verified: {error}"),
        })
    }

    /// Secures a connection that we dialled, to `peer`.
    ///
    /// # Errors
    /// When the other side can't prove that it is `peer`, or refuses us.
    pub(super) async fn connect(
        &self,
        tcp: TcpStream,
        peer: &Host,
    ) -> Result<SecuredConnection, ConnectError> {
        let Self::Mutual(mutual) = self else {
            return Ok(SecuredConnection::plain(tcp));
        };
        let name = certificate::dns_name(peer)
            .map_err(|text| ConnectError::refused(RefusalKind::WrongHost, text))?;
        dialled(mutual, &mutual.client, name, tcp).await
    }

    /// Secures a connection that we dialled at `address`, to any peer with a
    /// certificate of our CA; the caller checks the name in the certificate.
    ///
    /// # Errors
    /// When the other side has no such certificate, or refuses us.
    pub(super) async fn connect_unnamed(
        &self,
        tcp: TcpStream,
        address: &str,
    ) -> Result<SecuredConnection, ConnectError> {
        let Self::Mutual(mutual) = self else {
            return Ok(SecuredConnection::plain(tcp));
        };
        // A hint only: gateways have one certificate, for any server name.
        let name = ServerName::try_from(address.to_owned()).map_err(|_| {
            ConnectError::Unreachable(format!("{address} is no name for a certificate"))
        })?;
        dialled(mutual, &mutual.client_unnamed, name, tcp).await
    }

    /// Secures a connection that was accepted.
    ///
    /// # Errors
    /// When the other side has no certificate of our CA. The error carries the
    /// socket, to be closed gently, so that the peer reads the alert on it.
    pub(super) async fn accept(
        &self,
        tcp: TcpStream,
    ) -> Result<SecuredConnection, (ConnectError, TcpStream)> {
        let Self::Mutual(mutual) = self else {
            return Ok(SecuredConnection::plain(tcp));
        };
        let acceptor = TlsAcceptor::from(Arc::clone(&mutual.server));
        let stream = acceptor.accept(tcp).into_fallible().await;
        let stream = stream.map_err(|(error, tcp)| (failure(&error), tcp))?;
        let (_, session) = stream.get_ref();
        let suite = negotiated(session);
        tracing::debug!(suite, "an incoming connection is secured");
        Ok(SecuredConnection {
            certificate: PeerCertificate::shown(session, Side::Dialler, mutual),
            socket: Box::new(stream),
        })
    }
}

async fn dialled(
    ours: &Mutual,
    config: &Arc<ClientConfig>,
    name: ServerName<'static>,
    tcp: TcpStream,
) -> Result<SecuredConnection, ConnectError> {
    let connector = TlsConnector::from(Arc::clone(config));
    let stream = connector.connect(name.clone(), tcp).await;
    let stream = stream.map_err(|error| failure(&error))?;
    let (_, session) = stream.get_ref();
    let suite = negotiated(session);
    tracing::debug!(peer = %name.to_str(), suite, "an outgoing connection is secured");
    Ok(SecuredConnection {
        certificate: PeerCertificate::shown(session, Side::Listener, ours),
        socket: Box::new(stream),
    })
}

impl SecuredConnection {
    fn plain(tcp: TcpStream) -> Self {
        Self {
            socket: Box::new(tcp),
            certificate: None,
        }
    }
}

impl fmt::Debug for Security {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Mutual(_) => "Mutual",
            Self::Plain => "Plain",
        })
    }
}

/// Classifies an error on a secured connection.
pub(super) fn failure(error: &io::Error) -> ConnectError {
    let tls = error
        .get_ref()
        .and_then(|inner| inner.downcast_ref::<rustls::Error>());
    let Some(tls) = tls else {
        return ConnectError::Unreachable(format!(
            "the connection broke in the handshake: {error}"
        ));
    };
    match tls {
        rustls::Error::InvalidCertificate(error) => {
            let (kind, text) = certificate::judge(error);
            ConnectError::refused(kind, format!("its certificate {text}"))
        }
        rustls::Error::NoCertificatesPresented => {
            ConnectError::refused(RefusalKind::Untrusted, "it shows no certificate")
        }
        rustls::Error::PeerIncompatible(_)
        | rustls::Error::AlertReceived(
            AlertDescription::HandshakeFailure
            | AlertDescription::ProtocolVersion
            | AlertDescription::InsufficientSecurity,
        ) => ConnectError::refused(
            RefusalKind::Protocol,
            format!(
                "no TLS version and cipher suite in common: compare `connections.tls.ciphers` of \
                 both sides ({tls})"
            ),
        ),
        rustls::Error::AlertReceived(alert) => ConnectError::refused(
            RefusalKind::Untrusted,
            format!(
                "it does not accept our certificate or TLS settings (alert {alert:?}); its log \
                 says why"
            ),
        ),
        rustls::Error::InvalidMessage(_) => ConnectError::refused(
            RefusalKind::Plaintext,
            "it does not speak TLS: is `connections.tls.enabled` the same on both sides, and the \
             address right?",
        ),
        other => ConnectError::refused(RefusalKind::Protocol, format!("TLS: {other}")),
    }
}

/// The checks of both sides, also run on our own certificate.
struct Verifiers {
    of_clients: Arc<dyn ClientCertVerifier>,
    of_servers: Arc<WebPkiServerVerifier>,
}

impl Verifiers {
    fn new(
        provider: &Arc<CryptoProvider>,
        roots: &Arc<RootCertStore>,
        revoked: Vec<CertificateRevocationListDer<'static>>,
        config: &Tls,
    ) -> Result<Self, SetupError> {
        let unusable = |error: VerifierBuilderError| {
            let Tls::Enabled {
                cacertfile,
                crlfile,
                ..
            } = config
            else {
                return SetupError(error.to_string());
            };
            let (key, path) = match (&error, crlfile) {
                (VerifierBuilderError::InvalidCrl(_), Some(crlfile)) => ("crlfile", crlfile),
                _ => ("cacertfile", cacertfile),
            };
            let path = path.display();
            SetupError(format!(
                "{path} (connections.tls.{key}) can't be used: {error}"
            ))
        };
        let (roots, provider) = (|| Arc::clone(roots), || Arc::clone(provider));
        // A CA without a list of its own revokes nothing.
        Ok(Self {
            of_clients: WebPkiClientVerifier::builder_with_provider(roots(), provider())
                .with_crls(revoked.clone())
                .allow_unknown_revocation_status()
                .build()
                .map_err(unusable)?,
            of_servers: WebPkiServerVerifier::builder_with_provider(roots(), provider())
                .with_crls(revoked)
                .allow_unknown_revocation_status()
                .build()
                .map_err(unusable)?,
        })
    }

    fn check_client(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
    ) -> Result<(), rustls::Error> {
        let now = UnixTime::now();
        self.of_clients
            .verify_client_cert(leaf, intermediates, now)
            .map(drop)
    }

    /// Checks everything but the name.
    fn check_server(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
    ) -> Result<(), rustls::Error> {
        let (any_name, now) = (AnyName(Arc::clone(&self.of_servers)), UnixTime::now());
        let name = ServerName::IpAddress(Ipv4Addr::UNSPECIFIED.into());
        any_name
            .verify_server_cert(leaf, intermediates, &name, &[], now)
            .map(drop)
    }

    /// Checks our own certificate as our peers will.
    fn check_own(
        &self,
        chain: &[CertificateDer<'_>],
        certfile: &Path,
        local: &Host,
        allow_wildcards: bool,
    ) -> Result<(), SetupError> {
        let wrong = |text: String| {
            SetupError(format!(
                "{} (connections.tls.certfile): {text}",
                certfile.display()
            ))
        };
        let Some((own, intermediates)) = chain.split_first() else {
            return Err(wrong("there is no certificate in it".to_owned()));
        };
        certificate::speaks_for(own, local, allow_wildcards).map_err(|text| {
            wrong(format!(
                "{text}: peers need a certificate for this gateway's local_host"
            ))
        })?;
        let as_server = self.check_server(own, intermediates);
        let as_client = self.check_client(own, intermediates);
        match as_server.and(as_client) {
            Ok(()) => Ok(()),
            // Allowed: the peers' CA need not be ours.
            Err(rustls::Error::InvalidCertificate(
                CertificateError::UnknownIssuer | CertificateError::BadSignature,
            )) => {
                tracing::warn!(
                    certfile = %certfile.display(),
                    "our own certificate is not signed by a CA in connections.tls.cacertfile; \
                     that is only right if the peers' cacertfile has another CA"
                );
                Ok(())
            }
            Err(rustls::Error::InvalidCertificate(error)) => Err(wrong(format!(
                "the certificate {}",
                certificate::in_words(&error)
            ))),
            Err(error) => Err(wrong(error.to_string())),
        }
    }
}

fn certificates(key: &str, path: &Path) -> Result<Vec<CertificateDer<'static>>, SetupError> {
    pem_items(key, path, "certificate")
}

fn pem_items<T: PemObject>(key: &str, path: &Path, wanted: &str) -> Result<Vec<T>, SetupError> {
    let unreadable = |error| unreadable(key, path, wanted, &error);
    let found: Vec<_> = T::pem_file_iter(path)
        .map_err(unreadable)?
        .collect::<Result<_, _>>()
        .map_err(unreadable)?;
    if found.is_empty() {
        return Err(unreadable(pem::Error::NoItemsFound));
    }
    Ok(found)
}

fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, SetupError> {
    PrivateKeyDer::from_pem_file(path)
        .map_err(|error| unreadable("keyfile", path, "unencrypted private key", &error))
}

fn roots(
    authorities: &[CertificateDer<'static>],
    path: &Path,
) -> Result<RootCertStore, SetupError> {
    let mut roots = RootCertStore::empty();
    for certificate in authorities {
        roots.add(certificate.clone()).map_err(|error| {
            SetupError(format!(
                "{} (connections.tls.cacertfile) holds a certificate that can't be a CA: {error}",
                path.display()
            ))
        })?;
    }
    Ok(roots)
}

fn unreadable(key: &str, path: &Path, wanted: &str, error: &pem::Error) -> SetupError {
    let path = path.display();
    SetupError(match error {
        pem::Error::Io(error) => format!("can't read {path} (connections.tls.{key}): {error}"),
        pem::Error::NoItemsFound => {
            format!("there is no {wanted} in PEM format in {path} (connections.tls.{key})")
        }
        error => format!("{path} (connections.tls.{key}) is not valid PEM: {error}"),
    })
}

/// The ring provider, with the suites of these OpenSSL names only, if there are any.
fn provider(ciphers: &[String]) -> Result<CryptoProvider, SetupError> {
    let mut provider = ring::default_provider();
    if ciphers.is_empty() {
        return Ok(provider);
    }
    let known = |name: &String| {
        let found = SUITES.iter().find(|(openssl, _)| openssl == name);
        found.map(|(_, suite)| *suite).ok_or_else(|| {
            let names: Vec<_> = SUITES.iter().map(|(openssl, _)| *openssl).collect();
            SetupError(format!(
                "connections.tls.ciphers: `{name}` is not supported; these are: {}",
                names.join(", ")
            ))
        })
    };
    provider.cipher_suites = ciphers.iter().map(known).collect::<Result<_, _>>()?;
    Ok(provider)
}

/// Returns OpenSSL's name of the negotiated suite.
fn negotiated(session: &rustls::CommonState) -> &'static str {
    let agreed = session.negotiated_cipher_suite();
    let named = SUITES.iter().find(|(_, suite)| Some(*suite) == agreed);
    named.map_or("unknown", |(name, _)| name)
}

/// The suites of rustls, by OpenSSL's names.
const SUITES: [(&str, rustls::SupportedCipherSuite); 9] = [
    ("TLS_AES_256_GCM_SHA384", suite::TLS13_AES_256_GCM_SHA384),
    ("TLS_AES_128_GCM_SHA256", suite::TLS13_AES_128_GCM_SHA256),
    (
        "TLS_CHACHA20_POLY1305_SHA256",
        suite::TLS13_CHACHA20_POLY1305_SHA256,
    ),
    (
        "ECDHE-ECDSA-AES256-GCM-SHA384",
        suite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
    ),
    (
        "ECDHE-ECDSA-AES128-GCM-SHA256",
        suite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
    ),
    (
        "ECDHE-ECDSA-CHACHA20-POLY1305",
        suite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
    ),
    (
        "ECDHE-RSA-AES256-GCM-SHA384",
        suite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
    ),
    (
        "ECDHE-RSA-AES128-GCM-SHA256",
        suite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
    ),
    (
        "ECDHE-RSA-CHACHA20-POLY1305",
        suite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
    ),
];
