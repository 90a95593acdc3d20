//! Certificates for the links: valid ones, and invalid ones of every kind.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, CertifiedIssuer, DnType,
    ExtendedKeyUsagePurpose, IsCa, KeyIdMethod, KeyPair, KeyUsagePurpose, RevokedCertParams,
    SerialNumber, date_time_ymd,
};

/// A certificate authority that writes PEM files into one directory.
pub struct Authority {
    name: String,
    directory: PathBuf,
    issuer: CertifiedIssuer<'static, KeyPair>,
}

/// The files for `[connections.tls]`.
#[derive(Debug, Clone)]
pub struct Identity {
    pub certfile: PathBuf,
    pub keyfile: PathBuf,
    pub cacertfile: PathBuf,
}

impl Authority {
    /// Creates an authority; `name` distinguishes its files from others.
    pub fn new(directory: &Path, name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.distinguished_name.push(DnType::CommonName, name);
        let key = KeyPair::generate().expect("a key");
        let issuer = CertifiedIssuer::self_signed(params, key).expect("a CA certificate");
        let authority = Self {
            name: name.to_owned(),
            directory: directory.to_owned(),
            issuer,
        };
        authority.write("ca.pem", &authority.issuer.pem());
        authority
    }

    /// The CA certificate.
    pub fn cacertfile(&self) -> PathBuf {
        self.path("ca.pem")
    }

    /// Issues a certificate for the gateway of `host`, which is its DNS name.
    pub fn issue(&self, host: &str) -> Identity {
        self.issue_with(host, host, |_| {})
    }

    /// Issues a certificate that has expired.
    pub fn issue_expired(&self, host: &str) -> Identity {
        self.issue_with(host, &format!("{host}-expired"), |params| {
            params.not_before = date_time_ymd(2001, 1, 1);
            params.not_after = date_time_ymd(2002, 1, 1);
        })
    }

    /// Issues a certificate that `change` has modified, in files called `file`.
    pub fn issue_with(
        &self,
        host: &str,
        file: &str,
        change: impl FnOnce(&mut CertificateParams),
    ) -> Identity {
        let mut params = CertificateParams::new([host.to_owned()]).expect("a DNS name");
        params.distinguished_name.push(DnType::CommonName, host);
        params.serial_number = Some(serial(host));
        params.extended_key_usages = vec![
            ExtendedKeyUsagePurpose::ServerAuth,
            ExtendedKeyUsagePurpose::ClientAuth,
        ];
        change(&mut params);
        let key = KeyPair::generate().expect("a key");
        let certificate = params.signed_by(&key, &self.issuer).expect("a certificate");
        Identity {
            certfile: self.write(&format!("{file}.pem"), &certificate.pem()),
            keyfile: self.write(&format!("{file}.key"), &key.serialize_pem()),
            cacertfile: self.cacertfile(),
        }
    }

    /// Writes a revocation list that has the certificates of `host`.
    pub fn revoke(&self, host: &str) -> PathBuf {
        let (last, next) = (date_time_ymd(2020, 1, 1), date_time_ymd(2100, 1, 1));
        let list = CertificateRevocationListParams {
            this_update: last,
            next_update: next,
            crl_number: SerialNumber::from(1_u64),
            issuing_distribution_point: None,
            revoked_certs: vec![RevokedCertParams {
                serial_number: serial(host),
                revocation_time: last,
                reason_code: None,
                invalidity_date: None,
            }],
            key_identifier_method: KeyIdMethod::Sha256,
        };
        let list = list.signed_by(&self.issuer).expect("a revocation list");
        self.write("crl.pem", &list.pem().expect("PEM"))
    }

    fn path(&self, file: &str) -> PathBuf {
        self.directory.join(format!("{}-{file}", self.name))
    }

    fn write(&self, file: &str, pem: &str) -> PathBuf {
        let path = self.path(file);
        std::fs::create_dir_all(&self.directory).expect("a writable directory");
        std::fs::write(&path, pem).expect("a writable file");
        let private = Permissions::from_mode(0o600);
        std::fs::set_permissions(&path, private).expect("a file of ours");
        path
    }
}

/// One serial number for all certificates of a host.
fn serial(host: &str) -> SerialNumber {
    SerialNumber::from_slice(&host.as_bytes()[..host.len().min(16)])
}

impl Identity {
    /// The same certificate, with another authority to verify peers.
    pub fn trusting(&self, other: &Authority) -> Self {
        Self {
            cacertfile: other.cacertfile(),
            ..self.clone()
        }
    }
}
