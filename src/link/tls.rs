//! Mutual TLS: each side checks the other's certificate against `cacertfile`, and
//! each certificate must carry its side's `local_host`.

use std::fmt;
use std::io;
use std::path::Path;
use std::sync::Arc;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::rustls::client::Resumption;
use tokio_rustls::rustls::client::WebPkiServerVerifier;
use tokio_rustls::rustls::client::danger::ServerCertVerifier;
use tokio_rustls::rustls::crypto::CryptoProvider;
use tokio_rustls::rustls::crypto::ring::{self, cipher_suite as suite};
use tokio_rustls::rustls::pki_types::pem::{self, PemObject};
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
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
use super::connect_error::{ConnectError, RefusalKind};
use crate::config::Tls;
use crate::host::Host;

/// A connection, secured or not.
pub(super) type Socket = Box<dyn ByteStream>;

/// The certificate of the other side.
pub(super) type Certificate = CertificateDer<'static>;

/// The traits that a link needs of its connection.
pub(super) trait ByteStream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> ByteStream for T {}

/// The way connections are secured.
#[derive(Clone)]
pub(super) enum Security {
    /// Both sides show a certificate.
    Mutual {
        client: Arc<ClientConfig>,
        /// For a peer whose name is unknown before the greeting.
        client_unnamed: Arc<ClientConfig>,
        server: Arc<ServerConfig>,
    },
    /// Plain TCP, because the operator declares the network secure.
    Plain,
}

/// A connection whose other side is known by its certificate only.
pub(super) struct SecuredConnection {
    pub(super) socket: Socket,
    /// The other side's; always present with [`Security::Mutual`].
    pub(super) certificate: Option<Certificate>,
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
            ciphers,
        } = config
        else {
            return Ok(Self::Plain);
        };
        let provider = Arc::new(provider(ciphers)?);
        let roots = Arc::new(roots(cacertfile)?);
        let chain = certificates("certfile", certfile)?;
        let key = private_key(keyfile)?;
        let verifiers = Verifiers::new(&provider, &roots, cacertfile)?;
        verifiers.check_own(&chain, certfile, local)?;

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
            .with_root_certificates(Arc::clone(&roots))
            .with_client_auth_cert(chain.clone(), key.clone_key())
            .map_err(unusable)?;
        // Each connection sends its certificate anew: a changed CA takes effect at once.
        client.resumption = Resumption::disabled();
        let mut client_unnamed = client.clone();
        client_unnamed
            .dangerous()
            .set_certificate_verifier(Arc::new(AnyName {
                roots: Arc::clone(&roots),
                algorithms: provider.signature_verification_algorithms,
            }));
        let mut server = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(unusable)?
            .with_client_cert_verifier(verifiers.of_clients)
            .with_single_cert(chain, key)
            .map_err(unusable)?;
        server.session_storage = Arc::new(NoServerSessionStorage {});
        server.send_tls13_tickets = 0;
        Ok(Self::Mutual {
            client: Arc::new(client),
            client_unnamed: Arc::new(client_unnamed),
            server: Arc::new(server),
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
    ) -> Result<Socket, ConnectError> {
        match self {
            Self::Plain => Ok(Box::new(tcp)),
            Self::Mutual { client, .. } => {
                let name = certificate::dns_name(peer)
                    .map_err(|text| ConnectError::refused(RefusalKind::WrongHost, text))?;
                let connector = TlsConnector::from(Arc::clone(client));
                let stream = connector.connect(name, tcp).await;
                let stream = stream.map_err(|error| failure(&error))?;
                let suite = negotiated(stream.get_ref().1);
                tracing::debug!(%peer, suite, "an outgoing connection is secured");
                Ok(Box::new(stream))
            }
        }
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
        let Self::Mutual { client_unnamed, .. } = self else {
            return Ok(SecuredConnection {
                socket: Box::new(tcp),
                certificate: None,
            });
        };
        // A hint only: gateways have one certificate, for any server name.
        let name = ServerName::try_from(address.to_owned()).map_err(|_| {
            ConnectError::Unreachable(format!("{address} is no name for a certificate"))
        })?;
        let connector = TlsConnector::from(Arc::clone(client_unnamed));
        let stream = connector.connect(name, tcp).await;
        let stream = stream.map_err(|error| failure(&error))?;
        let (_, session) = stream.get_ref();
        let shown = session.peer_certificates().unwrap_or_default();
        let certificate = shown.first().cloned().map(CertificateDer::into_owned);
        Ok(SecuredConnection {
            socket: Box::new(stream),
            certificate,
        })
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
        match self {
            Self::Plain => Ok(SecuredConnection {
                socket: Box::new(tcp),
                certificate: None,
            }),
            Self::Mutual { server, .. } => {
                let acceptor = TlsAcceptor::from(Arc::clone(server));
                let stream = acceptor.accept(tcp).into_fallible().await;
                let stream = stream.map_err(|(error, tcp)| (failure(&error), tcp))?;
                let (_, session) = stream.get_ref();
                let suite = negotiated(session);
                tracing::debug!(suite, "an incoming connection is secured");
                let shown = session.peer_certificates().unwrap_or_default();
                let certificate = shown.first().cloned().map(CertificateDer::into_owned);
                Ok(SecuredConnection {
                    socket: Box::new(stream),
                    certificate,
                })
            }
        }
    }
}

impl fmt::Debug for Security {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Mutual { .. } => "Mutual",
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
        cacertfile: &Path,
    ) -> Result<Self, SetupError> {
        let unusable = |error| {
            SetupError(format!(
                "{} (connections.tls.cacertfile) can't be used: {error}",
                cacertfile.display()
            ))
        };
        let (roots, provider) = (|| Arc::clone(roots), || Arc::clone(provider));
        Ok(Self {
            of_clients: WebPkiClientVerifier::builder_with_provider(roots(), provider())
                .build()
                .map_err(unusable)?,
            of_servers: WebPkiServerVerifier::builder_with_provider(roots(), provider())
                .build()
                .map_err(unusable)?,
        })
    }

    /// Checks our own certificate as our peers will.
    fn check_own(
        &self,
        chain: &[CertificateDer<'_>],
        certfile: &Path,
        local: &Host,
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
        certificate::speaks_for(own, local).map_err(|text| {
            wrong(format!(
                "{text}: peers need a certificate for this gateway's local_host"
            ))
        })?;
        let name = certificate::dns_name(local).map_err(wrong)?;
        let now = UnixTime::now();
        let as_server = self
            .of_servers
            .verify_server_cert(own, intermediates, &name, &[], now)
            .map(drop);
        let as_client = self
            .of_clients
            .verify_client_cert(own, intermediates, now)
            .map(drop);
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
    let unreadable = |error| unreadable(key, path, "certificate", &error);
    let found: Vec<_> = CertificateDer::pem_file_iter(path)
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

fn roots(path: &Path) -> Result<RootCertStore, SetupError> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates("cacertfile", path)? {
        roots.add(certificate).map_err(|error| {
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
