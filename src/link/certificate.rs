//! Finds the host that a certificate is for, and describes errors in it.

use std::time::Duration;

use tokio_rustls::rustls::CertificateError;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use webpki::EndEntityCert;
use x509_parser::prelude::{FromDer, X509Certificate};

use super::connect_error::RefusalKind;
use crate::host::Host;

/// Returns `host` in the form that certificates carry: a DNS name, IDNA-encoded.
pub(super) fn dns_name(host: &Host) -> Result<ServerName<'static>, String> {
    let no_name = || format!("{host} can't be written as a DNS name in a certificate");
    let ascii = idna::domain_to_ascii(host.as_str()).map_err(|_| no_name())?;
    match ServerName::try_from(ascii) {
        Ok(name @ ServerName::DnsName(_)) => Ok(name),
        _ => Err(no_name()),
    }
}

/// Checks that `certificate` carries `host` as a DNS name (subjectAltName). A wildcard
/// would speak for every host that its domain will ever have.
///
/// # Errors
/// Names the hosts that the certificate carries instead.
pub(super) fn speaks_for(
    certificate: &CertificateDer<'_>,
    host: &Host,
    allow_wildcards: bool,
) -> Result<(), String> {
    let name = dns_name(host)?;
    let parsed = EndEntityCert::try_from(certificate)
        .map_err(|error| format!("the certificate can't be read: {error}"))?;
    match parsed.verify_is_valid_for_subject_name(&name) {
        Ok(()) => {
            let mut names = parsed.valid_dns_names();
            let exact = |carried: &str| carried.eq_ignore_ascii_case(&name.to_str());
            if allow_wildcards || names.any(exact) {
                return Ok(());
            }
            Err(format!(
                "the certificate carries {host} only by a wildcard, which \
                 connections.tls.allow_wildcards = false refuses"
            ))
        }
        Err(webpki::Error::CertNotValidForName(context)) => Err(format!(
            "the certificate is not valid for {host}; {}",
            carries(&context.presented)
        )),
        Err(error) => Err(format!("the certificate's names can't be read: {error}")),
    }
}

/// Classifies and describes the error for which the peer's certificate is refused.
pub(super) fn judge(error: &CertificateError) -> (RefusalKind, String) {
    let kind = match error {
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            RefusalKind::WrongHost
        }
        _ => RefusalKind::Untrusted,
    };
    (kind, in_words(error))
}

/// Describes the error in a certificate, as the end of "its certificate …".
pub(super) fn in_words(error: &CertificateError) -> String {
    match error {
        CertificateError::UnknownIssuer => {
            "is not signed by a CA in `connections.tls.cacertfile`".to_owned()
        }
        CertificateError::BadSignature => {
            "is signed by a CA that has the name of one in `connections.tls.cacertfile`, but \
             another key"
                .to_owned()
        }
        CertificateError::ExpiredContext { time, not_after } => format!(
            "expired {} ago",
            spell(time.as_secs().saturating_sub(not_after.as_secs()))
        ),
        CertificateError::NotValidYetContext { time, not_before } => format!(
            "is not valid before {} from now (or a clock is wrong)",
            spell(not_before.as_secs().saturating_sub(time.as_secs()))
        ),
        CertificateError::Revoked => "is revoked (`connections.tls.crlfile`)".to_owned(),
        CertificateError::NotValidForNameContext {
            expected,
            presented,
        } => format!(
            "is not for {}: it {}",
            expected.to_str(),
            carries(presented)
        ),
        CertificateError::InvalidPurposeContext { required, .. } => {
            format!("lacks the extended key usage {required}, which links need")
        }
        other => format!("is not accepted: {other}"),
    }
}

fn carries(names: &[String]) -> String {
    if names.is_empty() {
        return "carries no name at all (subjectAltName)".to_owned();
    }
    // As webpki writes them: `DnsName("dc1.test")`.
    let bare = |name: &String| match name.split('"').nth(1) {
        Some(inner) => inner.to_owned(),
        None => name.clone(),
    };
    let names: Vec<String> = names.iter().map(bare).collect();
    format!("carries {}", names.join(", "))
}

/// Returns the Unix second after which `certificate` is not valid; `None` if it can't
/// be read.
pub(super) fn not_after(certificate: &CertificateDer<'_>) -> Option<i64> {
    let (_, parsed) = X509Certificate::from_der(certificate).ok()?;
    Some(parsed.validity().not_after.timestamp())
}

/// Formats a span of time, roughly.
pub(super) fn spell(seconds: u64) -> String {
    let hours = Duration::from_secs(seconds).as_secs() / 3600;
    match hours {
        0 => format!("{seconds} seconds"),
        1..48 => format!("{hours} hours"),
        _ => format!("{} days", hours / 24),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn certificate(names: &[&str]) -> CertificateDer<'static> {
        let names: Vec<String> = names.iter().map(ToString::to_string).collect();
        let made = rcgen::generate_simple_self_signed(names).unwrap();
        made.cert.der().clone()
    }

    #[test]
    fn a_certificate_speaks_for_the_names_it_carries() {
        let certificate = certificate(&["dc1.test", "*.dc3.test"]);
        let speaks_for = |host: &str, allow_wildcards| {
            speaks_for(&certificate, &Host::new(host).unwrap(), allow_wildcards)
        };
        assert_eq!(speaks_for("dc1.test", false), Ok(()));
        assert_eq!(speaks_for("a.dc3.test", true), Ok(()));
        let error = speaks_for("a.dc3.test", false).unwrap_err();
        assert!(error.contains("a.dc3.test only by a wildcard"), "{error}");
        let error = speaks_for("dc2.test", true).unwrap_err();
        assert!(error.contains("not valid for dc2.test"), "{error}");
        assert!(error.contains("carries dc1.test, *.dc3.test"), "{error}");
    }

    #[test]
    fn international_names_are_encoded() {
        let host = Host::new("zürich.test").unwrap();
        let certificate = certificate(&["xn--zrich-kva.test"]);
        assert_eq!(speaks_for(&certificate, &host, false), Ok(()));
    }
}
