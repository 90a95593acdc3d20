//! `[connections.tls]`

use std::path::PathBuf;

use super::files;
use super::kind::OptionKind::{Bool, Ciphers, Path};
use super::reading::Reading;
use super::section::section;
use crate::host::Host;

section! {
    /// Mutual TLS on the links.
    pub(super) struct TlsOptions {
        /// Mutual TLS on all links. Only turn it off on a network that is private otherwise.
        ///
        /// Without it, strait warns at every start.
        "connections.tls.enabled" enabled: bool = Bool.default("true").in_reference("false");

        /// This gateway's certificate, PEM, leaf first; it must carry local_host as a DNS name
        /// (subjectAltName).
        "connections.tls.certfile" certfile: Option<PathBuf> =
            Path.described("none; mandatory with TLS", "/etc/strait/dc1.example.com.pem");

        /// The certificate's private key, PEM.
        "connections.tls.keyfile" keyfile: Option<PathBuf> =
            Path.described("connections.tls.certfile", "/etc/strait/dc1.example.com.key");

        /// The CA that signs the gateways' certificates, PEM.
        "connections.tls.cacertfile" cacertfile: Option<PathBuf> =
            Path.described("none; mandatory with TLS", "/etc/strait/gateways-ca.pem");

        /// Revocation lists (CRL) of the CA, PEM; a revoked certificate is refused.
        "connections.tls.crlfile" crlfile: Option<PathBuf> =
            Path.described("none", "/etc/strait/gateways.crl.pem");

        /// Whether a certificate may carry its local_host by a wildcard, as *.example.com.
        ///
        /// Such a certificate speaks for every datacenter under that domain.
        "connections.tls.allow_wildcards" allow_wildcards: bool = Bool.default("false");

        /// The cipher suites to allow, OpenSSL names separated by colons.
        "connections.tls.ciphers" ciphers: Option<Vec<String>> = Ciphers.described("all that rustls has", "");

        /// Diffie-Hellman parameters, as in mod_global_distrib; always refused.
        "connections.tls.dhfile" = Path.described("none", "/etc/strait/dh.pem")
            .never("strait's TLS (rustls) only does ephemeral ECDHE with its own groups and reads no parameters; remove it");
    }
}

/// `[connections.tls]`
#[derive(Debug, Clone)]
pub enum Tls {
    /// Mutual TLS.
    Enabled {
        /// `certfile`: PEM, leaf first.
        certfile: PathBuf,
        /// `keyfile`: PEM; the certfile if not given.
        keyfile: PathBuf,
        /// `cacertfile`: PEM, the CA that signs the gateways.
        cacertfile: PathBuf,
        /// `crlfile`: PEM, the CA's revocation lists.
        crlfile: Option<PathBuf>,
        /// `allow_wildcards`
        allow_wildcards: bool,
        /// `ciphers`: OpenSSL names; empty for rustls's own choice.
        ciphers: Vec<String>,
    },
    /// `enabled = false`: plain TCP, for a network that is private otherwise.
    Disabled,
}

impl Tls {
    /// The files are read once to see that they are good.
    pub(super) fn checked(reading: &mut Reading, local_host: Option<&Host>) -> Option<Self> {
        let options = TlsOptions::read(reading)?;
        if !options.enabled {
            let what = "links are plain TCP: whoever can reach an endpoint or the network between can read and forge \
                        stanzas. Only for a network that is private otherwise";
            reading.warn("connections.tls.enabled", what);
            return Some(Self::Disabled);
        }
        for key in ["connections.tls.certfile", "connections.tls.cacertfile"] {
            let because = "; links use TLS, unless connections.tls.enabled = false on a network that is private otherwise";
            reading.require(key, because);
        }
        let certfile = options.certfile;
        let keyfile = options.keyfile.or_else(|| certfile.clone());
        files::check_identity(
            reading,
            "connections.tls",
            certfile.as_deref(),
            keyfile.as_deref(),
            local_host,
        );
        if let Some(file) = &options.cacertfile {
            files::check_authority(reading, "connections.tls.cacertfile", file);
        }
        Some(Self::Enabled {
            certfile: certfile?,
            keyfile: keyfile?,
            cacertfile: options.cacertfile?,
            crlfile: options.crlfile,
            allow_wildcards: options.allow_wildcards,
            ciphers: options.ciphers.unwrap_or_default(),
        })
    }
}
