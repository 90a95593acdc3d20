//! `strait certs`: a small CA for the links, and a certificate for each datacenter.

use std::fs::{DirBuilder, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use anyhow::{Context, bail};
use clap::{Arg, ArgMatches, Command, value_parser};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose,
};
use strait::host::Host;

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// The CA is valid longer than its certificates: every gateway has a copy of the
/// CA's file.
const CA_DAYS: u32 = 3650;

const ABOUT: &str = "Make a CA for the links, and a certificate for each datacenter";

const HELP: &str = "\
With a CA in DIR already, that one signs: so a datacenter is added later. \
Nothing is ever overwritten.";

pub(super) fn command() -> Command {
    Command::new("certs")
        .about(ABOUT)
        .after_help(HELP)
        .arg(
            Arg::new("directory")
                .value_name("DIR")
                .help("Where the files go; made if it is not there")
                .value_parser(value_parser!(PathBuf))
                .required(true),
        )
        .arg(
            Arg::new("hosts")
                .value_name("LOCAL_HOST")
                .help("The local_host of each datacenter")
                .num_args(1..)
                .required(true),
        )
        .arg(
            Arg::new("days")
                .long("days")
                .value_name("DAYS")
                .help("How long the datacenters' certificates are valid")
                .value_parser(value_parser!(u32).range(1..=i64::from(CA_DAYS)))
                .default_value("825"),
        )
}

/// Writes the files, and prints their use.
///
/// # Errors
/// A name is no domain, a file exists already, or a file can't be written.
pub(super) fn run(matches: &ArgMatches) -> anyhow::Result<()> {
    let directory = matches
        .get_one::<PathBuf>("directory")
        .context("DIR is missing")?;
    let days = *matches
        .get_one::<u32>("days")
        .context("--days is missing")?;
    let hosts = matches.get_many::<String>("hosts").into_iter().flatten();
    let hosts: Vec<Host> = hosts
        .map(|name| Host::new(name))
        .collect::<Result<_, _>>()?;
    // All checks come before the first write.
    let files: Vec<Files> = hosts
        .iter()
        .map(|host| Files::of(directory, host))
        .collect();
    for (at, file) in files.iter().enumerate() {
        if files[..at]
            .iter()
            .any(|other| other.certificate == file.certificate)
        {
            bail!("{} is named twice", hosts[at]);
        }
        for path in [&file.certificate, &file.key] {
            if path.exists() {
                bail!(
                    "{} is there already; move it away if the certificate is to be made anew",
                    path.display()
                );
            }
        }
    }
    let authority = Authority::at(directory)?;
    for (host, files) in hosts.iter().zip(&files) {
        authority.issue(host, files, days)?;
    }
    explain(directory, &hosts, days);
    Ok(())
}

struct Files {
    certificate: PathBuf,
    key: PathBuf,
}

impl Files {
    fn of(directory: &Path, host: &Host) -> Self {
        Self {
            certificate: directory.join(format!("{host}.pem")),
            key: directory.join(format!("{host}.key")),
        }
    }
}

/// The CA that signs the certificates.
struct Authority(Issuer<'static, KeyPair>);

impl Authority {
    /// Loads the CA in `directory`, or makes a new one if there is none.
    fn at(directory: &Path) -> anyhow::Result<Self> {
        let (certificate, key) = (directory.join("ca.pem"), directory.join("ca.key"));
        match (certificate.exists(), key.exists()) {
            (true, true) => Self::load(&certificate, &key),
            (false, false) => {
                DirBuilder::new()
                    .recursive(true)
                    .mode(0o700)
                    .create(directory)
                    .with_context(|| format!("{} can't be made", directory.display()))?;
                Self::make(&certificate, &key)
            }
            (true, false) => bail!(
                "{} is there without {}, its key; name an empty directory for a new CA",
                certificate.display(),
                key.display()
            ),
            (false, true) => bail!(
                "{} is there without {}, its certificate; name an empty directory for a new CA",
                key.display(),
                certificate.display()
            ),
        }
    }

    fn load(certificate: &Path, key: &Path) -> anyhow::Result<Self> {
        let read = |path: &Path| {
            std::fs::read_to_string(path)
                .with_context(|| format!("{} can't be read", path.display()))
        };
        let pair = KeyPair::from_pem(&read(key)?)
            .with_context(|| format!("{} holds no key that can be used", key.display()))?;
        let issuer = Issuer::from_ca_cert_pem(&read(certificate)?, pair)
            .with_context(|| format!("{} holds no CA that can be used", certificate.display()))?;
        Ok(Self(issuer))
    }

    fn make(certificate: &Path, key: &Path) -> anyhow::Result<Self> {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        // The name is unique, so that two CAs are never taken for one.
        let name = format!("strait gateways {}", uuid::Uuid::new_v4().simple());
        params.distinguished_name.push(DnType::CommonName, name);
        valid_for(&mut params, CA_DAYS);
        let pair = KeyPair::generate().context("no key for the CA")?;
        let pem = pair.serialize_pem();
        let issuer = CertifiedIssuer::self_signed(params.clone(), pair).context("no CA")?;
        write(key, &pem)?;
        write(certificate, &issuer.pem())?;
        let pair = KeyPair::from_pem(&pem).context("no key for the CA")?;
        Ok(Self(Issuer::new(params, pair)))
    }

    /// Issues a certificate for both ends of links: each gateway dials and is dialled.
    fn issue(&self, host: &Host, files: &Files, days: u32) -> anyhow::Result<()> {
        let no_name = || format!("{host} can't be written as a DNS name in a certificate");
        let name = idna::domain_to_ascii(host.as_str()).map_err(|_| anyhow::anyhow!(no_name()))?;
        let mut params = CertificateParams::new([name.clone()]).with_context(no_name)?;
        params.distinguished_name.push(DnType::CommonName, name);
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![
            ExtendedKeyUsagePurpose::ServerAuth,
            ExtendedKeyUsagePurpose::ClientAuth,
        ];
        valid_for(&mut params, days);
        let pair = KeyPair::generate().with_context(|| format!("no key for {host}"))?;
        let certificate = params
            .signed_by(&pair, &self.0)
            .with_context(|| format!("no certificate for {host}"))?;
        write(&files.key, &pair.serialize_pem())?;
        write(&files.certificate, &certificate.pem())
    }
}

/// The validity starts yesterday because clocks differ.
fn valid_for(params: &mut CertificateParams, days: u32) {
    let now = SystemTime::now();
    params.not_before = (now - DAY).into();
    params.not_after = (now + DAY * days).into();
}

/// Only the owner can read the file, and it never replaces another file.
fn write(path: &Path, text: &str) -> anyhow::Result<()> {
    let open = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path);
    open.and_then(|mut file| file.write_all(text.as_bytes()))
        .with_context(|| format!("{} can't be written", path.display()))
}

fn explain(directory: &Path, hosts: &[Host], days: u32) {
    let shown = directory.display();
    println!("In {shown}:");
    println!("  ca.key is the CA's private key. No gateway needs it: keep it safe, to add");
    println!("  datacenters later with the same command.");
    for host in hosts {
        println!("\nTo the gateway of {host}: ca.pem, {host}.pem and {host}.key,");
        println!("readable for the user it runs as. In its component.toml:");
        println!("  [connections.tls]");
        println!("  certfile = \"{host}.pem\"");
        println!("  keyfile = \"{host}.key\"");
        println!("  cacertfile = \"ca.pem\"");
    }
    println!("\nThe certificates are valid for {days} days, the CA for {CA_DAYS}.");
}
