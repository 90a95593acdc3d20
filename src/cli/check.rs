//! `strait check`: is the configuration valid?

use strait::config::Loaded;

/// Confirms that the configuration is valid, and prints warnings about dangerous
/// or probably unintended options.
pub fn check(loaded: &Loaded) {
    for warning in &loaded.warnings {
        eprintln!("warning: {warning}");
    }
    match &loaded.file {
        Some(file) => println!("{} is valid", file.display()),
        None => println!("the configuration is valid"),
    }
}
