//! `strait check`: is the configuration valid?

use strait::config::Loaded;
use strait::link::Credentials;

/// Confirms that the configuration is valid, and prints warnings about dangerous
/// or probably unintended options.
///
/// # Errors
/// A certificate has expired, or peers will not accept it for another reason.
pub fn check(loaded: &Loaded) -> anyhow::Result<()> {
    for warning in &loaded.warnings {
        eprintln!("warning: {warning}");
    }
    let config = &loaded.config;
    Credentials::load(
        &config.connections.tls,
        config.peers.clone(),
        &config.local_host,
    )?;
    match &loaded.file {
        Some(file) => println!("{} is valid", file.display()),
        None => println!("the configuration is valid"),
    }
    Ok(())
}
