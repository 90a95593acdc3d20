//! Checks the files that options name: secrets, certificates and keys. Peers verify the
//! certificates when they connect.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio_rustls::rustls::sign::CertifiedKey;
use tokio_rustls::rustls::{Error, InconsistentKeys};
use webpki::EndEntityCert;

use super::problem::Origin;
use super::reading::Reading;
use super::secret::Secret;
use crate::host::Host;
use serde_json::json;

/// Secrets in the published reference file; anybody can read them.
const PLACEHOLDERS: [&str; 2] = ["change-me", "change-me-too"];

/// Sets `secret` of `[section]` from exactly one of `secret` and `secret_file`; either one in a
/// stronger layer replaces the other one in a weaker layer.
pub(super) fn settle_secret(reading: &mut Reading, section: &str) {
    let [key, file_key] = ["secret", "secret_file"].map(|name| format!("{section}.{name}"));
    let [Some(option), Some(file_option)] = [&key, &file_key].map(|key| reading.option(key)) else {
        return;
    };
    let secret: Option<Secret> = reading.get(&key);
    let file: Option<PathBuf> = reading.get(&file_key);
    let (origin, file_origin) = (reading.origin(&key), reading.origin(&file_key));
    match (secret, file) {
        (Some(_), Some(_)) if origin.same_layer(&file_origin) => {
            let what = format!("both {} and this are set; remove one", origin.name(&key));
            reading.refuse(&file_key, what);
        }
        (secret, Some(file)) if secret.is_none() || origin < file_origin => {
            warn_if_readable_by_all(reading, &file_key, &file);
            match first_line(&file) {
                Ok(secret) => reading.derive(option.key, json!(secret.reveal())),
                Err(what) => reading.refuse(&file_key, what),
            }
        }
        (Some(secret), _) => {
            if PLACEHOLDERS.contains(&secret.reveal()) {
                reading.warn(
                    &key,
                    "is still the placeholder; take one that nobody can guess",
                );
            } else if let Origin::File { path, .. } = &origin {
                warn_if_readable_by_all(reading, &key, path);
            }
        }
        (None, _) => {
            if !reading.is_misread(&key) && !reading.is_misread(&file_key) {
                let (variable, file_variable) = (option.variable(), file_option.variable());
                let flag = file_option.flag().unwrap_or_default();
                let what = format!(
                    "is mandatory and not set; set it in the file or by {variable}, or name a file \
                     that holds it by {file_key}, --{flag} or {file_variable}"
                );
                reading.refuse(&key, what);
            }
        }
    }
}

fn first_line(file: &Path) -> Result<Secret, String> {
    let shown = file.display();
    let text = std::fs::read_to_string(file)
        .map_err(|error| format!("{shown} cannot be read: {error}"))?;
    match text.lines().next().map(str::trim) {
        None | Some("") => Err(format!(
            "{shown} is empty; its first line must be the secret"
        )),
        Some(line) => Ok(Secret::new(line.to_owned())),
    }
}

fn warn_if_readable_by_all(reading: &mut Reading, key: &str, file: &Path) {
    let mode = std::fs::metadata(file).map(|metadata| metadata.permissions().mode());
    if mode.is_ok_and(|mode| mode & 0o004 != 0) {
        let shown = file.display();
        let what = format!("{shown} can be read by every user of this machine; chmod o-r {shown}");
        reading.warn(key, what);
    }
}

/// Checks that the file of the option `key` contains the certificates of a CA.
pub(super) fn check_authority(reading: &mut Reading, key: &str, file: &Path) {
    if let Err(what) = certificates(file) {
        reading.refuse(key, what);
    }
}

/// Checks the certificate of `[section]` and its key: both must be readable and
/// belong together, and the certificate must name `host`, or peers refuse it.
pub(super) fn check_identity(
    reading: &mut Reading,
    section: &str,
    certfile: Option<&Path>,
    keyfile: Option<&Path>,
    host: Option<&Host>,
) {
    let (certfile_key, keyfile_key) = (format!("{section}.certfile"), format!("{section}.keyfile"));
    let chain = certfile.and_then(|file| {
        let read = certificates(file);
        read.map_err(|what| reading.refuse(&certfile_key, what))
            .ok()
    });
    // An unreadable certfile that is the keyfile too is reported once.
    let keyfile = keyfile.filter(|file| chain.is_some() || certfile != Some(*file));
    let key = keyfile.and_then(|file| {
        let read = private_key(file);
        let key = read
            .map_err(|what| reading.refuse(&keyfile_key, what))
            .ok()?;
        warn_if_readable_by_all(reading, &keyfile_key, file);
        Some(key)
    });
    if let (Some(chain), Some(host)) = (&chain, host)
        && let Err(what) = names(chain, host)
    {
        reading.refuse(&certfile_key, what);
    }
    if let (Some(chain), Some(key)) = (chain, key)
        && let Err(error) = CertifiedKey::from_der(chain, key, &ring::default_provider())
    {
        let what = match error {
            Error::InconsistentKeys(InconsistentKeys::KeyMismatch) => {
                format!("does not belong to the certificate in {certfile_key}")
            }
            error => format!("cannot be used with the certificate: {error}"),
        };
        reading.refuse(&keyfile_key, what);
    }
}

fn certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let pem = read_file(file)?;
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    let what = match found {
        Ok(found) if !found.is_empty() => return Ok(found),
        Ok(_) => "has no certificate",
        Err(_) => "is not valid PEM",
    };
    let shown = file.display();
    Err(format!(
        "{shown} {what}; allowed: PEM with -----BEGIN CERTIFICATE-----"
    ))
}

fn private_key(file: &Path) -> Result<PrivateKeyDer<'static>, String> {
    // The parser's error is dropped: it may quote a line of the key.
    PrivateKeyDer::from_pem_slice(&read_file(file)?).map_err(|_| {
        let shown = file.display();
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
