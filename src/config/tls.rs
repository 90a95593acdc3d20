//! `[connections.tls]`: whether its files hold what they should. What peers
//! think of them is seen when a link is made.

use std::path::{Path, PathBuf};

use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::{self, PemObject};
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio_rustls::rustls::sign::CertifiedKey;
use tokio_rustls::rustls::{self, InconsistentKeys};
use webpki::EndEntityCert;

use super::Tls;
use super::reading::Reading;
use super::secrets::warn_if_readable_by_all;
use super::sections::require;
use crate::host::Host;

const ENABLED: &str = "connections.tls.enabled";
const CERTFILE: &str = "connections.tls.certfile";
const KEYFILE: &str = "connections.tls.keyfile";
const CACERTFILE: &str = "connections.tls.cacertfile";

/// The section, its files read once to see that they are good.
pub(super) fn read(reading: &mut Reading, local_host: Option<&Host>) -> Option<Tls> {
    if !reading.get::<bool>(ENABLED)? {
        let what = "links are plain TCP: whoever can reach an endpoint or the network between can read and forge \
                    stanzas. Only for a network that is private otherwise";
        reading.warn(ENABLED, what);
        return Some(Tls::Disabled);
    }
    let certfile = mandatory_file(reading, CERTFILE);
    let cacertfile = mandatory_file(reading, CACERTFILE);
    let keyfile = reading.get(KEYFILE).or_else(|| certfile.clone());
    check_chain(reading, certfile.as_deref(), keyfile.as_deref(), local_host);
    if let Some(file) = &cacertfile {
        check_authority(reading, CACERTFILE, file);
    }
    Some(Tls::Enabled {
        certfile: certfile?,
        keyfile: keyfile?,
        cacertfile: cacertfile?,
        ciphers: reading.get("connections.tls.ciphers").unwrap_or_default(),
    })
}

fn mandatory_file(reading: &mut Reading, key: &'static str) -> Option<PathBuf> {
    let file = reading.get(key);
    if file.is_none() {
        let because = "links use TLS, unless connections.tls.enabled = false on a network that is private otherwise";
        require(reading, key, because);
    }
    file
}

/// The certificate, its key, that both belong together, and that the
/// certificate names this host: peers would refuse it otherwise.
fn check_chain(
    reading: &mut Reading,
    certfile: Option<&Path>,
    keyfile: Option<&Path>,
    local_host: Option<&Host>,
) {
    let chain = certfile.and_then(|file| chain(reading, CERTFILE, file));
    // A certfile that cannot be read, and is the keyfile too, is told once.
    let keyfile = keyfile.filter(|file| chain.is_some() || certfile != Some(*file));
    let key = keyfile.and_then(|file| key(reading, KEYFILE, file));
    if let (Some(chain), Some(host)) = (&chain, local_host)
        && let Err(what) = names(chain, host)
    {
        reading.refuse(CERTFILE, what);
    }
    if let (Some(chain), Some(key)) = (chain, key) {
        match_pair(reading, (CERTFILE, chain), (KEYFILE, key));
    }
}

/// Whether the file at `option` has certificates.
pub(super) fn check_authority(reading: &mut Reading, option: &str, file: &Path) {
    let found = certificates(file);
    found.map_err(|what| reading.refuse(option, what)).ok();
}

/// Whether the files of two options have a certificate and its key.
pub(super) fn check_pair(
    reading: &mut Reading,
    (certfile_option, certfile): (&str, &Path),
    (keyfile_option, keyfile): (&str, &Path),
) {
    let chain = chain(reading, certfile_option, certfile);
    if chain.is_none() && certfile == keyfile {
        return;
    }
    let key = key(reading, keyfile_option, keyfile);
    if let (Some(chain), Some(key)) = (chain, key) {
        match_pair(reading, (certfile_option, chain), (keyfile_option, key));
    }
}

fn chain(reading: &mut Reading, option: &str, file: &Path) -> Option<Vec<CertificateDer<'static>>> {
    let found = certificates(file);
    found.map_err(|what| reading.refuse(option, what)).ok()
}

fn key(reading: &mut Reading, option: &str, file: &Path) -> Option<PrivateKeyDer<'static>> {
    let found = private_key(file);
    let key = found.map_err(|what| reading.refuse(option, what)).ok()?;
    warn_if_readable_by_all(reading, option, file);
    Some(key)
}

fn match_pair(
    reading: &mut Reading,
    (certfile_option, chain): (&str, Vec<CertificateDer<'static>>),
    (keyfile_option, key): (&str, PrivateKeyDer<'static>),
) {
    if let Err(error) = CertifiedKey::from_der(chain, key, &ring::default_provider()) {
        let what = match error {
            rustls::Error::InconsistentKeys(InconsistentKeys::KeyMismatch) => {
                format!("does not belong to the certificate in {certfile_option}")
            }
            error => format!("cannot be used with the certificate: {error}"),
        };
        reading.refuse(keyfile_option, what);
    }
}

fn certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let shown = file.display();
    let pem = read_file(file)?;
    let found: Result<Vec<_>, pem::Error> = CertificateDer::pem_slice_iter(&pem).collect();
    match found {
        Ok(found) if !found.is_empty() => Ok(found),
        Ok(_) => Err(format!(
            "{shown} has no certificate; allowed: PEM with -----BEGIN CERTIFICATE-----"
        )),
        Err(_) => Err(format!(
            "{shown} is not valid PEM; allowed: PEM with -----BEGIN CERTIFICATE-----"
        )),
    }
}

fn private_key(file: &Path) -> Result<PrivateKeyDer<'static>, String> {
    let shown = file.display();
    // The error is not told: it may quote a line of the key.
    PrivateKeyDer::from_pem_slice(&read_file(file)?).map_err(|_| {
        format!("{shown} has no private key that can be read; allowed: PEM with -----BEGIN PRIVATE KEY-----, not encrypted")
    })
}

fn read_file(file: &Path) -> Result<Vec<u8>, String> {
    std::fs::read(file).map_err(|error| format!("{} cannot be read: {error}", file.display()))
}

fn names(chain: &[CertificateDer<'static>], host: &Host) -> Result<(), String> {
    let leaf = chain.first().ok_or("has no certificate")?;
    let leaf = EndEntityCert::try_from(leaf)
        .map_err(|error| format!("its first certificate cannot be read: {error}"))?;
    let name = ServerName::try_from(host.as_str())
        .map_err(|error| format!("cannot carry {host}, which is no DNS name: {error}"))?;
    leaf.verify_is_valid_for_subject_name(&name).map_err(|_| {
        format!("its first certificate does not carry {host} as a DNS name (subjectAltName), so other gateways would refuse it")
    })
}
